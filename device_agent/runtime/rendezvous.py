"""Rendezvous: barrier for two threads, with a timeout."""

from __future__ import annotations

import threading
from contextlib import suppress


class Rendezvous:
    """Two threads wait for each other, *seconds* at most; then each goes on alone."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._barrier, self._seconds = threading.Barrier(2), seconds

    def reset(self) -> None:
        """Prepare the next meeting, whatever became of the last one."""
        self._barrier.reset()

    def meet(self) -> None:
        """Wait until the other thread is here."""
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(self._seconds)
