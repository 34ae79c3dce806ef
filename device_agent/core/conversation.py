"""Whose turn it is.

Everything that affects the state machine lives in this file, and nothing else does: no thread, no clock, no hardware.
Feed it what happened and when; it returns what to do. The diagram in docs/how-it-works.md is drawn from TRANSITIONS.

Being connected is not a state: most of the time no connection is needed. It only colours the rest between two turns,
so "back to rest" (REST) is READY, OFFLINE or REFUSED, whichever the link spoke of last; or MUTED; or TROUBLE; and in
place of READY it is MISTAKE while config.yaml says what cannot be.
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
    """Whose turn it is. The value is the word in the log."""

    STARTING = "starting"
    READY = "ready"
    MISTAKE = "mistake"
    """As ready as before an edit of config.yaml that cannot be."""
    FOLLOW_UP = "follow-up"
    OFFLINE = "offline"
    REFUSED = "refused"
    """No service takes us, so speech alone begins no turn."""
    RETRY = "retry"
    """The same, and so long ago that speech alone may try again."""
    MUTED = "muted"
    TROUBLE = "trouble"
    """The microphone or the loudspeaker is gone."""
    LISTENING = "listening"
    SENDING = "sending"
    THINKING = "thinking"
    LATE = "late"
    """Still thinking."""
    SPEAKING = "speaking"
    REST = "rest"
    """Only ever a destination: the state of rest that fits what the link said last."""


STARTING, READY, MISTAKE, FOLLOW_UP, OFFLINE, REFUSED, RETRY, MUTED, TROUBLE, *_TURNS = State
LISTENING, SENDING, THINKING, LATE, SPEAKING, REST = _TURNS

RESTING = frozenset({READY, MISTAKE, FOLLOW_UP, OFFLINE, REFUSED, RETRY, MUTED, TROUBLE})

NOTICED = Connect(asked=False)
"""Speech alone opened the gate. A press, whose frames follow it, has dialled before."""

_ANSWERED = RESTING | {SPEAKING}

Row = tuple[State, tuple[Action, ...]]

_PRESSED: Row = (LISTENING, (InterruptReply(), OpenGate(), Connect(), Play(Cue.LISTENING)))

_AT_REST: dict[type[Event], Row] = {
    Pressed: (LISTENING, (OpenGate(), Connect(), Play(Cue.LISTENING))),
    TalkStarted: (LISTENING, (NOTICED,)),
    TextTurn: (SENDING, (Connect(),)),
    Announcement: (SENDING, (Connect(),)),  # and nowhere else: it interrupts nobody
    AudioTurn: (SENDING, (Connect(),)),
    ReplyStarted: (SPEAKING, ()),  # a second part of the answer
    PlaybackStarted: (SPEAKING, ()),  # or the rest of one that was taken for over
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

_WAITING: dict[type[Event], Row] = {
    ReplyStarted: (SPEAKING, ()),
    PlaybackStarted: (SPEAKING, ()),
    ReplyEnded: (REST, ()),  # a reply without sound
    Pressed: _PRESSED,
    TalkStarted: (LISTENING, (InterruptReply(), NOTICED)),
    TextTurn: (SENDING, (InterruptReply(), Connect())),
    AudioTurn: (SENDING, (InterruptReply(), Connect())),
    StopAsked: (REST, (InterruptReply(), ForgetTurn())),
    Refused: (REST, (ForgetTurn(), Play(Cue.REFUSED))),
    DailyLimitReached: (REST, (ForgetTurn(), Play(Cue.CAP))),
}

_THINKING: dict[type[Event], Row] = {
    **_WAITING,
    LinkIdle: (REST, (Play(Cue.FAILED),)),  # the connection that the rest of an answer was to come over
}

TRANSITIONS: dict[State, dict[type[Event], Row]] = {
    STARTING: {
        Started: (REST, ()),
    },
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
        Pressed: _PRESSED,
        TalkStarted: (LISTENING, (InterruptReply(), NOTICED)),
        TextTurn: (SENDING, (InterruptReply(), Connect())),
        AudioTurn: (SENDING, (InterruptReply(), Connect())),
        StopAsked: (REST, (InterruptReply(),)),
        SpeakerLost: (REST, (InterruptReply(),)),
        ToolCall: (SPEAKING, (Connect(),)),  # more of the answer is to come, over another connection if need be
    },
}
"""In this state, on this event: the next state, and what to do. An event without a row does nothing."""

DEAF: dict[type[Event], Row] = {
    Pressed: (REST, (InterruptReply(), ForgetTurn())),
    TalkStarted: (REST, (InterruptReply(), ForgetTurn(), CloseGate())),  # the last frame before
}
"""What happens in place of LISTENING where the microphone is closed, gone or at its end: only a device that hears may
say that it listens."""

ANYWAY: dict[type[Event], tuple[Action, ...]] = {
    Muted: (Mute(True), Play(Cue.MUTED)),
    Unmuted: (Mute(False), Play(Cue.UNMUTED)),
    AlarmDue: (StartAlarm(),),
}
"""What to do on these events besides, whoever's turn it is."""

_HUSHED_BY = (Pressed, TalkStarted, StopAsked, RingEnded)

REFUSED_S = 300.0
"""Seconds after a refusal in which speech alone dials no more: a new key may come, but not soon."""
PATIENCE_S = 30.0
"""The usual ``service.patience_s``, P: how long an answer may take to begin."""
LISTENING_S, THINKING_S = 75.0, 8.0
"""Seconds these states may last before TimeUp. The gate ends a turn at 60 s: LISTENING only lasts longer when stuck."""
SENDING_P, WORKING_P, LIMIT_P = 1 / 2, 2.0, 4.0
"""Parts of P: how long a turn may take to reach the service, how long a sign of work prolongs the wait, and how long
the wait may become at most. A connection that answers pings while it becomes ready prolongs SENDING to P."""


def patience(patience_s: float = PATIENCE_S) -> dict[State, float]:
    """Return how many seconds a state may last before TimeUp, with this ``service.patience_s``."""
    return {
        LISTENING: LISTENING_S,
        SENDING: patience_s * SENDING_P,
        THINKING: THINKING_S,
        LATE: patience_s - THINKING_S,
    }


MOODS = {
    STARTING: "starting",
    READY: "ready",
    MISTAKE: "mistake",
    FOLLOW_UP: "follow-up",
    OFFLINE: "offline",
    REFUSED: "refused",
    RETRY: "refused",
    MUTED: "muted",
    TROUBLE: "trouble",
    LISTENING: "listening",
    SENDING: "thinking",
    THINKING: "thinking",
    LATE: "thinking",
    SPEAKING: "speaking",
}
"""What the light shows: a function of the state alone."""

_IDLE = (READY, MISTAKE, MUTED, TROUBLE)
"""Here the connection ends when nobody has needed it for a while."""

_DEVICES: dict[type[Event], str] = {MicrophoneLost: "microphone", SpeakerLost: "speaker"}

_LINK = {LinkUp: READY, LinkIdle: READY, LinkDown: OFFLINE, Refused: REFUSED, DailyLimitReached: REFUSED}

_ABOUT_REPLIES = (
    ReplyStarted, ReplyText, ReplyProgress, ReplyEnded, ReplyWithdrawn, TurnAcknowledged, TurnEndedByService,
    PlaybackStarted, PlaybackEnded, ToolCall,
)  # fmt: skip
_WAITS = (SENDING, THINKING, LATE)
_LINK_GONE = (LinkDown, LinkIdle, Refused)
_NO_LINK = (LinkIdle, Refused, DailyLimitReached)
"""What is still to come of an answer will not come: no connection is being made."""


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """What begins a turn, and how long the conversation waits."""

    voice_starts: bool = False
    voice_interrupts: bool = False
    press_unmutes: bool = False
    follow_up_s: float = 0.0
    """How long the microphone listens after a reply; 0: not at all."""
    idle_s: float | None = None
    """How long a connection stays open at rest; None: always."""
    patience_s: float = PATIENCE_S
    """``service.patience_s``."""


class Conversation:
    """Who speaks, and until when. All methods belong to the main thread.

    *voice_starts* and *voice_interrupts* say whether speech alone may begin a turn and cut a reply; *follow_up* is how
    many seconds after a reply it may although it does not begin turns otherwise; *idle* is how many seconds of quiet on
    both sides end the connection, None for never. *muted* is how it begins, and *press_unmutes* says whether a press
    then means that one wants to be heard: where there is nothing else to press.
    """

    def __init__(self, policy: TurnPolicy, *, muted: bool = False) -> None:
        self.state = STARTING
        self.deadline: float | None = None
        """When to feed it DeadlinePassed, in seconds of the clock that ``now`` is read from."""
        self.tune(policy)
        self._rest = READY
        self.muted = muted
        self._refused_until = 0.0
        self._mistaken = False  # config.yaml is
        self._ringing = False
        self._lost: set[str] = set()  # devices
        self._begun = False  # the gate has opened since the last press
        self._microphone_ended = False
        self._reply = ""  # the latest that has begun
        self._more = False  # the assistant will go on in another reply, when its tools have answered
        self._under_way = False  # the latest reply is not over yet
        self._broken = False  # it ended, or its connection did, before it was whole
        self._asked_at = 0.0  # when the wait for an answer began
        self._works_until = 0.0  # how long signs of work prolong it
        self._cuts = 0
        """Cuts that the link has not confirmed yet. Until it has, what is told about replies is about the dead one."""

    def tune(self, policy: TurnPolicy) -> None:
        """Follow another *policy*, from the next ConfigApplied on; a wait that has begun ends as it would have."""
        self._policy = policy
        self._patience: dict[State, float | None] = {
            **patience(policy.patience_s),
            FOLLOW_UP: policy.follow_up_s or None,
            **dict.fromkeys(_IDLE, policy.idle_s),
        }

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one *event*; return the actions it calls for, in order."""
        if self._cuts and isinstance(event, _ABOUT_REPLIES):
            return []
        if isinstance(event, PlaybackEnded) and event.reply != self._reply:
            return []  # another one follows without a pause
        if isinstance(event, Pressed) and self.muted and self._policy.press_unmutes and not self._ringing:
            return self.handle(Unmuted(), now) + self.handle(event, now)
        hushed = self._hush(event)
        if isinstance(event, Pressed) and hushed:
            return hushed  # that was what it was pressed for
        self._remember(event, now)
        self._prolong(event, now)
        lost = self._lose(event)
        # What goes up is forgotten before the microphone closes: the end of a turn would send it.
        actions = [*hushed, *self._move(event, now), *lost, *ANYWAY.get(type(event), ())]
        return [*actions, *self._retuned(now)] if isinstance(event, ConfigApplied) else actions

    def _retuned(self, now: float) -> list[Action]:
        """Go by the rules of ``tune``."""
        if self.state in _IDLE:
            patience = self._patience[self.state]
            self.deadline = None if patience is None else now + patience
        return [SetGateMode(self._attention())]

    def _hush(self, event: Event) -> list[Action]:
        """Return what ends an alarm that rings, if *event* does."""
        if isinstance(event, AlarmDue):
            self._ringing = True
        elif self._ringing and isinstance(event, _HUSHED_BY):
            self._ringing = False
            return [StopAlarm()]
        return []

    def _move(self, event: Event, now: float) -> list[Action]:
        """Follow the table; return what it says."""
        row = self._row(event)
        if row is None:
            return []
        old = self.state
        self.state, actions = self._resolve(row[0]), row[1]
        self._cuts += actions.count(InterruptReply())
        unanswered = isinstance(event, ReplyEnded) and (event.problem or event.silent)
        if self.state in RESTING and (unanswered or (self._broken and isinstance(event, PlaybackEnded))):
            actions += (Play(Cue.FAILED),)
            self._broken = False
        return [*actions, *self._entered(old, event, now)]

    def _row(self, event: Event) -> Row | None:
        """Return the row of the table for *event*."""
        row = TRANSITIONS[self.state].get(type(event))
        if row is not None and row[0] is LISTENING and self._deaf:
            to, actions = DEAF[type(event)]
            cue = (Play(Cue.TROUBLE if self._lost else Cue.MUTED),) if isinstance(event, Pressed) else ()
            return to, actions + cue
        if self.state is LISTENING and isinstance(event, MicrophoneLost) and not self._begun:
            return REST, (CloseGate(),)  # it was pressed, and no frame came: nothing will end the turn
        return row

    @property
    def _deaf(self) -> bool:
        """Whether nothing can be heard."""
        return self._microphone_ended or self.muted or "microphone" in self._lost

    def _lose(self, event: Event) -> list[Action]:
        """Remember which devices are gone; return the cue, once for each time that one goes."""
        if isinstance(event, DeviceReady):
            self._lost.discard(event.worker)
        elif isinstance(event, (MicrophoneLost, SpeakerLost)):
            known = len(self._lost)
            self._lost.add(_DEVICES[type(event)])
            return [Play(Cue.TROUBLE)] if len(self._lost) > known else []
        return []

    def _remember(self, event: Event, now: float) -> None:
        self._rest = _LINK.get(type(event), self._rest)
        if isinstance(event, (Refused, DailyLimitReached)):
            self._refused_until = now + (event.retry_in if isinstance(event, Refused) else REFUSED_S)
        if isinstance(event, (Pressed, TalkStarted)):
            self._begun = isinstance(event, TalkStarted)
        if isinstance(event, MicrophoneEnded):
            self._microphone_ended = True
        elif isinstance(event, InterruptConfirmed):
            self._cuts = max(0, self._cuts - 1)
        elif isinstance(event, (Muted, Unmuted)):
            self.muted = isinstance(event, Muted)
        elif isinstance(event, (ConfigRejected, ConfigApplied)):
            self._mistaken = isinstance(event, ConfigRejected)
        else:
            self._remember_reply(event)

    def _remember_reply(self, event: Event) -> None:
        """Note which reply is being heard, whether it is whole, and whether another one will follow."""
        if isinstance(event, ReplyEnded):
            self._more, self._under_way, self._broken = event.more, False, bool(event.problem)
        elif isinstance(event, ReplyStarted):
            self._more, self._reply = False, event.reply
            self._under_way, self._broken = True, False
        elif isinstance(event, PlaybackStarted) and self.state is not SPEAKING:
            self._reply = event.reply
        elif isinstance(event, ToolCall):
            self._more = True  # until the end of its reply says otherwise
        elif isinstance(event, (Pressed, TalkStarted, DeadlinePassed, StopAsked)):
            self._more = False
        elif isinstance(event, _NO_LINK):
            self._broken |= self._more and self.state is SPEAKING
            self._more = False
        if isinstance(event, _LINK_GONE):
            self._broken |= self._under_way
            self._under_way = False

    def _resolve(self, state: State) -> State:
        if self._more and state in (REST, FOLLOW_UP):
            return THINKING
        deaf = self._deaf or bool(self._lost)
        if state is FOLLOW_UP and (self._patience[FOLLOW_UP] is None or deaf):
            state = REST
        if state is REST:
            rest = MISTAKE if self._mistaken and self._rest is READY else self._rest
            return TROUBLE if self._lost else MUTED if self.muted else rest
        return state

    def _entered(self, old: State, event: Event, now: float) -> list[Action]:
        """What follows from being in a state, however we came there."""
        if self.state is REFUSED:
            self.deadline = self._refused_until
        elif self.state is not old or isinstance(event, (ReplyEnded, TextTurn, AudioTurn)):
            self._wait(old, now)
        elif isinstance(event, DeadlinePassed):
            self.deadline = None
        actions: list[Action] = []
        if self.state is not old:
            actions.append(SetGateMode(self._attention()))
        if MOODS[self.state] != MOODS[old]:
            actions.append(Show(MOODS[self.state]))
        if self.state in _ANSWERED and (old not in _ANSWERED or (old is SPEAKING and self.state in RESTING)):
            actions.append(ReleaseConnection())
        elif self.state is THINKING and old in _ANSWERED:
            actions.append(Connect())  # the rest of the answer is to come, over another connection if need be
        if self._microphone_ended and self.state in RESTING:
            actions.append(Finish())
        return actions

    def _wait(self, old: State, now: float) -> None:
        """Set the deadline of the state."""
        seconds = self._patience.get(self.state)
        self.deadline = None if seconds is None else now + seconds
        if self.state is SENDING or self.state is old or old not in _WAITS:
            self._asked_at, self._works_until = now, 0.0
        elif self.state is LATE and self.deadline is not None:
            self.deadline = max(self.deadline, self._works_until)

    def _prolong(self, event: Event, now: float) -> None:
        """A service that works may take longer, within a limit."""
        if self.state not in _WAITS or not isinstance(event, (ReplyText, ReplyProgress)):
            return
        if self.state is SENDING and isinstance(event, ReplyProgress):
            self._works_until = self._asked_at + self._policy.patience_s
        else:
            limit = self._asked_at + LIMIT_P * self._policy.patience_s
            self._works_until = min(now + WORKING_P * self._policy.patience_s, limit)
        if self.state is not THINKING and self.deadline is not None:
            self.deadline = max(self.deadline, self._works_until)

    def _attention(self) -> GateMode:
        match self.state:
            case State.SENDING | State.THINKING | State.LATE | State.SPEAKING:
                return GateMode.VOICE if self._policy.voice_interrupts else GateMode.BUTTON
            case State.FOLLOW_UP:
                return GateMode.VOICE
            case State.REFUSED:
                return GateMode.BUTTON
            case _:
                return GateMode.VOICE if self._policy.voice_starts else GateMode.BUTTON
