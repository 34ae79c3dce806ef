"""Debouncing of contacts, and key repeat. Pure: times are arguments, in seconds of one clock.

The caller watches the pin, reports edges with their times, calls again at the ``deadline``, and calls from one thread
at a time.
"""

from __future__ import annotations

BOUNCE_S = 0.03  # after a change that is believed, others are ignored for so long
SPIKE_S = 0.005  # what is over before it could be looked at was a spike on the wire, unless it lasted for so long
REPEAT_DELAY_S, REPEAT_INTERVAL_S = 0.5, 0.2
MAX_REPEATS = 50  # the button may be stuck


class Debouncer:
    """A contact that bounces, and whether it is believed to be closed.

    The first edge counts at once, and those of the next BOUNCE_S do not; after that ``settle`` decides. An edge that
    was undone before the pin was looked at is a spike, or the machine was busy: its length decides.
    """

    def __init__(self, closed: bool) -> None:
        self.closed = closed
        self.deadline: float | None = None  # when to call ``settle``
        self._deaf_until = float("-inf")
        self._doubted: float | None = None  # when an edge came that was undone when the pin was looked at

    def edge(self, closed: bool, at: float, still: bool) -> list[bool]:
        """Take an edge, *at* this time; *still*: the pin is like that now. Return the changes to believe, two where it
        has changed back."""
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
        """Take the state of the pin. Return the changes to believe, none before the deadline."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        return [] if closed == self.closed else self._believe(closed, now)

    def _believe(self, closed: bool, at: float) -> list[bool]:
        self.closed = closed
        self.deadline = self._deaf_until = at + BOUNCE_S
        return [closed]


class Repeat:
    """Key repeat: when a button that is held acts again."""

    def __init__(self) -> None:
        self.deadline: float | None = None  # when to call ``due``; None: the button is up, or has repeated enough
        self._left = 0

    def hold(self, now: float) -> None:
        """The button went down."""
        self.deadline, self._left = now + REPEAT_DELAY_S, MAX_REPEATS

    def release(self) -> None:
        """The button came up."""
        self.deadline = None

    def due(self, now: float) -> bool:
        """Return whether to act again now. Repeats that were missed while the machine slept are left out."""
        if self.deadline is None or now < self.deadline:
            return False
        self._left -= 1
        self.deadline = now + REPEAT_INTERVAL_S if self._left else None
        return True
