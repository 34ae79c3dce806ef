"""A dial with a watch: which step was done, what it found, and how long it took."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

from ..net.deadline_stream import DeadlineStream
from ..net.dialer import Dialer
from ..net.resolver import Address, ResolverCache
from ..net.tls_sessions import TlsContextCache
from .findings import Finding, Mark

MAX_SHOWN_ADDRESSES = 3
"""How many addresses of a name are shown."""
CERT_EXPIRES_SOON_S = 7 * 86400.0
"""A certificate that ends so soon is worth a word."""


class ConnectTrace(Dialer):
    """Dials as ``Dialer`` does; *name* is what errors call the other side. Belongs to one thread."""

    def __init__(self, name: str, host: str, *, ca_file: str) -> None:
        super().__init__(
            name, ca_file=ca_file, book=ResolverCache(), tickets=TlsContextCache()
        )  # nothing is taken from memory
        self.name, self._host = name, host
        self.step = "name"
        """What is done now, or what could not be done."""
        self._found: list[Finding] = []
        self._tls_s: float | None = None

    def findings(self, line: DeadlineStream | None) -> Iterator[Finding]:
        """Yield what is known; *line* is what came of it, if anything."""
        yield from self._found
        if line is not None:
            yield _plain() if self._tls_s is None else _certificate(line.sock, self._tls_s, time.time())

    def _find(self, host: str, port: int, until: float) -> list[Address]:
        began = time.monotonic()
        addresses = super()._find(host, port, until)
        self._note(_name(self._host, addresses, time.monotonic() - began))
        self.step = "route"
        return addresses

    def _race(self, addresses: list[Address], until: float) -> socket.socket:
        began = time.monotonic()
        sock = super()._race(addresses, until)
        ms = 1000 * (time.monotonic() - began)
        peer = f"{sock.getpeername()[0]} port {sock.getpeername()[1]}"
        self._note(Finding("route", f"{peer} answers ({ms:.0f} ms)", figures={"peer": peer, "ms": round(ms, 1)}))
        self.step = "TLS"
        return sock

    def _wrap(self, host: str, until: float) -> None:
        began = time.monotonic()
        super()._wrap(host, until)
        self._tls_s = time.monotonic() - began

    def _note(self, finding: Finding) -> None:
        self._found.append(finding)


def _name(host: str, addresses: list[Address], took: float) -> Finding:
    places = list(dict.fromkeys(str(address.place[0]) for address in addresses))
    figures = {"host": host, "addresses": places, "ms": round(1000 * took, 1)}
    if places == [host]:
        return Finding("name", f"{host} is already an address", figures=figures)
    more = f" and {len(places) - MAX_SHOWN_ADDRESSES} more" if len(places) > MAX_SHOWN_ADDRESSES else ""
    return Finding(
        "name", f"{host} is {', '.join(places[:MAX_SHOWN_ADDRESSES])}{more} ({1000 * took:.0f} ms)", figures=figures
    )


def _plain() -> Finding:
    return Finding("TLS", "none: not encrypted, but it stays in your own network", figures={"plain": True})


def _certificate(sock: socket.socket, took: float, now: float) -> Finding:
    """Return what to say of a handshake that was done; *now* is Unix time."""
    assert isinstance(sock, ssl.SSLSocket)  # noqa: S101  somebody has wrapped it
    ends = ssl.cert_time_to_seconds(str((sock.getpeercert() or {}).get("notAfter")))
    until = time.strftime("%Y-%m-%d", time.gmtime(ends))
    text = f"{sock.version()} ({1000 * took:.0f} ms); the certificate is valid until {until}"
    figures = {"version": sock.version(), "ms": round(1000 * took, 1), "valid_until": until}
    if ends - now < CERT_EXPIRES_SOON_S:
        return Finding("TLS", text, Mark.NOTE, "that is soon: the operator of the service has to renew it", figures)
    return Finding("TLS", text, figures=figures)
