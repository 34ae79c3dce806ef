"""The words the threads speak to each other: what happened, and what to do about it.

Every word is a frozen dataclass; the type is the tag and ``match`` is the dispatch. One that says no more than its name
is that by its base: to decorate it takes half a millisecond of each start, and there are many. No word carries a time:
who reads an event reads the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Port(StrEnum):
    """A sound port of the device. Its value is the name of its thread and of its section of config.yaml."""

    MICROPHONE = "microphone"
    SPEAKER = "speaker"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. It goes into the inbox."""


# What the user does ---------------------------------------------------------------------------------------------------


class Pressed(Event):
    """The button went down."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Released(Event):
    """The button came up."""

    tapped: bool = False
    """It had gone down only a moment before."""


class TalkStarted(Event):
    """The gate opened: a turn begins, its sound follows. No reply asked for earlier is wanted any more."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TalkEnded(Event):
    """The gate closed: the turn is complete. Its last *silence* seconds were the wait for more speech."""

    silence: float = 0.0


class NoSpeech(Event):
    """The gate was opened and nobody spoke: the turn is to be forgotten."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TextTurn(Event):
    """A whole turn, typed instead of spoken."""

    text: str


@dataclass(frozen=True, slots=True)
class Announcement(TextTurn):
    """A turn of an automation, that wants *exact* said word for word. *text* asks an assistant to do so, where the
    service cannot be made to."""

    exact: str


@dataclass(frozen=True, slots=True)
class AudioTurn(Event):
    """A whole turn that was recorded before: s16le mono at the service's rate."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class VolumeAsked(Event):
    """Somebody wants another volume: *percent*, or so much more than now."""

    percent: int | None = None
    by: int = 0


@dataclass(frozen=True, slots=True)
class MuteAsked(Event):
    """Somebody wants the microphone to hear nothing, or to hear again; None: the other way round than now."""

    muted: bool | None = None


class Muted(Event):
    """From now on the microphone is to hear nothing."""

    __slots__ = ()


class Unmuted(Event):
    """The microphone may hear again."""

    __slots__ = ()


class StopAsked(Event):
    """Somebody wants silence: of a reply, of an alarm that rings, of what is still to come of the answer."""

    __slots__ = ()


Speech = TalkStarted | TalkEnded | NoSpeech | TextTurn | AudioTurn | bytes  # an Announcement is one of Words
"""What goes up: ``TalkStarted``, sound (s16le mono at the service's rate), then ``TalkEnded`` or ``NoSpeech``; or a
turn in one piece."""


# What the service does ------------------------------------------------------------------------------------------------


class TurnAcknowledged(Event):
    """The service acknowledged that it has the whole turn."""

    __slots__ = ()


class TurnEndedByService(Event):
    """The service itself decided that the user has finished (``talk.end: service``)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class UserText(Event):
    """What the user said, as the service understood it so far. Replaces what came before for this *item*."""

    item: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class ReplyStarted(Event):
    """The first sound of a reply arrived."""

    reply: str


@dataclass(frozen=True, slots=True)
class ReplyAudio(Event):
    """A piece of a reply, s16le mono at the service's rate. It goes to the playback, never into the inbox."""

    reply: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ReplyText(Event):
    """The next few words of a reply."""

    reply: str
    text: str


@dataclass(frozen=True, slots=True)
class ReplyEnded(Event):
    """The service has sent all of a reply; it may play for a long time yet. *problem* is why it is not whole; *more*
    says that the assistant will go on, in another reply, when it has the answers of its tools; *silent* that it is
    complete, and that nothing of it can be heard although the user waits for an answer: words alone, or nothing."""

    reply: str
    problem: str = ""
    more: bool = False
    silent: bool = False


class ReplyProgress(Event):
    """The service works on the answer: it may be waited for longer. At most one a second."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ReplyWithdrawn(Event):
    """The service takes back what it sent of a reply: no more of it is to be heard."""

    reply: str


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """The assistant asks for a tool of this device. *call* names the request, *arguments* is a JSON object as text."""

    call: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ServiceError(Event):
    """The service complains, and lives on."""

    message: str


# What the link does ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkUp(Event):
    """The service is ready to hear us; *service* is which one, and where, for people."""

    service: str = ""


@dataclass(frozen=True, slots=True)
class LinkDown(Event):
    """The connection is gone or did not come about; the link tries again in *retry_in* seconds."""

    reason: str
    retry_in: float


class LinkIdle(Event):
    """There is no connection, and none is needed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """No service takes us now: they refused us, or asked us to stay away for longer than a turn waits. The link tries
    again when it is asked for; for speech alone, or where it always keeps a connection, not before *retry_in* seconds.
    """

    reason: str
    retry_in: float


class InterruptConfirmed(Event):
    """The link took a ``CancelReply``: what it told before belongs to the dead reply, what comes after does not."""

    __slots__ = ()


# What the device does -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceReady(Event):
    """A *worker* has opened its device."""

    worker: str


@dataclass(frozen=True, slots=True)
class MicrophoneLost(Event):
    """The microphone cannot be opened, or read any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class SpeakerLost(Event):
    """The loudspeaker cannot be opened, or written to any more."""

    reason: str


class Started(Event):
    """Every device is open, or known to be lost."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class PlaybackStarted(Event):
    """The first sample of a reply was handed to the loudspeaker."""

    reply: str


@dataclass(frozen=True, slots=True)
class PlaybackEnded(Event):
    """The last sample of a reply left the loudspeaker."""

    reply: str


class MicrophoneEnded(Event):
    """The microphone was a file, and the file is over."""

    __slots__ = ()


class DeadlinePassed(Event):
    """The conversation's own deadline passed."""

    __slots__ = ()


class DailyLimitReached(Event):
    """There may be no connection any more today."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AlarmDue(Event):
    """A timer ran out, or it is the time of an alarm. *name* is what the user calls it, maybe nothing."""

    name: str


class RingEnded(Event):
    """An alarm has rung for as long as it may."""

    __slots__ = ()


class WakeUp(Event):
    """A signal came: time to look at the world.

    Every signal handler of Python's has to put an event into the inbox. One that returns when the wait for events was
    to be over leaves it waiting for ever (``SimpleQueue.get`` takes the time that is left, then negative, for none).
    """

    __slots__ = ()


class ConfigApplied(Event):
    """What config.yaml says is what the device does."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ConfigRejected(Event):
    """What config.yaml says cannot be, and *reason* is why, a line for each mistake: the device does as before."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkerCrashed(Event):
    """An error nobody expected escaped from a worker."""

    worker: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class ShutdownRequested(Event):
    """Somebody wants the process to end: *by* is the name of a signal."""

    by: str


# What the conversation asks for ---------------------------------------------------------------------------------------
