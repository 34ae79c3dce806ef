"""What is sent where: an address, a request, a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = str | bytes
"""A text frame or a binary frame."""


@dataclass(frozen=True)
class Request:
    """An HTTPS POST that somebody else performs for us; the answer is JSON. Neither it nor the answer may be logged."""

    url: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # they hold the key


@dataclass(frozen=True)
class Endpoint:
    """Where to connect. Only *name* may be logged: a URL can be a credential, and the headers are."""

    name: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
