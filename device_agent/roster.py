"""Which of several services to try next."""

from __future__ import annotations

from .backoff import backoff, calm

GOOD_S = 60.0
"""A connection that lasted so long was a good one: the next failure is the first again."""
AWAY_S = 300.0
"""How long a service that failed is passed over while another one works; then the first is tried again."""


class Roster:
    """Decides who is dialled, and when. Belongs to the link's thread; knows services by their number, first choice 0.

    A failure moves on to the next service at once; when each has failed in a row, there is a pause and the first is
    next again.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._current = 0
        self._failed = 0  # so many in a row
        self._connected = False  # the current one had been reached
        self._left_first = 0.0  # when the first was given up
        self._delays, self._calm = backoff(), calm()

    def choose(self, now: float) -> int:
        """Return whom to dial."""
        if self._current and now - self._left_first >= AWAY_S:
            self._current = 0
        return self._current

    def worked(self, lasted: float) -> None:
        """A connection came about, and ended after *lasted* seconds as connections do."""
        self._failed, self._connected = 0, True
        if lasted >= GOOD_S:
            self.relent()

    def failed(self, now: float, retry_after: float = 0.0, *, mute: bool = False, awaited: bool = True) -> float:
        """The current one was lost, refused, or not reached: return how many seconds to wait before ``choose``.

        Who was reached is tried again, after a pause; who was not, or was *mute* when it had to answer, is passed over.
        The pause is longer where the connection is not *awaited* by anybody. *retry_after* is what the service asks
        for; to that comes the pause, because it asks everybody for the same.
        """
        reached, self._connected = self._connected and not mute, False
        if reached:
            return retry_after + next(self._delays if awaited else self._calm)
        if self._current == 0:
            self._left_first = now
        self._current = (self._current + 1) % self._count
        self._failed += 1
        if self._failed < self._count:
            return 0.0
        self._failed, self._current = 0, 0
        return retry_after + next(self._delays if awaited else self._calm)

    def relent(self) -> None:
        """Somebody speaks, or all went well: the pauses begin short again."""
        self._delays, self._calm = backoff(), calm()

    @property
    def others(self) -> bool:
        """Whether there is somebody else to try."""
        return self._count > 1
