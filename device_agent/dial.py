"""An open TCP or TLS connection, that can be aborted at any point of its making and is made by a deadline."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

from . import trust
from .errors import ConfigError, LinkLost, LinkRefused
from .line import Line
from .lookup import BOOK, Address, Book, Inquiry
from .race import Race

PATIENCE_S = 10.0
"""How long a dial may take from the look-up to the last byte of the answer; and any one message, there or back."""

SECURE = {"wss": 443, "https": 443}
PLAIN = {"ws": 80, "http": 80}

NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class Dial:
    """A socket from its first packet on. All methods belong to one thread, except ``abort``.

    *name* is what errors call the other side. *patience*, in seconds, is for all of it; *ca_file* names a CA of the
    owner's, "" for those of the system.
    """

    def __init__(self, name: str, patience: float = PATIENCE_S, *, ca_file: str = "", book: Book = BOOK) -> None:
        self._name, self._patience, self._ca_file, self._book = name, patience, ca_file, book
        self._inquiry: Inquiry | None = None
        self._sock: socket.socket | None = None
        self._bell, self._rope = socket.socketpair()
        self._rope.setblocking(False)
        self._aborted = False

    def connect(self, url: str) -> Line:
        """Connect to the host of *url*, with TLS where its scheme asks for it; what is left of the patience is allowed
        on the line.

        Raises OSError and ssl.SSLError as they come, LinkLost when aborted, and LinkRefused where plain words would
        leave the house or the CA file is not there any more.
        """
        until = time.monotonic() + self._patience
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or SECURE.get(parts.scheme) or PLAIN[parts.scheme]
        addresses = self._find(host, port, until)
        if parts.scheme in PLAIN and not all(address.near for address in addresses):
            raise LinkRefused(f"{self._name} is not in a private network: use {parts.scheme}s:// instead")
        self._take(self._race(addresses, until))
        if parts.scheme in SECURE:
            self._wrap(host, until)
        line = Line(self._held)
        line.allow(max(0.0, until - time.monotonic()))
        return line

    @property
    def _held(self) -> socket.socket:
        assert self._sock is not None  # noqa: S101
        return self._sock

    def _find(self, host: str, port: int, until: float) -> list[Address]:
        self._inquiry = Inquiry(host, port, self._book)
        self._go_on()
        addresses = self._inquiry.answer(until)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        return addresses

    def _race(self, addresses: list[Address], until: float) -> socket.socket:
        """Return the first connection that comes about. Raises OSError, LinkLost when aborted."""
        with Race(addresses, self._bell) as race:
            while True:
                self._go_on()
                now = time.monotonic()
                if now >= until:
                    raise race.verdict(self._patience)
                if winner := race.step(now, until):
                    return winner

    def _wrap(self, host: str, until: float) -> None:
        """Begin TLS in two steps: ours before the handshake, so that ``abort`` has something to break."""
        try:
            context = trust.context(self._ca_file)
        except ConfigError as error:
            raise LinkRefused(f"{self._name}: {error}") from error
        tls = context.wrap_socket(self._held, server_hostname=host, do_handshake_on_connect=False)
        self._take(tls)
        tls.settimeout(max(0.001, until - time.monotonic()))
        try:
            tls.do_handshake()  # its timeout is for all of it
        except TimeoutError as error:
            raise TimeoutError(f"TLS was not ready within {self._patience:g} s") from error

    def _take(self, sock: socket.socket) -> None:
        self._sock = sock
        self._go_on()

    def _go_on(self) -> None:
        if self._aborted:
            raise LinkLost("aborted")

    def abort(self) -> None:
        """Break whatever the owner is blocked in, now or later. Safe from any thread, at any time."""
        self._aborted = True
        if self._inquiry is not None:
            self._inquiry.abort()
        with suppress(OSError):
            self._rope.send(b".")
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket. Harmless where there is none."""
        for each in (self._sock, self._bell, self._rope):
            if each is not None:
                each.close()


def unreachable(name: str, error: Exception) -> LinkLost:
    """Return what to say when no connection came about."""
    return LinkLost(f"cannot reach {name}: {_why(error)}")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return trust.doubt(error, time.time())
    if isinstance(error, (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)):
        return "the connection broke before it was made; is there a firewall or a login page in between?"
    if isinstance(error, ssl.SSLError):
        text = (error.reason or "no TLS").replace("_", " ").lower()
        return f"what answers there does not speak TLS as we do ({text}); is its address right?"
    return _no_way(error)


def _no_way(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused; is it running, and is its address right?"
    if isinstance(error, socket.gaierror):
        return f"its name was not found ({error.strerror}); is there a network, and is the name right?"
    if isinstance(error, OSError) and error.errno in NO_WAY:
        return f"no way leads there ({error.strerror}); is there a network?"
    return str(error)
