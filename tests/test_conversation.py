"""Whose turn it is: without a thread, a socket or a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.conversation import (
    FOLLOW_UP,
    LISTENING,
    MOODS,
    OFFLINE,
    READY,
    REFUSED,
    REST,
    RESTING,
    SENDING,
    SPEAKING,
    STARTING,
    THINKING,
    TRANSITIONS,
    Conversation,
    State,
)
from device_agent.events import (
    Attend,
    Attention,
    CloseGate,
    CutConfirmed,
    CutReply,
    Dial,
    Event,
    Finish,
    ForgetTurn,
    HangUp,
    Linger,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneEnded,
    NothingSaid,
    OpenGate,
    PlaybackEnded,
    Pressed,
    Refused,
    ReplyEnded,
    ReplyStarted,
    Show,
    Started,
    TalkEnded,
    TalkStarted,
    TimeUp,
    TurnReceived,
    TurnTaken,
)

WAY_TO = {
    STARTING: [],
    READY: [Started()],
    LISTENING: [Started(), TalkStarted()],
    SENDING: [Started(), TalkStarted(), TalkEnded()],
    THINKING: [Started(), TalkStarted(), TalkEnded(), TurnReceived()],
    SPEAKING: [Started(), TalkStarted(), TalkEnded(), TurnReceived(), ReplyStarted("r")],
    OFFLINE: [Started(), LinkDown("x", 1.0)],
    REFUSED: [Started(), Refused("x", 0.0)],
}
BUSY = [LISTENING, SENDING, THINKING, SPEAKING]
EVENTS = [
    Started(),
    Pressed(),
    TalkStarted(),
    TalkEnded(),
    NothingSaid(),
    TurnReceived(),
    TurnTaken(),
    ReplyStarted("r"),
    ReplyEnded("r"),
    ReplyEnded("r", more=True),
    PlaybackEnded("r"),
    LinkUp(),
    LinkDown("x", 1.0),
    LinkIdle(),
    Refused("x", 0.0),
    TimeUp(),
    CutConfirmed(),
    MicrophoneEnded(),
]


def at(state: State, **settings: object) -> Conversation:
    conversation = Conversation(**settings)
    for event in WAY_TO[state]:
        conversation.handle(event, 0.0)
    assert conversation.state is state
    return conversation


def test_a_turn_goes_round():
    conversation = Conversation()
    states = []
    for event in [*WAY_TO[SPEAKING], ReplyEnded("r"), PlaybackEnded("r")]:
        conversation.handle(event, 0.0)
        states.append(conversation.state)
    assert states == [READY, LISTENING, SENDING, THINKING, SPEAKING, SPEAKING, READY]


def test_a_press_dials_at_once():
    actions = at(READY).handle(Pressed(), 0.0)
    assert actions[:2] == [OpenGate(), Dial()]


@pytest.mark.parametrize("state", [SENDING, THINKING, SPEAKING])
def test_a_press_cuts_the_reply_before_it_opens_the_gate(state):
    conversation = at(state)
    assert conversation.handle(Pressed(), 1.0)[:3] == [CutReply(), OpenGate(), Dial()]
    assert conversation.state is LISTENING


def test_a_second_tap_ends_the_turn():
    assert at(LISTENING).handle(Pressed(), 1.0) == [CloseGate()]


def test_a_stale_reply_cannot_end_the_new_turn():
    conversation = at(THINKING)
    conversation.handle(Pressed(), 1.0)
    assert conversation.handle(ReplyStarted("dead"), 1.0) == []  # told before the link took the cancel
    conversation.handle(CutConfirmed(), 1.1)
    conversation.handle(TalkEnded(), 2.0)
    conversation.handle(ReplyStarted("new"), 3.0)
    assert conversation.state is SPEAKING


def test_two_cuts_need_two_confirmations():
    conversation = at(SPEAKING)
    conversation.handle(Pressed(), 1.0)
    conversation.handle(TalkEnded(), 1.5)
    conversation.handle(Pressed(), 2.0)
    conversation.handle(CutConfirmed(), 2.1)
    assert conversation.handle(ReplyStarted("first"), 2.2) == []
    conversation.handle(CutConfirmed(), 2.3)
    conversation.handle(TalkEnded(), 3.0)
    assert conversation.handle(ReplyStarted("second"), 3.1)


@pytest.mark.parametrize("state", BUSY)
def test_losing_the_link_ends_no_turn(state):
    conversation = at(state)
    assert conversation.handle(LinkDown("cable", 1.0), 1.0) == []
    assert conversation.state is state


def test_after_a_turn_the_rest_shows_what_the_link_said_last():
    conversation = at(SPEAKING)
    conversation.handle(LinkDown("cable", 1.0), 1.0)
    assert Show("offline") in conversation.handle(PlaybackEnded("r"), 2.0)
    assert Show("ready") in conversation.handle(LinkUp(), 3.0)


@pytest.mark.parametrize("state", [LISTENING, SENDING, THINKING])
def test_a_refusal_ends_the_turn(state):
    conversation = at(state)
    actions = conversation.handle(Refused("no credit", 0.0), 1.0)
    assert ForgetTurn() in actions
    assert conversation.state is REFUSED


def test_patience_runs_out_and_the_turn_is_forgotten():
    conversation = at(READY)
    conversation.handle(TalkStarted(), 90.0)
    conversation.handle(TalkEnded(), 100.0)
    assert conversation.deadline == 115.0
    assert conversation.handle(TimeUp(), 115.0)[:2] == [CutReply(), ForgetTurn()]
    assert conversation.state is READY


def test_the_deadline_is_that_of_the_state_alone():
    conversation = at(SENDING)
    deadline = conversation.deadline
    conversation.handle(LinkDown("x", 1.0), 5.0)
    assert conversation.deadline == deadline
    conversation.handle(ReplyStarted("r"), 6.0)
    assert conversation.deadline is None


def test_it_hangs_up_after_some_quiet_and_only_once():
    conversation = at(SPEAKING, idle=60.0)
    conversation.handle(PlaybackEnded("r"), 100.0)
    assert conversation.deadline == 160.0
    assert conversation.handle(TimeUp(), 160.0) == [HangUp()]
    assert conversation.deadline is None


def test_a_connection_that_is_always_wanted_is_never_hung_up():
    assert at(READY, idle=None).deadline is None


def test_the_service_may_take_the_turn():
    conversation = at(LISTENING)
    assert CloseGate() in conversation.handle(TurnTaken(), 1.0)
    assert conversation.state is THINKING


def test_nothing_said_is_nothing_asked():
    conversation = at(LISTENING)
    assert conversation.handle(NothingSaid(), 1.0) == [Attend(Attention.BUTTON), Show("ready"), Linger()]


def test_without_voice_interruption_the_device_is_deaf_exactly_while_it_speaks():
    conversation = at(THINKING, voice_starts=True)
    assert Attend(Attention.DEAF) in conversation.handle(ReplyStarted("r"), 0.0)
    assert Attend(Attention.VOICE) in conversation.handle(PlaybackEnded("r"), 1.0)


def test_with_voice_interruption_speech_cuts_a_reply():
    conversation = at(THINKING, voice_interrupts=True)
    assert Attend(Attention.VOICE) in conversation.handle(ReplyStarted("r"), 0.0)
    assert CutReply() in conversation.handle(TalkStarted(), 1.0)


def test_after_a_reply_speech_alone_may_go_on_for_a_while():
    conversation = at(SPEAKING, follow_up=8.0)
    assert Attend(Attention.VOICE) in conversation.handle(PlaybackEnded("r"), 10.0)
    assert (conversation.state, conversation.deadline) == (FOLLOW_UP, 18.0)
    assert Attend(Attention.BUTTON) in conversation.handle(TimeUp(), 18.0)
    assert conversation.state is READY


@pytest.mark.parametrize("state", [SENDING, THINKING, SPEAKING])
def test_the_end_of_the_recording_waits_for_the_reply(state):
    conversation = at(state, follow_up=8.0)
    assert Finish() not in conversation.handle(MicrophoneEnded(), 1.0)
    if state is not SPEAKING:
        conversation.handle(ReplyStarted("r"), 1.0)
    assert Finish() in conversation.handle(PlaybackEnded("r"), 2.0)


def test_the_end_of_a_silent_recording_finishes_at_once():
    assert Finish() in at(READY).handle(MicrophoneEnded(), 1.0)


@pytest.mark.parametrize("spoken", [True, False])
def test_while_its_tools_work_the_assistant_still_thinks(spoken):
    conversation = at(SPEAKING if spoken else THINKING)
    conversation.handle(ReplyEnded("r", more=True), 1.0)
    if spoken:
        conversation.handle(PlaybackEnded("r"), 2.0)
    assert conversation.state is THINKING
    conversation.handle(ReplyStarted("r2"), 3.0)
    conversation.handle(ReplyEnded("r2"), 3.5)
    conversation.handle(PlaybackEnded("r2"), 4.0)
    assert conversation.state is READY


def test_a_reply_that_follows_without_a_pause_is_heard_to_its_end():
    conversation = at(SPEAKING)
    conversation.handle(ReplyEnded("r", more=True), 1.0)
    conversation.handle(ReplyStarted("r2"), 2.0)
    assert conversation.handle(PlaybackEnded("r"), 3.0) == []
    conversation.handle(PlaybackEnded("r2"), 4.0)
    assert conversation.state is READY


def test_nobody_waits_for_the_rest_of_an_answer_when_its_connection_is_gone():
    conversation = at(SPEAKING)
    conversation.handle(ReplyEnded("r", more=True), 1.0)
    conversation.handle(PlaybackEnded("r"), 2.0)
    conversation.handle(LinkIdle(), 3.0)
    assert conversation.state is READY


def test_every_state_has_a_mood_and_a_row():
    assert set(MOODS) == set(TRANSITIONS) == set(State) - {REST}


@given(st.lists(st.sampled_from(EVENTS), max_size=60), st.booleans(), st.booleans(), st.sampled_from([0.0, 5.0]))
def test_no_order_of_events_leaves_a_state_without_a_way_out(events: list[Event], starts, interrupts, follow_up):
    conversation = Conversation(voice_starts=starts, voice_interrupts=interrupts, follow_up=follow_up, idle=60.0)
    conversation.handle(Started(), 0.0)
    now = 0.0
    for event in events:
        now += 1.0
        conversation.handle(event, now)
    waiting_for_us = conversation.state not in RESTING and conversation.state is not SPEAKING
    assert not waiting_for_us or conversation.deadline is not None
    for _ in range(3):  # the playback says by itself that a reply has ended; all else ends by patience
        for event in (CutConfirmed(), PlaybackEnded("r"), TimeUp()):
            if conversation.state not in RESTING:
                conversation.handle(event, now + 100.0)
    assert conversation.state in RESTING


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_the_gate_is_never_left_deaf_outside_a_reply(events: list[Event]):
    conversation = Conversation(voice_starts=True)
    attention = Attention.BUTTON
    for event in [Started(), *events]:
        for action in conversation.handle(event, 0.0):
            attention = action.attention if isinstance(action, Attend) else attention
        assert (attention is Attention.DEAF) == (conversation.state is SPEAKING)
