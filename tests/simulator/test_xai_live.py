"""The simulated xAI Live Voice API, without a socket, a thread or a clock."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.simulator.contract import Answer, Asked, Behaviour, ConnectionLog, Goodbye
from device_agent.simulator.services.xai_live import AUTH_S, XaiLive, XaiLiveSession
from tests.support import simulator_client
from tests.support.simulator_client import JUNK, SOUNDS, question, silence, tone, types

DOCUMENTED = {
    "response.audio.delta": {"type", "delta"},
    "response.audio_transcript.delta": {"type", "delta"},
    "input_audio_buffer.speech_started": {"type"},
    "input_audio_buffer.speech_stopped": {"type"},
    "error": {"type", "error"},
}
SESSION = {
    "model": "grok-3-live",
    "voice": "alloy",
    "instructions": "Be brief.",
    "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
}


class Client(simulator_client.Client):
    """A client of this service, with the right key unless it is told another one."""

    def __init__(self, key: str | None = "right", **manners: Any) -> None:
        super().__init__(lambda m, heard: XaiLiveSession(m, heard, random.Random(7), XaiLive(key="right")), **manners)
        assert self.events == []
        if key is not None:
            self.say("auth", api_key=key)

    def configure(self, **session: Any) -> list[dict[str, Any]]:
        return self.say("session.update", session={**SESSION, **session})


def sound(events: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.audio.delta")


def assert_documented(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert set(event) == DOCUMENTED[event["type"]]


def test_a_connection_needs_no_key() -> None:
    service = XaiLive(key="right")
    asked = Asked("GET", "/v1/live", upgrade=True)
    assert isinstance(service.routes["GET", "/v1/live"](asked, Behaviour(), ConnectionLog()), XaiLiveSession)
    answer = service.routes["GET", "/v1/live"](Asked("GET", "/v1/live"), Behaviour(), ConnectionLog())
    assert isinstance(answer, Answer)
    assert answer.status == 426


def test_nothing_is_acknowledged() -> None:
    client = Client()
    assert client.configure() == []
    assert client.moments == ["connected", "configured"]
    assert client.wait(60.0) == []


def test_the_service_hears_a_turn_and_answers_by_itself() -> None:
    client = Client()
    client.configure()
    news = client.append(question()) + client.wait()
    assert types(news)[:3] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "response.audio.delta",
    ]
    (turn,) = client.heard.turns
    assert sound(news) == turn.pcm
    words = "".join(event["delta"] for event in news if event["type"] == "response.audio_transcript.delta")
    assert words == "You said: (2.5 seconds of speech)."
    assert_documented(client.events)


@pytest.mark.parametrize("commits", ["usual", "answered"])
def test_a_turn_by_hand(commits: str) -> None:
    client = Client(commits=commits)
    client.configure(turn_detection=None)
    client.append(tone(1.0))
    client.say("input_audio_buffer.commit")
    assert bool(client.wait()) is (commits == "answered")
    if commits == "usual":
        client.say("response.create")
        assert sound(client.wait()) == tone(1.0)


@pytest.mark.parametrize("key", ["wrong", "", "\ud800"])
def test_a_wrong_key_is_turned_away_with_a_string(key: str) -> None:
    client = Client(key)
    assert client.events == [{"type": "error", "error": "Invalid API key"}]
    assert client.ended == Goodbye(1008, "Invalid API key")
    assert client.configure() == []


def test_a_key_is_not_remembered() -> None:
    assert "right" not in str(Client().heard.received)


@pytest.mark.parametrize("first", [json.dumps({"type": "session.update", "session": {}}), "nonsense", b"\0\0"])
def test_the_key_comes_first(first: str | bytes) -> None:
    client = Client(None)
    client.raw(first)
    assert types(client.events) == ["error"]
    assert isinstance(client.ended, Goodbye)


def test_a_client_that_shows_no_key_is_turned_away_in_time() -> None:
    client = Client(None)
    assert client.wait(AUTH_S - 1) == []
    client.wait(2.0)
    assert isinstance(client.ended, Goodbye)


@pytest.mark.parametrize("session", [{"voice": "eve"}, {"turn_detection": {"threshold": 7}}, {"model": 3}, None])
def test_wrong_settings_are_told_with_a_string(session: Any) -> None:
    (error,) = Client().say("session.update", session=session)
    assert isinstance(error["error"], str)


KINDS = [*XaiLiveSession.HANDLERS, "unheard.of"]
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | JUNK},
    optional={"session": st.just(SESSION) | JUNK, "item": JUNK, "audio": JUNK, "response": JUNK, "api_key": JUNK},
)
STEPS = st.one_of(
    EVENTS.map(json.dumps),
    SOUNDS.map(lambda pcm: json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})),
    st.dictionaries(st.sampled_from([*SESSION, "tools"]), JUNK).map(
        lambda session: json.dumps({"type": "session.update", "session": session})
    ),
    SOUNDS,
    st.text(max_size=20),
    st.floats(0, 2),  # time passes
)


@settings(max_examples=150)
@given(steps=st.lists(STEPS, max_size=25), key=st.sampled_from(["right", None]))
def test_nothing_a_client_can_say_breaks_it(steps: list[str | bytes | float], key: str | None) -> None:
    client = Client(key)
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        else:
            client.raw(step)
    client.append(silence(0.1))
    client.wait()
    assert_documented(client.events)
    assert all(isinstance(event["error"], str) for event in client.events if event["type"] == "error")
