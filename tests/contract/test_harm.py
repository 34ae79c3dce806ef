"""Malicious messages: they cause no exception and take neither minutes nor memory. Mostly without a thread."""

from __future__ import annotations

import json
import socket
import tracemalloc
from contextlib import closing

import pytest

from device_agent.core.errors import LinkLost
from device_agent.core.events import LinkUp, ReplyText, ServiceError, TalkEnded, TalkStarted
from device_agent.net.http_post import Post
from device_agent.net.models import Request
from device_agent.services.auth import MAX_CREDENTIAL_CHARS, TOKEN_PREFIXES, read_token
from device_agent.services.json_fields import LARGE_MESSAGE_BYTES, MAX_DELTA_CHARS, MAX_JSON_VALUES, event_of
from device_agent.services.registry import load
from tests.support.peers import JOIN, PEERS, Peer
from tests.support.websocket_peer import Peer as Caller

MIB = 1 << 20
HUGE = "1" + 400 * "0"
"""More than a float can hold."""


@pytest.fixture(params=PEERS)
def peer(request) -> Peer:
    peer = PEERS[request.param]()
    assert peer.ready() == [LinkUp()]
    return peer


@pytest.mark.parametrize("value", ["[]", "{}", '""', "1.5", "null", '{"a":{}}', "[[[]]]"])
@pytest.mark.parametrize("kind", [str, bytes])
def test_sixteen_megabytes_of_little_values_do_not_become_objects(value, kind):
    message = '{"type":"session.updated","x":[' + f"{value}," * (16 * MIB // (len(value) + 1) - 10) + "0]}"
    tracemalloc.start()
    found = event_of(message if kind is str else message.encode())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == f"the service sent JSON with more than {MAX_JSON_VALUES} values; ignored"
    assert most < (20 if kind is bytes else 1) * MIB  # for the bytes are made in there, too


@pytest.mark.parametrize(
    "message",
    [
        json.dumps({"type": "x", "delta": "A" * (15 * MIB)}),
        json.dumps({"type": "x", "many": [1] * (MAX_JSON_VALUES - 3), "delta": "A" * LARGE_MESSAGE_BYTES}),
        json.dumps({"type": "x", "many": [1] * (2 * MAX_JSON_VALUES)}),  # it is not large
    ],
)
def test_a_large_message_that_means_something_is_read(message):
    assert event_of(message) == json.loads(message)


def test_the_text_of_a_reply_comes_in_pieces_that_a_thousand_of_can_wait(peer):
    peer.send(TalkStarted(), b"\1\0" * 480, TalkEnded())
    peer.wait(0.1)
    peer.say(*peer.takes_turn(), *peer.begins("r1"))
    said = [event for event in peer.say(peer.writes("r1", "x" * MIB)) if isinstance(event, ReplyText)]
    assert [len(each.text) for each in said] == [MAX_DELTA_CHARS]


@pytest.mark.parametrize(
    ("said", "heard"), [("\ud83d\ude00", "\U0001f600"), ("a\ud83d", "a\ufffd"), ("\ude00ä", "\ufffdä")]
)
def test_half_a_letter_can_be_written_down(peer, said, heard):
    peer.send(TalkStarted(), b"\1\0" * 480, TalkEnded())
    peer.wait(0.1)
    peer.say(*peer.takes_turn(), *peer.begins("r1"))
    (told,) = [event for event in peer.say(peer.writes("r1", said)) if isinstance(event, ReplyText)]
    assert told.text == heard


@pytest.mark.parametrize("value", [HUGE, f"-{HUGE}", "NaN", "Infinity", "1e999", "true", '"x"', "[]", "9" * 4300])
def test_a_number_that_is_none_ends_nothing(peer, value):
    told = peer.say(
        f'{{"type":"session.created","session":{{"expires_at":{value}}}}}',
        f'{{"type":"session.updated","session":{{"expires_at":{value}}}}}',
        f'{{"type":"transcript","role":"agent","ordinal":{value},"text":"a","final":true}}',
        '{"type":"transcript","role":"user","text":"a"}',
        '{"type":"transcript","role":"agent","delta":"b","final":true}',
    )
    assert not [each for each in told if isinstance(each, ServiceError)]
    peer.wait(0.1)


@pytest.mark.parametrize(
    "url", ["wss://[", "wss://a\u2100b/", "wss:///x", "wss://", "wss://h/" + "x" * MAX_CREDENTIAL_CHARS, "https://h/"]
)
def test_an_invitation_to_nowhere_is_said_to_be_none(url):
    with pytest.raises(LinkLost, match="no address to join"):
        load("ultravox")().endpoint({"joinUrl": url}, "")
    assert load("ultravox")().endpoint({"joinUrl": JOIN}, "").url == JOIN


def test_a_token_that_is_all_prefixes_is_none():
    with pytest.raises(LinkLost, match="no token"):
        read_token({"value": TOKEN_PREFIXES[0] * 50_000})


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("HTTP/1.1 302 Found\r\nLocation: //[\r\n", "is there a login page in between"),
        ("HTTP/1.1 302 Found\r\nLocation: http://a\u2100b/\r\n", "is there a login page in between"),
        ("HTTP/1.1 429 Slowly\r\nRetry-After: \u00b2\r\n", "answered 429"),
        ("HTTP/1.1 429 Slowly\r\nRetry-After: " + "9" * 5000 + "\r\n", "answered 429"),
    ],
)
@pytest.mark.parametrize("asked", ["by wire", "by post"])
def test_a_head_that_makes_no_sense_is_a_connection_that_did_not_come_about(head, words, asked):
    def act(sock: socket.socket) -> None:
        sock.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())

    with Caller(act) as caller, pytest.raises(LinkLost, match=words):
        if asked == "by wire":
            with closing(caller.wire()) as wire:
                wire.open()
        else:
            Post(Request(f"http://127.0.0.1:{caller.port}/", {}), 5.0).send()
