"""The simulated Grok voice service, without a socket, a thread or a clock."""

from __future__ import annotations

import base64
import json
import random
import wave
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.dsp import g711
from device_agent.dsp.pcm import level
from device_agent.dsp.resampling import resample
from device_agent.simulator import QUESTION
from device_agent.simulator.contract import Asked, Behaviour, ConnectionLog, Goodbye
from device_agent.simulator.engine.conversation_store import MAX_CONVERSATIONS
from device_agent.simulator.services.xai import Xai, XaiSession
from tests.support import simulator_client
from tests.support.simulator_client import (
    JUNK,
    RATE,
    SOUNDS,
    only,
    order,
    question,
    refusal,
    silence,
    sound,
    tone,
    types,
)


class Client(simulator_client.Client):
    """A client of this service."""

    def __init__(self, **manners: Any) -> None:
        super().__init__(lambda m, heard: XaiSession(m, heard, random.Random(7)), model="grok-voice-latest", **manners)

    def configure(self, vad: dict[str, Any] | None = None, **session: Any) -> list[dict[str, Any]]:
        detection = {"type": None} if vad is None else {"type": "server_vad", **vad}
        return self.say("session.update", session={"turn_detection": detection, **session})


REPLY = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "pieces",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_audio.done",
    "response.output_item.done",
    "response.done",
]


WORDS = "response.output_audio_transcript.delta"


# The greeting -----------------------------------------------------------------------------------------------------


def test_it_greets_as_recorded_in_july_2026() -> None:
    created, conversation, ping = Client().events
    assert created["type"] == "session.created"
    assert created["session"]["voice"] == "ara"
    assert created["session"]["turn_detection"] == {"type": None}
    assert conversation["type"] == "conversation.created"
    assert conversation["conversation"]["id"]
    assert ping["type"] == "ping"


def test_it_can_greet_as_in_early_2026() -> None:
    assert types(Client(greeting="conversation").events) == ["conversation.created"]


def test_it_can_wait_for_the_client_to_speak_first() -> None:
    client = Client(greeting="none", ping_s=5.0)
    assert client.events == []
    assert client.voice.deadline == client.now + XaiSession.SESSION_S
    assert types(client.configure()) == ["session.updated"]


def test_it_pings_as_often_as_told() -> None:
    client = Client(ping_s=5.0)
    assert types(client.wait(21.0)) == ["ping"] * 4


# The settings -----------------------------------------------------------------------------------------------------


def test_it_repeats_the_settings_in_its_own_shape() -> None:
    tool = {"type": "function", "name": "set_timer", "description": "Sets it.", "parameters": {"type": "object"}}
    client = Client()
    (updated,) = client.configure({"threshold": 0.5}, instructions="Be brief.", tools=[tool, {"type": "web_search"}])
    session = updated["session"]
    assert session["instructions"] == "Be brief."
    assert session["turn_detection"] == {"type": "server_vad", "threshold": 0.5}
    inner = {"name": "set_timer", "description": "Sets it.", "parameters": {"type": "object"}}
    assert session["tools"] == [{"type": "function", "function": inner}, {"type": "web_search"}]
    assert session["temperature"] == -1.0
    assert session["input_audio_format"] == "not specified"
    assert session["audio"]["input"] == {"format": {"type": "audio/pcm", "rate": 24000}, "transport": "json"}
    assert "id" not in session
    assert client.heard.settings == session


def test_an_update_changes_only_what_it_names() -> None:
    client = Client()
    client.configure({}, voice="eve", audio={"input": {"format": {"type": "audio/pcm", "rate": 16000}}})
    (updated,) = client.say("session.update", session={"instructions": "Sing."})
    assert updated["session"]["voice"] == "eve"
    assert updated["session"]["turn_detection"]["type"] == "server_vad"
    assert updated["session"]["audio"]["input"]["format"]["rate"] == 16000


@pytest.mark.parametrize(
    "session",
    [
        {"turn_detection": {"type": "semantic_vad"}},
        {"turn_detection": {"type": "server_vad", "threshold": 1.5}},
        {"turn_detection": {"type": "server_vad", "threshold": "loud"}},
        {"turn_detection": {"type": "server_vad", "threshold": True}},
        {"turn_detection": {"type": "server_vad", "silence_duration_ms": -1}},
        {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 10_001}},
        {"turn_detection": {"type": "server_vad", "create_response": "yes"}},
        {"turn_detection": "server_vad"},
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 21050}}}},
        {"audio": {"input": {"format": {"type": "audio/mp3"}}}},
        {"audio": {"input": {"format": {"type": "audio/opus"}}}},
        {"audio": {"output": {"speed": 2}}},
        {"audio": {"output": {"transport": "binary"}}},
        {"audio": {"input": {"transcription": {"model": "m", "keyterms": ["x" * 51]}}}},
        {"audio": None},
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "function", "name": 7}]},
        {"tools": [{"type": "teleport"}]},
        {"tools": [{"type": "mcp", "server_url": "https://x"}]},
        {"tools": {"type": "web_search"}},
        {"reasoning": {"effort": "low"}},
        {"voice": 3},
        "voice",
        None,
    ],
)
def test_a_wrong_update_is_refused_and_the_old_settings_survive(session: Any) -> None:
    client = Client()
    client.configure({"threshold": 0.5}, voice="eve")
    (error,) = client.say("session.update", session=session, event_id="mine")
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["event_id"] == "mine"
    (updated,) = client.say("session.update", session={})
    assert updated["session"]["voice"] == "eve"
    assert updated["session"]["turn_detection"] == {"type": "server_vad", "threshold": 0.5}


# Nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", ["", "{", "plain words", "[]", "null", '{"x": NaN}', '{"x": 1e999}', "[" * 100_000, '{"type": ["x"]}']
)
def test_nonsense_is_answered_with_an_error(message: str) -> None:
    client = Client()
    (error,) = client.raw(message)
    assert error["error"]["type"] == "invalid_event"
    assert types(client.configure()) == ["session.updated"]


def test_an_unknown_event_is_an_error_that_names_it() -> None:
    error = only(Client().say("output_audio_buffer.clear"), "error")["error"]
    assert error["type"] == "invalid_event"
    assert "output_audio_buffer.clear" in error["message"]


def test_deep_nesting_is_nonsense_too() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    assert refusal(Client().say("session.update", session={"tool_choice": value})) == "invalid_event"


def test_a_binary_frame_is_refused() -> None:
    assert refusal(Client().raw(tone(0.2))) == "invalid_event"


@pytest.mark.parametrize(
    "audio", ["AAA", "A!==", "AAAA"[:3] + "=" * 9, "é", base64.b64encode(b"odd").decode(), None, 7]
)
def test_sound_that_is_no_sound_is_refused(audio: Any) -> None:
    client = Client(commits="asked")
    assert len(client.say("input_audio_buffer.append", audio=audio)) == 1
    assert client.events[-1]["type"] == "error"
    assert refusal(client.say("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"


# Turns by hand ----------------------------------------------------------------------------------------------------


def test_a_spoken_turn_comes_back_sample_for_sample_in_the_recorded_order() -> None:
    client = Client()
    client.configure()
    assert types(client.append(question(), 1920)) == ["input_audio_buffer.speech_started"]
    news = client.say("input_audio_buffer.commit") + client.wait()
    assert order(news) == ["input_audio_buffer.committed", "conversation.item.added", *REPLY]
    assert sound(news) == question()
    assert "part" not in only(news, "response.content_part.done")
    created, done = only(news, "response.created"), only(news, "response.done")
    assert created["response"]["status_details"] == "unimplemented"
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"][0]["content"][0]["transcript"] == "You said: (2.5 seconds of speech)."
    assert "usage" in done["response"]
    (turn,) = client.heard.turns
    assert turn.pcm == question()
    assert client.heard.pcm == question()


def test_the_words_are_the_pieces_of_the_transcript() -> None:
    client = Client()
    client.append(tone(3.0))
    client.say("input_audio_buffer.commit")
    news = client.wait()
    words = "".join(e["delta"] for e in news if e["type"] == WORDS)
    assert words == "You said: (3.0 seconds of speech)."
    assert only(news, "response.output_audio_transcript.done")["transcript"] == words
    assert types(news).index("response.output_audio.delta") < types(news).index(WORDS)


def test_a_reply_comes_in_uneven_pieces_faster_than_it_is_spoken() -> None:
    client = Client(think_s=0.25, pace=4.0)
    client.append(tone(8.0))
    client.say("input_audio_buffer.commit")
    client.until("response.created")
    began = client.now
    news = client.until("response.output_audio.delta")
    assert client.now - began == pytest.approx(0.25)
    news += client.until("response.done")
    assert client.now - began == pytest.approx(0.25 + 8.0 / 4, abs=0.2)
    lengths = [len(base64.b64decode(e["delta"])) / 48 for e in news if e["type"] == "response.output_audio.delta"]
    assert all(76 <= length <= 796 for length in lengths[:-1])
    assert len(set(lengths)) > 5


def test_the_same_seed_makes_the_same_connection() -> None:
    first, second = Client(), Client()
    for client in (first, second):
        client.append(tone(1.0))
        client.say("input_audio_buffer.commit")
        client.wait()
    assert first.events == second.events


def test_a_reply_has_the_rate_of_the_output() -> None:
    client = Client()
    formats = {
        side: {"format": {"type": "audio/pcm", "rate": rate}} for side, rate in (("input", 16000), ("output", 48000))
    }
    client.configure(audio=formats)
    client.append(tone(1.0, 16000))
    client.say("input_audio_buffer.commit")
    assert sound(client.wait()) == resample(tone(1.0, 16000), 16000, 48000)


def test_too_little_sound_cannot_be_committed() -> None:
    client = Client(commits="asked")
    assert refusal(client.say("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"
    client.append(tone(0.09))
    assert refusal(client.say("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"
    client.append(tone(0.01))
    assert "input_audio_buffer.committed" in types(client.say("input_audio_buffer.commit"))


def test_cleared_sound_is_gone() -> None:
    client = Client(commits="asked")
    client.append(tone(1.0))
    assert types(client.say("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert refusal(client.say("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"


def test_the_buffer_has_an_end() -> None:
    client = Client()
    client.configure(audio={"input": {"format": {"type": "audio/pcm", "rate": 8000}}})
    client.append(bytes(2 * 8000 * 600), 2 * 8000 * 100)
    assert refusal(client.append(bytes(320))) == "input_audio_buffer_full"


def test_transcripts_come_only_when_asked_for() -> None:
    asked, unasked = Client(), Client()
    asked.configure(audio={"input": {"transcription": {"model": "grok-transcribe"}}})
    unasked.configure()
    for client in (asked, unasked):
        client.append(silence(0.3) + tone(1.0) + silence(0.4))
        client.say("input_audio_buffer.commit")
        client.wait(0.2)
    assert not [kind for kind in types(unasked.events) if "transcription" in kind]
    told = [e for e in asked.events if "transcription" in e["type"]]
    assert [(e["type"].rpartition(".")[2], e.get("status")) for e in told] == [
        ("updated", None),
        ("completed", "in_progress"),
        ("completed", "completed"),
    ]
    assert told[-1]["transcript"] == "(1.0 seconds of speech)"


def test_a_turn_without_speech_says_so() -> None:
    client = Client(commits="asked")
    client.configure(audio={"input": {"transcription": {"model": "grok-transcribe"}}})
    client.append(silence(0.5))
    client.say("input_audio_buffer.commit")
    assert client.events[-1]["transcript"] == "(0.5 seconds without speech)"


def test_a_second_reply_at_once_is_refused() -> None:
    client = Client()
    client.say("response.create")
    assert refusal(client.say("response.create")) == "conversation_already_has_active_response"
    assert types(client.wait()).count("response.done") == 1


# Speech that is answered as soon as it is committed ---------------------------------------------------------------


def spoken(client: Client, seconds: float = 1.0) -> list[dict[str, Any]]:
    """Say so much and commit it."""
    return client.append(tone(seconds)) + client.say("input_audio_buffer.commit")


def ask(client: Client, **wish: Any) -> list[dict[str, Any]]:
    return client.say("response.create", **wish)


def transcript(news: list[dict[str, Any]]) -> str:
    return str(only(news, "response.output_audio_transcript.done")["transcript"])


def test_it_tells_that_it_hears_speech_and_answers_the_commit_by_itself() -> None:
    client = Client()
    started, *nothing = spoken(client)
    assert (started["type"], nothing) == ("input_audio_buffer.speech_started", [])
    news = client.wait()
    assert order(news) == ["input_audio_buffer.committed", "conversation.item.added", *REPLY]
    assert only(news, "input_audio_buffer.committed")["item_id"] == started["item_id"]
    assert sound(news) == tone(1.0)


def test_a_request_behind_an_answered_commit_is_dropped() -> None:
    client = Client()
    spoken(client)
    client.until("response.created")
    assert ask(client) == []  # while it answers
    client.wait()
    assert ask(client) + client.wait() == []  # and behind it


@pytest.mark.parametrize("other", ["text", "tool output", "clear", "speech"])
def test_other_input_makes_it_answer_requests_again(other: str) -> None:
    client = Client()
    spoken(client)
    client.wait()
    match other:
        case "text":
            client.text("Hello")
        case "tool output":
            item = {"type": "function_call_output", "call_id": "c", "output": "done"}
            client.say("conversation.item.create", item=item)
        case "clear":
            client.say("input_audio_buffer.clear")
        case "speech":
            client.append(tone(0.5))
    assert only(ask(client) + client.wait(), "response.done")["response"]["status"] == "completed"


def test_a_request_that_comes_with_the_commit_is_answered_without_the_speech() -> None:
    client = Client()
    spoken(client)
    news = ask(client) + client.wait()
    over = types(news).index("response.done") + 1
    first, second = news[:over], news[over:]
    assert transcript(first) == "Hello, I am a simulator."
    assert "input_audio_buffer.committed" not in types(first)
    assert order(second) == ["input_audio_buffer.committed", "conversation.item.added", *REPLY]
    assert sound(second) == tone(1.0)
    assert len(client.heard.turns) == 1


def test_a_commit_without_speech_is_neither_acknowledged_nor_answered() -> None:
    client = Client()
    client.append(silence(1.0))
    assert client.say("input_audio_buffer.commit") + client.wait() == []
    assert client.heard.turns == []
    assert transcript(ask(client) + client.wait()) == "Hello, I am a simulator."


def test_an_empty_commit_is_no_error() -> None:
    assert Client().say("input_audio_buffer.commit") == []


def test_speech_that_was_not_committed_is_committed_by_the_request() -> None:
    client = Client()
    client.append(tone(0.5))
    news = ask(client) + client.wait()
    assert order(news) == ["input_audio_buffer.committed", "conversation.item.added", *REPLY]
    assert sound(news) == tone(0.5)


@pytest.mark.parametrize("committed", [False, True])
def test_a_clear_right_after_a_commit_cancels_the_answer(committed: bool) -> None:
    client = Client()
    spoken(client)
    if committed:
        client.until("response.created")
    news = client.say("input_audio_buffer.clear") + client.wait()
    assert "response.output_audio.delta" not in types(news)
    assert types(news)[0] == "input_audio_buffer.cleared"
    assert len(client.heard.turns) == int(committed)


def test_speech_ends_a_reply_without_a_word() -> None:
    client = Client()
    spoken(client, 4.0)
    client.until("response.output_audio.delta")
    assert types(client.append(tone(0.3))) == ["input_audio_buffer.speech_started"]
    assert client.wait() == []
    news = client.say("input_audio_buffer.commit") + client.wait()
    assert sound(news) == tone(0.3)


def test_speech_over_a_reply_that_overtook_keeps_what_was_committed() -> None:
    client = Client()
    spoken(client)
    ask(client)
    client.append(tone(0.5))
    client.say("input_audio_buffer.commit")
    assert sound(client.wait()) == tone(0.5)
    assert [turn.seconds for turn in client.heard.turns] == [1.0, 0.5]


def test_speech_before_the_settings_is_a_turn_of_the_service_after_them() -> None:
    client = Client()
    client.append(tone(0.5))
    news = client.configure({}) + client.append(tone(0.5) + silence(0.6)) + client.wait()
    started = [e["item_id"] for e in client.events if e["type"] == "input_audio_buffer.speech_started"]
    assert only(news, "input_audio_buffer.committed")["item_id"] == started[-1]
    assert client.heard.turns[0].seconds == pytest.approx(1.5, abs=0.02)


def test_an_older_server_answers_only_when_asked() -> None:
    client = Client(commits="asked")
    assert order(spoken(client)) == ["input_audio_buffer.committed", "conversation.item.added"]
    assert client.wait() == []
    assert sound(ask(client) + client.wait()) == tone(1.0)
    assert order(ask(client) + client.wait()) == REPLY  # and once more


def test_a_wish_that_is_null_is_none_and_metadata_come_back() -> None:
    client = Client()
    news = ask(client, response={"instructions": None, "metadata": {"client_event_id": "a"}}) + client.wait()
    for kind in ("response.created", "response.done"):
        assert only(news, kind)["response"]["metadata"] == {"client_event_id": "a"}
    assert order(ask(client, response=None) + client.wait()) == REPLY


# Turns that the service ends --------------------------------------------------------------------------------------


VAD_TURN = [
    "input_audio_buffer.speech_started",
    "conversation.item.added",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
]


def test_the_service_hears_a_turn_and_answers_by_itself() -> None:
    client = Client()
    client.configure({"silence_duration_ms": 400, "prefix_padding_ms": 200})
    news = client.append(silence(1.0) + tone(1.0) + silence(1.0), 960) + client.wait()
    assert order(news) == [*VAD_TURN, *REPLY]
    started, stopped = news[0], only(news, "input_audio_buffer.speech_stopped")
    assert started["audio_start_ms"] == 800
    assert stopped["audio_end_ms"] == pytest.approx(2400, abs=20)
    item = only(news, "input_audio_buffer.committed")["item_id"]
    assert {started["item_id"], news[1]["item"]["id"], stopped["item_id"]} == {item}
    assert news[1]["item"]["status"] == "in_progress"
    (turn,) = client.heard.turns
    assert turn.pcm == silence(0.2) + tone(1.0) + silence(0.4)
    assert sound(news) == turn.pcm


@pytest.mark.parametrize("piece", [2, 318, 960, 4800, 1_000_000])
def test_it_does_not_matter_in_what_pieces_sound_arrives(piece: int) -> None:
    client = Client()
    client.configure({})
    client.append(silence(0.6) + tone(0.3) + silence(0.7), max(piece, 2 if piece > 2 else 20))
    (turn,) = client.heard.turns
    assert turn.seconds == pytest.approx(0.333 + 0.3 + 0.5, abs=0.02)


def test_the_shipped_question_is_one_turn() -> None:
    client = Client()
    client.configure({}, audio={"input": {"transcription": {"model": "grok-transcribe"}}})
    client.append(question(), 960)
    (turn,) = client.heard.turns
    assert 2.8 < turn.seconds < 3.8
    final = [e for e in client.events if e.get("status") == "completed"]
    assert final[0]["transcript"] == "(2.5 seconds of speech)"


def test_the_shipped_question_sounds_like_a_person_in_a_room() -> None:
    with QUESTION.open("rb") as file, wave.open(file) as sound_file:
        assert (sound_file.getnchannels(), sound_file.getsampwidth(), sound_file.getframerate()) == (1, 2, RATE)
    pcm = question()
    assert level(pcm[: RATE // 2 * 2]) == pytest.approx(-65, abs=2)
    assert level(pcm[RATE * 2 : RATE * 2 + RATE * 2]) == pytest.approx(-20, abs=3)
    assert np.abs(np.frombuffer(pcm, np.int16).astype(int)).max() < 32768 * 10 ** (-3 / 20)


@pytest.mark.parametrize(("threshold", "heard"), [(0.9, 0), (0.1, 1)])
def test_the_threshold_decides_whether_a_whisper_is_speech(threshold: float, heard: int) -> None:
    client = Client()
    client.configure({"threshold": threshold})
    client.append(silence(0.5) + tone(0.5, loudness=0.003) + silence(1.0))  # -53 dBFS
    assert len(client.heard.turns) == heard


def test_a_click_is_no_speech() -> None:
    client = Client()
    client.configure({})
    client.append(silence(0.5) + tone(0.02) + silence(1.0))
    assert client.heard.turns == []


def test_a_pause_shorter_than_the_silence_does_not_end_a_turn() -> None:
    client = Client()
    client.configure({"silence_duration_ms": 600})
    client.append(tone(0.5) + silence(0.5) + tone(0.5) + silence(0.8))
    (turn,) = client.heard.turns
    assert turn.seconds == pytest.approx(2.1, abs=0.03)


def test_a_commit_is_ignored_while_the_service_decides() -> None:
    client = Client()
    client.configure({})
    client.append(silence(0.3) + tone(0.5))
    assert client.say("input_audio_buffer.commit") == []
    assert types(client.append(silence(0.6)))[-1] == "response.created"


def test_it_answers_although_it_is_told_to_wait() -> None:
    client = Client()
    (updated,) = client.configure({"create_response": False})
    assert updated["session"]["turn_detection"]["create_response"] is False
    assert "response.created" in types(client.append(tone(0.5) + silence(0.6)))


def test_speech_cuts_the_reply_short() -> None:
    client = Client()
    client.configure({})
    client.append(tone(4.0) + silence(0.6))
    client.until("response.output_audio.delta")
    news = client.append(tone(0.3))
    assert types(news) == ["input_audio_buffer.speech_started", "conversation.item.added", "response.done"]
    assert news[-1]["response"]["status"] == "cancelled"
    assert news[-1]["response"]["output"][0]["status"] == "incomplete"
    assert client.wait() == []
    assert "response.created" in types(client.append(silence(0.6)))


def test_the_end_of_a_turn_can_be_taken_back() -> None:
    client = Client(takes_back=True)
    client.configure({"silence_duration_ms": 300})
    news = client.append(tone(1.0) + silence(0.32)) + client.wait(0.1)
    assert order(news)[-2:] == ["input_audio_buffer.speech_stopped", "response.created"]
    item, dropped = news[0]["item_id"], news[-1]["response"]["id"]
    assert client.heard.turns == []  # it is not committed yet
    again = client.append(tone(0.5) + silence(0.32))
    assert types(again)[:2] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
    rest = again + client.wait()
    started, committed = (only(rest, f"input_audio_buffer.{what}") for what in ("speech_started", "committed"))
    assert started["item_id"] == committed["item_id"] == item
    assert dropped != only(rest, "response.done")["response"]["id"]
    (turn,) = client.heard.turns
    assert sound(rest) == turn.pcm == tone(1.0) + silence(0.32) + tone(0.5) + silence(0.3)


def test_the_end_of_a_turn_that_is_not_taken_back_is_committed_behind_the_reply_has_begun() -> None:
    client = Client(takes_back=True)
    client.configure({})
    news = client.append(tone(1.0) + silence(0.6)) + client.wait()
    assert types(news).index("response.created") < types(news).index("input_audio_buffer.committed")
    assert len(client.heard.turns) == 1
    assert sound(news) == client.heard.turns[0].pcm


def test_speech_waits_for_its_answer_when_replies_may_not_be_interrupted() -> None:
    client = Client()
    client.configure({"interrupt_response": False})
    client.append(tone(2.0) + silence(0.6))
    client.until("response.output_audio.delta")
    news = client.append(tone(0.3) + silence(0.6)) + client.wait()
    assert [e["response"]["status"] for e in news if e["type"] == "response.done"] == ["completed", "completed"]
    assert len(client.heard.turns) == 2


# Text, tools, items -----------------------------------------------------------------------------------------------


def test_a_text_is_answered_with_a_tune_that_quotes_it() -> None:
    client = Client()
    client.configure({})
    news = client.text("What time is it?") + client.say("response.create") + client.wait()
    assert order(news) == ["conversation.item.added", *REPLY]
    assert news[0]["item"]["content"] == [{"type": "input_text", "text": "What time is it?"}]
    assert only(news, "response.output_audio_transcript.done")["transcript"] == "You wrote: What time is it?"
    assert level(sound(news)) > -30
    assert client.heard.turns[0].text == "What time is it?"


def test_a_recorded_clip_is_answered_with_itself() -> None:
    client = Client()
    content = [{"type": "input_audio", "audio": base64.b64encode(tone(0.5)).decode()}]
    (added,) = client.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    assert "audio" not in added["item"]["content"][0]
    client.say("response.create")
    assert sound(client.wait()) == tone(0.5)


def test_a_tool_that_a_text_names_is_called_behind_a_spoken_sentence() -> None:
    client = Client()
    client.configure({}, tools=[{"type": "function", "name": "set_timer", "parameters": {}}])
    client.text('Please set_timer {"minutes": 4} now')
    news = client.say("response.create") + client.wait()
    assert order(news) == [
        *REPLY[:-1],
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.done",
    ]
    done = only(news, "response.function_call_arguments.done")
    assert (done["name"], json.loads(done["arguments"])) == ("set_timer", {"minutes": 4})
    roles = [e["item"]["role"] for e in news if e.get("item", {}).get("type") == "function_call"]
    assert roles == ["user", "tool", "user"]
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": "Set."}
    assert client.say("conversation.item.create", item=output)[0]["item"]["role"] == "tool"
    client.say("response.create")
    assert only(client.wait(), "response.output_audio_transcript.done")["transcript"] == "The tool said: Set."


def test_a_spoken_turn_can_ask_for_a_tool() -> None:
    client = Client(tool="set_timer", tool_arguments='{"minutes": 1}')
    client.configure(tools=[{"type": "function", "function": {"name": "set_timer"}}])
    client.append(tone(0.5))
    client.say("input_audio_buffer.commit")
    assert only(client.wait(), "response.function_call_arguments.done")["arguments"] == '{"minutes": 1}'


def test_a_forced_message_is_spoken_at_once() -> None:
    client = Client()
    content = [{"type": "output_text", "text": "The tea is ready."}]
    item = {"type": "force_message", "role": "assistant", "content": content}
    news = client.say("conversation.item.create", item=item) + client.wait()
    assert order(news) == REPLY
    assert only(news, "response.output_audio_transcript.done")["transcript"] == "The tea is ready."


@pytest.mark.parametrize(
    "item",
    [
        None,
        {},
        {"type": "message"},
        {"type": "message", "role": "king", "content": [{"type": "text", "text": "x"}]},
        {"type": "message", "role": "user", "content": "text"},
        {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_image"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "AAA"}]},
        {"type": "message", "role": "user", "id": 3, "content": [{"type": "text", "text": "x"}]},
        {"type": "function_call_output", "call_id": "c", "output": {"ok": True}},
        {"type": "function_call_output", "output": "x"},
    ],
)
def test_an_item_that_makes_no_sense_is_refused(item: Any) -> None:
    assert types(Client().say("conversation.item.create", item=item)) == ["error"]


def test_a_reply_that_is_over_can_be_truncated_to_what_was_played() -> None:
    client = Client()
    client.append(tone(2.0))
    client.say("input_audio_buffer.commit")
    item = only(client.until("response.output_item.added"), "response.output_item.added")["item"]["id"]
    assert client.say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=0) == []
    client.wait()
    assert types(client.say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=2001)) == [
        "error"
    ]
    (told,) = client.say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=700)
    assert (told["type"], told["item_id"], told["audio_end_ms"]) == ("conversation.item.truncated", item, 700)
    assert types(client.say("conversation.item.truncate", item_id=item, audio_end_ms=701)) == ["error"]
    assert refusal(client.say("conversation.item.truncate", item_id="?", audio_end_ms=0)) == "item_not_found"


def test_a_reply_can_be_cancelled_and_nothing_of_it_follows() -> None:
    client = Client()
    client.append(tone(4.0))
    client.say("input_audio_buffer.commit")
    reply = only(client.until("response.created"), "response.created")["response"]["id"]
    client.until("response.output_audio.delta")
    (done,) = client.say("response.cancel", response_id=reply)
    assert (done["type"], done["response"]["status"]) == ("response.done", "cancelled")
    assert client.wait() == []
    assert refusal(client.say("response.cancel")) == "response_cancel_not_active"


def test_cancelling_another_reply_is_a_harmless_error() -> None:
    client = Client()
    client.say("response.create")
    assert refusal(client.say("response.cancel", response_id="another")) == "response_cancel_not_active"
    assert only(client.wait(), "response.done")["response"]["status"] == "completed"


# Manners ----------------------------------------------------------------------------------------------------------


def test_it_can_leave_out_where_a_piece_belongs() -> None:
    client = Client(rewriters=("no-ids",))
    client.say("response.create")
    for event in client.wait():
        if event["type"].endswith(".delta"):
            assert not {"response_id", "item_id", "output_index", "content_index"} & event.keys()


def test_it_can_use_the_old_names() -> None:
    client = Client(rewriters=("beta-names",))
    client.text("Hello")
    client.say("response.create")
    client.wait()
    said = set(types(client.events))
    assert {"response.audio.delta", "response.audio_transcript.done", "conversation.item.created"} <= said
    assert not [kind for kind in said if "output_audio" in kind]


def test_it_can_keep_silent() -> None:
    client = Client(silent=True)
    client.configure({})
    news = client.append(tone(1.0) + silence(0.6)) + client.say("response.create") + client.wait()
    assert order(news) == VAD_TURN


def test_it_tells_when_a_turn_has_a_second_and_a_reply_a_third() -> None:
    client = Client()
    client.append(tone(1.5))
    client.say("input_audio_buffer.commit")
    client.wait()
    assert client.moments == ["connected", "turn-begins", "turn-1s", "turn", "replying", "replied", "idle"]


def test_manners_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="pace"):
        Behaviour(pace=0)


# Access -----------------------------------------------------------------------------------------------------------


def come_in(service: Xai, **headers: str) -> Any:
    asked = Asked("GET", "/v1/realtime", {"model": "grok-voice-latest"}, headers, upgrade=True)
    return service.routes["GET", "/v1/realtime"](asked, Behaviour(), ConnectionLog())


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer "}, {"authorization": "Basic x"}])
def test_a_connection_without_a_key_is_refused(header: dict[str, str]) -> None:
    answer = come_in(Xai(), **header)
    assert answer.status == 401
    assert set(map(type, answer.body.values())) == {str}
    assert set(answer.body) == {"code", "error"}


def test_any_key_opens_unless_one_is_set() -> None:
    assert isinstance(come_in(Xai(), authorization="Bearer any"), XaiSession)
    assert isinstance(come_in(Xai(key="secret"), authorization="bearer secret"), XaiSession)
    assert come_in(Xai(key="secret"), authorization="Bearer wrong-ü").status == 401


def test_an_unknown_model_is_refused_when_the_models_are_known() -> None:
    assert come_in(Xai(models=frozenset({"grok-voice-fast-1.0"})), authorization="Bearer k").status == 404


# Anything at all --------------------------------------------------------------------------------------------------


DETECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["server_vad", None]) | JUNK,
        "threshold": st.floats(0, 1) | JUNK,
        "silence_duration_ms": st.integers(0, 900) | JUNK,
        "prefix_padding_ms": st.integers(0, 900) | JUNK,
        "interrupt_response": st.booleans() | JUNK,
        "create_response": st.booleans() | JUNK,
    },
)
FORMATS = st.fixed_dictionaries(
    {}, optional={"type": st.just("audio/pcm") | JUNK, "rate": st.sampled_from([8000, 24000.0, 44100]) | JUNK}
)
SIDES = st.fixed_dictionaries(
    {},
    optional={
        "format": FORMATS | JUNK,
        "transport": st.sampled_from(["json", "binary"]) | JUNK,
        "transcription": st.fixed_dictionaries({"model": st.text(max_size=3) | JUNK}) | JUNK,
    },
)
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function") | JUNK, "name": st.just("f") | JUNK}), max_size=2)
SESSIONS = st.fixed_dictionaries(
    {},
    optional={
        "turn_detection": DETECTIONS | JUNK,
        "audio": st.fixed_dictionaries({}, optional={"input": SIDES, "output": SIDES}) | JUNK,
        "tools": TOOLS | JUNK,
        "voice": st.text(max_size=3) | JUNK,
        "temperature": JUNK,
        "tool_choice": JUNK,
        "replace": JUNK,
    },
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["input_text", "input_audio", "text"]) | JUNK},
    optional={"text": st.text(max_size=9) | st.just("f {1}") | JUNK, "audio": st.just("AAAA") | JUNK},
)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "function_call_output", "force_message"]) | JUNK},
    optional={
        "id": st.sampled_from(["a", "b"]) | JUNK,
        "role": st.sampled_from(["user", "assistant", "system"]) | JUNK,
        "content": st.lists(PARTS, max_size=2) | JUNK,
        "call_id": st.text(max_size=3) | JUNK,
        "output": st.text(max_size=3) | JUNK,
        "arguments": JUNK,
    },
)
KINDS = [*XaiSession.HANDLERS, "unheard.of"]
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | JUNK},
    optional={
        "event_id": JUNK,
        "session": SESSIONS | JUNK,
        "item": ITEMS | JUNK,
        "item_id": st.sampled_from(["a", "b"]) | JUNK,
        "audio_end_ms": st.integers(0, 3000) | JUNK,
        "response": st.just({}) | JUNK,
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


@settings(max_examples=200)
@given(
    steps=st.lists(STEPS, max_size=25),
    manners=st.fixed_dictionaries(
        {},
        optional={
            "greeting": st.sampled_from(["full", "conversation", "none"]),
            "silent": st.booleans(),
            "commits": st.sampled_from(["answered", "asked"]),
            "takes_back": st.booleans(),
            "busy_idle": st.booleans(),
            "announce_s": st.sampled_from([0, 0.5]),
            "voice_s": st.sampled_from([0, 0.5]),
            "reply": st.sampled_from(["usual", "empty"]),
            "fails": st.sampled_from(["", "server_error"]),
            "ping_s": st.sampled_from([0, 0.5]),
            "tool": st.sampled_from(["f", "*"]),
        },
    ),
)
@pytest.mark.slow
def test_nothing_a_client_can_say_breaks_it(steps: list[str | bytes | float], manners: dict[str, Any]) -> None:
    client = Client(**manners)
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        else:
            client.raw(step)
    client.wait()
    assert_well_formed(client.events)


def assert_well_formed(events: list[dict[str, Any]]) -> None:
    """Every event has a type and an id of its own, replies do not overlap, and all sound is whole samples.

    Speech ends a reply without a word, so another one may begin before the end of the last was told.
    """
    assert len({event["event_id"] for event in events}) == len(events)
    running, spoken = "", False
    for event in events:
        json.dumps(event, allow_nan=False)
        match event["type"]:
            case "input_audio_buffer.speech_started":
                spoken = True
            case "response.created":
                assert not running or spoken
                spoken = False
                running = event["response"]["id"]
            case "response.done":
                assert event["response"]["id"] == running
                running = ""
            case "response.output_audio.delta" | "response.audio.delta":
                assert running
                assert len(base64.b64decode(event["delta"], validate=True)) % 2 == 0
            case "error":
                assert set(event["error"]) == {"type", "code", "message", "param", "event_id"}
    assert not running or spoken


# Tokens -----------------------------------------------------------------------------------------------------------


def secret(service: Xai, body: Any = None, key: str = "right", at: float = 0.0) -> Any:
    path = "/v1/realtime/client_secrets"
    content = json.dumps({} if body is None else body).encode()
    asked = Asked("POST", path, headers={"authorization": f"Bearer {key}"}, body=content, at=at)
    return service.routes["POST", path](asked, Behaviour(), ConnectionLog())


def test_a_token_opens_until_it_expires() -> None:
    service = Xai(key="right", wall=1000.0)
    body = secret(service, {"expires_after": {"seconds": 30}}, at=10.0).body
    assert body["expires_at"] == 1040
    assert set(body) == {"value", "expires_at"}
    header = {"authorization": f"Bearer {body['value']}"}

    def come(at: float) -> Any:
        asked = Asked("GET", "/v1/realtime", {}, header, upgrade=True, at=at)
        return service.routes["GET", "/v1/realtime"](asked, Behaviour(), ConnectionLog())

    assert isinstance(come(39.0), XaiSession)
    assert come(41.0).status == 401
    assert secret(service, key=body["value"]).status == 401


@pytest.mark.parametrize(
    "body",
    [
        {"session": {}},
        {"expires_after": {"anchor": "created_at", "seconds": 30}},
        {"expires_after": {"seconds": 3601}},
        {"expires_after": {"seconds": True}},
        {"expires_after": 30},
        [],
    ],
)
def test_a_token_that_makes_no_sense_is_refused(body: Any) -> None:
    answer = secret(Xai(key="right"), body)
    assert answer.status == 400
    assert set(answer.body) == {"code", "error"}


# A conversation that goes on --------------------------------------------------------------------------------------


class Line(simulator_client.Client):
    """A client on one of several connections to one service."""

    count = 0

    def __init__(self, service: Xai, conversation: str = "", at: float = 0.0) -> None:
        query = {"conversation_id": conversation} if conversation else {}
        asked = Asked("GET", service.path, query, {"authorization": "Bearer k"}, upgrade=True, at=at)
        Line.count += 1
        super().__init__(
            lambda manners, heard: service.routes["GET", service.path](asked, manners, heard),
            number=Line.count,
            greet=False,
        )
        self.now = at
        self.voice.connected(at)
        self.listen()

    @property
    def conversation(self) -> str:
        return str(only(self.events, "conversation.created")["conversation"]["id"])

    def configure(self, *, resumes: bool = True) -> list[dict[str, Any]]:
        transcription = {"audio": {"input": {"transcription": {"model": "grok-transcribe"}}}}
        return self.say("session.update", session={**transcription, "resumption": {"enabled": resumes}})

    def talk(self) -> None:
        self.append(tone(1.0))
        self.say("input_audio_buffer.commit")
        self.wait(10.0)
        self.text("a text that was typed")
        item = {"type": "function_call_output", "call_id": "c", "output": "done"}
        self.say("conversation.item.create", item=item)
        self.say("response.create")
        self.wait(10.0)


def replayed(news: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["item"] for event in news if event["type"] == "conversation.item.added"]


def test_a_conversation_goes_on_as_text() -> None:
    service = Xai()
    first = Line(service)
    first.configure()
    first.talk()
    first.voice.disconnected(first.now)
    second = Line(service, first.conversation, first.now + 60.0)
    assert second.conversation == first.conversation
    news = second.configure()
    assert types(news)[-1] == "session.updated"
    user, first_answer, assistant = replayed(news)  # what was typed and what was called is gone
    assert user["content"] == [{"type": "input_text", "text": "(1.0 seconds of speech)"}]
    assert first_answer["content"] == [{"type": "text", "text": "You said: (1.0 seconds of speech)."}]
    assert assistant["content"] == [{"type": "text", "text": "The tool said: done"}]
    assert {user["id"], assistant["id"]}.isdisjoint(event.get("item_id") for event in first.events)
    assert replayed(second.configure()) == []
    third = Line(service, first.conversation, first.now + 61.0)  # while the second still hangs on
    assert len(replayed(third.configure())) == 3


@pytest.mark.parametrize("forgotten", ["never kept", "too late", "not asked for", "unknown"])
def test_a_conversation_is_not_kept_without_need(forgotten: str) -> None:
    service = Xai()
    first = Line(service)
    first.configure(resumes=forgotten != "never kept")
    first.talk()
    first.voice.disconnected(first.now)
    name = "unheard-of" if forgotten == "unknown" else first.conversation
    second = Line(service, name, first.now + (31 * 60.0 if forgotten == "too late" else 60.0))
    assert replayed(second.configure(resumes=forgotten != "not asked for")) == []
    assert (second.conversation == name) is (forgotten == "not asked for")


def test_so_many_conversations_are_kept() -> None:
    service = Xai()
    lines = [Line(service) for _ in range(MAX_CONVERSATIONS + 1)]
    for line in lines:
        line.configure()
    assert Line(service, lines[0].conversation).conversation != lines[0].conversation
    assert Line(service, lines[1].conversation).conversation == lines[1].conversation


# The telephone, the end, and settings that stand elsewhere --------------------------------------------------------


@pytest.mark.parametrize("law", ["pcmu", "pcma"])
def test_the_sound_of_the_telephone_travels_both_ways(law: str) -> None:
    codec = getattr(g711, law)()
    client = Client()
    side = {"format": {"type": f"audio/{law}"}}
    (updated,) = client.configure(audio={"input": side, "output": side})
    assert updated["session"]["audio"]["output"]["format"] == {"type": f"audio/{law}", "rate": 8000}
    sent = codec.encode(resample(question(), RATE, 8000))
    client.append(sent, 801)
    client.say("input_audio_buffer.commit")
    news = client.wait()
    assert sound(news) == sent
    assert client.heard.turns[0].pcm == client.heard.pcm == codec.decode(sent)


def test_one_direction_may_sound_like_a_telephone() -> None:
    client = Client()
    client.configure(audio={"output": {"format": {"type": "audio/pcma"}}})
    client.append(tone(1.0))
    client.say("input_audio_buffer.commit")
    assert len(sound(client.wait())) == 8000


def test_a_session_ends_after_its_time() -> None:
    client = Client(session_s=60.0)
    assert client.wait(59.0) == []
    assert refusal(client.wait(2.0)) == "max_duration"
    assert isinstance(client.ended, Goodbye)
    assert client.configure() == []


def test_turn_detection_is_tolerated_where_proxies_put_it() -> None:
    client = Client()
    nested = {"input": {"turn_detection": {"type": "server_vad"}}}
    (updated,) = client.say("session.update", session={"audio": nested})
    assert updated["session"]["turn_detection"] == {"type": "server_vad"}
    client.append(tone(0.5) + silence(0.7))
    assert len(client.heard.turns) == 1
