"""Which of several services to try next."""

from __future__ import annotations

from device_agent.roster import AWAY_S, GOOD_S, Roster


def test_one_service_is_tried_again_after_growing_pauses():
    roster = Roster(1)
    pauses = [roster.failed(0.0) for _ in range(6)]
    assert roster.choose(0.0) == 0
    assert 0.1 <= pauses[0] <= 0.25
    assert 4.0 <= pauses[5] <= 8.0


def test_who_cannot_be_reached_is_passed_over_at_once():
    roster = Roster(3)
    assert roster.failed(0.0) == 0.0
    assert roster.choose(0.0) == 1
    assert roster.failed(0.0) == 0.0
    assert roster.choose(0.0) == 2


def test_when_nobody_can_be_reached_there_is_a_pause_and_the_first_is_next():
    roster = Roster(2)
    roster.failed(0.0)
    assert roster.failed(0.0) > 0.0
    assert roster.choose(0.0) == 0


def test_who_was_reached_and_lost_is_tried_again():
    roster = Roster(2)
    roster.worked(5.0)
    assert roster.failed(0.0) > 0.0
    assert roster.choose(0.0) == 0
    assert roster.failed(0.0) == 0.0  # not there any more
    assert roster.choose(0.0) == 1


def test_who_was_reached_and_does_not_answer_is_passed_over():
    roster = Roster(2)
    roster.worked(5.0)
    assert roster.failed(0.0, mute=True) == 0.0
    assert roster.choose(0.0) == 1
    assert roster.choose(AWAY_S) == 0


def test_who_does_not_answer_is_tried_again_where_there_is_nobody_else():
    roster = Roster(1)
    roster.worked(5.0)
    assert roster.failed(0.0, mute=True) > 0.0
    assert roster.choose(0.0) == 0


def test_the_first_is_tried_again_later():
    roster = Roster(2)
    roster.failed(1000.0)
    roster.worked(GOOD_S)
    assert roster.choose(1000.0 + AWAY_S - 1) == 1
    assert roster.choose(1000.0 + AWAY_S) == 0


def test_a_good_connection_makes_the_pauses_short_again():
    roster = Roster(1)
    for _ in range(8):
        roster.failed(0.0)
    roster.worked(GOOD_S - 1)
    assert roster.failed(0.0) > 1.0
    roster.worked(GOOD_S)
    assert roster.failed(0.0) <= 0.25


def test_a_service_that_asks_for_time_gets_it():
    pauses = [Roster(1).failed(0.0, retry_after=42.0) for _ in range(20)]
    assert all(42.0 < pause <= 42.25 for pause in pauses)
    assert len(set(pauses)) > 1  # everybody was asked for the same


def test_who_nobody_waits_for_comes_back_some_time():
    firsts, later = [], []
    for _ in range(200):
        roster = Roster(1)
        roster.worked(GOOD_S)
        firsts.append(roster.failed(0.0, awaited=False))
        later.append(roster.failed(0.0, awaited=False))
    assert min(firsts) < 3.0
    assert 27.0 < max(firsts) <= 30.0
    assert 15.0 <= min(later) <= max(later) <= 30.0


def test_who_is_waited_for_comes_back_soon_also_after_a_calm_pause():
    roster = Roster(1)
    roster.failed(0.0, awaited=False)
    assert roster.failed(0.0) <= 0.25
