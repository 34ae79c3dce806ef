"""One request and its JSON answer."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from test_wire import Peer

from device_agent.errors import LinkLost, LinkRefused
from device_agent.post import LARGEST, Post
from device_agent.services import Request


def post(peer: Peer, **body: object) -> Post:
    return Post(Request(f"http://127.0.0.1:{peer.port}/a?b=c", body, {"X-API-Key": "k"}), 5.0)


def answers(body: str, status: str = "201 Created") -> Peer:
    text = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"

    def act(sock: socket.socket) -> None:
        while b"}" not in peer.request:  # the body may come in a packet of its own
            peer.request += sock.recv(4096)
        sock.sendall(text.encode())
        while sock.recv(4096):
            pass

    peer = Peer(act)
    return peer


def test_json_goes_and_json_comes():
    with answers('{"joinUrl": "ws://x"}') as peer:
        assert post(peer, model="m").send() == {"joinUrl": "ws://x"}
        head, _, body = peer.request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /a?b=c HTTP/1.1")
        assert b"X-API-Key: k" in head
        assert json.loads(body) == {"model": "m"}


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        ("401 No", '{"detail": "Invalid API key."}', LinkRefused, "401: Invalid API key."),
        ("402 No", "", LinkRefused, "402"),
        ("500 No", "oops", LinkLost, "500"),
        ("200 OK", "<html>log in", LinkLost, "login page"),
        ("302 Found", "", LinkLost, "login page"),
    ],
)
def test_a_failure_is_one_line(status, body, error, words):
    with answers(body, status) as peer, pytest.raises(error, match=words) as said:
        post(peer).send()
    assert "k" not in str(said.value).replace("k in between", "").split()


def test_an_answer_without_end_is_not_read():
    with answers("x" * (LARGEST + 10)) as peer, pytest.raises(LinkLost, match="more than"):
        post(peer).send()


def test_abort_breaks_out_from_any_thread():
    asked = threading.Event()

    def act(sock: socket.socket) -> None:
        asked.set()
        sock.recv(4096)
        sock.recv(4096)

    with Peer(act) as peer:
        request = post(peer)
        threading.Thread(target=lambda: (asked.wait(5), request.abort()), daemon=True).start()
        with pytest.raises(LinkLost):
            request.send()


def test_nobody_at_home_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LinkLost, match="cannot reach"):
        Post(Request(f"http://127.0.0.1:{port}/", {}), 5.0).send()
