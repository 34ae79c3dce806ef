"""Timers and alarms of this device: stored, safe from a power cut, none rings twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import AgentError
from ..core.events import AlarmDue, RingEnded
from ..runtime.timezone import follow_timezone
from .alarm_entries import MAX_ALARM_NAME_CHARS, MAX_TIMER_S, Alarm, Entry, Ringing, Timer, read, read_ringing
from .store import StateStore

log = logging.getLogger(__name__)

MAX_ALARMS = 20  # timers and alarms together
ALARMS_KEY, RINGING_KEY = "alarms", "ringing"  # in the state file


class AlarmRefused(AgentError, ValueError):
    """A timer or alarm that cannot be set. The text says why, and what can."""


@dataclass(frozen=True)
class Waiting:
    """A timer or an alarm that will ring."""

    number: int
    name: str
    is_timer: bool
    left: float  # seconds
    at: float  # by the wall clock
    days: tuple[int, ...] = ()  # on which it repeats, 0 is Monday; empty where it rings once


class Alarms:
    """All methods are for any thread, and are given the time of the two clocks of ``alarm_entries``, *steady* of the
    same clock for all callers. A method that changes the list returns when it is on the disk; ``due`` alone does not
    wait for the disk, where the store has a keeper.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._entries: tuple[Entry, ...] = tuple(_read(store.get(ALARMS_KEY, [])))
        self._ringing = _read_ringing(store.get(RINGING_KEY))
        self._noted = self._ringing and self._ringing.written()

    def set_timer(self, seconds: float, name: str = "", *, wall: float, steady: float) -> Waiting:
        """Add a timer that rings in *seconds*. Raises AlarmRefused."""
        if not 1 <= seconds <= MAX_TIMER_S:
            raise AlarmRefused(f"a timer takes from one second to {MAX_TIMER_S // 3600} hours; for longer set an alarm")
        timer = Timer(0, _short(name), seconds, ends=wall + seconds, over=steady + seconds)
        return self._add(timer, wall, steady)

    def set_alarm(
        self,
        hour: int,
        minute: int,
        days: Collection[int] = (),
        name: str = "",
        *,
        once: bool = False,
        wall: float,
        steady: float,
    ) -> Waiting:
        """Add an alarm at a local time, on *days* of the week (0 is Monday); without days, or *once*, it rings on the
        next of them and is gone. Raises AlarmRefused."""
        if not (0 <= hour < 24 and 0 <= minute < 60 and set(days) <= set(range(7))):
            raise AlarmRefused("an alarm rings from 00:00 to 23:59, on days from 0 to 6")
        once = once or not days
        alarm = Alarm(0, _short(name), hour, minute, frozenset(days), once, since=wall, waiting=steady)
        return self._add(alarm, wall, steady)

    def all(self, wall: float, steady: float) -> list[Waiting]:
        """Return all timers and alarms, the next first."""
        with self._lock:
            entries = self._entries
        return sorted((_waiting(each, wall, steady) for each in entries), key=lambda each: each.left)

    def cancel(self, numbers: Collection[int]) -> list[int]:
        """Remove timers and alarms by their numbers; return the numbers that were still there."""
        with self._lock:
            gone = [each.number for each in self._entries if each.number in numbers]
            self._change(tuple(each for each in self._entries if each.number not in gone))
        self._store.flush()
        return gone

    @property
    def ringing(self) -> bool:
        """Whether one rings now, or rang when the last process ended, and has yet to be stopped or to ring its time."""
        return self._ringing is not None

    def due(self, wall: float, steady: float, *, audible: bool = True) -> list[AlarmDue | RingEnded]:
        """Return what begins to ring now, and whether what rang has rung its time; *audible*: there is a loudspeaker.

        To be called about once a second. What rang when the last process ended begins again. Local time is that of the
        time zone as it is now.
        """
        if follow_timezone():
            log.info("the time zone is %s now", "/".join(time.tzname))
        names: list[str] = []
        rest: list[Entry] = []
        with self._lock:
            for each in self._entries:
                now, left = each.seen(steady).look(wall, steady)
                names += [each.name] if now else []
                rest += [left] if left else []
            if names:
                self._ring(Ringing(names[-1], wall, counted=steady))
                events: list[AlarmDue | RingEnded] = [AlarmDue(name) for name in names]
            else:
                events = self._ring_on(wall, steady, audible=audible)
            self._change(tuple(rest))  # last: what is due is stored as one or the other at any moment
        self._store.flush_soon()
        return events

    def stop_ringing(self) -> None:
        """Forget what rings."""
        with self._lock:
            self._ring(None)
        self._store.flush_soon()

    def _ring_on(self, wall: float, steady: float, *, audible: bool) -> list[AlarmDue | RingEnded]:
        """Count how long it has rung; return its end, or its beginning where it was loaded."""
        if (ringing := self._ringing) is None:
            return []
        if ringing.counted is None:
            self._ring(replace(ringing, counted=steady) if ringing.rings_again(wall) else None)
            return [AlarmDue(ringing.name)] if self._ringing else []
        self._ring(ringing.heard(wall, steady, audible=audible))
        return [] if self._ringing else [RingEnded()]

    def _ring(self, ringing: Ringing | None) -> None:
        assert self._lock.locked()  # noqa: S101  as for the entries
        self._ringing = ringing
        if (noted := ringing and ringing.written()) != self._noted:
            self._noted = noted
            self._store.put(RINGING_KEY, noted)

    def _add(self, entry: Entry, wall: float, steady: float) -> Waiting:
        """Add *entry* under the smallest free number, because users have to say it. Raises AlarmRefused."""
        with self._lock:
            if len(self._entries) >= MAX_ALARMS:
                raise AlarmRefused(f"there are {MAX_ALARMS} timers and alarms already; cancel one first")
            taken = {each.number for each in self._entries}
            entry = replace(entry, number=next(n for n in range(1, MAX_ALARMS + 2) if n not in taken))
            self._change((*self._entries, entry))
        self._store.flush()
        return _waiting(entry, wall, steady)

    def _change(self, entries: tuple[Entry, ...]) -> None:
        assert self._lock.locked()  # noqa: S101  the store has to see changes in their order
        if entries == self._entries:
            return
        self._entries = entries
        self._store.put(ALARMS_KEY, [each.written() for each in entries])


def _waiting(entry: Entry, wall: float, steady: float) -> Waiting:
    left = max(0.0, entry.left(wall, steady))
    days = tuple(sorted(entry.days)) if isinstance(entry, Alarm) and not entry.once else ()
    return Waiting(entry.number, entry.name, isinstance(entry, Timer), left, wall + left, days)


def _short(name: str) -> str:
    return " ".join(name.split())[:MAX_ALARM_NAME_CHARS].strip()


def _read(written: Any) -> Iterator[Entry]:
    """Yield the valid entries of what is stored; the log reports the others."""
    if not isinstance(written, list):
        log.warning("the stored timers and alarms are not a list; there are none now")
        return
    if len(written) > MAX_ALARMS:
        log.warning("%d timers and alarms are stored; all but %d are left out", len(written), MAX_ALARMS)
    numbers: set[int] = set()
    for index, each in enumerate(written[:MAX_ALARMS]):
        try:
            entry = read(each)
        except ValueError as error:
            log.warning("the stored timer or alarm %d is not valid: %s; left out", index + 1, error)
            continue
        if entry.number in numbers:
            log.warning("timer or alarm %d is stored twice; one is left out", entry.number)
            continue
        numbers.add(entry.number)
        yield entry


def _read_ringing(written: Any) -> Ringing | None:
    try:
        return read_ringing(written)
    except ValueError as error:
        log.warning("the stored alarm that rings is not valid: %s; left out", error)
        return None
