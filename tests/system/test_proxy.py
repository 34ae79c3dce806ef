"""The whole agent behind the real LiteLLM proxy, and behind that our simulators: what releases do, not what we think.

The recent release says why it hangs up, and mirrors close codes. The older one sends JSON in binary frames, says
nothing of an unknown alias, stays connected when the service behind it has gone, and asks OpenAI for the beta protocol
that is no more.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from device_agent.config.model import ToolConfig
from device_agent.core.conversation import DEFAULT_PATIENCE_S
from device_agent.core.events import (
    Announcement,
    InterruptConfirmed,
    LinkDown,
    LinkIdle,
    PlaybackEnded,
    PlaybackStarted,
    Refused,
    ReplyText,
    ServiceError,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    UserText,
)
from device_agent.net.http_errors import BUSY_RETRY_S
from device_agent.simulator import Simulator
from device_agent.simulator.services.openai import Openai
from tests.support.proxy import MODELS, RELEASES, Proxy, keyless
from tests.support.room import Room, speech

pytestmark = pytest.mark.proxy

RECENT, OLDER = RELEASES
QUICK = {"think_s": 0.05, "pace": 16}


@pytest.fixture(scope="module", params=RELEASES)
def proxy(request, tmp_path_factory) -> Iterator[Proxy]:
    with Proxy(request.param, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(params=MODELS)
def dialect(request) -> str:
    return request.param


@pytest.fixture
def lenient(monkeypatch) -> None:
    """A server in the shape of OpenAI, that does not mind to be asked for the beta: some run their own."""
    strict = Openai._realtime

    def ignore_beta(self: Openai, asked: Any, *others: Any) -> Any:
        headers = {name: value for name, value in asked.headers.items() if name != "openai-beta"}
        return strict(self, replace(asked, headers=headers), *others)

    monkeypatch.setattr(Openai, "_realtime", ignore_beta)


@pytest.fixture
def behind(proxy, dialect, lenient) -> Iterator[Simulator]:
    """The service behind the alias."""
    with proxy.upstream(dialect, **QUICK) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Let the agent wait for what will not come no longer than a test wants to."""
    for part in ("ACCEPT_PART", "QUICK_START_PART", "SLOW_START_PART"):
        monkeypatch.setattr(f"device_agent.services.response_timeout.{part}", 2.0 / DEFAULT_PATIENCE_S)
    monkeypatch.setattr("device_agent.audio.playback_buffer.REPLY_STARVED_S", 2.0)


def room(proxy: Proxy, dialect: str, *, key: str | None = None, model: str | None = None, **parts: Any) -> Room:
    """A room whose device is set up for the alias of *dialect*."""
    service = proxy.service(dialect, **({"model": model} if model else {}))
    return Room(service=service, key=key or proxy.key, **parts)


def test_a_spoken_question_gets_a_spoken_answer(proxy, dialect, behind):
    with room(proxy, dialect) as agent:
        said = agent.ask()
        agent.happened(PlaybackEnded)
        (turn,) = behind.heard()
        assert said in turn.pcm
        assert agent.speaker.heard == turn.pcm
        assert [text.text for text in agent.all(UserText) if text.final] == ["(1.2 seconds of speech)"]
        assert agent.all(ReplyText)
        assert agent.all(ServiceError) == []
        settings = behind.connections[0].settings
        assert settings["instructions"].startswith("You are a helpful voice")
        assert settings.get("voice") == "eve" or settings["audio"]["output"]["voice"] == "marin"


def test_a_transcript_makes_the_proxy_ask_for_nothing(proxy, dialect, behind):
    """Releases up to 1.106.2 asked for a reply of their own; ``test_litellm`` has what becomes of it."""
    transcript = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "?"}
    with room(proxy, dialect) as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        transcripts = len(agent.all(UserText))
        behind.inject(json.dumps({**transcript, "content_index": 0, "status": "completed"}))
        agent.happened(UserText, transcripts + 1)
        agent.ask(speech() * 2)
        agent.happened(PlaybackEnded, 2)
        assert agent.speaker.heard == b"".join(turn.pcm for turn in behind.heard(turns=2))
        asked = 0 if dialect == "xai" else 2  # xAI answers what is committed
        assert behind.connections[0].types.count("response.create") == asked
        assert behind.connections[0].replies == 2


def test_what_the_service_behind_the_proxy_is_told_arrives_there(proxy, dialect, behind):
    service = replace(proxy.service(dialect), language="de-AT", reasoning="high", speed=1.25, audio="pcmu")
    with Room(service=service, key=proxy.key, rate=8000) as agent:
        agent.ask(agent.speech)
        agent.happened(PlaybackEnded)
        assert agent.hears(agent.speech) > 0.9
        assert agent.all(ServiceError) == []
    settings = behind.connections[0].settings
    heard = settings["audio"]["input"]
    assert heard["format"]["type"] == "audio/pcmu"
    hint = {"language_hint": "de-AT"} if dialect == "xai" else {"languages": ["de"]}
    assert hint.items() <= heard["transcription"].items()
    assert settings["audio"]["output"]["speed"] == 1.25
    assert settings["reasoning"] == {"effort": "high"}


def test_an_announcement_is_said_word_for_word_by_xai_behind_the_proxy(proxy, dialect, behind):
    with room(proxy, dialect) as agent:
        agent.agent.tell(Announcement("Say: Dinner is ready.", "Dinner is ready."))
        agent.happened(PlaybackEnded)
        said = "".join(text.text for text in agent.all(ReplyText))
        assert said == ("Dinner is ready." if dialect == "xai" else said)
        assert [turn.text for turn in behind.turns] == ([] if dialect == "xai" else ["Say: Dinner is ready."])


def test_a_typed_question_gets_a_spoken_answer(proxy, dialect, behind):
    with room(proxy, dialect) as agent:
        agent.agent.tell(TextTurn("What time is it?"))
        agent.happened(PlaybackEnded)
        assert behind.heard()[0].text == "What time is it?"
        assert agent.speaker.heard


def test_a_press_during_a_reply_cuts_it_and_begins_a_turn(proxy, dialect, behind):
    with room(proxy, dialect) as agent:
        agent.ask(speech() * 3)
        agent.happened(PlaybackStarted)
        agent.finger.press()
        agent.happened(InterruptConfirmed)
        agent.microphone.say(speech())
        agent.microphone.wait_until_said()
        agent.finger.release()
        agent.happened(PlaybackEnded)
        first, second = behind.heard(turns=2)
        assert len(agent.speaker.heard) < len(first.pcm) + len(second.pcm)
        assert agent.speaker.heard.endswith(second.pcm[-9600:])
        assert agent.hears(second.pcm) > 0.999


def test_the_assistant_uses_a_tool_of_the_device(proxy, dialect, lenient):
    add = "import json, sys; a = json.load(sys.stdin); print(json.dumps({'sum': a['x'] + a['y']}))"
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}
    tool = ToolConfig("add", "Adds.", (sys.executable, "-c", add), schema)
    with proxy.upstream(dialect, tool="add", tool_arguments='{"x": 2, "y": 3}', **QUICK) as behind:
        with room(proxy, dialect, tools=(tool,)) as agent:
            agent.ask()
            assert json.loads(agent.happened(ToolCall).arguments) == {"x": 2, "y": 3}
            agent.see("ready", times=2)
            (heard,) = behind.connections
            outputs = [event["item"]["output"] for event in heard.events if event["type"] == "conversation.item.create"]
            assert [json.loads(output) for output in outputs] == [{"sum": 5}]


def test_after_some_quiet_it_hangs_up_and_calls_again(proxy, dialect, behind):
    with room(proxy, dialect, idle_s=0.3) as agent:
        agent.ask()
        agent.happened(LinkIdle)
        assert behind.wait_for(lambda: behind.connections[0].ended)
        agent.ask()
        agent.happened(PlaybackEnded, 2)
        assert len(behind.connections) == 2


def test_a_wrong_key_is_refused_and_said_once(proxy, dialect, behind, caplog):
    with room(proxy, dialect, key="sk-wrong") as agent:
        agent.ask()
        assert "403" in agent.happened(Refused).reason
        agent.ask()
        agent.happened(Refused, 2)
        agent.see("refused", 2)
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert "sk-wrong" not in caplog.text
    assert behind.connections == []


def test_an_unknown_alias_is_told_as_far_as_the_proxy_tells_it(proxy, dialect, behind):
    with room(proxy, dialect, model="no-such-alias") as agent:
        agent.ask()
        told = agent.happened(Refused if proxy.release == RECENT else LinkDown)
        assert "is service.model one of its aliases" in told.reason
        assert "no-such-alias" in told.reason or proxy.release == OLDER
    assert behind.connections == []


def test_a_proxy_without_a_key_for_the_service_refuses_as_far_as_it_tells(proxy, dialect, behind):
    with room(proxy, dialect, model=keyless(dialect)) as agent:
        agent.ask()
        told = agent.happened(Refused if proxy.release == RECENT else LinkDown)
        if proxy.release == RECENT:
            assert "the proxy has no key for the service behind it; is there one in its model_list?" in told.reason
            assert agent.all(LinkDown) == []
        else:
            assert "with a key in its model_list?" in told.reason
    assert behind.connections == []


def test_a_turn_waits_while_no_service_listens_behind_the_proxy(proxy, dialect, lenient):
    with room(proxy, dialect) as agent:
        said = agent.ask()
        assert "1011" in (reason := agent.happened(LinkDown).reason)
        assert "the proxy cannot reach the service behind it" in reason
        with proxy.upstream(dialect, **QUICK) as behind:
            agent.happened(PlaybackEnded)
            assert said in behind.heard()[0].pcm


def test_a_turn_waits_while_the_service_behind_the_proxy_is_mute(proxy, dialect, behind):
    """The proxy takes us in and answers our pings, and gives its own dial up after 10 s."""
    behind.fault("hang-handshake")
    with Room(service=replace(proxy.service(dialect), patience_s=24.0), key=proxy.key) as agent:
        said = agent.ask()
        assert "timed out during opening handshake" in agent.happened(LinkDown).reason
        behind.fault("hang-handshake", False)
        agent.happened(PlaybackEnded)
        assert said in behind.heard()[0].pcm


def test_a_proxy_whose_own_key_is_refused_refuses(proxy, dialect, lenient):
    with proxy.upstream(dialect, key="another"), room(proxy, dialect) as agent:
        agent.ask()
        assert agent.happened(Refused).reason.startswith("the service behind the proxy answered 401; are its key")


def test_a_service_that_is_busy_behind_the_proxy_is_left_in_peace(proxy, dialect, behind):
    behind.refuse(429)
    with room(proxy, dialect) as agent:
        agent.ask()
        assert agent.happened(LinkDown).retry_in >= BUSY_RETRY_S


@pytest.mark.parametrize("typed", [False, True], ids=["spoken", "typed"])
def test_after_the_service_has_gone_the_next_turn_is_answered(proxy, dialect, behind, impatient, typed):
    with room(proxy, dialect) as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        behind.goodbye(4321, "moved")
        if proxy.release == RECENT:
            agent.happened(LinkIdle)
        assert behind.wait_for(lambda: behind.connections[0].ended)
        if typed:
            agent.agent.tell(TextTurn("Still there?"))
        else:
            agent.ask()
        agent.happened(PlaybackEnded, 2)
        assert len(behind.connections) == 2
        assert len(behind.connections[1].turns) == 1
        downs = [down.reason for down in agent.all(LinkDown)]
        untaken = "the service behind the proxy did not accept the turn within 2 s"
        assert downs == ([] if proxy.release == RECENT else [untaken])


def test_a_service_that_goes_in_the_middle_of_a_reply_ends_the_reply(proxy, dialect, behind, impatient):
    behind.fault("slow")
    with room(proxy, dialect) as agent:
        agent.ask(speech() * 3)
        agent.happened(PlaybackStarted)
        behind.goodbye(4321, "moved")
        behind.heal()
        agent.happened(PlaybackEnded)
        agent.see("ready", times=2)
        agent.ask()
        agent.happened(PlaybackEnded, 2)
        assert agent.hears(behind.heard(turns=2)[1].pcm) > 0.999


def test_a_service_that_goes_before_the_answer_costs_no_more_than_patience(proxy, dialect, behind, monkeypatch):
    """Where the proxy tells it, the turn is asked again at once; where not, when no reply has begun for long."""
    for part in ("ACCEPT_PART", "QUICK_START_PART", "SLOW_START_PART"):
        monkeypatch.setattr(f"device_agent.services.response_timeout.{part}", 3.0 / DEFAULT_PATIENCE_S)
    behind.fault("silent")
    with room(proxy, dialect) as agent:
        said = agent.ask()
        agent.happened(TurnAcknowledged)
        behind.heal()
        behind.goodbye(4321, "moved")
        why = "4321: moved" if proxy.release == RECENT else "began no reply within 3 s"
        assert why in agent.happened(LinkDown).reason
        agent.happened(PlaybackEnded)
        assert said in behind.heard(turns=2)[1].pcm


def test_what_asks_openai_for_the_beta_is_refused_in_words_that_help(proxy):
    """The older release always asks; the recent one when the configuration names the wrong dialect."""
    alias = proxy.service("openai").model
    with proxy.upstream("openai"), room(proxy, "xai" if proxy.release == RECENT else "openai", model=alias) as agent:
        agent.ask()
        assert "is service.dialect right?" in agent.happened(Refused).reason


def test_the_keys_are_never_told(proxy, dialect, behind, caplog):
    caplog.set_level(logging.DEBUG)
    with room(proxy, dialect) as agent:
        agent.ask()
        agent.happened(PlaybackEnded)
        told = caplog.text + repr(agent.words)
    assert not [key for key in (proxy.key, proxy._upstream_key) if key in told], "a key was told"
