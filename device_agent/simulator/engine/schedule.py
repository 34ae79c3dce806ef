"""Timed steps of one session, without a clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Step = Callable[[], None]

MAX_STEPS = 50_000


class Schedule:
    """Steps and when each is due; steps of the same time run in the order in which they were added."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, int, object, Step]] = []
        self._order = itertools.count()

    @property
    def due(self) -> float | None:
        """When the next step is due."""
        return self._steps[0][0] if self._steps else None

    def add(self, due: float, step: Step, owner: object = None) -> None:
        """Let *step* be run at *due*, unless *owner* is cancelled before. With too many steps the next is run early."""
        if len(self._steps) >= MAX_STEPS:
            self.take()()
        heapq.heappush(self._steps, (due, next(self._order), owner, step))

    def cancel(self, owner: object) -> None:
        """Remove the steps of *owner*."""
        self._steps = [each for each in self._steps if each[2] is not owner]
        heapq.heapify(self._steps)

    def take(self) -> Step:
        """Remove the next step and return it."""
        return heapq.heappop(self._steps)[3]
