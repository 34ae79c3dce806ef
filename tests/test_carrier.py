"""What goes over one connection: in which order, and in which pieces."""

from __future__ import annotations

import json
import socket
from contextlib import closing

from test_wire import Peer, frame

from device_agent.audio import frame_bytes
from device_agent.carrier import PIECE, Carrier, in_pieces
from device_agent.events import LinkUp, ReplyAudio, ReplyEnded, ReplyStarted, TalkStarted
from device_agent.outbox import Outbox
from device_agent.playback import Playback
from device_agent.recall import Recall
from device_agent.services import Endpoint
from device_agent.services.openai import OpenAI
from device_agent.wire import Wire

NOW = 1_790_000_000.0


def test_a_piece_of_a_reply_that_is_too_long_is_cut_up_and_nothing_else_is():
    pcm = bytes(range(256)) * (5 * PIECE // 512)
    begun, short, ended = ReplyStarted("r"), ReplyAudio("r", pcm[:PIECE]), ReplyEnded("r")
    pieces = list(in_pieces([begun, ReplyAudio("r", pcm), short, ended]))
    assert pieces[0] is begun
    assert [len(each.pcm) for each in pieces[1:5]] == [PIECE, PIECE, PIECE // 2, PIECE]
    assert b"".join(each.pcm for each in pieces[1:4]) == pcm
    assert pieces[4:] == [short, ended]


def test_speech_that_waits_goes_up_behind_the_settings_and_not_after_their_confirmation():
    """Who is at the other end confirms nothing before it has heard the last of it."""
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
    with Peer(act) as peer, closing(outbox), closing(Wire(Endpoint("it", f"ws://127.0.0.1:{peer.port}/"))) as wire:
        wire.open()
        playback, recall = Playback(24000), Recall(24000)
        session = OpenAI().session()
        carrier = Carrier(wire, session, outbox, playback, recall, told.append, lambda: None, patience=4.0)
        carrier.greet(lambda: True)
        assert told == [LinkUp()]
        assert carrier.expires_at == expires
