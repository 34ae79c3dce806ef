"""How long to wait before trying again."""

from __future__ import annotations

import random
from itertools import islice

from device_agent.backoff import FIRST, LIMIT, backoff


def test_delays_grow_from_a_quarter_of_a_second_to_half_a_minute():
    delays = list(islice(backoff(random.Random(1)), 50))
    bounds = [min(FIRST * 2**n, LIMIT) for n in range(50)]
    assert all(bound / 2 <= delay <= bound for delay, bound in zip(delays, bounds, strict=True))


def test_no_two_speakers_wait_alike():
    assert len({next(backoff(random.Random(seed))) for seed in range(100)}) == 100
