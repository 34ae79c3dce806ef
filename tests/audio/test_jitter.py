"""How long a reply waits before it sounds, as a table: how pieces came, and what was made of it. Lengths are in ms."""

from __future__ import annotations

import random

import pytest

from device_agent.audio.jitter import (
    DEFAULT_PREFILL_S,
    LEARNED_AFTER_REPLIES,
    MAX_PREFILL_S,
    PREFILL_MARGIN_S,
    REMEMBERED_REPLIES,
    ArrivalLog,
    JitterEstimator,
)

PIECE = 100
MARGIN, MOST = 1000 * PREFILL_MARGIN_S, 1000 * MAX_PREFILL_S


def reply(*moments: float, piece: float = PIECE) -> ArrivalLog:
    """Return a reply whose pieces came at these moments."""
    arrivals = ArrivalLog()
    for moment in moments:
        arrivals.came(piece / 1000, moment / 1000)
    return arrivals


def heard(prefill: JitterEstimator, *replies: ArrivalLog) -> float:
    """Let *prefill* learn from replies; return the wait in ms."""
    for each in replies:
        if each.late is not None:
            prefill.came(each.late)
            prefill.ended(each.late)
    return 1000 * prefill.wait


ONE_REPLY = [
    # the moments at which pieces of 100 ms came, how late the latest was, what the next reply waits at least
    ((0, 100, 200, 300), 0, MARGIN),  # at the pace of the world
    ((0, 10, 20, 30), -90, 0),  # all at once: the second would have had 90 ms more
    ((0, 50, 100, 150), -50, 0),  # twice as fast as one listens
    ((0, 160, 200, 300), 60, 60 + MARGIN),  # one late
    ((0, 100, 340, 380), 140, 140 + MARGIN),
    ((60, 100, 200, 300), -60, 0),  # the first late, which one cannot know: all others seem early
    ((0, 490, 500, 600), 390, MOST),  # no longer than it may be
    ((0, 500, 600), 400, MOST),  # as late as jitter may be
    ((0, 10, 20, 730, 740), -90, 0),  # a pause: no prefill would have hidden it, and it teaches nothing
    ((0, 130, 260, 390, 520), 120, 120 + MARGIN),  # a link that is too slow
    ((0, 10, 310, 320), 110, 110 + MARGIN),  # a burst, and a wait that it did not outlast
    ((0, 10, 20, 30, 440), 40, 40 + MARGIN),
]


@pytest.mark.parametrize(("moments", "late", "wait"), ONE_REPLY)
def test_what_one_reply_teaches(moments, late, wait):
    arrivals = reply(*moments)
    assert 1000 * arrivals.late == pytest.approx(late)
    assert heard(JitterEstimator(), arrivals) == pytest.approx(wait)


def test_a_reply_of_one_piece_teaches_nothing():
    assert reply(0).late is None


def test_it_grows_with_the_first_late_piece_and_not_at_the_end_of_the_reply():
    prefill = JitterEstimator()
    prefill.came(0.16)
    assert 1000 * prefill.wait == pytest.approx(180)


def test_it_holds_for_each_of_the_last_replies_and_shrinks_when_the_worst_of_them_is_long_ago():
    prefill = JitterEstimator()
    assert heard(prefill, reply(0, 260), reply(0, 130), reply(0, 100)) == pytest.approx(180)
    waits = [heard(prefill, reply(0, 100)) for _ in range(REMEMBERED_REPLIES)]
    assert waits == pytest.approx([180] * (REMEMBERED_REPLIES - 3) + [50] + [MARGIN] * 2)


def test_what_is_not_known_yet_costs_no_longer_wait_than_the_worst_that_may_be_learned():
    assert 0 < JitterEstimator().least <= MAX_PREFILL_S


def test_of_the_first_replies_something_must_be_there_and_then_one_knows():
    prefill = JitterEstimator()
    for _ in range(LEARNED_AFTER_REPLIES):
        assert (prefill.wait, prefill.least) == (0, DEFAULT_PREFILL_S)
        heard(prefill, reply(0, 20, 40))
    assert (prefill.wait, prefill.least) == (0, 0)


@pytest.mark.parametrize("jitter", [0, 20, 60, 120])
def test_where_pieces_jitter_it_finds_the_least_wait_that_holds(jitter):
    """Pieces at the pace of the world, each late by chance, at most by *jitter*: hardly a reply of a hundred breaks."""
    chance, prefill, waits, short = random.Random(jitter), JitterEstimator(), [], 0
    for number in range(220):
        wait = prefill.wait
        arrivals = reply(*(PIECE * piece + chance.uniform(0, jitter) for piece in range(40)))
        if number >= 20:
            waits.append(1000 * wait)
            short += arrivals.late > wait
        heard(prefill, arrivals)
    assert short <= 2
    assert max(waits) <= jitter + MARGIN + 1
    assert min(waits) >= jitter * 0.6 + MARGIN - 1


DUE = [
    # the moments of pieces of 100 ms, the wait, how much must be there, when the first sound is due
    ((50,), 0, 0, 0),  # at once
    ((50,), 80, 0, 130),  # after the wait
    ((50, 60), 80, 0, 0),  # what came behind the first is worth a wait
    ((50, 60), 120, 0, 170),
    ((50, 60, 70), 120, 0, 0),
    ((50, 60), 100, 0, 0),
    ((50,), 0, 100, 0),  # enough is there
    ((50,), 0, 150, 200),  # it does not come within the time that it lasts
    ((50, 60), 0, 150, 0),
    ((50,), 120, 100, 170),  # a wait is for what comes behind the first
    ((50,), 120, 200, 250),
]


@pytest.mark.parametrize(("moments", "wait", "least", "due"), DUE)
def test_a_reply_begins_after_the_wait_or_when_as_much_came_behind_its_first_piece(moments, wait, least, due):
    assert 1000 * reply(*moments).due(0, wait / 1000, least / 1000) == pytest.approx(due)


def test_what_fell_silent_goes_on_when_it_would_have_been_due_after_the_new_wait():
    arrivals = reply(0, 100)
    arrivals.came(0.1, 0.26, silent=True)  # 60 ms late
    assert arrivals.late == pytest.approx(0.06)
    assert arrivals.due(0.2, 0.08) == pytest.approx(0.28)


def test_after_a_pause_it_begins_as_if_it_were_new():
    arrivals = reply(0, 100)
    arrivals.came(0.1, 2.0, silent=True)
    assert arrivals.late == pytest.approx(0)
    assert arrivals.due(0.2, 0.08) == pytest.approx(2.08)
    arrivals.came(0.1, 2.01)
    assert arrivals.due(0.2, 0.08) == 0
