"""Happy Eyeballs (RFC 8305): staggered, repeated connects to several addresses, of which the first to succeed wins."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections import deque
from contextlib import suppress
from typing import BinaryIO

from .resolver import Address

CONNECT_STAGGER_S, CONNECT_RETRY_S = 0.25, 1.0
"""Seconds between two attempts: through all addresses first, then over again. TCP itself repeats a lost SYN after 1, 3
and 7 s, and so comes late where the network returns in between."""
MAX_CONNECT_ATTEMPTS = 6
"""Attempts under way at a time; the oldest is given up for another one."""

TCP_USER_TIMEOUT_MS = 8000
"""Sent data is acknowledged within this time, or the connection is dead. TCP repeats after 0.2, 0.6, 1.4, 3, 6.2 and
12.6 s: it repairs an outage of up to 6 s by itself, and after a longer one a new connection is quicker."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3


class HappyEyeballs:
    """Connection attempts under way, to several addresses or repeatedly to one. Belongs to one thread.

    *wakeup* is a file that ends the wait of ``step`` when it becomes readable.
    """

    def __init__(self, addresses: list[Address], wakeup: BinaryIO) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup, selectors.EVENT_READ)
        self._addresses = list(addresses)
        self._candidates = deque(addresses)  # the next to try first
        self._attempts: deque[socket.socket] = deque()
        self._begun = 0
        self._next = 0.0
        self._refusal: OSError | None = None
        self._failure: OSError | None = None

    def close(self) -> None:
        """Give up all attempts that are under way."""
        self._selector.close()
        for each in self._attempts:
            each.close()

    def join(self, addresses: list[Address]) -> None:
        """Try those of *addresses* that are new, at once and before any other is tried again."""
        new = [address for address in addresses if address not in self._addresses]
        if new:
            self._addresses += new
            self._candidates.extendleft(reversed(new))
            self._next = 0.0

    def step(self, now: float, until: float) -> socket.socket | None:
        """Begin another attempt if it is due, and wait for an event, at most *until*; return a connected socket.

        Raises OSError when an address has refused and no other can still answer.
        """
        if now >= self._next and self._candidates:
            self._begun += 1
            self._next = now + (CONNECT_STAGGER_S if self._begun < len(self._addresses) else CONNECT_RETRY_S)
            self._begin(self._candidates.popleft())
        if self._refusal and not self._attempts and self._begun >= len(self._addresses):
            raise self._refusal
        wake = min(until, self._next) if self._candidates else until
        for key, _ in self._selector.select(max(0.0, wake - now)):
            if key.data and (winner := self._end(key.fileobj, key.data)):  # type: ignore[arg-type]  # its socket
                return winner
        return None

    def verdict(self, timeout_s: float) -> OSError:
        """Return the error of a connection that was not made within *timeout_s*."""
        silence = TimeoutError(f"no server answered within {timeout_s:g} s; is there a network?")
        return self._refusal or (silence if self._attempts else self._failure or silence)

    def _begin(self, address: Address) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # no IPv6 here, or no descriptors left
            self._fail(address, error)
            return
        sock.setblocking(False)
        with suppress(OSError):
            _set_options(sock)
        if (code := sock.connect_ex(address.sockaddr)) not in {0, errno.EINPROGRESS}:
            sock.close()
            self._fail(address, OSError(code, os.strerror(code)))
            return
        self._candidates.append(address)
        if len(self._attempts) == MAX_CONNECT_ATTEMPTS:
            self._drop(self._attempts[0]).close()
        self._attempts.append(sock)
        self._selector.register(sock, selectors.EVENT_WRITE, address)

    def _end(self, sock: socket.socket, address: Address) -> socket.socket | None:
        """The attempt on *sock* is over: return it if it is connected."""
        self._drop(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            with suppress(ValueError):  # another attempt there has failed before
                self._candidates.remove(address)
            self._fail(address, OSError(code, os.strerror(code)))
            return None
        return sock

    def _drop(self, sock: socket.socket) -> socket.socket:
        self._selector.unregister(sock)
        self._attempts.remove(sock)
        return sock

    def _fail(self, address: Address, error: OSError) -> None:
        """Try *address* again later, unless it refused: an address that is unreachable now may be reachable soon."""
        self._failure = error
        if isinstance(error, ConnectionRefusedError):
            self._refusal = error
        else:
            self._candidates.append(address)
        if self._begun < len(self._addresses):
            self._next = 0.0


def _set_options(sock: socket.socket) -> None:
    """Let the kernel notice a dead connection, whether data is sent or not."""
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
