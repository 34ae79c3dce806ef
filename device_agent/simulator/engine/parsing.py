"""Reading of messages from clients: JSON, base64, message parts; what makes no sense raises ``Refusal``. Pure."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

MAX_MESSAGE_DEPTH = 64
"""Deeper JSON is refused."""
MAX_TEXT = 4000
"""Characters of a message's text that are kept."""


class Refusal(Exception):
    """The message is answered with an error."""

    def __init__(self, message: str, *, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def parse(message: str | bytes) -> dict[str, Any]:
    """Return the object in *message*; raise Refusal where there is none."""
    try:
        event = json.loads(message, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal("The message is not JSON", code="invalid_event") from None
    if not isinstance(event, dict):
        raise Refusal("An event must be a JSON object", code="invalid_event")
    if depth(event) > MAX_MESSAGE_DEPTH:
        raise Refusal(f"An event may be nested {MAX_MESSAGE_DEPTH} deep", code="invalid_event")
    return event


def _finite(text: str) -> float:
    """Return the number; NaN and Infinity are Python's, not JSON's: echoed, they would break a strict reader."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def depth(value: Any) -> int:
    """Return how deep *value* is nested, without recursion, MAX_DEPTH + 1 at most."""
    found, here = 0, [value]
    while here and found <= MAX_MESSAGE_DEPTH:
        found += 1
        containers = [each for each in here if isinstance(each, (dict, list))]
        here = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
    return found


def bytes_of(audio: Any, where: str) -> bytes:
    """Return what is in a base64 string; raise Refusal where there is none."""
    if not isinstance(audio, str):
        raise Refusal(f"{where} must be a base64 string", code="invalid_type", param=where)
    try:
        return base64.b64decode(audio, validate=True)
    except ValueError:
        raise Refusal(f"{where} is not valid base64", code="invalid_audio", param=where) from None


def text_of(content: Any, types: tuple[str, ...]) -> str:
    """Return the text in the parts of a message, each of one of *types*; raise Refusal where they make no sense."""
    if not isinstance(content, list) or not content:
        raise Refusal("item.content must be a list of parts", code="invalid_type", param="item.content")
    texts = []
    for index, part in enumerate(content):
        where = f"item.content[{index}]"
        if not isinstance(part, dict) or part.get("type") not in types:
            raise Refusal(f"{where}.type must be one of {', '.join(types)}", param=f"{where}.type")
        if part["type"].endswith("text"):
            if not isinstance(part.get("text"), str):
                raise Refusal(f"{where}.text must be a string", code="invalid_type", param=f"{where}.text")
            texts.append(part["text"])
    return " ".join(texts)[:MAX_TEXT]
