"""Conversation: the state machine of turns, with one transition table.

An event and the time go in, actions come out: no thread, clock or hardware. docs/how-it-works.md shows TRANSITIONS as a
diagram.

A connection is not a state, because between turns none is needed. It only decides what the destination REST means:
READY, OFFLINE or REFUSED, as the link said last, and MISTAKE in place of READY while config.yaml is wrong. MUTED and
TROUBLE go before these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .actions import (
    Action,
    CloseGate,
    Connect,
    Cue,
    Finish,
    ForgetTurn,
    GateMode,
    HangUp,
    InterruptReply,
    Mute,
    OpenGate,
    Play,
    ReleaseConnection,
    SetGateMode,
    Show,
    StartAlarm,
    StopAlarm,
)
from .events import (
    AlarmDue,
    Announcement,
    AudioTurn,
    ConfigApplied,
    ConfigRejected,
    DailyLimitReached,
    DeadlinePassed,
    DeviceReady,
    Event,
    InterruptConfirmed,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneEnded,
    MicrophoneLost,
    Muted,
    NoSpeech,
    PlaybackEnded,
    PlaybackStarted,
    Port,
    Pressed,
    Refused,
    ReplyEnded,
    ReplyProgress,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    RingEnded,
    SpeakerLost,
    Started,
    StopAsked,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    TurnEndedByService,
    Unmuted,
)


class State(Enum):
    """The state of the conversation. The value is its name in the log."""

    STARTING = "starting"
    READY = "ready"
    MISTAKE = "mistake"
    """READY, with the previous settings: config.yaml is wrong."""
    FOLLOW_UP = "follow-up"
    OFFLINE = "offline"
    REFUSED = "refused"
    """Every service refuses the device, so speech alone begins no turn."""
    RETRY = "retry"
    """REFUSED for so long that speech alone may try again."""
    MUTED = "muted"
    TROUBLE = "trouble"
    """The microphone or the loudspeaker is lost."""
    LISTENING = "listening"
    SENDING = "sending"
    THINKING = "thinking"
    LATE = "late"
    """THINKING for long."""
    SPEAKING = "speaking"
    REST = "rest"
    """A destination only: see ``Conversation._resolve``."""


STARTING, READY, MISTAKE, FOLLOW_UP, OFFLINE, REFUSED, RETRY, MUTED, TROUBLE, *_TURNS = State
LISTENING, SENDING, THINKING, LATE, SPEAKING, REST = _TURNS

RESTING = frozenset({READY, MISTAKE, FOLLOW_UP, OFFLINE, REFUSED, RETRY, MUTED, TROUBLE})

CONNECT_FOR_SPEECH = Connect(asked=False)
"""For a gate that opened. If a press opened it, that press has connected already."""

_ANSWERED = RESTING | {SPEAKING}

Row = tuple[State, tuple[Action, ...]]

_AT_REST: dict[type[Event], Row] = {
    Pressed: (LISTENING, (OpenGate(), Connect(), Play(Cue.LISTENING))),
    TalkStarted: (LISTENING, (CONNECT_FOR_SPEECH,)),
    TextTurn: (SENDING, (Connect(),)),
    Announcement: (SENDING, (Connect(),)),  # and nowhere else: it interrupts no turn
    AudioTurn: (SENDING, (Connect(),)),
    ReplyStarted: (SPEAKING, ()),  # a second part of the answer
    PlaybackStarted: (SPEAKING, ()),  # or the rest of one that seemed to have ended
    LinkUp: (REST, ()),
    LinkDown: (REST, ()),
    LinkIdle: (REST, ()),
    Refused: (REST, ()),
    DailyLimitReached: (REST, ()),
    MicrophoneEnded: (REST, ()),
    MicrophoneLost: (REST, ()),
    SpeakerLost: (REST, ()),
    Muted: (REST, ()),
}

_SETTLED: dict[type[Event], Row] = {
    **_AT_REST,
    ConfigRejected: (REST, ()),
    ConfigApplied: (REST, ()),
}

_DEAF: dict[type[Event], Row] = {
    **_SETTLED,
    TalkStarted: (REST, (ForgetTurn(), CloseGate())),  # the last frame before
    DeadlinePassed: (REST, (HangUp(),)),
}

_INTERRUPTED: dict[type[Event], Row] = {
    Pressed: (LISTENING, (InterruptReply(), OpenGate(), Connect(), Play(Cue.LISTENING))),
    TalkStarted: (LISTENING, (InterruptReply(), CONNECT_FOR_SPEECH)),
    TextTurn: (SENDING, (InterruptReply(), Connect())),
    AudioTurn: (SENDING, (InterruptReply(), Connect())),
}

_WAITING: dict[type[Event], Row] = {
    ReplyStarted: (SPEAKING, ()),
    PlaybackStarted: (SPEAKING, ()),
    ReplyEnded: (REST, ()),  # a reply without sound
    **_INTERRUPTED,
    StopAsked: (REST, (InterruptReply(), ForgetTurn())),
    Refused: (REST, (ForgetTurn(), Play(Cue.REFUSED))),
    DailyLimitReached: (REST, (ForgetTurn(), Play(Cue.CAP))),
}

_THINKING: dict[type[Event], Row] = {
    **_WAITING,
    LinkIdle: (REST, (Play(Cue.FAILED),)),  # the rest of the answer was to come over that connection
}

TRANSITIONS: dict[State, dict[type[Event], Row]] = {
    STARTING: {Started: (REST, ())},
    READY: {**_SETTLED, DeadlinePassed: (READY, (HangUp(),))},
    MISTAKE: {**_SETTLED, DeadlinePassed: (MISTAKE, (HangUp(),))},
    FOLLOW_UP: {**_AT_REST, DeadlinePassed: (REST, ()), StopAsked: (REST, ())},
    OFFLINE: _SETTLED,
    REFUSED: {
        **_SETTLED,
        TalkStarted: (REST, (ForgetTurn(), CloseGate())),  # the last frame before
        DeadlinePassed: (RETRY, ()),
    },
    RETRY: _SETTLED,
    MUTED: {**_DEAF, Pressed: (MUTED, (Play(Cue.MUTED),)), Unmuted: (REST, ())},
    TROUBLE: {**_DEAF, Pressed: (TROUBLE, (Play(Cue.TROUBLE),)), DeviceReady: (REST, ())},
    LISTENING: {
        TalkEnded: (SENDING, (Play(Cue.DONE),)),
        NoSpeech: (REST, ()),
        TurnEndedByService: (THINKING, (CloseGate(), Play(Cue.DONE))),
        ReplyStarted: (SPEAKING, (CloseGate(),)),  # a service that does not say when it takes the turn
        Pressed: (LISTENING, (CloseGate(),)),  # tap, speak, tap
        Muted: (REST, (ForgetTurn(), CloseGate())),
        MicrophoneLost: (SENDING, ()),  # the gate ends what was said; see _row
        MicrophoneEnded: (REST, (CloseGate(),)),
        Refused: (REST, (ForgetTurn(), CloseGate(), Play(Cue.REFUSED))),
        DailyLimitReached: (REST, (ForgetTurn(), CloseGate(), Play(Cue.CAP))),
        DeadlinePassed: (REST, (ForgetTurn(), CloseGate(), Play(Cue.FAILED))),
    },
    SENDING: {
        **_WAITING,
        NoSpeech: (REST, ()),
        TurnAcknowledged: (THINKING, ()),
        TurnEndedByService: (THINKING, ()),
        DeadlinePassed: (REST, (InterruptReply(), ForgetTurn(), Play(Cue.OFFLINE))),
    },
    THINKING: {**_THINKING, DeadlinePassed: (LATE, (Play(Cue.WAITING),))},
    LATE: {**_THINKING, DeadlinePassed: (REST, (InterruptReply(), ForgetTurn(), Play(Cue.FAILED)))},
    SPEAKING: {
        PlaybackEnded: (FOLLOW_UP, ()),
        ReplyWithdrawn: (FOLLOW_UP, ()),
        **_INTERRUPTED,
        StopAsked: (REST, (InterruptReply(),)),
        SpeakerLost: (REST, (InterruptReply(),)),
        ToolCall: (SPEAKING, (Connect(),)),  # more of the answer is to come, over another connection if need be
    },
}
"""State, event -> next state, actions. An event without a row does nothing."""

WITHOUT_MICROPHONE: dict[type[Event], Row] = {
    Pressed: (REST, (InterruptReply(), ForgetTurn())),
    TalkStarted: (REST, (InterruptReply(), ForgetTurn(), CloseGate())),  # the last frame before
}
"""The rows in place of those that lead to LISTENING while the microphone is muted, lost or at its end."""

IN_ANY_STATE: dict[type[Event], tuple[Action, ...]] = {
    Muted: (Mute(True), Play(Cue.MUTED)),
    Unmuted: (Mute(False), Play(Cue.UNMUTED)),
    AlarmDue: (StartAlarm(),),
}
"""Further actions on these events, in any state."""

_STOPS_ALARM = (Pressed, TalkStarted, StopAsked, RingEnded)

REFUSED_S = 300.0
"""Seconds after a refusal in which speech alone does not connect: a new key may come, but not soon."""
DEFAULT_PATIENCE_S = 30.0
"""The default of ``service.patience_s``, P: how long an answer may take to begin."""
LISTENING_TIMEOUT_S, THINKING_TIMEOUT_S = 75.0, 8.0
"""Seconds before DeadlinePassed. The gate ends a turn at 60 s: LISTENING lasts longer only where it is stuck."""
SENDING_PART, PROGRESS_PART, TOTAL_PART = 1 / 2, 2.0, 4.0
"""Multiples of P: how long SENDING may take, how long a sign of progress prolongs the wait, and the longest wait. A
connection that answers pings while it becomes ready prolongs SENDING to P."""


def state_timeouts(patience_s: float = DEFAULT_PATIENCE_S) -> dict[State, float]:
    """Return the seconds before DeadlinePassed in the states of a turn."""
    return {
        LISTENING: LISTENING_TIMEOUT_S,
        SENDING: patience_s * SENDING_PART,
        THINKING: THINKING_TIMEOUT_S,
        LATE: patience_s - THINKING_TIMEOUT_S,
    }


MOODS = {state: state.value for state in State if state is not REST} | {
    RETRY: REFUSED.value,
    SENDING: THINKING.value,
    LATE: THINKING.value,
}
"""State -> what the light shows."""

_IDLE = (READY, MISTAKE, MUTED, TROUBLE)
"""States whose deadline closes an unused connection."""

_PORTS: dict[type[Event], Port] = {MicrophoneLost: Port.MICROPHONE, SpeakerLost: Port.SPEAKER}

_REST_AFTER = {LinkUp: READY, LinkIdle: READY, LinkDown: OFFLINE, Refused: REFUSED, DailyLimitReached: REFUSED}

_ABOUT_REPLIES = (
    ReplyStarted, ReplyText, ReplyProgress, ReplyEnded, ReplyWithdrawn, TurnAcknowledged, TurnEndedByService,
    PlaybackStarted, PlaybackEnded, ToolCall,
)  # fmt: skip
_WAITS = (SENDING, THINKING, LATE)
_LINK_GONE = (LinkDown, LinkIdle, Refused)
_NO_LINK = (LinkIdle, Refused, DailyLimitReached)
"""No connection is being made: the rest of an answer will not come."""


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """What begins a turn, and how long the conversation waits."""

    voice_starts: bool = False
    """Speech alone begins a turn."""
    voice_interrupts: bool = False
    """Speech alone interrupts a reply."""
    press_unmutes: bool = False
    """A press of the button unmutes: there is no other control for it."""
    follow_up_s: float = 0.0
    """Seconds after a reply in which speech alone begins a turn anyway."""
    idle_s: float | None = None
    """Seconds of rest that close the connection; None: never."""
    patience_s: float = DEFAULT_PATIENCE_S
    """``service.patience_s``."""


class Conversation:
    """The state machine. *muted* is how it starts. All methods belong to the main thread."""

    def __init__(self, policy: TurnPolicy, *, muted: bool = False) -> None:
        self.state = STARTING
        self.deadline: float | None = None
        """When DeadlinePassed is due, in seconds of the clock of ``now``."""
        self.tune(policy)
        self._rest = READY
        self.muted = muted
        self._refused_until = 0.0
        self._config_wrong = False
        self._ringing = False
        self._lost: set[str] = set()  # sound devices, by their thread
        self._begun = False  # the gate has opened since the last press
        self._microphone_ended = False
        self._reply = ""  # the latest that has begun
        self._more = False  # another reply follows, when the tools have answered
        self._under_way = False  # the latest reply has not ended
        self._broken = False  # it ended incomplete, or its connection did
        self._asked_at = 0.0  # when the wait for an answer began
        self._prolonged_until = 0.0  # by signs of progress
        self._unconfirmed = 0  # interrupts; until the link confirms them, events about replies are about the old one

    def tune(self, policy: TurnPolicy) -> None:
        """Use *policy* from the next ConfigApplied on; a wait that has begun keeps its deadline."""
        self._policy = policy
        self._timeouts: dict[State, float | None] = {
            **state_timeouts(policy.patience_s),
            FOLLOW_UP: policy.follow_up_s or None,
            **dict.fromkeys(_IDLE, policy.idle_s),
        }

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one *event*; return its actions, in order."""
        if self._unconfirmed and isinstance(event, _ABOUT_REPLIES):
            return []
        if isinstance(event, PlaybackEnded) and event.reply != self._reply:
            return []  # another reply follows without a pause
        if isinstance(event, Pressed) and self.muted and self._policy.press_unmutes and not self._ringing:
            return self.handle(Unmuted(), now) + self.handle(event, now)
        stopped = self._stop_alarm(event)
        if isinstance(event, Pressed) and stopped:
            return stopped  # the press was meant for the alarm
        self._remember(event, now)
        self._prolong(event, now)
        lost = self._lose(event)
        # ForgetTurn comes before Mute, because the end of a turn would send it.
        actions = [*stopped, *self._move(event, now), *lost, *IN_ANY_STATE.get(type(event), ())]
        return [*actions, *self._apply_policy(now)] if isinstance(event, ConfigApplied) else actions

    def _apply_policy(self, now: float) -> list[Action]:
        if self.state in _IDLE:
            self._start_timeout(now)
        return [SetGateMode(self._gate_mode())]

    def _stop_alarm(self, event: Event) -> list[Action]:
        """Note an alarm that starts; return StopAlarm if *event* stops it."""
        if isinstance(event, AlarmDue):
            self._ringing = True
        elif self._ringing and isinstance(event, _STOPS_ALARM):
            self._ringing = False
            return [StopAlarm()]
        return []

    def _move(self, event: Event, now: float) -> list[Action]:
        """Take the transition of *event*; return its actions."""
        row = self._row(event)
        if row is None:
            return []
        old = self.state
        self.state, actions = self._resolve(row[0]), row[1]
        self._unconfirmed += actions.count(InterruptReply())
        unanswered = isinstance(event, ReplyEnded) and (event.problem or event.silent)
        if self.state in RESTING and (unanswered or (self._broken and isinstance(event, PlaybackEnded))):
            actions += (Play(Cue.FAILED),)
            self._broken = False
        return [*actions, *self._entered(old, event, now)]

    def _row(self, event: Event) -> Row | None:
        """Return the row for *event*."""
        row = TRANSITIONS[self.state].get(type(event))
        if row is not None and row[0] is LISTENING and self._deaf:
            to, actions = WITHOUT_MICROPHONE[type(event)]
            cue = (Play(Cue.TROUBLE if self._lost else Cue.MUTED),) if isinstance(event, Pressed) else ()
            return to, actions + cue
        if self.state is LISTENING and isinstance(event, MicrophoneLost) and not self._begun:
            return REST, (CloseGate(),)  # after the press no frame came: nothing will end the turn
        return row

    @property
    def _deaf(self) -> bool:
        """Whether the microphone delivers no speech."""
        return self._microphone_ended or self.muted or Port.MICROPHONE in self._lost

    def _lose(self, event: Event) -> list[Action]:
        """Note which devices are lost; return a cue for each loss."""
        if isinstance(event, DeviceReady):
            self._lost.discard(event.worker)
        elif isinstance(event, (MicrophoneLost, SpeakerLost)):
            known = len(self._lost)
            self._lost.add(_PORTS[type(event)])
            return [Play(Cue.TROUBLE)] if len(self._lost) > known else []
        return []

    def _remember(self, event: Event, now: float) -> None:
        self._rest = _REST_AFTER.get(type(event), self._rest)
        if isinstance(event, (Refused, DailyLimitReached)):
            self._refused_until = now + (event.retry_in if isinstance(event, Refused) else REFUSED_S)
        if isinstance(event, (Pressed, TalkStarted)):
            self._begun = isinstance(event, TalkStarted)
        if isinstance(event, MicrophoneEnded):
            self._microphone_ended = True
        elif isinstance(event, InterruptConfirmed):
            self._unconfirmed = max(0, self._unconfirmed - 1)
        elif isinstance(event, (Muted, Unmuted)):
            self.muted = isinstance(event, Muted)
        elif isinstance(event, (ConfigRejected, ConfigApplied)):
            self._config_wrong = isinstance(event, ConfigRejected)
        else:
            self._remember_reply(event)

    def _remember_reply(self, event: Event) -> None:
        """Note which reply plays, whether it is complete, and whether another one follows."""
        if isinstance(event, ReplyEnded):
            self._more, self._under_way, self._broken = event.more, False, bool(event.problem)
        elif isinstance(event, ReplyStarted):
            self._more, self._reply = False, event.reply
            self._under_way, self._broken = True, False
        elif isinstance(event, PlaybackStarted) and self.state is not SPEAKING:
            self._reply = event.reply
        elif isinstance(event, ToolCall):
            self._more = True  # unless the end of its reply says otherwise
        elif isinstance(event, (Pressed, TalkStarted, DeadlinePassed, StopAsked)):
            self._more = False
        elif isinstance(event, _NO_LINK):
            self._broken |= self._more and self.state is SPEAKING
            self._more = False
        if isinstance(event, _LINK_GONE):
            self._broken |= self._under_way
            self._under_way = False

    def _resolve(self, state: State) -> State:
        """Return the state that the destination *state* of a row stands for now."""
        if self._more and state in (REST, FOLLOW_UP):
            return THINKING
        deaf = self._deaf or bool(self._lost)
        if state is FOLLOW_UP and (self._timeouts[FOLLOW_UP] is None or deaf):
            state = REST
        if state is REST:
            rest = MISTAKE if self._config_wrong and self._rest is READY else self._rest
            return TROUBLE if self._lost else MUTED if self.muted else rest
        return state

    def _entered(self, old: State, event: Event, now: float) -> list[Action]:
        """Set the deadline; return the actions that depend on the states before and after alone."""
        if self.state is REFUSED:
            self.deadline = self._refused_until
        elif self.state is not old or isinstance(event, (ReplyEnded, TextTurn, AudioTurn)):
            self._set_deadline(old, now)
        elif isinstance(event, DeadlinePassed):
            self.deadline = None
        actions: list[Action] = []
        if self.state is not old:
            actions.append(SetGateMode(self._gate_mode()))
        if MOODS[self.state] != MOODS[old]:
            actions.append(Show(MOODS[self.state]))
        if self.state in _ANSWERED and (old not in _ANSWERED or (old is SPEAKING and self.state in RESTING)):
            actions.append(ReleaseConnection())
        elif self.state is THINKING and old in _ANSWERED:
            actions.append(Connect())  # the rest of the answer is to come, over another connection if need be
        if self._microphone_ended and self.state in RESTING:
            actions.append(Finish())
        return actions

    def _start_timeout(self, now: float) -> None:
        seconds = self._timeouts.get(self.state)
        self.deadline = None if seconds is None else now + seconds

    def _set_deadline(self, old: State, now: float) -> None:
        self._start_timeout(now)
        if self.state is SENDING or self.state is old or old not in _WAITS:
            self._asked_at, self._prolonged_until = now, 0.0
        elif self.state is LATE and self.deadline is not None:
            self.deadline = max(self.deadline, self._prolonged_until)

    def _prolong(self, event: Event, now: float) -> None:
        """Prolong the wait on a sign of progress, up to a limit."""
        if self.state not in _WAITS or not isinstance(event, (ReplyText, ReplyProgress)):
            return
        if self.state is SENDING and isinstance(event, ReplyProgress):
            self._prolonged_until = self._asked_at + self._policy.patience_s
        else:
            limit = self._asked_at + TOTAL_PART * self._policy.patience_s
            self._prolonged_until = min(now + PROGRESS_PART * self._policy.patience_s, limit)
        if self.state is not THINKING and self.deadline is not None:
            self.deadline = max(self.deadline, self._prolonged_until)

    def _gate_mode(self) -> GateMode:
        match self.state:
            case State.SENDING | State.THINKING | State.LATE | State.SPEAKING:
                return GateMode.VOICE if self._policy.voice_interrupts else GateMode.BUTTON
            case State.FOLLOW_UP:
                return GateMode.VOICE
            case State.REFUSED:
                return GateMode.BUTTON
            case _:
                return GateMode.VOICE if self._policy.voice_starts else GateMode.BUTTON
