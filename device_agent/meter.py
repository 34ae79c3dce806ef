"""How long there has been a connection, today and in all: most services charge by the minute."""

from __future__ import annotations

from typing import Any

from .memory import Memory

SAVE_S = 60.0
"""How often a connection that lasts is noted: a power cut costs no more than this, and a card is not worn out."""


class Meter:
    """Counts the seconds between ``connected`` and ``disconnected``. Belongs to the main thread.

    *daily_minutes* is how many there may be on one day; 0: as many as one likes.
    """

    def __init__(self, memory: Memory, daily_minutes: int = 0) -> None:
        self._memory = memory
        self.limit = 60.0 * daily_minutes
        """Seconds that there may be on one day; 0: as many as one likes. Whoever changes it means it at once."""
        noted = memory.get("connected", {})
        noted = noted if isinstance(noted, dict) else {}
        self._day = str(noted.get("day", ""))
        self.today, self.total = _seconds(noted.get("today")), _seconds(noted.get("total"))
        self._since: float | None = None
        self._unsaved = 0.0

    @property
    def spent(self) -> bool:
        """Whether the minutes of today are used up."""
        return 0 < self.limit <= self.today

    def connected(self, now: float) -> None:
        """A connection begins."""
        if self._since is None:
            self._since = now

    def disconnected(self, now: float) -> None:
        """It is over, if there was one."""
        self._count(now)
        if self._since is not None:
            self._since = None
            self._save()

    def look(self, day: str, now: float) -> None:
        """Count up to *now*; *day* is the date of today, in any form."""
        self._count(now)
        if day != self._day:
            self.today = 0.0 if self._day else self.today  # before the first look there was no day
            self._day = day
            self._save()
        elif self._unsaved >= SAVE_S:
            self._save()

    def _count(self, now: float) -> None:
        if self._since is not None:
            passed = max(0.0, now - self._since)
            self._since = now
            self.today += passed
            self.total += passed
            self._unsaved += passed

    def _save(self) -> None:
        self._unsaved = 0.0
        self._memory.put("connected", {"day": self._day, "today": round(self.today), "total": round(self.total)})


def _seconds(noted: Any) -> float:
    """Return what was noted, 0 where that makes no sense."""
    return float(noted) if isinstance(noted, int) and noted >= 0 else 0.0
