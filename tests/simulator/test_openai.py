"""The simulated OpenAI realtime service, without a socket, a thread or a clock."""

from __future__ import annotations

import base64
import json
import random
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.dsp import g711
from device_agent.dsp.resampling import resample
from device_agent.simulator.contract import Answer, Asked, Behaviour, ConnectionLog, Goodbye
from device_agent.simulator.services.openai import Openai, OpenaiSession
from tests.support import simulator_client
from tests.support.simulator_client import JUNK, SOUNDS, only, question, refusal, silence, sound, tone, types

MANUAL = {"input": {"turn_detection": None}}
FUNCTION = {"type": "function", "name": "set_timer", "description": "Sets it.", "parameters": {"type": "object"}}


class Client(simulator_client.Client):
    """A client of this service."""

    def __init__(self, *, beta: bool = False, **manners: Any) -> None:
        super().__init__(
            lambda m, heard: OpenaiSession(m, heard, random.Random(7), beta=beta, wall=1_800_000_000.0),
            model="gpt-realtime",
            **manners,
        )

    def configure(self, audio: dict[str, Any] | None = None, **session: Any) -> list[dict[str, Any]]:
        return self.say("session.update", session={"type": "realtime", "audio": audio or MANUAL, **session})


def told(events: list[dict[str, Any]]) -> list[str]:
    """The types without repetitions, transcripts of the user left out: they come when they come."""
    kinds = (kind for kind in types(events) if "input_audio_transcription" not in kind)
    pieces = ("response.output_audio.delta", "response.output_audio_transcript.delta")
    return [kind for kind, _ in groupby("pieces" if kind in pieces else kind for kind in kinds)]


SPOKEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "pieces",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
USER_ITEM = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]


# The greeting and the settings ------------------------------------------------------------------------------------


def test_it_greets_with_a_session_that_will_expire() -> None:
    (created,) = Client().events
    session = created["session"]
    assert session["type"] == "realtime"
    assert session["expires_at"] == 1_800_000_100 + 3600
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert session["audio"]["output"] == {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1}


def test_the_shape_of_the_session_is_the_recorded_one() -> None:
    session = Client().events[0]["session"]
    assert session.keys() == {
        *("type", "object", "id", "model", "output_modalities", "instructions", "tools", "tool_choice"),
        *("max_output_tokens", "tracing", "truncation", "prompt", "expires_at", "audio", "include"),
    }
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 200,
            "idle_timeout_ms": None,
            "create_response": True,
            "interrupt_response": True,
        },
    }


def test_an_update_changes_only_what_it_names() -> None:
    client = Client()
    client.configure({"output": {"voice": "marin"}}, tools=[FUNCTION])
    (updated,) = client.configure({"input": {"transcription": {"model": "whisper-1"}}})
    session = updated["session"]
    assert session["audio"]["output"]["voice"] == "marin"
    assert session["audio"]["input"]["transcription"] == {"model": "whisper-1", "language": None, "prompt": None}
    assert session["tools"] == [FUNCTION]
    assert client.heard.settings == session


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        ({"type": "realtime", "voice": "marin"}, "unknown_parameter", "session.voice"),
        ({"type": "realtime", "turn_detection": None}, "unknown_parameter", "session.turn_detection"),
        ({"type": "realtime", "modalities": ["audio"]}, "unknown_parameter", "session.modalities"),
        ({"type": "realtime", "input_audio_format": "pcm16"}, "unknown_parameter", "session.input_audio_format"),
        ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
        ({"type": "realtime", "resumption": {"enabled": True}}, "unknown_parameter", "session.resumption"),
        ({"type": "realtime", "instructions": None}, "invalid_type", "session.instructions"),
        ({"type": "realtime", "output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
        ({"type": "realtime", "output_modalities": []}, "invalid_value", "session.output_modalities"),
        ({"type": "realtime", "tools": [{"type": "web_search"}]}, "invalid_value", "session.tools[0].type"),
        ({"type": "realtime", "tools": [{**FUNCTION, "meta": 1}]}, "unknown_parameter", "session.tools[0].meta"),
        ("realtime", "invalid_type", "session"),
    ],
)
def test_a_wrong_update_is_refused_whole(session: Any, code: str, param: str) -> None:
    client = Client()
    client.configure(instructions="Be brief.")
    wrong = {**session, "tracing": "auto"} if isinstance(session, dict) else session
    error = only(client.say("session.update", session=wrong, event_id="mine"), "error")["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["event_id"] == "mine"
    (updated,) = client.configure()
    assert updated["session"]["instructions"] == "Be brief."
    assert updated["session"]["tracing"] is None


@pytest.mark.parametrize(
    ("side", "wrong", "code", "param"),
    [
        ("input", {"format": {"type": "audio/pcm", "rate": 16000}}, "invalid_value", "format.rate"),
        ("input", {"format": {"type": "audio/pcmu", "rate": 8000}}, "unknown_parameter", "format.rate"),
        ("input", {"format": "pcm16"}, "invalid_type", "format"),
        ("input", {"transport": "binary"}, "unknown_parameter", "transport"),
        ("input", {"turn_detection": {"type": None}}, "invalid_value", "turn_detection.type"),
        ("input", {"turn_detection": {}}, "missing_required_parameter", "turn_detection.type"),
        (
            "input",
            {"turn_detection": {"type": "server_vad", "create_response": None}},
            "invalid_type",
            "turn_detection.create_response",
        ),
        (
            "input",
            {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}},
            "unknown_parameter",
            "turn_detection.threshold",
        ),
        (
            "input",
            {"transcription": {"model": "m", "language_hint": "en"}},
            "unknown_parameter",
            "transcription.language_hint",
        ),
        ("output", {"voice": "eve"}, "invalid_value", "voice"),
        ("output", {"speed": 3}, "invalid_value", "speed"),
    ],
)
def test_wrong_audio_is_refused_with_its_path(side: str, wrong: dict[str, Any], code: str, param: str) -> None:
    error = only(Client().configure({side: wrong}), "error")["error"]
    assert (error["code"], error["param"]) == (code, f"session.audio.{side}.{param}")


def test_a_message_with_one_key_too_many_is_refused() -> None:
    client = Client()
    client.configure()
    client.append(tone(0.5))
    error = only(client.say("input_audio_buffer.commit", final=True), "error")["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "final")
    assert types(client.say("input_audio_buffer.commit")) == USER_ITEM


def test_an_event_of_others_is_refused_by_its_type() -> None:
    error = only(Client().say("auth", api_key="k"), "error")["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "type")


# The end ----------------------------------------------------------------------------------------------------------


def test_the_beta_is_gone() -> None:
    client = Client(beta=True)
    assert refusal(client.events) == "beta_api_shape_disabled"
    assert client.ended == Goodbye(4000, "invalid_request_error.beta_api_shape_disabled")
    assert client.configure() == []


def test_a_session_ends_after_its_time() -> None:
    client = Client(session_s=90.0)
    assert client.wait(89.0) == []
    assert refusal(client.wait(2.0)) == "session_expired"
    assert isinstance(client.ended, Goodbye)
    assert client.ended.code == 1001
    assert client.voice.deadline is None


# Turns ------------------------------------------------------------------------------------------------------------


def test_a_spoken_turn_comes_back_sample_for_sample_in_the_recorded_order() -> None:
    client = Client()
    client.configure()
    assert client.append(question()) == []
    news = client.say("input_audio_buffer.commit") + client.say("response.create") + client.wait()
    assert told(news) == [*USER_ITEM, *SPOKEN]
    assert sound(news) == question()
    done = only(news, "response.done")["response"]
    assert done["output"][0]["content"] == [
        {"type": "output_audio", "transcript": "You said: (2.5 seconds of speech)."}
    ]
    assert only(news, "response.content_part.done")["part"]["type"] == "audio"
    assert done["status_details"] is None
    assert done["output_modalities"] == ["audio"]


def test_the_service_hears_a_turn_and_answers_by_itself() -> None:
    client = Client()
    client.configure({"input": {"transcription": {"model": "whisper-1"}}})
    news = client.append(question()) + client.wait()
    assert told(news) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        *USER_ITEM,
        *SPOKEN,
    ]
    words = [e["delta"] for e in news if e["type"].endswith("input_audio_transcription.delta")]
    completed = only(news, "conversation.item.input_audio_transcription.completed")
    assert "".join(words) == completed["transcript"]
    assert completed["item_id"] == only(news, "input_audio_buffer.committed")["item_id"]
    assert types(news).index("response.created") < types(news).index(completed["type"])


def test_speech_cuts_the_reply_short_with_all_its_endings() -> None:
    client = Client(pace=1.0, think_s=0.0)
    client.configure({"input": {"turn_detection": {"type": "server_vad"}}})
    client.append(tone(3.0) + silence(0.4))
    client.wait(1.0)
    news = client.append(tone(0.3))
    assert told(news) == ["input_audio_buffer.speech_started", *SPOKEN[5:]]
    done = only(news, "response.done")["response"]
    assert (done["status"], done["status_details"]) == ("cancelled", {"type": "cancelled", "reason": "turn_detected"})
    assert done["output"][0]["status"] == "incomplete"


def test_a_commit_while_the_service_listens_takes_what_there_is() -> None:
    client = Client()
    client.append(tone(0.6))
    (started,) = [e for e in client.events if e["type"] == "input_audio_buffer.speech_started"]
    committed, *_ = client.say("input_audio_buffer.commit")
    assert committed["item_id"] == started["item_id"]
    assert client.wait() == []


def test_an_empty_buffer_cannot_be_committed() -> None:
    client = Client()
    client.configure()
    assert refusal(client.say("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"


@pytest.mark.parametrize("law", ["pcmu", "pcma"])
def test_the_sound_of_the_telephone_travels_both_ways(law: str) -> None:
    codec = getattr(g711, law)()
    client = Client()
    side = {"format": {"type": f"audio/{law}"}}
    client.configure({"input": {**side, "turn_detection": None}, "output": side})
    sent = codec.encode(resample(question(), 24000, 8000))
    client.append(sent, 801)
    client.say("input_audio_buffer.commit")
    client.say("response.create")
    assert sound(client.wait()) == sent
    (turn,) = client.heard.turns
    assert (turn.rate, turn.pcm) == (8000, codec.decode(sent))
    assert client.heard.pcm == codec.decode(sent)


def test_a_text_is_answered() -> None:
    client = Client()
    client.configure()
    news = client.text("What time is it?") + client.say("response.create") + client.wait()
    assert told(news) == ["conversation.item.added", "conversation.item.done", *SPOKEN]
    assert only(news, "response.output_audio_transcript.done")["transcript"] == "You wrote: What time is it?"


@pytest.mark.parametrize("where", ["session", "response"])
def test_a_reply_can_be_written(where: str) -> None:
    client = Client()
    text = {"output_modalities": ["text"]}
    client.configure(**(text if where == "session" else {}))
    client.text("What time is it, now and in a while?")
    news = client.say("response.create", response=text if where == "response" else {}) + client.wait()
    assert [kind for kind, _ in groupby(types(news))] == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    said = "".join(e["delta"] for e in news if e["type"] == "response.output_text.delta")
    assert said == only(news, "response.output_text.done")["text"] == "You wrote: What time is it, now and in a while?"
    assert only(news, "response.done")["response"]["output"][0]["content"] == [{"type": "output_text", "text": said}]


def test_a_recorded_clip_is_answered_with_itself() -> None:
    client = Client()
    client.configure()
    audio = base64.b64encode(question()).decode()
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}]}
    news = client.say("conversation.item.create", item=item) + client.say("response.create") + client.wait()
    assert sound(news) == question()
    assert "audio" not in news[0]["item"]["content"][0]


def test_a_tool_round() -> None:
    client = Client()
    client.configure(tools=[FUNCTION])
    client.text('set_timer {"minutes": 4}, please')
    client.say("response.create")
    news = client.wait()
    done = only(news, "response.function_call_arguments.done")
    pieces = [e["delta"] for e in news if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(pieces) == done["arguments"] == '{"minutes": 4}'
    assert done["name"] == "set_timer"
    spoken, call = only(news, "response.done")["response"]["output"]
    assert (spoken["type"], call["type"], call["call_id"]) == ("message", "function_call", done["call_id"])
    assert "role" not in call
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": '{"ok": true}'}
    added, item_done = client.say("conversation.item.create", item=output)
    assert (added["type"], item_done["type"]) == ("conversation.item.added", "conversation.item.done")
    news = client.say("response.create") + client.wait()
    assert only(news, "response.output_audio_transcript.done")["transcript"] == 'The tool said: {"ok": true}'


def test_a_written_reply_that_calls_has_no_words() -> None:
    client = Client()
    client.configure(tools=[FUNCTION], output_modalities=["text"])
    client.text("set_timer")
    news = client.say("response.create") + client.wait()
    (call,) = only(news, "response.done")["response"]["output"]
    assert call["type"] == "function_call"
    assert only(news, "response.function_call_arguments.done")["output_index"] == 0


@pytest.mark.parametrize(
    ("response", "called"),
    [({}, True), ({"tool_choice": "none"}, False), ({"tools": []}, False), ({"tools": [FUNCTION]}, True)],
)
def test_tools_can_be_chosen_for_one_reply(response: dict[str, Any], called: bool) -> None:
    client = Client()
    client.configure(tools=[FUNCTION])
    client.text("set_timer")
    news = client.say("response.create", response=response) + client.wait()
    assert ("response.function_call_arguments.done" in types(news)) is called


def test_items_stand_where_they_are_wanted() -> None:
    client = Client()
    part = [{"type": "input_text", "text": "x"}]
    for name, behind in (("b", None), ("a", "root"), ("ab", "a")):
        item = {"id": name, "type": "message", "role": "user", "content": part}
        news = client.say("conversation.item.create", item=item, previous_item_id=behind)
        assert only(news, "conversation.item.added")["previous_item_id"] == {"ab": "a"}.get(name)
    assert refusal(client.say("conversation.item.create", item=item, previous_item_id="z")) == "invalid_value"
    item["id"] = "c"
    assert refusal(client.say("conversation.item.create", item=item, previous_item_id="z")) == "item_not_found"


def test_a_reply_can_be_cancelled_and_truncated() -> None:
    client = Client(pace=1.0, think_s=0.0)
    client.configure()
    client.append(tone(3.0))
    client.say("input_audio_buffer.commit")
    client.say("response.create")
    client.wait(1.0)
    news = client.say("response.cancel")
    done = only(news, "response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert refusal(client.say("response.cancel")) == "response_cancel_not_active"
    place = {"item_id": done["output"][0]["id"], "content_index": 0}
    assert refusal(client.say("conversation.item.truncate", **place, audio_end_ms=60_000)) == "invalid_value"
    (truncated,) = client.say("conversation.item.truncate", **place, audio_end_ms=500)
    assert truncated["type"] == "conversation.item.truncated"
    assert client.wait() == []


def test_a_second_reply_at_once_is_refused() -> None:
    client = Client()
    client.say("response.create")
    assert refusal(client.say("response.create")) == "conversation_already_has_active_response"


# Access -----------------------------------------------------------------------------------------------------------


def ask(service: Openai, method: str, path: str, key: str = "", at: float = 0.0, **more: Any) -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = json.dumps(more.pop("body")).encode() if "body" in more else b""
    asked = Asked(method, path, headers={**headers, **more.pop("headers", {})}, body=body, at=at, **more)
    return service.routes[method, path](asked, Behaviour(), ConnectionLog())


def come_in(service: Openai, key: str = "", **more: Any) -> Any:
    return ask(service, "GET", "/v1/realtime", key, upgrade=True, **more)


def test_a_connection_without_a_valid_key_is_refused() -> None:
    for answer in (come_in(Openai()), come_in(Openai(key="sk-right"), "sk-wrong"), come_in(Openai(), "ek_made_up")):
        assert isinstance(answer, Answer)
        assert answer.status == 401
        assert answer.body is not None
        assert answer.body["error"]["code"] == "invalid_api_key"
    assert isinstance(come_in(Openai(key="sk-right"), "sk-right"), OpenaiSession)


def test_the_header_of_the_beta_is_noticed() -> None:
    voice = come_in(Openai(), "k", headers={"openai-beta": "realtime=v1"})
    voice.connected(0.0)
    assert any(isinstance(item, Goodbye) for item in voice.outgoing())


def test_a_token_opens_until_it_expires_and_brings_its_settings() -> None:
    service = Openai(key="sk-right", wall=1000.0)
    session = {"type": "realtime", "model": "gpt-realtime-mini", "instructions": "Sing."}
    body = {"expires_after": {"anchor": "created_at", "seconds": 30}, "session": session}
    answer = ask(service, "POST", "/v1/realtime/client_secrets", "sk-right", 10.0, body=body)
    assert answer.status == 200
    assert answer.body["value"].startswith("ek_")
    assert answer.body["expires_at"] == 1040
    assert answer.body["session"]["instructions"] == "Sing."
    token = answer.body["value"]
    voice = come_in(service, token, at=39.0)
    voice.connected(39.0)
    created = next(json.loads(item) for item in voice.outgoing() if isinstance(item, str))
    assert created["session"]["instructions"] == "Sing."
    assert created["session"]["model"] == "gpt-realtime-mini"
    assert come_in(service, token, at=41.0).status == 401
    assert ask(service, "POST", "/v1/realtime/client_secrets", token, 11.0).status == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 5}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ({"session": {"voice": "x"}}, "session.voice"),
        ({"ttl": 5}, "ttl"),
        ([], None),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(body: Any, param: str | None) -> None:
    answer = ask(Openai(), "POST", "/v1/realtime/client_secrets", "k", body=body)
    assert answer.status == 400
    assert answer.body["error"]["param"] == param


# Judged by others, and by chance ----------------------------------------------------------------------------------


def clean(events: list[dict[str, Any]]) -> None:
    judge = pytest.importorskip("judge", reason="the openai package is not installed")
    for event in events:
        assert judge.judge(event, "server") == [], event


def test_everything_it_says_is_right_by_the_types_of_the_openai_package() -> None:
    client = Client(pace=2.0)
    for detection in ({"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "low"}, None):
        heard = {"turn_detection": detection, "transcription": {"model": "whisper-1"}, "noise_reduction": None}
        client.configure({"input": heard, "output": {"voice": {"id": "voice_1"}}}, tools=[FUNCTION])
        client.append(question() + silence(2.5))
        client.wait(0.5)
        client.append(tone(0.5) + silence(3.0))
        client.say("input_audio_buffer.commit")
        client.say("response.create", response={"metadata": {"a": "b"}, "max_output_tokens": 7})
        client.wait(0.5)
        client.say("response.cancel")
        client.text("set_timer {}")
        client.say("response.create")
        client.wait()
        client.say("input_audio_buffer.clear")
    client.configure(output_modalities=["text"], truncation="disabled", tracing="auto", tool_choice="required")
    client.text("Hello")
    client.say("response.create")
    client.wait(4000.0)
    assert isinstance(client.ended, Goodbye)
    clean(client.events)


def test_a_token_is_right_by_the_types_of_the_openai_package() -> None:
    pytest.importorskip("openai", reason="the openai package is not installed")
    from openai.types.realtime import ClientSecretCreateResponse
    from pydantic import TypeAdapter

    answer = ask(Openai(), "POST", "/v1/realtime/client_secrets", "k")
    TypeAdapter(ClientSecretCreateResponse).validate_json(json.dumps(answer.body), strict=True)


SIDES = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from([{"type": "audio/pcm", "rate": 24000}, {"type": "audio/pcmu"}]) | JUNK,
        "turn_detection": st.sampled_from([None, {"type": "server_vad"}, {"type": "semantic_vad"}]) | JUNK,
        "transcription": st.just({"model": "m"}) | JUNK,
        "voice": st.sampled_from(["marin", {"id": "v"}]) | JUNK,
    },
)
SESSIONS = st.fixed_dictionaries(
    {"type": st.just("realtime") | JUNK},
    optional={
        "audio": st.fixed_dictionaries({}, optional={"input": SIDES, "output": SIDES}) | JUNK,
        "tools": st.just([{"type": "function", "name": "f"}]) | JUNK,
        "tool_choice": st.sampled_from(["none", {"type": "function", "name": "f"}]) | JUNK,
        "output_modalities": st.just(["text"]) | JUNK,
        "instructions": st.text(max_size=3) | JUNK,
    },
)
PARTS = st.sampled_from(
    [
        {"type": "input_text", "text": "f {1}"},
        {"type": "input_audio", "audio": "AAAA"},
        {"type": "output_text", "text": "x"},
    ]
) | st.dictionaries(st.sampled_from(["type", "text", "audio"]), JUNK)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "function_call_output"]) | JUNK},
    optional={
        "id": st.sampled_from(["a", "b"]) | JUNK,
        "role": st.sampled_from(["user", "assistant", "system"]) | JUNK,
        "content": st.lists(PARTS, max_size=2) | JUNK,
        "call_id": st.just("c") | JUNK,
        "name": st.just("f") | JUNK,
        "output": st.just("o") | JUNK,
        "arguments": st.just("{}") | JUNK,
    },
)
KINDS = [*OpenaiSession.HANDLERS, "unheard.of"]
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | JUNK},
    optional={
        "event_id": JUNK,
        "session": SESSIONS | JUNK,
        "item": ITEMS | JUNK,
        "item_id": st.sampled_from(["a", "b"]) | JUNK,
        "previous_item_id": st.sampled_from(["a", "root"]) | JUNK,
        "audio_end_ms": st.integers(0, 3000) | JUNK,
        "content_index": st.just(0) | JUNK,
        "response": st.sampled_from([{}, {"output_modalities": ["text"]}]) | JUNK,
        "audio": JUNK,
    },
)
STEPS = st.one_of(
    EVENTS.map(json.dumps),
    SOUNDS.map(lambda pcm: json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})),
    SESSIONS.map(lambda session: json.dumps({"type": "session.update", "session": session})),
    ITEMS.map(lambda item: json.dumps({"type": "conversation.item.create", "item": item})),
    st.sampled_from([json.dumps({"type": kind}) for kind in KINDS]),
    SOUNDS,
    st.text(max_size=20),
    st.floats(0, 2),  # time passes
)


@settings(max_examples=150)
@given(steps=st.lists(STEPS, max_size=25), silent=st.booleans(), session_s=st.sampled_from([0.0, 3.0]))
@pytest.mark.slow
def test_nothing_a_client_can_say_breaks_it(steps: list[str | bytes | float], silent: bool, session_s: float) -> None:
    client = Client(silent=silent, session_s=session_s)
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        else:
            client.raw(step)
    client.wait()
    clean(client.events)
    assert len({event["event_id"] for event in client.events}) == len(client.events)
    begun = [event for event in client.events if event["type"] == "response.created"]
    over = [event for event in client.events if event["type"] == "response.done"]
    assert len(begun) == len(over) or client.ended
