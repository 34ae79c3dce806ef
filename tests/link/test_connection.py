"""What goes over one connection: in which order, and in which pieces."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import closing, suppress

import pytest

from device_agent.audio.playback_buffer import PlaybackBuffer
from device_agent.core.events import LinkUp, ReplyAudio, ReplyEnded, ReplyStarted, TalkStarted, TextTurn
from device_agent.dsp.pcm import frame_bytes
from device_agent.link.connection import MAX_AUDIO_PIECE_BYTES, Connection, DeviceSide, in_pieces
from device_agent.link.history import History
from device_agent.link.outbox import Outbox
from device_agent.net.models import Endpoint
from device_agent.net.websocket import WebSocket
from device_agent.services.openai import OpenAI
from tests.support.websocket_peer import Peer, frame

NOW = 1_790_000_000.0


def test_a_piece_of_a_reply_that_is_too_long_is_cut_up_and_nothing_else_is():
    pcm = bytes(range(256)) * (5 * MAX_AUDIO_PIECE_BYTES // 512)
    begun, short, ended = ReplyStarted("r"), ReplyAudio("r", pcm[:MAX_AUDIO_PIECE_BYTES]), ReplyEnded("r")
    pieces = list(in_pieces([begun, ReplyAudio("r", pcm), short, ended]))
    assert pieces[0] is begun
    assert [len(each.pcm) for each in pieces[1:5]] == [
        MAX_AUDIO_PIECE_BYTES,
        MAX_AUDIO_PIECE_BYTES,
        MAX_AUDIO_PIECE_BYTES // 2,
        MAX_AUDIO_PIECE_BYTES,
    ]
    assert b"".join(each.pcm for each in pieces[1:4]) == pcm
    assert pieces[4:] == [short, ended]


def test_speech_that_waits_goes_up_behind_the_settings_and_not_after_their_confirmation():
    """The peer confirms nothing before it has heard the last of the speech."""
    frames = [bytes([n]) * frame_bytes(24000) for n in range(30)]
    expires = NOW * 2

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        sock.sendall(frame(1, json.dumps({"type": "session.created", "session": {}}).encode()))
        heard = b""
        while len(heard) < sum(len(each) for each in frames):
            heard += sock.recv(65536)
        sock.sendall(frame(1, json.dumps({"type": "session.updated", "session": {"expires_at": expires}}).encode()))
        while sock.recv(4096):
            pass

    outbox, told = Outbox(1 << 20), []
    for item in (TalkStarted(), *frames):
        outbox.put(item)
    with Peer(act) as peer, closing(outbox), closing(WebSocket(Endpoint("it", f"ws://127.0.0.1:{peer.port}/"))) as wire:
        wire.open()
        playback, recall = PlaybackBuffer(24000), History(24000)
        session = OpenAI().session()
        device = DeviceSide(24000, outbox, playback, recall, told.append, lambda: None, lambda: False)
        carrier = Connection(wire, session, device, 24000, greeting_s=4.0)
        carrier.greet(lambda: True)
        assert told == [LinkUp()]
        assert carrier.expires_at == expires


@pytest.mark.slow
def test_pings_are_answered_while_ten_minutes_of_a_reply_are_unheard():
    """Servers on uvicorn or the library websockets hang up after 40 s without a pong."""
    second, answered = base64.b64encode(bytes(48000)).decode(), []

    def say(sock: socket.socket, kind: str, **fields: object) -> None:
        sock.sendall(frame(1, json.dumps({"type": kind, **fields}).encode()))

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        say(sock, "session.created", session={})
        say(sock, "session.updated", session={})
        heard = b""
        while b"response.create" not in unmasked(heard):
            heard += sock.recv(65536)
        say(sock, "response.created", response={"id": "r"})
        for _ in range(600):
            say(sock, "response.output_audio.delta", response_id="r", item_id="i", delta=second)
        sock.sendall(frame(9, b"there?"))
        rest = b""
        while b"there?" not in unmasked(rest):
            rest += sock.recv(65536)
        answered.append(True)
        with suppress(OSError):
            while sock.recv(4096):
                pass

    outbox, told = Outbox(1 << 20), []
    outbox.put(TextTurn("Tell me a long story."))
    with Peer(act) as peer, closing(outbox), closing(WebSocket(Endpoint("it", f"ws://127.0.0.1:{peer.port}/"))) as wire:
        wire.open()
        playback = PlaybackBuffer(24000)  # nothing is read from it
        device = DeviceSide(24000, outbox, playback, History(24000), told.append, lambda: None, lambda: False)
        carrier = Connection(wire, OpenAI().session(), device, 24000, greeting_s=4.0)
        carrier.greet(lambda: True)
        carrier.run(lambda: not answered)
        assert answered
        assert not playback.quiet


def unmasked(sent: bytes) -> bytes:
    """Return the payloads of whole frames of a client."""
    payloads = b""
    while len(sent) >= 2:
        size, at = sent[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(sent[2:4], "big"), 4
        if len(sent) < at + 4 + size:
            break
        mask, payload = sent[at : at + 4], sent[at + 4 : at + 4 + size]
        payloads += bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        sent = sent[at + 4 + size :]
    return payloads
