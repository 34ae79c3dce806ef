"""Events: what happened, told to the main thread through the inbox.

Each is a frozen dataclass, dispatched by its type. One without fields inherits that from its base: to decorate it would
take half a millisecond of each start. No event carries a time; the main thread reads the clock.
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
    """Base of every event."""


# The user -------------------------------------------------------------------------------------------------------------


class Pressed(Event):
    """The button went down."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Released(Event):
    """The button came up."""

    tapped: bool = False
    """Whether it had gone down only a moment before."""


class TalkStarted(Event):
    """The gate opened: a turn begins, its sound follows. Earlier replies are not wanted any more."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TalkEnded(Event):
    """The gate closed: the turn is complete. *silence* is how many seconds it has waited for more speech."""

    silence: float = 0.0


class NoSpeech(Event):
    """The gate was open and heard no speech: the turn is to be discarded."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TextTurn(Event):
    """A whole turn as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Announcement(TextTurn):
    """A request of an automation to say *exact* word for word. *text* asks the assistant to do so, for services without
    a command for that."""

    exact: str


@dataclass(frozen=True, slots=True)
class AudioTurn(Event):
    """A whole recorded turn: s16le mono at the rate of the service."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class VolumeAsked(Event):
    """The volume is to be *percent*, or changed *by* so many percent."""

    percent: int | None = None
    by: int = 0


@dataclass(frozen=True, slots=True)
class MuteAsked(Event):
    """The microphone is to be muted or unmuted; None: toggled."""

    muted: bool | None = None


class Muted(Event):
    """The microphone is muted from now on."""

    __slots__ = ()


class Unmuted(Event):
    """The microphone is unmuted from now on."""

    __slots__ = ()


class StopAsked(Event):
    """The reply, the rest of its answer, or the alarm that rings is to stop."""

    __slots__ = ()


Speech = TalkStarted | TalkEnded | NoSpeech | TextTurn | AudioTurn | bytes  # an Announcement is a TextTurn
"""What goes to the service: ``TalkStarted``, sound (s16le mono at its rate), then ``TalkEnded`` or ``NoSpeech``; or a
turn in one piece."""


# The service ----------------------------------------------------------------------------------------------------------


class TurnAcknowledged(Event):
    """The service acknowledged the whole turn."""

    __slots__ = ()


class TurnEndedByService(Event):
    """The service decided that the user has finished (``talk.end: service``)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class UserText(Event):
    """The transcript of what the user said so far; it replaces the earlier one of this *item*."""

    item: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class ReplyStarted(Event):
    """The first sound of a reply arrived."""

    reply: str


@dataclass(frozen=True, slots=True)
class ReplyAudio(Event):
    """A piece of a reply, s16le mono at the rate of the service. Goes to the playback buffer, never into the inbox."""

    reply: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ReplyText(Event):
    """The next words of a reply."""

    reply: str
    text: str


@dataclass(frozen=True, slots=True)
class ReplyEnded(Event):
    """The service has sent all of a reply, which may play on. *problem* is why it is incomplete. *more*: another reply
    follows when the tools have answered. *silent*: it is complete and has no sound, although an answer is awaited."""

    reply: str
    problem: str = ""
    more: bool = False
    silent: bool = False


class ReplyProgress(Event):
    """The service works on the answer, which prolongs the wait for it. At most one a second."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ReplyWithdrawn(Event):
    """The service withdrew a reply: the rest of it is not to be played."""

    reply: str


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """The assistant calls a tool of this device. *call* is the id, *arguments* a JSON object as text."""

    call: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ServiceError(Event):
    """The service reported an error that does not end the session."""

    message: str


# The link -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkUp(Event):
    """The session is ready. *service* is its name and place, to be shown."""

    service: str = ""


@dataclass(frozen=True, slots=True)
class LinkDown(Event):
    """The connection failed or broke; the link tries again in *retry_in* seconds."""

    reason: str
    retry_in: float


class LinkIdle(Event):
    """There is no connection, and none is needed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """Every service refuses the device, or asked for a longer pause than a turn waits. The link tries again when a user
    asks; for speech alone, or to keep a connection always, after *retry_in* seconds."""

    reason: str
    retry_in: float


class InterruptConfirmed(Event):
    """The link took a ``CancelReply``: its events so far are about the cancelled reply, later ones are not."""

    __slots__ = ()


# The device -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceReady(Event):
    """The *worker* has opened its device."""

    worker: str


@dataclass(frozen=True, slots=True)
class MicrophoneLost(Event):
    """The microphone cannot be opened or read."""

    reason: str


@dataclass(frozen=True, slots=True)
class SpeakerLost(Event):
    """The loudspeaker cannot be opened or written to."""

    reason: str


class Started(Event):
    """Each sound device is open or known to be lost."""

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
    """The microphone is a file, and its end was reached."""

    __slots__ = ()


class DeadlinePassed(Event):
    """The deadline of the conversation passed."""

    __slots__ = ()


class DailyLimitReached(Event):
    """The minutes of connection that a day may have are used up."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AlarmDue(Event):
    """A timer or an alarm is due. *name* is what the user calls it, "" for nothing."""

    name: str


class RingEnded(Event):
    """An alarm has rung for the longest time allowed."""

    __slots__ = ()


class WakeUp(Event):
    """A signal came: check everything now.

    Every signal handler has to put an event into the inbox. After one that returns just when the wait for events should
    end, ``SimpleQueue.get`` takes the remaining, then negative time for no timeout, and waits for ever.
    """

    __slots__ = ()


class ConfigApplied(Event):
    """config.yaml is in use as it stands."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ConfigRejected(Event):
    """config.yaml cannot be used; *reason* has a line for each mistake. The previous settings stay in use."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkerCrashed(Event):
    """An unexpected error ended a worker."""

    worker: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class ShutdownRequested(Event):
    """The process is to end. *by* is the name of a signal."""

    by: str
