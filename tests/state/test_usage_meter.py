"""The minutes that a connection costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.state.store import StateStore
from device_agent.state.usage_meter import CLOCK_TRUSTED_AFTER_S, MAX_USAGE_DAYS, USAGE_SAVE_INTERVAL_S, UsageMeter


def meter(daily_minutes: int = 0, memory: StateStore | None = None) -> UsageMeter:
    made = UsageMeter(memory or StateStore(None), daily_minutes)
    made.look("monday", 0.0)
    return made


def test_only_the_time_of_a_connection_counts():
    m = meter()
    m.look("monday", 50.0)
    m.connected(100.0)
    m.disconnected(130.0)
    m.look("monday", 500.0)
    m.connected(600.0)
    m.look("monday", 610.0)
    assert (m.today, m.total) == (40.0, 40.0)


def test_the_first_second_of_the_first_day_counts():
    m = UsageMeter(StateStore(None))
    m.connected(100.0)
    m.look("monday", 101.0)
    m.look("monday", 102.0)
    assert (m.today, m.total) == (2.0, 2.0)


def test_told_twice_it_counts_once():
    m = meter()
    m.connected(100.0)
    m.connected(110.0)
    m.disconnected(120.0)
    m.disconnected(130.0)
    assert m.total == 20.0


def test_each_day_begins_with_all_of_its_minutes():
    m = meter(daily_minutes=1)
    m.connected(0.0)
    m.look("monday", 59.0)
    assert not m.spent
    m.look("monday", 60.0)
    assert m.spent
    m.look("tuesday", 61.0)
    assert not m.spent
    assert (m.today, m.total) == (0.0, 61.0)


@pytest.mark.parametrize("m", [meter(), meter(0), UsageMeter(StateStore(None))])
def test_without_a_limit_there_is_none(m):
    m.connected(0.0)
    m.look("monday", 1e6)
    assert not m.spent


def test_it_goes_on_counting_after_a_restart():
    memory = StateStore(None)
    m = meter(memory=memory)
    m.connected(0.0)
    m.disconnected(45.0)
    again = meter(1, memory)
    again.connected(100.0)
    again.disconnected(115.0)
    assert again.spent
    assert again.total == 60.0


def test_a_power_cut_in_a_long_connection_costs_a_minute_at_most():
    memory = StateStore(None)
    m = meter(memory=memory)
    m.connected(0.0)
    for second in range(1000):
        m.look("monday", float(second))
    assert 999 - UsageMeter(memory).total <= USAGE_SAVE_INTERVAL_S


def test_however_often_it_looks_it_counts_the_same():
    m = meter()
    m.connected(0.0)
    for quarter in range(41):
        m.look("monday", quarter / 4)
    m.disconnected(10.25)
    assert (m.today, m.total) == (10.25, 10.25)


class Noting(StateStore):
    """A memory that counts how often it was written."""

    def __init__(self) -> None:
        super().__init__(None)
        self.written = 0

    def put(self, key: str, value: object) -> None:
        self.written += 1
        super().put(key, value)


def test_a_connection_that_lasts_is_noted_once_in_a_while_and_no_connection_never():
    memory = Noting()
    m = meter(memory=memory)
    m.connected(0.0)
    noted = []
    for second in range(1, 1000):
        before = memory.written
        m.look("monday", float(second))
        noted += [second] * (memory.written - before)
    assert noted == list(range(int(USAGE_SAVE_INTERVAL_S), 1000, int(USAGE_SAVE_INTERVAL_S)))
    m.disconnected(1000.0)
    before = memory.written
    m.look("monday", 2000.0)
    assert memory.written == before


def test_what_is_noted_other_versions_can_read():
    memory = StateStore(None)
    m = UsageMeter(memory)
    now = use(m, "2026-11-29", 100)
    use(m, "2026-11-30", 61, now)
    days = {"2026-11-29": 100, "2026-11-30": 61}
    assert memory.get("connected") == {"day": "2026-11-30", "today": 61, "total": 161, "days": days}


def test_a_new_day_is_noted_at_once():
    memory = StateStore(None)
    m = UsageMeter(memory, 1)
    m.look("tuesday", use(m, "monday", 60))
    assert not UsageMeter(memory, 1).spent


def use(m: UsageMeter, day: str, seconds: float, now: float = 0.0) -> float:
    """Be connected for so long; return the time then."""
    m.look(day, now)
    m.connected(now)
    m.look(day, now + seconds - 1)
    m.disconnected(now + seconds)
    return now + seconds


def test_what_an_older_version_noted_is_known():
    memory = StateStore(None)
    memory.put("connected", {"day": "2026-11-30", "today": 61, "total": 100})
    m = UsageMeter(memory, 1)
    assert m.spent
    m.look("2026-11-30", 1.0)
    assert m.spent
    m.look("2026-12-01", 2.0)
    assert (m.today, m.total) == (0.0, 100.0)


def test_what_an_older_version_noted_of_yesterday_does_not_count_today():
    memory = StateStore(None)
    memory.put("connected", {"day": "2026-11-30", "today": 61, "total": 100})
    m = UsageMeter(memory, 1)
    m.look("2026-12-01", 1.0)
    assert (m.today, m.total) == (0.0, 100.0)


@pytest.mark.parametrize("wrong", ["1970-01-01", "2026-11-29", "2026-12-01", "2031-01-01"])
def test_a_clock_that_is_wrong_after_a_start_gives_no_minutes_back(wrong):
    memory = StateStore(None)
    use(UsageMeter(memory, 30), "2026-11-30", 1801)
    for _ in range(9):  # starts
        m = UsageMeter(memory, 30)
        m.look(wrong, 1.0)
        m.look("2026-11-30", 30.0)
        assert m.spent
    assert m.today == 1801
    m.look("2026-12-01", 30.0 + CLOCK_TRUSTED_AFTER_S)
    assert not m.spent


def test_what_was_used_while_the_clock_was_behind_counts():
    memory = StateStore(None)
    use(UsageMeter(memory), "2026-11-30", 1000)
    m = UsageMeter(memory)
    now = use(m, "2026-11-29", 500)
    m.look("2026-11-30", now)
    assert m.today == 1500
    m.look("2026-11-28", now)
    assert m.today == 1500, "minutes of a later day count on an earlier one, too"


def test_a_power_cut_while_the_clock_is_behind_gives_no_minutes_back():
    memory = StateStore(None)
    use(UsageMeter(memory, 30), "2026-11-30", 1801)
    use(UsageMeter(memory, 30), "1970-01-01", 10)
    m = UsageMeter(memory, 30)
    m.look("2026-11-30", 0.0)
    assert m.today == 1811


def test_what_is_used_on_a_later_day_is_not_used_on_an_earlier_one_as_well():
    m = UsageMeter(StateStore(None))
    now = use(m, "2026-11-29", 1800)
    m.look("2026-11-29", now := use(m, "2026-11-30", 500, now))
    assert m.today == 1800


@pytest.mark.parametrize(("others", "kept"), [(MAX_USAGE_DAYS - 1, True), (MAX_USAGE_DAYS, False)])
def test_the_days_that_the_clock_showed_last_are_kept(others, kept):
    memory = StateStore(None)
    now = use(UsageMeter(memory, 30), "2026-11-30", 1801)
    for day in range(others):
        UsageMeter(memory).look(f"1970-01-0{1 + day}", now)
    m = UsageMeter(memory, 30)
    m.look("2026-11-30", now)
    assert m.spent is kept


def test_minutes_of_a_day_that_never_was_do_not_count_for_ever():
    memory = StateStore(None)
    use(UsageMeter(memory, 30), "2031-01-01", 1801)  # the clock was ahead
    for seconds, spent in [(CLOCK_TRUSTED_AFTER_S - 1, True), (CLOCK_TRUSTED_AFTER_S, False)]:
        m = UsageMeter(memory, 30)
        m.look("2026-11-30", 5000.0)
        m.look("2026-11-30", 5000.0 + seconds)
        m.look("2026-11-30", 5000.5 + seconds)
        again = UsageMeter(memory, 30)
        again.look("2026-12-01", 0.0)
        assert again.spent is spent


DAYS = ["1970-01-01", *(f"2026-11-{day}" for day in range(25, 31)), "2026-12-01", "2031-01-01"]


@given(
    st.lists(
        st.tuples(st.sampled_from(DAYS), st.integers(1, int(CLOCK_TRUSTED_AFTER_S) - 1), st.integers(0, 900)),
        max_size=12,
    )
)
def test_a_cap_that_is_used_up_stays_so_whatever_the_clock_says_in_between(starts):
    memory, real = StateStore(None), "2026-11-28"
    used = 0.0
    for wrong, seconds, spent in starts:
        m = UsageMeter(memory, 30)
        m.look(wrong, 0.0)
        m.look(wrong, seconds)
        used += spent
        use(m, real, max(2.0, spent), now=seconds)
        assert m.today >= used


@pytest.mark.parametrize(
    "nonsense",
    [None, 5, [], {"day": 3}, {"today": "x", "total": -4}, {"day": "x", "today": 10**400, "total": True},
     {"days": {"x" * 99: 5, "2026-11-30": 10**400}}, {"days": [1, 2]}, {"days": {"": None}}],
)  # fmt: skip
def test_nonsense_in_the_memory_is_nothing(nonsense):
    memory = StateStore(None)
    memory.put("connected", nonsense)
    assert meter(memory=memory).total == 0.0
