"""The minutes that a connection costs."""

from __future__ import annotations

import pytest

from device_agent.memory import Memory
from device_agent.meter import SAVE_S, Meter


def meter(daily_minutes: int = 0, memory: Memory | None = None) -> Meter:
    made = Meter(memory or Memory(None), daily_minutes)
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
    m = Meter(Memory(None))
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


def test_without_a_limit_there_is_none():
    m = meter()
    m.connected(0.0)
    m.look("monday", 1e6)
    assert not m.spent


def test_it_goes_on_counting_after_a_restart():
    memory = Memory(None)
    m = meter(memory=memory)
    m.connected(0.0)
    m.disconnected(45.0)
    again = meter(1, memory)
    again.connected(100.0)
    again.disconnected(115.0)
    assert again.spent
    assert again.total == 60.0


def test_a_power_cut_in_a_long_connection_costs_a_minute_at_most():
    memory = Memory(None)
    m = meter(memory=memory)
    m.connected(0.0)
    for second in range(1000):
        m.look("monday", float(second))
    assert 999 - Meter(memory).total <= SAVE_S


@pytest.mark.parametrize("nonsense", [None, 5, [], {"day": 3}, {"today": "x", "total": -4}])
def test_nonsense_in_the_memory_is_nothing(nonsense):
    memory = Memory(None)
    memory.put("connected", nonsense)
    assert meter(memory=memory).total == 0.0
