"""Checks of message fields: small functions that are put together into the schema of a message. Pure.

A check is called with a value and the path where it stands, and raises ``Refusal`` where the value is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .parsing import Refusal

Check = Callable[[Any, str], None]


def _refuse_type(where: str, wanted: str) -> Refusal:
    return Refusal(f"{where} must be {wanted}", code="invalid_type", param=where)


def _under(where: str, name: str) -> str:
    """Return the path of the field *name* of what stands at *where*, "" being the message itself."""
    return f"{where}.{name}" if where else name


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return *value* if it is an object."""
    if not isinstance(value, dict):
        raise _refuse_type(where, "an object")
    return value


def text(value: Any, where: str) -> None:
    """Check for a string."""
    if not isinstance(value, str):
        raise _refuse_type(where, "a string")


def flag(value: Any, where: str) -> None:
    """Check for a boolean."""
    if not isinstance(value, bool):
        raise _refuse_type(where, "true or false")


def anything(_value: Any, _where: str) -> None:
    """Let everything pass: the value has no effect."""


def number(low: float, high: float, *, whole: bool = False) -> Check:
    """Return a check for a number in these bounds."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise _refuse_type(where, f"a {'whole ' if whole else ''}number")
        if not low <= value <= high:
            raise Refusal(f"{where} must be between {low} and {high}, not {str(value)[:20]}", param=where)

    return check


def one_of(*allowed: object) -> Check:
    """Return a check for one of these values."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or value not in allowed:
            raise Refusal(f"{where} must be one of {', '.join(map(str, allowed))}, not {str(value)[:60]}", param=where)

    return check


def or_null(check: Check) -> Check:
    """Return *check*, but null passes."""
    return lambda value, where: None if value is None else check(value, where)


def list_of(check: Check, most: int) -> Check:
    """Return a check for a list of so many at *most*."""

    def check_list(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _refuse_type(where, "a list")
        if len(value) > most:
            raise Refusal(f"{where} may have {most} entries, not {len(value)}", param=where)
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]")

    return check_list


def matching(pattern: str) -> Check:
    """Return a check for a string of this *pattern*."""

    def check(value: Any, where: str) -> None:
        text(value, where)
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise Refusal(f"{where} must look like {pattern}, not {value[:60]}", param=where)

    return check


def fields(*needs: str, strict: bool = False, **checks: Check) -> Check:
    """Return a check for an object with all it *needs* and with fields that pass *checks*; *strict*: and no others."""

    def check(value: Any, where: str) -> None:
        for name in mapping(value, where):
            if strict and name not in checks:
                path = _under(where, name[:60])
                raise Refusal(f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)
        for name in needs:
            if name not in value:
                path = _under(where, name)
                raise Refusal(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)
        for name, inner in value.items():
            checks.get(name, anything)(inner, _under(where, name))

    return check


def only(*needs: str, **checks: Check) -> Check:
    """Return a check for an object with no other fields than these, and with all that it *needs*."""
    return fields(*needs, strict=True, **checks)


def by_type(checks: Mapping[str, Check]) -> Check:
    """Return a check for an object whose field ``type`` says which of *checks* it has to pass."""

    def check(value: Any, where: str) -> None:
        fields("type", type=one_of(*checks))(value, where)
        checks[value["type"]](value, where)

    return check


def either(*checks: Check) -> Check:
    """Return a check that passes what one of *checks* does; where none does, the last one says why."""

    def check(value: Any, where: str) -> None:
        for each in checks[:-1]:
            try:
                each(value, where)
            except Refusal:
                continue
            return
        checks[-1](value, where)

    return check
