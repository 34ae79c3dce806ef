"""Period estimator: predicts when a sound card will have moved its next period, to be asked just after it.

How much sound has moved tells how much time has passed for the card, whatever its period, which is rarely the expected
one, least of all that of a sound server. The prediction is moved earlier or later by whether the last periods were
there at the first look. So in the long run one look per period, just after it, is enough.
"""

from __future__ import annotations

import math
from collections import deque

MIN_ADVANCE_S, ADVANCE_GROWTH = 1e-5, 1.1
"""A period that was there at the first look may have been there for long: the next look is so much earlier, and ever
more so until one is not there yet. Clocks drift by less."""
RETREAT_S = 1e-4  # later, after one that was not there yet: nine of ten are there at the first look, for 0.1 ms
MIN_LATENESS_S, LATENESS_DECAY = 2e-3, 0.95
"""A thread that woke so late looks so much earlier for a while: a card holds no more than two or three periods."""
PAUSE_GROWTH = 0.25  # of the next wait, for each second that a period is late already
REMEMBERED_MOVES = 16  # their greatest common divisor is the period: several may move between two looks


class PeriodEstimator:
    """Says when to look next. Times are in seconds, sound is in samples; belongs to one thread."""

    def __init__(self, shortest: float) -> None:
        """*shortest* is the shortest wait between two looks."""
        self._shortest = shortest
        self._rate = 1
        self._period = 1.0  # as told to the card, in seconds
        self._step = 1  # as known by now, in samples
        self._moves: deque[int] = deque(maxlen=REMEMBERED_MOVES)
        self._last = 0.0  # when the last period came that was enough
        self._due = 0.0  # when to look for the next one
        self._earlier = MIN_ADVANCE_S
        self._look: float | None = None  # when to look again after a look in vain
        self._vain = 0.0  # when that was
        self._late = 0.0  # how late looks were lately, at the latest
        self._searching = True  # the time of the periods may have changed: look closely

    def begin(self, now: float, rate: int, period: int) -> None:
        """The card starts, at *rate*, with a *period* of so many samples if it does what it was told. It is to be asked
        at once, because an output has room."""
        self._rate, self._period, self._step = rate, period / rate, period
        self._moves.clear()
        self._moves.append(period)  # because an output takes all that it holds at first
        self._last, self._searching = now - self._period, True
        self._earlier, self._late = MIN_ADVANCE_S, 0.0

    def until(self, now: float, sound: int) -> float:
        """Return how long to wait before the first look whether so much *sound* has moved since the last period that
        was enough; 0 or less: not at all."""
        self._look = None
        self._due = self._last + math.ceil(sound / self._step) * self._step / self._rate
        return self._due - now - (self._late if self._late > MIN_LATENESS_S else 0.0)

    def pause(self, now: float, begun: float) -> float:
        """It has not, and the caller has waited since *begun*: return how long to wait before the next look."""
        pause = max(self._shortest, PAUSE_GROWTH * (now - max(begun, self._due)))
        if now < self._due:
            return max(pause, self._due - now)
        self._look, self._vain = now + pause, now
        return pause

    def came(self, now: float, moved: int) -> None:
        """It has, after a wait, and *moved* so much: learn when the next one will come."""
        due = min(self._last + moved / self._rate, now)
        came = due if self._look is None else self._look  # as planned: that the thread woke late says nothing
        self._late = max(LATENESS_DECAY * self._late, min(now - came, self._period))
        if self._look is None:
            self._last = due - self._earlier
            self._earlier = min(ADVANCE_GROWTH * self._earlier, self._period / 4)
            self._searching = False
        elif self._searching:
            self._searching = came - self._vain > 2 * self._shortest
            self._last = self._vain if self._searching else came
        elif came - due < self._period / 2:
            self._last = due + self._earlier + RETREAT_S
            self._earlier = MIN_ADVANCE_S
        else:  # the card stood still; mostly its time goes on as before
            self._searching = True
            self._last = due + math.floor((came - due) * self._rate / self._step) * self._step / self._rate
        self._moves.append(moved)
        self._step = math.gcd(*self._moves)
