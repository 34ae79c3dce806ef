"""What only Ultravox does; the rest is in the contract of all sessions."""

from __future__ import annotations

import pytest

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.conversation import DEFAULT_PATIENCE_S
from device_agent.core.errors import LinkLost
from device_agent.core.events import (
    AudioTurn,
    LinkUp,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    TalkEnded,
    TalkStarted,
    TextTurn,
    TurnEndedByService,
    UserText,
)
from device_agent.core.redaction import Secret
from device_agent.services.base import HistoryEntry
from device_agent.services.response_timeout import ACCEPT_PART
from device_agent.services.ultravox import Ultravox
from device_agent.services.ultravox_session import STREAM_FRAME_S, TEXT_END_TIMEOUT_S
from tests.support.peers import JOIN, KEY, TIMER, UltravoxPeer

FRAME = bytes(range(1, 241)) * 4  # 20 ms at 24 kHz, not silent
ZEROS = bytes(960)
SPEAKING, THINKING, LISTENING = ({"type": "state", "state": state} for state in ("speaking", "thinking", "listening"))


@pytest.fixture
def peer() -> UltravoxPeer:
    peer = UltravoxPeer("ultravox")
    assert peer.ready() == [LinkUp()]
    return peer


def agent(ordinal: int, *, final: bool = False, **words: str) -> dict:
    return {"type": "transcript", "role": "agent", "medium": "voice", "final": final, "ordinal": ordinal, **words}


def replying(peer: UltravoxPeer) -> None:
    peer.send(TalkStarted(), FRAME, TalkEnded())
    peer.wait(0.1)
    assert peer.say(THINKING, SPEAKING) == [TurnEndedByService()]


def test_a_call_is_asked_for_in_which_the_user_speaks_first():
    service = Ultravox(Secret(KEY), instructions="Be kind.", functions=(TIMER,), silence_ms=500, model="ultravox-v0.7")
    request = service.invitation("")
    assert request.url == "https://api.ultravox.ai/api/calls"
    assert request.headers == {"X-API-Key": KEY}
    assert request.body == {
        "systemPrompt": "Be kind.",
        "model": "ultravox-v0.7",
        "voice": "Mark",
        "medium": {
            "serverWebSocket": {
                "inputSampleRate": 24000,
                "outputSampleRate": 24000,
                "clientBufferSizeMs": 30000,
                "mediaIdleTimeout": "60s",
            }
        },
        "firstSpeakerSettings": {"user": {}},
        "initialOutputMedium": "MESSAGE_MEDIUM_VOICE",
        "vadSettings": {"turnEndpointDelay": "0.5s"},
        "selectedTools": [
            {
                "temporaryTool": {
                    "modelToolName": "set_timer",
                    "description": "Set a timer.",
                    "dynamicParameters": [
                        {
                            "name": "s",
                            "location": "PARAMETER_LOCATION_BODY",
                            "schema": {"type": "integer"},
                            "required": True,
                        }
                    ],
                    "timeout": "7s",
                    "client": {},
                }
            }
        ],
    }


def test_the_service_picks_the_model_where_none_is_named():
    assert "model" not in Ultravox(Secret(KEY)).invitation("").body


def test_a_new_call_is_told_what_was_said_and_one_that_goes_on_is_not():
    said = (HistoryEntry(True, "My name is Ada."), HistoryEntry(False, "Hello Ada."))
    assert Ultravox().invitation("", said).body["initialMessages"] == [
        {"role": "MESSAGE_ROLE_USER", "text": "My name is Ada."},
        {"role": "MESSAGE_ROLE_AGENT", "text": "Hello Ada."},
    ]
    assert "initialMessages" not in Ultravox().invitation("k1", said).body
    assert "initialMessages" not in Ultravox().invitation("", ()).body


def test_the_time_to_take_a_turn_runs_from_its_last_sound(peer):
    peer.send(TalkStarted(), FRAME * 500, TalkEnded())  # ten seconds, which take ten seconds
    peer.wait(10.0 + DEFAULT_PATIENCE_S * ACCEPT_PART - 0.5)
    with pytest.raises(LinkLost, match="did not accept the turn"):
        peer.wait(1.0)


def test_while_our_tool_runs_the_service_owes_nothing(peer):
    replying(peer)
    peer.say(THINKING, invocation("i1"))
    assert peer.wait(60) == []
    peer.send(ToolResult("i1", "{}"))
    assert peer.wait(1) == []


def test_a_call_is_asked_for_over_http_whatever_the_address_looks_like():
    assert Ultravox(url="wss://voice.example/api/calls").invitation("").url == "https://voice.example/api/calls"
    assert Ultravox(url="ws://localhost:1/api/calls").invitation("k1").url == (
        "http://localhost:1/api/calls?priorCallId=k1"
    )


def test_the_call_is_joined_at_exactly_the_address_that_came_back_which_is_not_shown():
    endpoint = Ultravox(Secret(KEY)).endpoint({"joinUrl": JOIN}, "")
    assert (endpoint.url, endpoint.headers) == (JOIN, {})
    assert endpoint.name == "ultravox at api.ultravox.ai"
    assert JOIN not in repr(endpoint)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"joinUrl": None}, {"joinUrl": "https://x"}, {"joinUrl": "ws://a\nb"}]
)
def test_an_answer_without_an_address_is_a_break(answer):
    with pytest.raises(LinkLost, match="no address"):
        Ultravox().endpoint(answer, "")


def test_a_call_that_was_created_with_tls_is_not_joined_without_tls():
    with pytest.raises(LinkLost, match="overheard"):
        Ultravox().endpoint({"joinUrl": "ws://192.168.1.5/join"}, "")
    assert Ultravox(url="http://192.168.1.5/api/calls").endpoint({"joinUrl": "ws://192.168.1.5/join"}, "")


def test_the_stream_is_steady_with_and_without_speech(peer):
    peer.sent.clear()
    peer.wait(1.0)
    assert peer.sent == [ZEROS] * 50
    peer.send(TalkStarted(), FRAME * 25, TalkEnded())
    peer.sent.clear()
    peer.wait(1.0)
    assert peer.sent == [FRAME] * 25 + [ZEROS] * 25


def test_nothing_is_streamed_before_the_call_has_started():
    peer = UltravoxPeer("ultravox")
    peer.wait(1.0)
    assert peer.sent == []


def test_a_late_wake_up_is_made_up_for_and_a_long_sleep_is_not(peer):
    peer.wait(STREAM_FRAME_S)
    peer.sent.clear()
    peer.now += 3.5 * STREAM_FRAME_S
    peer.say()
    peer.wait(0.001)
    assert len(peer.sent) in (3, 4)
    peer.sent.clear()
    peer.now += 10.0
    peer.wait(0.001)
    assert len(peer.sent) == 1


def test_a_clip_is_streamed_at_the_speed_of_sound(peer):
    peer.send(AudioTurn(FRAME * 10 + FRAME[:100]))
    peer.sent.clear()
    peer.wait(0.3)
    assert peer.sent == [FRAME] * 10 + [FRAME[:100].ljust(960, b"\0")] + [ZEROS] * 4


def test_a_turn_without_speech_is_not_sent(peer):
    peer.send(TalkStarted(), FRAME, NoSpeech())
    peer.wait(0.1)
    assert peer.hears() == b""


def test_thinking_about_nothing_takes_no_turn(peer):
    assert peer.say(THINKING, LISTENING) == []
    peer.send(TalkStarted())
    assert peer.say(THINKING) == []  # about what it heard before


def test_a_reply_is_over_when_its_text_is_and_the_service_listens(peer):
    replying(peer)
    assert peer.say(FRAME, agent(1, delta="Do"), agent(1, delta="ne")) == [
        ReplyStarted("reply 1"), ReplyAudio("reply 1", FRAME), ReplyText("reply 1", "Do"), ReplyText("reply 1", "ne")
    ]  # fmt: skip
    assert peer.say(LISTENING) == []
    assert peer.say(agent(1, text="Done.", final=True)) == [ReplyText("reply 1", "."), ReplyEnded("reply 1")]
    assert peer.wait(3) == []


def test_a_reply_is_over_when_the_service_listens_after_its_text(peer):
    replying(peer)
    peer.say(FRAME, agent(1, text="Done.", final=True))
    assert peer.say(LISTENING) == [ReplyEnded("reply 1")]


def test_a_reply_whose_text_never_ends_is_over_all_the_same(peer):
    replying(peer)
    peer.say(FRAME, agent(1, delta="Do"), LISTENING)
    assert peer.wait(TEXT_END_TIMEOUT_S - 0.1) == []
    assert peer.wait(0.2) == [ReplyEnded("reply 1")]
    assert peer.say(agent(1, text="Done.", final=True)) == []  # too late to be another reply


def test_half_a_sample_waits_for_its_other_half(peer):
    replying(peer)
    assert peer.say(b"\1\0\2")[-1] == ReplyAudio("reply 1", b"\1\0")
    assert peer.say(b"\0") == [ReplyAudio("reply 1", b"\2\0")]


def test_what_the_service_takes_back_is_withdrawn(peer):
    replying(peer)
    peer.say(FRAME)
    assert peer.say({"type": "playback_clear_buffer"}) == [ReplyWithdrawn("reply 1")]
    assert peer.say({"type": "playback_clear_buffer"}) == []


def test_a_reply_that_was_sent_long_ago_and_still_plays_can_be_withdrawn(peer):
    replying(peer)
    peer.say(FRAME, LISTENING)
    assert peer.say({"type": "playback_clear_buffer"}) == [ReplyWithdrawn("reply 1")]


def test_a_cancelled_reply_is_stopped_by_a_text_that_cannot_wait(peer):
    replying(peer)
    peer.say(FRAME)
    before = len(peer.frames())
    peer.send(CancelReply(), CancelReply())
    assert peer.frames()[before:] == [{"type": "user_text_message", "text": "", "urgency": "immediate"}]
    assert peer.say(FRAME, {"type": "playback_clear_buffer"}, agent(1, text="Do", final=True), LISTENING) == []
    assert peer.say(agent(1, text="Do", final=True)) == []


def test_nothing_is_stopped_when_nothing_runs(peer):
    before = len(peer.frames())
    peer.send(CancelReply())
    assert len(peer.frames()) == before


def test_words_interrupt_and_are_answered(peer):
    replying(peer)
    peer.say(FRAME)
    before = len(peer.frames())
    peer.send(TextTurn("Stop that."))
    assert peer.frames()[before:] == [{"type": "user_text_message", "text": "Stop that.", "urgency": "immediate"}]
    assert peer.say(FRAME) == []
    assert peer.say(THINKING, SPEAKING, FRAME) == [
        TurnEndedByService(), ReplyStarted("reply 2"), ReplyAudio("reply 2", FRAME)
    ]  # fmt: skip


def test_what_the_user_said_is_told_by_ordinal(peer):
    said = {"type": "transcript", "role": "user", "medium": "voice"}
    assert peer.say({**said, "delta": "turn ", "final": False, "ordinal": 0}) == [UserText("0", "turn ", False)]
    assert peer.say({**said, "delta": "it", "final": False, "ordinal": 0}) == [UserText("0", "turn it", False)]
    assert peer.say({**said, "text": "Turn it down.", "final": True, "ordinal": 0}) == [
        UserText("0", "Turn it down.", True)
    ]


def test_a_tool_that_failed_is_said_to_have_failed(peer):
    replying(peer)
    peer.say({"type": "client_tool_invocation", "toolName": "set_timer", "invocationId": "i1", "parameters": {}})
    peer.send(ToolResult("i1", '{"error": "none"}', failed=True))
    assert peer.frames()[-1] == {
        "type": "client_tool_result",
        "invocationId": "i1",
        "agentReaction": "speaks",
        "errorType": "implementation-error",
        "errorMessage": '{"error": "none"}',
    }


def test_a_tool_of_a_cancelled_reply_is_answered_at_once_because_the_service_waits(peer):
    replying(peer)
    peer.send(CancelReply())
    asked = {"type": "client_tool_invocation", "toolName": "set_timer", "invocationId": "i1", "parameters": {}}
    assert peer.say(asked) == []
    assert peer.frames()[-1]["invocationId"] == "i1"
    assert peer.frames()[-1]["agentReaction"] == "listens"


def invocation(call: str) -> dict:
    return {"type": "client_tool_invocation", "toolName": "set_timer", "invocationId": call, "parameters": {}}


@pytest.mark.parametrize(
    ("quiet", "reactions"),
    [
        ((True,), ["listens"]),
        ((True, True), ["listens", "listens"]),
        ((True, False), ["listens", "speaks"]),
        ((False, True), ["speaks", "speaks"]),
    ],
)
def test_after_quiet_answers_alone_the_agent_listens(peer, quiet, reactions):
    replying(peer)
    calls = [f"i{number}" for number, _ in enumerate(quiet)]
    peer.say(THINKING, *map(invocation, calls))
    before = len(peer.frames())
    peer.send(*(ToolResult(call, "{}", quiet=each) for call, each in zip(calls, quiet, strict=True)))
    answers = peer.frames()[before:]
    assert [(answer["invocationId"], answer["agentReaction"]) for answer in answers] == list(
        zip(calls, reactions, strict=True)
    )
    assert {answer["result"] for answer in answers} == {"{}"}


def test_a_quiet_answer_stays_quiet_whatever_was_said_of_calls_before(peer):
    replying(peer)
    peer.say(THINKING, invocation("i1"), invocation("i2"))
    peer.send(ToolResult("i1", "{}"), CancelReply(), ToolResult("i2", "{}"))
    peer.say(LISTENING)
    replying(peer)
    peer.say(THINKING, invocation("i5"), invocation("i6"))
    peer.send(ToolResult("i5", "{}"), CancelReply())  # i6 is slow
    peer.say(LISTENING)
    replying(peer)
    peer.say(invocation("i7"))
    peer.send(ToolResult("i7", "{}", quiet=True), ToolResult("i6", "{}"))
    for call in ("i3", "i4"):
        peer.say(THINKING, invocation(call))
        peer.send(ToolResult(call, "{}", quiet=call == "i4"))
    assert [frame["agentReaction"] for frame in peer.frames() if "agentReaction" in frame] == [
        "speaks", "listens", "speaks", "listens", "listens", "speaks", "listens"
    ]  # fmt: skip


def test_it_hangs_up_and_goes_on_in_another_call(peer):
    assert peer.session.resume == "k1"
    peer.session.farewell()
    assert [message for message in peer.session.outgoing() if isinstance(message, str)] == ['{"type": "hang_up"}']
