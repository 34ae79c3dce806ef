"""What is meant by the edges of a contact, and when a button that is held acts again.

Nothing here knows a pin, a thread or a clock: whoever watches the pin tells what it saw and when, calls again at the
``deadline``, and sees to it that two threads do not tell at once. Times are seconds of one clock, any clock.
"""

from __future__ import annotations

BOUNCE_S = 0.03
"""For how long a contact may bounce: after a change that is believed, others are not."""
SPIKE_S = 0.005
"""What is over before we could look was a spike on the wire, unless it lasted for so long."""
REPEAT_DELAY_S, REPEAT_INTERVAL_S, MAX_REPEATS = 0.5, 0.2, 50
"""A button that is held acts again after HELD_S and then every AGAIN_S, so many times at most: it may be stuck."""


class Debouncer:
    """A contact that bounces, and whether it is believed to be closed.

    The first edge counts at once, and those of the next BOUNCE_S do not; after that ``settle`` has the last word. An
    edge that was undone before anybody could look is a spike, or the machine was busy: then its length decides.
    """

    def __init__(self, closed: bool) -> None:
        self.closed = closed
        self.deadline: float | None = None
        """When to call ``settle``; None: there is nothing to settle."""
        self._deaf_until = float("-inf")
        self._doubted: float | None = None  # when an edge came that was undone when we looked

    def edge(self, closed: bool, at: float, still: bool) -> list[bool]:
        """An edge came, *at* this time; *still* says whether the pin is like that now. Return what to believe.

        That is nothing, or that it is closed (or open) now, or both: it was, and is no more.
        """
        doubted, self._doubted = self._doubted, None
        if at < self._deaf_until:
            return []
        if closed == self.closed:
            if doubted is None or at - doubted < SPIKE_S:
                return []
            return [*self._believe(not closed, doubted), *self._believe(closed, at)]
        if still:
            return self._believe(closed, at)
        self._doubted = at
        return []

    def settle(self, closed: bool, now: float) -> list[bool]:
        """The pin says *closed* now. Return what to believe, nothing before the deadline."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        return [] if closed == self.closed else self._believe(closed, now)

    def _believe(self, closed: bool, at: float) -> list[bool]:
        self.closed = closed
        self.deadline = self._deaf_until = at + BOUNCE_S
        return [closed]


class Repeat:
    """When a button that is held acts again."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        """When to call ``strike``; None: the button is up, or has acted often enough."""
        self._left = 0

    def hold(self, now: float) -> None:
        """The button went down."""
        self.deadline, self._left = now + REPEAT_DELAY_S, MAX_REPEATS

    def release(self) -> None:
        """The button came up."""
        self.deadline = None

    def strike(self, now: float) -> bool:
        """Return whether to act again now. What was missed while the machine slept is not made up for."""
        if self.deadline is None or now < self.deadline:
            return False
        self._left -= 1
        self.deadline = now + REPEAT_INTERVAL_S if self._left else None
        return True
