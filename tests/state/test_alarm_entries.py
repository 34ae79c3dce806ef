"""What rings, one by one, as tables: when a timer and an alarm are due by two clocks, and what a file may say of them.

Whole stories of them, with restarts in between, are in ``test_alarms.py``. Here it is Saturday noon, in UTC.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.state.alarm_entries import (
    CLOCK_SLACK_S,
    MAX_ALARM_NAME_CHARS,
    MAX_ALARM_NUMBER,
    MAX_RINGING_S,
    MAX_TIMER_S,
    MAX_WALL_CLOCK_S,
    MISSED_AFTER_S,
    RINGING_SAVE_INTERVAL_S,
    TIMER_DRIFT_S,
    Alarm,
    Ringing,
    Timer,
    read,
    read_ringing,
)

NOON = 1795262400.0  # Saturday, 2026-11-21
STEADY = 1000.0
MINUTE, HOUR, DAY = 60, 3600, 86400
SATURDAY, SUNDAY = 5, 6


@pytest.fixture(autouse=True, scope="module")
def zone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC0")
        time.tzset()
        yield
    time.tzset()


# Timers ---------------------------------------------------------------------------------------------------------------

TEA = Timer(1, "tea", 600, NOON + 600, over=STEADY + 600)
OLD = replace(TEA, loaded=True)


@pytest.mark.parametrize(
    ("timer", "wall", "steady", "left"),
    [
        (TEA, 0, 0, 600),
        (TEA, 0, 400, 200),
        (TEA, 5 * HOUR, 400, 200),  # the wall clock was set
        (TEA, 400, 700, -100),
        (replace(TEA, over=None), 0, 400, 600),
        (OLD, 400, 400, 200),
        (OLD, 700, 400, -100),  # the wall clock knows that there was no power
        (OLD, -5 * HOUR, 400, 200),  # and has yet to be set
    ],
)
def test_how_long_a_timer_has_left(timer, wall, steady, left):
    assert timer.left(NOON + wall, STEADY + steady) == left


def test_its_length_counts_from_the_moment_that_this_process_first_saw_it():
    seen = replace(TEA, over=None).seen(STEADY)
    assert seen == TEA
    assert seen.seen(STEADY + 50) == TEA


@pytest.mark.parametrize("drift", [0, TIMER_DRIFT_S, -TIMER_DRIFT_S, TIMER_DRIFT_S + 1, -TIMER_DRIFT_S - 1])
def test_its_end_is_written_again_only_when_the_clock_was_set_by_more_than_it_may_drift(drift):
    assert OLD.look(NOON + drift, STEADY) == (False, OLD)
    moved = replace(TEA, ends=TEA.ends + drift) if abs(drift) > TIMER_DRIFT_S else TEA
    assert TEA.look(NOON + drift, STEADY) == (False, moved)


@pytest.mark.parametrize(
    ("timer", "late", "rings"),
    [
        (TEA, 0, True),
        (TEA, 2 * MISSED_AFTER_S, True),
        (OLD, 0, True),
        (OLD, MISSED_AFTER_S, True),
        (OLD, MISSED_AFTER_S + 1, False),
    ],
)
def test_a_timer_rings_at_its_end_and_one_that_was_loaded_not_long_after_it(timer, late, rings):
    assert timer.look(TEA.ends + late, TEA.over) == (rings, None)


# Alarms ---------------------------------------------------------------------------------------------------------------

UP = Alarm(2, "up", 12, 30, frozenset(), once=False, since=NOON, waiting=STEADY)
ONCE = replace(UP, once=True)
KNOWN = replace(UP, loaded=True)


@pytest.mark.parametrize(
    ("alarm", "wall", "steady", "left"),
    [
        (UP, 0, 0, 30 * MINUTE),
        (UP, 600, 600, 20 * MINUTE),
        (replace(UP, hour=12, minute=0), 0, 0, DAY),  # that very moment is over
        (replace(UP, days=frozenset([SUNDAY])), 0, 0, DAY + 30 * MINUTE),
        (replace(UP, hour=11, days=frozenset([SATURDAY])), 0, 0, 7 * DAY - 30 * MINUTE),
        (UP, HOUR + CLOCK_SLACK_S, HOUR, -30 * MINUTE - CLOCK_SLACK_S),  # a small correction: it is still due
        (
            UP,
            HOUR + CLOCK_SLACK_S + 1,
            HOUR,
            -30 * MINUTE - CLOCK_SLACK_S - 1,
        ),  # as it is when the clock was set, by 5 minutes
        (UP, 3 * HOUR, 0, 21 * HOUR + 30 * MINUTE),  # but not when that was past it
        (UP, -3 * HOUR, 0, 3 * HOUR + 30 * MINUTE),
        (UP, -CLOCK_SLACK_S, 0, 30 * MINUTE + CLOCK_SLACK_S),
        (KNOWN, 3 * HOUR, 0, -2.5 * HOUR),  # there was no power
        (KNOWN, -3 * HOUR, 0, 3 * HOUR + 30 * MINUTE),  # the clock has yet to be set
        (replace(KNOWN, waiting=None), 3 * HOUR, 0, -2.5 * HOUR),
        (replace(KNOWN, waiting=None), -3 * HOUR, 0, 3 * HOUR + 30 * MINUTE),
    ],
)
def test_how_long_an_alarm_has_left(alarm, wall, steady, left):
    assert alarm.left(NOON + wall, STEADY + steady) == left


LUNCH = replace(UP, since=NOON + 30 * MINUTE)  # it rang at 12:30


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize(("set_back", "again"), [(CLOCK_SLACK_S, False), (CLOCK_SLACK_S + 1, True)])
def test_what_rang_rings_again_when_the_clock_was_set_back_by_more_than_a_little(loaded, set_back, again):
    """After that the clock shows a time before 12:30 once more."""
    alarm = replace(LUNCH, loaded=loaded)
    assert (alarm.left(LUNCH.since - set_back, STEADY) == set_back) is again


def test_it_waits_from_the_moment_that_this_process_first_saw_it():
    assert replace(UP, waiting=None).seen(STEADY) == UP
    assert UP.seen(STEADY + 50) == UP


def test_before_it_is_due_an_alarm_stays_as_it_is_unless_the_clock_was_set():
    assert UP.look(NOON + 29 * MINUTE, STEADY + 29 * MINUTE) == (False, UP)
    assert UP.look(NOON + HOUR, STEADY) == (False, replace(UP, since=NOON + HOUR))
    assert KNOWN.look(NOON - HOUR, STEADY) == (False, KNOWN)


@pytest.mark.parametrize(("late", "rings"), [(0, True), (MISSED_AFTER_S, True), (MISSED_AFTER_S + 0.5, False)])
def test_an_alarm_rings_when_it_is_due_or_not_long_after_it(late, rings, caplog):
    wall, steady = NOON + 30 * MINUTE + late, STEADY + 30 * MINUTE + late
    assert ONCE.look(wall, steady) == (rings, None)
    assert UP.look(wall, steady) == (rings, replace(UP, since=wall, waiting=steady))
    assert KNOWN.look(wall, STEADY) == (rings, replace(UP, since=wall))
    assert len(caplog.records) == (0 if rings else 3)


@pytest.mark.parametrize(("late", "rings"), [(0, True), (MISSED_AFTER_S, True), (MISSED_AFTER_S + 0.5, False)])
def test_of_many_that_were_missed_the_last_one_may_ring(late, rings):
    wall = NOON + 5 * DAY + 30 * MINUTE + late
    assert KNOWN.look(wall, STEADY) == (rings, replace(UP, since=wall))
    assert replace(KNOWN, once=True).look(wall, STEADY) == (False, None)


# What rings -----------------------------------------------------------------------------------------------------------

PASTA = Ringing("pasta", NOON, counted=STEADY)


@pytest.mark.parametrize(
    ("before", "audible", "passed", "after"),
    [
        (PASTA, True, 4, {"rung": 4}),
        (
            PASTA,
            True,
            RINGING_SAVE_INTERVAL_S,
            {"rung": RINGING_SAVE_INTERVAL_S, "at": NOON + RINGING_SAVE_INTERVAL_S},
        ),  # it is noted
        (PASTA, False, 4, {"unheard": 4}),
        (
            PASTA,
            False,
            RINGING_SAVE_INTERVAL_S,
            {"unheard": RINGING_SAVE_INTERVAL_S, "at": NOON + RINGING_SAVE_INTERVAL_S},
        ),
        (replace(PASTA, rung=6, unheard=3), False, 1, {"unheard": 4, "at": NOON + 1}),
        (replace(PASTA, rung=6, unheard=5), True, 8, {"rung": 14}),
        (replace(PASTA, counted=None), True, 50, {}),  # what passed before it was seen is not heard
        (PASTA, True, -5, {}),
        (PASTA, True, MAX_RINGING_S - 1, {"rung": MAX_RINGING_S - 1, "at": NOON + MAX_RINGING_S - 1}),
        (PASTA, True, MAX_RINGING_S, None),
        (PASTA, False, MISSED_AFTER_S - 1, {"unheard": MISSED_AFTER_S - 1, "at": NOON + MISSED_AFTER_S - 1}),
        (PASTA, False, MISSED_AFTER_S, None),
    ],
)
def test_it_rings_until_it_was_heard_for_long_enough_or_not_at_all_for_too_long(before, audible, passed, after):
    expected = None if after is None else replace(before, counted=STEADY + passed, **after)
    assert before.heard(NOON + passed, STEADY + passed, audible=audible) == expected


@pytest.mark.parametrize(("off", "again"), [(-DAY, True), (MISSED_AFTER_S, True), (MISSED_AFTER_S + 1, False)])
def test_it_is_taken_up_again_after_a_short_while_without_power(off, again):
    assert PASTA.rings_again(NOON + off) is again


@pytest.mark.parametrize(("off", "told"), [(MISSED_AFTER_S + 1, "1 h"), (47.4 * HOUR, "47 h"), (2 * DAY, "2 days")])
def test_the_log_says_how_long_ago_it_was(off, told, caplog):
    assert not PASTA.rings_again(NOON + off)
    assert f" {told} ago" in caplog.text


# In a file ------------------------------------------------------------------------------------------------------------

NAMES = st.text(max_size=MAX_ALARM_NAME_CHARS)
MOMENTS = st.floats(0, MAX_WALL_CLOCK_S)
NUMBERS = st.integers(1, MAX_ALARM_NUMBER)
TIMERS = st.builds(Timer, NUMBERS, NAMES, st.floats(1, MAX_TIMER_S), MOMENTS, loaded=st.just(True))
ALARMS = st.builds(
    Alarm, NUMBERS, NAMES, st.integers(0, 23), st.integers(0, 59), st.frozensets(st.integers(0, 6), min_size=1),
    once=st.booleans(), since=MOMENTS, loaded=st.just(True),
)  # fmt: skip


@given(st.one_of(TIMERS, ALARMS))
def test_what_was_written_is_read(entry):
    assert read(entry.written()) == entry


def test_in_the_file_days_are_words_in_the_order_of_the_week():
    written = replace(UP, days=frozenset([6, 0, 5, 1, 3, 2, 4])).written()
    assert written["days"] == ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    assert written["time"] == "12:30"


TIMER, ALARM = TEA.written(), ONCE.written()
RANG = {"name": "pasta", "at": NOON, "rung": 0.0}


@pytest.mark.parametrize(
    ("known", "field", "least", "most", "step"),
    [
        (TIMER, "number", 1, MAX_ALARM_NUMBER, 1),
        (TIMER, "seconds", 1, DAY, 0.5),
        (TIMER, "ends", 0, MAX_WALL_CLOCK_S, 0.5),
        (ALARM, "number", 1, MAX_ALARM_NUMBER, 1),
        (ALARM, "since", 0, MAX_WALL_CLOCK_S, 0.5),
        (RANG, "at", 0, MAX_WALL_CLOCK_S, 0.5),
        (RANG, "rung", 0, MAX_RINGING_S, 0.5),
    ],
)
def test_how_small_and_how_large_a_number_may_be(known, field, least, most, step):
    reader = read_ringing if known is RANG else read
    for value in (least, float(most)):
        assert getattr(reader({**known, field: value}), field) == value
    for value in (least - step, most + step):
        with pytest.raises(ValueError, match=field):
            reader({**known, field: value})


@pytest.mark.parametrize("known", [TIMER, ALARM, RANG], ids=["timer", "alarm", "what rang"])
def test_how_long_a_name_may_be(known):
    reader = read_ringing if known is RANG else read
    assert reader({**known, "name": "x" * MAX_ALARM_NAME_CHARS}).name == "x" * MAX_ALARM_NAME_CHARS
    with pytest.raises(ValueError, match="name"):
        reader({**known, "name": "x" * (MAX_ALARM_NAME_CHARS + 1)})


@pytest.mark.parametrize("text", ["00:00", "09:59", "19:30", "20:00", "23:59"])
def test_a_time_of_the_day_is_read(text):
    alarm = read({**ALARM, "time": text})
    assert f"{alarm.hour:02}:{alarm.minute:02}" == text


@pytest.mark.parametrize("text", ["24:00", "9:30", "12:60", "12:3", " 12:30", "12:30 ", "1230", "", None, 1230])
def test_what_is_no_time_of_the_day_is_not(text):
    with pytest.raises(ValueError, match="time"):
        read({**ALARM, "time": text})


@pytest.mark.parametrize("days", [["sunday", "noday"], [6], "sunday", {}, None])
def test_what_is_no_list_of_days_of_the_week_is_not_read(days):
    with pytest.raises(ValueError, match="^its days should be days of the week$"):
        read({**ALARM, "days": days})


def test_an_alarm_rings_once_or_has_days():
    assert read({**ALARM, "once": True, "days": []}).once
    assert read({**ALARM, "once": False, "days": ["sunday"]}).days == {SUNDAY}
    with pytest.raises(ValueError, match="once"):
        read({**ALARM, "once": False, "days": []})


@given(st.floats(0, MAX_RINGING_S))
def test_what_rang_is_noted_as_a_little_shorter_than_it_was(rung):
    again = read_ringing(replace(PASTA, rung=rung).written())
    assert (again.name, again.at, again.unheard, again.counted) == ("pasta", NOON, 0.0, None)
    assert rung - RINGING_SAVE_INTERVAL_S < again.rung <= rung


def test_where_nothing_rang_nothing_rings():
    assert read_ringing(None) is None
