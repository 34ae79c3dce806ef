"""Exponential backoff with jitter. All times are in seconds."""

from __future__ import annotations

import random

BACKOFF_FIRST_S, BACKOFF_FACTOR, BACKOFF_LIMIT_S = 0.25, 2.0, 30.0
MAX_DOUBLINGS = 32
"""The bound has long reached its limit: more would only be a larger number."""


def backoff(failures: int, rng: random.Random, limit: float = BACKOFF_LIMIT_S) -> float:
    """Return a pause after *failures* earlier ones: between half and all of a growing bound, *limit* at most.

    The jitter keeps the speakers of a street from connecting in the same moment when the power returns.
    """
    bound = min(BACKOFF_FIRST_S * BACKOFF_FACTOR ** min(failures, MAX_DOUBLINGS), BACKOFF_LIMIT_S, limit)
    return rng.uniform(bound / 2, bound)


def idle_backoff(failures: int, rng: random.Random) -> float:
    """Return a pause for a connection that no turn waits for: up to BACKOFF_LIMIT_S, later at least half of that.

    When a service loses all connections at once, they return spread over that time: of a hundred thousand speakers
    3,500 connect in the worst second and not 200,000 (``tests/bench/fleet.py``).
    """
    return rng.uniform(BACKOFF_LIMIT_S / 2 if failures else 0.0, BACKOFF_LIMIT_S)
