"""When a card moves on: it moves in steps that keep time, and is to be asked just after each of them.

How much sound has moved says how much time has passed for the card, whatever the length of its steps, which is rarely
what one expects, a sound server's least of all. So we know when the step that brings enough should come, and look then,
somewhat earlier or later by whether the last ones were there at once. In the long run that is just after nearly all of
them have come: one question a step, and hardly a wait for what is there already. One that is late says nothing of the
next.
"""

from __future__ import annotations

import math
from collections import deque

MIN_ADVANCE_S, ADVANCE_GROWTH = 1e-5, 1.1
"""A step that was there when we looked may have been there for long: the next time we look so much earlier, and ever
more so until one is not there yet. Clocks drift by less; a step that comes half a period earlier is found in a second.
"""
RETREAT_S = 1e-4
"""And so much later when it was not there yet. Of ten steps nine are there at the first look, for a tenth of a
millisecond."""
MIN_LATENESS_S, LATENESS_DECAY = 2e-3, 0.95
"""Who woke so late lately looks as much earlier, though it be in vain: a card holds no more than two or three steps.
By so much it is forgotten with each step."""
PAUSE_GROWTH = 0.25
"""How much longer the next wait is, for each second that a step is late already."""
REMEMBERED_MOVES = 16
"""A step is what divides all that moved between two looks, lately: it is seldom a single one. Periods of 20 ms out of
steps of 512 samples at 48 kHz take two of them at once, but for each eighth."""


class PeriodEstimator:
    """Says when to look next. Times are in seconds, sound is in samples; belongs to one thread."""

    def __init__(self, shortest: float) -> None:
        """*shortest* is the shortest wait between two looks."""
        self._shortest = shortest
        self._rate = 1
        self._period = 1.0
        self._step = 1  # as we know it by now
        self._moves: deque[int] = deque(maxlen=REMEMBERED_MOVES)
        self._last = 0.0  # when the last step came that was enough
        self._due = 0.0  # when to look whether the next one has
        self._earlier = MIN_ADVANCE_S
        self._look: float | None = None  # when we meant to look again, since it had not come by then
        self._vain = 0.0  # when it had not
        self._late = 0.0  # how late we looked lately, at the latest
        self._searching = True  # it may keep another time than before: look closely

    def begin(self, now: float, rate: int, period: int) -> None:
        """The card begins to move, at *rate*, by a *period* at once if it does what it was told.

        It is to be asked at once, for an output has room.
        """
        self._rate, self._period, self._step = rate, period / rate, period
        self._moves.clear()
        self._moves.append(period)  # for an output takes all that it holds at first
        self._last, self._searching = now - self._period, True
        self._earlier, self._late = MIN_ADVANCE_S, 0.0

    def until(self, now: float, sound: int) -> float:
        """Return how long to wait before the first look whether so much *sound* has moved since the last step that was
        enough; 0 or less: not at all."""
        self._look = None
        self._due = self._last + math.ceil(sound / self._step) * self._step / self._rate
        return self._due - now - (self._late if self._late > MIN_LATENESS_S else 0.0)

    def pause(self, now: float, begun: float) -> float:
        """It has not, and somebody has waited for it since *begun*: return how long to wait before the next look."""
        pause = max(self._shortest, PAUSE_GROWTH * (now - max(begun, self._due)))
        if now < self._due:
            return max(pause, self._due - now)
        self._look, self._vain = now + pause, now
        return pause

    def came(self, now: float, moved: int) -> None:
        """It has, and somebody waited for it; it was as much as *moved*: learn from it when the next one will come."""
        due = min(self._last + moved / self._rate, now)
        came = due if self._look is None else self._look  # by what we meant: how late we woke is not its fault
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
        else:  # it stood still; mostly it goes on as if it had not
            self._searching = True
            self._last = due + math.floor((came - due) * self._rate / self._step) * self._step / self._rate
        self._moves.append(moved)
        self._step = math.gcd(*self._moves)
