"""The contract of a voice service: what it can, its settings, its session."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from ..core.actions import Action
from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import Event, Speech
from ..core.redaction import Secret
from ..net.models import Endpoint, Message, Request
from .closing import judge
from .response_timeout import DEFAULT_PATIENCE_S

ServerTool = str | Mapping[str, Any]
"""A tool that runs at the service: its name, or where that is not enough a mapping with ``type`` and its parameters."""


MAX_ARGUMENTS_CHARS = 32 * 1024
"""Characters of the arguments of one call; what a person asks for in a sentence has a thousandth of that."""


@dataclass(frozen=True)
class Function:
    """A tool of this device, as the assistant is told about it. *parameters* is a JSON schema of type object,
    *timeout_s* how many seconds the tool may take; the default is that of a tool which is done at once."""

    name: str
    description: str
    parameters: dict[str, Any]
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """What one side said in one turn. It is private: never in the log."""

    by_user: bool
    text: str = field(repr=False)


@dataclass(frozen=True)
class Capabilities:
    """What works with a service, in words for people; "" is no. The fields are the rows of docs/services.md."""

    push_to_talk: str = ""
    """The device says when a turn is over."""
    cancel: str = ""
    """A reply that nobody wants any more is stopped at the service."""
    shorten: str = ""
    """A reply that was cut is shortened to what was heard, so that the assistant does not refer to the rest."""
    typed: str = ""
    """A turn may be a text."""
    clips: str = ""
    """A turn may be a recording."""
    tools: str = ""
    """The assistant may use tools of this device."""
    server_tools: str = ""
    """The assistant may use tools that run at the service."""
    resume: str = ""
    """After a lost connection the conversation goes on."""
    recall: str = ""
    """Where it does not, the new connection is told what was said last."""
    text_only: str = ""
    """A reply may come as text without sound."""
    token: str = ""
    """The device may hold a short-lived token in place of a key."""
    thin: str = ""
    """Sound may travel as G.711, a sixth of the usual amount."""
    language: str = ""
    """Which language is spoken can be set."""
    reasoning: str = ""
    """How hard the model thinks before it speaks can be set."""
    speed: str = ""
    """How fast it speaks can be set."""
    announcements: str = ""
    """What an automation wants said is said."""


class Session:
    """The protocol of one connection. After any call, send what ``outgoing`` returns.

    All methods belong to the link's thread. ``tick`` is called before every other call, and again when *deadline* has
    passed. ``tick`` and ``receive`` raise LinkLost when the service is gone or says goodbye, and LinkRefused when no
    other try will help; a message that makes no sense is a ``ServiceError``, never an exception.
    """

    ready = False
    """Whether the service has understood what we asked of it. Until then, or until it ``listens``, nobody ``send``s."""

    listens = False
    """Whether speech may go up although the session is not ready yet: it is there, and takes everything in the order in
    which it was said, so that speech meets our settings and not those that were there before."""

    deadline: float | None = None
    """When to call ``tick`` although nothing was received."""

    resume = ""
    """What a later connection has to name to go on with this conversation; "" while or where that is not possible."""

    expires_at = 0.0
    """When the service will end this session, in seconds of Unix time; 0 where it does not say."""

    busy = False
    """Whether something of this session is still to come: a reply, or the answer of a tool."""

    spare = False
    """Whether another service may be tried in place of this one, so that it is left earlier when it does not answer."""

    probe = False
    """Set where the session wants to know when what it has just said has arrived: ``arrived`` is called then, once."""

    input_rate = output_rate = 0
    """Samples per second of PCM up and down, where the service told other ones than were asked for; 0: as asked for."""

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

    def arrived(self, now: float) -> None:
        """What was said when *probe* was set has arrived at the other end of the connection."""

    def goes_on(self, resume: str) -> bool:
        """Whether this is the conversation that was called *resume*. Known as soon as the session is ready."""
        return False

    def recall(self, said: Sequence[HistoryEntry]) -> None:
        """Tell the service what was *said* before, so that it remembers; before anything is sent, and at most once."""

    def knows(self, call: str) -> bool:
        """Whether the tool call with this id was made on this connection and has no answer yet."""
        return False

    def send(self, item: Speech | Action) -> None:
        """The user spoke, or the conversation wants something."""

    def receive(self, message: Message) -> Iterable[Event]:
        """The service said *message*: what does it mean?"""
        raise NotImplementedError

    def farewell(self) -> None:
        """We are about to close the connection in good order: are there last words?"""

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """The connection ended with *error*: return what it means, which may be worse than it looks."""
        return judge(error, ready=self.ready) if isinstance(error, LinkClosed) else error


@dataclass(frozen=True)
class Settings:
    """What every service may be told. Where its default is another one, the file of the service says so.

    *service_ends* lets the service decide when the user has finished, after *silence_ms*. *rate* is in samples per
    second of PCM, both ways. *text_only* works where ``Capabilities`` says so and is ignored elsewhere. *ca_file* names
    the CA of the server at *url*, "" for those of the system. A *url* without a path has that of the service's own
    address. *language* is a BCP 47 tag, "" for whatever is spoken. *patience_s* is how many seconds the service may be
    silent while it owes an answer.
    """

    key: Secret | None = None
    url: str = ""
    model: str = ""
    voice: str = ""
    instructions: str = ""
    tools: tuple[ServerTool, ...] = ()
    functions: tuple[Function, ...] = ()
    service_ends: bool = False
    silence_ms: int = 700
    rate: int = 24000
    text_only: bool = False
    ca_file: str = ""
    language: str = ""
    patience_s: float = DEFAULT_PATIENCE_S

    efforts: ClassVar[tuple[str, ...]] = ()
    """What *reasoning* may be, where a service has it."""
    refuses_reasoning: ClassVar[str] = ""
    """A regular expression for the models that refuse *reasoning*, "" where all of them take it."""
    speeds: ClassVar[tuple[float, float]] = (1.0, 1.0)
    """From where to where *speed* may be, where a service has it."""
    reserved: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """A tool that runs at the service -> the names that no tool of this device may have beside it."""
    longest_tool_s: ClassVar[float] = math.inf
    """How many seconds the service waits for a tool of this device at most."""
    asks_approval: ClassVar[bool] = False
    """Whether each call of a tool on an MCP server waits for an approval, unless the tool is set up otherwise."""
    behind: ClassVar[Mapping[str, Any]] = {}
    """For a proxy: *dialect* -> the class of the service behind it, whose rules count."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", with_path(self.url, type(self).url))

    @property
    def prompt(self) -> str:
        """The system prompt: the instructions, and which language to speak."""
        spoken = f"Speak the language {self.language} (a BCP 47 tag) unless you are asked for another one."
        return "\n\n".join(filter(None, (self.instructions, spoken if self.language else "")))

    @property
    def takes_halves(self) -> bool:
        """Whether half a turn may have become a part of the conversation."""
        return self.service_ends


def with_path(url: str, usual: str) -> str:
    """Return *url*; where it names a server and no path there, with the path of the address *usual*."""
    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/"):
        return url
    return parts._replace(path=urlsplit(usual).path).geturl()


class Service(Protocol):
    """One service with its settings. Implementations are frozen dataclasses that extend ``Settings``.

    *resume* is what the last session with this service said of itself (``Session.resume``), "" to begin anew.
    """

    can: ClassVar[Capabilities]
    rates: ClassVar[tuple[int, ...]]
    """What *rate* may be."""
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]]
    """What may stand in *tools* -> the parameters it needs. Empty: any name."""

    @property
    def rate(self) -> int:
        """Samples per second of PCM, both ways."""

    @property
    def url(self) -> str:
        """Where it is found."""

    @property
    def ca_file(self) -> str:
        """A PEM file with the CA to verify it by, "" for those of the system."""

    @property
    def patience_s(self) -> float:
        """How many seconds it may be silent while it owes an answer, or until it is ready."""

    @property
    def takes_halves(self) -> bool:
        """Whether half a turn, that a lost connection cut off, may have become a part of the conversation."""

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
        """What to POST before we may connect, if anything. *said* is what was said before, where *resume* is ""."""

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        """Where to connect, given the JSON that answered the invitation. Raises LinkLost where it makes no sense."""

    def session(self) -> Session:
        """Return the protocol of one connection, from its beginning."""
