"""Reading JSON that somebody else wrote: what is missing or of another kind is empty, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]

LONGEST_NAME = 256
"""Characters of an id; those of the services have about thirty."""
LONGEST_TEXT = 4000
"""Characters of what was said that are put together from pieces."""
LONGEST_COMPLAINT = 500
"""Characters of what a service says is wrong."""


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


def name(fields: Fields, key: str) -> str:
    """Return an id. Ids are kept, and one that is longer than LONGEST_NAME is none."""
    value = text(fields, key)
    return value if len(value) <= LONGEST_NAME else ""


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
