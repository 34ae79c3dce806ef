"""One contract for the sessions of all services."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.core.events import (
    Announcement,
    AudioTurn,
    LinkUp,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    ServiceError,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    TurnEndedByService,
)
from device_agent.services.base import Capabilities, HistoryEntry
from device_agent.services.registry import SERVICES, load, options
from device_agent.services.response_timeout import (
    ACCEPT_PART,
    DEFAULT_PATIENCE_S,
    QUICK_START_PART,
    SLOW_START_PART,
    ResponseTimedOut,
)
from tests.support.peers import JOIN, KEY, PEERS, Peer

PCM = bytes(range(1, 241)) * 8  # two frames at 24 kHz, none of them silent
TURN = (TalkStarted(), PCM, TalkEnded())
ABOUT_REPLIES = (ReplyStarted, ReplyAudio, ReplyText, ReplyEnded, ToolCall)


@pytest.fixture(params=PEERS)
def peer(request) -> Peer:
    peer = PEERS[request.param]()
    assert peer.ready() == [LinkUp()]
    return peer


def of_replies(events: list) -> list:
    return [event for event in events if isinstance(event, ABOUT_REPLIES)]


def a_turn(peer: Peer) -> list:
    """The user speaks and the service has heard it."""
    peer.send(*TURN)
    return peer.wait(0.1) + peer.say(*peer.takes_turn())


def a_reply(peer: Peer, reply: str) -> list:
    begun = peer.say(*peer.begins(reply), peer.sounds(reply, PCM), peer.writes(reply, "Yes."))
    return begun + peer.say(peer.sounds(reply, PCM), *peer.ends(reply)) + peer.wait(2)


def test_it_is_ready_once_and_not_before_the_service_is():
    for make in PEERS.values():
        peer = make()
        assert not peer.session.ready
        assert peer.ready() == [LinkUp()]
        assert peer.session.ready
        assert peer.say(*peer.opening()) == []


def test_a_spoken_turn_is_heard_and_answered(peer):
    told = a_turn(peer)
    assert peer.hears() == PCM
    assert told in ([TurnAcknowledged()], [TurnEndedByService()], [])  # xai-live acknowledges nothing
    events = of_replies(a_reply(peer, "r1"))
    (name,) = {event.reply for event in events}
    assert events == [
        ReplyStarted(name), ReplyAudio(name, PCM), ReplyText(name, "Yes."), ReplyAudio(name, PCM), ReplyEnded(name)
    ]  # fmt: skip


def test_the_second_turn_is_answered_like_the_first(peer):
    for reply in ("r1", "r2"):
        a_turn(peer)
        assert ReplyEnded in {type(event) for event in a_reply(peer, reply)}


def test_two_replies_have_two_names(peer):
    names = set()
    for reply in ("r1", "r2"):
        a_turn(peer)
        names |= {event.reply for event in of_replies(a_reply(peer, reply))}
    assert len(names) == 2


def test_a_turn_without_speech_asks_for_no_reply(peer):
    peer.send(TalkStarted(), PCM, NoSpeech())
    assert "response.create" not in {frame["type"] for frame in peer.frames()}
    assert peer.hears() in (b"", PCM)


def test_a_reply_cancelled_before_it_has_a_name_is_never_heard(peer):
    a_turn(peer)
    peer.send(CancelReply())
    assert of_replies(a_reply(peer, "r1")) == []


def test_what_comes_late_of_a_cancelled_reply_is_never_heard(peer):
    a_turn(peer)
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM))
    peer.send(CancelReply())
    late = peer.say(peer.sounds("r1", PCM), peer.writes("r1", "never"), *peer.ends("r1")) + peer.wait(2)
    assert of_replies(late) == []


def test_after_a_cancelled_reply_the_next_one_is_heard(peer):
    a_turn(peer)
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM))
    peer.send(CancelReply())
    peer.say(*peer.ends("r1"))
    peer.wait(2)
    a_turn(peer)
    assert isinstance(of_replies(a_reply(peer, "r2"))[0], ReplyStarted)


def test_an_unknown_event_means_nothing(peer):
    assert peer.say({"type": "something.new", "any": [1]}) == []


@pytest.mark.parametrize("junk", ["", "{", "[1]", "3", "null", '{"type": 7}', "[" * 9999])
def test_junk_is_one_complaint(peer, junk):
    (event,) = peer.say(junk)
    assert isinstance(event, ServiceError)


@pytest.mark.parametrize("error", ["no such voice", {"message": "no such voice"}])
def test_an_error_is_an_object_or_a_string(peer, error):
    peer.say({"type": "input_audio_buffer.speech_started"})
    told = peer.say({"type": "error", "error": error})
    assert told == ([] if peer.name == "ultravox" else [ServiceError("no such voice")])  # it documents no errors


def test_a_typed_turn_is_answered(peer):
    peer.send(TextTurn("How late is it?"))
    peer.say(*([{"type": "state", "state": "thinking"}] if peer.name == "ultravox" else []))
    assert peer.words() == ["How late is it?"]
    assert isinstance(of_replies(a_reply(peer, "r1"))[0], ReplyStarted)


def test_a_recorded_turn_is_answered(peer):
    peer.send(AudioTurn(PCM))
    peer.wait(0.1)
    peer.say(*peer.takes_turn())
    as_item = [each for frame in peer.frames() for each in frame.get("item", {}).get("content", [])]
    assert bool(as_item) == (peer.service.can.clips == "yes")
    assert as_item or peer.hears() == PCM
    assert isinstance(of_replies(a_reply(peer, "r1"))[0], ReplyStarted)


def test_an_announcement_is_said_word_for_word_where_the_service_can_and_asked_for_elsewhere(peer):
    before = len(peer.frames())
    peer.send(Announcement("Say: Dinner!", "Dinner!"))
    peer.wait(0.1)
    frames = peer.frames()[before:]
    if peer.name in {"xai", "litellm"} and getattr(peer.service, "dialect", "xai") == "xai":
        content = [{"type": "output_text", "text": "Dinner!"}]
        item = {"type": "force_message", "role": "assistant", "content": content}
        assert frames == [{"type": "conversation.item.create", "item": item}]
    else:
        assert peer.words() == ["Say: Dinner!"]
        peer.say(*peer.takes_turn())
    assert peer.session.busy
    events = of_replies(a_reply(peer, "r1"))
    assert [type(event) for event in events] == [ReplyStarted, ReplyAudio, ReplyText, ReplyAudio, ReplyEnded]
    a_turn(peer)
    assert ReplyEnded in {type(event) for event in a_reply(peer, "r2")}


def test_a_service_that_says_no_announcement_is_left(peer):
    peer.send(Announcement("Say: Dinner!", "Dinner!"))
    with pytest.raises(ResponseTimedOut):
        peer.wait(DEFAULT_PATIENCE_S * SLOW_START_PART + 1.0)


def test_a_tool_is_called_answered_and_followed_by_another_reply(peer):
    a_turn(peer)
    told = peer.say(*peer.begins("r1"), peer.sounds("r1", PCM), *peer.calls("r1", "call-1"), *peer.ends("r1"))
    told += peer.wait(2)
    assert [event for event in told if isinstance(event, ToolCall)] == [ToolCall("call-1", "set_timer", '{"s": 3}')]
    assert [event.more for event in told if isinstance(event, ReplyEnded)] == [True]
    before = len(peer.frames())
    peer.send(ToolResult("call-1", '{"ok": true}'))
    assert peer.answers() == [("call-1", '{"ok": true}')]
    if peer.name != "ultravox":  # which goes on by itself
        assert [frame["type"] for frame in peer.frames()[before:]] == ["conversation.item.create", "response.create"]
    last = [event for event in a_reply(peer, "r2") if isinstance(event, ReplyEnded)]
    assert [event.more for event in last] == [False]


def test_a_tool_that_failed_is_answered_too(peer):
    a_turn(peer)
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM), *peer.calls("r1", "call-1"))
    peer.send(ToolResult("call-1", '{"error": "no timer"}', failed=True))
    assert peer.answers() == [("call-1", '{"error": "no timer"}')]


def test_the_result_of_a_call_of_a_lost_connection_is_told_with_the_call_and_answered(peer):
    assert peer.send(ToolResult("call-of-yesterday", "{}")) == []  # nothing is known of the call
    assert not peer.session.knows("call-1")
    sent = peer.send(ToolResult("call-1", '{"on": true}', name="lamp", arguments='{"on": 1}'))
    if peer.name == "ultravox":
        (frame,) = [json.loads(each) for each in sent if isinstance(each, str)]
        assert (frame["type"], "lamp" in frame["text"], '{"on": true}' in frame["text"]) == (
            "user_text_message",
            *[True] * 2,
        )
        return
    call, result, ask = map(json.loads, sent)
    assert call["item"] == {"type": "function_call", "call_id": "call-1", "name": "lamp", "arguments": '{"on": 1}'}
    assert result["item"] == {"type": "function_call_output", "call_id": "call-1", "output": '{"on": true}'}
    assert ask == {"type": "response.create"}
    assert isinstance(of_replies(a_reply(peer, "r1"))[0], ReplyStarted)


def test_the_tools_of_a_cancelled_reply_are_not_run(peer):
    a_turn(peer)
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM))
    peer.send(CancelReply())
    assert of_replies(peer.say(*peer.calls("r1", "call-1"))) == []


def test_the_answer_to_a_call_of_a_cancelled_reply_wants_no_reply(peer):
    a_turn(peer)
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM), *peer.calls("r1", "call-1"), *peer.ends("r1"))
    peer.wait(2)
    peer.send(CancelReply())
    before = len(peer.frames())
    peer.send(ToolResult("call-1", "{}"))
    assert peer.answers() == [("call-1", "{}")]
    (answer,) = peer.frames()[before:]
    assert answer.get("agentReaction", "listens") == "listens"


def test_another_connection_goes_on_where_this_one_ended(peer):
    resume = peer.session.resume
    assert bool(resume) == bool(peer.service.can.resume)
    answer = {"joinUrl": JOIN}
    invitation = peer.service.invitation(resume)
    addresses = [peer.service.endpoint(answer, resume).url, invitation.url if invitation else ""]
    assert not resume or any(address.endswith(f"={resume}") for address in addresses)
    begun_anew = [peer.service.endpoint(answer, "").url, getattr(peer.service.invitation(""), "url", "")]
    assert not any("conversation_id" in address or "priorCallId" in address for address in begun_anew)


SAID = (HistoryEntry(True, "My name is Ada."), HistoryEntry(False, "Hello Ada."))


def test_what_was_said_before_is_told_where_the_service_takes_it_and_asks_for_nothing(peer):
    before = len(peer.frames())
    peer.session.recall(SAID)
    peer.send()
    peer._collect()
    items = [frame["item"] for frame in peer.frames()[before:]]
    body = getattr(peer.service.invitation("", SAID), "body", {})
    told = [(item["role"], item["content"][0]["text"]) for item in items]
    told += [(each["role"], each["text"]) for each in body.get("initialMessages", [])]
    assert bool(peer.service.can.recall) == bool(told)
    if told:
        assert [text for _, text in told] == ["My name is Ada.", "Hello Ada."]
        assert [role[-5:].lower().strip("_") for role, _ in told] in (["user", "stant"], ["user", "agent"])
    assert "initialMessages" not in getattr(peer.service.invitation("c1", SAID), "body", {})
    a_turn(peer)
    assert isinstance(of_replies(a_reply(peer, "r1"))[0], ReplyStarted)


def test_a_conversation_goes_on_only_where_it_was_asked_to(peer):
    assert not peer.session.goes_on("")
    assert peer.session.goes_on(peer.session.resume) == bool(peer.service.can.resume)


def test_a_service_that_says_nothing_to_a_turn_is_left(peer):
    peer.send(*TURN)
    limit = DEFAULT_PATIENCE_S * (QUICK_START_PART if peer.name == "xai-live" else ACCEPT_PART)
    peer.wait(limit - 0.5)
    with pytest.raises(ResponseTimedOut, match=f"within {limit:g} s"):
        peer.wait(1.0)


def to_begin(peer: Peer) -> float:
    """How long after its turn a service of which nothing is known yet may take to begin."""
    return DEFAULT_PATIENCE_S * (QUICK_START_PART if peer.name == "xai-live" else SLOW_START_PART)


def test_a_service_that_took_a_turn_and_begins_no_reply_is_left(peer):
    a_turn(peer)
    peer.wait(to_begin(peer) - 0.5)
    with pytest.raises(ResponseTimedOut):
        peer.wait(1.0)


@pytest.mark.parametrize("spare", [True, False])
def test_it_is_left_earlier_where_there_is_another_one_or_where_it_was_quick_before(peer, spare):
    if spare:
        peer.session.spare = True
    else:
        a_turn(peer)
        a_reply(peer, "r1")
    a_turn(peer)
    with pytest.raises(ResponseTimedOut):
        peer.wait(DEFAULT_PATIENCE_S * QUICK_START_PART + 0.5)


def test_a_ping_is_no_answer_and_any_other_word_is_a_sign_of_life(peer):
    a_turn(peer)
    peer.wait(to_begin(peer) - 1.0)
    peer.say({"type": "ping", "timestamp": 1})
    with pytest.raises(ResponseTimedOut):
        peer.wait(2.0)


def test_a_service_that_has_answered_may_be_silent_for_ever(peer):
    a_turn(peer)
    a_reply(peer, "r1")
    assert peer.wait(600) == []
    peer.send(TalkStarted(), PCM, NoSpeech())
    assert peer.wait(600) == []


def test_it_is_busy_from_the_first_word_of_a_turn_to_the_end_of_the_reply(peer):
    assert not peer.session.busy
    peer.send(TalkStarted())
    assert peer.session.busy
    peer.send(PCM, TalkEnded())
    peer.wait(0.1)
    peer.say(*peer.takes_turn())
    assert peer.session.busy
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM))
    assert peer.session.busy
    peer.say(*peer.ends("r1"))
    peer.wait(2)
    assert not peer.session.busy


def test_it_is_busy_while_a_tool_runs(peer):
    a_turn(peer)
    peer.say(*peer.begins("r1"), peer.sounds("r1", PCM), *peer.calls("r1", "call-1"), *peer.ends("r1"))
    peer.wait(2)
    assert peer.session.busy


def test_no_secret_is_ever_shown(peer):
    shown = [peer.service, peer.session, peer.service.invitation(""), peer.service.endpoint({"joinUrl": JOIN}, "")]
    for each in map(repr, shown):
        assert KEY not in each
        assert JOIN not in each


def test_a_break_is_a_break(peer):
    peer.say({"type": "input_audio_buffer.speech_started"})
    error = LinkLost("the connection broke", retry_after=3.0)
    assert peer.session.lost(error) is error


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_says_what_it_can_and_is_told_what_all_are_told(name):
    service = load(name)
    assert isinstance(service.can, Capabilities)
    assert service.rate in service.rates
    assert not service.can.recall or service.can.typed
    assert {"key", "ca_file", "url", "model", "voice", "instructions", "tools", "functions", "service_ends"} <= options(
        name
    )
    assert bool(service.can.token) == ("token_url" in options(name))


VALUES = st.sampled_from(
    [None, True, 7, -1.5, "", "r1", "call-1", "AAAA", "A", "completed", "\udcff", "thinking", "speaking", "listening",
     "agent", "user", [], ["r1"], [{}], {}, {"id": "r1"}, {"id": 3}, {"code": "timeout"}, {"message": None},
     {"type": "function_call", "call_id": "call-1", "name": "f"}, {"role": "user", "content": [{"type": "input_text"}]},
     {"id": "r1", "output": [{"type": "function_call", "call_id": "call-2", "name": "f"}, 3]}]
)  # fmt: skip
KINDS = [
    "session.created", "conversation.created", "session.updated", "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed", "conversation.item.added", "response.created", "response.output_item.added",
    "response.audio.delta", "response.audio_transcript.delta", "response.audio.done", "response.done", "error",
    "response.function_call_arguments.done", "call_started", "state", "transcript", "client_tool_invocation",
    "playback_clear_buffer", "conversation.item.input_audio_transcription.completed",
]  # fmt: skip
FIELDS = [
    "response", "response_id", "delta", "item", "item_id", "transcript", "status", "error", "call_id", "name", "role",
    "arguments", "state", "text", "final", "ordinal", "toolName", "invocationId", "parameters", "session", "callId",
]  # fmt: skip
MESSAGES = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=dict.fromkeys(FIELDS, VALUES))
DEEDS = st.sampled_from(
    [
        TalkStarted(),
        PCM,
        TalkEnded(),
        NoSpeech(),
        TextTurn("x"),
        AudioTurn(PCM),
        CancelReply(),
        ToolResult("call-1", "{}"),
    ]
)
DEED = st.one_of(MESSAGES, DEEDS, st.binary(max_size=5), st.text(max_size=5))


@given(st.sampled_from(sorted(PEERS)), st.lists(DEED, max_size=30), st.booleans())
def test_no_message_breaks_a_session(name, deeds, ready):
    peer = PEERS[name]()
    if ready:
        peer.ready()
    for deed in deeds:
        try:
            if isinstance(deed, (dict, str)):
                peer.say(deed)
            elif peer.session.ready:
                peer.send(deed)
                peer.say(deed) if isinstance(deed, bytes) else peer.wait(0.5)
        except (LinkLost, LinkRefused):
            return
    for message in peer.sent:
        if isinstance(message, str):
            assert json.loads(message)["type"]
        else:
            assert name == "ultravox"
