"""What only OpenAI wants; the rest is in the contract of all sessions. The judge is OpenAI's own package."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.core.events import (
    AudioTurn,
    LinkUp,
    NoSpeech,
    ReplyEnded,
    ReplyText,
    TalkEnded,
    TalkStarted,
    TextTurn,
    TurnAcknowledged,
)
from device_agent.services.base import HistoryEntry, Session
from device_agent.services.litellm import LiteLLM
from device_agent.services.openai import OpenAI, openai_settings
from device_agent.services.xai import Xai
from tests.support.judge import judge
from tests.support.peers import TIMER, Peer

PCM = b"\1\0\2\0"


def test_it_greets_with_what_the_service_knows_and_not_a_key_more():
    settings = openai_settings(OpenAI(instructions="Be kind.", functions=(TIMER,)))
    pcm = {"type": "audio/pcm", "rate": 24000}
    assert settings == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "Be kind.",
        "audio": {
            "input": {
                "format": pcm,
                "transcription": {"model": "gpt-transcribe"},
                "noise_reduction": {"type": "far_field"},
                "turn_detection": None,
            },
            "output": {"format": pcm, "voice": "marin"},
        },
        "tools": [
            {
                "type": "function",
                "name": "set_timer",
                "description": "Set a timer.",
                "parameters": TIMER.parameters,
            }
        ],
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"service_ends": True, "silence_ms": 500},
        {"text_only": True},
        {"language": "de-AT", "reasoning": "none", "speed": 1.5, "audio": "pcma"},
        {"tools": ({"type": "mcp", "server_label": "home", "server_url": "https://home.example"},)},
    ],
)
def test_the_judge_finds_nothing_wrong_with_our_settings(options):
    (update,) = Peer("openai", options).frames()
    assert judge(update, "client") == []


SAID = [
    TalkStarted(),
    PCM,
    TalkEnded(),
    NoSpeech(),
    TextTurn("x"),
    AudioTurn(PCM),
    CancelReply(),
    ToolResult("c1", "{}"),
]
HEARD = ["begins", "sounds", "calls", "ends"]


@given(st.lists(st.sampled_from(SAID + HEARD), max_size=30), st.booleans())
def test_the_judge_finds_nothing_wrong_with_anything_we_say(deeds, service_ends):
    peer = Peer("openai", {"service_ends": service_ends})
    peer.ready()
    for deed in deeds:
        match deed:
            case "begins" | "ends":
                peer.say(*getattr(peer, deed)("r1"))
            case "sounds":
                peer.say(peer.sounds("r1", PCM))
            case "calls":
                peer.say(*peer.calls("r1", "c1"))
            case _:
                peer.send(deed)
    assert [problem for frame in peer.frames() for problem in judge(frame, "client")] == []


def test_the_judge_finds_nothing_wrong_with_what_we_repeat():
    peer = Peer("openai")
    peer.ready()
    peer.session.recall([HistoryEntry(True, "One?"), HistoryEntry(False, "One.")])
    peer.send()
    peer._collect()
    frames = peer.frames()[1:]
    assert [frame["item"]["content"][0]["type"] for frame in frames] == ["input_text", "output_text"]
    assert [problem for frame in frames for problem in judge(frame, "client")] == []


def test_the_judge_is_strict():
    assert judge({"type": "response.crate"}, "client")
    assert judge({"type": "input_audio_buffer.append", "audio": 3}, "client")
    assert judge({"type": "input_audio_buffer.commit", "comit": True}, "client") == [
        "input_audio_buffer.commit.comit is not declared"
    ]


def test_the_header_of_the_beta_is_never_sent():
    assert OpenAI().endpoint(None, "").headers == {}
    assert OpenAI().endpoint(None, "").url == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"


def told(session: Session, kind: str) -> list[object]:
    return list(session.receive(json.dumps({"type": kind, "session": {}})))


def test_speech_follows_the_settings_as_soon_as_there_is_a_session():
    """The push to talk of OpenAI's package waits no longer either; and where no session is, speech would be lost."""
    session = OpenAI().session()
    session.tick(0.0)
    session.greet()
    assert not session.listens
    assert told(session, "session.created") == []
    assert (session.listens, session.ready) == (True, False)
    session.send(TalkStarted())
    session.send(PCM)
    kinds = [json.loads(message)["type"] for message in session.outgoing()]
    assert kinds == ["session.update", "input_audio_buffer.append"]
    assert told(session, "session.updated") == [LinkUp()]


def test_a_service_that_answers_speech_without_a_word_about_the_settings_is_ready():
    session = OpenAI().session()
    session.tick(0.0)
    session.greet()
    told(session, "session.created")
    assert told(session, "rate_limits.updated") == []
    assert not session.ready
    assert told(session, "input_audio_buffer.committed") == [LinkUp(), TurnAcknowledged()]
    assert told(session, "session.updated") == []


@pytest.mark.parametrize(
    "service", [Xai(), LiteLLM(model="x", dialect="openai"), LiteLLM(model="x", dialect="xai")], ids=repr
)
def test_no_other_service_hears_a_word_before_the_settings_are_confirmed(service):
    session = service.session()
    session.tick(0.0)
    session.greet()
    told(session, "session.created")
    told(session, "conversation.created")
    assert (session.listens, session.ready) == (False, False)
    assert LinkUp() in told(session, "session.updated")


def test_a_reply_in_text_has_no_sound_and_an_end():
    peer = Peer("openai", {"text_only": True})
    assert peer.frames()[0]["session"]["output_modalities"] == ["text"]
    peer.ready()
    peer.send(TextTurn("Hi"))
    peer.say(*peer.begins("r1"))
    assert peer.say({"type": "response.output_text.delta", "response_id": "r1", "delta": "Yes."}, *peer.ends("r1")) == [
        ReplyText("r1", "Yes."),
        ReplyEnded("r1"),
    ]


def test_the_end_of_the_hour_is_a_break():
    with pytest.raises(LinkLost, match="session_expired"):
        Peer("openai").say({"type": "error", "error": {"code": "session_expired", "message": "60 minutes"}})


@pytest.mark.parametrize("code", ["invalid_api_key", "beta_api_shape_disabled", "insufficient_quota"])
def test_some_errors_need_the_owner(code):
    with pytest.raises(LinkRefused, match=code):
        Peer("openai").say({"type": "error", "error": {"code": code, "message": "no"}})
