"""The push-to-talk pattern of the ``openai`` package: its asynchronous realtime client, and sounddevice for the sound.

It does what ``examples/realtime/push_to_talk_app.py`` and ``audio_util.py`` of https://github.com/openai/openai-python
do, step by step: an input stream that is asked in turn with everything else whether it has 20 ms, and not while the
button is up; an output stream with blocks of 50 ms whose callback puts arrays together, begun with the first reply and
never stopped; one ``response.cancel`` before the very first frame, and none later. Two things are otherwise, and
both are in its favour: there is no Textual screen, which repaints with each delta, and turn detection is off, where the
example commits for itself.
"""

import asyncio
import base64
import os
import signal
import sys
import threading
from typing import Any

import numpy as np
import sounddevice
from openai import AsyncOpenAI

MODEL = "gpt-realtime"
RATE = 24000
FRAME = RATE // 50
BLOCK = RATE // 20


class Player:
    """The loudspeaker: a list of arrays, emptied by PortAudio's thread."""

    def __init__(self) -> None:
        self.waiting: list[np.ndarray] = []
        self.lock = threading.Lock()
        self.stream = sounddevice.OutputStream(
            RATE, blocksize=BLOCK, channels=1, dtype=np.int16, callback=self.callback
        )
        self.playing = False

    def callback(self, out: np.ndarray, frames: int, _time: Any, _status: Any) -> None:
        sound = np.empty(0, np.int16)
        with self.lock:
            while len(sound) < frames and self.waiting:
                first = self.waiting.pop(0)
                wanted = frames - len(sound)
                sound = np.concatenate((sound, first[:wanted]))
                if len(first) > wanted:
                    self.waiting.insert(0, first[wanted:])
        silence = np.zeros(frames - len(sound), np.int16)
        out[:] = np.concatenate((sound, silence)).reshape(-1, 1)

    def play(self, pcm: bytes) -> None:
        with self.lock:
            self.waiting.append(np.frombuffer(pcm, np.int16))
            if not self.playing:
                self.playing = True
                self.stream.start()


class Client:
    """A microphone, a loudspeaker and a connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.player = Player()
        self.held = asyncio.Event()

    async def listen(self) -> None:
        """Send what the microphone hears while the button is held."""
        sent = None
        with sounddevice.InputStream(RATE, channels=1, dtype="int16") as stream:
            while True:
                if stream.read_available < FRAME:
                    await asyncio.sleep(0)
                    continue
                await self.held.wait()
                frame, _ = stream.read(FRAME)
                if sent is None:
                    sent = asyncio.create_task(self.connection.send({"type": "response.cancel"}))
                await self.connection.input_audio_buffer.append(audio=base64.b64encode(frame).decode())
                await asyncio.sleep(0)

    async def receive(self) -> None:
        """Play what the service says."""
        said: dict[str, str] = {}
        async for event in self.connection:
            match event.type:
                case "session.updated":
                    print("ready", flush=True)
                case "response.output_audio.delta":
                    self.player.play(base64.b64decode(event.delta))
                case "response.output_audio_transcript.delta":
                    said[event.item_id] = said.get(event.item_id, "") + event.delta
                case "error":
                    print(event.error.message, file=sys.stderr)

    async def obey(self) -> None:
        """Wait for lines."""
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while await lines.readline():
            if not self.held.is_set():
                self.held.set()
                continue
            self.held.clear()
            await self.connection.input_audio_buffer.commit()
            await self.connection.response.create()


async def main() -> None:
    openai = AsyncOpenAI(websocket_base_url=os.environ["BENCH_URL"].removesuffix("/realtime"))
    async with openai.realtime.connect(model=MODEL) as connection:
        client = Client(connection)
        await connection.session.update(
            session={"type": "realtime", "model": MODEL, "audio": {"input": {"turn_detection": None}}}
        )
        tasks = [asyncio.create_task(work()) for work in (client.receive, client.listen, client.obey)]
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks[-1].cancel)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
