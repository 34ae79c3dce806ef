"""Endpoint, request, message and trace: the types that the layers of a connection exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Message = str | bytes
"""The payload of a text frame or of a binary frame."""

Trace = Callable[[str, Any], None]
"""Observer of one connection, called in its thread after each step with the name of the step and its result:
"resolve" and the addresses, "connect" and the socket, "tls" and the TLS socket, "handshake" and the name of the
endpoint, "message" and the message that was received. For diagnosis: it may see secrets, and must not raise."""


@dataclass(frozen=True)
class Request:
    """An HTTPS POST with a JSON answer. Neither the request nor its answer may be logged."""

    url: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # they hold the key


@dataclass(frozen=True)
class Endpoint:
    """Address and headers of a WebSocket. Only *name* may be logged: URL and headers hold credentials."""

    name: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
