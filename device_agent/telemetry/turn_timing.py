"""How long things took: what a user waits for, and what each turn was made of."""

from __future__ import annotations

import logging
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter

from ..core.actions import Action, Connect, Cue, ForgetTurn, InterruptReply, Play, Show
from ..core.conversation import MOODS, RESTING
from ..core.events import (
    AudioTurn,
    DeadlinePassed,
    Event,
    InterruptConfirmed,
    NoSpeech,
    PlaybackStarted,
    ReplyEnded,
    ReplyStarted,
    SpeakerLost,
    TalkEnded,
    TalkStarted,
    TextTurn,
    TurnAcknowledged,
    TurnEndedByService,
)

log = logging.getLogger(__name__)

MAX_TURNS = 100
"""How many of the last turns are remembered."""
MAX_PARTS = 40
"""Parts of one turn: an answer that calls tools again and again has many."""

LISTENING, SILENCE, SERVICE, LOUDSPEAKER, SPEAKING = "listening", "silence", "service", "loudspeaker", "speaking"
"""What a turn is made of: speech, the wait for more of it, the wait for the service, for the loudspeaker, the reply."""
REPLY = frozenset({LOUDSPEAKER, SPEAKING})
OPEN, ANSWERED, INTERRUPTED, GIVEN_UP = "open", "answered", "interrupted", "given up"
NOTHING_SAID, DROPPED = "nothing said", "dropped"
"""How a turn ended. Dropped: the user wanted it no more."""

NO_ANSWER = frozenset({Cue.FAILED, Cue.OFFLINE, Cue.REFUSED, Cue.CAP})
"""These cues say that there will be no answer."""
BUSY = frozenset(mood for state, mood in MOODS.items() if state not in RESTING)
"""Any other mood says that nobody speaks, and nobody waits for an answer."""

STEPS = {
    "end_of_turn": ("device", "end of speech to end of turn (silence_ms)"),
    "acknowledged": ("service", "end of turn to acknowledged by the service"),
    "first_sound": ("service", "to the first sound of the reply arriving"),
    "loudspeaker": ("device", "to the first sound at the loudspeaker"),
    "whole": ("whole", "end of speech to first sound"),
}
"""What a wait is made of: whose it is, and what it is called."""


@dataclass
class TurnTimes:
    """When the steps of one turn happened, in seconds of one clock; None where they did not."""

    began: float = 0.0
    ended: float | None = None
    silence: float = 0.0
    """The end of the turn was known only after so much silence: its speech ended so much earlier."""
    received: float | None = None
    reply_arrived: float | None = None
    reply_sounded: float | None = None
    over: float | None = None
    outcome: str = OPEN
    parts: list[tuple[float, str]] = field(default_factory=list)
    """When each part began, in order."""

    def waits(self) -> dict[str, float]:
        """Return what the wait from the end of speech to the first sound was made of, in seconds, by its STEPS."""
        if self.ended is None:
            return {}
        marks = {
            "end_of_turn": self.ended,
            "acknowledged": self.received,
            "first_sound": self.reply_arrived,
            "loudspeaker": self.reply_sounded,
        }
        waits, before = {}, self.ended - self.silence
        for name, mark in marks.items():
            if mark is not None:
                waits[name] = max(0.0, mark - before)
                before = max(before, mark)
        if self.reply_sounded is not None:
            waits["whole"] = self.reply_sounded - (self.ended - self.silence)
        return waits

    def steps(self) -> list[tuple[str, float]]:
        """Return the same for people."""
        return [(STEPS[name][1], seconds) for name, seconds in self.waits().items()]

    def segments(self, now: float) -> list[tuple[str, float]]:
        """Return the parts of the turn, and how many seconds each lasted, or lasts until *now*."""
        ends = [at for at, _ in self.parts[1:]] + [now if self.over is None else self.over]
        return [(part, max(0.0, end - at)) for (at, part), end in zip(self.parts, ends, strict=True)]

    def begin(self, part: str, now: float) -> None:
        """A part begins, unless it is what goes on already."""
        if len(self.parts) < MAX_PARTS and self.part != part:
            insort(self.parts, (now, part), key=itemgetter(0))

    @property
    def said(self) -> bool:
        """Whether the user has said all of it."""
        return self.part not in {"", LISTENING}

    @property
    def part(self) -> str:
        """What goes on."""
        return self.parts[-1][1] if self.parts else ""

    def end(self, outcome: str, now: float) -> None:
        """The turn is over."""
        if self.over is None:
            self.over, self.outcome = now, outcome


class TurnTimer:
    """Watches an agent: keeps the times of the last turns, and writes one line about each into the log.

    Belongs to the main thread.
    """

    def __init__(self) -> None:
        self.turns: deque[TurnTimes] = deque(maxlen=MAX_TURNS)
        self.sounded = 0
        """How many turns were answered by sound."""
        self._cause: Event | None = None  # the latest event: actions follow from it
        self._cuts = 0  # not confirmed: what is told about replies is about a dead one

    @property
    def turn(self) -> TurnTimes | None:
        """The latest turn."""
        return self.turns[-1] if self.turns else None

    def renew(self) -> None:
        """Another agent is watched from now on."""
        self._cause, self._cuts = None, 0
        if self.turn is not None and self.turn.over is None:
            self.turn.end(DROPPED, max(self.turn.parts)[0])

    def __call__(self, word: Event | Action, now: float) -> None:
        if isinstance(word, Event):
            self._cause = word
        match word:
            case TalkStarted():
                self._begin(LISTENING, now)
            case Connect() if isinstance(self._cause, TextTurn | AudioTurn):
                self._begin(SERVICE, now)
            case InterruptReply():
                self._cuts += 1
            case InterruptConfirmed():
                self._cuts = max(0, self._cuts - 1)
        if self.turn is not None and self.turn.over is None:
            self._mark(self.turn, word, now)

    def _begin(self, part: str, now: float) -> None:
        if self.turn is not None:
            self.turn.end(INTERRUPTED if self.turn.part in REPLY else DROPPED, now)
        self.turns.append(TurnTimes(now, parts=[(now, part)]))

    def _mark(self, turn: TurnTimes, word: Event | Action, now: float) -> None:
        match word:
            case TalkEnded(silence) if turn.ended is None:
                turn.ended, turn.silence = now, silence
                insort(turn.parts, (max(turn.began, now - silence), SILENCE), key=itemgetter(0))
                turn.begin(SERVICE, now)
            case TurnAcknowledged() | TurnEndedByService() | ReplyStarted() | PlaybackStarted() if not self._cuts:
                self._mark_answer(turn, word, now)
            case Action():
                self._mark_end(turn, word, now)
            case NoSpeech():
                turn.end(NOTHING_SAID, now)

    def _mark_answer(self, turn: TurnTimes, word: Event, now: float) -> None:
        match word:
            case TurnAcknowledged() | TurnEndedByService() if turn.received is None:
                turn.received = now
                turn.begin(SERVICE, now)
            case ReplyStarted():
                turn.reply_arrived = turn.reply_arrived or now
                if turn.part != SPEAKING:
                    turn.begin(LOUDSPEAKER, now)
            case PlaybackStarted():
                turn.begin(SPEAKING, now)
                if turn.reply_sounded is None:
                    turn.reply_sounded = now
                    self.sounded += 1
                    if steps := turn.steps():
                        log.info("%s", "; ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in steps))

    def _mark_end(self, turn: TurnTimes, word: Action, now: float) -> None:
        by_time = isinstance(self._cause, DeadlinePassed)
        match word:
            case Play(cue) if cue in NO_ANSWER:
                turn.end(GIVEN_UP, now)
            case InterruptReply() if not (by_time or isinstance(self._cause, TalkStarted | TextTurn | AudioTurn)):
                lost = isinstance(self._cause, SpeakerLost)
                turn.end(INTERRUPTED if turn.part in REPLY and not lost else DROPPED, now)
            case ForgetTurn() if isinstance(self._cause, TalkStarted):
                turn.end(DROPPED, now)  # nobody can be heard now
            case Show("thinking"):
                turn.begin(SERVICE, now)  # on, after a tool
            case Show(mood) if mood not in BUSY:
                answered = turn.reply_sounded is not None or isinstance(self._cause, ReplyEnded)
                turn.end(ANSWERED if answered else DROPPED, now)
