"""When a card moves on: it moves in steps that keep time, and is to be asked just after each of them.

A step rarely has the length that one expects, a sound server's least of all, and now and then one is late, which says
nothing of the next. So we look a step after we last looked, somewhat earlier or later, by whether it was there at once.
In the long run that is just after nearly all of them have come: one question a step, and hardly a wait for what is
there already.
"""

from __future__ import annotations

import math

EARLIER_S, GROWTH = 1e-5, 1.1
"""A step that was there when we looked may have been there for long: the next time we look so much earlier, and ever
more so until one is not there yet. Clocks drift by less; a step that comes half a period earlier is found in a second.
"""
LATER_S = 1e-4
"""And so much later when it was not there yet. Of ten steps nine are there at the first look, for a tenth of a
millisecond."""
LATE_S, FORGOTTEN = 2e-3, 0.95
"""Who woke so late lately looks as much earlier, though it be in vain: a card holds no more than two or three steps.
By so much it is forgotten with each step."""
LONGER = 0.25
"""How much longer the next wait is, for each second that a step is late already."""
LEARNED = 1 / 64
"""How much each step says of how long steps are."""
LONGEST = 4
"""Steps, of the length that we expected. What took longer was none: the card stood still."""


class Steps:
    """Says when to look next. Times are in seconds; belongs to one thread."""

    def __init__(self, length: float, shortest: float) -> None:
        """Steps are expected to last *length*; *shortest* is the shortest wait between two looks."""
        self._expected, self._shortest = length, shortest
        self._length = length  # as we know it by now
        self._due = 0.0  # when to look whether the next step has come
        self._came = 0.0
        self._earlier = EARLIER_S
        self._look: float | None = None  # when we meant to look again, since it had not come by then
        self._late = 0.0  # how late we looked lately, at the latest

    def begin(self, now: float) -> None:
        """The card begins to move."""
        self._due, self._came, self._earlier, self._look, self._late = now, 0.0, EARLIER_S, None, 0.0

    def until(self, now: float) -> float:
        """Return how long to wait before the first look for the next step; 0 or less: not at all."""
        return self._due - now - (self._late if self._late > LATE_S else 0.0)

    def pause(self, now: float, begun: float) -> float:
        """There is no step yet, and somebody has waited for it since *begun*: return how long to wait before the next
        look."""
        pause = max(self._shortest, LONGER * (now - max(begun, self._due)))
        if now < self._due:
            return max(pause, self._due - now)
        self._look = now + pause
        return pause

    def came(self, now: float) -> None:
        """There is a step that somebody waited for: learn from it when the next one will come."""
        self._due = min(self._due, now)
        came = self._due if self._look is None else self._look  # by what we meant: how late we woke is not its fault
        took, self._came = came - self._came, came
        self._late = max(FORGOTTEN * self._late, min(now - came, self._length))
        if took < LONGEST * self._expected:
            self._length += LEARNED * (took - self._length)
        if self._look is None:
            self._due -= self._earlier
            self._earlier = min(GROWTH * self._earlier, self._length / 4)
        elif came - self._due < self._length / 2:
            self._due += self._earlier + LATER_S
            self._earlier = EARLIER_S
        else:
            self._due = came  # it keeps another time now
        self._due += self._length * max(1, math.ceil((now - self._due) / self._length))
        self._look = None
