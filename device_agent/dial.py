"""An open TCP or TLS connection, that can be aborted at any point of its making."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from .errors import LinkLost, LinkRefused

PATIENCE_S = 10.0
"""How long to wait for any one step: an address, TLS, an answer, room to send, the rest of a message."""

SECURE = {"wss": 443, "https": 443}
PLAIN = {"ws": 80, "http": 80}


class Dial:
    """A socket from its first packet on. All methods belong to one thread, except ``abort``.

    *name* is what errors call the other side. *patience* bounds each step, in seconds.
    """

    def __init__(self, name: str, patience: float = PATIENCE_S) -> None:
        self._name, self._patience = name, patience
        self._sock: socket.socket | None = None
        self._aborted = False

    @property
    def sock(self) -> socket.socket:
        """The socket. ``connect`` came first."""
        assert self._sock is not None  # noqa: S101
        return self._sock

    def connect(self, url: str) -> socket.socket:
        """Connect to the host of *url*, with TLS where its scheme asks for it.

        Raises OSError and ssl.SSLError as they come, LinkLost when aborted, and LinkRefused where plain words would
        leave the house.
        """
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or SECURE.get(parts.scheme) or PLAIN[parts.scheme]
        failure: OSError = ConnectionError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if parts.scheme in PLAIN and not _is_near(str(address[0])):
                raise LinkRefused(f"{self._name} is not in a private network: use {parts.scheme}s:// instead")
            try:
                self._take(socket.socket(family, kind, protocol))
                self.sock.connect(address)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                break
            except LinkLost:
                raise
            except OSError as error:
                failure = error
                self.sock.close()
        else:
            raise failure
        if parts.scheme in SECURE:
            self._wrap(host)
        return self.sock

    def _wrap(self, host: str) -> None:
        """Begin TLS in two steps: ours before the handshake, so that ``abort`` has something to break."""
        context = ssl.create_default_context()
        tls = context.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
        self._take(tls)
        tls.do_handshake()

    def _take(self, sock: socket.socket) -> None:
        sock.settimeout(self._patience)
        self._sock = sock
        if self._aborted:
            raise LinkLost("aborted")

    def abort(self) -> None:
        """Break whatever the owner is blocked in, now or later. Safe from any thread, at any time."""
        self._aborted = True
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket. Harmless where there is none."""
        if self._sock is not None:
            self._sock.close()


def _is_near(address: str) -> bool:
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def unreachable(name: str, error: Exception) -> LinkLost:
    """Return what to say when no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is not valid ({error.verify_message}); is this machine's clock right?"
        return LinkLost(f"{name}: {text}")
    return LinkLost(f"cannot reach {name}: {error}")
