"""What only the LiteLLM proxy does; the rest is in the contract of all sessions."""

from __future__ import annotations

import json

import pytest
from peers import KEY, PEERS, Peer

from device_agent.credentials import Secret
from device_agent.errors import LinkLost, LinkRefused
from device_agent.events import Clip, LinkUp, ReplyEnded, TalkEnded, TalkStarted, TurnReceived
from device_agent.services.litellm import LiteLLM
from device_agent.services.realtime import READY_BY_RULE_S
from device_agent.services.response_timeout import PATIENCE_S, UNTAKEN, WORKING, ResponseTimedOut

PCM = b"\1\0\2\0"
TURN = (TalkStarted(), PCM, TalkEnded())


def test_the_header_of_the_beta_tells_the_dialects_apart():
    grok = LiteLLM(Secret(KEY), model="grok").endpoint(None, "")
    assert grok.headers == {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "realtime=v1"}
    assert grok.url == "ws://localhost:4000/v1/realtime?model=grok"
    assert LiteLLM(Secret(KEY), model="gpt", dialect="openai").endpoint(None, "").headers == {
        "Authorization": f"Bearer {KEY}"
    }


def test_the_settings_are_in_the_dialect_of_the_service_behind_the_alias():
    xai, openai = (PEERS[f"litellm-{dialect}"]().frames()[0]["session"] for dialect in ("xai", "openai"))
    assert (xai["voice"], xai["turn_detection"]) == ("eve", {"type": None})
    assert "resumption" not in xai  # the proxy drops what would be needed to go on
    assert (openai["type"], openai["audio"]["output"]["voice"]) == ("realtime", "marin")


@pytest.mark.parametrize("dialect", ["xai", "openai"])
@pytest.mark.parametrize("greeting", ["session.created", "conversation.created"])
def test_any_greeting_shows_a_service_and_the_settings_may_go_unacknowledged(dialect, greeting):
    peer = Peer("litellm", {"dialect": dialect})
    assert peer.wait(60) == []  # connected is not ready: the proxy may dial in vain
    assert peer.say({"type": greeting}) == []
    assert peer.wait(READY_BY_RULE_S - 0.1) == []
    assert peer.wait(0.2) == [LinkUp()]


def test_json_in_binary_frames_is_read():
    peer = Peer("litellm")
    assert peer.say(b'{"type": "session.updated"}') == [LinkUp()]
    assert peer.say(b'{"type": "input_audio_buffer.committed"}') == [TurnReceived()]


def test_a_clip_is_streamed_and_nothing_is_ever_binary():
    peer = Peer("litellm")
    peer.ready()
    peer.send(Clip(bytes(200_000)))
    assert peer.hears() == bytes(200_000)
    assert [frame["type"] for frame in peer.frames()[-2:]] == ["input_audio_buffer.append", "input_audio_buffer.commit"]
    assert {type(message) for message in peer.sent} == {str}


def test_a_reply_that_the_proxy_asked_for_again_is_not_heard_twice():
    peer = Peer("litellm")
    peer.ready()
    peer.send(*TURN)
    busy = {"type": "error", "error": {"message": "Conversation already has an active response in progress"}}
    assert peer.say(*peer.begins("r1"), busy, *peer.ends("r1")) == [ReplyEnded("r1", silent=True)]
    assert peer.say(*peer.begins("r2"), peer.sounds("r2", PCM), *peer.ends("r2")) == []


def test_an_unknown_alias_is_for_the_owner():
    peer = Peer("litellm")
    peer.say({"type": "error", "error": {"type": "server_error", "message": "Invalid model name passed in model=grk"}})
    error = peer.session.lost(LinkLost("litellm closed the connection with 1011"))
    assert isinstance(error, LinkRefused)
    assert "model=grk" in str(error)


@pytest.mark.parametrize("kind", [LinkLost, LinkRefused])
def test_why_it_hung_up_is_said_by_the_error_before(kind):
    peer = Peer("litellm")
    peer.say({"type": "error", "error": {"type": "server_error", "message": "upstream closed with code 4321"}})
    error = peer.session.lost(kind("litellm closed the connection"))
    assert type(error) is kind
    assert "litellm closed the connection" in str(error)
    assert "4321" in str(error)


def test_a_voice_that_got_lost_between_two_dialects_is_said(caplog):
    peer = Peer("litellm")
    peer.say(json.dumps({"type": "session.updated", "session": {"voice": "ara"}}))
    assert "ara" in caplog.text


def ready_peer() -> Peer:
    peer = Peer("litellm")
    peer.say({"type": "session.updated"})
    assert peer.session.ready
    return peer


def test_a_turn_that_the_service_behind_the_proxy_does_not_take_ends_the_connection():
    """An old proxy whose service is gone answers pings for ever, and nothing else."""
    peer = ready_peer()
    peer.send(*TURN)
    peer.wait(PATIENCE_S * UNTAKEN - 0.5)
    with pytest.raises(LinkLost, match="did not take the turn"):
        peer.wait(1.0)


def test_a_reply_that_was_begun_may_be_thought_about_for_long():
    peer = ready_peer()
    peer.send(*TURN)
    peer.say({"type": "input_audio_buffer.committed", "item_id": "u"}, *peer.begins("r1"))
    assert peer.wait(PATIENCE_S * WORKING - 0.5) == []
    with pytest.raises(ResponseTimedOut, match="said no more"):
        peer.wait(1.0)


def test_where_the_service_ends_turns_a_proxy_with_nobody_behind_it_is_noticed_too():
    peer = Peer("litellm", {"service_ends": True})
    peer.say({"type": "session.updated"})
    peer.send(*TURN)
    with pytest.raises(LinkLost, match="did not take the turn"):
        peer.wait(PATIENCE_S * UNTAKEN + 0.5)


@pytest.mark.parametrize(("status", "error"), [(401, LinkRefused), (429, LinkLost), (500, LinkLost)])
def test_what_the_service_behind_the_proxy_answered_is_understood(status, error):
    said = LinkLost(f"closed with 1011: server rejected WebSocket connection: HTTP {status}")
    judged = Peer("litellm").session.lost(said)
    assert isinstance(judged, error)
    assert str(status) in str(judged)
