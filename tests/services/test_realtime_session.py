"""The sessions of the family that xAI founded: without a socket, a thread or a clock."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.conversation import DEFAULT_PATIENCE_S, PROGRESS_PART, TOTAL_PART
from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.core.events import (
    LinkUp,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyProgress,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ServiceError,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    TurnEndedByService,
    UserText,
)
from device_agent.core.redaction import Secret
from device_agent.services.base import HistoryEntry
from device_agent.services.openai import OpenAI
from device_agent.services.realtime_session import (
    NO_SPEECH,
    READY_WITHOUT_ACK_S,
    REPLY_END_TIMEOUT_S,
    WITHDRAWN_REPLY_RETRY_S,
)
from device_agent.services.reply_tracker import AUTO_REPLY_TIMEOUT_S, CANCELLED_REPLY_TIMEOUT_S, COMMIT_ACK_TIMEOUT_S
from device_agent.services.response_timeout import ACCEPT_PART
from device_agent.services.xai import Xai, xai_settings

PCM = b"\1\0\2\0"
TURN = [TalkStarted(), PCM, TalkEnded()]
TAKEN_S = DEFAULT_PATIENCE_S * ACCEPT_PART
SENT = ["input_audio_buffer.append", "input_audio_buffer.commit"]
ASKED = [*SENT, "response.create"]


class Talk:
    """A session that has been greeted, and hands to play the service with."""

    def __init__(self, service: type = OpenAI, **settings: object) -> None:
        self.session = service(Secret("k"), **settings).session()
        self.session.tick(100.0)
        self.session.greet()
        self.first = self.sent()
        self.says("session.updated")

    def at(self, now: float) -> list[object]:
        """It is *now*, seconds after the greeting."""
        return list(self.session.tick(100.0 + now))

    def send(self, *items: object) -> list[str]:
        for item in items:
            self.session.send(item)
        return self.sent()

    def sent(self) -> list[str]:
        self.frames = [json.loads(message) for message in self.session.outgoing()]
        return [frame["type"] for frame in self.frames]

    def says(self, kind: str, **fields: object) -> list[object]:
        return list(self.session.receive(json.dumps({"type": kind, **fields})))

    def created(self, reply: str) -> list[object]:
        return self.says("response.created", response={"id": reply})

    def audio(self, reply: str | None, pcm: bytes = PCM, kind: str = "response.output_audio.delta") -> list[object]:
        fields = {} if reply is None else {"response_id": reply}
        return self.says(kind, delta=base64.b64encode(pcm).decode(), **fields)

    def calls(self, reply: str, *names: str) -> list[object]:
        """A reply asks for tools; it is not over yet."""
        self.send(*TURN)
        self.created(reply)
        kind = "response.function_call_arguments.done"
        return [self.says(kind, response_id=reply, call_id=name, name=name, arguments="{}")[0] for name in names]

    def done(self, reply: str, **fields: object) -> list[object]:
        return self.says("response.done", response={"id": reply, **fields})


def test_it_greets_with_every_setting():
    session = Xai(Secret("k"), instructions="Be kind.", voice="rex", tools=("web_search",)).session()
    session.greet()
    (update,) = map(json.loads, session.outgoing())
    assert update["session"] == {
        "instructions": "Be kind.",
        "voice": "rex",
        "turn_detection": {"type": None},
        "audio": {
            "input": {"format": {"type": "audio/pcm", "rate": 24000}, "transcription": {"model": "grok-transcribe"}},
            "output": {"format": {"type": "audio/pcm", "rate": 24000}},
        },
        "tools": [{"type": "web_search"}],
        "resumption": {"enabled": True},
    }


def test_the_model_is_in_the_address_and_the_key_in_a_header():
    endpoint = Xai(Secret("k"), url="ws://localhost:1/v1/realtime?a=b", model="grok voice").endpoint(None, "")
    assert endpoint.url == "ws://localhost:1/v1/realtime?a=b&model=grok+voice"
    assert endpoint.headers == {"Authorization": "Bearer k"}
    assert "Bearer" not in repr(endpoint)


def test_it_is_ready_when_the_settings_are_acknowledged_and_not_before():
    session = Xai(Secret("k")).session()
    session.greet()
    for early in ("session.created", "conversation.created", "ping"):
        assert list(session.receive(json.dumps({"type": early}))) == []
    assert not session.ready
    assert list(session.receive('{"type": "session.updated"}')) == [LinkUp()]
    assert session.ready
    assert list(session.receive('{"type": "session.updated"}')) == []


def test_it_is_ready_by_rule_when_the_service_says_nothing():
    session = Xai(Secret("k")).session()
    session.tick(100.0)
    session.greet()
    assert session.deadline == 100.0 + READY_WITHOUT_ACK_S
    assert list(session.tick(104.9)) == []
    assert list(session.tick(105.0)) == [LinkUp()]
    assert session.deadline is None


@pytest.mark.parametrize("audio", ["response.output_audio.delta", "response.audio.delta"])
@pytest.mark.parametrize("text", ["response.output_audio_transcript.delta", "response.audio_transcript.delta"])
def test_one_turn_in_every_spelling(audio, text):
    talk = Talk()
    assert talk.send(*TURN) == ASKED
    assert base64.b64decode(talk.frames[0]["audio"]) == PCM
    assert talk.says("input_audio_buffer.committed", item_id="u") == [TurnAcknowledged()]
    talk.created("r")
    assert talk.audio("r", kind=audio) == [ReplyStarted("r"), ReplyAudio("r", PCM)]
    assert talk.says(text, response_id="r", delta="Hel") == [ReplyText("r", "Hel")]
    assert talk.audio("r", kind=audio) == [ReplyAudio("r", PCM)]
    assert talk.done("r", status="completed") == [ReplyEnded("r")]
    assert talk.sent() == []


def test_text_under_two_names_is_told_once():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    assert talk.says("response.output_text.delta", response_id="r", delta="a") == [ReplyText("r", "a")]
    assert talk.says("response.text.delta", response_id="r", delta="a") == []


def test_deltas_without_ids_belong_to_the_reply_under_way():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    assert talk.audio(None) == [ReplyStarted("r"), ReplyAudio("r", PCM)]
    assert talk.says("response.done") == [ReplyEnded("r")]


def test_a_reply_that_was_never_announced_is_heard_if_one_was_asked_for():
    talk = Talk()
    talk.send(*TURN)
    (started, _) = talk.audio(None)
    assert isinstance(started, ReplyStarted)


def test_half_a_sample_waits_for_its_other_half():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    assert talk.audio("r", b"\1") == []
    assert talk.audio("r", b"\0\2")[-1] == ReplyAudio("r", b"\1\0")
    assert talk.audio("r", b"\0") == [ReplyAudio("r", b"\2\0")]


def test_a_cancelled_reply_is_never_heard_again():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    talk.audio("r")
    assert talk.send(CancelReply()) == ["response.cancel"]
    assert talk.audio("r") == []
    assert talk.says("response.audio_transcript.delta", response_id="r", delta="x") == []
    assert talk.done("r", status="cancelled") == []


def test_a_reply_cancelled_before_it_has_a_name_is_never_heard():
    talk = Talk()
    talk.send(*TURN)
    assert talk.send(CancelReply()) == []  # nothing to point at yet
    talk.created("r")
    assert talk.sent() == ["response.cancel"]
    assert talk.audio("r") == []
    assert talk.done("r") == []


def test_a_new_turn_makes_the_reply_before_it_unwanted():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r1")
    assert talk.send(TalkStarted())[0] == "response.cancel"
    assert talk.audio("r1") == []


def test_nothing_is_cancelled_when_nothing_runs():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    talk.done("r")
    assert talk.send(CancelReply()) == []


def test_the_next_reply_is_asked_for_when_the_dead_one_is_over():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r1")
    assert talk.send(*TURN) == ["response.cancel", *ASKED[:2]]
    talk.done("r1")
    assert talk.sent() == ["response.create"]
    talk.created("r2")
    assert talk.audio("r2") == [ReplyStarted("r2"), ReplyAudio("r2", PCM)]


def test_a_dead_reply_that_is_dropped_without_a_word_does_not_block_the_next():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r1")
    talk.send(*TURN)
    assert talk.sent() == []
    talk.at(CANCELLED_REPLY_TIMEOUT_S - 0.1)
    assert talk.sent() == []
    talk.at(CANCELLED_REPLY_TIMEOUT_S)
    assert talk.sent() == ["response.create"]


def test_a_reply_without_a_request_is_cancelled():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r1")
    talk.audio("r1")
    talk.done("r1")
    talk.created("again")  # a proxy that asks a second time
    assert talk.sent() == ["response.cancel"]
    assert talk.audio("again") == []


def test_a_busy_service_is_asked_again_only_if_what_runs_is_dead():
    talk = Talk()
    talk.send(*TURN)
    busy = {"code": "conversation_already_has_active_response", "message": "busy"}
    talk.created("injected")
    assert talk.says("error", error=busy) == []
    talk.audio("injected")
    assert talk.done("injected") == [ReplyEnded("injected")]
    assert talk.sent() == []


def test_nothing_said_clears_what_was_sent():
    assert Talk().send(TalkStarted(), PCM, NoSpeech()) == ["input_audio_buffer.append", "input_audio_buffer.clear"]
    assert Talk().send(TalkStarted(), NoSpeech()) == []


def test_when_the_service_ends_turns_it_gets_silence_and_no_commit():
    talk = Talk(service_ends=True, silence_ms=500)
    assert talk.first == ["session.update"]
    assert talk.send(*TURN) == ["input_audio_buffer.append"] * 2
    assert talk.says("input_audio_buffer.speech_stopped") == [TurnEndedByService()]
    talk.created("r")
    assert talk.audio("r")[0] == ReplyStarted("r")


def test_server_vad_is_told_the_silence_of_the_configuration():
    detection = xai_settings(Xai(Secret("k"), service_ends=True, silence_ms=500))["turn_detection"]
    assert (detection["type"], detection["silence_duration_ms"]) == ("server_vad", 500)


def test_only_a_completed_transcript_is_final():
    talk = Talk()
    text = "conversation.item.input_audio_transcription"
    assert talk.says(f"{text}.updated", item_id="u", transcript="set a tie") == [UserText("u", "set a tie", False)]
    said = talk.says(f"{text}.completed", item_id="u", transcript="set a", status="in_progress")
    assert said == [UserText("u", "set a", False)]
    said = talk.says(f"{text}.completed", item_id="u", transcript="set a timer", status="completed")
    assert said == [UserText("u", "set a timer", True)]


def test_transcript_deltas_add_up():
    talk = Talk()
    kind = "conversation.item.input_audio_transcription.delta"
    talk.says(kind, item_id="u", delta="good ")
    assert talk.says(kind, item_id="u", delta="day") == [UserText("u", "good day", False)]
    assert talk.says(kind, item_id="v", delta="new") == [UserText("v", "new", False)]


def test_why_a_reply_failed_is_told():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    details = {"error": {"code": "content_error", "message": "out of order"}}
    assert talk.done("r", status="failed", status_details=details) == [ReplyEnded("r", "out of order")]


@pytest.mark.parametrize("code", ["response_cancel_not_active", "conversation_already_has_active_response"])
def test_being_a_moment_late_is_no_error(code):
    assert Talk().says("error", error={"code": code, "message": "too late"}) == []


@pytest.mark.parametrize("error", ["no such voice", {"message": "no such voice"}])
def test_an_error_is_an_object_or_a_string(error):
    assert Talk().says("error", error=error) == [ServiceError("no such voice")]


@pytest.mark.parametrize("code", ["invalid_api_key", "insufficient_quota", "model_not_found"])
def test_some_errors_are_final(code):
    with pytest.raises(LinkRefused, match=code):
        Talk().says("error", error={"code": code, "message": "no"})


@pytest.mark.parametrize("code", ["session_expired", "max_duration", "timeout"])
def test_some_errors_end_the_session(code):
    with pytest.raises(LinkLost, match=code):
        Talk().says("error", error={"type": code, "message": "bye"})


@pytest.mark.parametrize(
    "message", ["", "{", "nonsense", b"\xff\xfe\x00", "[1]", "3", "null", '{"type": 7}', "[" * 9999]
)
def test_junk_is_one_complaint(message):
    (event,) = Talk().session.receive(message)
    assert isinstance(event, ServiceError)


def test_json_in_a_binary_frame_is_read():
    talk = Talk()
    talk.send(*TURN)
    assert list(talk.session.receive(b'{"type": "input_audio_buffer.committed"}')) == [TurnAcknowledged()]


def test_damaged_sound_is_one_complaint_and_the_rest_is_heard():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    (complaint,) = talk.says("response.output_audio.delta", response_id="r", delta="AAA")
    assert isinstance(complaint, ServiceError)
    assert talk.audio("r") == [ReplyStarted("r"), ReplyAudio("r", PCM)]


def test_an_unknown_event_is_nothing():
    assert Talk().says("something.new", any=1) == []


def test_the_second_half_of_a_turn_of_another_connection_is_no_turn():
    assert Talk().send(TalkEnded()) == []


def resumed(*greeting: dict) -> object:
    session = Xai(Secret("k")).session()
    session.greet()
    for event in (*greeting, {"type": "session.updated"}):
        list(session.receive(json.dumps(event)))
    return session


def test_a_conversation_goes_on_when_the_service_calls_it_by_its_name():
    assert resumed({"type": "conversation.created", "conversation": {"id": "c1"}}).goes_on("c1")
    assert not resumed({"type": "conversation.created", "conversation": {"id": "c2"}}).goes_on("c1")  # it was too old


def test_where_it_calls_it_by_no_name_what_it_remembers_tells():
    item = {"type": "conversation.item.added", "item": {"role": "user", "content": [{"type": "input_text"}]}}
    assert resumed(item).goes_on("c1")
    assert not resumed().goes_on("c1")


def test_what_comes_back_of_what_we_repeated_is_no_acknowledgement():
    talk = Talk(Xai)
    talk.session.recall([HistoryEntry(True, "One?"), HistoryEntry(False, "One.")])
    items = [frame["item"] for frame in map(json.loads, talk.session.outgoing())]
    assert [item["content"][0]["type"] for item in items] == ["input_text", "text"]
    talk.send(TextTurn("Two?"))
    ours = {"role": "user", "content": [{"type": "input_text", "text": "Two?"}]}
    assert talk.says("conversation.item.added", item=items[0]) == []
    assert talk.says("conversation.item.added", item=items[1]) == []
    assert talk.says("conversation.item.added", item=ours) == [TurnAcknowledged()]


def test_when_the_session_ends_is_known_if_the_service_says_so():
    session = OpenAI(Secret("k")).session()
    assert session.expires_at == 0.0
    list(session.receive('{"type": "session.created", "session": {"expires_at": 1790000000}}'))
    list(session.receive('{"type": "session.updated", "session": {"expires_at": "soon"}}'))
    assert session.expires_at == 1790000000.0


def test_a_cancelled_request_that_the_service_ignores_is_not_waited_for():
    talk = Talk()
    talk.send(*TURN, CancelReply())
    talk.at(1.0)
    assert talk.session.deadline is None  # it is no longer waited for


def test_the_time_to_take_a_turn_runs_from_when_it_was_sent():
    talk = Talk()
    talk.send(*TURN)
    list(talk.session.tick(130.0))  # it was long, and the link is thin
    assert talk.session.deadline == 130.0 + TAKEN_S


@pytest.mark.parametrize("noticed", [False, True])
def test_the_end_of_a_turn_that_the_service_has_noticed_wants_no_word(noticed):
    talk = Talk(service_ends=True)
    talk.send(TalkStarted(), PCM)
    if noticed:
        talk.says("input_audio_buffer.speech_stopped", item_id="u")
        talk.created("r")
        talk.done("r")
    talk.send(TalkEnded())
    list(talk.session.tick(101.0))
    assert talk.session.deadline == (None if noticed else 101.0 + TAKEN_S)


QUIET = ToolResult("stop", "{}", quiet=True)
LOUD = ToolResult("lamp", "{}")
ITEM = "conversation.item.create"


def test_a_quiet_answer_is_handed_over_and_asks_for_no_reply():
    talk = Talk()
    assert talk.calls("r", "stop") == [ToolCall("stop", "stop", "{}")]
    assert talk.done("r") == [ReplyEnded("r", more=True)]
    assert talk.send(QUIET) == [ITEM]
    assert talk.frames[0]["item"] == {"type": "function_call_output", "call_id": "stop", "output": "{}"}
    assert talk.send(*TURN) == ASKED  # and the next turn is answered like any other


def test_a_quiet_answer_before_the_end_of_its_reply_means_that_no_more_comes():
    talk = Talk()
    talk.calls("r", "stop")
    assert talk.send(QUIET) == [ITEM]
    assert talk.done("r") == [ReplyEnded("r")]
    assert talk.sent() == []


@pytest.mark.parametrize("results", [(QUIET, LOUD), (LOUD, QUIET)])
@pytest.mark.parametrize("over", [0, 1, 2])
def test_one_answer_worth_a_word_is_enough_for_a_reply(results, over):
    """*over* is when the reply with the calls ends: before, between or after the answers."""
    talk = Talk()
    talk.calls("r", "stop", "lamp")
    said = []
    for number, result in enumerate((*results, None)):
        if number == over:
            assert talk.done("r") == [ReplyEnded("r", more=True)]
            said += talk.sent()
        said += talk.send(result) if result else []
    assert said == [ITEM, ITEM, "response.create"]


def test_a_tool_that_could_not_be_silent_is_spoken_of():
    talk = Talk()
    talk.calls("r", "stop")
    talk.done("r")
    assert talk.send(ToolResult("stop", "{}", failed=True)) == [ITEM, "response.create"]


def test_what_was_worth_a_word_is_said_once():
    talk = Talk()
    talk.calls("r1", "lamp")
    talk.done("r1")
    assert talk.send(LOUD) == [ITEM, "response.create"]
    talk.created("r2")
    talk.says("response.function_call_arguments.done", response_id="r2", call_id="stop", name="stop", arguments="{}")
    talk.done("r2")
    assert talk.send(QUIET) == [ITEM]


def test_what_was_worth_a_word_in_a_cancelled_reply_is_forgotten():
    talk = Talk()
    talk.calls("r1", "lamp")
    talk.send(LOUD, CancelReply())
    talk.done("r1")
    talk.calls("r2", "stop")
    assert talk.send(QUIET) == [ITEM]
    assert talk.done("r2") == [ReplyEnded("r2")]
    assert talk.sent() == []


def test_what_was_worth_a_word_in_a_reply_that_never_ended_is_forgotten():
    talk = Talk(service_ends=True)
    for turn, tool in (("u1", "lamp"), ("u2", "stop")):
        talk.says("input_audio_buffer.speech_stopped", item_id=turn)
        talk.created(f"to {turn}")
        kind = "response.function_call_arguments.done"
        assert talk.says(kind, response_id=f"to {turn}", call_id=tool, name=tool, arguments="{}")
        assert talk.send(LOUD if tool == "lamp" else QUIET) == [ITEM]
    assert talk.done("to u2") == [ReplyEnded("to u2")]
    assert talk.sent() == []


def test_the_answer_to_the_first_reply_is_owed_although_the_service_goes_on_by_itself():
    talk = Talk(service_ends=True)
    talk.says("input_audio_buffer.speech_stopped", item_id="u1")
    talk.created("r1")
    for name in ("lamp", "stop"):
        talk.says("response.function_call_arguments.done", response_id="r1", call_id=name, name=name, arguments="{}")
    talk.done("r1")
    assert talk.send(LOUD) == [ITEM]
    talk.created("other")  # without a request
    assert talk.send(QUIET) == ["response.cancel", ITEM]
    talk.done("other", status="cancelled")
    assert talk.sent() == ["response.create"]


# Manners of services as they are --------------------------------------------------------------------------------------


def committed(talk: Talk) -> Talk:
    """A turn is committed at a service that may answer commits."""
    assert talk.send(*TURN) == SENT
    return talk


def test_a_commit_is_answered_without_a_request():
    talk = committed(Talk(Xai))
    assert talk.says("input_audio_buffer.committed", item_id="u") == [TurnAcknowledged()]
    talk.at(AUTO_REPLY_TIMEOUT_S - 0.1)
    talk.created("r")
    talk.audio("r")
    talk.at(5.0)
    assert talk.sent() == []
    assert talk.done("r") == [ReplyEnded("r")]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_commit_that_is_not_answered_is_followed_by_a_request(acknowledged):
    talk = committed(Talk(Xai))
    assert talk.session.probe
    talk.session.arrived(100.0)
    if acknowledged:
        talk.says("input_audio_buffer.committed", item_id="u")
    by = AUTO_REPLY_TIMEOUT_S if acknowledged else COMMIT_ACK_TIMEOUT_S
    assert (talk.at(by - 0.1), talk.sent()) == ([], [])
    talk.at(by)
    assert talk.sent() == ["response.create"]
    talk.created("r")
    assert talk.audio("r")[0] == ReplyStarted("r")


def test_no_request_goes_up_while_it_is_not_known_that_the_commit_has_arrived():
    talk = committed(Talk(Xai))
    talk.at(4.0)
    assert talk.sent() == []


def test_what_overtook_the_speech_is_not_its_answer():
    talk = committed(Talk(Xai))
    talk.session.arrived(100.0)
    talk.at(COMMIT_ACK_TIMEOUT_S)
    assert talk.sent() == ["response.create"]
    talk.created("r0")
    talk.audio("r0")
    assert talk.says("input_audio_buffer.committed", item_id="u") == [ReplyWithdrawn("r0"), TurnAcknowledged()]
    assert talk.sent() == ["response.cancel"]
    assert talk.audio("r0") == []
    talk.created("r1")
    assert talk.audio("r1")[0] == ReplyStarted("r1")


def test_a_server_that_has_said_nothing_yet_is_not_asked_because_it_answers_pings():
    session = Xai(Secret("k")).session()
    session.tick(100.0)
    session.greet()
    list(session.tick(105.0))  # ready by rule
    for item in TURN:
        session.send(item)
    session.arrived(106.0)
    session.outgoing()
    list(session.tick(110.0))
    assert session.outgoing() == []
    list(session.receive('{"type": "session.created"}'))
    list(session.tick(110.0 + COMMIT_ACK_TIMEOUT_S))
    assert [json.loads(each)["type"] for each in session.outgoing()] == ["response.create"]


def test_a_service_that_acknowledged_before_and_does_not_now_has_heard_no_speech():
    talk = committed(Talk(Xai))
    talk.says("input_audio_buffer.committed", item_id="u")
    talk.created("r")
    talk.audio("r")
    talk.done("r")
    committed(talk)
    talk.session.arrived(100.0)
    assert talk.at(COMMIT_ACK_TIMEOUT_S) == [ReplyEnded("", NO_SPEECH)]
    assert talk.sent() == []
    assert talk.session.deadline is None
    assert not talk.session.busy


def test_a_turn_that_is_cancelled_before_it_is_answered_is_taken_back():
    talk = committed(Talk(Xai))
    assert talk.send(CancelReply()) == ["input_audio_buffer.clear"]
    talk.created("r")  # too late
    assert talk.sent() == ["response.cancel"]
    assert talk.audio("r") == []


def failed(message: str, code: str = "rate_limit_exceeded") -> dict:
    return {"status": "failed", "status_details": {"error": {"code": code, "message": message}}}


@pytest.mark.parametrize(
    ("message", "after"),
    [("Please try again in 400ms.", 0.4), ("try again in 1.5s", 1.5), ("no", 0.25), ("try again in 60s", 5.0)],
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_reply_that_failed_for_a_moment_is_asked_for_once_more(message, after, announced):
    talk = Talk()
    talk.send(*TURN)
    if announced:
        talk.created("r")
    assert talk.done("r", **failed(message)) == []
    talk.at(after - 0.05)
    assert talk.sent() == []
    talk.at(after)
    assert talk.sent() == ["response.create"]
    assert talk.done("s", **failed(message)) == [ReplyEnded("s", message)]  # and no third time
    talk.at(60.0)
    assert talk.sent() == []


def test_an_error_in_place_of_the_reply_is_asked_after_once_more():
    talk = Talk()
    talk.send(*TURN)
    assert talk.says("error", error={"type": "server_error", "message": "sorry"}) == []
    talk.at(0.25)
    assert talk.sent() == ["response.create"]


def test_a_commit_without_sound_is_a_turn_without_speech():
    talk = Talk()
    talk.send(*TURN)
    empty = {"code": "input_audio_buffer_commit_empty", "message": "buffer too small"}
    assert talk.says("error", error=empty) == [ReplyEnded("", NO_SPEECH)]
    talk.created("r")
    assert talk.sent() == ["response.cancel"]


def test_xai_is_asked_once_more_behind_a_clear():
    talk = committed(Talk(Xai))
    talk.says("input_audio_buffer.committed", item_id="u")
    talk.done("r", **failed("try again"))
    talk.at(1.0)
    assert talk.sent() == ["input_audio_buffer.clear", "response.create"]


def test_no_credit_in_a_reply_is_a_refusal():
    talk = Talk()
    talk.send(*TURN)
    with pytest.raises(LinkRefused, match="no credit"):
        talk.done("r", **failed("pay", "insufficient_quota"))


def test_a_reply_that_breaks_off_is_not_asked_for_again():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    talk.audio("r")
    reason = {"status": "incomplete", "status_details": {"reason": "content_filter"}}
    assert talk.done("r", **reason) == [ReplyEnded("r", "content_filter")]
    assert talk.sent() == []


def test_a_reply_that_the_service_took_back_is_awaited_and_then_asked_for():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    assert talk.done("r", status="cancelled", status_details={"reason": "turn_detected"}) == []
    talk.at(WITHDRAWN_REPLY_RETRY_S - 0.1)
    assert talk.sent() == []
    talk.created("s")
    talk.at(WITHDRAWN_REPLY_RETRY_S + 1)
    assert talk.sent() == []
    assert talk.audio("s")[0] == ReplyStarted("s")


@pytest.mark.parametrize("worded", [True, False])
def test_a_reply_without_sound_is_told(worded):
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    if worded:
        talk.says("response.output_text.delta", response_id="r", item_id="a", delta="Sunny.")
    assert talk.done("r") == [ReplyEnded("r", silent=True)]


def test_where_no_sound_is_wanted_words_are_a_reply():
    talk = Talk(text_only=True)
    talk.send(TextTurn("Weather?"))
    talk.created("r")
    talk.says("response.output_text.delta", response_id="r", item_id="a", delta="Sunny.")
    assert talk.done("r") == [ReplyEnded("r")]


def test_a_reply_to_the_results_of_tools_may_be_silent():
    talk = Talk()
    talk.calls("r", "lamp")
    talk.done("r")
    talk.send(LOUD)
    talk.created("s")
    assert talk.done("s") == [ReplyEnded("s")]


def test_words_that_come_at_the_end_of_their_item_are_told_once():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    done = "response.output_audio_transcript.done"
    assert talk.says(done, response_id="r", item_id="a", transcript="One. ") == [ReplyText("r", "One. ")]
    assert talk.says(done, response_id="r", item_id="a", transcript="Two.") == [ReplyText("r", "Two.")]
    talk.says("response.output_audio_transcript.delta", response_id="r", item_id="b", delta="Three.")
    assert talk.says(done, response_id="r", item_id="b", transcript="Three.") == []


def test_a_call_that_is_told_at_the_end_of_its_item_alone_is_made_once():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "lamp", "arguments": "{}"}
    assert talk.says("response.output_item.done", response_id="r", item=item) == [ToolCall("c", "lamp", "{}")]
    assert talk.done("r", output=[item]) == [ReplyEnded("r", more=True)]


def test_sound_behind_the_end_of_its_reply_is_heard_and_ends_by_itself():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    talk.audio("r")
    talk.done("r")
    assert talk.audio("r") == [ReplyStarted("r"), ReplyAudio("r", PCM)]
    assert talk.audio("r") == [ReplyAudio("r", PCM)]
    assert talk.at(REPLY_END_TIMEOUT_S) == [ReplyEnded("r")]


def test_a_reply_that_is_never_ended_is_over_by_rule():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    talk.audio("r")
    assert talk.at(REPLY_END_TIMEOUT_S) == [ReplyEnded("r")]
    assert talk.send(*TURN) == ASKED


def test_a_tool_of_the_service_may_take_its_time_in_the_middle_of_a_reply():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    talk.audio("r")
    talk.says("response.mcp_call.in_progress", item_id="m")
    assert talk.at(REPLY_END_TIMEOUT_S * 3) == []
    assert talk.audio("r") == [ReplyAudio("r", PCM)]


def test_a_service_that_works_tells_so_and_is_waited_for():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    told = []
    for second in range(1, 50):
        told += talk.at(float(second))
        told += talk.says("response.mcp_call.in_progress", item_id="m")
    assert told.count(ReplyProgress()) >= 45
    with pytest.raises(LinkLost, match="sent no more"):
        talk.at(50.0 + DEFAULT_PATIENCE_S * PROGRESS_PART)


def test_work_without_an_answer_has_a_limit():
    talk = Talk()
    talk.send(*TURN)
    talk.at(0.0)
    talk.created("r")
    with pytest.raises(LinkLost, match="sent no more"):
        for second in range(1, 1000):
            talk.at(float(second))
            talk.says("response.mcp_call.in_progress", item_id="m")
    assert second == DEFAULT_PATIENCE_S * TOTAL_PART


def test_a_service_that_ends_turns_although_it_was_told_not_to_is_let():
    talk = Talk()
    talk.send(TalkStarted(), PCM)
    talk.says("input_audio_buffer.speech_started", item_id="u")
    talk.says("input_audio_buffer.speech_stopped", item_id="u")
    assert talk.says("input_audio_buffer.committed", item_id="u") == [TurnEndedByService()]
    talk.created("r")
    assert talk.audio("r") == [ReplyStarted("r"), ReplyAudio("r", PCM)]
    assert "input_audio_buffer.commit" not in talk.send(TalkEnded())


def test_an_acknowledgement_that_comes_when_the_next_turn_has_begun_is_no_end_of_it():
    talk = Talk()
    talk.says("input_audio_buffer.speech_started", item_id="u1")
    talk.send(*TURN, TalkStarted(), PCM)
    assert talk.says("input_audio_buffer.committed", item_id="u1") == [TurnAcknowledged()]
    assert "input_audio_buffer.commit" in talk.send(TalkEnded())


def test_an_end_of_turn_that_is_taken_back_takes_the_begun_reply_with_it():
    talk = Talk(Xai, service_ends=True)
    talk.send(TalkStarted(), PCM)
    started, stopped = (f"input_audio_buffer.speech_{what}" for what in ("started", "stopped"))
    talk.says(started, item_id="u")
    assert talk.says(stopped, item_id="u") == [TurnEndedByService()]
    talk.created("r1")
    assert talk.says(started, item_id="u") == []
    assert talk.says(stopped, item_id="u") == [TurnEndedByService()]
    talk.created("r2")
    assert talk.audio("r1") == []
    assert talk.audio("r2")[0] == ReplyStarted("r2")


def test_a_commit_that_is_told_behind_its_reply_begins_no_other_wait():
    talk = Talk(service_ends=True)
    talk.send(*TURN)
    talk.says("input_audio_buffer.speech_stopped", item_id="u")
    talk.created("r")
    assert talk.says("input_audio_buffer.committed", item_id="u") == []
    talk.audio("r")
    assert talk.done("r") == [ReplyEnded("r")]
    assert talk.at(600.0) == []


def greeted(service: type = OpenAI, **settings: object) -> tuple[object, dict]:
    session = service(Secret("k"), **settings).session()
    session.tick(100.0)
    session.greet()
    (update,) = map(json.loads, session.outgoing())
    return session, update["session"]


@pytest.mark.parametrize(
    "error",
    [
        {"code": "invalid_value", "message": "gone", "param": "session.audio.input.transcription.model"},
        {"code": "model_not_available", "message": "The model `MODEL` was shut down."},
    ],
)
def test_a_session_goes_on_without_an_optional_setting_that_is_refused(error, caplog):
    session, asked = greeted()
    message = error["message"].replace("MODEL", asked["audio"]["input"]["transcription"]["model"])
    assert list(session.receive(json.dumps({"type": "error", "error": {**error, "message": message}}))) == []
    (update,) = map(json.loads, session.outgoing())
    assert "transcription" not in update["session"]["audio"]["input"]
    del asked["audio"]["input"]["transcription"]
    assert update["session"] == asked
    assert "transcription" in caplog.text
    assert list(session.receive('{"type": "session.updated"}')) == [LinkUp()]


def test_a_refused_setting_that_is_needed_is_a_refusal():
    session, _ = greeted()
    error = {"code": "invalid_value", "message": "no such voice", "param": "session.audio.output.voice"}
    with pytest.raises(LinkRefused, match="no such voice"):
        list(session.receive(json.dumps({"type": "error", "error": error})))


def test_no_session_is_ready_by_rule_that_has_complained():
    session, _ = greeted()
    assert list(session.receive('{"type": "error", "error": "out of order"}')) == [ServiceError("out of order")]
    with pytest.raises(LinkLost, match="out of order"):
        list(session.tick(100.0 + READY_WITHOUT_ACK_S))


@pytest.mark.parametrize("words", ["error", "message"])
def test_a_flat_error_is_read(words):
    with pytest.raises(LinkRefused, match=r"no such model.*The model `x` does not exist"):
        Talk().says("error", code="model_not_found", **{words: "The model `x` does not exist."})


def test_the_rates_in_force_are_those_that_the_service_tells():
    session, asked = greeted()
    asked["audio"]["output"]["format"]["rate"] = 16000
    list(session.receive(json.dumps({"type": "session.updated", "session": asked})))
    assert (session.input_rate, session.output_rate) == (24000, 16000)


def test_a_tool_that_waits_for_an_approval_is_told():
    talk = Talk()
    talk.send(*TURN)
    talk.created("r")
    item = {"type": "mcp_approval_request", "id": "m", "name": "search", "server_label": "books"}
    (told,) = talk.says("response.output_item.added", response_id="r", item=item)
    assert "search of books" in told.message
    assert "require_approval: never" in told.message
    assert talk.done("r") == [ReplyEnded("r", silent=True)]


def test_what_could_not_be_written_down_is_told():
    kind = "conversation.item.input_audio_transcription.failed"
    (told,) = Talk().says(kind, item_id="u", error={"code": "DeploymentNotFound", "message": "no deployment"})
    assert "no deployment" in told.message


JSON = st.sampled_from(
    [None, True, 7, -1.5, "", "r1", "r2", "AAAA", "A", "completed", "\udcff", [], ["r1"], {}, {"id": "r1"}, {"id": 3},
     {"id": "r2", "status": "failed", "status_details": "?"}, {"status_details": {"error": []}}, {"code": ["x"]},
     {"code": "timeout"}, {"message": None}]
)  # fmt: skip
KINDS = [
    "session.updated", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed", "response.created",
    "conversation.item.input_audio_transcription.completed", "response.output_audio.delta", "response.done",
    "response.output_text.delta", "error",
]  # fmt: skip
FIELDS = ["response", "response_id", "delta", "item_id", "transcript", "status", "error"]
WORDS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=dict.fromkeys(FIELDS, JSON)),
    st.sampled_from([TalkStarted(), TalkEnded(), NoSpeech(), CancelReply(), PCM]),
)


@given(st.lists(WORDS, max_size=30), st.booleans())
def test_no_word_of_the_service_breaks_the_session(words, service_ends):
    talk = Talk(service_ends=service_ends)
    for now, word in enumerate(words):
        list(talk.session.tick(100.0 + now))
        if isinstance(word, dict):
            try:
                list(talk.session.receive(json.dumps(word)))
            except (LinkLost, LinkRefused):
                return
        else:
            talk.session.send(word)
        talk.sent()


@given(st.lists(st.sampled_from(["turn", "cancel", "created", "audio", "done"]), max_size=40))
def test_a_cancelled_reply_is_silent_in_every_order(deeds):
    talk, unwanted, running = Talk(), set(), ""
    for number, deed in enumerate(deeds):
        match deed:
            case "turn" | "cancel":
                talk.send(*(TURN if deed == "turn" else [CancelReply()]))
                unwanted.add(running)
            case "created" if not running:
                running = f"r{number}"
                talk.created(running)
            case "audio" if running:
                heard = talk.audio(running)
                assert not (running in unwanted and heard)
            case "done" if running:
                talk.done(running)
                running = ""
