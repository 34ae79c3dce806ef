"""How long things took."""

from __future__ import annotations

import pytest

from device_agent.events import PlaybackStarted, ReplyStarted, TalkEnded, TalkStarted, TurnReceived
from device_agent.times import Stopwatch


def test_the_wait_is_taken_apart():
    watch = Stopwatch()
    story = [(TalkStarted(), 10.0), (TalkEnded(0.7), 13.0), (TurnReceived(), 13.1), (ReplyStarted("r"), 13.5),
             (ReplyStarted("r2"), 13.6), (PlaybackStarted("r"), 13.65)]  # fmt: skip
    for word, now in story:
        watch(word, now)
    assert watch.turn is not None
    assert [seconds for _, seconds in watch.turn.steps()] == pytest.approx([0.7, 0.1, 0.4, 0.15, 1.35])


def test_the_wait_of_an_unanswered_turn_has_fewer_parts():
    watch = Stopwatch()
    watch(ReplyStarted("before any turn"), 1.0)
    assert watch.turn is None
    watch(TalkStarted(), 2.0)
    assert watch.turn is not None
    assert watch.turn.steps() == []
    watch(TalkEnded(0.5), 3.0)
    assert [seconds for _, seconds in watch.turn.steps()] == pytest.approx([0.5])
