"""Connect trace: the findings about name, route and TLS of one connect."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from ..net.resolver import Address
from .findings import Finding, noted

MAX_SHOWN_ADDRESSES = 3
CERT_EXPIRES_SOON_S = 7 * 86400.0


class ConnectTrace:
    """A ``Trace`` of a ``Dialer`` that connects to *host*; it begins with the connect."""

    def __init__(self, host: str) -> None:
        self.step = "name"
        """The step under way, or the one that failed."""
        self.findings: list[Finding] = []
        self._host, self._began = host, time.monotonic()

    def __call__(self, step: str, result: Any) -> None:
        now = time.monotonic()
        ms, self._began = 1000 * (now - self._began), now
        match step:
            case "resolve":
                self.findings.append(_name(self._host, result, ms))
                self.step = "route"
            case "connect":
                self.findings.append(_route(result, ms))
                self.step = "TLS"
            case "tls":
                self.findings.append(_certificate(result, ms, time.time()))


def plain() -> Finding:
    """Return the finding about a connection without TLS."""
    return Finding("TLS", "none: not encrypted, but it stays in your own network", figures={"plain": True})


def _name(host: str, addresses: Sequence[Address], ms: float) -> Finding:
    places = list(dict.fromkeys(str(address.sockaddr[0]) for address in addresses))
    figures = {"host": host, "addresses": places, "ms": round(ms, 1)}
    if places == [host]:
        return Finding("name", f"{host} is already an address", figures=figures)
    more = f" and {len(places) - MAX_SHOWN_ADDRESSES} more" if len(places) > MAX_SHOWN_ADDRESSES else ""
    shown = ", ".join(places[:MAX_SHOWN_ADDRESSES])
    return Finding("name", f"{host} is {shown}{more} ({ms:.0f} ms)", figures=figures)


def _route(sock: socket.socket, ms: float) -> Finding:
    peer = f"{sock.getpeername()[0]} port {sock.getpeername()[1]}"
    return Finding("route", f"{peer} answers ({ms:.0f} ms)", figures={"peer": peer, "ms": round(ms, 1)})


def _certificate(tls: ssl.SSLSocket, ms: float, now: float) -> Finding:
    """Return what the handshake has shown; *now* is Unix time."""
    ends = ssl.cert_time_to_seconds(str((tls.getpeercert() or {}).get("notAfter")))
    until = time.strftime("%Y-%m-%d", time.gmtime(ends))
    text = f"{tls.version()} ({ms:.0f} ms); the certificate is valid until {until}"
    figures = {"version": tls.version(), "ms": round(ms, 1), "valid_until": until}
    soon = "that is soon: the operator of the service has to renew it"
    return noted("TLS", text, soon if ends - now < CERT_EXPIRES_SOON_S else "", figures)
