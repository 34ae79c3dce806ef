"""Jitter estimator: how long a reply is prebuffered, so that it does not fall silent in the middle.

A piece of a reply is *late* by as much as it comes after the moment it is due when the first piece sounds at once. From
a service that sends faster than real time every piece is early, and nothing has to wait. Where pieces come in real
time, and some of them late, the beginning waits for as long as the latest of them was late.
"""

from __future__ import annotations

from collections import deque

DEFAULT_PREFILL_S = 0.1  # of a reply that must be there, or that it waits for, until enough replies are known
LEARNED_AFTER_REPLIES = 4
REMEMBERED_REPLIES = 16  # with fewer, one that was lucky makes the next prefills too short
MAX_PREFILL_S = 0.4  # what is later than that is no jitter but a pause: it teaches nothing
PREFILL_MARGIN_S = 0.02  # more than what was seen: threads are late as well, and a card takes a period at a time

EARLIEST = float("-inf")


class JitterEstimator:
    """The least wait that would have held for each of the last replies. It grows at once, and shrinks over many."""

    def __init__(self, first: float = DEFAULT_PREFILL_S) -> None:
        """*first* is how many seconds of the first replies must be there."""
        self._first = first
        self._late: deque[float] = deque(maxlen=REMEMBERED_REPLIES)
        self._late_now = EARLIEST  # of the reply under way

    @property
    def wait(self) -> float:
        """Seconds from the first piece of a reply to its first sound: 0 to MAX_PREFILL_S."""
        return min(MAX_PREFILL_S, max(0.0, PREFILL_MARGIN_S + max([self._late_now, *self._late])))

    @property
    def least(self) -> float:
        """Seconds of a reply that must be there, unless that takes longer than so many seconds."""
        return self._first if len(self._late) < LEARNED_AFTER_REPLIES else 0.0

    def came(self, late: float) -> None:
        """Take how late the latest piece of the reply under way was, in seconds; negative: early."""
        self._late_now = max(self._late_now, late)

    def ended(self, late: float) -> None:
        """A reply is over, the latest piece of which was late by so many seconds."""
        self._late.append(late)
        self._late_now = EARLIEST


class ArrivalLog:
    """When the pieces of one reply came. Times are those of one clock, lengths those of sound; both in seconds."""

    def __init__(self) -> None:
        self._begun = 0.0  # when it would have begun if it had sounded at once
        self._length = 0.0  # of all that came
        self._first = self._behind = 0.0  # of the first piece since it was last begun, of all behind that
        self.late: float | None = None
        """How late the latest piece was, negative where even that was early; None: there was no second one."""

    def came(self, length: float, now: float, *, silent: bool = False) -> None:
        """A piece came; *silent* says that the last of what came before has been heard already."""
        late = now - self._begun - self._length
        if not self._length or late > MAX_PREFILL_S:
            self._begun, silent = now - self._length, True
        else:
            self.late = late if self.late is None else max(self.late, late)
        if silent:
            self._first, self._behind = length, 0.0
        else:
            self._behind += length
        self._length += length

    def due(self, read: float, wait: float, least: float = 0.0) -> float:
        """Return when the sound behind the first *read* seconds may be heard, where a beginning waits *wait*, and for
        *least* of it to be there. At once when as much as *wait* came behind the first piece: the buffer is safe."""
        held = max(0.0 if self._behind >= wait else wait, 0.0 if self._first + self._behind >= least else least)
        return self._begun + read + held if held else 0.0
