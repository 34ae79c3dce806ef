"""Tool that tells the time, and times in words that a language model reads well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from ..state.alarm_entries import DAYS
from .arguments import Arguments
from .function import BuiltinTool, function

WEEKDAYS, WEEKEND, WEEK = (0, 1, 2, 3, 4), (5, 6), tuple(range(7))


def time_tools(wall: Callable[[], float] = time.time) -> list[BuiltinTool]:
    """Return the tool that tells the time. *wall* is the time of day in seconds since 1970."""
    about = "Tells the local date, weekday and time of day. Call it whenever the answer depends on the time or date."
    return [BuiltinTool(function("get_time", about), lambda arguments: _get_time(arguments, wall()))]


def _get_time(_arguments: Arguments, now: float) -> dict[str, Any]:
    local = datetime.fromtimestamp(now).astimezone()
    offset = local.strftime("%z")
    return {
        "date": local.strftime("%Y-%m-%d"),
        "weekday": DAYS[local.weekday()].capitalize(),
        "time": local.strftime("%H:%M"),
        "timezone": f"{local.tzname()} (UTC{offset[:3]}:{offset[3:5]})",
    }


def moment(at: float, now: float) -> str:
    """Return when *at* is, seen from *now*: "18:40", "tomorrow 07:00", "Monday 07:00"."""
    there, here = datetime.fromtimestamp(at), datetime.fromtimestamp(now)
    ahead = (there.date() - here.date()).days
    day = {0: "", 1: "tomorrow "}.get(ahead, f"{DAYS[there.weekday()].capitalize()} ")
    return f"{day if ahead < 7 else f'{day}in a week '}{there:%H:%M}"


def duration(seconds: float) -> str:
    """Return *seconds* in words, by the two largest units: "1 hour 5 minutes", "9 minutes 30 seconds", "4 seconds"."""
    whole = max(0, round(seconds))
    counts = (whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60)
    parts = list(zip(("day", "hour", "minute", "second"), counts, strict=True))
    first = next((index for index, (_, count) in enumerate(parts) if count), 3)
    said = [f"{count} {unit}{'' if count == 1 else 's'}" for unit, count in parts[first : first + 2] if count]
    return " ".join(said) or "0 seconds"


def days(numbers: Iterable[int]) -> str:
    """Return the days of the week in words: "every day", "every weekday", "every Monday and Friday"."""
    wanted = tuple(sorted(numbers))
    known = {WEEK: "every day", WEEKDAYS: "every weekday", WEEKEND: "every Saturday and Sunday"}
    names = [DAYS[number].capitalize() for number in wanted]
    return known.get(wanted) or "every " + " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
