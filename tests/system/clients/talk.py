"""What the client programs have in common; the standard library alone, because each has an environment of its own.

A program is called with the name of a scene. It finds the address of the service in SERVICE_URL, its key in
SERVICE_KEY and the spoken question in QUESTION, and prints one JSON object: what it saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import wave
from collections.abc import Awaitable, Callable
from typing import Any

URL = os.environ["SERVICE_URL"]
"""The service's address, a WebSocket's."""
KEY = os.environ["SERVICE_KEY"]
RATE = 24000
PATIENCE_S = 40.0
CALL = 'Please use set_lamp {"on": true}'
"""A text that the simulator answers with a call of that tool."""
RESULT = "The lamp is on."

Scene = Callable[[], Awaitable[dict[str, Any]]]


def question() -> bytes:
    """Return the spoken question, 24 kHz, 16 bits, mono."""
    with wave.open(os.environ["QUESTION"]) as sound:
        return sound.readframes(sound.getnframes())


def pieces(pcm: bytes, seconds: float = 0.1) -> list[bytes]:
    """Return *pcm* in pieces of so many *seconds*."""
    size = 2 * round(seconds * RATE)
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


def play(**scenes: Scene) -> None:
    """Play the scene that the command line names, and print what was seen."""
    seen = asyncio.run(asyncio.wait_for(scenes[sys.argv[1]](), PATIENCE_S))
    print(json.dumps(seen), flush=True)
    os._exit(0)  # some of these libraries keep threads that wait for the service
