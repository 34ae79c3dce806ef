"""Reading JSON that somebody else wrote: what is missing or of another kind is empty, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]


def event_of(message: str | bytes) -> Fields | str:
    """Return the event in *message*, an object with a ``type``; or what is wrong with it, as a sentence."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return f"the service sent {len(message)} bytes that are not JSON; ignored"
    if isinstance(event, dict) and isinstance(event.get("type"), str):
        return event
    return "the service sent JSON that is not an event; ignored"


def text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""


def part(fields: Fields, key: str) -> Fields:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def parts(fields: Fields, key: str) -> Iterator[Fields]:
    value = fields.get(key)
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


class Samples:
    """Puts 16-bit samples together again that were cut in two."""

    def __init__(self) -> None:
        self._half = b""

    def whole(self, piece: bytes) -> bytes:
        """Return what *piece* completes; half a sample at its end waits for the next piece."""
        pcm = self._half + piece
        end = len(pcm) & ~1
        self._half = pcm[end:]
        return pcm[:end]
