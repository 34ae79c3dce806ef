"""The contract of a simulated voice service: what a dialect is given, and what it gives back.

A *service* is one object for each simulator: a table of addresses, and for each address what it answers. An answer is
plain HTTP (``Answer``) or a *voice*: the other end of one WebSocket, one object for each connection. Neither touches a
socket, a thread or a clock: messages come in as arguments and go out as return values, and the time is an argument. A
new dialect is one file and one line in ``SERVICES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol

Message = str | bytes
"""A text frame or a binary frame."""

MAX_RECEIVED = 20_000
"""How many events a connection's record keeps: the newest, more than six minutes of 20 ms frames."""

MAX_RECEIVED_BYTES = 64 << 20
"""How long those messages may be together."""

MAX_TURNS = 100
MAX_TURNS_BYTES = 64 << 20
"""How many turns a connection's record keeps, and how long they may be together: the newest."""


@dataclass(frozen=True)
class Manners:
    """How the service behaves. They may change while a connection is open; the greeting then is over."""

    greeting: Literal["full", "conversation", "none"] = "full"
    """full: session.created, conversation.created, ping (as of July 2026). conversation: conversation.created alone
    (early 2026). none: not a word before the first session.update (seen in April 2026)."""
    think_s: float = 0.25
    """From the end of a turn to the first sound of the reply."""
    pace: float = 4.0
    """Seconds of sound sent in a second. The live service was recorded at 3.4 s of speech in 0.9 s."""
    ping_s: float = 10.0
    """Seconds between two ``ping`` events; 0: none."""
    silent: bool = False
    """Hears everything and never replies."""
    ids: bool = True
    """Whether the pieces of a reply say which reply, item and part they belong to. Older servers said nothing."""
    beta_names: bool = False
    """Whether the pieces of a reply have the names they had before general availability."""
    tool: str = ""
    """The function that every spoken turn asks for, if the client offers it: words are beyond this service."""
    tool_arguments: str = "{}"
    """What that function is called with, as JSON."""

    def __post_init__(self) -> None:
        if self.pace <= 0 or self.think_s < 0 or self.ping_s < 0:
            raise ValueError("pace must be above 0, think_s and ping_s not below it")


Moment = Literal["connected", "configured", "turn-begins", "turn-1s", "turn", "replying", "replied", "trouble"]
"""When faults strike and lines are printed: the settings were taken; a turn began, has one second, is complete; about
a third of a reply's sound is sent; a reply is over, whole or not; something was refused."""


@dataclass(frozen=True)
class Happening:
    """Something worth telling, at its place between the messages. Without *text* it is not worth printing."""

    moment: Moment
    text: str = ""


@dataclass(frozen=True)
class Received:
    """One message from the client. The sound of an append is in *pcm*; its *event* says only how long it was."""

    at: float
    event: dict[str, Any]
    pcm: bytes = field(default=b"", repr=False)
    size: int = 0
    """How long the message was, in characters or bytes."""


@dataclass(frozen=True)
class Turn:
    """What the user said in one turn: sound, or text."""

    at: float
    rate: int = 24000
    pcm: bytes = field(default=b"", repr=False)
    text: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return len(self.pcm) / (2 * self.rate)

    @property
    def level(self) -> float:
        """How loud it was, in dBFS."""
        from ..audio import level  # here: who only lists the faults needs no numpy

        return level(self.pcm)


@dataclass
class Heard:
    """What one connection heard. Written by its thread; the lists only grow at the end and are trimmed at the front."""

    number: int = 0
    model: str = ""
    received: list[Received] = field(default_factory=list, repr=False)
    turns: list[Turn] = field(default_factory=list, repr=False)
    replies: int = 0
    """How many replies are over, whole or not."""
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    """The settings as they were last confirmed."""
    open: bool = True
    ended: str = ""
    """How the connection ended, e.g. "client said 1000"."""
    _bytes: int = field(default=0, repr=False)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event received, in order."""
        return [received.event for received in list(self.received)]

    @property
    def types(self) -> list[str]:
        """The types of the events received, in order."""
        return [str(event.get("type")) for event in self.events]

    @property
    def pcm(self) -> bytes:
        """All sound received, whether it became a turn or not."""
        return b"".join(received.pcm for received in list(self.received))

    def note(self, received: Received) -> None:
        """Remember one message, and forget the oldest when there are too many."""
        self.received.append(received)
        self._bytes += received.size
        while len(self.received) > MAX_RECEIVED or self._bytes > MAX_RECEIVED_BYTES:
            self._bytes -= self.received.pop(0).size

    def note_turn(self, turn: Turn) -> None:
        """Remember one turn, and forget the oldest when there are too many."""
        self.turns.append(turn)
        del self.turns[:-MAX_TURNS]
        while len(self.turns) > 1 and sum(len(turn.pcm) for turn in self.turns) > MAX_TURNS_BYTES:
            del self.turns[0]


class Voice:
    """The service's end of one connection. After any call, send what ``outgoing`` returns.

    All methods belong to one thread. Times are seconds of any monotonic clock. Nothing a client can say makes these
    methods raise: what makes no sense is answered with an ``error`` event.
    """

    deadline: float | None = None
    """When to call ``tick`` although nothing was received."""

    def __init__(self, manners: Manners, heard: Heard) -> None:
        self.manners = manners
        self.heard = heard
        self._outgoing: list[Message | Happening] = []

    def outgoing(self) -> list[Message | Happening]:
        """Return, once and in order, what to send now and what happened in between."""
        items, self._outgoing = self._outgoing, []
        return items

    def greet(self, now: float) -> None:
        """The connection is open."""

    def receive(self, message: Message, now: float) -> None:
        """The client said *message*."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """It is *now*: say what is due."""


@dataclass(frozen=True)
class Asked:
    """An HTTP request. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # they hold the key
    body: bytes = field(default=b"", repr=False)
    upgrade: bool = False
    """Whether the client wants a WebSocket."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; *body* goes out as JSON."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Service(Protocol):
    """One service. It is asked by many threads at once; what it remembers, it guards."""

    @property
    def path(self) -> str:
        """Where its WebSocket is."""

    @property
    def routes(self) -> Mapping[tuple[str, str], Callable[[Asked, Manners, Heard], Answer | Voice]]:
        """Method and path -> what answers there."""


SERVICES = {  # name for the command line -> module and class; the first is the default
    "xai": "xai:Xai",
}


def load(name: str) -> Any:
    """Return the class of the service called *name*, importing only that one."""
    if name not in SERVICES:
        raise ValueError(f"there is no simulator for {name!r}; there is one for: {', '.join(SERVICES)}")
    module, _, cls = SERVICES[name].partition(":")
    return getattr(import_module(f".{module}", __package__), cls)
