"""The openai package's client, that connects when it is pressed: push to talk with it at its quickest.

Each odd line of its input is a press: it connects, says its settings, and sends silence in frames of 20 ms as the
package's own example does, which waits for no confirmation. Each even line is a release: it hangs up. There is no sound
card, which would cost it more. Everything is imported before it says ``ready``, and one client serves all presses.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from contextlib import suppress

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection  # noqa: TC002  at its start, not at its first press
from openai.types.realtime import session_update_event  # noqa: F401  what it imports at its first use

FRAME = base64.b64encode(bytes(960)).decode()
SESSION = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None},
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
    },
}


async def talk(connection: AsyncRealtimeConnection) -> None:
    """Send silence at its pace until cancelled."""
    while True:
        await connection.input_audio_buffer.append(audio=FRAME)
        await asyncio.sleep(0.02)


async def press(client: AsyncOpenAI, released: asyncio.Event) -> None:
    async with client.realtime.connect(model="gpt-realtime") as connection:
        await connection.session.update(session=SESSION)  # type: ignore[arg-type]
        talking = asyncio.create_task(talk(connection))
        await released.wait()
        talking.cancel()
        with suppress(asyncio.CancelledError):
            await talking


async def main() -> None:
    client = AsyncOpenAI(websocket_base_url=os.environ["BENCH_URL"].removesuffix("/realtime"))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while await lines.readline():
        released = asyncio.Event()
        turn = asyncio.create_task(press(client, released))
        await lines.readline()
        released.set()
        await turn


if __name__ == "__main__":
    asyncio.run(main())
