"""TLS client: verifying contexts, session tickets, and what is wrong with a certificate in words."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ConfigError
from ..runtime.atomic_file import read_whole
from ..runtime.paths import expand_user

MAX_CA_FILE_BYTES = 1 << 20
"""All CA certificates of a system are a quarter of that."""
CERT_NOT_YET_VALID, CERT_EXPIRED, CERT_HOST_MISMATCH, CERT_UNKNOWN_CA = {9}, {10}, {62, 64}, {18, 19, 20, 21}
"""Verification codes of OpenSSL."""
TICKET_MAX_AGE_S = 24 * 3600.0
"""A ticket is used for so long after the handshake that it came from, and not after the certificate has expired."""
MAX_TLS_ENTRIES = 8
"""Tickets that are kept, and contexts; the oldest is forgotten for another one."""

_Stamp = tuple[object, ...]


def context(ca_file: str = "") -> ssl.SSLContext:
    """Return a context that verifies by the CA of *ca_file* alone, "": by those of the system.

    Raises ConfigError, which names the file.
    """
    if not ca_file:
        return ssl.create_default_context()
    path = expand_user(ca_file)
    try:
        # Read here, because OpenSSL would block on a FIFO without a writer.
        pem = read_whole(path, MAX_CA_FILE_BYTES).decode("ascii", "replace").replace("\ufffd", "?")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the CA file {path} cannot be read: {reason}") from error
    try:
        if not pem.strip():  # which the library would take for a wish for the CAs of the system
            raise ssl.SSLError("it is empty")
        made = ssl.create_default_context(cadata=pem)
    except ssl.SSLError as error:
        text = f"{path} is not a PEM file with certificates; export the certificate of your CA as PEM"
        raise ConfigError(text) from error
    if not made.cert_store_stats()["x509_ca"]:
        advice = "use the certificate of the CA that signed the one of the service"
        raise ConfigError(f"{path} holds no CA certificate; {advice}")
    return made


def certificate_problem(error: ssl.SSLCertVerificationError, now: float) -> str:
    """Return what is wrong with a certificate and what to do; *now* is Unix time.

    Each of these may pass: the clock is set, the certificate renewed, the login page left.
    """
    clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    code = error.verify_code
    if code in CERT_NOT_YET_VALID:
        return f"its certificate is not valid yet: the clock here says {clock} and is wrong until the network sets it"
    if code in CERT_EXPIRED:
        return f"its certificate has expired, or the clock here is ahead: it says {clock}"
    if code in CERT_HOST_MISMATCH:
        return "its certificate is for another host; is service.url right, and is there no login page in between?"
    if code in CERT_UNKNOWN_CA:
        return (
            "its certificate is not signed by a CA that this machine trusts; is there a login page in between? "
            "The CA of a service of your own belongs in service.ca_file"
        )
    return f"its certificate is not valid ({error.verify_message}); the clock here says {clock}"


class _Ticket(NamedTuple):
    context: ssl.SSLContext  # the only one that it is valid for
    session: ssl.SSLSession
    until: float  # Unix time


class TlsContextCache:
    """Contexts and session tickets of earlier connections. All methods may be called from any thread.

    Loading the CAs of a system takes longer than reaching a service (30 ms on a 2.5 GHz Xeon), so that is repeated only
    when their files have changed. A ticket belongs to one host, port and CA file and is used once, so that an observer
    cannot link two connections of a speaker by it. A server that does not accept it makes a full handshake. Early data
    (0-RTT) is not used: Python's ssl does not support it, and a turn could be replayed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[str, tuple[_Stamp, ssl.SSLContext]] = {}
        self._tickets: dict[tuple[str, int, str], _Ticket] = {}

    def context(self, ca_file: str = "") -> ssl.SSLContext:
        """Return a context as ``context`` does, the cached one while its files are unchanged. Raises ConfigError."""
        stamp = _stamp(ca_file)
        with self._lock:
            loaded, cached = self._contexts.get(ca_file, ((), None))
        if stamp and cached and loaded == stamp:
            return cached
        new = context(ca_file)
        if stamp and stamp == _stamp(ca_file):  # the files were not written meanwhile
            with self._lock:
                _keep(self._contexts, ca_file, (stamp, new))
        return new

    def wrap(self, sock: socket.socket, host: str, port: int, ca_file: str = "") -> ssl.SSLSocket:
        """Return *sock* with TLS, before the handshake and with a ticket for *host* if there is one.

        Raises ConfigError when *ca_file* is of no use, and OSError.
        """
        context = self.context(ca_file)
        with self._lock:
            ticket = self._tickets.pop((host, port, ca_file), None)
        session = ticket.session if ticket and ticket.context is context and time.time() < ticket.until else None
        return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False, session=session)

    def keep(self, tls: ssl.SSLSocket, port: int, ca_file: str = "") -> None:
        """Keep the ticket of *tls*, if the server sent one: in TLS 1.3 it comes with the first data that is read."""
        session, host = tls.session, tls.server_hostname
        if session is None or not session.has_ticket or not host:
            return
        until = min(time.time() + TICKET_MAX_AGE_S, _expires(tls))
        with self._lock:
            _keep(self._tickets, (host, port, ca_file), _Ticket(tls.context, session, until))


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > MAX_TLS_ENTRIES:
        del kept[next(iter(kept))]


def _expires(tls: ssl.SSLSocket) -> float:
    """Return when the certificate of the peer expires, in Unix time; 0 where it does not say."""
    end = (tls.getpeercert() or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else 0.0


def _stamp(ca_file: str) -> _Stamp:
    """Return a value that changes with the files of the CAs; () where it cannot be told."""
    if ca_file:
        try:
            places = [expand_user(ca_file)]
        except ConfigError:
            return ()
    else:
        system = ssl.get_default_verify_paths()
        places = [Path(each) for each in (system.cafile, system.capath) if each]
    try:
        found = [os.stat(place) for place in places]
    except OSError:
        return ()
    return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)
