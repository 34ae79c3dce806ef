"""Contract of a simulated service: routes, HTTP answers, sessions, and the log of a connection.

A *service* is one object per simulator with a handler for each of its routes. A handler returns an HTTP ``Answer`` or a
``ServiceSession``, the service's end of one WebSocket. Neither touches a socket, a thread or a clock: messages and
times are arguments, and what to send is returned. A new service is one file and one line in ``SIMULATED_SERVICES``.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, ClassVar, Literal

Message = str | bytes
"""A text frame or a binary frame."""

MAX_LOGGED_MESSAGES = 20_000
"""Messages in the log of a connection: the newest, more than six minutes of 20 ms frames."""
MAX_LOGGED_TURNS = 100

ALIASES = {"grok-voice-agent": "xai", "openai-realtime": "openai"}
"""Model names at the simulated proxy -> the service behind it."""


@dataclass(frozen=True)
class Behaviour:
    """How a service behaves. It may change while a connection is open. What ends in ``_s`` is in seconds.

    ``VARIANTS`` and ``FAULTS`` name changes of these fields for the command line.
    """

    greeting: Literal["full", "conversation", "none"] = "full"
    """full: session.created, conversation.created, ping (as of July 2026). conversation: conversation.created alone
    (early 2026). none: nothing before the first session.update (seen in April 2026)."""
    greet_s: float = 0.0  # from the handshake to the greeting; nothing is read before it
    announce_s: float = 0.0  # from the beginning of a reply to response.created
    think_s: float = 0.25  # from there to the first sound of the reply
    voice_s: float = 0.0  # from the text of a reply to its sound; 0: they come together
    tool_s: float = 0.5  # how long a tool that runs at the service takes
    pace: float = 4.0  # seconds of sound sent in a second; the live service was recorded at 3.4 s in 0.9 s
    ping_s: float = 10.0  # between two ``ping`` events; 0: none
    session_s: float = 0.0  # how long a session lasts; 0: as long as the service's documentation says
    expires_s: float = 0.0  # openai: end of the session as told in session.created; 0: as it is
    sessions: int = 0  # openai: how many sessions there can be at a time; 0: any number
    rewriters: tuple[str, ...] = ()  # names in ``REWRITERS`` of what the events go through
    tool: str = ""  # what every spoken turn calls, if the client offers it; *: the first one that is offered
    tool_arguments: str = "{}"  # of that tool, as JSON

    commits: Literal["usual", "answered", "asked"] = "usual"
    """xai, xai-live: whether speech is answered as soon as it is committed, or when a reply is asked for."""
    commit_s: float = 0.1  # xai: from a commit to the moment when the speech joins the conversation
    takes_back: bool = False
    """xai: server VAD begins the reply before the commit, and drops it when the user goes on speaking."""
    automatic: bool = False  # openai: no turn detection (null) means the usual one
    busy_idle: bool = False
    """Every other request for a reply is refused as one too many, although no reply is under way."""
    output_rate: int = 0  # openai: sample rate of the replies, whatever was asked for; 0: what was asked for
    items: int = 1  # openai: in how many items of sound a reply comes, 1 or 2

    silent: bool = False  # takes everything and never replies
    reply: Literal["usual", "text", "empty"] = "usual"  # text: without sound; empty: without sound and text
    fails: str = ""  # the code with which replies fail, one of ``FAILURES``
    cut_by: Literal["", "content_filter", "max_output_tokens"] = ""  # what ends each reply after a third of it
    refuses: Literal["", "settings", "transcription"] = ""
    """Every session.update is refused, or those that name a model for the transcripts."""
    transcribes: bool = True  # whether the transcripts that are asked for can be made

    aliases: Mapping[str, str] = field(default_factory=lambda: dict(ALIASES))
    """litellm: model name of the client -> the service behind it; "": one that cannot be reached."""
    binary_json: bool = False
    """litellm: as release 1.81.9: JSON in binary frames, pings passed on, silence when the service ends."""
    injects: bool = False
    """litellm: asks for a reply after every transcript of the user, as releases up to 1.106.2 do."""

    def __post_init__(self) -> None:
        if self.pace <= 0:
            raise ValueError("pace must be above 0")

    def changed(self, changes: Iterable[Mapping[str, Any]]) -> Behaviour:
        """Return these with all *changes* by field; rewriters add up, of everything else the last one counts."""
        merged: dict[str, Any] = {}
        rewriters = self.rewriters
        for each in changes:
            rewriters += tuple(each.get("rewriters", ()))
            merged |= each
        return replace(self, **{**merged, "rewriters": rewriters})


@dataclass(frozen=True)
class Drop:
    """Reset of the TCP connection."""


@dataclass(frozen=True)
class Goodbye:
    """Closing handshake that the service begins."""

    code: int
    reason: str = ""


Moment = Literal[
    "connected",
    "configured",
    "turn-begins",
    "turn-1s",
    "turn",
    "replying",
    "called",
    "replied",
    "idle",
    "trouble",
]
"""When faults strike and lines are printed: the settings were taken; a turn began, has one second, is complete; about
a third of a reply's sound is sent; a tool was called CALLED_S ago; a reply is over, whole or not; the client has sent
nothing for IDLE_S, and no reply is under way; something was refused."""

CALLED_S, IDLE_S = 0.2, 3.0


@dataclass(frozen=True)
class Happening:
    """A moment, at its place between the messages. Without *text* it is not printed."""

    moment: Moment
    text: str = ""


Outgoing = Message | Happening | Drop | Goodbye


@dataclass(frozen=True)
class Received:
    """One message from the client. The sound of an append is in *pcm*; its *event* has only its length."""

    at: float
    event: dict[str, Any]
    pcm: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Turn:
    """What the user said in one turn: sound, or text."""

    at: float
    rate: int = 24000
    pcm: bytes = field(default=b"", repr=False)
    text: str = ""

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.pcm) / (2 * self.rate)

    @property
    def level(self) -> float:
        """Level in dBFS."""
        from ..dsp.pcm import level  # here: listing the faults needs no numpy

        return level(self.pcm)


@dataclass
class ConnectionLog:
    """What one connection received. Written by its thread; lists grow at the end and are trimmed at the front."""

    number: int = 0
    model: str = ""
    received: list[Received] = field(default_factory=list, repr=False)
    turns: list[Turn] = field(default_factory=list, repr=False)
    replies: int = 0  # how many are over, whole or not
    settings: dict[str, Any] = field(default_factory=dict, repr=False)  # as last confirmed
    goes_on: bool = False  # whether it continues the conversation of an earlier connection
    open: bool = True
    ended: str = ""  # how the connection ended, e.g. "client said 1000"
    dropped_s: float = 0.0  # seconds of sound dropped because they came faster than real time

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

    def add_message(self, received: Received) -> None:
        """Log one message."""
        self.received.append(received)
        del self.received[:-MAX_LOGGED_MESSAGES]

    def add_turn(self, turn: Turn) -> None:
        """Log one turn."""
        self.turns.append(turn)
        del self.turns[:-MAX_LOGGED_TURNS]


class ServiceSession:
    """The service's end of one connection. After any call, send what ``outgoing`` returns.

    All methods belong to one thread. Times are seconds of any monotonic clock. No message of a client makes these
    methods raise: what makes no sense is answered with an ``error`` event.
    """

    deadline: float | None = None
    """When to call ``tick`` although nothing was received."""

    def __init__(self, behaviour: Behaviour, log: ConnectionLog) -> None:
        self.behaviour = behaviour
        self.log = log
        self._now = 0.0
        self._closed = False
        self._outgoing: list[Outgoing] = []

    def outgoing(self) -> list[Outgoing]:
        """Return, once and in order, what to send now, what happened in between, and how it ends."""
        items, self._outgoing = self._outgoing, []
        return items

    def connected(self, now: float) -> None:
        """The connection is open."""

    def receive(self, message: Message, now: float) -> None:
        """Handle *message* of the client."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Do what is due at *now*."""

    def disconnected(self, now: float) -> None:
        """The connection has ended, one way or another."""

    def _report(self, moment: Moment, text: str = "") -> None:
        self._outgoing.append(Happening(moment, text))

    def _close(self, code: int, reason: str) -> None:
        self._closed = True
        self._outgoing.append(Goodbye(code, reason))


@dataclass(frozen=True)
class Asked:
    """An HTTP request. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # they hold the key
    body: bytes = field(default=b"", repr=False)
    upgrade: bool = False  # whether the client wants a WebSocket
    at: float = 0.0  # when it came, in seconds of the sessions' clock
    origin: str = ""  # beginning of WebSocket addresses as the client sees them: ws://127.0.0.1:9100

    @property
    def bearer(self) -> str:
        """The key in ``Authorization: Bearer KEY``, "" where there is none."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; *body* goes out as JSON, None as nothing."""

    status: int
    body: dict[str, Any] | None
    headers: Mapping[str, str] = field(default_factory=dict)


UPGRADE = Answer(426, {"code": "upgrade_required", "error": "This is a WebSocket."}, {"Upgrade": "websocket"})
"""The answer to a plain request for the address of a WebSocket."""

Handler = Callable[[Asked, Behaviour, ConnectionLog], Answer | ServiceSession]


class Service:
    """One simulated service. The server calls its handlers one at a time.

    *key* None accepts any key that is not empty, *models* None any model. *wall* is Unix time at 0 of the sessions'
    clock, for time stamps.
    """

    path: ClassVar[str]
    """The path in the configured address of the service."""
    token_prefix: ClassVar[str] = ""
    """How its short-lived tokens begin."""

    def __init__(self, *, key: str | None = None, models: Collection[str] | None = None, wall: float = 0.0) -> None:
        self._key, self._models, self._wall = key, models, wall
        self.routes: dict[tuple[str, str], Handler] = {}
        """Method and path -> handler. A path may end in ``/*``: one more part."""

    def is_key(self, given: object) -> bool:
        """Return whether *given* is the key."""
        if not isinstance(given, str) or not given:
            return False
        if self.token_prefix and given.startswith(self.token_prefix):  # it has expired
            return False
        return self._key is None or hmac.compare_digest(given.encode("utf-8", "replace"), self._key.encode())

    def has_model(self, name: str) -> bool:
        """Return whether there is a model of this *name*."""
        return self._models is None or name in self._models

    def _random(self, log: ConnectionLog) -> random.Random:
        """Return the generator for one connection: the same in each run, as the figures of the benches need it."""
        return random.Random(f"1/{log.number}")


def find_route(routes: Mapping[tuple[str, str], Handler], method: str, path: str) -> Handler | int:
    """Return the handler for *path*, or the HTTP status that says why there is none."""
    for known in (path, f"{path.rpartition('/')[0]}/*"):
        if (method, known) in routes:
            return routes[method, known]
        if any(known == other for _, other in routes):
            return 405
    return 404


SIMULATED_SERVICES = {  # name for the command line -> module and class; the first is the default
    "xai": "xai:Xai",
    "xai-live": "xai_live:XaiLive",
    "openai": "openai:Openai",
    "litellm": "litellm:Litellm",
    "ultravox": "ultravox:Ultravox",
}


def load(name: str) -> type[Service]:
    """Return the class of the service called *name*, importing only that one. Raises ValueError."""
    if name not in SIMULATED_SERVICES:
        raise ValueError(f"there is no simulator for {name!r}; there is one for: {', '.join(SIMULATED_SERVICES)}")
    module, _, cls = SIMULATED_SERVICES[name].partition(":")
    found: type[Service] = getattr(import_module(f".services.{module}", __package__), cls)
    return found
