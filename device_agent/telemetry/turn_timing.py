"""Turn timing: the parts of each turn, and the latency from the end of speech to the first sound."""

from __future__ import annotations

import logging
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter

from ..core.actions import Connect, Cue, InterruptReply, Play, Show
from ..core.conversation import RESTING, State
from ..core.events import (
    AudioTurn,
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
from ..core.transition import Transition

log = logging.getLogger(__name__)

MAX_TURNS = 100
"""Turns that are kept, the latest."""
MAX_PARTS = 40
"""Parts of one turn: an answer that calls tools again and again has many."""

LISTENING_PART, SILENCE, SERVICE = "listening", "silence", "service"
LOUDSPEAKER, SPEAKING_PART = "loudspeaker", "speaking"
"""Parts of a turn: speech, the silence that ends it, the wait for the service, for the loudspeaker, the reply."""
OPEN, ANSWERED, INTERRUPTED, GIVEN_UP = "open", "answered", "interrupted", "given up"
NOTHING_SAID, DROPPED = "nothing said", "dropped"
"""Outcomes of a turn. Dropped: the user wants it no more."""

NO_ANSWER = frozenset({Cue.FAILED, Cue.OFFLINE, Cue.REFUSED, Cue.CAP})
"""Cues that mean that no answer will come."""
REPLY_STATES = frozenset({State.THINKING, State.LATE, State.SPEAKING})
"""States after an event about the reply that is awaited. In another state it is about a reply that was cut."""

STEPS = {
    "end_of_turn": ("device", "end of speech to end of turn (silence_ms)"),
    "acknowledged": ("service", "end of turn to acknowledged by the service"),
    "first_sound": ("service", "to the first sound of the reply arriving"),
    "loudspeaker": ("device", "to the first sound at the loudspeaker"),
    "whole": ("whole", "end of speech to first sound"),
}
"""Parts of the wait for an answer: where the time is spent, and a description."""


@dataclass
class TurnTimes:
    """Times of the steps of one turn, in seconds of the monotonic clock; None for a step that has not happened."""

    began: float = 0.0
    ended: float | None = None
    silence: float = 0.0
    """Seconds of silence after which the end of the turn was known: the speech ended so much earlier."""
    received: float | None = None
    reply_arrived: float | None = None
    reply_sounded: float | None = None
    over: float | None = None
    outcome: str = OPEN
    parts: list[tuple[float, str]] = field(default_factory=list)
    """Begin and name of each part, in order."""

    def waits(self) -> dict[str, float]:
        """Return the wait from the end of speech to the first sound in seconds, by the names of STEPS."""
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
        """Return ``waits`` by the descriptions of STEPS."""
        return [(STEPS[name][1], seconds) for name, seconds in self.waits().items()]

    def segments(self, now: float) -> list[tuple[str, float]]:
        """Return the parts, and how many seconds each lasted, or has lasted at *now*."""
        ends = [at for at, _ in self.parts[1:]] + [now if self.over is None else self.over]
        return [(part, max(0.0, end - at)) for (at, part), end in zip(self.parts, ends, strict=True)]

    def begin(self, part: str, now: float) -> None:
        """Begin *part*, unless it goes on already or the turn is over."""
        if self.over is None and len(self.parts) < MAX_PARTS and self.part != part:
            insort(self.parts, (now, part), key=itemgetter(0))

    @property
    def said(self) -> bool:
        """Whether the user has said all of it."""
        return self.part not in {"", LISTENING_PART}

    @property
    def part(self) -> str:
        """The latest part."""
        return self.parts[-1][1] if self.parts else ""

    def end(self, outcome: str, now: float) -> None:
        """End the turn, unless it is over."""
        if self.over is None:
            self.over, self.outcome = now, outcome


class TurnTimer:
    """Observer that keeps the times of the last turns, and logs one line about each answer. For the main thread."""

    def __init__(self) -> None:
        self.turns: deque[TurnTimes] = deque(maxlen=MAX_TURNS)
        self.sounded = 0
        """Turns that were answered by sound."""

    @property
    def turn(self) -> TurnTimes | None:
        """The latest turn."""
        return self.turns[-1] if self.turns else None

    def renew(self) -> None:
        """Drop the open turn: another agent is observed from now on."""
        if self.turn is not None and self.turn.over is None:
            self.turn.end(DROPPED, max(self.turn.parts)[0])

    def __call__(self, step: Transition) -> None:
        match step.event:
            case TalkStarted():
                self._begin(LISTENING_PART, step.now)
            case TextTurn() | AudioTurn() if Connect() in step.actions:
                self._begin(SERVICE, step.now)
        if self.turn is not None and self.turn.over is None:
            self._note_event(self.turn, step)
            self._note_outcome(self.turn, step)

    def _begin(self, part: str, now: float) -> None:
        if self.turn is not None:
            self.turn.end(_stopped(self.turn), now)
        self.turns.append(TurnTimes(now, parts=[(now, part)]))

    def _note_event(self, turn: TurnTimes, step: Transition) -> None:
        now = step.now
        match step.event:
            case TalkEnded(silence) if turn.ended is None:
                turn.ended, turn.silence = now, silence
                insort(turn.parts, (max(turn.began, now - silence), SILENCE), key=itemgetter(0))
                turn.begin(SERVICE, now)
            case NoSpeech():
                turn.end(NOTHING_SAID, now)
            case TurnAcknowledged() | TurnEndedByService() if turn.received is None and step.after in REPLY_STATES:
                turn.received = now
                turn.begin(SERVICE, now)
            case ReplyStarted() if step.after in REPLY_STATES:
                turn.reply_arrived = turn.reply_arrived or now
                if turn.part != SPEAKING_PART:
                    turn.begin(LOUDSPEAKER, now)
            case PlaybackStarted() if step.after in REPLY_STATES:
                turn.begin(SPEAKING_PART, now)
                self._note_sound(turn, now)

    def _note_sound(self, turn: TurnTimes, now: float) -> None:
        if turn.reply_sounded is None:
            turn.reply_sounded = now
            self.sounded += 1
            if steps := turn.steps():
                log.info("%s", "; ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in steps))

    def _note_outcome(self, turn: TurnTimes, step: Transition) -> None:
        if any(isinstance(action, Play) and action.cue in NO_ANSWER for action in step.actions):
            turn.end(GIVEN_UP, step.now)
        if InterruptReply() in step.actions and not isinstance(step.event, TalkStarted | TextTurn | AudioTurn):
            turn.end(DROPPED if isinstance(step.event, SpeakerLost) else _stopped(turn), step.now)
        if Show("thinking") in step.actions:
            turn.begin(SERVICE, step.now)  # once more, after a tool
        if step.after in RESTING:
            answered = turn.reply_sounded is not None or isinstance(step.event, ReplyEnded)
            turn.end(ANSWERED if answered else DROPPED, step.now)


def _stopped(turn: TurnTimes) -> str:
    """Return the outcome of a turn that the user ends now."""
    return INTERRUPTED if turn.part in {LOUDSPEAKER, SPEAKING_PART} else DROPPED
