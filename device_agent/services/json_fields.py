"""Tolerant JSON reading: a field that is missing or of another kind is empty, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Fields = dict[str, Any]

MAX_ID_CHARS = 256  # characters of an id; those of the services have about thirty
MAX_TRANSCRIPT_CHARS = 4000  # characters of a transcript that is put together from pieces
MAX_DELTA_CHARS = 32 * 1024
"""Characters of one piece of a transcript; the pieces of the services are words and sentences."""
LARGE_MESSAGE_BYTES, MAX_JSON_VALUES = 256 * 1024, 20_000
"""Bytes of a message that is large, and how many values may be in one: a large message is sound, which is one value.
Each takes 60 bytes in memory and as little as three on the wire, so 16 MiB of them would fill the memory of a small
board."""
MAX_ERROR_CHARS = 500  # characters of an error message


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
    """Return an upper bound of the number of values in *message*: each follows one of these characters."""
    if isinstance(message, bytes):
        return sum(map(message.count, (b",", b"[", b"{")))
    return sum(map(message.count, (",", "[", "{")))


def text(fields: Fields, key: str) -> str:
    """Return a text, "" if there is none. A lone surrogate, half of an emoji that was cut in two, is replaced."""
    value = fields.get(key)
    if not isinstance(value, str):
        return ""
    if value.isascii():  # known without a look, and all sound is
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def name(fields: Fields, key: str) -> str:
    """Return an id, "" if there is none or it is longer than MAX_ID_CHARS: ids are kept."""
    value = text(fields, key)
    return value if len(value) <= MAX_ID_CHARS else ""


def number(fields: Fields, key: str) -> float:
    """Return a number, 0 if there is none. JSON has larger ones than a float."""
    value = fields.get(key)
    with suppress(OverflowError):
        return float(value) if isinstance(value, (int, float)) else 0.0
    return 0.0


def part(fields: Fields, key: str) -> Fields:
    """Return an object, {} if there is none."""
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def parts(fields: Fields, key: str) -> Iterator[Fields]:
    """Yield the objects of a list; other values are left out."""
    value = fields.get(key)
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


class Samples:
    """Joins 16-bit samples that were split between two pieces."""

    def __init__(self) -> None:
        self._half = b""

    def whole(self, piece: bytes) -> bytes:
        """Return the samples that *piece* completes; half a sample at its end waits for the next piece."""
        pcm = self._half + piece
        end = len(pcm) & ~1
        self._half = pcm[end:]
        return pcm[:end]
