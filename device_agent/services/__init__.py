"""The realtime services we can talk to, one file each.

A service knows where to connect and what it can do; its session speaks the protocol of one connection. Neither touches
a socket, a thread or a clock: messages come in as arguments and go out as return values, and time comes in by ``tick``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from ..events import Action, Event, Speech

Message = str | bytes
"""A text frame or a binary frame."""


@dataclass(frozen=True)
class Request:
    """An HTTPS POST that somebody else performs for us; the answer is JSON."""

    url: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # they hold the key


@dataclass(frozen=True)
class Endpoint:
    """Where to connect. Only *name* may be logged: a URL can be a credential, and the headers are."""

    name: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Function:
    """A tool of this device, as the assistant is told about it. *parameters* is a JSON schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any]


class Session:
    """The protocol of one connection. After any call, send what ``outgoing`` returns.

    All methods belong to the link's thread. ``tick`` is called before every other call, and again when *deadline* has
    passed. ``receive`` raises LinkLost when the service says goodbye and LinkRefused when no other try will help; a
    message that makes no sense is a ``ServiceError``, never an exception.
    """

    ready = False
    """Whether the service will understand speech. Until then nobody calls ``send``."""

    deadline: float | None = None
    """When to call ``tick`` although nothing was received."""

    resume = ""
    """What a later connection has to name to go on with this conversation; "" while or where that is not possible."""

    def __init__(self) -> None:
        self._outgoing: list[Message] = []

    def outgoing(self) -> list[Message]:
        """Return the messages to send now, in order, once."""
        messages, self._outgoing = self._outgoing, []
        return messages

    def tick(self, now: float) -> Iterable[Event]:
        """It is *now*, in seconds of a monotonic clock."""
        return ()

    def greet(self) -> None:
        """The connection is open."""

    def send(self, item: Speech | Action) -> None:
        """The user spoke, or the conversation wants something."""

    def receive(self, message: Message) -> Iterable[Event]:
        """The service said *message*: what does it mean?"""
        raise NotImplementedError


class Service(Protocol):
    """One service with its settings. Implementations are frozen dataclasses.

    *resume* is what the last session with this service said of itself (``Session.resume``), "" to begin anew.
    """

    @property
    def rate(self) -> int:
        """Samples per second of PCM, both ways."""

    def invitation(self, resume: str) -> Request | None:
        """What to POST before we may connect, if anything."""

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        """Where to connect, given the JSON that answered the invitation. Raises LinkLost where it makes no sense."""

    def session(self) -> Session: ...


SERVICES = {  # name in config.yaml -> module and class; the first is the default
    "xai": "xai:Xai",
}


def load(name: str) -> Any:
    """Return the class of the service called *name*, importing only that one."""
    module, _, cls = SERVICES[name].partition(":")
    return getattr(import_module(f".{module}", __name__), cls)
