"""The simulated LiteLLM proxy, without a socket, a thread or a clock."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.simulator.contract import Answer, Asked, Behaviour, ConnectionLog, Drop, Goodbye, find_route
from device_agent.simulator.services.litellm import Litellm, LitellmSession, rewritten
from tests.support import simulator_client
from tests.support.simulator_client import JUNK, SOUNDS, only, question, refusal, silence, sound, tone, types

BETA = {"openai-beta": "realtime=v1"}
FLAT = {
    "voice": "marin",
    "modalities": ["text", "audio"],
    "instructions": "Be brief.",
    "turn_detection": None,
    "input_audio_format": "pcm16",
    "input_audio_transcription": {"model": "whisper-1"},
}


def come_in(manners: Behaviour, heard: ConnectionLog, alias: str, header: dict[str, str], key: str = "right") -> Any:
    service = Litellm(key="right")
    headers = {"authorization": f"Bearer {key}", **header} if key else header
    query = {"model": alias} if alias else {}
    asked = Asked("GET", "/v1/realtime", query, headers, upgrade=True)
    return service.routes["GET", "/v1/realtime"](asked, manners, heard)


class Client(simulator_client.Client):
    """A client of the proxy."""

    def __init__(self, alias: str = "openai-realtime", header: dict[str, str] | None = None, **manners: Any) -> None:
        super().__init__(lambda m, heard: come_in(m, heard, alias, header or {}), **manners)

    def configure(self, session: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return self.say("session.update", session=session or FLAT)

    def turn(self) -> list[dict[str, Any]]:
        """A turn by hand: what is not answered by itself is asked for."""
        self.append(question())
        news = self.say("input_audio_buffer.commit") + self.wait(0.2)
        return news + ([] if "response.created" in types(news) else self.say("response.create")) + self.wait()


@pytest.mark.parametrize(("alias", "key"), [("openai-realtime", "wrong"), ("openai-realtime", ""), ("", "right")])
def test_the_door_is_shut_with_403_and_nothing_else(alias: str, key: str) -> None:
    assert come_in(Behaviour(), ConnectionLog(), alias, {}, key) == Answer(403, None)


@pytest.mark.parametrize("path", ["/", "/somewhere", "/v1/somewhere"])
def test_a_path_that_it_does_not_know_looks_like_a_wrong_key(path: str) -> None:
    route = find_route(Litellm(key="right").routes, "GET", path)
    assert not isinstance(route, int)
    asked = Asked("GET", path, {"model": "grok-voice-agent"}, {"authorization": "Bearer right"}, upgrade=True)
    assert route(asked, Behaviour(), ConnectionLog()) == Answer(403, None)


def test_a_request_with_the_commit_overtakes_it_behind_the_proxy_too() -> None:
    client = Client("grok-voice-agent")
    client.configure({"turn_detection": {"type": None}})
    client.append(question())
    news = client.say("input_audio_buffer.commit") + client.say("response.create") + client.wait()
    words = [event["transcript"] for event in news if event["type"] == "response.output_audio_transcript.done"]
    assert words == ["Hello, I am a simulator.", "You said: (2.5 seconds of speech)."]


def test_a_key_may_come_in_another_header() -> None:
    assert isinstance(
        come_in(Behaviour(), ConnectionLog(), "grok-voice-agent", {"api-key": "right"}, ""), LitellmSession
    )


def test_an_unknown_model_is_noticed_behind_the_door() -> None:
    client = Client("unheard-of")
    assert only(client.events, "error")["error"]["type"] == "server_error"
    assert isinstance(client.ended, Goodbye)
    assert client.ended.code == 1011
    old = Client("unheard-of", binary_json=True)
    assert (old.events, old.binary, old.ended) == ([], [], Drop())


def test_a_service_that_cannot_be_reached_is_no_event() -> None:
    client = Client("dead", aliases={"dead": ""})
    assert client.events == []
    assert isinstance(client.ended, Goodbye)
    assert client.ended.code == 1011


# The two dialects -------------------------------------------------------------------------------------------------


def test_old_settings_are_written_anew_without_the_header() -> None:
    client = Client()
    (updated,) = client.configure()
    session = updated["session"]
    assert session["type"] == "realtime"
    assert session["output_modalities"] == ["audio"]
    assert session["audio"]["output"]["voice"] == "marin"
    assert session["audio"]["input"]["turn_detection"] is None
    assert sound(client.turn()) == question()


def test_what_is_flat_wins_over_what_is_nested() -> None:
    both = {"voice": "cedar", "audio": {"output": {"voice": "marin", "speed": 1.0}, "input": None}, "tools": []}
    assert rewritten(both) == {
        "type": "realtime",
        "tools": [],
        "audio": {"output": {"voice": "cedar", "speed": 1.0}},
    }


def test_names_are_new_without_the_header_and_old_with_it() -> None:
    for header, new in (({}, True), (BETA, False)):
        client = Client("grok-voice-agent", header)
        client.configure({"turn_detection": {"type": None}})
        kinds = types(client.turn())
        assert ("response.output_audio.delta" in kinds) is new
        assert ("response.audio.delta" in kinds) is not new
        assert ("conversation.item.created" in kinds) is not new
        assert "ping" not in kinds


def test_with_the_header_settings_go_through_and_openai_shuts_its_door() -> None:
    client = Client("grok-voice-agent", BETA)
    (updated,) = client.configure({"voice": "rex", "turn_detection": {"type": None}})
    assert updated["session"]["voice"] == "rex"
    client = Client("openai-realtime", BETA)
    assert [event["error"]["type"] for event in client.events] == ["invalid_request_error", "server_error"]
    assert isinstance(client.ended, Goodbye)
    assert client.ended.code == 4000


def test_xai_behind_it_hears_turns_but_has_its_own_voice() -> None:
    client = Client("grok-voice-agent")
    (updated,) = client.configure({"voice": "rex", "turn_detection": {"type": "server_vad"}})
    assert "voice" not in updated["session"]
    client.append(tone(0.5) + silence(0.7))
    assert len(client.heard.turns) == 1


def test_what_xai_lacks_is_filled_in() -> None:
    client = Client("grok-voice-agent")
    client.configure({"turn_detection": {"type": None}})
    news = client.turn()
    assert only(news, "response.content_part.done")["part"]["type"] == "audio"
    assert only(news, "response.created")["response"]["usage"] is None
    assert only(news, "response.done")["response"]["usage"]["total_tokens"] == 0


# What it adds, and what it cannot bear ----------------------------------------------------------------------------


@pytest.mark.parametrize("injects", [False, True])
@pytest.mark.parametrize("alias", ["grok-voice-agent", "openai-realtime"])
def test_it_can_ask_for_a_reply_that_the_client_did_not_request(alias: str, injects: bool) -> None:
    client = Client(alias, injects=injects, commits="asked")
    client.configure({**FLAT, "voice": "marin"})
    client.append(question())
    news = client.say("input_audio_buffer.commit") + client.wait()
    assert ("response.done" in types(news)) is injects


def test_a_binary_frame_ends_it_without_a_word() -> None:
    client = Client()
    assert client.raw(b"\0\0") == []
    assert client.ended == Drop()
    old = Client(binary_json=True)
    old.raw(b"\0\0")
    before = len(old.binary)
    assert old.ended is None
    old.configure()
    old.wait(60.0)
    assert len(old.binary) == before


def test_the_old_release_puts_json_into_binary_frames() -> None:
    client = Client("grok-voice-agent", binary_json=True, ping_s=1.0)
    assert client.events == []
    client.wait(3.0)
    kinds = [json.loads(frame)["type"] for frame in client.binary]
    assert kinds[:2] == ["session.created", "conversation.created"]
    assert kinds.count("ping") >= 3


def test_the_end_of_the_service_is_repeated() -> None:
    client = Client(session_s=10.0)
    news = client.wait(11.0)
    assert refusal([news[0]]) == "session_expired"
    assert news[1]["error"]["type"] == "server_error"
    assert isinstance(client.ended, Goodbye)
    assert client.ended.code == 1001
    old = Client(session_s=10.0, binary_json=True)
    old.wait(11.0)
    assert old.ended is None


EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["session.update", "response.create", "input_audio_buffer.commit"]) | JUNK},
    optional={
        "session": st.dictionaries(st.sampled_from([*FLAT, "audio"]), st.just({"input": {}}) | JUNK) | JUNK,
        "response": JUNK,
    },
)
STEPS = st.one_of(
    EVENTS.map(json.dumps),
    SOUNDS.map(lambda pcm: json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})),
    st.text(max_size=20),
    st.floats(0, 2),  # time passes
)


@settings(max_examples=100)
@given(
    steps=st.lists(STEPS, max_size=20),
    alias=st.sampled_from(["grok-voice-agent", "openai-realtime", "x"]),
    header=st.sampled_from([{}, BETA]),
    old=st.booleans(),
    injects=st.booleans(),
)
def test_nothing_a_client_can_say_breaks_it(
    steps: list[str | float], alias: str, header: dict[str, str], old: bool, injects: bool
) -> None:
    client = Client(alias, header, binary_json=old, injects=injects)
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        else:
            client.raw(step)
    client.raw(b"\0")
    client.wait()
    assert all(isinstance(json.loads(frame), dict) for frame in client.binary)
