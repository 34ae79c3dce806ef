"""One request and its JSON answer."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.net.http_post import MAX_ANSWER_BYTES, Post
from device_agent.net.models import Request
from tests.support.websocket_peer import Peer, trickles


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
    with answers("x" * (MAX_ANSWER_BYTES + 10)) as peer, pytest.raises(LinkLost, match="more than"):
        post(peer).send()


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
    ],
)
def test_an_answer_that_trickles_is_given_up(beginning):
    with Peer(trickles(beginning)) as peer, pytest.raises(LinkLost, match=r"127.0.0.1 did not answer within 0.3 s"):
        Post(Request(f"http://127.0.0.1:{peer.port}/", {}), 0.3).send()


@pytest.mark.parametrize(
    "answer", [b"", b"\r\n", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\n: " + 99999 * b"x"]
)
def test_what_is_no_answer_is_told(answer):
    with Peer(lambda sock: sock.sendall(answer)) as peer, pytest.raises(LinkLost, match="HTTP"):
        Post(Request(f"http://127.0.0.1:{peer.port}/", {}), 20.0).send()


def test_a_key_that_comes_back_is_not_told():
    key = "sk-proj-0123456789"
    with answers(json.dumps({"detail": f"Received {key},\nwhich is wrong {{}}"}), "401 No") as peer:
        with pytest.raises(LinkRefused, match=r"401: Received \*\*\*, which is wrong \{\} \(is the key right\?\)$"):
            Post(Request(f"http://127.0.0.1:{peer.port}/", {"a": 1}, {"X-API-Key": key}), 20.0).send()
    with pytest.raises(LinkLost) as said:  # http.client shows a header that it cannot send
        with answers("{}") as peer:
            Post(Request(f"http://127.0.0.1:{peer.port}/", {}, {"X-API-Key": f"{key}\n"}), 20.0).send()
    assert key not in str(said.value)


def test_a_redirect_is_not_followed():
    with answers("", "307 Over There\r\nLocation: http://127.0.0.1:9/") as peer:
        with pytest.raises(LinkLost, match="answered 307 and redirected to 127.0.0.1, which is not followed"):
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


def test_a_server_that_refuses_the_connection_is_a_lost_link():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LinkLost, match="cannot reach"):
        Post(Request(f"http://127.0.0.1:{port}/", {}), 5.0).send()
