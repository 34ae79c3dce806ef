"""Scenes in which connections come and go: the assistant remembers, nothing is lost, and nothing is said twice."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from device_agent.config.model import ServiceConfig, TalkConfig
from device_agent.core.conversation import DEFAULT_PATIENCE_S
from device_agent.core.events import (
    LinkDown,
    LinkIdle,
    LinkUp,
    PlaybackEnded,
    ReplyEnded,
    TextTurn,
    TurnAcknowledged,
    TurnEndedByService,
)
from device_agent.simulator import SIMULATED_SERVICES, Simulator
from tests.support.room import Room, speech

pytestmark = pytest.mark.slow

QUICK = {"think_s": 0.05, "pace": 16.0}
MODELS = {"litellm": {"model": "grok-voice-agent"}}
ALL = sorted(SIMULATED_SERVICES)
TOLD_ANEW = ["openai", "litellm"]
"""Services that cannot go on with a conversation, and can be told of one."""
GOING_ON = ["xai", "ultravox"]


def config(simulator: Simulator, name: str, **settings: Any) -> ServiceConfig:
    return replace(ServiceConfig(name=name, url=simulator.url), **MODELS.get(name, {}), **settings)


def room(simulator: Simulator, name: str, **parts: Any) -> Room:
    return Room(simulator, service=config(simulator, name), **parts)


def recalled(simulator: Simulator, number: int) -> list[tuple[str, str]]:
    """Return what connection *number* was told of what was said before: the role, and the text."""
    heard = simulator.connections[number]
    told = [(each["role"], each["text"]) for each in heard.settings.get("initialMessages", [])]
    for event in heard.events:
        if event["type"] == "conversation.item.create" and event["item"]["type"] == "message":
            told.append((event["item"]["role"], event["item"]["content"][0]["text"]))
        if event["type"] in ("response.create", "input_audio_buffer.commit"):
            break
    return told


def lose(agent: Room, simulator: Simulator) -> None:
    """The connection dies while it is not needed."""
    simulator.drop()
    agent.happened(LinkIdle)


@pytest.mark.parametrize("name", TOLD_ANEW)
def test_a_new_connection_is_told_what_was_said(name):
    with Simulator(name, **QUICK) as simulator, room(simulator, name) as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        lose(agent, simulator)
        agent.ask(speech() * 2)
        agent.happened(PlaybackEnded, 2)
        assert recalled(simulator, 1) == [
            ("user", "(1.2 seconds of speech)"),
            ("assistant", "You said: (1.2 seconds of speech)."),
        ]
        assert [len(connection.turns) for connection in simulator.connections] == [1, 1]
        assert agent.hears(simulator.turns[1].pcm) > 0.99


@pytest.mark.parametrize("name", GOING_ON)
def test_where_the_service_remembers_by_itself_it_is_told_nothing(name):
    with Simulator(name, **QUICK) as simulator, room(simulator, name) as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        lose(agent, simulator)
        agent.ask()
        agent.happened(PlaybackEnded, 2)
        assert [connection.goes_on for connection in simulator.connections] == [False, True]
        assert recalled(simulator, 1) == []


def test_a_conversation_that_the_service_has_forgotten_is_told_again(monkeypatch):
    monkeypatch.setattr("device_agent.simulator.engine.conversation_store.KEPT_S", -1000.0)
    with Simulator(**QUICK) as simulator, room(simulator, "xai") as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        lose(agent, simulator)
        agent.ask()
        agent.happened(PlaybackEnded, 2)
        assert not simulator.connections[1].goes_on
        assert len(recalled(simulator, 1)) == 2


@pytest.mark.parametrize("name", ["xai", "openai", "ultravox"])
def test_another_service_that_takes_over_is_told_what_was_said(name):
    with Simulator(**QUICK) as first, Simulator(name, **QUICK) as second:
        with room(first, "xai", fallback=[config(second, name)]) as agent:
            agent.agent.tell(TextTurn("My name is Ada."))
            agent.happened(PlaybackEnded)
            first.refuse(503)
            lose(agent, first)
            agent.ask(bytes(9600) + speech())  # the reply dies away first
            agent.happened(PlaybackEnded, 2)
            assert [text for _, text in recalled(second, 0)] == ["My name is Ada.", "You wrote: My name is Ada."]
            assert len(second.turns) == 1
            assert speech() in second.turns[0].pcm


@pytest.mark.parametrize("name", ALL)
def test_a_sentence_that_was_cut_in_half_arrives_whole_and_once(name):
    with Simulator(name, **QUICK) as simulator, room(simulator, name) as agent:
        agent.finger.press()
        agent.happened(LinkUp)
        agent.microphone.say(speech())
        agent.microphone.wait_until_said()
        assert simulator.wait_for(lambda: any(simulator.connections[0].pcm))
        simulator.drop()
        agent.finger.release()
        agent.happened(PlaybackEnded)
        (turn,) = simulator.turns
        assert turn.pcm.count(speech()) == 1
        assert agent.hears(turn.pcm) > 0.99


@pytest.mark.parametrize("name", GOING_ON)
def test_a_turn_that_the_service_had_and_did_not_answer_is_not_heard_twice_by_one_conversation(name):
    with Simulator(name, **QUICK) as simulator, room(simulator, name) as agent:
        agent.agent.tell(TextTurn("My name is Ada."))
        agent.happened(PlaybackEnded)
        simulator.fault("silent")
        agent.ask()
        agent.happened(TurnEndedByService if name == "ultravox" else TurnAcknowledged, 2)
        simulator.heal()
        simulator.drop()
        agent.happened(PlaybackEnded, 2)
        first, second = simulator.connections
        assert [len(first.turns), len(second.turns)] == [2, 1]
        assert not second.goes_on  # it would know the turn
        assert [text for _, text in recalled(simulator, 1)] == ["My name is Ada.", "You wrote: My name is Ada."]


def test_half_a_turn_that_a_service_did_not_take_keeps_no_conversation_from_going_on():
    with Simulator(**QUICK) as simulator, room(simulator, "xai") as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        agent.finger.press()
        agent.microphone.say(speech())
        agent.microphone.wait_until_said()
        assert simulator.wait_for(lambda: "input_audio_buffer.append" in simulator.connections[0].types[-9:])
        simulator.drop()
        agent.happened(LinkUp, 2)
        agent.finger.release()
        agent.happened(PlaybackEnded, 2)
        assert [connection.goes_on for connection in simulator.connections] == [False, True]
        assert len(simulator.turns) == 2


@pytest.fixture
def impatient(monkeypatch) -> None:
    for part in ("ACCEPT_PART", "QUICK_START_PART", "SLOW_START_PART"):
        monkeypatch.setattr(f"device_agent.services.response_timeout.{part}", 2.0 / DEFAULT_PATIENCE_S)


@pytest.mark.parametrize("name", ALL)
def test_a_service_that_lives_and_does_not_answer_is_left_and_asked_again(name, impatient):
    with Simulator(name, **QUICK) as simulator, room(simulator, name) as agent:
        simulator.fault("silent")
        agent.ask()
        down = agent.happened(LinkDown)
        assert "within" in down.reason
        simulator.heal()
        agent.happened(PlaybackEnded)
        assert speech() in simulator.turns[-1].pcm
        assert simulator.connections[0].ended


def test_a_service_that_lives_and_does_not_answer_is_passed_over(impatient):
    with Simulator(**QUICK) as first, Simulator("openai", **QUICK) as second:
        first.fault("silent")
        with room(first, "xai", fallback=[config(second, "openai")]) as agent:
            agent.ask()
            agent.happened(PlaybackEnded)
            assert agent.all(LinkDown) == []
            assert (len(first.turns), len(second.turns)) == (1, 1)


def test_a_dead_service_behind_an_old_proxy_is_noticed_where_the_service_ends_turns(impatient):
    talk = TalkConfig(end="service", silence_ms=400)
    with Simulator("litellm", binary_json=True, **QUICK) as simulator, room(simulator, "litellm", talk=talk) as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        simulator.goodbye(1011)  # of the proxy, this once: the next connection is the one that goes mute
        agent.happened(LinkIdle)
        simulator.fault("silent")
        agent.ask()
        assert "the service behind the proxy" in agent.happened(LinkDown).reason
        simulator.heal()
        agent.happened(PlaybackEnded, 2)


def test_a_session_that_will_expire_is_renewed_while_the_user_does_not_speak(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("device_agent.link.policy.MIN_SESSION_AGE_S", 0.0)
    with Simulator("openai", session_s=3.0, **QUICK) as simulator, room(simulator, "openai", mode="always") as agent:
        agent.agent.tell(TextTurn("My name is Ada."))
        agent.happened(PlaybackEnded)
        assert simulator.wait_for(lambda: len(simulator.connections) > 1)
        assert simulator.wait_for(lambda: simulator.connections[0].ended)
        assert simulator.connections[0].ended == "client said 1000"
        agent.agent.tell(TextTurn("What is my name?"))
        agent.happened(PlaybackEnded, 2)
        assert recalled(simulator, 1)[0] == ("user", "My name is Ada.")
        assert (agent.all(LinkDown), agent.all(LinkIdle)) == ([], [])
        assert len(agent.all(LinkUp)) == 1  # the user does not notice
        assert "Ada" not in caplog.text


@pytest.mark.parametrize("name", ["xai", "openai", "ultravox"])
def test_a_session_that_does_not_say_when_it_ends_is_renewed_by_its_age(name, monkeypatch):
    monkeypatch.setattr("device_agent.link.policy.MIN_SESSION_AGE_S", 0.0)
    monkeypatch.setattr("device_agent.link.policy.MAX_SESSION_AGE_S", 2.0)
    monkeypatch.setattr("device_agent.link.policy.MAX_SESSION_LEFT_S", 0.0)  # one service says when it ends
    with Simulator(name, **QUICK) as simulator, room(simulator, name, mode="always") as agent:
        agent.agent.tell(TextTurn("My name is Ada."))
        agent.happened(PlaybackEnded)
        assert simulator.wait_for(lambda: simulator.connections[0].ended)
        monkeypatch.undo()
        agent.ask()
        agent.happened(PlaybackEnded, 2)
        assert (agent.all(LinkDown), agent.all(LinkIdle)) == ([], [])
        assert simulator.connections[-1].goes_on == (name in GOING_ON)
        assert len(recalled(simulator, -1)) == (2 if name in TOLD_ANEW else 0)


def test_speech_while_the_session_is_renewed_is_heard_by_the_old_one(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("device_agent.link.policy.MIN_SESSION_AGE_S", 0.0)
    monkeypatch.setattr("device_agent.link.policy.MAX_SESSION_AGE_S", 2.0)
    monkeypatch.setattr("device_agent.link.policy.ALTERNATIVE_TIMEOUT_S", 60.0)  # longer than the conversation waits
    with Simulator(**QUICK) as simulator, room(simulator, "xai", mode="always") as agent:
        agent.happened(LinkUp)
        simulator.fault("hang-handshake")
        assert simulator.wait_for(lambda: "dialling" in caplog.text.partition("renewing it")[2])
        agent.finger.press()
        assert simulator.wait_for(lambda: "continuing with the old session" in caplog.text)
        agent.microphone.say(speech())
        agent.microphone.wait_until_said()
        agent.finger.release()
        agent.happened(PlaybackEnded)
        assert len(simulator.connections) == 1
        assert (
            caplog.text.partition("-> speaking")[0].count("renewing it") == 1
        )  # and not again in the middle of a turn
        assert agent.all(LinkDown) == []


def test_a_press_that_breaks_a_renewal_off_breaks_no_later_dial(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    with Simulator(**QUICK) as simulator, room(simulator, "xai") as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        simulator.fault("hang-handshake")
        monkeypatch.setattr(agent.agent.device.link._policy, "renew_at", 0.0)
        agent.agent.device.link.wake()
        assert simulator.wait_for(lambda: "dialling" in caplog.text.partition("renewing it")[2])
        agent.ask()
        agent.happened(PlaybackEnded, 2)
        simulator.fault("hang-handshake", False)
        lose(agent, simulator)
        agent.ask()
        agent.happened(PlaybackEnded, 3)
        assert agent.all(LinkDown) == []


def test_no_session_is_renewed_while_the_user_speaks_or_listens(monkeypatch):
    monkeypatch.setattr("device_agent.link.policy.MIN_SESSION_AGE_S", 0.0)
    monkeypatch.setattr("device_agent.link.policy.MAX_SESSION_AGE_S", 0.1)
    with Simulator(**QUICK) as simulator, room(simulator, "xai") as agent:
        agent.finger.press()
        agent.microphone.say(speech() * 3)
        agent.microphone.wait_until_said()
        assert simulator.wait_for(lambda: len(simulator.connections[0].pcm) > len(speech()))
        assert len(simulator.connections) == 1
        agent.finger.release()
        agent.happened(ReplyEnded)
        agent.hears_for(2.0)  # of 3.6
        assert len(simulator.connections) == 1
