"""Who answers first: tries to connect to several addresses, one after another and over again, until one succeeds."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from .resolver import Address

CONNECT_STAGGER_S, CONNECT_RETRY_S = 0.25, 1.0
"""Seconds between two tries: through all addresses first, then over again. TCP itself repeats a greeting that was lost
after 1, 3 and 7 s, and so comes late where the network is back in between."""
MAX_CONNECT_ATTEMPTS = 6
"""How many tries may be under way; the oldest is given up for another one."""

TCP_USER_TIMEOUT_MS = 8000
"""What we send is acknowledged within this time, or the connection is dead. TCP repeats after 0.2, 0.6, 1.4, 3, 6.2 and
12.6 s: what heals within 6 s is healed by TCP, and for the rest a new connection is the quicker way."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3
"""Where nothing is said: seconds until the kernel asks whether anybody is there, between questions, how many."""


@dataclass(frozen=True)
class _Try:
    sock: socket.socket
    address: Address


class HappyEyeballs:
    """Tries under way to several addresses, or several to one; the first that comes through wins."""

    def __init__(self, addresses: list[Address], bell: socket.socket) -> None:
        """*bell* is what ends a wait of ``step`` when it becomes readable."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(bell, selectors.EVENT_READ)
        self._known = list(addresses)
        self._count = len(addresses)
        self._hopeful = deque(addresses)  # the next to try first
        self._tries: deque[socket.socket] = deque()
        self._begun = 0
        self._next = 0.0
        self._refusal: OSError | None = None
        self._failure: OSError | None = None

    def __enter__(self) -> HappyEyeballs:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._selector.close()
        for each in self._tries:
            each.close()

    def join(self, addresses: list[Address]) -> None:
        """Let those of *addresses* that are new take part, at once and before any is tried again."""
        new = [address for address in addresses if address not in self._known]
        if new:
            self._known += new
            self._count += len(new)
            self._hopeful.extendleft(reversed(new))
            self._next = 0.0

    def step(self, now: float, until: float) -> socket.socket | None:
        """Begin another try if it is time, and wait for something to happen, at most *until*; return the winner.

        Raises OSError when somebody has refused us and nobody else can still answer.
        """
        if now >= self._next and self._hopeful:
            self._begun += 1
            self._next = now + (CONNECT_STAGGER_S if self._begun < self._count else CONNECT_RETRY_S)
            self._begin(self._hopeful.popleft())
        if self._refusal and not self._tries and self._begun >= self._count:
            raise self._refusal
        wake = min(until, self._next) if self._hopeful else until
        for key, _ in self._selector.select(max(0.0, wake - now)):
            if key.data and (winner := self._end(key.data)):
                return winner
        return None

    def verdict(self, patience: float) -> OSError:
        """Return what to say when the time is over."""
        silence = TimeoutError(f"no server answered within {patience:g} s; is there a network?")
        return self._refusal or (silence if self._tries else self._failure or silence)

    def _begin(self, address: Address) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # no IPv6 here, or no descriptors left
            self._fail(address, error)
            return
        sock.setblocking(False)
        with suppress(OSError):
            _prepare(sock)
        if (code := sock.connect_ex(address.place)) not in {0, errno.EINPROGRESS}:
            sock.close()
            self._fail(address, OSError(code, os.strerror(code)))
            return
        self._hopeful.append(address)
        if len(self._tries) == MAX_CONNECT_ATTEMPTS:
            self._drop(self._tries[0]).close()
        self._tries.append(sock)
        self._selector.register(sock, selectors.EVENT_WRITE, _Try(sock, address))

    def _end(self, attempt: _Try) -> socket.socket | None:
        """A try is over: return its socket if it came through."""
        sock = self._drop(attempt.sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            with suppress(ValueError):  # another try there has failed before
                self._hopeful.remove(attempt.address)
            self._fail(attempt.address, OSError(code, os.strerror(code)))
            return None
        return sock

    def _drop(self, sock: socket.socket) -> socket.socket:
        self._selector.unregister(sock)
        self._tries.remove(sock)
        return sock

    def _fail(self, address: Address, error: OSError) -> None:
        """Nobody there: time may help, and costs nobody anything, unless we were turned away."""
        self._failure = error
        if isinstance(error, ConnectionRefusedError):
            self._refusal = error
        else:
            self._hopeful.append(address)
        if self._begun < self._count:
            self._next = 0.0


def _prepare(sock: socket.socket) -> None:
    """Let the kernel notice what is dead: when we speak, and when we do not."""
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
