"""Whose turn it is: without a thread, a socket or a clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core import conversation
from device_agent.core.actions import (
    CloseGate,
    Connect,
    Cue,
    Finish,
    ForgetTurn,
    GateMode,
    HangUp,
    InterruptReply,
    Mute,
    OpenGate,
    Play,
    ReleaseConnection,
    SetGateMode,
    Show,
    StartAlarm,
    StopAlarm,
)
from device_agent.core.conversation import (
    DEFAULT_PATIENCE_S,
    FOLLOW_UP,
    IN_ANY_STATE,
    LATE,
    LISTENING,
    MISTAKE,
    MOODS,
    MUTED,
    OFFLINE,
    READY,
    REFUSED,
    REFUSED_S,
    REST,
    RESTING,
    RETRY,
    SENDING,
    SPEAKING,
    STARTING,
    THINKING,
    TRANSITIONS,
    TROUBLE,
    Conversation,
    State,
    TurnPolicy,
)
from device_agent.core.events import (
    AlarmDue,
    Announcement,
    AudioTurn,
    ConfigApplied,
    ConfigRejected,
    DailyLimitReached,
    DeadlinePassed,
    DeviceReady,
    Event,
    InterruptConfirmed,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneEnded,
    MicrophoneLost,
    Muted,
    NoSpeech,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Refused,
    ReplyEnded,
    ReplyProgress,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    RingEnded,
    SpeakerLost,
    Started,
    StopAsked,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    TurnEndedByService,
    Unmuted,
)
from device_agent.services import response_timeout

WAY_TO = {
    STARTING: [],
    READY: [Started()],
    MISTAKE: [Started(), ConfigRejected("x")],
    LISTENING: [Started(), TalkStarted()],
    SENDING: [Started(), TalkStarted(), TalkEnded()],
    THINKING: [Started(), TalkStarted(), TalkEnded(), TurnAcknowledged()],
    LATE: [Started(), TalkStarted(), TalkEnded(), TurnAcknowledged(), DeadlinePassed()],
    SPEAKING: [Started(), TalkStarted(), TalkEnded(), TurnAcknowledged(), ReplyStarted("r")],
    MUTED: [Started(), Muted()],
    OFFLINE: [Started(), LinkDown("x", 1.0)],
    REFUSED: [Started(), Refused("x", REFUSED_S)],
    RETRY: [Started(), Refused("x", REFUSED_S), DeadlinePassed()],
    TROUBLE: [Started(), MicrophoneLost("x")],
    FOLLOW_UP: [Started(), TalkStarted(), TalkEnded(), TurnAcknowledged(), ReplyStarted("r"), PlaybackEnded("r")],
}
BUSY = [LISTENING, SENDING, THINKING, LATE, SPEAKING]
RESTS = [state for state in WAY_TO if state not in (STARTING, *BUSY)]
LINK_SAYS = [
    (LinkUp(), READY),
    (LinkIdle(), READY),
    (LinkDown("x", 1.0), OFFLINE),
    (Refused("x", REFUSED_S), REFUSED),
    (DailyLimitReached(), REFUSED),
]
EVENTS = [
    Started(),
    Pressed(),
    TalkStarted(),
    TalkEnded(),
    NoSpeech(),
    TurnAcknowledged(),
    TurnEndedByService(),
    ReplyStarted("r"),
    ReplyEnded("r"),
    ReplyEnded("r", more=True),
    PlaybackEnded("r"),
    LinkUp(),
    LinkDown("x", 1.0),
    LinkIdle(),
    Refused("x", REFUSED_S),
    DeadlinePassed(),
    InterruptConfirmed(),
    ReplyEnded("r", "too much"),
    ReplyWithdrawn("r"),
    TextTurn("hello"),
    Muted(),
    Unmuted(),
    StopAsked(),
    AlarmDue("pasta"),
    RingEnded(),
    DailyLimitReached(),
    MicrophoneLost("unplugged"),
    SpeakerLost("unplugged"),
    DeviceReady("microphone"),
    DeviceReady("speaker"),
    ConfigRejected("talk.vad"),
    ConfigApplied(),
    PlaybackStarted("r"),
    ReplyText("r", "well"),
    ReplyProgress(),
    ReplyEnded("r", silent=True),
    ToolCall("c", "lamp", "{}"),
]
SETTINGS = st.fixed_dictionaries(
    {
        "voice_starts": st.booleans(),
        "voice_interrupts": st.booleans(),
        "follow_up_s": st.sampled_from([0.0, 5.0]),
        "idle_s": st.sampled_from([None, 60.0]),
        "muted": st.booleans(),
        "press_unmutes": st.booleans(),
    }
)


def made(*, muted: bool = False, **policy: object) -> Conversation:
    return Conversation(TurnPolicy(**policy), muted=muted)


def at(state: State, **settings: object) -> Conversation:
    conversation = Conversation(TurnPolicy(**{"follow_up_s": 5.0 if state is FOLLOW_UP else 0.0, **settings}))
    for event in WAY_TO[state]:
        conversation.handle(event, 0.0)
    assert conversation.state is state
    return conversation


def test_a_turn_goes_round():
    conversation = Conversation(TurnPolicy())
    states, moods = [], []
    for event in [*WAY_TO[SPEAKING], ReplyEnded("r"), PlaybackEnded("r")]:
        moods += [action.mood for action in conversation.handle(event, 0.0) if isinstance(action, Show)]
        states.append(conversation.state)
    assert states == [READY, LISTENING, SENDING, THINKING, SPEAKING, SPEAKING, READY]
    assert moods == ["ready", "listening", "thinking", "speaking", "ready"]


def test_nothing_is_waited_for_before_it_has_started():
    assert Conversation(TurnPolicy()).deadline is None


def test_a_press_dials_at_once():
    actions = at(READY).handle(Pressed(), 0.0)
    assert actions[:3] == [OpenGate(), Connect(), Play(Cue.LISTENING)]


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_a_press_cuts_the_reply_before_it_opens_the_gate(state):
    conversation = at(state)
    assert conversation.handle(Pressed(), 1.0)[:4] == [InterruptReply(), OpenGate(), Connect(), Play(Cue.LISTENING)]
    assert conversation.state is LISTENING


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_speech_that_opens_the_gate_cuts_the_reply(state):
    conversation = at(state)
    assert conversation.handle(TalkStarted(), 1.0)[:2] == [InterruptReply(), Connect(asked=False)]
    assert conversation.state is LISTENING


@pytest.mark.parametrize("turn", [TextTurn("hello"), AudioTurn(b".."), Announcement("say: it rains", "it rains")])
@pytest.mark.parametrize("state", RESTS)
def test_a_turn_in_one_piece_is_sent_wherever_it_rests(state, turn):
    conversation = at(state)
    assert conversation.handle(turn, 1.0)[0] == Connect()
    assert conversation.state is SENDING


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_a_turn_in_one_piece_cuts_the_reply_but_an_announcement_does_not(state):
    for turn in (TextTurn("hello"), AudioTurn(b"..")):
        conversation = at(state)
        assert conversation.handle(turn, 1.0)[:2] == [InterruptReply(), Connect()]
        assert conversation.state is SENDING
    conversation = at(state)
    assert conversation.handle(Announcement("say: it rains", "it rains"), 1.0) == []
    assert conversation.state is state


@pytest.mark.parametrize("turn", [TextTurn("hello"), AudioTurn(b"..")])
@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_a_turn_in_one_piece_is_waited_for_as_long_as_any_other(state, turn):
    conversation = at(state)
    conversation.handle(turn, 10.0)
    assert conversation.deadline == 10.0 + DEFAULT_PATIENCE_S / 2
    conversation.handle(InterruptConfirmed(), 10.0)
    conversation.handle(TurnAcknowledged(), 11.0)
    conversation.handle(DeadlinePassed(), 19.0)
    for now in range(20, 1000, 10):
        conversation.handle(ReplyText("r", "well"), float(now))
    assert conversation.deadline == 10.0 + 4 * DEFAULT_PATIENCE_S


@pytest.mark.parametrize("begun", [ReplyStarted("r2"), PlaybackStarted("r2")])
@pytest.mark.parametrize("state", [*RESTS, SENDING, THINKING, LATE])
def test_what_sounds_is_a_reply_whenever_it_begins(state, begun):
    conversation = at(state)
    conversation.handle(begun, 1.0)
    assert conversation.state is SPEAKING
    assert Play(Cue.FAILED) not in conversation.handle(PlaybackEnded("r2"), 2.0)
    assert conversation.state in RESTING


@pytest.mark.parametrize(
    ("event", "shown"),
    [*LINK_SAYS, (Muted(), MUTED), (MicrophoneLost("x"), TROUBLE), (SpeakerLost("x"), TROUBLE)],
)
@pytest.mark.parametrize("state", [READY, FOLLOW_UP, OFFLINE, REFUSED, RETRY])
def test_at_rest_it_shows_what_was_said_last(state, event, shown):
    conversation = at(state)
    conversation.handle(event, 1.0)
    assert conversation.state is shown


@pytest.mark.parametrize(("event", "shown"), LINK_SAYS)
@pytest.mark.parametrize(("state", "end"), [(MUTED, Unmuted()), (TROUBLE, DeviceReady("microphone"))])
def test_what_the_link_said_meanwhile_is_shown_afterwards(state, end, event, shown):
    conversation = at(state)
    conversation.handle(event, 1.0)
    assert conversation.state is state
    conversation.handle(end, 2.0)
    assert conversation.state is shown


def test_a_second_tap_ends_the_turn():
    assert at(LISTENING).handle(Pressed(), 1.0) == [CloseGate()]


def test_a_stale_reply_cannot_end_the_new_turn():
    conversation = at(THINKING)
    conversation.handle(Pressed(), 1.0)
    assert conversation.handle(ReplyStarted("dead"), 1.0) == []  # told before the link took the cancel
    conversation.handle(InterruptConfirmed(), 1.1)
    conversation.handle(TalkEnded(), 2.0)
    conversation.handle(ReplyStarted("new"), 3.0)
    assert conversation.state is SPEAKING


@pytest.mark.parametrize(
    "word",
    [
        TurnAcknowledged(),
        TurnEndedByService(),
        ReplyStarted("r"),
        ReplyText("r", "well"),
        ReplyProgress(),
        ReplyEnded("r", more=True),
        ReplyWithdrawn("r"),
        PlaybackStarted("r"),
        PlaybackEnded("r"),
        ToolCall("c", "lamp", "{}"),
    ],
)
@pytest.mark.parametrize("sent", [False, True])
def test_what_is_told_of_a_dead_reply_changes_nothing(word, sent):
    conversation = at(SPEAKING)
    conversation.handle(Pressed(), 1.0)
    conversation.handle(TalkEnded(), 2.0) if sent else None
    before = dict(vars(conversation))
    assert conversation.handle(word, 3.0) == []
    assert vars(conversation) == before


def test_two_cuts_need_two_confirmations():
    conversation = at(SPEAKING)
    conversation.handle(Pressed(), 1.0)
    conversation.handle(TalkEnded(), 1.5)
    conversation.handle(Pressed(), 2.0)
    conversation.handle(InterruptConfirmed(), 2.1)
    assert conversation.handle(ReplyStarted("first"), 2.2) == []
    conversation.handle(InterruptConfirmed(), 2.3)
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


@pytest.mark.parametrize("state", [LISTENING, SENDING, THINKING, LATE])
def test_when_the_minutes_of_the_day_are_used_up_the_turn_ends_and_one_hears_it(state):
    conversation = at(state)
    actions = conversation.handle(DailyLimitReached(), 1.0)
    assert [action for action in actions if action != CloseGate()][:2] == [ForgetTurn(), Play(Cue.CAP)]
    assert conversation.state is REFUSED


@pytest.mark.parametrize("state", [LISTENING, SENDING, THINKING, LATE])
def test_a_refusal_ends_the_turn(state):
    conversation = at(state)
    actions = conversation.handle(Refused("no credit", REFUSED_S), 1.0)
    assert [action for action in actions if action != CloseGate()][:2] == [ForgetTurn(), Play(Cue.REFUSED)]
    assert conversation.state is REFUSED


@pytest.mark.parametrize("end", [Refused("no", 1.0), DailyLimitReached(), Muted(), DeadlinePassed()])
def test_a_turn_that_ends_unheard_is_forgotten_before_the_gate_closes_which_would_send_it(end):
    assert at(LISTENING).handle(end, 1.0)[:2] == [ForgetTurn(), CloseGate()]


def test_nothing_keeps_it_listening_for_ever():
    conversation = at(READY)
    conversation.handle(Pressed(), 100.0)
    assert conversation.deadline == 175.0
    assert Play(Cue.FAILED) in conversation.handle(DeadlinePassed(), 175.0)
    assert conversation.state is READY


@pytest.mark.parametrize("state", sorted(TRANSITIONS, key=lambda state: state.value))
def test_speech_that_opened_the_gate_by_itself_asks_for_no_connection(state):
    for event, (_, actions) in TRANSITIONS[state].items():
        for action in actions:
            if isinstance(action, Connect):
                assert action.asked is (event is not TalkStarted)


@pytest.mark.parametrize("refusal", [Refused("no credit", 20.0), DailyLimitReached()])
def test_after_a_refusal_speech_alone_begins_no_turn_for_a_while_and_a_press_does(refusal):
    conversation = at(LISTENING, voice_starts=True)
    actions = conversation.handle(refusal, 100.0)
    assert [CloseGate() in actions, SetGateMode(GateMode.BUTTON) in actions] == [True, True]
    assert conversation.handle(TalkStarted(), 100.1) == [ForgetTurn(), CloseGate()]  # it was open already
    assert conversation.handle(TalkEnded(), 100.2) == []
    assert conversation.state is REFUSED
    assert conversation.deadline == 100.0 + (20.0 if isinstance(refusal, Refused) else REFUSED_S)
    assert conversation.handle(DeadlinePassed(), conversation.deadline) == [
        SetGateMode(GateMode.VOICE)
    ]  # the light stays
    assert conversation.state is RETRY
    assert MOODS[RETRY] == MOODS[REFUSED]
    assert conversation.handle(TalkStarted(), 500.0)[0] == Connect(asked=False)
    for state in (REFUSED, RETRY):
        assert Connect() in at(state, voice_starts=True).handle(Pressed(), 1.0)


def test_a_refusal_counts_from_the_last_one_whatever_happens_in_between():
    conversation = at(REFUSED)
    conversation.handle(Muted(), 10.0)
    conversation.handle(Unmuted(), 20.0)
    assert conversation.state is REFUSED
    assert conversation.deadline == REFUSED_S
    conversation.handle(Refused("no credit", REFUSED_S), 30.0)
    assert conversation.deadline == 30.0 + REFUSED_S
    conversation.handle(LinkUp(), 40.0)
    assert conversation.state is READY


def test_patience_runs_out_and_the_turn_is_forgotten():
    conversation = at(READY)
    conversation.handle(TalkStarted(), 90.0)
    conversation.handle(TalkEnded(), 100.0)
    assert conversation.deadline == 115.0
    assert conversation.handle(DeadlinePassed(), 115.0)[:3] == [InterruptReply(), ForgetTurn(), Play(Cue.OFFLINE)]
    assert conversation.state is READY


def test_a_service_that_thinks_for_long_is_excused_once_and_then_given_up():
    conversation = at(SENDING)
    conversation.handle(TurnAcknowledged(), 100.0)
    assert conversation.deadline == 108.0
    assert conversation.handle(DeadlinePassed(), 108.0) == [Play(Cue.WAITING), SetGateMode(GateMode.BUTTON)]
    assert (conversation.state, conversation.deadline) == (LATE, 130.0)
    assert conversation.handle(DeadlinePassed(), 130.0)[:3] == [InterruptReply(), ForgetTurn(), Play(Cue.FAILED)]
    assert conversation.state is READY


@pytest.mark.parametrize("sign", [ReplyText("r", "well"), ReplyProgress()])
def test_signs_of_work_prolong_the_wait_within_a_limit(sign):
    conversation = at(LISTENING)
    conversation.handle(TalkEnded(), 100.0)
    conversation.handle(TurnAcknowledged(), 100.0)
    conversation.handle(sign, 101.0)
    assert conversation.deadline == 108.0  # the cue that says that it takes long comes all the same
    conversation.handle(DeadlinePassed(), 108.0)
    assert conversation.deadline == 101.0 + 2 * DEFAULT_PATIENCE_S
    conversation.handle(sign, 150.0)
    assert conversation.deadline == 150.0 + 2 * DEFAULT_PATIENCE_S
    for now in range(150, 1000, 10):
        conversation.handle(sign, float(now))
    assert conversation.deadline == 100.0 + 4 * DEFAULT_PATIENCE_S


def test_a_server_that_answers_pings_before_it_is_ready_is_waited_for_once():
    conversation = at(LISTENING)
    conversation.handle(TalkEnded(), 100.0)
    assert conversation.deadline == 100.0 + DEFAULT_PATIENCE_S / 2
    for now in (105.0, 110.0):
        conversation.handle(ReplyProgress(), now)
        assert conversation.deadline == 100.0 + DEFAULT_PATIENCE_S
    conversation.handle(TurnAcknowledged(), 111.0)
    assert conversation.deadline == 119.0


def test_words_are_a_sign_of_work_although_the_turn_was_not_acknowledged():
    conversation = at(LISTENING)
    conversation.handle(TalkEnded(), 100.0)
    conversation.handle(ReplyText("r", "well"), 101.0)
    assert conversation.deadline == 101.0 + 2 * DEFAULT_PATIENCE_S


@pytest.mark.parametrize("state", [READY, LISTENING, FOLLOW_UP])
def test_signs_of_work_prolong_nothing_else(state):
    conversation = at(state, idle_s=60.0)
    deadline = conversation.deadline
    for sign in (ReplyText("r", "well"), ReplyProgress()):
        conversation.handle(sign, 1.0)
        assert conversation.deadline == deadline


@pytest.mark.parametrize("spoken", [False, True])
def test_each_part_of_an_answer_is_waited_for_anew(spoken):
    conversation = at(SPEAKING if spoken else THINKING)
    conversation.handle(ReplyEnded("r", more=True), 100.0)
    conversation.handle(PlaybackEnded("r"), 100.0) if spoken else None
    assert (conversation.state, conversation.deadline) == (THINKING, 108.0)
    conversation.handle(DeadlinePassed(), 108.0)
    for now in range(110, 1000, 10):
        conversation.handle(ReplyText("r2", "well"), float(now))
    assert conversation.deadline == 100.0 + 4 * DEFAULT_PATIENCE_S


def test_patience_is_what_the_owner_says():
    conversation = at(LISTENING, patience_s=100.0)
    conversation.handle(TalkEnded(), 0.0)
    assert conversation.deadline == 50.0
    conversation.handle(TurnAcknowledged(), 1.0)
    conversation.handle(DeadlinePassed(), 9.0)
    assert conversation.deadline == 101.0


def test_it_waits_by_the_same_numbers_as_the_session_and_a_little_longer():
    """The session leaves a service that is silent, and tries another one, before the turn is given up."""
    assert (conversation.DEFAULT_PATIENCE_S, conversation.TOTAL_PART) == (
        response_timeout.DEFAULT_PATIENCE_S,
        response_timeout.TOTAL_PART,
    )
    assert conversation.PROGRESS_PART == response_timeout.PROGRESS_PART
    waits = conversation.state_timeouts(60.0)
    assert waits[SENDING] > 2 * response_timeout.ACCEPT_PART * 60.0
    assert waits[THINKING] + waits[LATE] > response_timeout.SLOW_START_PART * 60.0


def test_the_deadline_is_that_of_the_state_alone():
    conversation = at(SENDING)
    deadline = conversation.deadline
    conversation.handle(LinkDown("x", 1.0), 5.0)
    assert conversation.deadline == deadline
    conversation.handle(ReplyStarted("r"), 6.0)
    assert conversation.deadline is None


def test_it_hangs_up_after_some_quiet_and_only_once():
    conversation = at(SPEAKING, idle_s=60.0)
    conversation.handle(PlaybackEnded("r"), 100.0)
    assert conversation.deadline == 160.0
    assert conversation.handle(DeadlinePassed(), 160.0) == [HangUp()]
    assert conversation.deadline is None


def test_a_connection_that_is_always_wanted_is_never_hung_up():
    assert at(READY, idle_s=None).deadline is None


def test_the_service_may_take_the_turn():
    conversation = at(LISTENING)
    assert conversation.handle(TurnEndedByService(), 1.0)[:2] == [CloseGate(), Play(Cue.DONE)]
    assert conversation.state is THINKING


def test_a_reply_may_begin_before_the_service_says_that_it_takes_the_turn():
    conversation = at(LISTENING)
    assert conversation.handle(ReplyStarted("r"), 1.0)[0] == CloseGate()
    assert conversation.state is SPEAKING


@pytest.mark.parametrize("taken", [TurnAcknowledged(), TurnEndedByService()])
def test_a_turn_that_arrived_is_thought_about(taken):
    conversation = at(SENDING)
    assert conversation.handle(taken, 1.0) == [SetGateMode(GateMode.BUTTON)]
    assert conversation.state is THINKING


@pytest.mark.parametrize("state", [LISTENING, SENDING])
def test_nothing_said_is_nothing_asked(state):
    conversation = at(state)
    assert conversation.handle(NoSpeech(), 1.0) == [SetGateMode(GateMode.BUTTON), Show("ready"), ReleaseConnection()]


def test_speech_begins_a_turn_at_rest_and_in_a_reply_only_where_it_may_interrupt():
    conversation = at(THINKING, voice_starts=True)
    assert SetGateMode(GateMode.BUTTON) in conversation.handle(ReplyStarted("r"), 0.0)
    assert SetGateMode(GateMode.VOICE) in conversation.handle(PlaybackEnded("r"), 1.0)


def test_with_voice_interruption_speech_cuts_a_reply():
    conversation = at(THINKING, voice_interrupts=True)
    assert SetGateMode(GateMode.VOICE) in conversation.handle(ReplyStarted("r"), 0.0)
    assert InterruptReply() in conversation.handle(TalkStarted(), 1.0)


@pytest.mark.parametrize("interrupts", [False, True])
@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_from_the_end_of_a_turn_to_that_of_its_answer_it_counts_whether_speech_may_interrupt(state, interrupts):
    conversation = at(state, voice_starts=not interrupts, voice_interrupts=interrupts)
    assert conversation.handle(ConfigApplied(), 1.0) == [SetGateMode(GateMode.VOICE if interrupts else GateMode.BUTTON)]


def test_after_a_reply_speech_alone_may_go_on_for_a_while():
    conversation = at(SPEAKING, follow_up_s=8.0)
    actions = conversation.handle(PlaybackEnded("r"), 10.0)
    assert actions == [SetGateMode(GateMode.VOICE), Show("follow-up"), ReleaseConnection()]
    assert (conversation.state, conversation.deadline) == (FOLLOW_UP, 18.0)
    assert SetGateMode(GateMode.BUTTON) in conversation.handle(DeadlinePassed(), 18.0)
    assert conversation.state is READY


@pytest.mark.parametrize("state", [SENDING, THINKING, SPEAKING])
def test_the_end_of_the_recording_waits_for_the_reply(state):
    conversation = at(state, follow_up_s=8.0)
    assert Finish() not in conversation.handle(MicrophoneEnded(), 1.0)
    if state is not SPEAKING:
        assert Finish() not in conversation.handle(ReplyStarted("r"), 1.0)
    assert Finish() in conversation.handle(PlaybackEnded("r"), 2.0)


@pytest.mark.parametrize("state", [*RESTS, LISTENING])
def test_the_end_of_a_silent_recording_finishes_at_once(state):
    conversation = at(state)
    actions = conversation.handle(MicrophoneEnded(), 1.0)
    assert Finish() in actions
    assert (CloseGate() in actions) == (state is LISTENING)
    assert conversation.state is {LISTENING: READY, FOLLOW_UP: READY, RETRY: REFUSED}.get(state, state)


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
    conversation.handle(PlaybackStarted("r"), 2.1)
    assert conversation.handle(PlaybackEnded("r"), 3.0) == []
    conversation.handle(PlaybackEnded("r2"), 4.0)
    assert conversation.state is READY


def while_its_tools_work() -> Conversation:
    conversation = at(SPEAKING)
    conversation.handle(ReplyEnded("r", more=True), 1.0)
    conversation.handle(PlaybackEnded("r"), 2.0)
    assert conversation.state is THINKING
    return conversation


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([StopAsked()], READY),
        ([Pressed(), NoSpeech()], READY),
        ([TalkStarted(), NoSpeech()], READY),
        ([DeadlinePassed(), DeadlinePassed()], READY),
        ([LinkIdle()], READY),
        ([Refused("no credit", REFUSED_S)], REFUSED),
        ([DailyLimitReached()], REFUSED),
    ],
)
def test_the_rest_of_an_answer_is_waited_for_until_it_cannot_come_or_is_not_wanted(events, state):
    conversation = while_its_tools_work()
    for event in events:
        conversation.handle(event, 3.0)
    assert conversation.state is state


@pytest.mark.parametrize("gone", [LinkIdle(), Refused("no credit", REFUSED_S), DailyLimitReached()])
@pytest.mark.parametrize("before", [ReplyEnded("r", more=True), ToolCall("c", "lamp", "{}")])
def test_an_answer_whose_rest_cannot_come_ends_with_a_cue(before, gone):
    conversation = at(SPEAKING)
    conversation.handle(before, 1.0)
    conversation.handle(gone, 1.5)
    assert Play(Cue.FAILED) in conversation.handle(PlaybackEnded("r"), 2.0)
    assert conversation.state is (READY if gone == LinkIdle() else REFUSED)


def test_the_trouble_of_a_reply_that_goes_on_is_no_failure_of_the_answer():
    conversation = at(THINKING)
    assert Play(Cue.FAILED) not in conversation.handle(ReplyEnded("r", "too much", more=True), 1.0)
    conversation = at(SPEAKING)
    conversation.handle(ReplyEnded("r", "too much", more=True), 1.0)
    assert Play(Cue.FAILED) not in conversation.handle(PlaybackEnded("r"), 2.0)
    assert conversation.state is THINKING


@pytest.mark.parametrize("late", [False, True])
def test_the_rest_of_an_answer_that_will_not_come_is_told_by_a_cue(late):
    conversation = while_its_tools_work()
    conversation.handle(DeadlinePassed(), 2.5) if late else None
    assert Play(Cue.FAILED) in conversation.handle(LinkIdle(), 3.0)
    assert conversation.state is READY


def test_a_connection_is_needed_until_the_tools_have_answered_and_no_longer():
    conversation = at(SPEAKING)
    assert conversation.handle(ToolCall("c", "lamp", "{}"), 1.0) == [Connect()]
    conversation.handle(LinkDown("cable", 1.0), 1.5)  # before its reply was over
    assert Connect() in conversation.handle(PlaybackEnded("r"), 2.0)
    assert conversation.state is THINKING
    conversation.handle(LinkUp(), 2.5)
    assert ReleaseConnection() in conversation.handle(ReplyStarted("r2"), 3.0)
    conversation.handle(ReplyEnded("r2"), 4.0)
    actions = conversation.handle(PlaybackEnded("r2"), 5.0)
    assert ReleaseConnection() in actions
    assert Play(Cue.FAILED) not in actions
    assert conversation.state is READY


@pytest.mark.parametrize("gone", [LinkDown("cable", 1.0), LinkIdle(), Refused("no", 0.0), ReplyEnded("r", "cut off")])
@pytest.mark.parametrize("follow_up", [0.0, 5.0])
def test_a_sentence_that_was_cut_off_is_followed_by_a_cue(gone, follow_up):
    conversation = at(SPEAKING, follow_up_s=follow_up)
    for event in (gone, LinkDown("cable", 1.0)):
        assert Play(Cue.FAILED) not in conversation.handle(event, 1.0)
    actions = conversation.handle(PlaybackEnded("r"), 2.0)
    assert Play(Cue.FAILED) in actions
    assert ReleaseConnection() in actions
    for event in (LinkUp(), LinkDown("cable", 1.0), PlaybackStarted("r")):
        conversation.handle(event, 2.5)
    assert Play(Cue.FAILED) not in conversation.handle(PlaybackEnded("r"), 2.6)  # once is enough
    conversation.handle(TalkStarted(), 3.0)
    for event in (*WAY_TO[SPEAKING][2:-1], ReplyStarted("r2"), ReplyEnded("r2")):
        conversation.handle(event, 3.5)
    assert Play(Cue.FAILED) not in conversation.handle(PlaybackEnded("r2"), 4.0)


@pytest.mark.parametrize("gone", [LinkDown("cable", 1.0), LinkIdle()])
def test_a_whole_sentence_is_whole_whatever_becomes_of_its_connection(gone):
    conversation = at(SPEAKING)
    conversation.handle(ReplyEnded("r"), 1.0)
    conversation.handle(gone, 1.5)
    assert Play(Cue.FAILED) not in conversation.handle(PlaybackEnded("r"), 2.0)


@pytest.mark.parametrize("follow_up", [0.0, 5.0])
def test_a_reply_that_the_service_takes_back_is_over(follow_up):
    conversation = at(SPEAKING, follow_up_s=follow_up)
    assert ReleaseConnection() in conversation.handle(ReplyWithdrawn("r"), 1.0)
    assert conversation.state is (FOLLOW_UP if follow_up else READY)


def test_a_sentence_that_was_cut_off_and_is_not_wanted_any_more_needs_no_cue():
    conversation = at(SPEAKING)
    conversation.handle(LinkDown("cable", 1.0), 1.0)
    assert Play(Cue.FAILED) not in conversation.handle(StopAsked(), 2.0)


def test_what_comes_late_of_a_reply_is_spoken_like_the_rest():
    conversation = at(SPEAKING)
    conversation.handle(PlaybackEnded("r"), 1.0)
    conversation.handle(PlaybackStarted("r"), 2.0)
    assert conversation.state is SPEAKING
    conversation.handle(PlaybackEnded("r"), 3.0)
    assert conversation.state is READY


# Cues, mute, alarms, trouble ------------------------------------------------------------------------------------------


def test_a_refusal_while_no_turn_waits_makes_no_sound():
    assert at(READY).handle(Refused("no credit", REFUSED_S), 1.0) == [SetGateMode(GateMode.BUTTON), Show("refused")]


def test_the_end_of_a_turn_is_heard_whether_the_device_or_the_service_decides_it():
    assert at(LISTENING).handle(TalkEnded(), 1.0)[0] == Play(Cue.DONE)
    assert Play(Cue.DONE) in at(LISTENING).handle(TurnEndedByService(), 1.0)


def test_speech_that_opens_the_gate_is_not_talked_over():
    assert not any(isinstance(action, Play) for action in at(READY).handle(TalkStarted(), 1.0))


def test_a_reply_that_fails_before_it_sounds_is_not_passed_over_in_silence():
    conversation = at(THINKING)
    assert Play(Cue.FAILED) in conversation.handle(ReplyEnded("r", "rate limit"), 1.0)
    assert conversation.state is READY


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE])
def test_a_reply_without_sound_is_a_failure_where_the_user_waits_for_it(state):
    assert Play(Cue.FAILED) in at(state).handle(ReplyEnded("r", silent=True), 1.0)
    assert Play(Cue.FAILED) not in at(state).handle(ReplyEnded("r"), 1.0)  # a tool has done what was asked for


@pytest.mark.parametrize("state", [READY, OFFLINE, REFUSED, LISTENING])
def test_muted_it_closes_the_microphone_and_forgets_what_was_just_said(state):
    conversation = at(state)
    actions = conversation.handle(Muted(), 1.0)
    assert actions[-2:] == [Mute(True), Play(Cue.MUTED)]  # after everything was forgotten: a closed gate ends a turn
    assert (ForgetTurn() in actions) == (state is LISTENING)
    assert conversation.state is MUTED
    assert Show("muted") in actions


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_muted_in_the_middle_of_an_answer_it_finishes_that(state):
    conversation = at(state, follow_up_s=8.0)
    assert conversation.handle(Muted(), 1.0) == [Mute(True), Play(Cue.MUTED)]
    conversation.handle(ReplyStarted("r"), 2.0)
    conversation.handle(PlaybackEnded("r"), 3.0)
    assert conversation.state is MUTED


def test_muted_speech_of_the_last_moment_is_forgotten():
    conversation = at(MUTED)
    assert conversation.handle(TalkStarted(), 1.0) == [ForgetTurn(), CloseGate()]
    assert conversation.state is MUTED


def test_a_press_cannot_undo_a_switch_but_says_what_is_the_matter():
    conversation = at(MUTED)
    assert conversation.handle(Pressed(), 1.0) == [Play(Cue.MUTED)]
    actions = conversation.handle(Unmuted(), 2.0)
    assert actions[-2:] == [Mute(False), Play(Cue.UNMUTED)]
    assert conversation.state is READY


def test_where_there_is_nothing_else_to_press_the_button_unmutes_and_listens():
    conversation = at(MUTED, press_unmutes=True)
    actions = conversation.handle(Pressed(), 1.0)
    assert actions.index(Mute(False)) < actions.index(OpenGate())
    assert conversation.state is LISTENING


def test_it_begins_muted_when_it_ended_so():
    conversation = Conversation(TurnPolicy(), muted=True)
    assert Show("muted") in conversation.handle(Started(), 0.0)


@pytest.mark.parametrize("state", [READY, MISTAKE, MUTED, TROUBLE])
def test_what_nothing_needs_is_hung_up(state):
    conversation = at(state, idle_s=60.0)
    conversation.handle(LinkUp(), 10.0)
    assert conversation.deadline == 60.0
    assert conversation.handle(DeadlinePassed(), 60.0) == [HangUp()]
    assert (conversation.state, conversation.deadline) == (state, None)


@pytest.mark.parametrize("state", [READY, MUTED, LISTENING, SENDING, THINKING, SPEAKING])
@pytest.mark.parametrize("end", [Pressed(), TalkStarted(), StopAsked(), RingEnded()])
def test_an_alarm_rings_in_every_state_until_it_is_stopped(state, end):
    conversation = at(state)
    assert conversation.handle(AlarmDue("pasta"), 1.0) == [StartAlarm()]
    assert conversation.state is state
    assert conversation.handle(ReplyProgress(), 1.5) == []
    assert conversation.handle(end, 2.0)[0] == StopAlarm()
    assert StopAlarm() not in conversation.handle(end, 3.0)


@pytest.mark.parametrize("state", [READY, MUTED, SPEAKING])
def test_the_press_that_hushes_an_alarm_does_nothing_else(state):
    conversation = at(state, press_unmutes=True)
    conversation.handle(AlarmDue("pasta"), 1.0)
    assert conversation.handle(Pressed(), 2.0) == [StopAlarm()]
    assert conversation.state is state


def test_speech_that_hushes_an_alarm_begins_a_turn_as_well():
    conversation = at(READY)
    conversation.handle(AlarmDue("pasta"), 1.0)
    assert conversation.handle(TalkStarted(), 2.0)[:2] == [StopAlarm(), Connect(asked=False)]
    assert conversation.state is LISTENING


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
def test_a_request_for_silence_stops_the_reply_and_drops_the_rest_of_it(state):
    conversation = at(state)
    conversation.handle(ReplyEnded("r", more=True), 0.5) if state is SPEAKING else None
    forgotten = [] if state is SPEAKING else [ForgetTurn()]
    assert conversation.handle(StopAsked(), 1.0)[: 1 + len(forgotten)] == [InterruptReply(), *forgotten]
    assert conversation.state is READY


def test_the_offer_to_go_on_ends_with_stop():
    conversation = at(SPEAKING, follow_up_s=8.0)
    conversation.handle(PlaybackEnded("r"), 1.0)
    conversation.handle(StopAsked(), 2.0)
    assert conversation.state is READY


def test_a_device_that_is_gone_is_shown_and_heard_once_until_it_is_back():
    conversation = at(READY)
    actions = conversation.handle(MicrophoneLost("unplugged"), 1.0)
    assert Play(Cue.TROUBLE) in actions
    assert Show("trouble") in actions
    assert conversation.handle(MicrophoneLost("still unplugged"), 2.0) == []
    assert conversation.handle(Pressed(), 3.0) == [Play(Cue.TROUBLE)]
    conversation.handle(DeviceReady("microphone"), 4.0)
    assert conversation.state is READY
    assert Play(Cue.TROUBLE) in conversation.handle(MicrophoneLost("again"), 5.0)


def test_two_devices_that_are_gone_must_both_come_back():
    conversation = at(READY)
    conversation.handle(MicrophoneLost("server"), 1.0)
    conversation.handle(SpeakerLost("server"), 1.0)
    conversation.handle(DeviceReady("microphone"), 2.0)
    assert conversation.state is TROUBLE
    conversation.handle(DeviceReady("speaker"), 2.1)
    assert conversation.state is READY


@pytest.mark.parametrize("state", [LISTENING, SENDING, THINKING, LATE, SPEAKING])
def test_a_microphone_that_goes_in_the_middle_of_something_ends_it_only_for_the_future(state):
    conversation = at(state, follow_up_s=8.0)
    conversation.handle(MicrophoneLost("unplugged"), 1.0)
    assert conversation.state is (SENDING if state is LISTENING else state)  # what was said is sent
    for event in (TalkEnded(), TurnAcknowledged(), ReplyStarted("r"), PlaybackEnded("r")):
        conversation.handle(event, 2.0)
    assert conversation.state is TROUBLE


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE])
def test_a_loudspeaker_that_goes_before_the_reply_is_told_of_after_it(state):
    conversation = at(state, follow_up_s=8.0)
    conversation.handle(SpeakerLost("unplugged"), 1.0)
    for event in (ReplyStarted("r"), PlaybackEnded("r")):
        conversation.handle(event, 2.0)
    assert conversation.state is TROUBLE


@pytest.mark.parametrize("state", [READY, SPEAKING])
def test_a_microphone_that_goes_between_the_press_and_its_first_frame_ends_the_turn(state):
    conversation = at(state)
    conversation.handle(Pressed(), 1.0)
    actions = conversation.handle(MicrophoneLost("unplugged"), 1.1)
    assert CloseGate() in actions
    assert Show("trouble") in actions
    assert Play(Cue.TROUBLE) in actions


def test_nothing_said_into_a_microphone_that_went_is_nothing_asked():
    conversation = at(LISTENING)
    conversation.handle(MicrophoneLost("unplugged"), 1.0)
    assert Show("trouble") in conversation.handle(NoSpeech(), 1.1)


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
@pytest.mark.parametrize(("gone", "cue"), [(Muted(), Cue.MUTED), (MicrophoneLost("unplugged"), Cue.TROUBLE)])
def test_a_press_on_a_device_that_cannot_hear_is_silence_and_a_cue(state, gone, cue):
    conversation = at(state)
    conversation.handle(gone, 1.0)
    actions = conversation.handle(Pressed(), 2.0)
    assert actions[:3] == [InterruptReply(), ForgetTurn(), Play(cue)]
    assert OpenGate() not in actions
    assert conversation.state in {MUTED, TROUBLE}


@pytest.mark.parametrize("state", [SENDING, THINKING, LATE, SPEAKING])
@pytest.mark.parametrize("gone", [Muted(), MicrophoneLost("unplugged"), MicrophoneEnded()])
def test_speech_of_the_last_moment_before_it_hears_no_more_is_silence_without_a_cue(state, gone):
    conversation = at(state)
    conversation.handle(gone, 1.0)
    actions = conversation.handle(TalkStarted(), 2.0)
    assert actions[:3] == [InterruptReply(), ForgetTurn(), CloseGate()]
    assert not any(isinstance(action, Play) for action in actions)
    assert conversation.state in RESTING


def test_a_reply_without_a_loudspeaker_is_cut():
    conversation = at(SPEAKING)
    assert InterruptReply() in conversation.handle(SpeakerLost("unplugged"), 1.0)
    assert conversation.state is TROUBLE


def test_a_device_that_is_missing_from_the_start_is_shown_as_trouble_at_once():
    conversation = Conversation(TurnPolicy())
    conversation.handle(MicrophoneLost("not there"), 0.0)
    assert Show("trouble") in conversation.handle(Started(), 1.0)


def test_every_state_has_a_mood_and_a_row():
    assert set(MOODS) == set(TRANSITIONS) == set(State) - {REST}


def test_every_cue_has_an_occasion():
    rows = [row for rows in TRANSITIONS.values() for row in rows.values()]
    actions = {action for _, row in rows for action in row} | {each for row in IN_ANY_STATE.values() for each in row}
    assert {action.cue for action in actions if isinstance(action, Play)} >= set(Cue) - {
        Cue.VOLUME,  # the agent's, at the new volume
        Cue.ALARM,  # Ring
    }


# Whatever happens -----------------------------------------------------------------------------------------------------


def after(events: list[Event], settings: dict[str, object]) -> Conversation:
    conversation = made(**settings)
    for now, event in enumerate([Started(), *events]):
        conversation.handle(event, float(now))
    return conversation


@given(st.lists(st.sampled_from(EVENTS), max_size=60), SETTINGS)
def test_no_order_of_events_leaves_a_state_without_a_way_out(events: list[Event], settings):
    conversation = after(events, settings)
    waiting_for_us = conversation.state not in RESTING and conversation.state is not SPEAKING
    assert not waiting_for_us or conversation.deadline is not None
    for _ in range(4):  # the playback says by itself that a reply has ended; all else ends by patience
        for event in (InterruptConfirmed(), PlaybackEnded("r"), DeadlinePassed()):
            if conversation.state not in RESTING:
                conversation.handle(event, 1000.0)
    assert conversation.state in RESTING


@given(st.lists(st.sampled_from(EVENTS), max_size=60), SETTINGS)
def test_no_order_of_events_plays_a_dead_reply(events: list[Event], settings):
    conversation, unconfirmed = made(**settings), 0
    for event in [Started(), *events]:
        before = conversation.state
        actions = conversation.handle(event, 0.0)
        if isinstance(event, ReplyStarted) and unconfirmed:
            assert (conversation.state, actions) == (before, [])
        unconfirmed = max(0, unconfirmed - isinstance(event, InterruptConfirmed)) + actions.count(InterruptReply())


@given(st.lists(st.sampled_from(EVENTS), max_size=60), SETTINGS)
def test_no_order_of_events_leaves_the_gate_deaf(events: list[Event], settings):
    conversation = after(events, settings)
    for repair in (RingEnded(), DeviceReady("microphone"), DeviceReady("speaker")):
        conversation.handle(repair, 1000.0)
    if conversation.state is LISTENING:
        return
    if conversation.muted and not settings["press_unmutes"]:
        assert Mute(False) in conversation.handle(Unmuted(), 1000.0)
    actions = conversation.handle(Pressed(), 1000.0)
    assert OpenGate() in actions
    assert conversation.state is LISTENING
    assert not conversation.muted


@pytest.mark.parametrize("seed", range(10))
def test_only_a_device_that_hears_says_that_it_listens(seed):
    """A hundred thousand events in random order, and after each a look at whether the device hears."""
    rng = random.Random(seed)
    for _ in range(10):
        conversation, deaf = (
            Conversation(TurnPolicy(voice_starts=rng.random() < 0.5, voice_interrupts=rng.random() < 0.5)),
            set(),
        )
        conversation.handle(Started(), 0.0)
        for now in range(1000):
            event = rng.choice(EVENTS)
            conversation.handle(event, float(now))
            match event:
                case Muted():
                    deaf.add("muted")
                case Unmuted():
                    deaf.discard("muted")
                case MicrophoneLost():
                    deaf.add("lost")
                case DeviceReady("microphone"):
                    deaf.discard("lost")
            assert not (deaf and MOODS[conversation.state] == "listening"), (event, conversation.state)
            waits = conversation.state not in RESTING and conversation.state not in {SPEAKING, STARTING}
            assert not waits or conversation.deadline is not None


@given(st.lists(st.sampled_from(EVENTS), max_size=60), SETTINGS)
def test_at_rest_it_shows_what_is_so_in_every_order_of_events(events: list[Event], settings):
    conversation, link, lost, mistaken = made(**settings), READY, set(), False
    for event in [Started(), *events]:
        conversation.handle(event, 0.0)
        match event:
            case LinkUp() | LinkIdle():
                link = READY
            case LinkDown():
                link = OFFLINE
            case Refused() | DailyLimitReached():
                link = REFUSED
            case MicrophoneLost():
                lost.add("microphone")
            case SpeakerLost():
                lost.add("speaker")
            case DeviceReady(device):
                lost.discard(device)
            case ConfigRejected() | ConfigApplied():
                mistaken = isinstance(event, ConfigRejected)
        if conversation.state not in RESTING or conversation.state is FOLLOW_UP:
            continue
        shown = REFUSED if conversation.state is RETRY else conversation.state
        rest = MISTAKE if mistaken and link is READY else link
        assert shown is (TROUBLE if lost else MUTED if conversation.muted else rest)


@given(st.lists(st.sampled_from(EVENTS), max_size=60), SETTINGS)
def test_speech_is_listened_for_exactly_where_the_owner_wants_it(events: list[Event], settings):
    conversation, mode = made(**settings), GateMode.BUTTON
    for event in [Started(), *events]:
        for action in conversation.handle(event, 0.0):
            mode = action.mode if isinstance(action, SetGateMode) else mode
        match conversation.state:
            case State.SENDING | State.THINKING | State.LATE | State.SPEAKING:
                wanted = settings["voice_interrupts"]
            case State.FOLLOW_UP:
                wanted = True
            case State.REFUSED:
                wanted = False
            case _:
                wanted = settings["voice_starts"]
        assert (mode is GateMode.VOICE) == wanted


# Edits of config.yaml -------------------------------------------------------------------------------------------------


def rules(**others: object) -> TurnPolicy:
    return TurnPolicy(**{"idle_s": 60.0, **others})


def test_a_wrong_edit_colours_the_rest_until_it_is_right():
    conversation = at(READY)
    assert Show("mistake") in conversation.handle(ConfigRejected("x"), 1.0)
    assert conversation.handle(ConfigRejected("y"), 2.0) == []
    assert Show("ready") in conversation.handle(ConfigApplied(), 3.0)


def test_it_is_as_ready_as_before():
    conversation = at(MISTAKE, idle_s=60.0)
    assert OpenGate() in conversation.handle(Pressed(), 1.0)
    for event in (TalkEnded(), TurnAcknowledged(), ReplyStarted("r"), PlaybackEnded("r")):
        conversation.handle(event, 2.0)
    assert conversation.state is MISTAKE
    assert conversation.deadline == 62.0
    assert conversation.handle(DeadlinePassed(), 62.0) == [HangUp()]
    assert (conversation.state, conversation.deadline) == (MISTAKE, None)


@pytest.mark.parametrize("state", BUSY)
def test_an_edit_disturbs_no_turn(state):
    conversation = at(state)
    deadline = conversation.deadline
    assert conversation.handle(ConfigRejected("x"), 1.0) == []
    assert [type(action) for action in conversation.handle(ConfigApplied(), 1.0)] == [SetGateMode]
    assert (conversation.state, conversation.deadline) == (state, deadline)


@pytest.mark.parametrize("state", [OFFLINE, REFUSED, MUTED, TROUBLE])
def test_an_edit_does_not_end_what_keeps_it_from_answering(state):
    conversation = at(state)
    for edit in (ConfigRejected("x"), ConfigApplied()):
        conversation.handle(edit, 1.0)
        assert conversation.state is state


def test_a_follow_up_lasts_although_the_file_is_wrong():
    conversation = at(SPEAKING, follow_up_s=5.0)
    conversation.handle(PlaybackEnded("r"), 1.0)
    for edit in (ConfigApplied(), ConfigRejected("x")):
        conversation.handle(edit, 2.0)
        assert (conversation.state, conversation.deadline) == (FOLLOW_UP, 6.0)
    conversation.handle(DeadlinePassed(), 6.0)
    assert conversation.state is MISTAKE


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (LinkDown("x", 1.0), OFFLINE),
        (Refused("x", REFUSED_S), REFUSED),
        (Muted(), MUTED),
        (MicrophoneLost("x"), TROUBLE),
    ],
)
def test_what_keeps_it_from_answering_is_shown_first(event, state):
    conversation = at(MISTAKE)
    conversation.handle(event, 1.0)
    assert conversation.state is state


def test_other_rules_hold_from_the_edit_on():
    conversation = at(READY, idle_s=60.0)
    conversation.tune(rules(voice_starts=True, idle_s=5.0))
    assert SetGateMode(GateMode.VOICE) in conversation.handle(ConfigApplied(), 10.0)
    assert conversation.deadline == 15.0
    conversation.tune(rules(idle_s=None))
    assert SetGateMode(GateMode.BUTTON) in conversation.handle(ConfigApplied(), 11.0)
    assert conversation.deadline is None


def test_an_edit_may_let_a_voice_interrupt_the_reply_that_sounds():
    conversation = at(SPEAKING)
    conversation.tune(rules(voice_interrupts=True))
    assert conversation.handle(ConfigApplied(), 1.0) == [SetGateMode(GateMode.VOICE)]


def test_an_edit_may_give_the_follow_up_of_the_reply_that_sounds():
    conversation = at(SPEAKING)
    conversation.tune(rules(follow_up_s=5.0))
    conversation.handle(ConfigApplied(), 1.0)
    conversation.handle(PlaybackEnded("r"), 2.0)
    assert (conversation.state, conversation.deadline) == (FOLLOW_UP, 7.0)


def test_an_edit_may_let_the_button_unmute():
    conversation = at(MUTED)
    conversation.tune(rules(press_unmutes=True))
    conversation.handle(ConfigApplied(), 1.0)
    assert Mute(False) in conversation.handle(Pressed(), 2.0)
