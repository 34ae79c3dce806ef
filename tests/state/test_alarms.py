"""Timers and alarms, with clocks that the test moves and a real file between restarts."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.core.events import AlarmDue, RingEnded
from device_agent.state.alarm_entries import (
    CLOCK_SLACK_S,
    MAX_ALARM_NAME_CHARS,
    MAX_RINGING_S,
    MAX_TIMER_S,
    MISSED_AFTER_S,
    RINGING_SAVE_INTERVAL_S,
)
from device_agent.state.alarms import ALARMS_KEY, MAX_ALARMS, RINGING_KEY, AlarmRefused, Alarms
from device_agent.state.store import StateStore

ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Central Europe, spelled out, so that no machine needs to know it."""
MINUTE, HOUR, DAY = 60, 3600, 86400
EVERY_DAY, WORKDAYS = range(7), range(5)


@pytest.fixture(autouse=True, scope="module")
def zone():
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def at(text: str) -> float:
    """Return the seconds of a UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def local(wall: float) -> str:
    return time.strftime("%a %H:%M", time.localtime(wall))


class World:
    """A device that can be set wrong, switched off and on, and two clocks."""

    def __init__(self, path: Path, begin: str = "2026-11-21T12:00:00") -> None:
        self.path, self.wall, self.steady = path, at(begin), 1000.0
        self.alarms = Alarms(StateStore(path))
        self.audible, self.ended = True, 0

    def look(self) -> list[str]:
        """Look, and press where something rings."""
        names = self.begins()
        self.alarms.stop_ringing()
        return names

    def begins(self) -> list[str]:
        """Look, and let ring."""
        due = self.alarms.due(self.wall, self.steady, audible=self.audible)
        self.ended += due.count(RingEnded())
        return [each.name for each in due if isinstance(each, AlarmDue)]

    def wait(self, seconds: float) -> list[str]:
        self.wall += seconds
        self.steady += seconds
        return self.look()

    def days_go_by(self, seconds: float, step: float = 30 * MINUTE) -> list[tuple[str, str]]:
        """Look every *step*; return what rang, and when."""
        rang = []
        for _ in range(round(seconds / step)):
            rang += [(name, local(self.wall)) for name in self.wait(step)]
        return rang

    def set_clock(self, seconds: float) -> list[str]:
        """The wall clock was wrong, and is right now."""
        self.wall += seconds
        return self.look()

    def restart(self, off: float = 0.0) -> list[str]:
        """The power goes without a word, and comes back after *off* seconds."""
        self.wall += off
        self.steady = 5.0
        self.alarms = Alarms(StateStore(self.path))
        return self.look()

    def timer(self, seconds: float, name: str = "") -> int:
        return self.alarms.set_timer(seconds, name, **self.now()).number

    def alarm(self, text: str, days=(), name: str = "", *, once: bool = False) -> int:
        hour, minute = map(int, text.split(":"))
        return self.alarms.set_alarm(hour, minute, days, name, once=once, **self.now()).number

    def now(self) -> dict[str, float]:
        return {"wall": self.wall, "steady": self.steady}

    def waiting(self) -> list[tuple[int, str]]:
        return [(each.number, each.name) for each in self.alarms.all(**self.now())]

    def next_ring(self) -> str:
        return local(self.alarms.all(**self.now())[0].at)


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / "memory.json")


# Timers ---------------------------------------------------------------------------------------------------------------


def test_a_timer_rings_once_when_its_time_has_passed_and_not_before(world):
    world.timer(600, "tea")
    assert world.wait(599.9) == []
    assert world.wait(0.1) == ["tea"]
    assert world.wait(DAY) == []


@pytest.mark.parametrize("jump", [5 * HOUR, -5 * HOUR, 40 * DAY, -40 * DAY])
def test_a_timer_keeps_its_length_when_the_clock_is_set(world, jump):
    world.timer(600, "tea")
    assert world.wait(300) == []
    assert world.set_clock(jump) == []
    assert world.wait(299.9) == []
    assert world.wait(0.1) == ["tea"]


def test_a_timer_rings_although_the_clock_was_set_just_when_it_ended(world):
    world.timer(600, "tea")
    world.wall += 5 * HOUR
    assert world.wait(600) == ["tea"]


@pytest.mark.parametrize("jump", [5 * HOUR, -5 * HOUR])
def test_a_timer_keeps_its_length_when_the_clock_is_set_and_the_power_fails(world, jump):
    world.timer(600, "tea")
    world.wait(300)
    world.set_clock(jump)
    assert world.restart(off=299) == []
    assert world.wait(1) == ["tea"]


def test_a_power_cut_right_after_it_was_set_loses_no_timer(world):
    world.timer(600, "tea")
    assert world.restart(off=20) == []
    assert world.wait(579) == []
    assert world.wait(1) == ["tea"]


def test_a_timer_that_ended_without_power_rings_when_it_is_back_if_it_is_not_too_late(world):
    world.timer(600, "tea")
    assert world.restart(off=600 + MISSED_AFTER_S) == ["tea"]
    assert world.restart() == []


def test_a_timer_that_ended_long_ago_is_dropped_and_the_log_tells(world, caplog):
    world.timer(600, "tea")
    assert world.restart(off=600 + MISSED_AFTER_S + 1) == []
    assert world.waiting() == []
    assert "timer 1 ended 1 h ago" in caplog.text


def test_a_timer_from_before_a_restart_waits_for_the_clock_but_never_longer_than_its_length(world):
    world.timer(600, "tea")
    world.timer(600, "egg")
    assert world.restart(off=-5 * HOUR) == []  # a board without a clock of its own begins in the past
    assert world.wait(599) == []
    assert world.wait(1) == ["tea", "egg"]


def test_a_timer_from_before_a_restart_rings_when_the_clock_is_set_past_its_end(world):
    world.timer(600, "tea")
    world.restart(off=-20 * MINUTE)
    assert world.set_clock(31 * MINUTE) == ["tea"]


# Alarms ---------------------------------------------------------------------------------------------------------------


def test_an_alarm_rings_once_at_its_local_time(world):
    world.alarm("07:00", name="up")
    assert world.next_ring() == "Sun 07:00"
    assert world.days_go_by(3 * DAY) == [("up", "Sun 07:00")]
    assert world.waiting() == []


def test_an_alarm_for_later_today_rings_today(world):
    world.alarm("13:01")
    assert world.wait(59) == []
    assert world.wait(1) == [""]


def test_an_alarm_for_this_very_minute_is_for_tomorrow(world):
    world.alarm("13:00")
    assert world.wait(0) == []
    assert world.next_ring() == "Sun 13:00"


def test_an_alarm_on_days_rings_on_each_of_them(world):
    world.alarm("07:00", WORKDAYS, "work")
    assert world.days_go_by(9 * DAY) == [("work", f"{day} 07:00") for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Mon")]


def test_an_alarm_may_ring_only_on_the_next_of_its_days(world):
    world.alarm("07:00", [2], "bins", once=True)
    assert world.days_go_by(15 * DAY) == [("bins", "Wed 07:00")]


def test_an_alarm_on_the_weekday_of_today_is_for_a_week_later_when_its_time_has_passed(world):
    world.alarm("12:00", [5])
    assert world.days_go_by(14 * DAY) == [("", "Sat 12:00")] * 2
    assert world.wall - world.alarms.all(**world.now())[0].at == -7 * DAY + HOUR


def test_alarms_survive_restarts(world):
    world.alarm("07:00", WORKDAYS, "work")
    world.alarm("09:00", name="once")
    assert world.restart(off=HOUR) == []
    rang = world.days_go_by(DAY)
    assert world.restart() == []
    assert rang + world.days_go_by(2 * DAY) == [("once", "Sun 09:00"), ("work", "Mon 07:00"), ("work", "Tue 07:00")]


def test_in_an_hour_that_does_not_exist_it_rings_as_if_the_clocks_had_not_been_changed(tmp_path):
    world = World(tmp_path / "m.json", "2027-03-27T12:00:00")
    world.alarm("02:30", EVERY_DAY)
    assert world.days_go_by(3 * DAY, MINUTE * 10) == [("", "Sun 03:30"), ("", "Mon 02:30"), ("", "Tue 02:30")]


def test_in_an_hour_that_exists_twice_it_rings_the_first_time(tmp_path):
    world = World(tmp_path / "m.json", "2026-10-24T12:00:00")
    world.alarm("02:30", EVERY_DAY)
    world.wait(12 * HOUR)
    assert world.wait(29 * MINUTE) == []
    assert world.wait(MINUTE) == [""]
    assert time.localtime(world.wall).tm_isdst == 1
    assert world.wait(HOUR) == []  # 02:30 again
    assert world.days_go_by(2 * DAY) == [("", "Mon 02:30"), ("", "Tue 02:30")]


@pytest.mark.parametrize("begin", ["2027-03-27T12:00:00", "2026-10-24T12:00:00"])
def test_at_seven_is_at_seven_also_after_the_clocks_were_changed(tmp_path, begin):
    world = World(tmp_path / "m.json", begin)
    world.alarm("07:00", EVERY_DAY)
    assert world.days_go_by(2 * DAY) == [("", "Sun 07:00"), ("", "Mon 07:00")]


def test_an_alarm_missed_by_less_than_an_hour_rings_late_and_by_more_never(world, caplog):
    world.alarm("14:00", name="short")
    world.alarm("13:00", name="long")  # of tomorrow
    assert world.restart(off=2 * HOUR) == ["short"]
    assert world.restart(off=DAY + MINUTE) == []
    assert world.waiting() == []
    assert "alarm 2 of 13:00 was missed" in caplog.text


def test_of_many_days_without_power_the_last_alarm_may_still_ring(world):
    world.alarm("13:00", EVERY_DAY, "noon")
    assert world.restart(off=5 * DAY + 20 * MINUTE) == ["noon"]
    assert world.days_go_by(2 * DAY) == [("noon", "Fri 13:20"), ("noon", "Sat 13:20")]


def test_a_clock_that_was_just_set_rings_no_alarm_of_the_past(world):
    for hour in range(10):
        world.alarm(f"{hour:02}:30", EVERY_DAY, "daily")
        world.alarm(f"{hour:02}:30", name="once")
    world.restart()
    assert world.set_clock(30 * DAY) == []
    assert [name for _, name in world.waiting()] == ["daily"] * 10


def test_an_alarm_set_by_a_clock_that_was_wrong_rings_at_the_next_such_time(world):
    world.alarm("07:00", name="up")
    assert world.set_clock(9 * DAY + 11 * HOUR) == []  # Tuesday midnight
    assert world.next_ring() == "Tue 07:00"
    assert world.days_go_by(3 * DAY) == [("up", "Tue 07:00")]


def test_an_alarm_set_by_a_clock_that_was_wrong_is_right_also_after_a_restart(world):
    world.alarm("07:00", name="up")
    world.set_clock(9 * DAY + 11 * HOUR)
    assert world.restart(off=30 * MINUTE) == []
    assert world.days_go_by(3 * DAY) == [("up", "Tue 07:00")]


def test_an_alarm_set_by_a_clock_that_was_ahead_rings_at_the_next_such_time(world):
    world.alarm("07:00", name="up")
    world.alarm("08:00", EVERY_DAY, "work")
    assert world.set_clock(-400 * DAY) == []
    assert [name for name, _ in world.days_go_by(2 * DAY)] == ["up", "work", "work"]


def test_an_alarm_that_rang_does_not_ring_again_for_a_small_correction(world):
    world.alarm("13:10", EVERY_DAY, "lunch")
    assert world.wait(10 * MINUTE) == ["lunch"]
    assert world.set_clock(-CLOCK_SLACK_S) == []
    assert world.wait(CLOCK_SLACK_S) == []
    assert world.next_ring() == "Sun 13:10"


def test_an_alarm_that_rang_by_a_wrong_clock_rings_at_the_right_time(world):
    world.alarm("13:10", EVERY_DAY, "lunch")
    assert world.wait(10 * MINUTE) == ["lunch"]
    assert world.set_clock(-3 * HOUR) == []
    assert world.wait(3 * HOUR) == ["lunch"]


def test_a_board_that_wakes_with_the_clock_of_an_hour_ago_does_not_ring_again(world):
    world.alarm("13:10", EVERY_DAY, "lunch")
    assert world.wait(10 * MINUTE) == ["lunch"]
    world.wait(20 * MINUTE)
    assert world.restart(off=-50 * MINUTE) == []  # it reads 12:40
    assert world.set_clock(51 * MINUTE) == []
    assert world.next_ring() == "Sun 13:10"


def test_an_alarm_that_rang_by_a_wrong_clock_after_a_restart_was_rung(world):
    world.alarm("13:10", EVERY_DAY, "lunch")
    assert world.restart(off=10 * MINUTE) == ["lunch"]
    assert world.set_clock(DAY + 10 * MINUTE) == []  # it was 13:20 when it rang


def test_a_board_whose_clock_is_never_set_rings_by_the_clock_it_has(world):
    world.alarm("13:10", EVERY_DAY, "lunch")
    world.wait(30 * MINUTE)
    assert world.restart(off=-50 * MINUTE) == []
    assert world.wait(29 * MINUTE) == []
    assert world.wait(MINUTE) == ["lunch"]


# The list -------------------------------------------------------------------------------------------------------------


def test_what_is_cancelled_never_rings(world):
    world.timer(600, "tea")
    number = world.timer(600, "egg")
    world.alarm("14:00", name="call")
    assert world.alarms.cancel([number, 77]) == [number]
    assert world.alarms.cancel([number]) == []
    assert world.restart() == []
    assert world.wait(600) == ["tea"]
    assert world.waiting() == [(3, "call")]


def test_the_list_begins_with_what_rings_next(world):
    world.alarm("14:00", WORKDAYS, "work")
    world.timer(600, "tea")
    work, tea = sorted(world.alarms.all(**world.now()), key=lambda each: each.number)
    assert (tea.is_timer, tea.left, tea.days) == (True, 600, ())
    assert (work.is_timer, local(work.at), work.days) == (False, "Mon 14:00", (0, 1, 2, 3, 4))
    assert world.waiting() == [(2, "tea"), (1, "work")]


def test_numbers_stay_small(world):
    assert [world.timer(60) for _ in range(3)] == [1, 2, 3]
    world.alarms.cancel([2])
    assert [world.timer(60), world.timer(60)] == [2, 4]


def test_there_is_room_for_twenty(world):
    for _ in range(MAX_ALARMS):
        world.timer(600)
    with pytest.raises(AlarmRefused, match="20 timers and alarms"):
        world.timer(600)
    with pytest.raises(AlarmRefused, match="20 timers and alarms"):
        world.alarm("07:00")
    world.restart()
    assert len(world.wait(600)) == MAX_ALARMS
    world.timer(600)


@pytest.mark.parametrize("seconds", [0, 0.9, -5, MAX_TIMER_S + 1, float("nan"), float("inf")])
def test_a_timer_has_a_shortest_and_a_longest(world, seconds):
    with pytest.raises(AlarmRefused, match="24 hours"):
        world.timer(seconds)
    world.timer(MAX_TIMER_S)


@pytest.mark.parametrize(("text", "days"), [("24:00", ()), ("07:60", ()), ("-1:00", ()), ("07:00", [7])])
def test_an_alarm_rings_at_a_time_that_exists(world, text, days):
    with pytest.raises(AlarmRefused):
        world.alarm(text, days)


def test_names_are_tidy_and_short(world):
    world.timer(60, "  my \n egg  ")
    world.timer(60, "x" * 1000)
    assert world.wait(60) == ["my egg", "x" * MAX_ALARM_NAME_CHARS]


TIMER = {"kind": "timer", "number": 1, "name": "tea", "seconds": 600.0, "ends": at("2026-11-21T12:05:00")}
ALARM = {
    "kind": "alarm", "number": 2, "name": "up", "time": "13:05", "days": ["saturday"], "once": False,
    "since": at("2026-11-20T12:00:00"),
}  # fmt: skip
JUNK = [
    None, 7, "tea", [], {}, {**TIMER, "kind": "egg"}, {**TIMER, "number": 0}, {**TIMER, "number": 100},
    {**TIMER, "number": 1.5}, {**TIMER, "number": True}, {**TIMER, "name": None}, {**TIMER, "name": "x" * 41},
    {**TIMER, "seconds": 0}, {**TIMER, "seconds": 10**6}, {**TIMER, "seconds": "600"}, {**TIMER, "ends": -1},
    {**TIMER, "ends": 1e300}, {**TIMER, "ends": None}, {**ALARM, "time": "24:00"}, {**ALARM, "time": "7:00"},
    {**ALARM, "time": 7}, {**ALARM, "days": "monday"}, {**ALARM, "days": ["Mon"]}, {**ALARM, "days": [None]},
    {**ALARM, "days": [[]]}, {**ALARM, "days": []}, {**ALARM, "once": 1}, {**ALARM, "since": None},
    {**ALARM, "since": 1e12},
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_a_bad_entry_in_the_file_is_told_of_and_the_others_live(tmp_path, junk, caplog):
    path = tmp_path / "memory.json"
    path.write_text(json.dumps({ALARMS_KEY: [TIMER, junk, ALARM]}))
    world = World(path)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert world.wait(5 * MINUTE) == ["tea", "up"]


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (None, 0), (7, 0), ({}, 0), ("x", 0), ([TIMER, TIMER], 1),
        ([{**TIMER, "number": number} for number in range(1, 30)], MAX_ALARMS),
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense_is_told_of(tmp_path, written, left, caplog):
    path = tmp_path / "memory.json"
    path.write_text(json.dumps({ALARMS_KEY: written}))
    world = World(path)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert len(world.waiting()) == left


def test_many_threads_may_set_and_cancel_while_the_main_thread_looks(world):
    rang: list[str] = []
    cancelled: list[int] = []

    def work(name: str) -> None:
        for _ in range(50):
            number = world.timer(1, name)
            world.alarms.all(**world.now())
            cancelled.extend(world.alarms.cancel([number]))

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        rang += world.wait(0.01)
    rang += world.wait(10)
    assert len(rang) + len(cancelled) == 300
    assert world.waiting() == []
    assert json.loads(world.path.read_text())[ALARMS_KEY] == []


# In every order -------------------------------------------------------------------------------------------------------

SECONDS = st.integers(1, 3 * HOUR)
JUMPS = st.integers(-3 * DAY, 3 * DAY).filter(lambda seconds: abs(seconds) > 10)
DEEDS = st.one_of(
    st.tuples(st.just("set"), st.one_of(SECONDS, st.integers(1, 30), st.just(DAY))),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.one_of(SECONDS, st.integers(1, 30))),
    st.tuples(st.just("clock"), JUMPS),
    st.tuples(st.just("restart"), st.one_of(st.integers(0, 2 * HOUR), JUMPS)),
)


class Expected:
    """What a timer should do, in the simplest words."""

    def __init__(self, name: str, seconds: float, world: World) -> None:
        self.name, self.seconds = name, seconds
        self.ends, self.on_paper = world.steady + seconds, world.wall + seconds
        self.by_paper = False

    def restarted(self, world: World) -> None:
        self.by_paper, self.ends = True, world.steady + self.seconds

    def look(self, world: World) -> str:
        """Return "rings", "dropped" or "waits"."""
        if not self.by_paper:
            self.on_paper = world.wall + self.ends - world.steady
            return "rings" if world.steady >= self.ends else "waits"
        if world.wall > self.on_paper + MISSED_AFTER_S:
            return "dropped"
        return "rings" if world.wall >= self.on_paper or world.steady >= self.ends else "waits"


@settings(max_examples=200)
@given(st.lists(DEEDS, max_size=25))
def test_every_timer_rings_exactly_once_when_its_time_has_come_unless_cancelled(tmp_path_factory, deeds):
    world = World(tmp_path_factory.mktemp("world") / "memory.json")
    timers: list[Expected] = []
    for count, (deed, value) in enumerate(deeds):
        rang: list[str] = []
        match deed:
            case "set":
                if len(timers) < MAX_ALARMS:
                    timers.append(Expected(f"t{count}", value, world))
                    world.timer(value, f"t{count}")
            case "cancel" if timers:
                chosen = timers.pop(value % len(timers))
                world.alarms.cancel([number for number, name in world.waiting() if name == chosen.name])
            case "wait":
                rang = world.wait(value)
            case "clock":
                rang = world.set_clock(value)
            case "restart":
                rang = world.restart(value)
                for each in timers:
                    each.restarted(world)
        if deed in {"wait", "clock", "restart"}:
            fates = [(each, each.look(world)) for each in timers]
            assert sorted(rang) == sorted(each.name for each, fate in fates if fate == "rings")
            timers = [each for each, fate in fates if fate == "waits"]
        assert sorted(name for _, name in world.waiting()) == sorted(each.name for each in timers)


def summer(utc: datetime) -> bool:
    """The rule of Central Europe: from the last Sunday in March to that in October, at 01:00 UTC."""
    march, october = (datetime(utc.year, month, 31, 1, tzinfo=UTC) for month in (3, 10))
    begins, ends = (last - timedelta(days=(last.weekday() + 1) % 7) for last in (march, october))
    return begins <= utc < ends


def rings(minute: float, text: str, days) -> bool:
    """Whether an alarm should ring at this minute, found out without any library that knows about zones."""
    utc = datetime.fromtimestamp(minute, UTC)
    shown = utc + timedelta(hours=2 if summer(utc) else 1)
    as_before = utc + timedelta(hours=2 if summer(utc - timedelta(hours=1)) else 1)  # by a clock not yet changed
    if as_before > shown and f"{shown:%H}" == "02":
        return False  # the second time
    gap = as_before < shown and f"{as_before:%H}" == "02"
    named = {f"{shown:%H:%M}", f"{as_before:%H:%M}"} if gap else {f"{shown:%H:%M}"}
    return text in named and (not days or shown.weekday() in days)


CHANGES = ["2027-03-26T20:00:00", "2026-10-23T20:00:00", "2026-11-21T12:00:00", "2026-12-30T22:00:00"]
TIMES = st.one_of(
    st.sampled_from(["00:00", "01:59", "02:00", "02:30", "02:59", "03:00", "03:30", "07:00", "23:59"]),
    st.tuples(st.integers(0, 23), st.integers(0, 59)).map("{0[0]:02}:{0[1]:02}".format),
)


@settings(max_examples=100)
@given(
    st.sampled_from(CHANGES),
    TIMES,
    st.sets(st.integers(0, 6)),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 50), st.sampled_from(["wait"] * 9 + ["restart"])), min_size=100, max_size=130),
)
@pytest.mark.slow
def test_an_alarm_rings_at_its_local_time_on_each_of_its_days(tmp_path_factory, begin, text, days, once, looks):
    world = World(tmp_path_factory.mktemp("world") / "memory.json", begin)
    world.alarm(text, days, "up", once=once)
    there = True
    for minutes, deed in looks:
        passed = [world.wall + MINUTE * number for number in range(1, minutes + 1)]
        due = there and any(rings(minute, text, days) for minute in passed)
        rang = world.wait(minutes * MINUTE) if deed == "wait" else world.restart(minutes * MINUTE)
        assert rang == (["up"] if due else [])
        there = there and not (due and (once or not days))
        assert world.waiting() == ([(1, "up")] if there else [])


def since_last(wall: float, text: str) -> float:
    """Return how long ago it was *text* the last time, in seconds."""
    return next(ago * MINUTE for ago in range(26 * 60) if rings(wall // MINUTE * MINUTE - ago * MINUTE, text, ()))


@settings(max_examples=100)
@given(
    st.sampled_from(CHANGES),
    TIMES,
    st.lists(
        st.one_of(
            st.tuples(st.just("wait"), st.integers(1, 30 * MINUTE)),
            st.tuples(st.just("clock"), JUMPS),
            st.tuples(st.just("restart"), JUMPS),
        ),
        max_size=12,
    ),
)
def test_whatever_the_clock_does_an_alarm_rings_only_near_its_time_and_goes_on(tmp_path_factory, begin, text, deeds):
    world = World(tmp_path_factory.mktemp("world") / "memory.json", begin)
    world.alarm(text, EVERY_DAY, "up")
    for deed, value in deeds:
        rang = {"wait": world.wait, "clock": world.set_clock, "restart": world.restart}[deed](value)
        assert not rang or since_last(world.wall, text) <= MISSED_AFTER_S
    world.wait(1)
    assert (
        abs(len(world.days_go_by(8 * DAY)) - 8) <= 1
    )  # one less where it has just rung, one more where a day has 25 h


# What rings -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ringing(tmp_path) -> World:
    world = World(tmp_path / "memory.json")
    world.timer(60, "pasta")
    world.wall += 60
    world.steady += 60
    assert world.begins() == ["pasta"]
    return world


def rings_on(world: World, seconds: float) -> list[str]:
    """Look every second for so long, and touch nothing."""
    begun = []
    for _ in range(round(seconds)):
        world.wall += 1
        world.steady += 1
        begun += world.begins()
    return begun


def begins_again(world: World, off: float = 0.0) -> list[str]:
    """The power fails without warning, and the device starts again without its user."""
    world.wall += off
    world.steady = 5.0
    world.alarms = Alarms(StateStore(world.path))
    return world.begins()


def test_it_rings_its_time_and_is_forgotten(ringing):
    assert rings_on(ringing, MAX_RINGING_S - 2) == []
    assert ringing.alarms.ringing
    rings_on(ringing, 3)
    assert (ringing.alarms.ringing, ringing.ended) == (False, 1)
    assert begins_again(ringing) == []


def test_what_was_hushed_is_forgotten(ringing):
    ringing.alarms.stop_ringing()
    assert not ringing.alarms.ringing
    assert begins_again(ringing) == []


@pytest.mark.parametrize("after", [0, 1, 5, 50, 110])
def test_what_ends_the_process_does_not_end_the_alarm(ringing, after):
    rings_on(ringing, after)
    assert begins_again(ringing, off=3) == ["pasta"]
    left = MAX_RINGING_S - after
    rings_on(ringing, left - 2)
    assert ringing.alarms.ringing
    rings_on(ringing, RINGING_SAVE_INTERVAL_S + 4)
    assert (ringing.alarms.ringing, ringing.ended) == (False, 1)


def test_a_clock_that_is_behind_after_the_power_cut_lets_it_ring_all_the_same(ringing):
    assert begins_again(ringing, off=-1000 * DAY) == ["pasta"]


def test_what_was_cut_short_too_long_ago_rings_no_more(ringing, caplog):
    assert begins_again(ringing, off=MISSED_AFTER_S + 1) == []
    assert "an alarm was cut short 1 h ago" in caplog.text
    assert "pasta" not in caplog.text
    assert not ringing.alarms.ringing


def test_without_a_loudspeaker_it_waits_to_be_heard(ringing):
    ringing.audible = False
    rings_on(ringing, 5 * MAX_RINGING_S)
    assert ringing.alarms.ringing
    ringing.audible = True
    rings_on(ringing, MAX_RINGING_S - 2)
    assert ringing.alarms.ringing
    rings_on(ringing, 3)
    assert not ringing.alarms.ringing


def test_it_does_not_wait_for_a_loudspeaker_for_ever(ringing):
    ringing.audible = False
    rings_on(ringing, MISSED_AFTER_S + 1)
    assert (ringing.alarms.ringing, ringing.ended) == (False, 1)


def test_another_one_rings_its_own_time(ringing):
    ringing.timer(100, "tea")
    assert rings_on(ringing, 101) == ["tea"]
    rings_on(ringing, MAX_RINGING_S - 3)
    assert ringing.alarms.ringing
    assert begins_again(ringing) == ["tea"]


@pytest.mark.parametrize(
    "nonsense",
    [0, [], "pasta", {}, {"name": 3}, {"name": "", "at": "x", "rung": 1}, {"name": "", "at": 10**400, "rung": 1},
     {"name": "", "at": 1, "rung": 1e9}, {"name": "x" * 99, "at": 1, "rung": 1}],
)  # fmt: skip
def test_nonsense_does_not_ring(tmp_path, caplog, nonsense):
    memory = StateStore(tmp_path / "memory.json")
    memory.put(RINGING_KEY, nonsense)
    alarms = Alarms(memory)
    assert not alarms.ringing
    assert alarms.due(at("2026-11-21T12:00:00"), 5.0) == []
    assert "not valid" in caplog.text


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("rings"), st.integers(1, 60)),
            st.tuples(st.just("cut"), st.integers(0, round(MISSED_AFTER_S) // 20)),
            st.tuples(st.just("clock"), JUMPS),
            st.tuples(st.just("deaf"), st.integers(1, 60)),
        ),
        max_size=15,
    )
)
def test_whatever_comes_between_it_is_heard_for_its_time_and_no_longer_than_that(tmp_path_factory, deeds):
    world = World(tmp_path_factory.mktemp("world") / "memory.json")
    world.timer(1, "pasta")
    rings_on(world, 1)
    assert world.alarms.ringing
    heard, cuts = 0, 0
    for deed, value in deeds:
        if not world.alarms.ringing:
            break
        match deed:
            case "cut":
                assert begins_again(world, off=value) == ["pasta"]
                cuts += 1
            case "clock":
                world.wall += value
                heard += hears(world, RINGING_SAVE_INTERVAL_S)
            case _:
                world.audible = deed == "rings"
                heard += hears(world, value)
                world.audible = True
    heard += hears(world, 2 * MAX_RINGING_S)
    assert not world.alarms.ringing
    assert MAX_RINGING_S - 1 <= heard <= MAX_RINGING_S + (RINGING_SAVE_INTERVAL_S + 1) * cuts + 1
    assert world.ended == 1


def hears(world: World, seconds: float) -> int:
    """Return how many seconds of the next ones it was heard."""
    heard = 0
    for _ in range(round(seconds)):
        heard += world.audible and world.alarms.ringing
        assert rings_on(world, 1) == []
    return heard
