"""How long things took: what a user waits for, turn by turn."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .events import (
    Action,
    Event,
    PlaybackStarted,
    ReplyStarted,
    TalkEnded,
    TalkStarted,
    TurnReceived,
    TurnTaken,
)

log = logging.getLogger(__name__)


@dataclass
class TurnTimes:
    """When the steps of one turn happened, in seconds of one clock; None where they did not."""

    ended: float | None = None
    silence: float = 0.0
    """The end of the turn was known only after so much silence: its speech ended so much earlier."""
    received: float | None = None
    reply_arrived: float | None = None
    reply_sounded: float | None = None

    def steps(self) -> list[tuple[str, float]]:
        """Return what the wait from the end of speech to the first sound was made of, in seconds."""
        if self.ended is None:
            return []
        marks = [
            ("end of speech to end of turn (silence_ms)", self.ended),
            ("end of turn to acknowledged by the service", self.received),
            ("to the first sound of the reply arriving", self.reply_arrived),
            ("to the first sound at the loudspeaker", self.reply_sounded),
        ]
        steps, before = [], self.ended - self.silence
        for name, mark in marks:
            if mark is not None:
                steps.append((name, max(0.0, mark - before)))
                before = max(before, mark)
        if self.reply_sounded is not None:
            steps.append(("end of speech to first sound", self.reply_sounded - (self.ended - self.silence)))
        return steps


class Stopwatch:
    """Watches an agent: keeps the times of the latest turn, and writes one line about each turn into the log."""

    def __init__(self) -> None:
        self.turn: TurnTimes | None = None

    def __call__(self, word: Event | Action, now: float) -> None:
        if isinstance(word, TalkStarted):
            self.turn = TurnTimes()
        elif self.turn is not None:
            self._mark(self.turn, word, now)

    def _mark(self, turn: TurnTimes, word: Event | Action, now: float) -> None:
        match word:
            case TalkEnded(silence) if turn.ended is None:
                turn.ended, turn.silence = now, silence
            case TurnReceived() | TurnTaken() if turn.received is None:
                turn.received = now
            case ReplyStarted() if turn.reply_arrived is None:
                turn.reply_arrived = now
            case PlaybackStarted() if turn.reply_sounded is None:
                turn.reply_sounded = now
                log.info("%s", "; ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in turn.steps()))
