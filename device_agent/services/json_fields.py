"""Reading JSON that somebody else wrote: what is missing or of another kind is empty, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Fields = dict[str, Any]

MAX_ID_CHARS = 256
"""Characters of an id; those of the services have about thirty."""
MAX_TRANSCRIPT_CHARS = 4000
"""Characters of what was said that are put together from pieces."""
MAX_DELTA_CHARS = 32 * 1024
"""Characters of one piece of what is said; the pieces of the services are words and sentences."""
LARGE_MESSAGE_BYTES, MAX_JSON_VALUES = 256 * 1024, 20_000
"""Bytes of a message that is large, and how many values may be in one: a large message is sound, which is one value.
Each takes 60 bytes here and as little as three on the way, so 16 MiB of them would fill the memory of a small board."""
MAX_ERROR_CHARS = 500
"""Characters of what a service says is wrong."""


def event_of(message: str | bytes) -> Fields | str:
    """Return the event in *message*, an object with a ``type``; or what is wrong with it, as a sentence."""
    if len(message) > LARGE_MESSAGE_BYTES and _values(message) > MAX_JSON_VALUES:
        return f"the service sent JSON with more than {MAX_JSON_VALUES} values; ignored"
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return f"the service sent {len(message)} bytes that are not JSON; ignored"
    if isinstance(event, dict) and isinstance(event.get("type"), str):
        return event
    return "the service sent JSON that is not an event; ignored"


def _values(message: str | bytes) -> int:
    """Return how many values may be in *message*: each follows one of these, and there is none without."""
    if isinstance(message, bytes):
        return sum(map(message.count, (b",", b"[", b"{")))
    return sum(map(message.count, (",", "[", "{")))


def text(fields: Fields, key: str) -> str:
    """Return a text, "" where there is none."""
    value = fields.get(key)
    return _whole(value) if isinstance(value, str) else ""


def _whole(value: str) -> str:
    """Return *value* as it can be written down: JSON may hold half a letter, where somebody cut an emoji in two."""
    if value.isascii():  # known without a look, and all sound is
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def name(fields: Fields, key: str) -> str:
    """Return an id. Ids are kept, and one that is longer than LONGEST_NAME is none."""
    value = text(fields, key)
    return value if len(value) <= MAX_ID_CHARS else ""


def number(fields: Fields, key: str) -> float:
    """Return a number, 0 where there is none. JSON has larger ones than a float."""
    value = fields.get(key)
    with suppress(OverflowError):
        return float(value) if isinstance(value, (int, float)) else 0.0
    return 0.0


def part(fields: Fields, key: str) -> Fields:
    """Return an object in the object, an empty one where there is none."""
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def parts(fields: Fields, key: str) -> Iterator[Fields]:
    """Yield the objects of a list; whatever else is in it is left out."""
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
