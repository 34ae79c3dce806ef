"""What the soak makes of what it saw: it finds what grows, and cries wolf about nothing else."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter

import numpy as np
import pytest

from tests.bench.life import EVERY, FAULTS, HARDSHIPS, Clock, Life, course
from tests.bench.soak import (
    BOUNDS,
    LEAST_TURNS,
    STATE,
    Diary,
    failures,
    grew,
    report,
    too_much,
    trend,
    unit_environment,
)

RNG = np.random.default_rng(1)


def life(turns: int, **more: np.ndarray) -> Diary:
    """An agent that does not grow but for what is said: name -> values by turn, on top of what is usual."""
    usual = {"resident_KiB": 80000.0, "heap_KiB": 30000.0, "objects": 200000.0, "threads": 8.0, "descriptors": 17.0}
    columns = [0.6 * np.arange(turns), *(value + more.get(name, np.zeros(turns)) for name, value in usual.items())]
    return Diary(rows=[tuple(row) for row in np.column_stack(columns)], hardships=Counter(HARDSHIPS))


def verdict(diary: Diary) -> list[str]:
    rows = np.array(diary.rows)
    return failures({name: trend(rows[:, 0], rows[:, n]) for n, name in enumerate(STATE, 1)}, diary)


def steps(turns: int) -> np.ndarray:
    """Memory that moves as it does: by pages, up and down, and up for good when a cache gets something more."""
    return np.cumsum(RNG.choice([0, 4, 64], turns, p=[0.97, 0.02, 0.01])) + RNG.choice([0, 40], turns)


@pytest.mark.parametrize("turns", [LEAST_TURNS, 100, 3000])
def test_nothing_grows_and_nothing_is_said(turns):
    connections = RNG.choice([0, 4], turns, p=[0.2, 0.8])
    assert not verdict(life(turns, resident_KiB=RNG.normal(0, 200, turns), descriptors=connections))


def test_a_cache_that_fills_up_is_no_leak():
    assert not verdict(life(100, resident_KiB=1500 * (1 - np.exp(-np.arange(100) / 30)), objects=15.0 * np.arange(100)))


def test_memory_that_moves_by_steps_is_no_leak():
    assert not verdict(life(3000, resident_KiB=steps(3000)))


@pytest.mark.parametrize(("turns", "a_turn"), [(100, 70.0), (3000, 2.0)])
def test_a_leak_is_found_the_smaller_the_longer_one_looks(turns, a_turn):
    (found,) = verdict(life(turns, resident_KiB=a_turn * np.arange(turns) + RNG.normal(0, 200, turns)))
    assert found.startswith("resident KiB: grows")


def test_the_slope_is_what_it_is_give_or_take():
    values = 3.0 * np.arange(1000) + RNG.normal(0, 50, 1000)
    each = trend(0.6 * np.arange(1000), values)
    assert abs(each.per_turn - 3) < each.margin < 0.5
    assert each.per_hour == pytest.approx(each.per_turn * 6000)
    assert too_much(each, 1000, BOUNDS["resident KiB"])


def test_a_descriptor_that_stays_with_every_fault_is_found():
    leaked = np.arange(100) // 4
    (found,) = verdict(life(100, descriptors=leaked + RNG.choice([0, 4], 100, p=[0.2, 0.8])))
    assert found.startswith("descriptors")


def test_one_more_thread_for_good_is_found_and_one_that_ends_is_not():
    assert grew(np.repeat([7, 8], 50))
    assert not grew(np.repeat([7, 9, 7], [40, 8, 52]))


def test_a_lost_turn_is_said_and_so_is_a_life_that_was_too_short():
    diary = Diary(rows=[(1.0,) * 6], hardships=Counter(HARDSHIPS), troubles=["turn 1, held: waited"])
    assert failures({}, diary) == ["turn 1, held: waited", "1 turns are too few to say anything"]


@pytest.mark.parametrize("when", ["assembling", "renewing"])
def test_a_press_without_effect_is_said_and_fails(when, capsys):
    diary = life(LEAST_TURNS)
    diary.tally.update({f"{when}: presses": 7, f"{when}: inside": 4})
    assert report(diary) == 0
    diary.tally[f"{when}: lost"] = 2
    assert verdict(diary) == [f"2 of 7 presses while {when} were without effect"]
    assert report(diary) == 1
    assert "4 inside, 2 lost" in capsys.readouterr().out


def test_a_hardship_that_was_never_met_is_said():
    diary = life(LEAST_TURNS)
    del diary.hardships["capped"], diary.hardships["renewed"]
    assert verdict(diary) == ["never met: capped, renewed"]


def test_every_hardship_and_every_fault_has_its_turn():
    turns = list(itertools.islice(course(random.Random(1)), EVERY * len(HARDSHIPS)))
    kinds = Counter(kind for kind, _ in turns)
    assert {kind: kinds[kind] for kind in HARDSHIPS} == Counter(HARDSHIPS)
    assert set(FAULTS) <= {kind for kind, is_fault in turns if is_fault}
    assert all(callable(getattr(Life, kind)) for kind in HARDSHIPS)


def test_a_clock_shows_what_it_is_set_to_and_the_true_time_at_the_end():
    with Clock() as clock:
        clock.show(3600.0)
        assert time.time() == pytest.approx(3600.0, abs=60.0)
        assert time.strftime("%Y") == clock.day[:4] == "1970"
        assert time.localtime().tm_year == 1970
        assert time.localtime(86400.0 * 366).tm_year == 1971
    assert time.localtime().tm_year > 2020
    assert time.time() > 1.5e9


def test_the_agent_lives_in_the_environment_of_its_unit():
    assert unit_environment()["OPENBLAS_NUM_THREADS"] == "1"
    assert not any("%" in value for value in unit_environment().values())
