"""One connection, against a peer that does just what a test tells it."""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from device_agent.core.errors import LinkClosed, LinkLost, LinkRefused
from device_agent.net.deadline_stream import DeadlineStream
from device_agent.net.models import Endpoint
from device_agent.net.websocket import MAX_MESSAGE_BYTES, WebSocket, encode_frame
from tests.support.authority import Authority
from tests.support.websocket_peer import GUID, Peer, frame, trickles


def says(*frames: bytes) -> Peer:
    """Return a peer that upgrades, sends *frames*, and waits for the other end to go."""

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        for each in frames:
            sock.sendall(each)
        while sock.recv(4096):
            pass

    peer = Peer(act)
    return peer


def answers(head: str, body: str = "") -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def there_is_more(wire: WebSocket) -> bool:
    """Wait as the carrier does."""
    return wire.pending() or bool(select.select([wire], [], [], 20.0)[0])


def receive(wire: WebSocket) -> str | bytes | None:
    assert there_is_more(wire)
    return wire.receive()


def test_messages_come_in_their_kind_and_pings_are_answered_inside():
    with says(frame(1, b"{}"), frame(2, b"\0\1"), frame(9, b"alive?"), frame(1, "grün".encode())) as peer:
        wire = peer.wire()
        wire.open()
        assert [receive(wire) for _ in range(4)] == ["{}", b"\0\1", None, "grün"]
        wire.close()
        assert b"Authorization: Bearer k" in peer.request
        assert b"Origin" not in peer.request


@pytest.mark.parametrize("code", [1000, 1008, 1011, 1013, 4000])
def test_a_goodbye_has_a_code_and_a_reason(code):
    with says(frame(8, code.to_bytes(2, "big") + b"too late")) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkClosed, match=f"the peer closed the connection with {code}: too late") as closed:
            receive(wire)
        assert (closed.value.code, closed.value.reason) == (code, "too late")
        wire.close()


def test_a_goodbye_without_a_word_has_a_code_all_the_same():
    with says(frame(8, b"")) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkClosed) as closed:
            receive(wire)
        assert (closed.value.code, closed.value.reason) == (1005, "")
        wire.close()


def goes(sock: socket.socket, *words: bytes) -> None:
    """Say *words* and reset the connection, without the last words of TLS."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise the reset overtakes them
    for each in words:
        sock.sendall(each)
    with socket.socket(fileno=sock.detach()) as below:
        below.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture(params=["ws", "wss"])
def gone(request, tmp_path) -> Iterator[Callable[..., WebSocket]]:
    """Connects to a peer that says some words and resets the connection; returns when it has."""
    authority = Authority(tmp_path) if request.param == "wss" else None
    done, words = threading.Event(), []

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        goes(sock, *words)
        done.set()

    def connect(*said: bytes) -> WebSocket:
        words.extend(said)
        endpoint = Endpoint("the peer", f"{request.param}://127.0.0.1:{peer.port}/")
        wire = WebSocket(endpoint, 20.0, str(authority.certificate) if authority else "")
        wire.open()
        assert done.wait(20)
        return wire

    with Peer(act, authority and authority.server()) as peer:
        yield connect


@pytest.mark.parametrize("first", [lambda _wire: None, WebSocket.ping, lambda wire: wire.send(b"sound")])
def test_what_was_said_before_a_reset_is_heard(gone, first):
    """The close frame waits here, and the other side has gone already: the answer to it fails, and so does all else."""
    with closing(gone(frame(1, b"no key"), frame(9, b"alive?"), frame(8, (4000).to_bytes(2, "big") + b"no"))) as wire:
        for _ in range(3):
            first(wire)
        heard = []
        with pytest.raises(LinkClosed, match="4000: no"):
            while True:
                heard.append(receive(wire))
        assert heard[0] == "no key"


def test_what_has_gone_without_a_word_is_lost_as_soon_as_we_read(gone):
    with closing(gone()) as wire:
        for _ in range(3):
            wire.send(b"sound")
        with pytest.raises(LinkLost, match="broke while receiving"):
            while True:
                receive(wire)


def test_no_cookie_is_kept_or_shown():
    """Neither to the host that set it, nor to another one that it named; and a jar that keeps nothing cannot grow."""
    requests = []
    for cookie in ("a=1; Domain=localhost; Domain=example.com", "b=2; Domain=localhost", ""):

        def act(sock: socket.socket, cookie: str = cookie) -> None:
            key = peer.request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest()).decode()
            sock.sendall(
                f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\nSet-Cookie: {cookie}\r\n\r\n".encode()
            )
            sock.recv(4096)

        with Peer(act) as peer:
            wire = WebSocket(Endpoint("the peer", f"ws://localhost:{peer.port}/"))
            wire.open()
            wire.close()
            requests.append(peer.request.lower())
    assert not any(b"cookie" in request for request in requests)


@pytest.mark.parametrize(
    ("head", "body", "error", "words"),
    [
        ("401 Unauthorized", '{"code": "x", "error": "no such key"}', LinkRefused, "401: no such key"),
        ("403 Forbidden", "", LinkRefused, "403.*are the key and the address right"),
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


@pytest.mark.parametrize("status", ["429 Slow", "503 Sorry"])
@pytest.mark.parametrize("scheme", ["header", "words"])
def test_a_service_that_names_a_time_is_left_alone_for_that_time(status, scheme):
    body = '{"error": {"message": "try again in 7s"}}' if scheme == "words" else ""
    head = f"{status}\r\nRetry-After: 7" if scheme == "header" else status
    with Peer(answers(head, body)) as peer:
        with pytest.raises(LinkLost) as lost:
            peer.wire().open()
        assert lost.value.retry_after == 7.0


def test_a_message_that_is_too_large_is_refused_before_it_is_read():
    header = bytes([0x82, 127]) + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big")
    with says(header) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost, match=f"{MAX_MESSAGE_BYTES + 1} bytes"):
            receive(wire)
        wire.close()


def test_a_message_in_parts_may_not_be_too_large_either():
    part = bytes([0x02, 127]) + (MAX_MESSAGE_BYTES - 10).to_bytes(8, "big") + bytes(MAX_MESSAGE_BYTES - 10)
    with says(part, frame(0, bytes(11))) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost, match=f"{MAX_MESSAGE_BYTES + 1} bytes"):
            receive(wire)
        wire.close()


def test_a_broken_connection_is_lost():
    with Peer(lambda sock: peer.upgrade(sock)) as peer:
        wire = peer.wire()
        wire.open()
        with pytest.raises(LinkLost, match="broke"):
            receive(wire)
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
            receive(wire)
        wire.close()


def test_an_aborted_wire_does_not_dial():
    wire = WebSocket(Endpoint("nobody", "ws://127.0.0.1:1"))
    wire.abort()
    with pytest.raises(LinkLost):
        wire.open()
    wire.close()


def test_a_server_that_refuses_the_connection_is_a_lost_link():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LinkLost, match="cannot reach nobody"):
        WebSocket(Endpoint("nobody", f"ws://127.0.0.1:{port}")).open()


def test_plain_words_do_not_leave_the_house():
    with pytest.raises(LinkRefused, match="wss://"):
        WebSocket(Endpoint("the world", "ws://8.8.8.8:9")).open()  # which is not dialled


# What networks do -----------------------------------------------------------------------------------------------------

KEY = "sk-proj-0123456789"


def hasty(peer: Peer, patience: float = 0.3, scheme: str = "ws") -> WebSocket:
    return WebSocket(
        Endpoint("the peer", f"{scheme}://127.0.0.1:{peer.port}/v1", {"Authorization": f"Bearer {KEY}"}), patience
    )


def refusal(act: Callable[[socket.socket], object], patience: float = 20.0) -> str:
    """Return what is said when the answer to a handshake is what *act* makes of it."""
    with Peer(act) as peer:
        wire = hasty(peer, patience)
        with pytest.raises((LinkLost, LinkRefused)) as said:
            wire.open()
        wire.close()
    text = f"{type(said.value).__name__}: {said.value}"
    assert KEY not in text
    assert text.isprintable()
    return text


def waits(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


@pytest.mark.parametrize(
    "act",
    [
        waits,
        trickles(b""),
        trickles(b"HTTP/1.1 101 Switching Protocols\r\nX-Slow: "),
        trickles(b"HTTP/1.1 503 Sorry\r\nContent-Length: 100000\r\n\r\n"),
    ],
)
def test_an_answer_that_takes_too_long_is_given_up(act):
    assert refusal(act, 0.3) == "LinkLost: the peer did not answer the handshake within 0.3 s; try again"


def test_a_header_without_end_is_not_read():
    def act(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX-Long: ")
        while True:
            sock.sendall(bytes(65536).replace(b"\0", b"x"))

    assert "the answer has no end" in refusal(act)


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        ("511 Network Authentication Required", "<html>", "LinkLost: the peer answered 511: not the expected answer"),
        (
            "302 Found\r\nLocation: http://login.example/?a=b",
            "",
            "and redirected to login.example, which is not followed",
        ),
        ("301 Moved\r\nLocation: ://", "", "LinkLost: the peer answered 301: not the expected answer"),
        (
            "302 Found\r\nLocation: http://[x\r\nSet-Cookie: a,b=1; domain=x",
            "",
            "LinkLost: the peer answered 302: not the expected",
        ),
        ("200 OK\r\nContent-Length: 6\r\nX: y", "<html>", "LinkLost: the peer answered 200: not the expected answer"),
        ("401 No", json.dumps({"error": f"the key {KEY} is\nnot\x1b[31m known"}), r"the key *** is not\x1b[31m known"),
        ("101 Switching Protocols", "", "LinkLost: the peer did not answer as a WebSocket does"),
        ("200", "", "LinkLost"),
        ("OK", "", "did not answer as a WebSocket does (Invalid status line"),
        ("200 OK\r\nno header", "", "LinkLost"),
        ("200 OK\r\nContent-Length: many", "", "LinkLost"),
        ("200 OK\r\nX: \xff", "", "LinkLost"),
    ],
)
def test_whatever_answers_a_handshake_is_told_in_one_sentence(head, body, words):
    assert words in refusal(answers(head, body))


@pytest.mark.parametrize(
    "answer", [b"", b"\r\n", b"\0\1\2\r\n\r\n", b"HTTP/1.1 101 \r\n", b"220 mail.example ESMTP\r\n"]
)
def test_an_answer_that_ends_early_is_told(answer):
    assert refusal(lambda sock: sock.sendall(answer)).startswith("LinkLost: the peer ")


def upgrades_with(accept: bytes = b"", more: bytes = b"") -> str:
    def act(sock: socket.socket) -> None:
        key = request().split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        right = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + (accept or right) + b"\r\n" + more + b"\r\n"
        )
        waits(sock)

    peers: list[Peer] = []
    request = lambda: peers[0].request  # noqa: E731
    with Peer(act) as peer:
        peers.append(peer)
        wire = hasty(peer, 20.0)
        try:
            wire.open()
        except (LinkLost, LinkRefused) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            wire.close()
        assert b"extensions" not in peer.request.lower()  # compression is not offered
        return "open"


def test_a_server_with_a_wrong_accept_key_is_no_websocket():
    assert upgrades_with() == "open"
    assert "did not answer as a WebSocket does" in upgrades_with(accept=base64.b64encode(bytes(20)))


def test_compression_that_we_did_not_offer_is_refused():
    text = upgrades_with(more=b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert text == "LinkRefused: the peer wants to use permessage-deflate, which we did not offer; switch it off there"


def broken(*frames: bytes) -> str:
    """Return what is said of a connection over which *frames* come."""
    with says(*frames) as peer:
        wire = hasty(peer, 20.0)
        wire.open()
        with pytest.raises((LinkLost, LinkRefused)) as said:
            while True:
                receive(wire)
        wire.close()
    assert KEY not in str(said.value)
    return f"{type(said.value).__name__}: {said.value}"


def test_a_frame_that_is_compressed_all_the_same_is_an_error():
    assert broken(frame(0x41, b"x")).startswith("LinkLost: the connection broke while receiving from the peer: ")


def test_a_goodbye_is_one_line_without_the_key():
    text = broken(frame(8, (1011).to_bytes(2, "big") + f"no\n{KEY}\x07".encode()))
    assert text == r"LinkClosed: the peer closed the connection with 1011: no ***\x07"


def test_a_reset_is_told():
    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Peer(act) as peer:
        wire = hasty(peer, 20.0)
        wire.open()
        with pytest.raises(LinkLost, match="broke while receiving from the peer: .*reset"):
            while True:
                receive(wire)
        wire.close()


def test_a_message_that_trickles_is_given_up(monkeypatch):
    monkeypatch.setattr("device_agent.net.websocket.MESSAGE_TIMEOUT_S", 0.3)

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        trickles(bytes([0x81, 126]) + (50000).to_bytes(2, "big"))(sock)

    with Peer(act) as peer:
        wire = hasty(peer, 20.0)
        wire.open()
        with pytest.raises(LinkLost, match=r"a message took more than 0\.3 s"):
            while True:
                receive(wire)
        wire.close()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_peer_that_does_not_read_is_given_up(monkeypatch, tmp_path, scheme):
    monkeypatch.setattr("device_agent.net.websocket.MESSAGE_TIMEOUT_S", 0.3)
    gone = threading.Event()

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        gone.wait(20.0)

    authority = Authority(tmp_path) if scheme == "wss" else None
    with Peer(act, authority and authority.server()) as peer:
        endpoint = Endpoint("the peer", f"{scheme}://127.0.0.1:{peer.port}/")
        wire = WebSocket(endpoint, 20.0, str(authority.certificate) if authority else "")
        wire.open()
        with pytest.raises(LinkLost, match=r"sending to the peer: a message took more than 0\.3 s"):
            for _ in range(64):
                wire.send(bytes(1 << 20))
        gone.set()
        wire.close()


@pytest.mark.parametrize("answers_goodbye", [True, False])
def test_what_is_under_way_is_taken_back_unless_the_goodbye_is_answered(answers_goodbye):
    ends: list[object] = []

    def act(sock: socket.socket) -> None:
        peer.upgrade(sock)
        sock.recv(4096)
        if answers_goodbye:
            sock.sendall(frame(8, (1000).to_bytes(2, "big")))
        try:
            ends.append(sock.recv(4096))
        except OSError as error:
            ends.append(type(error))

    with Peer(act) as peer:
        wire = hasty(peer, 20.0)
        wire.open()
        wire.close()
    assert ends == [b"" if answers_goodbye else ConnectionResetError]


def test_silence_does_not_keep_us_waiting():
    with says(frame(1, b"a")) as peer:
        wire = hasty(peer, 20.0)
        wire.open()
        while (said := receive(wire)) is None:
            pass
        assert said == "a"
        assert wire.receive() is None  # nothing more has come
        wire.close()


def test_half_a_record_of_tls_does_not_keep_us_waiting(tmp_path):
    """A descriptor is readable, and there is nothing to say yet: so it is with every renewal of keys."""
    authority = Authority(tmp_path)
    go_on = threading.Event()

    def act(sock: socket.socket) -> None:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.server().wrap_bio(coming, going, server_side=True)

        def do(step: Callable[[], object]) -> object:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    sock.sendall(going.read())
                    coming.write(sock.recv(4096))

        do(tls.do_handshake)
        while b"\r\n\r\n" not in raw.request:
            raw.request += do(lambda: tls.read(4096))
        raw.upgrade(Bio(tls))
        sock.sendall(going.read())
        tls.write(frame(1, b"late"))
        record = going.read()
        sock.sendall(record[:9])
        go_on.wait(20.0)
        sock.sendall(record[9:])
        waits(sock)

    class Bio:
        def __init__(self, tls: ssl.SSLObject) -> None:
            self.sendall = tls.write

    raw = Peer(act)
    raw.first = False
    with raw:
        wire = WebSocket(Endpoint("it", f"wss://127.0.0.1:{raw.port}/"), 20.0, str(authority.certificate))
        wire.open()
        assert there_is_more(wire)
        assert wire.receive() is None
        go_on.set()
        while (said := receive(wire)) is None:
            pass
        assert said == "late"
        wire.close()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1303, 65535, 65536, 200_003])
def test_a_message_of_any_size_is_framed_as_another_implementation_reads_it(size):
    """Masked, each time by another key."""
    said = bytes(range(256)) * (size // 256 + 1)
    server = ServerProtocol(state=OPEN)
    for opcode in (1, 2):
        payload = b"x" * size if opcode == 1 else said[:size]
        raw = encode_frame(opcode, payload)
        server.receive_data(raw)
        (heard,) = server.events_received()
        assert (heard.opcode, bytes(heard.data), heard.fin) == (opcode, payload, True)
        assert raw != encode_frame(opcode, payload)


def test_a_line_waits_for_room_and_no_longer_than_it_may():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = DeadlineStream(ours)
        line.allow(0.05)
        said = bytes(range(256)) * 40_000
        with pytest.raises(TimeoutError):
            line.sendall(said)  # the peer does not read
        heard = bytearray()
        theirs.settimeout(0.05)
        with suppress(TimeoutError):
            while piece := theirs.recv(1 << 20):
                heard += piece
        assert 0 < len(heard) < len(said)
        assert said.startswith(heard)

        def read() -> None:
            while len(heard) < len(said):
                heard.extend(theirs.recv(1 << 16))

        reader = threading.Thread(target=read)
        heard.clear()
        theirs.settimeout(20.0)
        reader.start()
        line.allow(20.0)
        line.sendall(said)
        reader.join(20.0)
        assert heard == said
