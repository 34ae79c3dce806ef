"""The contract of a simulated voice service: what a dialect is given, and what it gives back.

A *service* is one object for each simulator: a table of addresses, and for each address what it answers. An answer is
plain HTTP (``Answer``) or a *voice*: the other end of one WebSocket, one object for each connection. Neither touches a
socket, a thread or a clock: messages come in as arguments and go out as return values, and the time is an argument. A
new dialect is one file and one line in ``SERVICES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, Protocol

Message = str | bytes
"""A text frame or a binary frame."""

MAX_RECEIVED = 20_000
"""How many events a connection's record keeps: the newest, more than six minutes of 20 ms frames."""

MAX_RECEIVED_BYTES = 64 << 20
"""How long those messages may be together."""

MAX_PACES = 1000
"""How many judgements of the pace are kept."""

MAX_TURNS = 100
MAX_TURNS_BYTES = 64 << 20
"""How many turns a connection's record keeps, and how long they may be together: the newest."""


ALIASES = {"grok-voice-agent": "xai", "openai-realtime": "openai"}
"""The models of the proxy, unless it is told others."""


@dataclass(frozen=True)
class Behaviour:
    """How the service behaves. They may change while a connection is open; the greeting then is over.

    ``manners.py`` and ``faults.py`` give names to sets of these for the command line.
    """

    greeting: Literal["full", "conversation", "none"] = "full"
    """full: session.created, conversation.created, ping (as of July 2026). conversation: conversation.created alone
    (early 2026). none: not a word before the first session.update (seen in April 2026)."""
    greet_s: float = 0.0
    """From the handshake to the greeting; nothing is read before it."""
    announce_s: float = 0.0
    """From the beginning of a reply, which nothing tells yet, to response.created."""
    think_s: float = 0.25
    """From there to the first sound of the reply."""
    voice_s: float = 0.0
    """From the words of a reply to its sound; 0: they come together."""
    tool_s: float = 0.5
    """How long a tool that runs at the service takes."""
    pace: float = 4.0
    """Seconds of sound sent in a second. The live service was recorded at 3.4 s of speech in 0.9 s."""
    ping_s: float = 10.0
    """Seconds between two ``ping`` events; 0: none."""
    silent: bool = False
    """Hears everything and never replies."""
    rewriters: tuple[str, ...] = ()
    """The rewriters of ``rewriting.py`` that the events go through."""
    tool: str = ""
    """The tool that every spoken turn asks for, if the client offers it: words are beyond this service. *: the first
    one that is offered."""
    tool_arguments: str = "{}"
    """What that tool is called with, as JSON."""
    session_s: float = 0.0
    """How long a session lasts, in seconds; 0: as long as the service's documentation says."""
    expires_s: float = 0.0
    """openai: how far ahead the end of the session is told; 0: as far as it is."""
    sessions: int = 0
    """openai: how many sessions there can be at a time; 0: any number."""

    commits: Literal["usual", "answered", "asked"] = "usual"
    """xai, xai-live: whether speech is answered as soon as it is committed, or when a reply is asked for."""
    commit_s: float = 0.1
    """xai: from a commit to the moment when the speech joins the conversation."""
    takes_back: bool = False
    """xai: the service's turn detection begins the reply before the commit, and drops it when the user goes on."""
    automatic: bool = False
    """openai: no turn detection (null) is taken for the usual one."""
    busy_idle: bool = False
    """Every other request for a reply is refused as one too many, although no reply is under way."""
    output_rate: int = 0
    """openai: the rate of the replies, whatever was asked for; 0: what was asked for."""
    items: int = 1
    """openai: in how many items of sound a reply comes, 1 or 2."""

    reply: Literal["usual", "text", "empty"] = "usual"
    """text: replies have words and no sound. empty: they have neither."""
    fails: str = ""
    """The code with which replies fail: rate_limit_exceeded, server_error, insufficient_quota."""
    fails_once: bool = True
    """Only the first reply of a connection fails."""
    cut_by: Literal["", "content_filter", "max_output_tokens"] = ""
    """What ends each reply after a third of it."""
    refuses: Literal["", "settings", "transcription"] = ""
    """Every session.update is refused, or those that name a model for the transcripts."""
    transcribes: bool = True
    """Whether the transcripts that are asked for can be made."""

    auth_close: int = 1008
    """xai-live: the code of the goodbye after a wrong key. It is documented nowhere; 4001 is as likely."""
    aliases: Mapping[str, str] = field(default_factory=lambda: dict(ALIASES))
    """litellm: what a client may call a model -> the service behind it; "": one that cannot be reached."""
    binary_json: bool = False
    """litellm: behave as release 1.81.9 did: JSON in binary frames, pings passed on, silence when the service ends."""
    injects: bool = False
    """litellm: ask for a reply after every transcript of the user, as releases up to 1.106.2 do."""

    def __post_init__(self) -> None:
        times = (self.greet_s, self.announce_s, self.think_s, self.voice_s, self.tool_s, self.ping_s, self.session_s)
        if self.pace <= 0 or min(*times, self.commit_s, self.expires_s) < 0:
            raise ValueError("pace must be above 0, and what ends in _s not below it")

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
    """The TCP connection dies without a goodbye."""


@dataclass(frozen=True)
class Goodbye:
    """The service says goodbye."""

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
a third of a reply's sound is sent; a tool was called CALLED_S ago; a reply is over, whole or not; the client has said
nothing for IDLE_S, and no reply is under way; something was refused."""

CALLED_S, IDLE_S = 0.2, 3.0


@dataclass(frozen=True)
class Happening:
    """Something worth telling, at its place between the messages. Without *text* it is not worth printing."""

    moment: Moment
    text: str = ""


Outgoing = Message | Happening | Drop | Goodbye


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
        from ..dsp.pcm import level  # here: who only lists the faults needs no numpy

        return level(self.pcm)


@dataclass
class ConnectionLog:
    """What one connection heard. Written by its thread; the lists only grow at the end and are trimmed at the front."""

    number: int = 0
    model: str = ""
    received: list[Received] = field(default_factory=list, repr=False)
    turns: list[Turn] = field(default_factory=list, repr=False)
    replies: int = 0
    """How many replies are over, whole or not."""
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    """The settings as they were last confirmed."""
    goes_on: bool = False
    """Whether it goes on with the conversation of an earlier connection."""
    open: bool = True
    ended: str = ""
    """How the connection ended, e.g. "client said 1000"."""
    paces: list[float] = field(default_factory=list, repr=False)
    """Where sound has to come in real time: how much came, second by second; 1 is real time. The newest."""
    dropped_s: float = 0.0
    """How many seconds of sound were thrown away because they came faster than real time."""
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

    def note_pace(self, pace: float) -> None:
        """Remember how fast sound came, and forget the oldest."""
        self.paces.append(pace)
        del self.paces[:-MAX_PACES]

    def note_turn(self, turn: Turn) -> None:
        """Remember one turn, and forget the oldest when there are too many."""
        self.turns.append(turn)
        del self.turns[:-MAX_TURNS]
        while len(self.turns) > 1 and sum(len(turn.pcm) for turn in self.turns) > MAX_TURNS_BYTES:
            del self.turns[0]


class ServiceSession:
    """The service's end of one connection. After any call, send what ``outgoing`` returns.

    All methods belong to one thread. Times are seconds of any monotonic clock. Nothing a client can say makes these
    methods raise: what makes no sense is answered with an ``error`` event.
    """

    deadline: float | None = None
    """When to call ``tick`` although nothing was received."""

    def __init__(self, manners: Behaviour, heard: ConnectionLog) -> None:
        self.manners = manners
        self.heard = heard
        self._outgoing: list[Outgoing] = []

    def outgoing(self) -> list[Outgoing]:
        """Return, once and in order, what to send now, what happened in between, and how it ends."""
        items, self._outgoing = self._outgoing, []
        return items

    def greet(self, now: float) -> None:
        """The connection is open."""

    def receive(self, message: Message, now: float) -> None:
        """The client said *message*."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """It is *now*: say what is due."""

    def hung_up(self, now: float) -> None:
        """The connection is over, one way or another. Nothing can be said any more."""


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
    at: float = 0.0
    """When it came, in seconds of the clock of the voices."""
    origin: str = ""
    """How the client addresses us, as the beginning of a WebSocket's address: ws://127.0.0.1:9100"""

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
"""For who asks for a WebSocket's address without wanting one."""

Route = Callable[[Asked, Behaviour, ConnectionLog], Answer | ServiceSession]


class Service(Protocol):
    """One service. It is asked by many threads at once; what it remembers, it guards.

    Its class is called with *key* (None takes any), *models* (None takes any), *seed*, and *wall*: Unix time at 0 of
    the clock, for time stamps.
    """

    @property
    def path(self) -> str:
        """Where a client begins: the path of what is configured as the service's address."""

    @property
    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Method and path -> what answers there. A path may end in ``/*``: anything but a slash."""


def find_route(routes: Mapping[tuple[str, str], Route], method: str, path: str) -> Route | int:
    """Return what answers at *path*, or the HTTP status that says why nothing does."""
    for known in (path, f"{path.rpartition('/')[0]}/*"):
        if (method, known) in routes:
            return routes[method, known]
        if any(known == other for _, other in routes):
            return 405
    return 404


SERVICES = {  # name for the command line -> module and class; the first is the default
    "xai": "xai:Xai",
    "xai-live": "xai_live:XaiLive",
    "openai": "openai:Openai",
    "litellm": "litellm:Litellm",
    "ultravox": "ultravox:Ultravox",
}


def load(name: str) -> Any:
    """Return the class of the service called *name*, importing only that one."""
    if name not in SERVICES:
        raise ValueError(f"there is no simulator for {name!r}; there is one for: {', '.join(SERVICES)}")
    module, _, cls = SERVICES[name].partition(":")
    return getattr(import_module(f".services.{module}", __package__), cls)
