"""A counter that shows whether a thread makes progress."""

from __future__ import annotations


class Heartbeat:
    """Shows from outside whether a thread gets on with its work. The worker beats and rests; the owner checks."""

    def __init__(self) -> None:
        self._beats = self._seen = 0
        self._resting = True  # waiting for work is no standstill
        self._since = 0.0

    def beat(self) -> None:
        """The worker did a piece of work and begins the next."""
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
