"""Tolerant reading of arguments that a language model wrote: numbers as text, missing values, keys it invented.

An invalid value is a ``ToolFailed`` whose text tells the assistant what to ask the user or to do instead.
"""

from __future__ import annotations

from typing import Any

from .base import ToolFailed

Arguments = dict[str, Any]

MAX_SHOWN_ARGUMENT_CHARS = 40  # of a wrong value


def number(arguments: Arguments, name: str, low: float, high: float) -> float | None:
    """Return the number called *name*, None where there is none. Raises ToolFailed."""
    value = arguments.get(name)
    if value is None or value == "":
        return None
    try:
        found = float(value.strip().removesuffix("%")) if isinstance(value, str) else _real(value)
    except (ValueError, OverflowError):
        raise ToolFailed(f"{name} is {shown(value)}; it should be a number in digits, ask the user if unsure") from None
    if not low <= found <= high:
        raise ToolFailed(f"{name} is {shown(value)}; it should be from {low:g} to {high:g}, tell the user so")
    return found


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    return float(value)


def words(arguments: Arguments, name: str) -> str:
    """Return the text called *name* with single spaces, "" where there is none. Raises ToolFailed."""
    value = arguments.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ToolFailed(f"{name} is {shown(value)}; it should be a text")
    return " ".join(str(value).split())


def flag(arguments: Arguments, name: str) -> bool:
    """Return whether *name* is true, False where there is none. Raises ToolFailed."""
    value = arguments.get(name)
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False, "none": False}
    found = known.get(str(value).strip().lower())
    if found is None:
        raise ToolFailed(f"{name} is {shown(value)}; it should be true or false")
    return found


def shown(value: Any) -> str:
    """Return *value* as text, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_ARGUMENT_CHARS else f"{text[:MAX_SHOWN_ARGUMENT_CHARS]}..."
