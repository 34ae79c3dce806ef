"""How long to wait before trying again."""

from __future__ import annotations

import random

import pytest

from device_agent.link.backoff import BACKOFF_FIRST_S, BACKOFF_LIMIT_S, backoff, idle_backoff


def test_pauses_grow_from_a_quarter_of_a_second_to_half_a_minute():
    rng = random.Random(1)
    for failures in range(50):
        bound = min(BACKOFF_FIRST_S * 2**failures, BACKOFF_LIMIT_S)
        assert bound / 2 <= backoff(failures, rng) <= bound


def test_what_is_waited_for_has_a_limit_of_its_own():
    rng = random.Random(1)
    assert all(0.5 <= backoff(failures, rng, 1.0) <= 1.0 for failures in range(2, 50))


def test_any_number_of_failures_has_a_pause():
    assert BACKOFF_LIMIT_S / 2 <= backoff(10**9, random.Random(1)) <= BACKOFF_LIMIT_S


def test_what_nothing_waits_for_comes_back_at_first_some_time_and_then_in_the_second_half():
    firsts, later = ([idle_backoff(failures, random.Random(seed)) for seed in range(200)] for failures in (0, 1))
    assert min(firsts) < 3.0
    assert max(firsts) <= BACKOFF_LIMIT_S
    assert BACKOFF_LIMIT_S / 2 <= min(later) <= max(later) <= BACKOFF_LIMIT_S


@pytest.mark.parametrize("pause", [backoff, idle_backoff])
def test_no_two_speakers_wait_alike(pause):
    assert len({pause(0, random.Random(seed)) for seed in range(100)}) == 100
