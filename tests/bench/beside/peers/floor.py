"""The floor: websockets and asyncio, and for the sound arecord and aplay, as their manual pages have it.

It follows the echo of https://websockets.readthedocs.io/en/stable/ and the guide to Realtime WebSockets at
https://platform.openai.com/docs/guides/realtime-websocket. No reconnecting, no volume, no check of anything.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys

from websockets.asyncio.client import ClientConnection, connect

FRAME_BYTES = 960  # 20 ms
RAW = ["-q", "-t", "raw", "-f", "S16_LE", "-r", "24000", "-c", "1"]
SETTINGS = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Client:
    """A microphone, a loudspeaker and a connection."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.held = False
        self.replying = self.wanted = False
        self.player: asyncio.subprocess.Process | None = None

    async def say(self, kind: str, **fields: object) -> None:
        await self.ws.send(json.dumps({"type": kind, **fields}))

    async def listen(self) -> None:
        """Send what the microphone hears while the button is held."""
        # Its own period would be an eighth of a second.
        recorder = await asyncio.create_subprocess_exec(
            "arecord", *RAW, "--period-time=20000", stdout=asyncio.subprocess.PIPE
        )
        try:
            while True:
                frame = await recorder.stdout.readexactly(FRAME_BYTES)
                if self.held:
                    await self.say("input_audio_buffer.append", audio=base64.b64encode(frame).decode())
        finally:
            recorder.terminate()

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
                    await self.play(base64.b64decode(event["delta"]))
                case "response.output_audio.done" if self.player is not None:
                    self.player.stdin.close()  # or else it waits for a whole period before it plays the rest
                case "response.done":
                    self.replying = False
                case "error":
                    print(event["error"]["message"], file=sys.stderr)

    async def play(self, pcm: bytes) -> None:
        if self.player is None or self.player.stdin.is_closing():
            self.player = await asyncio.create_subprocess_exec("aplay", *RAW, stdin=asyncio.subprocess.PIPE)
        # No drain: a reply comes faster than it is heard, and a client that waits here is deaf to the service.
        self.player.stdin.write(pcm)

    async def press(self) -> None:
        """Be silent, and begin to listen."""
        if self.player is not None:
            with contextlib.suppress(ProcessLookupError):  # it has played all
                self.player.terminate()
            await self.player.wait()
            self.player = None
        self.wanted = False
        if self.replying:
            await self.say("response.cancel")
        self.held = True

    async def release(self) -> None:
        """Ask for a reply."""
        self.held = False
        await self.say("input_audio_buffer.commit")
        await self.say("response.create")

    async def obey(self) -> None:
        """Wait for lines."""
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while await lines.readline():
            await (self.release() if self.held else self.press())


async def main() -> None:
    url = os.environ["BENCH_URL"] + "?model=gpt-realtime"
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    async with connect(url, additional_headers=headers) as ws:
        client = Client(ws)
        tasks = [asyncio.create_task(work()) for work in (client.listen, client.receive, client.obey)]
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks[-1].cancel)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if client.player is not None:
            with contextlib.suppress(ProcessLookupError):
                client.player.terminate()


if __name__ == "__main__":
    asyncio.run(main())
