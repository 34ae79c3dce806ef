"""What a programmer with asyncio and the manuals writes: websockets, and sounddevice's raw streams with callbacks.

It follows ``examples/asyncio_coroutines.py`` and the page of raw streams at https://python-sounddevice.readthedocs.io,
the echo of https://websockets.readthedocs.io/en/stable/, and the guide to Realtime WebSockets at
https://platform.openai.com/docs/guides/realtime-websocket. No reconnecting, no volume, no check of anything, no numpy.
"""

import asyncio
import base64
import json
import os
import signal
import sys
from typing import Any

import sounddevice
from websockets.asyncio.client import ClientConnection, connect

SOUND: dict[str, Any] = {"samplerate": 24000, "channels": 1, "dtype": "int16", "blocksize": 480}  # 20 ms
SETTINGS = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Client:
    """A microphone, a loudspeaker and a connection."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.held = False
        self.replying = self.wanted = False
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.waiting = bytearray()
        self.loop = asyncio.get_running_loop()

    async def say(self, kind: str, **fields: object) -> None:
        await self.ws.send(json.dumps({"type": kind, **fields}))

    def record(self, frame: Any, *_: object) -> None:
        """Take a frame from PortAudio, in its thread."""
        if self.held:
            self.loop.call_soon_threadsafe(self.frames.put_nowait, bytes(frame))

    def play(self, out: Any, *_: object) -> None:
        """Give PortAudio what it plays next, in its thread."""
        sound = self.waiting[: len(out)]
        del self.waiting[: len(sound)]
        out[:] = sound.ljust(len(out), b"\0")

    async def listen(self) -> None:
        """Send what the microphone hears while the button is held."""
        while True:
            frame = await self.frames.get()
            await self.say("input_audio_buffer.append", audio=base64.b64encode(frame).decode())

    async def receive(self) -> None:
        """Play what the service says."""
        async for message in self.ws:
            event = json.loads(message)
            match event["type"]:
                case "session.created":
                    await self.say("session.update", session=SETTINGS)
                case "session.updated":
                    print("ready", flush=True)
                case "response.created":
                    self.replying = self.wanted = True
                case "response.output_audio.delta" if self.wanted:
                    self.waiting += base64.b64decode(event["delta"])
                case "response.done":
                    self.replying = False
                case "error":
                    print(event["error"]["message"], file=sys.stderr)

    async def press(self) -> None:
        """Be silent, and begin to listen."""
        self.waiting.clear()
        self.wanted = False
        self.held = True
        if self.replying:
            await self.say("response.cancel")

    async def release(self) -> None:
        """Ask for a reply, behind the last frame."""
        self.held = False
        while not self.frames.empty():
            await asyncio.sleep(0)
        await self.say("input_audio_buffer.commit")
        await self.say("response.create")

    async def obey(self) -> None:
        """Wait for lines."""
        lines = asyncio.StreamReader()
        await self.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while await lines.readline():
            await (self.release() if self.held else self.press())


async def main() -> None:
    url = os.environ["BENCH_URL"] + "?model=gpt-realtime"
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    async with connect(url, additional_headers=headers) as ws:
        client = Client(ws)
        microphone = sounddevice.RawInputStream(callback=client.record, latency="low", **SOUND)
        speaker = sounddevice.RawOutputStream(callback=client.play, latency="low", **SOUND)
        with microphone, speaker:
            tasks = [asyncio.create_task(work()) for work in (client.listen, client.receive, client.obey)]
            client.loop.add_signal_handler(signal.SIGTERM, tasks[-1].cancel)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
