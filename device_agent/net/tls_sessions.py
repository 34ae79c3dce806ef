"""What one TLS connection leaves to the next: the authorities that were read, and a ticket from who was believed."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ConfigError
from ..runtime.paths import expand_user
from . import tls as trust

TICKET_MAX_AGE_S = 24 * 3600.0
"""How long a ticket is used: its owner showed a certificate no longer ago than this, and one that is valid still."""
MAX_TLS_ENTRIES = 8
"""Tickets, and sets of authorities, that are kept; the oldest is forgotten for another one."""

_Stamp = tuple[object, ...]


class _Trusted(NamedTuple):
    """Authorities as they were read, and what their files looked like then."""

    stamp: _Stamp
    context: ssl.SSLContext


class _Ticket(NamedTuple):
    """What a service will know us by. It is worth something to the context it was made with alone."""

    context: ssl.SSLContext
    session: ssl.SSLSession
    until: float  # Unix time


class TlsContextCache:
    """Begins TLS, and remembers. Any thread may call anything here.

    To read the authorities of a system takes longer than to reach a service (30 ms of a 2.5 GHz Xeon), so they are read
    again only when their files have changed. A ticket is of one host, port and set of authorities, and is used once:
    who sees both connections cannot tell by it that they are of one speaker. Whoever does not take it asks for
    everything as if there were none; whoever takes it knows what only who gave it can know. A turn is never sent with
    it before it was answered (0-RTT): Python's ssl has no way to, and it could be played to the service twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trusted: dict[str, _Trusted] = {}
        self._tickets: dict[tuple[str, int, str], _Ticket] = {}

    def context(self, ca_file: str = "") -> ssl.SSLContext:
        """Return how to begin TLS with who is vouched for by *ca_file*, "" for the system's. Raises ConfigError."""
        stamp = _stamp(ca_file)
        with self._lock:
            known = self._trusted.get(ca_file)
        if stamp and known and known.stamp == stamp:
            return known.context
        context = trust.context(ca_file)
        if stamp and stamp == _stamp(ca_file):  # it was not written while we read
            with self._lock:
                _keep(self._trusted, ca_file, _Trusted(stamp, context))
        return context

    def wrap(self, sock: socket.socket, host: str, port: int, ca_file: str = "") -> ssl.SSLSocket:
        """Return *sock* with TLS that has not begun yet, with our ticket for *host* where we have one.

        Raises ConfigError when *ca_file* is of no use, and OSError.
        """
        context = self.context(ca_file)
        with self._lock:
            ticket = self._tickets.pop((host, port, ca_file), None)
        session = ticket.session if ticket and ticket.context is context and time.time() < ticket.until else None
        return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False, session=session)

    def keep(self, tls: ssl.SSLSocket, port: int, ca_file: str = "") -> None:
        """Keep the ticket that came over *tls*, if one did: it comes behind the handshake, with what was read since."""
        session, host = tls.session, tls.server_hostname
        if session is None or not session.has_ticket or not host:
            return
        until = min(time.time() + TICKET_MAX_AGE_S, _expires(tls))
        with self._lock:
            _keep(self._tickets, (host, port, ca_file), _Ticket(tls.context, session, until))


TICKETS = TlsContextCache()
"""Those of this process: each connection is made by somebody new, and all go to the same few services."""


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > MAX_TLS_ENTRIES:
        del kept[next(iter(kept))]


def _expires(tls: ssl.SSLSocket) -> float:
    """Return when the certificate of who is at the other end expires, in Unix time."""
    end = (tls.getpeercert() or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else 0.0


def _stamp(ca_file: str) -> _Stamp:
    """Return what changes whenever the authorities do; () where it cannot be told."""
    if ca_file:
        try:
            places = [expand_user(ca_file)]
        except ConfigError:
            return ()
    else:
        system = ssl.get_default_verify_paths()
        places = [Path(each) for each in (system.cafile, system.capath) if each]
    try:
        return tuple((str(place), *_looks(os.stat(place))) for place in places)
    except OSError:
        return ()


def _looks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
