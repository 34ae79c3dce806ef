"""A connection is made by a deadline or not at all, against peers that do what networks do."""

from __future__ import annotations

import errno
import itertools
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.net import happy_eyeballs
from device_agent.net.deadline_stream import DeadlineStream
from device_agent.net.dialer import Dialer, failure_text
from device_agent.net.resolver import Address, ResolverCache
from device_agent.net.transport import Transport
from tests.support.authority import Authority
from tests.support.net import Directory, Door
from tests.support.websocket_peer import Peer

PATIENCE_S = 20.0
"""For what must happen; no test needs it."""
SHORT_S = 0.3
"""For what must not."""


class Closed:
    """A listener that answers no greeting, as a host behind a black hole; ``heal`` lets it answer."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server((host, port), backlog=0)
        self.port = self._listener.getsockname()[1]
        self._waiting: list[socket.socket] = []
        for _ in range(8):  # as many as the queue of the kernel holds, and more
            sock = socket.socket()
            sock.setblocking(False)
            assert sock.connect_ex((host, self.port)) == errno.EINPROGRESS
            self._waiting.append(sock)

    def heal(self) -> None:
        """Accept every connection, from now on."""
        self._listener.listen(64)

    def close(self) -> None:
        for sock in [self._listener, *self._waiting]:
            sock.close()


class Raw:
    """A TCP server whose only caller is given to *act* before a word was said."""

    def __init__(self, act) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._listener.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError):
            sock, _ = self._listener.accept()
            with sock:
                self._act(sock)


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def at(*hosts: str) -> ResolverCache:
    """A book in which every name has the addresses *hosts*."""
    return ResolverCache(
        lambda _name, port: [Address(socket.AF_INET6 if ":" in h else socket.AF_INET, (h, port)) for h in hosts]
    )


def why(dial: Dialer, url: str) -> str:
    """Return what is said of a connection that does not come about."""
    with closing(dial), pytest.raises(OSError, match=".") as error:
        dial.connect(url)
    return str(error.value)


def test_the_kernel_is_told_to_notice_what_is_dead():
    with Peer(lambda _sock: None) as peer, closing(Dialer("it")) as dial:
        sock = dial.connect(f"ws://127.0.0.1:{peer.port}").sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 8000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [10, 5, 3]


def test_a_connection_attempt_without_an_answer_is_given_up():
    with closing(Closed()) as hole:
        text = why(Dialer("it", SHORT_S), f"ws://127.0.0.1:{hole.port}")
    assert text == "cannot reach it: no server answered within 0.3 s; is there a network?"


def test_a_black_hole_that_closes_again_is_noticed_within_the_same_dial(monkeypatch):
    monkeypatch.setattr(happy_eyeballs, "CONNECT_RETRY_S", 0.05)
    begun = threading.Semaphore(0)
    begin = happy_eyeballs.HappyEyeballs._begin

    def count(self: happy_eyeballs.HappyEyeballs, address: Address) -> None:
        begin(self, address)
        assert len(self._attempts) <= happy_eyeballs.MAX_CONNECT_ATTEMPTS
        begun.release()

    monkeypatch.setattr(happy_eyeballs.HappyEyeballs, "_begin", count)
    with closing(Closed()) as hole, closing(Dialer("it", PATIENCE_S)) as dial:

        def heal() -> None:
            for _ in range(happy_eyeballs.MAX_CONNECT_ATTEMPTS + 3):
                begun.acquire(timeout=PATIENCE_S)
            hole.heal()

        threading.Thread(target=heal, daemon=True).start()
        assert dial.connect(f"ws://127.0.0.1:{hole.port}").sock.getpeername()[1] == hole.port


@pytest.mark.parametrize("order", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")])
def test_an_address_that_does_not_answer_delays_the_next_one_a_little(order):
    with Peer(lambda sock: sock.recv(1)) as peer, closing(Closed("127.0.0.2", peer.port)):
        with closing(Dialer("it", PATIENCE_S, transport=Transport(at(*order)))) as dial:
            assert dial.connect(f"ws://name:{peer.port}").sock.getpeername()[0] == "127.0.0.1"


@pytest.mark.parametrize("wrong", ["127.0.0.3", "::1", "255.255.255.255"])
def test_an_address_that_fails_does_not_delay_the_connection(wrong):
    with Peer(lambda sock: sock.recv(1)) as peer:
        with closing(Dialer("it", PATIENCE_S, transport=Transport(at(wrong, "127.0.0.1")))) as dial:
            url = f"https://name:{peer.port}" if wrong.startswith("255") else f"ws://name:{peer.port}"
            dial._start_tls = lambda sock, *_: sock  # type: ignore[method-assign]  # it is about the addresses
            assert dial.connect(url).sock.getpeername()[0] == "127.0.0.1"


def test_a_refused_connection_is_reported_without_waiting():
    with refusing_port() as port:
        text = why(Dialer("it", 3600.0, transport=Transport(at("::1", "127.0.0.1"))), f"ws://name:{port}")
    assert text == "cannot reach it: the connection was refused; is it running, and is its address right?"


def test_no_way_to_anywhere_is_tried_until_the_patience_ends(monkeypatch):
    tries = []
    monkeypatch.setattr(happy_eyeballs, "CONNECT_RETRY_S", 0.02)
    begin = happy_eyeballs.HappyEyeballs._begin
    monkeypatch.setattr(
        happy_eyeballs.HappyEyeballs, "_begin", lambda self, address: (tries.append(address), begin(self, address))
    )
    text = why(
        Dialer("it", SHORT_S, transport=Transport(at("255.255.255.255"))), "wss://name"
    )  # for TCP there is no way there
    assert text.startswith("cannot reach it: no route leads there (")
    assert len(tries) > 2


@pytest.mark.parametrize("url", ["ws://name", "http://name"])
@pytest.mark.parametrize("book", [at("8.8.8.8"), at("127.0.0.1", "8.8.8.8"), at("::ffff:8.8.8.8")])
def test_plain_words_do_not_leave_the_house_by_a_name_either(url, book):
    with Peer(lambda _sock: None) as peer:
        with (
            closing(Dialer("it", SHORT_S, transport=Transport(book))) as dial,
            pytest.raises(LinkRefused, match="s:// instead"),
        ):
            dial.connect(f"{url}:{peer.port}")
        assert peer.request == b""


def test_a_name_that_does_not_exist_is_said():
    book = ResolverCache(Directory(socket.gaierror(socket.EAI_NONAME, "Name or service not known")).ask)
    text = why(Dialer("it", PATIENCE_S, transport=Transport(book)), "wss://name")
    assert "its name was not found (Name or service not known); is there a network" in text


def test_a_look_up_that_hangs_is_given_up():
    assert "look-up of name does not answer" in why(
        Dialer("it", SHORT_S, transport=Transport(ResolverCache(Directory().ask))), "wss://name"
    )


def test_no_address_at_all_is_an_error():
    assert "name has no address" in why(Dialer("it", SHORT_S, transport=Transport(at())), "wss://name")


@pytest.mark.parametrize("moment", ["look-up", "greeting", "tls"])
def test_abort_breaks_out_of_every_step(moment, monkeypatch):
    monkeypatch.setattr(happy_eyeballs, "CONNECT_RETRY_S", 3600.0)  # nothing else wakes it
    there = threading.Event()
    directory = Directory()

    def ask(name: str, port: int) -> list[Address]:
        if moment == "look-up":
            there.set()
            return directory.ask(name, port)
        if moment == "greeting":
            there.set()
        return [Address(socket.AF_INET, ("127.0.0.1", port))]

    with Raw(lambda sock: (sock.recv(1), there.set(), waits(sock))) as raw, closing(Closed()) as hole:
        dial = Dialer("it", 3600.0, transport=Transport(ResolverCache(ask)))
        threading.Thread(target=lambda: (there.wait(PATIENCE_S), dial.abort()), daemon=True).start()
        with closing(dial), pytest.raises(OSError, match="." if moment == "tls" else "aborted"):
            dial.connect(f"wss://name:{hole.port if moment == 'greeting' else raw.port}")


# Where it was last time -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def was_at(host: str, port: int, directory: Directory) -> ResolverCache:
    """A book that knows from last time that "name" was at *host*, and asks *directory* now."""
    book = ResolverCache(directory.ask)
    book.store("name", port, [Address(socket.AF_INET, (host, port))], time.monotonic())
    return book


def now_at(port: int) -> list[Address]:
    return [Address(socket.AF_INET, ("127.0.0.1", port))]


def reached(door: Door, book: ResolverCache, authority: Authority) -> str:
    """Return the address of the server that shows a certificate for "name"."""
    with closing(Dialer("it", PATIENCE_S, ca_file=str(authority.certificate), transport=Transport(book))) as dial:
        line = dial.connect(f"wss://name:{door.port}")
        assert line.recv(1) == b"x"
        return str(line.sock.getpeername()[0])


def test_the_last_known_address_is_dialled_at_once_whether_or_not_the_lookup_is_answered(authority):
    with Door(authority.server("DNS:name")) as door:
        for directory in (Directory(), Directory(OSError("no")), Directory(now_at(door.port))):
            assert reached(door, was_at("127.0.0.1", door.port, directory), authority) == "127.0.0.1"


@pytest.fixture
def trials(monkeypatch) -> threading.Semaphore:
    """Counts the tries to connect; but for the first to each address, none is made again."""
    monkeypatch.setattr(happy_eyeballs, "CONNECT_RETRY_S", 3600.0)
    monkeypatch.setattr(happy_eyeballs, "TCP_USER_TIMEOUT_MS", 3_600_000)
    begun, begin = threading.Semaphore(0), happy_eyeballs.HappyEyeballs._begin
    monkeypatch.setattr(
        happy_eyeballs.HappyEyeballs, "_begin", lambda self, address: (begin(self, address), begun.release())
    )
    return begun


def test_an_address_that_died_is_replaced_by_what_the_question_finds(authority, trials):
    directory = Directory()
    with Door(authority.server("DNS:name")) as door, closing(Closed("127.0.0.2", door.port)):
        book = was_at("127.0.0.2", door.port, directory)
        threading.Thread(
            target=lambda: trials.acquire(timeout=PATIENCE_S) and directory.say(now_at(door.port)), daemon=True
        ).start()
        assert reached(door, book, authority) == "127.0.0.1"


def test_a_lookup_that_changes_nothing_does_not_wake_the_dialer_twice(authority, trials, monkeypatch):
    steps, step = [], happy_eyeballs.HappyEyeballs.step
    monkeypatch.setattr(
        happy_eyeballs.HappyEyeballs, "step", lambda self, now, until: (steps.append(now), step(self, now, until))[1]
    )
    with closing(Closed("127.0.0.2")) as hole:
        book = was_at("127.0.0.2", hole.port, Directory([Address(socket.AF_INET, ("127.0.0.2", hole.port))]))
        assert "no server answered within 0.3 s" in why(
            Dialer("it", SHORT_S, transport=Transport(book)), f"wss://name:{hole.port}"
        )
    assert len(steps) <= 3


def test_an_address_that_refuses_is_replaced_as_well(authority):
    with Door(authority.server("DNS:name")) as door:
        assert reached(door, was_at("127.0.0.2", door.port, Directory(now_at(door.port))), authority) == "127.0.0.1"


class Tardy(Dialer):
    """A dialer that learns the new address of the name when a server at the old one has answered already."""

    def __init__(self, directory: Directory, answer: list[Address] | OSError, **how: Any) -> None:
        super().__init__("it", PATIENCE_S, **how)
        self._directory, self._answers = directory, [answer]

    def _start_tls(self, sock: socket.socket, host: str, until: float) -> ssl.SSLSocket:
        self._directory.say(*self._answers)
        self._answers = []
        return super()._start_tls(sock, host, until)


@pytest.mark.parametrize("names", ["DNS:somebody", "DNS:name"])
def test_a_server_at_the_old_address_has_to_show_a_certificate(authority, tmp_path, names):
    """Another server with a good one, or a login page that claims the name that we want."""
    other = authority if names == "DNS:somebody" else Authority(tmp_path)
    with Door(authority.server("DNS:name")) as door, Door(other.server(names), host="127.0.0.2", port=door.port) as old:

        def dialled(answer: list[Address] | OSError) -> str:
            directory = Directory()
            book = was_at("127.0.0.2", door.port, directory)
            with closing(
                Tardy(directory, answer, ca_file=str(authority.certificate), transport=Transport(book))
            ) as dial:
                return str(dial.connect(f"wss://name:{door.port}").sock.getpeername()[0])

        assert dialled(now_at(door.port)) == "127.0.0.1"
        for same in (socket.gaierror(socket.EAI_NONAME, "no"), [Address(socket.AF_INET, ("127.0.0.2", door.port))]):
            with pytest.raises(LinkLost, match="its certificate is "):
                dialled(same)
        assert old.calls == 3  # once for each dial


def test_a_refusal_where_it_was_and_still_is_is_told_as_it_is(authority):
    with refusing_port() as port:
        with closing(
            Dialer("it", PATIENCE_S, transport=Transport(was_at("127.0.0.1", port, Directory(now_at(port)))))
        ) as dial:
            with pytest.raises(LinkLost, match="the connection was refused"):
                dial.connect(f"wss://name:{port}")


def test_an_unencrypted_connection_goes_only_to_the_present_address_of_the_name():
    with Peer(waits) as peer:
        book = was_at("127.0.0.2", peer.port, Directory(now_at(peer.port)))
        dial = Dialer("it", transport=Transport(book))
        assert dial.connect(f"ws://name:{peer.port}").sock.getpeername()[0] == "127.0.0.1"
        dial.close()


def test_an_answer_may_come_when_everything_is_over(authority):
    directory, moved = Directory(), [Address(socket.AF_INET, ("127.0.0.9", 80))]
    with Door(authority.server("DNS:name")) as door:
        book = was_at("127.0.0.1", door.port, directory)
        assert reached(door, book, authority) == "127.0.0.1"
        directory.say(moved)
        while book.cached("name", door.port, time.monotonic()) != moved:  # it is good for the next time
            threading.Event().wait(0.01)


# TLS ------------------------------------------------------------------------------------------------------------------


def trickles(beginning: bytes, drop: bytes = b"x"):
    """Send *beginning*, and then a *drop* now and then for as long as the peer is connected."""

    def act(sock: socket.socket) -> None:
        sock.sendall(beginning)
        for _ in itertools.repeat(None):
            sock.sendall(drop)
            threading.Event().wait(0.02)

    return act


def waits(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def resets(sock: socket.socket) -> None:
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


RECORD = bytes([22, 3, 3, 0x40, 0])  # the beginning of a long record of a TLS handshake


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (waits, "TLS was not ready within 0.3 s"),
        (trickles(RECORD), "TLS was not ready within 0.3 s"),
        (
            lambda sock: (sock.recv(1), sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), waits(sock)),
            "does not speak TLS",
        ),
        (resets, "the connection broke while it was being made"),
        (lambda sock: sock.recv(4096), "the connection broke while it was being made"),
    ],
)
def test_tls_that_does_not_come_about_is_said(act, words):
    with Raw(act) as raw:
        assert words in why(Dialer("it", SHORT_S if "0.3" in words else PATIENCE_S), f"wss://127.0.0.1:{raw.port}")


@pytest.mark.parametrize("error", [ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed")])
def test_whatever_python_calls_an_end_in_mid_handshake_it_is_no_wrong_address(error):
    assert "firewall or a login page" in failure_text(error)


def test_what_an_aborted_dial_says():
    dial = Dialer("it")
    dial.abort()
    assert select.select([dial._wakeup], [], [], 0)[0]  # a thread that waits for a connection is woken at once
    with closing(dial), pytest.raises(LinkLost, match="aborted"):
        dial.connect("ws://127.0.0.1:9")
    dial.abort()  # once more, and late


# The line -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[DeadlineStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield DeadlineStream(ours), theirs


def test_a_line_has_to_be_allowed(ends):
    line, theirs = ends
    theirs.send(b"a")
    with pytest.raises(TimeoutError):
        line.recv(1)
    line.allow(PATIENCE_S)
    assert line.recv(1) == b"a"


def test_a_deadline_is_for_everything_that_follows(ends):
    line, theirs = ends
    line.allow(SHORT_S)
    with pytest.raises(TimeoutError), theirs:
        for _ in itertools.repeat(None):
            theirs.send(b"x")
            line.recv(1)


def test_a_peer_that_does_not_read_does_not_keep_us_waiting(ends):
    line, _theirs = ends
    line.allow(SHORT_S)
    with pytest.raises(TimeoutError):
        line.sendall(bytes(16 << 20))


def test_what_was_read_ahead_is_pending_and_an_answer_has_an_end(ends):
    line, theirs = ends
    line.allow(PATIENCE_S)
    assert not line.fill()
    assert not line.pending()
    theirs.send(b"abcdef")
    assert line.fill()
    assert line.pending()
    line.limit(4)
    assert (line.recv(1), line.recv(3)) == (b"a", b"bcd")
    with pytest.raises(ConnectionError, match="no end"):
        line.recv(1)
    line.limit(None)
    assert line.makefile("rb").read(1) == b"f"
    assert not line.pending()
    theirs.close()
    assert line.fill()  # the end is something, too
    assert line.recv(1) == b""
