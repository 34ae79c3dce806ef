"""What a field of a client's message may hold: small checks that are put together into the shape of a message.

A check is called with a value and the path where it stands, and raises ``Refusal`` where the value is wrong. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .parsing import Refusal

Check = Callable[[Any, str], None]


def under(where: str, name: str) -> str:
    """Return the path of the field *name* of what stands at *where*, "" being the message itself."""
    return f"{where}.{name}" if where else name


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return *value* if it is an object."""
    if not isinstance(value, dict):
        raise Refusal(f"{where} must be an object", code="invalid_type", param=where)
    return value


def text(value: Any, where: str) -> None:
    """A string."""
    if not isinstance(value, str):
        raise Refusal(f"{where} must be a string", code="invalid_type", param=where)


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise Refusal(f"{where} must be true or false", code="invalid_type", param=where)


def anything(_value: Any, _where: str) -> None:
    """It is repeated, and nothing is done with it."""


def number(low: float, high: float, *, whole: bool = False) -> Check:
    """A number in these bounds."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise Refusal(f"{where} must be a {'whole ' if whole else ''}number", code="invalid_type", param=where)
        if not low <= value <= high:
            raise Refusal(f"{where} must be between {low} and {high}, not {str(value)[:20]}", param=where)

    return check


def one_of(*allowed: object) -> Check:
    """One of these values."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or value not in allowed:
            raise Refusal(f"{where} must be one of {', '.join(map(str, allowed))}, not {str(value)[:60]}", param=where)

    return check


def or_null(check: Check) -> Check:
    """Null, or what *check* lets through."""
    return lambda value, where: None if value is None else check(value, where)


def list_of(check: Check, most: int) -> Check:
    """A list of so many at *most*."""

    def check_list(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise Refusal(f"{where} must be a list", code="invalid_type", param=where)
        if len(value) > most:
            raise Refusal(f"{where} may have {most} entries, not {len(value)}", param=where)
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]")

    return check_list


def short_text(most: int) -> Check:
    """A string of so many characters at *most*."""

    def check(value: Any, where: str) -> None:
        text(value, where)
        if len(value) > most:
            raise Refusal(f"{where} may have {most} characters, not {len(value)}", param=where)

    return check


def matching(pattern: str) -> Check:
    """A string of this *pattern*."""

    def check(value: Any, where: str) -> None:
        text(value, where)
        if not re.fullmatch(pattern, value):
            raise Refusal(f"{where} must look like {pattern}, not {value[:60]}", param=where)

    return check


def fields(**checks: Check) -> Check:
    """An object in which these fields, where they are present, hold what they may; other fields are ignored."""

    def check(value: Any, where: str) -> None:
        for name, inner in mapping(value, where).items():
            if name in checks:
                checks[name](inner, under(where, name))

    return check


def only(needs: Iterable[str] = (), /, **checks: Check) -> Check:
    """An object with no other fields than these, and with all that it *needs*."""
    needed = tuple(needs)

    def check(value: Any, where: str) -> None:
        for name in mapping(value, where):
            if name not in checks:
                path = under(where, name[:60])
                raise Refusal(f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)
        for name in needed:
            if name not in value:
                path = under(where, name)
                raise Refusal(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)
        for name, inner in value.items():
            checks[name](inner, under(where, name))

    return check


def by_type(checks: Mapping[str, Check], name: str = "type") -> Check:
    """An object whose field *name* says which of *checks* it has to pass."""

    def check(value: Any, where: str) -> None:
        path = under(where, name)
        if name not in mapping(value, where):
            raise Refusal(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)
        kind = value[name]
        one_of(*checks)(kind, path)
        checks[kind](value, where)

    return check


def either(*checks: Check) -> Check:
    """What one of *checks* lets through; where none does, the last one says why."""

    def check(value: Any, where: str) -> None:
        for each in checks[:-1]:
            try:
                each(value, where)
            except Refusal:
                continue
            return
        checks[-1](value, where)

    return check
