"""Heartbeat: progress counter of a thread, for the watchdog."""

from __future__ import annotations


class Heartbeat:
    """The worker thread calls ``beat`` and ``rest``; its owner calls ``stalled_for``."""

    def __init__(self) -> None:
        self._beats = self._seen = 0
        self._resting = True  # waiting for work is no stall
        self._since = 0.0

    def beat(self) -> None:
        """The worker has done a piece of work and begins the next."""
        self._beats += 1
        self._resting = False

    def rest(self) -> None:
        """The worker waits for work."""
        self._resting = True

    def stalled_for(self, now: float) -> float:
        """Return for how many seconds the worker has been busy without a beat, as far as calls of this method saw."""
        if self._resting or self._beats != self._seen or not self._since:
            self._seen, self._since = self._beats, now
        return now - self._since
