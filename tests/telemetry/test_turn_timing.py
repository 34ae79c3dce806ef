"""How long things took."""

from __future__ import annotations

import logging

import pytest

from device_agent.core.actions import Connect, InterruptReply
from device_agent.core.conversation import SENDING, Conversation, TurnPolicy
from device_agent.core.events import (
    DeadlinePassed,
    Event,
    InterruptConfirmed,
    LinkDown,
    LinkUp,
    Muted,
    NoSpeech,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Refused,
    ReplyEnded,
    ReplyStarted,
    SpeakerLost,
    Started,
    StopAsked,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    TurnEndedByService,
)
from device_agent.core.transition import Transition
from device_agent.telemetry.turn_timing import MAX_PARTS, MAX_TURNS, TurnTimer, TurnTimes


def watched(*story: tuple[Event, float], follow_up: float = 0.0) -> TurnTimer:
    """Tell *story* to a real conversation, and show a stopwatch what the agent would."""
    watch, conversation = TurnTimer(), Conversation(TurnPolicy(follow_up_s=follow_up))
    for event, now in ((Started(), 0.0), *story):
        before = conversation.state
        actions = tuple(conversation.handle(event, now))
        watch(Transition(event, actions, before, conversation.state, now))
    return watch


def parts(turn: TurnTimes | None, now: float = 99.0) -> list[tuple[str, float]]:
    assert turn is not None
    return [(part, pytest.approx(seconds)) for part, seconds in turn.segments(now)]


ASKED: list[tuple[Event, float]] = [(Pressed(), 9.9), (TalkStarted(), 10.0), (TalkEnded(0.7), 13.0)]
ANSWERED: list[tuple[Event, float]] = [
    *ASKED,
    (TurnAcknowledged(), 13.1),
    (ReplyStarted("r"), 13.5),
    (PlaybackStarted("r"), 13.65),
]


def test_the_wait_is_taken_apart():
    turn = watched(*ANSWERED, (ReplyStarted("r2"), 13.9)).turn
    assert turn is not None
    assert [seconds for _, seconds in turn.steps()] == pytest.approx([0.7, 0.1, 0.4, 0.15, 1.35])
    assert turn.waits() == pytest.approx(
        {"end_of_turn": 0.7, "acknowledged": 0.1, "first_sound": 0.4, "loudspeaker": 0.15, "whole": 1.35}
    )


def test_the_wait_of_an_unanswered_turn_has_fewer_parts():
    before: list[tuple[Event, float]] = [
        (ReplyStarted("before any turn"), 1.0),
        (PlaybackEnded("before any turn"), 1.5),
    ]
    assert watched(*before).turn is None
    begun = watched(*before, (TalkStarted(), 2.0)).turn
    assert begun is not None
    assert begun.steps() == []
    ended = watched(*before, (TalkStarted(), 2.0), (TalkEnded(0.5), 3.0)).turn
    assert ended is not None
    assert [seconds for _, seconds in ended.steps()] == pytest.approx([0.5])


def test_one_line_for_each_answer(caplog):
    with caplog.at_level(logging.INFO, logger="device_agent.telemetry.turn_timing"):
        watched(*ANSWERED, (PlaybackStarted("r2"), 14.0))
    [line] = [record.message for record in caplog.records]
    assert line.endswith("end of speech to first sound 1350 ms")


def test_a_turn_is_made_of_parts():
    turn = watched(*ANSWERED, (ReplyEnded("r"), 14.0), (PlaybackEnded("r"), 16.65)).turn
    assert turn is not None
    assert parts(turn) == [
        ("listening", 2.3),
        ("silence", 0.7),
        ("service", 0.5),
        ("loudspeaker", 0.15),
        ("speaking", 3.0),
    ]
    assert (turn.outcome, turn.over) == ("answered", 16.65)


def test_a_turn_that_goes_on_lasts_until_now():
    watch = watched(*ASKED)
    assert parts(watch.turn, 20.0)[-1] == ("service", 7.0)
    assert watch.turn is not None
    assert watch.turn.outcome == "open"


def test_a_service_that_takes_the_turn_ends_the_listening():
    turn = watched(
        (Pressed(), 9.9),
        (TalkStarted(), 10.0),
        (TurnEndedByService(), 12.0),
        (TalkEnded(0.5), 12.02),
        (ReplyStarted("r"), 12.5),
    ).turn
    assert parts(turn, 12.5)[:3] == [("listening", 1.52), ("silence", 0.48), ("service", 0.5)]


def test_after_a_tool_the_service_goes_on():
    turn = watched(
        *ANSWERED,
        (ToolCall("c", "lamp", "{}"), 14.0),
        (ReplyEnded("r", more=True), 14.1),
        (PlaybackEnded("r"), 15.0),
        (ReplyStarted("r2"), 16.0),
        (PlaybackStarted("r2"), 16.1),
        (ReplyEnded("r2"), 16.5),
        (PlaybackEnded("r2"), 17.0),
    ).turn
    assert [part for part, _ in parts(turn)][-5:] == ["loudspeaker", "speaking", "service", "loudspeaker", "speaking"]
    assert turn is not None
    assert (turn.outcome, turn.over) == ("answered", 17.0)


def test_an_answer_without_end_has_parts_with_one():
    story = list(ANSWERED)
    for n in range(100):
        name, now = f"r{n}", 20.0 + n
        story += [(ReplyEnded("r", more=True), now), (PlaybackEnded(story[-1][0].reply), now + 0.1)]  # type: ignore[attr-defined]
        story += [(ReplyStarted(name), now + 0.2), (PlaybackStarted(name), now + 0.3)]
    turn = watched(*story).turn
    assert turn is not None
    assert len(turn.parts) <= MAX_PARTS + 1


SPEAKING = [*ANSWERED, (ReplyEnded("r"), 14.0)]


@pytest.mark.parametrize(
    ("story", "outcome", "over"),
    [
        ([*SPEAKING, (Pressed(), 15.0)], "interrupted", 15.0),
        ([*SPEAKING, (StopAsked(), 15.0)], "interrupted", 15.0),
        ([*SPEAKING, (SpeakerLost("it is gone"), 15.0)], "dropped", 15.0),
        ([*ASKED, (Pressed(), 14.0)], "dropped", 14.0),
        ([*ASKED, (StopAsked(), 14.0)], "dropped", 14.0),
        ([*ASKED, (DeadlinePassed(), 28.0)], "given up", 28.0),
        ([*ASKED, (Refused("no", 0.0), 14.0)], "given up", 14.0),
        ([*ASKED, (LinkDown("gone", 1.0), 14.0), (LinkUp("x"), 15.0)], "open", None),
        ([*ASKED, (TurnAcknowledged(), 13.2), (ReplyEnded("r", "too long"), 14.0)], "given up", 14.0),
        ([*ASKED, (TurnAcknowledged(), 13.2), (ReplyEnded("r"), 14.0)], "answered", 14.0),
        ([*ASKED[:2], (NoSpeech(), 15.0)], "nothing said", 15.0),
        ([*ASKED[:2], (Refused("no", 0.0), 12.0), (TalkEnded(0.1), 12.02)], "given up", 12.0),
    ],
)
def test_a_turn_ends_in_one_way(story, outcome, over):
    turn = watched(*story).turn
    assert turn is not None
    assert (turn.outcome, turn.over) == (outcome, over)


def test_speech_during_a_reply_ends_it_and_begins_a_turn():
    watch = watched(*SPEAKING, (TalkStarted(), 15.0), (TalkEnded(0.5), 17.0))
    assert [(turn.outcome, turn.over) for turn in watch.turns] == [("interrupted", 15.0), ("open", None)]
    assert parts(watch.turns[1], 17.5) == [("listening", 1.5), ("silence", 0.5), ("service", 0.5)]


def test_what_is_told_of_a_dead_reply_is_not_of_the_next():
    watch = watched(
        *SPEAKING,
        (TalkStarted(), 15.0),
        (TalkEnded(0.5), 17.0),
        (ReplyStarted("dead"), 17.1),
        (PlaybackStarted("dead"), 17.2),
        (InterruptConfirmed(), 17.3),
        (ReplyStarted("alive"), 18.0),
    )
    assert watch.turn is not None
    assert (watch.turn.reply_arrived, watch.turn.reply_sounded) == (18.0, None)


def test_words_are_a_turn_without_sound():
    watch = watched((TextTurn("hello"), 5.0), (ReplyStarted("r"), 6.0), (PlaybackStarted("r"), 6.1))
    assert parts(watch.turn, 7.0) == [("service", 1.0), ("loudspeaker", 0.1), ("speaking", 0.9)]
    assert watch.turn is not None
    assert watch.turn.waits() == {}


def test_words_that_are_not_taken_are_no_turn():
    watch = watched((Pressed(), 1.0), (TalkStarted(), 1.1), (TextTurn("hello"), 2.0))
    assert len(watch.turns) == 1


def test_a_word_into_a_closed_microphone_is_dropped():
    turn = watched((Muted(), 1.0), (TalkStarted(), 2.0), (TalkEnded(0.1), 2.1)).turn
    assert turn is not None
    assert turn.outcome == "dropped"


def test_a_thousand_turns_need_the_room_of_a_hundred():
    watch = TurnTimer()
    for n in range(1000):
        watch(Transition(TextTurn("x"), (InterruptReply(), Connect()), SENDING, SENDING, float(n)))
    assert len(watch.turns) == MAX_TURNS
