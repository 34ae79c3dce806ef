"""Dialer: makes one TCP or TLS connection by a deadline; any thread can abort it at any point."""

from __future__ import annotations

import errno
import io
import logging
import os
import socket
import ssl
import sys
import threading
import time
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import AgentError, ConfigError, LinkLost, LinkRefused
from .deadline_stream import TLS_EOF_ERRORS, DeadlineStream
from .happy_eyeballs import HappyEyeballs
from .models import Trace
from .resolver import Address, Lookup
from .tls import certificate_problem
from .transport import PLAIN_PORTS, TLS_PORTS, Transport

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
"""From the look-up of the name to the last byte of the answer to the handshake."""
WAKE_COUNT = (1).to_bytes(8, sys.byteorder)
"""What is written to an eventfd."""
NO_ROUTE_ERRNOS = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class Dialer:
    """Makes one connection and frees it. All methods belong to one thread, except ``abort``.

    *name* is what errors call the peer. *timeout_s* covers all steps. *ca_file* is a PEM file with the CA to verify the
    peer by, "" for those of the system. Without a *transport* nothing of earlier connections is used.
    """

    def __init__(
        self,
        name: str,
        timeout_s: float = CONNECT_TIMEOUT_S,
        *,
        ca_file: str = "",
        transport: Transport | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._name, self._timeout_s, self._ca_file, self._trace = name, timeout_s, ca_file, trace
        self._transport = transport or Transport()
        self._lookup: Lookup | None = None
        self._sock: socket.socket | None = None
        self._tcp: socket.socket | None = None  # the same connection below TLS, for ``abort``
        self._port = 0
        self._verified = False  # the peer has shown a certificate, now or when it issued the ticket
        self._wakeup = open(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()  # of what ``abort`` uses: wakeup and TCP socket
        self._aborted = False

    def connect(self, url: str) -> DeadlineStream:
        """Connect to the host of *url*, with TLS if its scheme says so. What is left of the timeout is allowed on the
        stream.

        Raises LinkLost, and LinkRefused where plain text would leave the private network or the CA file is unusable.
        """
        try:
            return self._connect(url)
        except AgentError:
            raise
        except (OSError, ValueError) as error:
            raise LinkLost(f"cannot reach {self._name}: {failure_text(error)}") from error

    def _connect(self, url: str) -> DeadlineStream:
        until = time.monotonic() + self._timeout_s
        parts = urlsplit(url)
        host, self._port = parts.hostname or "", parts.port or TLS_PORTS.get(parts.scheme) or PLAIN_PORTS[parts.scheme]
        lookup = self._lookup = Lookup(host, self._port, self._transport.resolver)
        self._raise_if_aborted()
        sock: socket.socket
        if parts.scheme in TLS_PORTS:
            sock = self._connect_tls(lookup, host, until)
        else:
            addresses = self._resolve(lookup, host, until)
            if not all(address.private for address in addresses):
                raise LinkRefused(f"{self._name} is not in a private network: use {parts.scheme}s:// instead")
            sock = self._connect_tcp(lookup, addresses, until)
        stream = DeadlineStream(sock)
        stream.allow(max(0.0, until - time.monotonic()))
        return stream

    def _connect_tls(self, lookup: Lookup, host: str, until: float) -> ssl.SSLSocket:
        """Connect to the cached addresses at once while the name is looked up again, else to those that are found.

        With TLS this is safe: the peer has to show a certificate before anything is sent. Where none there can, the new
        addresses are tried, once.
        """
        known = lookup.refresh(self._wake)
        if not known:
            return self._start_tls(self._connect_tcp(lookup, self._resolve(lookup, host, until), until), host, until)
        try:
            return self._start_tls(self._connect_tcp(lookup, known, until), host, until)
        except AgentError:
            raise
        except OSError:
            moved = [address for address in self._resolve(lookup, host, until) if address not in known]
            if not moved:
                raise
            log.info("%s does not answer at its old address; trying its new one", self._name)
            return self._start_tls(self._connect_tcp(lookup, moved, until), host, until)

    def _resolve(self, lookup: Lookup, host: str, until: float) -> list[Address]:
        addresses = lookup.answer(until)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        self._report("resolve", addresses)
        return addresses

    def _connect_tcp(self, lookup: Lookup, addresses: list[Address], until: float) -> socket.socket:
        """Return the first connection that is made; addresses that are found meanwhile take part.

        Raises OSError, LinkLost when aborted.
        """
        with closing(HappyEyeballs(addresses, self._wakeup)) as race:
            sock = None
            while sock is None:
                self._wakeup.read(8)
                self._raise_if_aborted()
                race.join(lookup.news())
                now = time.monotonic()
                if now >= until:
                    raise race.verdict(self._timeout_s)
                sock = race.step(now, until)
        self._hold(sock)
        self._report("connect", sock)
        return sock

    def _start_tls(self, sock: socket.socket, host: str, until: float) -> ssl.SSLSocket:
        try:
            tls = self._transport.tls.wrap(sock, host, self._port, self._ca_file)
        except ConfigError as error:
            raise LinkRefused(f"{self._name}: {error}") from error
        self._sock = tls
        tls.settimeout(max(0.001, until - time.monotonic()))
        try:
            tls.do_handshake()  # the timeout covers all of it
        except TimeoutError as error:
            raise TimeoutError(f"TLS was not ready within {self._timeout_s:g} s") from error
        self._verified = True
        log.debug("%s: %s%s", self._name, tls.version(), ", resumed" if tls.session_reused else "")
        self._report("tls", tls)
        return tls

    def _hold(self, sock: socket.socket) -> None:
        """Own *sock* in place of an earlier connection whose peer was not verified."""
        with self._lock:
            self._free(self._sock, self._tcp)
            self._sock, self._tcp = sock, None
            self._tcp = sock.dup()
        self._raise_if_aborted()

    def _report(self, step: str, result: Any) -> None:
        if self._trace is not None:
            self._trace(step, result)

    def _raise_if_aborted(self) -> None:
        if self._aborted:
            raise LinkLost("aborted")

    def abort(self) -> None:
        """Break the call that the owner is blocked in, now or later. Safe from any thread, at any time.

        The connection is shut down below TLS. ``SSLSocket.shutdown`` would remove the TLS object that the owner is
        using: its call would fail with an AttributeError, or send in plain text.
        """
        self._aborted = True
        if self._lookup is not None:
            self._lookup.abort()
        self._wake()
        with self._lock, suppress(OSError):
            if self._tcp is not None:
                self._tcp.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the connection, if there is one, and keep its TLS ticket for the next."""
        if self._verified and isinstance(self._sock, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                self._transport.tls.keep(self._sock, self._port, self._ca_file)
        with self._lock:
            self._free(self._sock, self._tcp, self._wakeup)

    @staticmethod
    def _free(*parts: socket.socket | io.FileIO | None) -> None:
        for each in parts:
            if each is not None:
                each.close()

    def _wake(self) -> None:
        """End the wait for a connection. Any thread."""
        with self._lock, suppress(ValueError):  # it is closed
            self._wakeup.write(WAKE_COUNT)


def failure_text(error: Exception) -> str:
    """Return what *error*, raised while a connection was made, means and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_problem(error, time.time())
    if isinstance(error, (*TLS_EOF_ERRORS, ConnectionResetError, BrokenPipeError)):
        return "the connection broke while it was being made; is there a firewall or a login page in between?"
    if isinstance(error, ssl.SSLError):
        text = (error.reason or "no TLS").replace("_", " ").lower()
        return f"the server there does not speak TLS, or no version that works here ({text}); is its address right?"
    return _unreachable_text(error)


def _unreachable_text(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused; is it running, and is its address right?"
    if isinstance(error, socket.gaierror):
        return f"its name was not found ({error.strerror}); is there a network, and is the name right?"
    if isinstance(error, OSError) and error.errno in NO_ROUTE_ERRNOS:
        return f"no route leads there ({error.strerror}); is there a network?"
    return str(error)
