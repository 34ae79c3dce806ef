"""Actions: what the conversation state machine asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Action:
    """Base of every action."""


class GateMode(Enum):
    """What may open the gate."""

    BUTTON = "button"
    """The button alone."""
    VOICE = "voice"
    """The button or speech."""


@dataclass(frozen=True, slots=True)
class SetGateMode(Action):
    """Change what may open the gate."""

    mode: GateMode


class OpenGate(Action):
    """Begin a turn: the button went down."""

    __slots__ = ()


class CloseGate(Action):
    """End the turn, whatever the button and the microphone say."""

    __slots__ = ()


class ForgetTurn(Action):
    """Discard what waits to be sent: its answer is not wanted any more."""

    __slots__ = ()


class InterruptReply(Action):
    """Silence the loudspeaker now, discard the rest of the reply, and tell the service."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CancelReply(Action):
    """The part of ``InterruptReply`` that goes to the service, behind what waits to be sent: *heard_ms* of *reply* were
    heard, so that the assistant assumes no more than that."""

    reply: str = ""
    heard_ms: int = 0


@dataclass(frozen=True, slots=True)
class ToolResult(Action):
    """The answer to a ``ToolCall``. *output* is JSON as text; *failed*: it is an error; *quiet*: the assistant should
    not speak about it. *name* and *arguments* are those of the call, for a connection that does not know the call."""

    call: str
    output: str
    failed: bool = False
    quiet: bool = False
    name: str = ""
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Connect(Action):
    """Make a connection if there is none. If a user *asked*, now; for speech that opened the gate by itself, which may
    be a television, only after the pause that follows a failure or a refusal."""

    asked: bool = True


class ReleaseConnection(Action):
    """Keep the connection, but do not replace it if it breaks."""

    __slots__ = ()


class HangUp(Action):
    """Close the connection: it has been idle for long enough."""

    __slots__ = ()


class Cue(Enum):
    """A short sound with a meaning."""

    LISTENING = "listening"
    """The button was pressed: speak."""
    DONE = "done"
    """The turn is over."""
    WAITING = "waiting"
    """The answer takes long."""
    FAILED = "failed"
    """There will be no answer."""
    OFFLINE = "offline"
    """The turn could not be sent: no network, or no server."""
    REFUSED = "refused"
    """The service refuses the device: key, plan or quota."""
    TROUBLE = "trouble"
    """A sound device is missing, or a turn was begun without a microphone."""
    CAP = "cap"
    """The minutes of today are used up."""
    MUTED = "muted"
    """The microphone was switched off, or still is."""
    UNMUTED = "unmuted"
    """The microphone is on again."""
    VOLUME = "volume"
    """The volume as it is now."""
    ALARM = "alarm"
    """A timer or an alarm is due; repeated."""


@dataclass(frozen=True, slots=True)
class Play(Action):
    """Play a cue."""

    cue: Cue


class StartAlarm(Action):
    """Repeat the sound of an alarm until ``StopAlarm``."""

    __slots__ = ()


class StopAlarm(Action):
    """Stop the alarm that rings."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Mute(Action):
    """Close the microphone, or open it again."""

    muted: bool


@dataclass(frozen=True, slots=True)
class Show(Action):
    """Show a mood on the light."""

    mood: str


class Finish(Action):
    """End the process with status 0: the microphone was a file, and all of it has been answered."""

    __slots__ = ()
