"""What the lights show: every mood its own, to the eye as well."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.conversation import MOODS
from device_agent.hardware.light_patterns import COLOURS, PATTERNS, ROUNDING_S, Pattern, lit

ALL_MOODS = {
    *("starting", "ready", "follow-up", "listening", "thinking"),
    *("speaking", "mistake", "offline", "refused", "muted", "trouble"),
}


@pytest.mark.parametrize(("patterns", "pins"), [(PATTERNS, 1), (COLOURS, 3)])
def test_every_mood_has_a_pattern_of_its_own(patterns, pins):
    assert set(patterns) == set(MOODS.values()) | ALL_MOODS
    assert len(set(patterns.values())) == len(patterns)
    for pattern in patterns.values():
        assert all(seconds > 0 and len(colour) == pins for colour, seconds in pattern)
        assert any(any(colour) for colour, _ in pattern)  # dark means that the agent does not run


def glance(pattern: Pattern) -> list[float]:
    """Return what an eye notices: how often it flashes, how long the longest flash and the longest dark last."""
    if len(pattern) == 1:
        return [0.001, 1000.0, 0.001]
    flashes = [seconds for colour, seconds in pattern if any(colour)]
    darks = [seconds for colour, seconds in pattern if not any(colour)] or [0.001]
    return [len(flashes) / sum(seconds for _, seconds in pattern), max(flashes), max(darks)]


@pytest.mark.parametrize("patterns", [PATTERNS, COLOURS])
def test_any_two_moods_are_told_apart_at_a_glance(patterns):
    for one, other in combinations(patterns, 2):
        colours = [{colour for colour, _ in patterns[mood] if any(colour)} for mood in (one, other)]
        ratios = [max(a, b) / min(a, b) for a, b in zip(glance(patterns[one]), glance(patterns[other]), strict=True)]
        assert colours[0] != colours[1] or max(ratios) > 1.4, (one, other)


def test_ready_is_nearly_dark_but_alive():
    for patterns in (PATTERNS, COLOURS):
        (_, spark), (colour, dark) = patterns["ready"]
        assert not any(colour)
        assert spark < 0.05 * dark


@given(st.sampled_from([*PATTERNS.values(), *COLOURS.values()]), st.floats(0, 1e6))
def test_a_pattern_goes_on_for_ever_in_its_order(pattern, elapsed):
    colour, left = lit(pattern, elapsed)
    if len(pattern) == 1:
        assert (colour, left) == (pattern[0][0], None)
        return

    assert any(step[0] == colour and 0 < left <= step[1] + 2 * ROUNDING_S for step in pattern)
    follows = lit(pattern, elapsed + left + 1e-6)[0]
    assert any((colour, follows) == (a[0], b[0]) for a, b in zip(pattern, pattern[1:] + pattern[:1], strict=True))


def test_a_moment_that_rounding_puts_behind_the_last_step_belongs_to_the_first():
    """Less than half a second, and yet, less 0.15, no less than 0.35."""
    assert lit((((1,), 0.15), ((0,), 0.35)), 0.49999999999999994) == ((1,), 0.15)
