"""What only the LiteLLM proxy does; the rest is in the contract of all sessions."""

from __future__ import annotations

import json

import pytest

from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.core.events import AudioTurn, LinkUp, ReplyEnded, TalkEnded, TalkStarted, TurnAcknowledged
from device_agent.core.redaction import Secret
from device_agent.services.litellm import LiteLLM
from device_agent.services.realtime_session import READY_WITHOUT_ACK_S
from device_agent.services.response_timeout import (
    ACCEPT_PART,
    DEFAULT_PATIENCE_S,
    PROGRESS_PART,
    ResponseTimedOut,
)
from tests.support.peers import KEY, PEERS, Peer

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
    assert peer.wait(READY_WITHOUT_ACK_S - 0.1) == []
    assert peer.wait(0.2) == [LinkUp()]


def test_json_in_binary_frames_is_read():
    peer = Peer("litellm")
    assert peer.say(b'{"type": "session.updated"}') == [LinkUp()]
    assert peer.say(b'{"type": "input_audio_buffer.committed"}') == [TurnAcknowledged()]


def test_a_clip_is_streamed_and_nothing_is_ever_binary():
    peer = Peer("litellm")
    peer.ready()
    peer.send(AudioTurn(bytes(200_000)))
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


MISCONFIGURED = {
    "400: {'error': '_arealtime: Invalid model name passed in model=grk. Call": "its aliases?",
    "api_key is required for OpenAI realtime calls": "the proxy has no key for the service behind it",
    "You passed in model=grk. There are no healthy deployments for this model": "no usable entry for this alias",
    "Unsupported model: claude-3": "the proxy does not support realtime for the model of this alias",
}
"""What release 1.108.7 says, in an error and once more in its goodbye -> what the owner reads."""


@pytest.mark.parametrize("said", MISCONFIGURED)
@pytest.mark.parametrize("told", ["both", "error", "goodbye"])
def test_what_is_wrong_with_the_proxy_is_for_its_owner(said, told):
    peer = Peer("litellm")
    if told != "goodbye":
        peer.say({"type": "error", "error": {"type": "server_error", "message": said}})
    error = peer.session.lost(
        LinkLost(f"litellm closed the connection with 1011{'' if told == 'error' else ': ' + said}")
    )
    assert isinstance(error, LinkRefused)
    assert MISCONFIGURED[said] in str(error)
    assert said in str(error)


def test_where_the_proxy_reaches_no_service_it_is_tried_again():
    error = Peer("litellm").session.lost(
        LinkLost("litellm closed with 1011: Internal server error: [Errno 111] refused")
    )
    assert isinstance(error, LinkLost)
    assert "is that service running" in str(error)
    assert "aliases" not in str(error)


def test_a_proxy_that_hangs_up_without_a_word_may_lack_the_alias_or_its_key():
    error = Peer("litellm").session.lost(LinkLost("the connection broke", retry_after=7.0))
    assert isinstance(error, LinkLost)
    assert error.retry_after == 7.0
    assert "is service.model one of its aliases, with a key in its model_list?" in str(error)


def test_what_ends_a_session_that_had_worked_says_nothing_about_the_settings_of_the_proxy():
    error = ready_peer().session.lost(LinkLost("closed with 1011: api_key is required for OpenAI realtime calls"))
    assert isinstance(error, LinkLost)
    assert "model_list" not in str(error)


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
    peer.wait(DEFAULT_PATIENCE_S * ACCEPT_PART - 0.5)
    with pytest.raises(LinkLost, match="did not accept the turn"):
        peer.wait(1.0)


def test_a_reply_that_was_begun_may_be_thought_about_for_long():
    peer = ready_peer()
    peer.send(*TURN)
    peer.say({"type": "input_audio_buffer.committed", "item_id": "u"}, *peer.begins("r1"))
    assert peer.wait(DEFAULT_PATIENCE_S * PROGRESS_PART - 0.5) == []
    with pytest.raises(ResponseTimedOut, match="sent no more"):
        peer.wait(1.0)


def test_a_proxy_without_a_service_behind_it_is_noticed_where_the_service_ends_turns_too():
    peer = Peer("litellm", {"service_ends": True})
    peer.say({"type": "session.updated"})
    peer.send(*TURN)
    with pytest.raises(LinkLost, match="did not accept the turn"):
        peer.wait(DEFAULT_PATIENCE_S * ACCEPT_PART + 0.5)


ANSWERED = [
    *[
        (status, LinkRefused, "are its key and model right in the proxy's model_list?")
        for status in (400, 401, 403, 404)
    ],
    (429, LinkLost, ""),
    (500, LinkLost, ""),
    (503, LinkLost, ""),
]


@pytest.mark.parametrize("words", ["server rejected WebSocket connection", "Upstream realtime handshake rejected with"])
@pytest.mark.parametrize(("status", "error", "hint"), ANSWERED)
def test_what_the_service_behind_the_proxy_answered_is_understood(words, status, error, hint):
    said = LinkLost(f"closed with 1011: {words}: HTTP {status}")
    judged = Peer("litellm").session.lost(said)
    assert isinstance(judged, error)
    assert f"the service behind the proxy answered {status}" in str(judged)
    assert hint in str(judged)
