"""How long a service may be silent that owes us a reply. A peer that answers pings is connected, and may be dead."""

from __future__ import annotations

from ..errors import LinkLost

UNTAKEN_S = 8.0
"""A service that says nothing at all for so long after a whole turn went up is gone."""
UNANSWERED_S = 15.0
"""A service that took the turn, does not begin to reply and says nothing else for so long is gone: half of what the
conversation waits for at most, so that the turn may be tried elsewhere."""


class Unanswered(LinkLost):
    """The service is connected and does not answer: another one may."""


class Patience:
    """Watches one service. Times are seconds of any monotonic clock; *name* is what errors call the service."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: float | None = None  # how long it may take from now on; only the next tick knows when "now" is
        self._until: float | None = None
        self._limit = 0.0
        self._taken = False

    def ask(self, limit: float) -> None:
        """A turn went up whole, just now; its first word is owed within *limit* seconds.

        To send it may have taken long: the time runs from the next ``check`` on.
        """
        self._asked, self._until, self._taken = limit, None, False

    def heard(self, now: float, *, owed: bool) -> None:
        """The service said something that is no mere sign of life; *owed*: and a reply has still to begin."""
        self._asked, self._until, self._taken = None, None, True
        if owed:
            self._limit, self._until = UNANSWERED_S, now + UNANSWERED_S

    def deadline(self, now: float) -> float | None:
        """When to call ``check``."""
        return now if self._asked is not None else self._until

    def check(self, now: float) -> None:
        """Raise Unanswered where it has been silent for too long."""
        if self._asked is not None:
            self._limit, self._until, self._asked = self._asked, now + self._asked, None
        if self._until is not None and now >= self._until:
            self._until = None
            failure = "began no reply" if self._taken else "did not take the turn"
            raise Unanswered(f"{self._name} {failure} within {self._limit:g} s")
