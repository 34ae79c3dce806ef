"""One connection, against a peer that does just what a test tells it."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable

import pytest

from device_agent.errors import LinkLost, LinkRefused
from device_agent.services import Endpoint
from device_agent.wire import LARGEST, Wire


class Peer:
    """A listening socket whose first caller is answered by *act* in a thread."""

    def __init__(self, act: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._act, self._context = act, context
        self.port = self._listener.getsockname()[1]
        self.request = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.close()
        self._thread.join(5)

    def wire(self, scheme: str = "ws") -> Wire:
        return Wire(
            Endpoint("the peer", f"{scheme}://127.0.0.1:{self.port}/v1?secret=1", {"Authorization": "Bearer k"})
        )

    def _run(self) -> None:
        try:
            sock, _ = self._listener.accept()
            with sock if self._context is None else self._context.wrap_socket(sock, server_side=True) as sock:
                while b"\r\n\r\n" not in self.request:
                    self.request += sock.recv(4096)
                self._act(sock)
        except OSError:
            pass

    def upgrade(self, sock: socket.socket) -> None:
        key = self.request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(
            hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        )
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )


def says(*frames: bytes) -> Peer:
    """Return a peer that upgrades, sends *frames*, and waits for the other end to go."""

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        for frame in frames:
            sock.sendall(frame)
        while sock.recv(4096):
            pass

    peer = Peer(act)
    return peer


def answers(head: str, body: str = "") -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    return bytes([opcode | (0x80 if final else 0), len(payload)]) + payload


def test_messages_come_in_their_kind_and_pings_are_answered_inside():
    with says(frame(1, b"{}"), frame(2, b"\0\1"), frame(9, b"alive?"), frame(1, "grün".encode())) as peer:
        wire = peer.wire()
        wire.open()
        assert [wire.receive() for _ in range(4)] == ["{}", b"\0\1", None, "grün"]
        wire.close()
        assert b"Authorization: Bearer k" in peer.request
        assert b"Origin" not in peer.request


@pytest.mark.parametrize(
    ("code", "error"), [(1000, LinkLost), (1011, LinkLost), (4000, LinkRefused), (1008, LinkRefused)]
)
def test_a_goodbye_has_a_code_and_a_reason(code, error):
    with says(frame(8, code.to_bytes(2, "big") + b"too late")) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(error, match=f"the peer closed the connection with {code}: too late"):
            wire.receive()
        wire.close()


def test_a_busy_service_is_left_alone_for_a_while():
    with says(frame(8, (1013).to_bytes(2, "big"))) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost) as lost:
            wire.receive()
        assert lost.value.retry_after == 30.0
        wire.close()


@pytest.mark.parametrize(
    ("head", "body", "error", "words"),
    [
        ("401 Unauthorized", '{"code": "x", "error": "no such key"}', LinkRefused, "401: no such key"),
        ("403 Forbidden", "", LinkRefused, "403"),
        ("404 Not Found", '{"error": {"message": "no such model"}}', LinkRefused, "404: no such model"),
        ("503 Sorry", "<html>", LinkLost, "503"),
        ("302 Found\r\nLocation: http://login.example/", "", LinkLost, "302.*login page"),
        ("200 OK", "<html>log in", LinkLost, "200.*login page"),
    ],
)
def test_an_answer_that_is_no_upgrade_is_said_in_one_line(head, body, error, words):
    with Peer(answers(head, body)) as peer:
        wire = peer.wire()
        with pytest.raises(error, match=words) as said:
            wire.open()
        wire.close()
        assert "secret" not in str(said.value)
        assert "\n" not in str(said.value)


@pytest.mark.parametrize(("wait", "seconds"), [("7", 7.0), ("soon", 30.0), ("999999", 3600.0)])
def test_too_many_requests_name_their_time(wait, seconds):
    with Peer(answers(f"429 Slow\r\nRetry-After: {wait}")) as peer:
        with pytest.raises(LinkLost) as lost:
            peer.wire().open()
        assert lost.value.retry_after == seconds


def test_a_message_that_is_too_large_is_refused_before_it_is_read():
    header = bytes([0x82, 127]) + (LARGEST + 1).to_bytes(8, "big")
    with says(header) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost, match=f"{LARGEST + 1} bytes"):
            wire.receive()
        wire.close()


def test_a_message_in_parts_may_not_be_too_large_either():
    part = bytes([0x02, 127]) + (LARGEST - 10).to_bytes(8, "big") + bytes(LARGEST - 10)
    with says(part, frame(0, bytes(11))) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost, match=f"{LARGEST + 1} bytes"):
            wire.receive()
        wire.close()


def test_a_broken_connection_is_lost():
    with Peer(lambda sock: peer.upgrade(sock)) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost, match="broke"):
            wire.receive()
        wire.close()


@pytest.mark.parametrize("moment", ["in the handshake", "in the middle of a message"])
def test_abort_breaks_out_of_any_call_from_any_thread(moment):
    blocked = threading.Event()

    def act(sock: socket.socket) -> None:
        if moment != "in the handshake":
            peer.upgrade(sock)
            sock.sendall(bytes([0x81, 100]) + b"half")
        blocked.set()
        sock.recv(4096)
        sock.recv(4096)

    with Peer(act) as peer:
        wire = peer.wire()
        threading.Thread(target=lambda: (blocked.wait(5), wire.abort()), daemon=True).start()
        with pytest.raises(LinkLost):
            wire.open()
            wire.receive()
        wire.close()


def test_an_aborted_wire_does_not_dial():
    wire = Wire(Endpoint("nobody", "ws://127.0.0.1:1"))
    wire.abort()
    with pytest.raises(LinkLost):
        wire.open()
    wire.close()


def test_nobody_at_home_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LinkLost, match="cannot reach nobody"):
        Wire(Endpoint("nobody", f"ws://127.0.0.1:{port}")).open()


def test_plain_words_do_not_leave_the_house():
    with pytest.raises(LinkRefused, match="wss://"):
        Wire(Endpoint("the world", "ws://8.8.8.8:9")).open()  # which is not dialled


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Peer(lambda sock: peer.upgrade(sock), context) as peer:
        with pytest.raises(LinkLost, match="certificate is not valid.*clock"):
            peer.wire("wss").open()
