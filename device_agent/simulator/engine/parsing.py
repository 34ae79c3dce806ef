"""Reading what a stranger wrote: JSON, base64, texts; where it makes no sense, ``Refusal`` is raised. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Deeper JSON is junk."""

MAX_TEXT = 4000
"""How much text of a message is remembered."""


class Refusal(Exception):
    """The client's message makes no sense here; it is answered with an error."""

    def __init__(self, message: str, *, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def parse(message: str | bytes) -> dict[str, Any]:
    """Return the object in *message*; raise Refusal where there is none."""
    try:
        event = json.loads(message, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal("The message is not JSON", code="invalid_event") from None
    if not isinstance(event, dict):
        raise Refusal("An event must be a JSON object", code="invalid_event")
    if depth(event) > MAX_DEPTH:
        raise Refusal(f"An event may be nested {MAX_DEPTH} deep", code="invalid_event")
    return event


def _refuse_number(text: str) -> float:
    raise ValueError(text)  # NaN and Infinity are Python's, not JSON's; echoed, they would break a strict reader


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def depth(value: Any) -> int:
    """Return how deep *value* is nested, without recursion, MAX_DEPTH + 1 at most."""
    level_of, here = 0, [value]
    while here and level_of <= MAX_DEPTH:
        level_of += 1
        here = [inner for outer in here for inner in _inside(outer)]
    return level_of


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def bytes_of(audio: Any, where: str) -> bytes:
    """Return what is in a base64 string; raise Refusal where there is none."""
    if not isinstance(audio, str):
        raise Refusal(f"{where} must be a base64 string", code="invalid_type", param=where)
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(f"{where} is not valid base64", code="invalid_audio", param=where) from None


def text_of(content: Any, kinds: tuple[str, ...]) -> str:
    """Return the text in the parts of a message, each one of *kinds*; raise Refusal where they make no sense."""
    if not isinstance(content, list) or not content:
        raise Refusal("item.content must be a list of parts", code="invalid_type", param="item.content")
    texts = []
    for index, part in enumerate(content):
        where = f"item.content[{index}]"
        if not isinstance(part, dict) or part.get("type") not in kinds:
            raise Refusal(f"{where}.type must be one of {', '.join(kinds)}", param=f"{where}.type")
        if part["type"].endswith("text"):
            if not isinstance(part.get("text"), str):
                raise Refusal(f"{where}.text must be a string", code="invalid_type", param=f"{where}.text")
            texts.append(part["text"])
    return " ".join(texts)[:MAX_TEXT]
