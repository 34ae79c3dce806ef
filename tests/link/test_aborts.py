"""Connections that are broken off at any instant from another thread; ``bench_aborts`` does the same more often."""

from __future__ import annotations

import pytest

from tests.bench.aborts import Found, Records, aborted_dials, presses_in_renewals

RECORD = bytes([23, 3, 3, 0, 4]) + b"abcd"


def clean(found: Found, tried: int) -> bool:
    assert found.strange == []
    assert (found.plain, found.descriptors, found.unanswered, found.tried) == (0, 0, 0, tried)
    return True


def test_a_dial_that_is_aborted_leaves_nothing_behind(tmp_path):
    assert clean(aborted_dials(200, tmp_path), 200)


@pytest.mark.slow
def test_thousands_of_dials_that_are_aborted_leave_nothing_behind(tmp_path):
    assert clean(aborted_dials(2000, tmp_path, seed=2), 2000)


def test_a_press_in_a_renewal_is_answered_and_leaves_nothing_behind(tmp_path):
    assert clean(presses_in_renewals(5, tmp_path), 5)


@pytest.mark.slow
def test_a_hundred_presses_in_renewals_are_answered_and_leave_nothing_behind(tmp_path):
    found = presses_in_renewals(100, tmp_path, seed=2)
    assert clean(found, 100)
    assert found.outcomes["inside"] > 80


@pytest.mark.parametrize("step", [1, 2, 4, 5, 7, 100])
@pytest.mark.parametrize(("sent", "plain"), [(RECORD * 3, False), (RECORD[:-2], False), (RECORD + b"GET /", True)])
def test_what_is_no_record_of_tls_is_seen_in_whatever_pieces_it_comes(step, sent, plain):
    records = Records()
    for begin in range(0, len(sent), step):
        records.read(sent[begin : begin + step])
    assert bool(records.plain) is plain
