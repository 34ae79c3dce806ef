"""Secrets, and their removal from texts and settings."""

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
"""An API key: one long word with a digit. A voice sk-SK-LukasNeural or a device PK-910H is none."""

SUSPECT = re.compile(r"bearer\s|(sk|ek|pk)-\w{4}|xai-\w{16}", re.IGNORECASE)
"""What may be an API key, and is not repeated in a message."""

SECRET_NAME = re.compile(r"key|token|secret|passw|auth|bearer|credential", re.IGNORECASE)
"""A name of a setting that holds a secret."""

MASK = "***"
"""Shown in place of a secret."""


def masked(value: Any) -> Any:
    """Return *value* as JSON types, with MASK for texts whose name says secret: the settings of a tool may hold one."""
    if is_dataclass(value):
        return {each.name: masked(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {
            name: MASK if isinstance(each, str) and SECRET_NAME.search(name) else masked(each)
            for name, each in value.items()
        }
    if isinstance(value, tuple | list):
        return [masked(each) for each in value]
    return value


class Secret:
    """A text that only ``reveal`` returns. Printing, formatting and logging show ``***``; pickling is refused."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text, to send it to the service."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret must not be stored or copied")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


MAX_QUOTED_CHARS = 200
"""How many characters of a text from outside are repeated."""

MIN_SECRET_CHARS, MAX_PLAIN_URL_CHARS = 4, 16
"""A shorter word of a header is no key; a part of a URL up to this length is a path, no credential."""


def secrets(url: str, headers: Mapping[str, str]) -> list[str]:
    """Return what a request may hold that is secret, longest first: words of its headers, long parts of its URL."""
    parts = urlsplit(url)
    words = (word for value in headers.values() for word in value.split())
    found = [word for word in words if word != "Bearer" and len(word) >= MIN_SECRET_CHARS]
    found += [part for part in (parts.path, parts.query, *parts.path.split("/")) if len(part) > MAX_PLAIN_URL_CHARS]
    return sorted(found, key=len, reverse=True)


def quoted(text: str, hide: Iterable[str] = ()) -> str:
    """Return *text* from outside as one short line, without the secrets in *hide*."""
    for secret in hide:
        text = text.replace(secret, MASK)
    return printable(" ".join(text[: 4 * MAX_QUOTED_CHARS].split()))[:MAX_QUOTED_CHARS]
