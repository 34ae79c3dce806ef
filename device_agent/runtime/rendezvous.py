"""A point where two threads wait for each other, for a bounded time."""

from __future__ import annotations

import threading
from contextlib import suppress


class Rendezvous:
    """Where two threads wait for each other, for a moment at most: then each goes on alone."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._barrier, self._seconds = threading.Barrier(2), seconds

    def call(self) -> None:
        """Begin anew, whatever became of the last meeting."""
        self._barrier.reset()

    def meet(self) -> None:
        """Wait until the other is here."""
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(self._seconds)
