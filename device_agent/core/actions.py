"""What the conversation asks for: actions, and what they are about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Action:
    """Something the conversation wants done."""


class GateMode(Enum):
    """What may open the gate."""

    BUTTON = "button"
    """The button alone."""
    VOICE = "voice"
    """The button or speech."""


@dataclass(frozen=True, slots=True)
class SetGateMode(Action):
    """From now on this may open the gate."""

    attention: GateMode


class OpenGate(Action):
    """Let the microphone through: the button went down."""

    __slots__ = ()


class CloseGate(Action):
    """The turn is over, whatever the button and the microphone say."""

    __slots__ = ()


class ForgetTurn(Action):
    """Throw away what waits to be sent: nobody waits for the answer any more."""

    __slots__ = ()


class InterruptReply(Action):
    """Silence the loudspeaker now, forget what is left of the reply, and tell the service."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CancelReply(Action):
    """The part of ``InterruptReply`` that goes to the service, behind whatever waits to be sent.

    *heard_ms* of *reply* left the loudspeaker; the assistant had better not believe that more of it was heard.
    """

    reply: str = ""
    heard_ms: int = 0


@dataclass(frozen=True, slots=True)
class ToolResult(Action):
    """The answer to a ``ToolCall``. *output* is JSON as text; *failed* says that it tells of an error, *quiet* that the
    assistant had better say nothing about it. *name* and *arguments* are those of the call, for a connection that does
    not know it."""

    call: str
    output: str
    failed: bool = False
    quiet: bool = False
    name: str = ""
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Connect(Action):
    """A connection is needed: make one if there is none. What is *asked* for is made now; for speech that opened the
    gate by itself, and may be a television, no pause and no refusal is cut short."""

    asked: bool = True


class ReleaseConnection(Action):
    """The connection may stay, but nobody needs another one if it breaks."""

    __slots__ = ()


class HangUp(Action):
    """Nobody has needed the connection for a while."""

    __slots__ = ()


class Cue(Enum):
    """A short sound that says something without words."""

    LISTENING = "listening"
    """The button was pressed: speak."""
    DONE = "done"
    """The turn is over."""
    WAITING = "waiting"
    """The answer takes long."""
    FAILED = "failed"
    """There will be no answer."""
    OFFLINE = "offline"
    """The turn could not be sent: there is no network, or nobody at its other end."""
    REFUSED = "refused"
    """The service does not want us: key, plan or quota."""
    TROUBLE = "trouble"
    """There is no microphone; or somebody speaks to a device without one."""
    CAP = "cap"
    """The minutes of today are used up."""
    MUTED = "muted"
    """The microphone was switched off, or is still off."""
    UNMUTED = "unmuted"
    """The microphone hears again."""
    VOLUME = "volume"
    """So loud it is now."""
    ALARM = "alarm"
    """A timer ran out, or it is the time of an alarm; again and again."""


@dataclass(frozen=True, slots=True)
class Play(Action):
    """Play a cue."""

    cue: Cue


class StartAlarm(Action):
    """Play the sound of an alarm until ``StopAlarm``."""

    __slots__ = ()


class StopAlarm(Action):
    """No alarm rings any more."""

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
    """Everything that could be heard has been answered: end the process with status 0."""

    __slots__ = ()
