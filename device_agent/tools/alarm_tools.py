"""Tools that set, list and cancel timers and alarms."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..state.alarm_entries import DAYS, MAX_ALARM_NUMBER, MAX_TIMER_S
from ..state.alarms import AlarmRefused, Alarms, Waiting
from .arguments import Arguments, flag, number, shown, words
from .base import ToolFailed
from .function import BuiltinTool, function
from .time_tools import WEEK, WEEKDAYS, WEEKEND, days, duration, moment

Clock = Callable[[], float]

TIME_OF_DAY = re.compile(r"(\d{1,2})(?:[:.h](\d{2}))?(?::\d{2})? ?(?:([ap])\.?m\.?)?", re.IGNORECASE)
"""What models write for a time of day: 07:00, 7.30, 19h30, 7:00 pm, 07:00:00."""
DAY_GROUPS = {
    **dict.fromkeys(("weekday", "weekdays"), WEEKDAYS),
    **dict.fromkeys(("weekend", "weekends"), WEEKEND),
    **dict.fromkeys(("day", "daily", "everyday"), WEEK),
}
"""What models write for several days, beside the names of days."""

_NAME = {
    "type": "string",
    "description": "What the user calls it, for example pasta. Leave it out if they did not say.",
}


def alarm_tools(alarms: Alarms, wall: Clock = time.time, steady: Clock = time.monotonic) -> list[BuiltinTool]:
    """Return the tools for *alarms*. *wall* is the time of day, *steady* the clock that ``alarms.due`` is called with;
    both in seconds."""
    calls = _Calls(alarms, wall, steady)
    return [
        BuiltinTool(SET_TIMER, calls.set_timer),
        BuiltinTool(SET_ALARM, calls.set_alarm),
        BuiltinTool(LIST_ALARMS, calls.list_all),
        BuiltinTool(CANCEL_ALARM, calls.cancel),
    ]


SET_TIMER = function(
    "set_timer",
    "Sets a timer: this speaker rings when the time has passed, up to 24 hours. The lengths are added up.",
    hours={"type": "number", "description": "Hours, 0 to 24."},
    minutes={"type": "number", "description": "Minutes, 0 to 1440."},
    seconds={"type": "number", "description": "Seconds, 0 to 86400."},
    name=_NAME,
)
SET_ALARM = function(
    "set_alarm",
    "Sets an alarm: this speaker rings at a local time of day, the next time it is that late, or on days of the week.",
    required=("time",),
    time={"type": "string", "description": "HH:MM, 00:00 to 23:59. Ask the user if morning or evening is not clear."},
    days={
        "type": "array",
        "items": {"type": "string", "enum": list(DAYS)},
        "description": "Days of the week. Leave it out for today or tomorrow, whichever comes first.",
    },
    once={"type": "boolean", "description": "true: only on the next of the days; otherwise on them every week."},
    name=_NAME,
)
LIST_ALARMS = function("list_alarms", "Lists all timers with the time that is left, and all alarms with their times.")
CANCEL_ALARM = function(
    "cancel_alarm",
    "Cancels a timer or an alarm before it rings, by number or by name. Without both it cancels the only one there is. "
    "What rings already is silenced with stop.",
    number={"type": "integer", "description": "The number that set_timer, set_alarm and list_alarms tell."},
    name={"type": "string", "description": "The name it was given."},
    kind={"type": "string", "enum": ["timer", "alarm"], "description": "Only timers, or only alarms."},
    all={"type": "boolean", "description": "true: cancel all that fit."},
)


class _Calls:
    """The work of the tools. For any thread."""

    def __init__(self, alarms: Alarms, wall: Clock, steady: Clock) -> None:
        self._alarms, self._wall, self._steady = alarms, wall, steady

    def set_timer(self, arguments: Arguments) -> dict[str, Any]:
        units = (("hours", 3600), ("minutes", 60), ("seconds", 1))
        given = [(number(arguments, unit, 0, MAX_TIMER_S / size) or 0) * size for unit, size in units]
        if not sum(given):
            raise ToolFailed("no length was given; ask the user how long the timer should take")
        return self._set(self._alarms.set_timer, sum(given), words(arguments, "name"))

    def set_alarm(self, arguments: Arguments) -> dict[str, Any]:
        hour, minute = _time(words(arguments, "time"))
        wanted = sorted(set(_days(arguments.get("days"))))
        once, name = flag(arguments, "once"), words(arguments, "name")
        return self._set(self._alarms.set_alarm, hour, minute, wanted, name, once=once)

    def list_all(self, _arguments: Arguments) -> dict[str, Any]:
        now = self._now()
        waiting = self._alarms.all(**now)
        return {
            "timers": [_described(each, now["wall"]) for each in waiting if each.is_timer],
            "alarms": [_described(each, now["wall"]) for each in waiting if not each.is_timer],
        }

    def cancel(self, arguments: Arguments) -> dict[str, Any]:
        now = self._now()
        there = self._alarms.all(**now)
        found = _chosen(arguments, there)
        if not found:
            known = _listed(there, now["wall"])
            raise ToolFailed(f"no timer or alarm fits; there is {known}" if there else "there are no timers or alarms")
        if len(found) > 1 and not flag(arguments, "all"):
            raise ToolFailed(
                f"several fit: {_listed(found, now['wall'])}; ask the user which, then cancel it by its number"
            )
        gone = self._alarms.cancel([each.number for each in found])
        return {"cancelled": [_named(each) for each in found if each.number in gone]}

    def _set(self, add: Callable[..., Waiting], *arguments: Any, **options: Any) -> dict[str, Any]:
        now = self._now()
        try:
            return _described(add(*arguments, **options, **now), now["wall"])
        except AlarmRefused as error:
            raise ToolFailed(f"{error}; tell the user so") from error

    def _now(self) -> dict[str, float]:
        return {"wall": self._wall(), "steady": self._steady()}


def _chosen(arguments: Arguments, there: list[Waiting]) -> list[Waiting]:
    wanted, name = number(arguments, "number", 1, MAX_ALARM_NUMBER), words(arguments, "name").casefold()
    kind = words(arguments, "kind").casefold().removesuffix("s")
    if kind not in {"", "timer", "alarm"}:
        raise ToolFailed(f"kind is {shown(kind)}; it should be timer or alarm")
    return [
        each
        for each in there
        if (wanted is None or each.number == wanted)
        and (not name or each.name.casefold() == name)
        and (not kind or each.is_timer == (kind == "timer"))
    ]


def _time(text: str) -> tuple[int, int]:
    """Return hour and minute. Raises ToolFailed."""
    if not text:
        raise ToolFailed("no time was given; ask the user when the alarm should ring")
    match = TIME_OF_DAY.fullmatch(text)
    hour, minute = (int(match[1]), int(match[2] or 0)) if match else (24, 0)
    if match and match[3]:
        hour = hour % 12 + (12 if match[3].lower() == "p" else 0) if 1 <= hour <= 12 else 24
    if hour > 23 or minute > 59:
        raise ToolFailed(f"time is {shown(text)}; it should be HH:MM, from 00:00 to 23:59, ask the user if unsure")
    return hour, minute


def _days(value: Any) -> Iterator[int]:
    """Yield the days of the week in *value*, a list or a text. Raises ToolFailed."""
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, (str, list)):
        raise ToolFailed(f"days is {shown(value)}; it should be a list of days of the week")
    named = re.split(r"[\s,]+", value) if isinstance(value, str) else value
    for each in named:
        word = str(each).strip().lower()
        if word in {"", "and", "every", "each", "once", "none"}:
            continue
        short = [index for index, day in enumerate(DAYS) if word in {day, f"{day}s", day[:3]}]
        if word not in DAY_GROUPS and not short:
            raise ToolFailed(
                f"days has {shown(each)}; it should have names from monday to sunday. "
                "Leave days out for an alarm that rings once, today or tomorrow"
            )
        yield from DAY_GROUPS.get(word, short)


def _described(waiting: Waiting, now: float) -> dict[str, Any]:
    return {
        "number": waiting.number,
        **({"name": waiting.name} if waiting.name else {}),
        "rings_in": duration(waiting.left),
        "rings_at": moment(waiting.at, now),
        **({"repeats": days(waiting.days)} if waiting.days else {}),
    }


def _named(waiting: Waiting) -> str:
    kind = "timer" if waiting.is_timer else "alarm"
    return f"{kind} {waiting.number}{f' ({waiting.name})' if waiting.name else ''}"


def _listed(several: list[Waiting], now: float) -> str:
    return ", ".join(f"{_named(each)} at {moment(each.at, now)}" for each in several)
