"""What only the older xAI service does; the rest is in the contract of all sessions.

No other client or server for it is known: these tests hold us to the vendor's document and to our own rules.
"""

from __future__ import annotations

import base64
import json
import logging

import pytest

from device_agent.core.actions import CancelReply
from device_agent.core.errors import LinkClosed, LinkLost, LinkRefused
from device_agent.core.events import (
    LinkUp,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    TalkEnded,
    TalkStarted,
    TurnEndedByService,
)
from device_agent.services.realtime_session import READY_WITHOUT_ACK_S
from device_agent.services.response_timeout import ResponseTimedOut
from device_agent.services.xai_live import (
    KEY_REFUSAL_S,
    READY_WITHOUT_GREETING_S,
    REPLY_END_SILENCE_S,
    XaiLive,
)
from tests.support.peers import KEY, Peer

PCM = b"\1\0\2\0"
TURN = (TalkStarted(), PCM, TalkEnded())
DELTA = {"type": "response.audio.delta", "delta": base64.b64encode(PCM).decode()}
TEXT = {"type": "response.audio_transcript.delta", "delta": "Yes."}


@pytest.fixture
def peer() -> Peer:
    peer = Peer("xai-live")
    peer.ready()
    return peer


def closed(code: int, reason: str = "") -> LinkClosed:
    return LinkClosed(f"closed with {code}", code=code, reason=reason)


def test_what_breaks_before_the_first_word_is_no_refusal_and_neither_is_silence():
    peer = Peer("xai-live")
    error = LinkLost("sending failed")
    assert peer.session.lost(error) is error
    mute = ResponseTimedOut("it says nothing")
    assert peer.session.lost(mute) is mute


def kinds(messages: list) -> list[str]:
    return [json.loads(message)["type"] for message in messages]


def test_the_key_goes_first_and_nowhere_else(caplog):
    caplog.set_level(logging.DEBUG)
    peer = Peer("xai-live")
    peer.ready()
    auth, update = peer.frames()
    assert auth == {"type": "auth", "api_key": KEY}
    assert update == {
        "type": "session.update",
        "session": {
            "model": "grok-3-live",
            "voice": "alloy",
            "instructions": "",
            "turn_detection": None,
            "tools": update["session"]["tools"],
        },
    }
    assert XaiLive().endpoint(None, "").headers == {}
    assert KEY not in caplog.text + repr(peer.session) + repr(vars(peer.session))


def test_silence_means_ready():
    peer = Peer("xai-live")
    assert peer.wait(READY_WITHOUT_GREETING_S - 0.1) == []
    assert peer.wait(0.2) == [LinkUp()]


def test_a_service_that_greets_is_waited_for():
    peer = Peer("xai-live")
    peer.say({"type": "session.created"})
    assert peer.wait(READY_WITHOUT_GREETING_S + 1) == []
    assert peer.say({"type": "session.updated"}) == [LinkUp()]
    silent = Peer("xai-live")
    silent.say({"type": "session.created"})
    assert silent.wait(READY_WITHOUT_ACK_S + 0.1) == [LinkUp()]


@pytest.mark.parametrize("error", ["bad key", {"message": "bad key"}])
def test_an_error_before_anything_else_is_about_the_key(error):
    with pytest.raises(LinkRefused, match="bad key"):
        Peer("xai-live").say({"type": "error", "error": error})


def test_an_error_before_anything_else_that_says_busy_is_busy():
    with pytest.raises(LinkLost, match="try again in 20s") as lost:
        Peer("xai-live").say({"type": "error", "error": {"message": "rate limit: try again in 20s"}})
    assert lost.value.retry_after == 20.0


@pytest.mark.parametrize("code", [1000, 1008, 4001])
def test_a_close_before_anything_else_is_about_the_key(code):
    peer = Peer("xai-live")
    assert isinstance(peer.session.lost(closed(code)), LinkRefused)
    peer.wait(KEY_REFUSAL_S + 1)
    assert isinstance(peer.session.lost(closed(1000)), LinkLost)


def test_a_close_before_anything_else_that_says_busy_is_busy():
    judged = Peer("xai-live").session.lost(closed(1013))
    assert isinstance(judged, LinkLost)
    assert judged.retry_after


def test_a_close_after_something_is_a_break(peer):
    peer.say({"type": "input_audio_buffer.speech_started"})
    assert isinstance(peer.session.lost(closed(1008)), LinkLost)


def test_a_reply_is_over_when_no_more_of_it_comes(peer):
    peer.send(*TURN)
    (started, audio) = peer.say(DELTA)
    assert (type(started), type(audio)) == (ReplyStarted, ReplyAudio)
    assert peer.wait(REPLY_END_SILENCE_S - 0.1) == []
    assert peer.say(TEXT) == [ReplyText(started.reply, "Yes.")]
    assert peer.wait(REPLY_END_SILENCE_S - 0.1) == []
    assert peer.wait(0.2) == [ReplyEnded(started.reply)]
    assert peer.session.deadline is None


@pytest.mark.parametrize("end", ["response.done", "response.audio.done"])
def test_a_reply_is_over_when_the_service_says_so_after_all(peer, end):
    peer.send(*TURN)
    (started, _) = peer.say(DELTA)
    assert peer.say({"type": end}) == [ReplyEnded(started.reply)]
    assert peer.say({"type": "response.done"}) == []
    assert peer.wait(5) == []


def test_a_reply_that_goes_on_after_a_long_pause_is_heard(peer):
    peer.send(*TURN)
    peer.say(DELTA)
    peer.wait(REPLY_END_SILENCE_S + 1)
    (again, _) = peer.say(DELTA)
    assert isinstance(again, ReplyStarted)


def test_a_cancelled_reply_that_flows_on_does_not_become_the_next_one(peer):
    peer.send(*TURN)
    peer.say(DELTA)
    peer.send(CancelReply())
    assert kinds(peer.send(*TURN)) == ["input_audio_buffer.append", "input_audio_buffer.commit"]
    for _ in range(5):
        assert peer.say(DELTA) == []
        assert peer.wait(1.0) == []
    peer.wait(REPLY_END_SILENCE_S)
    assert kinds(peer.sent[-1:]) == ["response.create"]
    assert isinstance(peer.say(DELTA)[0], ReplyStarted)


def test_when_the_service_ends_turns_what_follows_is_the_answer():
    peer = Peer("xai-live", {"service_ends": True, "silence_ms": 500})
    assert peer.frames()[1]["session"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "silence_duration_ms": 500,
    }
    peer.ready()
    peer.send(*TURN)
    assert peer.say({"type": "input_audio_buffer.speech_stopped"}) == [TurnEndedByService()]
    peer.say(DELTA)
    peer.send(CancelReply())
    assert peer.say(DELTA) == []
    peer.send(*TURN)
    assert peer.say({"type": "input_audio_buffer.speech_stopped"}) == [TurnEndedByService()]
    assert isinstance(peer.say(DELTA)[0], ReplyStarted)
