"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST, FACTOR, LIMIT = 0.25, 2.0, 30.0
"""Seconds: the first bound, what it grows by, and where it stops growing."""


def backoff(rng: random.Random | None = None) -> Iterator[float]:
    """Yield delays in seconds for ever, each somewhere between half and all of a growing bound.

    The jitter keeps a street of speakers from dialling in the same moment when the power comes back.
    """
    uniform = (rng or random).uniform
    bound = FIRST
    while True:
        yield uniform(bound / 2, bound)
        bound = min(bound * FACTOR, LIMIT)


def calm(rng: random.Random | None = None) -> Iterator[float]:
    """Yield delays for whom nobody waits for: the first somewhere within LIMIT, the others in its second half.

    When a service loses everybody in one moment, they come back spread over LIMIT and not all at once: of a hundred
    thousand speakers 3,500 dial in the worst second and not 200,000 (``tests/bench_fleet.py``).
    """
    uniform = (rng or random).uniform
    yield uniform(0.0, LIMIT)
    while True:
        yield uniform(LIMIT / 2, LIMIT)
