"""Response timeout: how long a service that owes a reply may be silent. A peer that answers pings is connected, and may
be dead; or it is a server at home that loads a model.

All limits are parts of ``service.patience_s``, P: P/6 for the first word about a turn (5 s by default), so that another
connection may still take it within P/2; P/2 for a reply to begin if that was quick before, or if there is another
service to try, and 5/6 P if nothing is known, or if the service has not said a word yet; 2 P between two signs of work
once a reply has begun (words, events of tools); and TOTAL_PART times P for the whole of it. The conversation gives up a
little later, by the same numbers.
"""

from __future__ import annotations

from ..core.conversation import DEFAULT_PATIENCE_S, PROGRESS_PART, TOTAL_PART
from ..core.errors import LinkLost

ACCEPT_PART, QUICK_START_PART, SLOW_START_PART = 1 / 6, 1 / 2, 5 / 6
"""Parts of it, as above."""
SLOWDOWN_FACTOR = 4.0  # a reply may take so many times as long to begin as the slowest before it


class ResponseTimedOut(LinkLost):
    """The service is connected and does not answer; another one may."""


class ResponseTimeout:
    """Watchdog of one service, *name* in errors. *patience_s* is P; *acknowledges*: an event about a turn precedes its
    reply. Times are seconds of any monotonic clock. All methods belong to the link's thread."""

    def __init__(self, name: str, patience_s: float = DEFAULT_PATIENCE_S, *, acknowledges: bool = True) -> None:
        self._name, self._patience_s = name, patience_s
        self._to_take = ACCEPT_PART if acknowledges else QUICK_START_PART
        self.spoke = not acknowledges  # whether the service has sent anything on this connection
        self._sent = False  # a turn was sent, and only the next ``check`` knows when
        self._began: float | None = None  # when the turn that waits for its reply was sent
        self._until: float | None = None
        self._limit = 0.0
        self._failure = ""
        self._slowest = 0.0  # seconds that a reply took to begin

    def ask(self) -> None:
        """A whole turn was sent, which may have taken long: the time runs from the next ``check`` on."""
        self._sent, self._began, self._until = True, None, None

    def heard(self, now: float, *, owed: bool, works: bool, spare: bool = False) -> None:
        """The service sent more than a sign of life; *owed*: a reply has still to begin; *works*: one has begun, and is
        not audible yet; *spare*: another service may be tried in its place."""
        self.spoke = True
        began = self._began if self._began is not None else now
        if not owed and self._began is not None:
            self._slowest = max(self._slowest, now - self._began)
        if works:
            self._wait(now, PROGRESS_PART, "sent no more of its reply")
        elif owed:
            self._wait(now, self._to_begin(spare), "began no reply")
        else:
            self._until = None
        self._sent, self._began = False, began if owed or works else None
        if self._until is not None:
            self._until = min(self._until, began + TOTAL_PART * self._patience_s)

    def _to_begin(self, spare: bool) -> float:
        """Return the part of P that a reply may take to begin."""
        known = self._slowest > 0
        if spare or (known and self._slowest * SLOWDOWN_FACTOR <= QUICK_START_PART * self._patience_s):
            return QUICK_START_PART
        return SLOW_START_PART

    def _wait(self, now: float, part: float, failure: str) -> None:
        self._limit, self._failure = part * self._patience_s, failure
        self._until = now + self._limit

    def settle(self) -> None:
        """Nothing is owed any more."""
        self._sent, self._began, self._until = False, None, None

    def deadline(self, now: float) -> float | None:
        """When to call ``check``."""
        return now if self._sent else self._until

    def check(self, now: float) -> None:
        """Raise ResponseTimedOut if the service has been silent for too long."""
        if self._sent:
            self._sent, self._began = False, now
            self._wait(now, self._to_take if self.spoke else SLOW_START_PART, "did not accept the turn")
        if self._until is not None and now >= self._until:
            self.settle()
            raise ResponseTimedOut(f"{self._name} {self._failure} within {self._limit:g} s")
