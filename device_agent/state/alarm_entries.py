"""When one timer or alarm is due, and for how long it rings, by clocks that cannot be trusted.

Two clocks are given, both in seconds. *wall* is the time of day since 1970; on a Raspberry Pi it is wrong from the
start until the network sets it. *steady* never jumps, and means nothing after a restart. So:

- a timer set in this process goes by the steady clock, and keeps its length whatever the wall clock does;
- a timer from before a restart goes by the wall clock, the only one left, but never takes longer than its length;
- an alarm goes by the wall clock and the local time, and waits from the moment it was set or rang last. When the wall
  clock turns out to have been wrong, that *moment* counts, told by the clock as it is now.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any

log = logging.getLogger(__name__)

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_TIMER_S = 24 * 3600
MAX_ALARM_NAME_CHARS = 40
MAX_ALARM_NUMBER = 99
MAX_RINGING_S = 120.0  # audibly, unless it is stopped
MISSED_AFTER_S = 3600.0  # what was due longer ago (there was no power, or the clock was wrong) does not ring any more
RINGING_SAVE_INTERVAL_S = 10.0  # what a power cut interrupts rings longer by no more than this
CLOCK_SLACK_S = 300.0  # smaller corrections of the wall clock let no alarm ring twice
TIMER_DRIFT_S = 2.0  # how wrong the end of a timer may become in the file before it is written again
MAX_WALL_CLOCK_S = 1e11  # nothing in a file is later than the year 5138


@dataclass(frozen=True)
class Timer:
    """Rings *seconds* after it was set."""

    number: int
    name: str
    seconds: float
    ends: float  # by the wall clock, as it was at the last look
    over: float | None = None
    """When its whole length has passed by the steady clock; None until a loaded timer is first seen."""
    loaded: bool = False

    def seen(self, steady: float) -> Timer:
        """Return it with its time by the steady clock of this process."""
        return self if self.over is not None else replace(self, over=steady + self.seconds)

    def left(self, wall: float, steady: float) -> float:
        """Return the seconds until it rings, negative when it is overdue."""
        whole = self.seconds if self.over is None else self.over - steady
        return min(whole, self.ends - wall) if self.loaded else whole

    def look(self, wall: float, steady: float) -> tuple[bool, Timer | None]:
        """Return whether it rings now, and what is left of it."""
        left = self.left(wall, steady)
        if left > 0:
            moved = not self.loaded and abs(wall + left - self.ends) > TIMER_DRIFT_S
            return False, replace(self, ends=wall + left) if moved else self
        missed = wall - self.ends
        if self.loaded and missed > MISSED_AFTER_S:
            log.warning("timer %d ended %s ago; it does not ring any more", self.number, _about(missed))
            return False, None
        return True, None

    def written(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"kind": "timer", "number": self.number, "name": self.name, "seconds": self.seconds, "ends": self.ends}


@dataclass(frozen=True)
class Alarm:
    """Rings at *hour*:*minute* local time, on *days* of the week (0 is Monday; none means any day), *once* or on each.

    An hour that exists twice counts the first time. In an hour that does not exist, 02:30 is 03:30.
    """

    number: int
    name: str
    hour: int
    minute: int
    days: frozenset[int]
    once: bool
    since: float  # when it was set or rang last, by the wall clock of then
    waiting: float | None = None
    """The same, or when it was loaded, by the steady clock; None until a loaded alarm is first seen."""
    loaded: bool = False

    def seen(self, steady: float) -> Alarm:
        """Return it with its time by the steady clock of this process."""
        return self if self.waiting is not None else replace(self, waiting=steady)

    def left(self, wall: float, steady: float) -> float:
        """Return the seconds until it rings, negative when it is overdue."""
        return self._after(self._since(wall, steady)) - wall

    def look(self, wall: float, steady: float) -> tuple[bool, Alarm | None]:
        """Return whether it rings now, and what is left of it."""
        since = self._since(wall, steady)
        due = self._after(since)
        if due > wall:
            return False, self if self.loaded or since == self.since else replace(self, since=since)
        if not self.once:  # of many that were missed the last one may be recent
            due = self._after(max(since, wall - MISSED_AFTER_S - 1))
        rings = wall - MISSED_AFTER_S <= due <= wall
        if not rings:
            log.warning("alarm %d of %02d:%02d was missed; it does not ring late", self.number, self.hour, self.minute)
        rest = None if self.once else replace(self, since=wall, waiting=steady, loaded=False)
        return rings, rest

    def written(self) -> dict[str, Any]:
        """Return what is stored."""
        return {
            "kind": "alarm",
            "number": self.number,
            "name": self.name,
            "time": f"{self.hour:02d}:{self.minute:02d}",
            "days": [DAYS[day] for day in sorted(self.days)],
            "once": self.once,
            "since": self.since,
        }

    def _since(self, wall: float, steady: float) -> float:
        """Return from when on it waits, by the wall clock as it is now.

        What was loaded is older than this process: a clock that is behind it has yet to be set.
        """
        if self.waiting is None:
            return min(self.since, wall)
        began = wall - (steady - self.waiting)
        if self.loaded:
            return self.since if self.since <= began + CLOCK_SLACK_S else began
        return self.since if abs(began - self.since) <= CLOCK_SLACK_S else began

    def _after(self, moment: float) -> float:
        """Return the next time it is due after *moment*."""
        date = datetime.fromtimestamp(moment).date()
        at = time(self.hour, self.minute)
        for ahead in range(8):
            day = date + timedelta(days=ahead)
            due = datetime.combine(day, at).timestamp()
            if due > moment and (not self.days or day.weekday() in self.days):
                return due
        raise AssertionError("a week has every day")


@dataclass(frozen=True)
class Ringing:
    """What is due rings until it is stopped or has rung MAX_RINGING_S, over restarts, too."""

    name: str
    at: float  # when it rang, by the wall clock: now, or RINGING_SAVE_INTERVAL_S ago at most
    rung: float = 0.0  # seconds with a loudspeaker
    unheard: float = 0.0  # seconds without one, in this process
    counted: float | None = None  # until when, by the steady clock; None until a loaded one is first seen

    def rings_again(self, wall: float) -> bool:
        """Whether a loaded one goes on: a clock that is behind has yet to be set."""
        if (missed := wall - self.at) <= MISSED_AFTER_S:
            return True
        log.warning("an alarm was cut short %s ago; it does not ring any more", _about(missed))
        return False

    def heard(self, wall: float, steady: float, *, audible: bool) -> Ringing | None:
        """Return it as it is now, None where it has rung its time, or was inaudible for too long."""
        passed = max(0.0, steady - self.counted) if self.counted is not None else 0.0
        rung, unheard = (self.rung + passed, self.unheard) if audible else (self.rung, self.unheard + passed)
        if rung >= MAX_RINGING_S or unheard >= MISSED_AFTER_S:
            return None
        noted = (rung + unheard) // RINGING_SAVE_INTERVAL_S == (self.rung + self.unheard) // RINGING_SAVE_INTERVAL_S
        return replace(self, at=self.at if noted else wall, rung=rung, unheard=unheard, counted=steady)

    def written(self) -> dict[str, Any]:
        """Return what is stored."""
        return {
            "name": self.name,
            "at": self.at,
            "rung": RINGING_SAVE_INTERVAL_S * (self.rung // RINGING_SAVE_INTERVAL_S),
        }


Entry = Timer | Alarm


def read(fields: Any) -> Entry:
    """Return the entry that ``written`` made. Raises ValueError, which says what is wrong."""
    if not isinstance(fields, dict):
        raise ValueError("it is not an object")
    number = _number(fields, "number", 1, MAX_ALARM_NUMBER)
    name = fields.get("name")
    if number != int(number) or not isinstance(name, str) or len(name) > MAX_ALARM_NAME_CHARS:
        raise ValueError(
            f"its number should be a whole number, and its name have up to {MAX_ALARM_NAME_CHARS} characters"
        )
    if fields.get("kind") == "timer":
        seconds = _number(fields, "seconds", 1, MAX_TIMER_S)
        return Timer(int(number), name, seconds, _number(fields, "ends", 0, MAX_WALL_CLOCK_S), loaded=True)
    if fields.get("kind") == "alarm":
        return _read_alarm(int(number), name, fields)
    raise ValueError("its kind should be timer or alarm")


def read_ringing(fields: Any) -> Ringing | None:
    """Return what ``Ringing.written`` made, None where nothing rang. Raises ValueError like ``read``."""
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise ValueError("it is not an object")
    name = fields.get("name")
    if not isinstance(name, str) or len(name) > MAX_ALARM_NAME_CHARS:
        raise ValueError(f"its name should have up to {MAX_ALARM_NAME_CHARS} characters")
    return Ringing(name, _number(fields, "at", 0, MAX_WALL_CLOCK_S), _number(fields, "rung", 0, MAX_RINGING_S))


def _read_alarm(number: int, name: str, fields: dict[str, Any]) -> Alarm:
    at, days, once = fields.get("time"), fields.get("days"), fields.get("once")
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", at) if isinstance(at, str) else None
    if match is None:
        raise ValueError("its time should be from 00:00 to 23:59")
    if not isinstance(days, list) or not all(day in DAYS for day in days):
        raise ValueError("its days should be days of the week")
    if not isinstance(once, bool) or not (once or days):
        raise ValueError("it should ring once, or name its days")
    since = _number(fields, "since", 0, MAX_WALL_CLOCK_S)
    wanted = frozenset(map(DAYS.index, days))
    return Alarm(number, name, int(match[1]), int(match[2]), wanted, once, since, loaded=True)


def _number(fields: dict[str, Any], name: str, low: float, high: float) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"its {name} should be a number")
    if not low <= value <= high:  # as it is: an int may be too large for a float
        raise ValueError(f"its {name} should be from {low:g} to {high:g}")
    return float(value)


def _about(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
