"""Secrets, and what removes them from texts and settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .printable import printable

SECRET = re.compile(
    r"(?:sk|ek|pk)[-_](?=\S*\d)[\w-]{16,}(?!\S)|xai-\w{16}|(?i:bearer)\s+\S{6,}\Z",
    re.ASCII,
)
"""What a key of a service looks like: one word, long, with a digit; a voice sk-SK-LukasNeural or a device PK-910H is
none."""

SUSPECT = re.compile(r"bearer\s|(sk|ek|pk)-\w{4}|xai-\w{16}", re.IGNORECASE)
"""What may be one, and is not repeated in a message."""

SECRET_NAME = re.compile(r"key|token|secret|passw|auth|bearer|credential", re.IGNORECASE)
"""What people call them."""

MASK = "***"
"""What is shown in their place."""


def masked(value: Any) -> Any:
    """Return *value* as JSON knows it, without what is called like a key: the settings of a tool may hold one."""
    if is_dataclass(value):
        return {each.name: masked(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {name: MASK if _is_secret(name, each) else masked(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [masked(each) for each in value]
    return value


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and bool(SECRET_NAME.search(name))


class Secret:
    """A text that is shown by ``reveal`` alone: printing, formatting and logging say ``***``, pickling is refused."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text: to show it to the service, and for nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret must not be stored or copied")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


MOST_QUOTED = 200
"""Characters of what a stranger says that are repeated."""

SHORTEST_SECRET, LONGEST_WORD = 4, 16
"""Characters: what is shorter in a header is no key, and what is shorter in a URL no credential but a path."""


def secrets(url: str, headers: Mapping[str, str]) -> list[str]:
    """Return what is said to a service and may never be repeated: the words of headers, and what is long in a URL."""
    parts = urlsplit(url)
    words = [word for value in headers.values() for word in value.split() if word != "Bearer"]
    return sorted(
        [
            *(word for word in words if len(word) >= SHORTEST_SECRET),
            *(part for part in (parts.path, parts.query, *parts.path.split("/")) if len(part) > LONGEST_WORD),
        ],
        key=len,
        reverse=True,
    )


def quoted(text: str, hide: Iterable[str] = ()) -> str:
    """Return what a stranger said: in one line, not too long, and without what must not be repeated."""
    for secret in hide:
        text = text.replace(secret, "***")
    return printable(" ".join(text[: 4 * MOST_QUOTED].split()))[:MOST_QUOTED]
