"""When a session is old, and what is too long to be handled in one piece."""

from __future__ import annotations

import pytest

from device_agent.carrier import BELIEVED_S, MARGIN_S, PIECE, RENEW_S, in_pieces, renew_in
from device_agent.events import ReplyAudio, ReplyEnded, ReplyStarted

NOW = 1_790_000_000.0


def test_a_session_is_renewed_some_minutes_before_its_end():
    assert renew_in(NOW + 3600, NOW) == 3600 - MARGIN_S


def test_a_short_session_has_a_short_margin():
    assert renew_in(NOW + 60, NOW) == pytest.approx(54)


@pytest.mark.parametrize("end", [0.0, NOW, NOW - 1, -NOW, NOW + BELIEVED_S + 1, float("inf"), float("nan")])
def test_an_end_that_makes_no_sense_is_not_believed(end):
    assert renew_in(end, NOW) == RENEW_S


def test_a_piece_of_a_reply_that_is_too_long_is_cut_up_and_nothing_else_is():
    pcm = bytes(range(256)) * (5 * PIECE // 512)
    begun, short, ended = ReplyStarted("r"), ReplyAudio("r", pcm[:PIECE]), ReplyEnded("r")
    pieces = list(in_pieces([begun, ReplyAudio("r", pcm), short, ended]))
    assert pieces[0] is begun
    assert [len(each.pcm) for each in pieces[1:5]] == [PIECE, PIECE, PIECE // 2, PIECE]
    assert b"".join(each.pcm for each in pieces[1:4]) == pcm
    assert pieces[4:] == [short, ended]
