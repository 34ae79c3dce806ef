"""An open TCP or TLS connection, that can be aborted at any point of its making and is made by a deadline."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

from ..core.errors import AgentError, ConfigError, LinkLost, LinkRefused
from . import tls as trust
from .deadline_stream import TLS_EOF_ERRORS, DeadlineStream
from .happy_eyeballs import HappyEyeballs
from .resolver import BOOK, Address, Lookup, ResolverCache
from .tls_sessions import TICKETS, TlsContextCache

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
"""How long a dial may take from the look-up to the last byte of the answer; and any one message, there or back."""

TLS_PORTS = {"wss": 443, "https": 443}
PLAIN_PORTS = {"ws": 80, "http": 80}

NO_ROUTE_ERRNOS = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def prepare(url: str, ca_file: str = "", book: ResolverCache = BOOK, tickets: TlsContextCache = TICKETS) -> None:
    """Do what can be done for a connection to *url* before anybody wants one: have its name looked up, aside, and read
    whom to believe. Nothing is said to anybody there."""
    parts = urlsplit(url)
    if parts.scheme in TLS_PORTS and parts.hostname:
        book.ahead(parts.hostname, parts.port or TLS_PORTS[parts.scheme])
        with suppress(ConfigError):  # who dials will say so
            tickets.context(ca_file)


class Dialer:
    """A socket from its first packet on. All methods belong to one thread, except ``abort``.

    *name* is what errors call the other side. *patience*, in seconds, is for all of it; *ca_file* names a CA of the
    owner's, "" for those of the system.
    """

    def __init__(
        self,
        name: str,
        patience: float = CONNECT_TIMEOUT_S,
        *,
        ca_file: str = "",
        book: ResolverCache = BOOK,
        tickets: TlsContextCache = TICKETS,
    ) -> None:
        self._name, self._patience, self._ca_file, self._book, self._tickets = name, patience, ca_file, book, tickets
        self._inquiry: Lookup | None = None
        self._sock: socket.socket | None = None
        self._below: socket.socket | None = None  # the same connection, below TLS: what ``abort`` breaks
        self._port = 0
        self._believed = False  # who is at the other end has shown a certificate, now or before
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._closing = threading.Lock()  # of what other threads use: the rope, and what is below
        self._aborted = False

    def connect(self, url: str) -> DeadlineStream:
        """Connect to the host of *url*, with TLS where its scheme asks for it; what is left of the patience is allowed
        on the line.

        Raises OSError and ssl.SSLError as they come, LinkLost when aborted, and LinkRefused where plain words would
        leave the house or the CA file is not there any more.
        """
        until = time.monotonic() + self._patience
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or TLS_PORTS.get(parts.scheme) or PLAIN_PORTS[parts.scheme]
        self._port, self._inquiry = port, Lookup(host, port, self._book)
        self._go_on()
        if parts.scheme in TLS_PORTS:
            self._secure(self._inquiry, host, until)
        else:
            addresses = self._find(host, port, until)
            if not all(address.near for address in addresses):
                raise LinkRefused(f"{self._name} is not in a private network: use {parts.scheme}s:// instead")
            self._take(self._race(addresses, until))
        line = DeadlineStream(self._held)
        line.allow(max(0.0, until - time.monotonic()))
        return line

    def _secure(self, inquiry: Lookup, host: str, until: float) -> None:
        """Connect with TLS: at once where *host* was found lately, while it is looked up again.

        That is for TLS alone: whoever lives there now has to show a certificate before we say a word. Where nobody
        there can, those who live at other addresses by now are asked, once.
        """
        if not (known := inquiry.aside(self._ring)):
            self._speak_tls(self._find(host, self._port, until), host, until)
            return
        try:
            self._speak_tls(known, host, until)
        except AgentError:
            raise
        except OSError:
            moved = [address for address in self._find(host, self._port, until) if address not in known]
            if not moved:
                raise
            log.info("%s does not answer at its old address; trying its new one", self._name)
            self._speak_tls(moved, host, until)

    def _speak_tls(self, addresses: list[Address], host: str, until: float) -> None:
        self._take(self._race(addresses, until))
        self._wrap(host, until)

    @property
    def _held(self) -> socket.socket:
        assert self._sock is not None  # noqa: S101
        return self._sock

    def _find(self, host: str, port: int, until: float) -> list[Address]:
        assert self._inquiry is not None  # noqa: S101
        addresses = self._inquiry.answer(until)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        return addresses

    def _race(self, addresses: list[Address], until: float) -> socket.socket:
        """Return the first connection that comes about; addresses that are found meanwhile take part.

        Raises OSError, LinkLost when aborted.
        """
        with HappyEyeballs(addresses, self._bell) as race:
            while True:
                self._hush()
                self._go_on()
                race.join(self._inquiry.news() if self._inquiry else [])
                now = time.monotonic()
                if now >= until:
                    raise race.verdict(self._patience)
                if winner := race.step(now, until):
                    return winner

    def _wrap(self, host: str, until: float) -> None:
        """Begin TLS on the connection that we hold."""
        try:
            tls = self._tickets.wrap(self._held, host, self._port, self._ca_file)
        except ConfigError as error:
            raise LinkRefused(f"{self._name}: {error}") from error
        self._sock = tls
        tls.settimeout(max(0.001, until - time.monotonic()))
        try:
            tls.do_handshake()  # its timeout is for all of it
        except TimeoutError as error:
            raise TimeoutError(f"TLS was not ready within {self._patience:g} s") from error
        self._believed = True
        log.debug("%s: %s%s", self._name, tls.version(), ", resumed" if tls.session_reused else "")

    def _take(self, sock: socket.socket) -> None:
        """Go on with *sock*, a connection on which TLS has not begun. Raises OSError, LinkLost when aborted."""
        with self._closing:
            before, self._sock = (self._sock, self._below), sock
            self._below = None
            for each in before:
                if each is not None:
                    each.close()  # no valid certificate was shown there
            self._below = sock.dup()
        self._go_on()

    def _go_on(self) -> None:
        if self._aborted:
            raise LinkLost("aborted")

    def abort(self) -> None:
        """Break whatever the owner is blocked in, now or later. Safe from any thread, at any time.

        The connection is shut down below TLS. ``SSLSocket.shutdown`` would remove the TLS object that its owner is
        using: a call of the owner would fail with an AttributeError, or send in plain text.
        """
        self._aborted = True
        if self._inquiry is not None:
            self._inquiry.abort()
        self._ring()
        with self._closing, suppress(OSError):
            if self._below is not None:
                self._below.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket, and keep what shortens the next dial. Harmless where there is none."""
        if self._believed and isinstance(self._sock, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                self._tickets.keep(self._sock, self._port, self._ca_file)
        with self._closing:
            for each in (self._sock, self._below, self._bell, self._rope):
                if each is not None:
                    each.close()

    def _ring(self) -> None:
        """End a wait for a connection: something has changed. Any thread."""
        with self._closing, suppress(OSError):
            self._rope.send(b".")

    def _hush(self) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(64)


def unreachable(name: str, error: Exception) -> LinkLost:
    """Return what to say when no connection came about."""
    return LinkLost(f"cannot reach {name}: {_why(error)}")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return trust.certificate_problem(error, time.time())
    if isinstance(error, (*TLS_EOF_ERRORS, ConnectionResetError, BrokenPipeError)):
        return "the connection broke while it was being made; is there a firewall or a login page in between?"
    if isinstance(error, ssl.SSLError):
        text = (error.reason or "no TLS").replace("_", " ").lower()
        return f"the server there does not speak TLS, or no version that works here ({text}); is its address right?"
    return _no_way(error)


def _no_way(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused; is it running, and is its address right?"
    if isinstance(error, socket.gaierror):
        return f"its name was not found ({error.strerror}); is there a network, and is the name right?"
    if isinstance(error, OSError) and error.errno in NO_ROUTE_ERRNOS:
        return f"no route leads there ({error.strerror}); is there a network?"
    return str(error)
