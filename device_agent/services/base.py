"""Contract of a voice service: capabilities, settings, and the protocol of one connection."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.actions import Action
from ..core.conversation import DEFAULT_PATIENCE_S
from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import Event, Speech
from ..core.redaction import Secret
from ..dsp.g711 import Codec
from ..net.models import Endpoint, Message, Request
from .closing import judge

ServerTool = str | Mapping[str, Any]
"""A tool that runs at the service: its name, or a mapping with ``type`` and its parameters."""
MAX_ARGUMENTS_CHARS = 32 * 1024
"""Characters of the arguments of one tool call; a spoken request needs a thousandth of that."""


@dataclass(frozen=True)
class Function:
    """A tool of this device. *parameters* is a JSON schema of type object; *timeout_s* is how long a call may take."""

    name: str
    description: str
    parameters: dict[str, Any]
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """What one side said in one turn. Private: never logged."""

    by_user: bool
    text: str = field(repr=False)


@dataclass(frozen=True)
class Capabilities:
    """What works with a service, in words for people; "" means no. The fields are the rows of docs/services.md."""

    push_to_talk: str = ""  # the device decides when a turn is over
    cancel: str = ""  # an unwanted reply is stopped at the service
    shorten: str = ""  # an interrupted reply is truncated to what was heard, so that the assistant forgets the rest
    typed: str = ""  # a turn may be text
    clips: str = ""  # a turn may be a recording
    tools: str = ""  # tools of this device
    server_tools: str = ""  # tools that run at the service
    resume: str = ""  # the conversation continues after a lost connection
    recall: str = ""  # otherwise the new connection is given the recent history
    text_only: str = ""  # a reply may be text without sound
    token: str = ""  # the device may hold a short-lived token in place of a key
    thin: str = ""  # G.711 audio, a sixth of the usual bandwidth
    language: str = ""  # the spoken language can be set
    reasoning: str = ""  # the reasoning effort can be set
    speed: str = ""  # the speech rate can be set
    announcements: str = ""  # the text of an automation is spoken


class Session:
    """Sans-IO protocol of one connection: messages in, events and messages out. Send ``outgoing`` after each call.

    All methods belong to the link's thread. ``tick`` is called before every other call, and at *deadline*. ``tick`` and
    ``receive`` raise LinkLost when the service is gone or ends the session, and LinkRefused when a retry is useless; an
    invalid message is a ``ServiceError`` event, never an exception.
    """

    ready = False  # whether the service has accepted the settings. send is called only after that, or once it listens
    listens = False  # whether speech may be sent before that: the service applies the settings in front of it first
    deadline: float | None = None  # when to call tick although no message was received
    resume = ""  # identifies this conversation to a later connection; "" while, or where, it cannot be resumed
    expires_at = 0.0  # when the service will end this session, in Unix time; 0 if unknown
    busy = False  # whether a turn, a reply or a tool result is pending
    spare = False  # set if another service may be tried, so that a silent one is left earlier
    probe = False  # set by the session to have arrived called, once, when the messages sent so far have arrived
    input_rate = output_rate = 0
    """Samples per second of PCM up and down where the service chose other rates than requested; 0: as requested."""

    def __init__(self) -> None:
        self._outgoing: list[Message] = []

    def outgoing(self) -> list[Message]:
        """Return the messages to send now, in order, once."""
        messages, self._outgoing = self._outgoing, []
        return messages

    def _send_event(self, kind: str, **fields: object) -> None:
        self._outgoing.append(json.dumps({"type": kind, **fields}))

    def tick(self, now: float) -> Iterable[Event]:
        """Advance to *now*, in seconds of a monotonic clock."""
        return ()

    def greet(self) -> None:
        """Send the first messages; the connection is open."""

    def arrived(self, now: float) -> None:
        """Note that the messages up to *probe* have arrived at the other end of the connection."""

    def goes_on(self, resume: str) -> bool:
        """Return whether this session continues the conversation *resume*. Known once the session is ready."""
        return False

    def recall(self, said: Sequence[HistoryEntry]) -> None:
        """Give the service the history *said*; before anything is sent, and at most once."""

    def knows(self, call: str) -> bool:
        """Return whether the tool call with this id was made on this connection and is unanswered."""
        return False

    def send(self, item: Speech | Action) -> None:
        """Send speech of the user or an action of the conversation."""
        raise NotImplementedError

    def receive(self, message: Message) -> Iterable[Event]:
        """Return the events that a message of the service stands for."""
        raise NotImplementedError

    def farewell(self) -> None:
        """Send the last messages; the connection is about to be closed in good order."""

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """Return what *error*, which ended the connection, means; this may be worse than it looks."""
        return judge(error, ready=self.ready) if isinstance(error, LinkClosed) else error


@dataclass(frozen=True)
class Service:
    """A voice service with its settings; each service is a frozen dataclass that extends this one.

    *service_ends* lets the service detect the end of a turn, after *silence_ms*. *rate* is in samples per second of
    PCM, both ways. *text_only* is ignored where ``Capabilities`` lacks it. *ca_file* is a PEM file with the CA of the
    server at *url*, "" for those of the system. A *url* without a path gets that of the default. *language* is a BCP 47
    tag, "" for any. *patience_s* is how long the service may be silent while it owes an answer.
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

    can: ClassVar[Capabilities] = Capabilities()
    rates: ClassVar[tuple[int, ...]] = (24000,)  # allowed values of *rate*
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Known types of *tools* -> their required parameters. Empty: any type."""
    efforts: ClassVar[tuple[str, ...]] = ()  # allowed values of *reasoning*, where a service has it
    refuses_reasoning: ClassVar[str] = ""
    """A regular expression for the models that refuse *reasoning*, and all other settings with it; "" for none."""
    speeds: ClassVar[tuple[float, float]] = (1.0, 1.0)  # lowest and highest *speed*, where a service has it
    reserved: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """A tool that runs at the service -> the names that no tool of this device may have beside it."""
    longest_tool_s: ClassVar[float] = math.inf  # how many seconds the service waits for a tool of this device
    asks_approval: ClassVar[bool] = False
    """Whether each call of a tool on an MCP server waits for an approval, unless the tool is set up otherwise."""
    behind: ClassVar[Mapping[str, type[Service]]] = {}
    """For a proxy: *dialect* -> the class of the service behind it, whose rules apply."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", with_path(self.url, type(self).url))

    @classmethod
    def sample_rate(cls, rate: int, audio: str) -> int:
        """Return the sample rate of the service with these settings, which may not be allowed or known there."""
        return rate if rate in cls.rates else cls.rate

    @property
    def codec(self) -> Codec | None:
        """The audio codec, None for PCM."""
        return None

    @property
    def prompt(self) -> str:
        """The system prompt: the instructions, and which language to speak."""
        spoken = f"Speak the language {self.language} (a BCP 47 tag) unless you are asked for another one."
        return "\n\n".join(filter(None, (self.instructions, spoken if self.language else "")))

    @property
    def takes_halves(self) -> bool:
        """Whether half a turn, cut off by a lost connection, may have become a part of the conversation."""
        return self.service_ends

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
        """Return the request to POST before connecting, if any. *resume* is ``Session.resume`` of the last session, ""
        to start anew; *said* is the history, where *resume* is ""."""
        return None

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        """Return where to connect, given the JSON that answered the invitation. Raises LinkLost if it is invalid."""
        raise NotImplementedError

    def session(self) -> Session:
        """Return the protocol of one new connection."""
        raise NotImplementedError


def with_path(url: str, default: str) -> str:
    """Return *url*; if it names a server and no path there, with the path of the address *default*."""
    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/"):
        return url
    return parts._replace(path=urlsplit(default).path).geturl()
