"""What the bench of jitter judges by: it hears every silence in a reply, and every sample that is not there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.beside.card import Loudspeaker
from tests.bench.beside.service import RATE, Went, voice
from tests.bench.beside.yard import Log, Turn
from tests.bench.jitter import LEARNED_AFTER_REPLIES, REPLY_S, Found, Heard, judge, rows

MS = RATE // 1000
REPLY = np.frombuffer(voice(1, REPLY_S), np.int16)
ASKED = Turn(9.0, 9.1, 9.5, 9.6, 9.7, reply=1, asked=9.7)
LOG = Log(went=[Went(10.0, 10.0, 1, reply=1, first=0, count=100 * MS)])


def heard(*parts: np.ndarray | int) -> Heard:
    """Return what is made of a recording that begins at 10 s; a number is so many ms of silence."""
    waves = [np.zeros(part * MS, np.int16) if isinstance(part, int) else part for part in parts]
    return judge(Loudspeaker(10.0, np.concatenate(waves).tobytes()), LOG, ASKED)


def test_silence_around_a_reply_is_none_in_it():
    assert heard(30, REPLY, 50) == Heard([], pytest.approx(0.03), whole=True)


def test_every_silence_in_a_reply_counts_and_its_longest():
    found = heard(5, REPLY[: 100 * MS], 7, REPLY[100 * MS : 300 * MS], 40, REPLY[300 * MS :])
    assert found == Heard(pytest.approx([0.007, 0.04]), pytest.approx(0.005), whole=True)


@pytest.mark.parametrize(
    "wave",
    [np.delete(REPLY, 5000), np.insert(REPLY, 5000, 7), REPLY[:-1], np.concatenate([REPLY[:480], REPLY])],
    ids=["lost", "strange", "cut short", "repeated"],
)
def test_a_reply_of_which_a_sample_is_lost_or_comes_twice_is_not_whole(wave):
    assert not heard(5, wave).whole


def test_the_first_replies_are_told_and_not_counted():
    replies = [Heard([0.05], 0.1, whole=True)] * LEARNED_AFTER_REPLIES + [
        Heard([], 0.02, whole=True),
        Heard([0.001], 0.04, whole=True),
    ]
    longest, count, first = rows({("ours", 60.0, False): Found(replies)}, ["ours"])
    assert (longest.ours, count.ours, first.ours) == pytest.approx((1.0, 60 / REPLY_S / 2, 30.0))
    assert "4 in the first 4 replies, 50 ms" in longest.note


def test_a_client_that_failed_has_no_figures_and_the_note_says_why():
    told = rows({("bare", 0.0, True): Found(problem="bare was not ready")}, ["bare"])
    assert [row.peers["bare"] for row in told] == [None] * 3
    assert "bare was not ready" in told[0].note
