"""Usage meter: connected seconds, today and in all, and the daily limit; most services charge by the minute.

On a board without a battery the clock is behind until the network sets it. So the seconds of several days are kept, and
those of a later day count on an earlier one, too, until the clock has shown that day for an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .store import StateStore

USAGE_SAVE_INTERVAL_S = 60.0  # what a power cut may cost; more often would wear out the card
CLOCK_TRUSTED_AFTER_S = 3600.0  # on the same day: the network would have set the clock by then
MAX_USAGE_DAYS = 4  # the days that the clock showed last
MAX_DATE_CHARS = 10  # 2026-11-30
MAX_USAGE_S = 1e9  # thirty years


class UsageMeter:
    """Counts the seconds between ``connected`` and ``disconnected``. Belongs to the main thread."""

    def __init__(self, store: StateStore, daily_minutes: int = 0) -> None:
        """*daily_minutes* is the limit of a day; 0: none."""
        self._store = store
        self.limit = 60.0 * daily_minutes
        """Seconds allowed on one day; 0: no limit. A change takes effect at once."""
        noted = store.get("connected", {})
        noted = noted if isinstance(noted, dict) else {}
        self.today, self.total = _seconds(noted.get("today")), _seconds(noted.get("total"))
        self._days = dict(_days(noted))
        self._day = ""  # that the clock shows
        self._shown: float | None = None  # since when; None: for long enough
        self._since: float | None = None
        self._unsaved = 0.0

    @property
    def spent(self) -> bool:
        """Whether the limit of today is used up."""
        return 0 < self.limit <= self.today

    def connected(self, now: float) -> None:
        """A connection begins."""
        if self._since is None:
            self._since = now

    def disconnected(self, now: float) -> None:
        """The connection is over, if there was one."""
        self._count(now)
        if self._since is not None:
            self._since = None
            self._save()

    def look(self, day: str, now: float) -> None:
        """Count up to *now*; *day* is the date of today, in a form that sorts."""
        self._count(now)
        if day != self._day:
            self._turn_to(day, now)
        elif self._unsaved >= USAGE_SAVE_INTERVAL_S:
            self._save()
        if self._shown is not None and now - self._shown >= CLOCK_TRUSTED_AFTER_S:
            self._shown = None
            self._days = {each: seconds for each, seconds in self._days.items() if each <= day}
            self._save()

    def _turn_to(self, day: str, now: float) -> None:
        """The clock shows another day."""
        first = self.today if not (self._day or self._days) else 0.0  # what was counted before there was a day
        self.today = max([first, *(seconds for each, seconds in self._days.items() if each >= day)])
        self._days.pop(day, None)
        self._days[day] = self.today
        while len(self._days) > MAX_USAGE_DAYS:
            del self._days[next(iter(self._days))]
        self._day, self._shown = day, now
        self._save()

    def _count(self, now: float) -> None:
        if self._since is None:
            return
        passed = max(0.0, now - self._since)
        self._since = now
        self.today += passed
        self.total += passed
        self._unsaved += passed
        for each in self._days:
            if self._day and each >= self._day:
                self._days[each] += passed

    def _save(self) -> None:
        self._unsaved = 0.0
        days = {each: round(seconds) for each, seconds in self._days.items()}
        noted = {"day": self._day, "today": round(self.today), "total": round(self.total), "days": days}
        self._store.put("connected", noted)


def _days(noted: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the seconds of each stored day; older versions stored one day."""
    days = noted.get("days")
    one = [(noted.get("day"), noted.get("today"))]
    several = list(days.items())[-MAX_USAGE_DAYS:] if isinstance(days, dict) else one
    for day, seconds in several:
        if isinstance(day, str) and 0 < len(day) <= MAX_DATE_CHARS:
            yield day, _seconds(seconds)


def _seconds(noted: Any) -> float:
    """Return what was stored, 0 where that is no valid number."""
    known = isinstance(noted, int) and not isinstance(noted, bool) and 0 <= noted <= MAX_USAGE_S
    return float(noted) if known else 0.0
