"""Failover: which of several services is tried next, and when. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

FAILED_SERVICE_AWAY_S = 300.0
"""A service that failed is passed over for so long while another one works; then it has its place again."""


@dataclass
class _Candidate:
    """State of one service. Times are in seconds of the clock that ``now`` is read from."""

    tried: bool = False  # in this round, without success
    away_until: float = -math.inf  # passed over while there is another one
    busy_until: float = -math.inf  # the service asked for time: nothing may connect before
    refused_until: float = -math.inf  # the service refused: only a request may connect before

    @property
    def closed_until(self) -> float:
        return max(self.busy_until, self.refused_until)


class Failover:
    """Knows services by their number, 0 is the first choice. Belongs to one ``LinkPolicy``.

    In a *round* each service is tried once, in the order of the configuration, recently failed ones last. A round ends
    with a connection, or when no other service can be tried now.
    """

    def __init__(self, count: int) -> None:
        self._candidates = [_Candidate() for _ in range(count)]

    def next(self, not_before: float, now: float) -> tuple[float, int]:
        """Return when to connect, not before *not_before*, and to which service."""
        return min(self._rank(number, each, max(not_before, now)) for number, each in self._open())[::2]

    def closed_until(self, number: int) -> float:
        """Return when service *number* may be connected to."""
        return self._candidates[number].closed_until

    def possible_at(self, now: float) -> float:
        """Return the earliest time at which any service may be connected to, *now* or later."""
        return max(now, min(each.closed_until for each in self._candidates))

    def alternative(self, number: int, now: float) -> bool:
        """Whether a service other than *number* may be connected to *now*."""
        others = (each for n, each in enumerate(self._candidates) if n != number)
        return any(each.closed_until <= now for each in others)

    def more(self, now: float) -> bool:
        """Whether a service may be connected to *now* that was not tried in this round."""
        return any(not each.tried and each.closed_until <= now for each in self._candidates)

    def begin_round(self) -> None:
        """Let every service be tried again."""
        for each in self._candidates:
            each.tried = False

    def forgive(self) -> None:
        """Forget refusals: a request tries every service once more."""
        for each in self._candidates:
            each.refused_until = -math.inf

    def worked(self, number: int) -> None:
        """Service *number* accepted a session."""
        self._candidates[number] = _Candidate()
        self.begin_round()

    def failed(self, number: int, now: float) -> None:
        """Service *number* was not reached, or was of no use: the others go before it."""
        each = self._candidates[number]
        each.tried, each.away_until = True, now + FAILED_SERVICE_AWAY_S

    def busy(self, number: int, until: float) -> None:
        """Service *number* asked for time *until* then."""
        self._candidates[number].busy_until = until

    def refused(self, number: int, until: float) -> None:
        """Service *number* refused: without a request it is not tried again before *until*."""
        self._candidates[number].refused_until = until

    def _open(self) -> list[tuple[int, _Candidate]]:
        numbered = list(enumerate(self._candidates))
        return [(number, each) for number, each in numbered if not each.tried] or numbered

    @staticmethod
    def _rank(number: int, each: _Candidate, not_before: float) -> tuple[float, bool, int]:
        at = max(not_before, each.closed_until)
        return at, each.away_until > at, number
