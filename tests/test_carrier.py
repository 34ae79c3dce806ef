"""When a session is old."""

from __future__ import annotations

import pytest

from device_agent.carrier import BELIEVED_S, MARGIN_S, RENEW_S, renew_in

NOW = 1_790_000_000.0


def test_a_session_is_renewed_some_minutes_before_its_end():
    assert renew_in(NOW + 3600, NOW) == 3600 - MARGIN_S


def test_a_short_session_has_a_short_margin():
    assert renew_in(NOW + 60, NOW) == pytest.approx(54)


@pytest.mark.parametrize("end", [0.0, NOW, NOW - 1, -NOW, NOW + BELIEVED_S + 1, float("inf"), float("nan")])
def test_an_end_that_makes_no_sense_is_not_believed(end):
    assert renew_in(end, NOW) == RENEW_S
