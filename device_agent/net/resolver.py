"""DNS resolver: look-ups in background threads, and a cache of their results.

``getaddrinfo`` cannot be cancelled, and without a network it takes half a minute. So it runs in a thread that is left
behind when the caller's time is over; a bounded number of these exist. A cached address is good enough to begin with,
because a peer with TLS has to show a certificate for the name.
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.errors import LinkLost

log = logging.getLogger(__name__)

KNOWN_NAME_WAIT_S = 1.0
"""How long to wait for an answer where a cached one exists."""
LOOKUP_RETRY_S = 2.0
"""After so long without an answer another look-up begins: the first may have gone to a server of another network."""
MAX_LOOKUPS = 4
"""Look-ups under way at a time, for all names together."""
RESOLVED_MAX_AGE_S = 24 * 3600.0
MAX_RESOLVED_NAMES = 32

_PRIVATE = "0.0.0.0/32 127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 100.64.0.0/10"
PRIVATE_NETWORKS = [ipaddress.ip_network(each) for each in f"{_PRIVATE} ::/128 ::1/128 fc00::/7 fe80::/10".split()]
"""This machine and private networks (100.64.0.0/10: many virtual ones), to which plain text may be sent."""


@dataclass(frozen=True)
class Address:
    """One address to connect to: the arguments of ``socket`` and ``connect``."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def private(self) -> bool:
        """Whether it is this machine or in a private network."""
        address = ipaddress.ip_address(str(self.sockaddr[0]).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in PRIVATE_NETWORKS if network.version == address.version)


Resolve = Callable[[str, int], list[Address]]
Answer = list[Address] | OSError | None
"""Addresses, why there are none, or None: aborted."""


def system_lookup(host: str, port: int) -> list[Address]:
    """Return the addresses that the system knows, however long that takes. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name with an empty part, or one that is too long
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a valid name") from error
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


class ResolverCache:
    """Results of look-ups, and the threads of those under way. All methods may be called from any thread."""

    def __init__(self, resolve: Resolve = system_lookup) -> None:
        self._resolve = resolve
        self._slots = threading.BoundedSemaphore(MAX_LOOKUPS)
        self._lock = threading.Lock()
        self._cached: dict[tuple[str, int], tuple[float, list[Address]]] = {}

    def cached(self, host: str, port: int, now: float) -> list[Address]:
        """Return the addresses of *host* that are not too old, [] for none. *now* is of the monotonic clock."""
        with self._lock:
            found, addresses = self._cached.get((host, port), (0.0, []))
        return addresses if now - found <= RESOLVED_MAX_AGE_S else []

    def store(self, host: str, port: int, addresses: list[Address], now: float) -> None:
        """Cache *addresses*, and forget the oldest name when there are too many."""
        with self._lock:
            self._cached.pop((host, port), None)
            self._cached[host, port] = (now, addresses)
            while len(self._cached) > MAX_RESOLVED_NAMES:
                del self._cached[next(iter(self._cached))]

    def prefetch(self, host: str, port: int) -> None:
        """Look *host* up in the background, unless it is cached or a number."""
        if not (_literal(host, port) or self.cached(host, port, time.monotonic())):
            self.start(host, port, lambda _answer: None)

    def start(self, host: str, port: int, tell: Callable[[Answer], None]) -> bool:
        """Begin a look-up whose thread will call *tell* with the answer; return False where too many are under way."""
        if not self._slots.acquire(blocking=False):
            return False
        # No worker owns this thread, because nothing could end it.
        thread = threading.Thread(target=self._look_up, args=(host, port, tell), name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # as many threads as the system allows
            self._slots.release()
            return False
        return True

    def _look_up(self, host: str, port: int, tell: Callable[[Answer], None]) -> None:
        answer: Answer
        try:
            answer = self._resolve(host, port)
            self.store(host, port, answer, time.monotonic())
        except OSError as error:
            answer = error
        finally:
            self._slots.release()
        tell(answer)


class Lookup:
    """One question for the addresses of a name. ``abort`` may be called from any thread, the rest belongs to one."""

    def __init__(self, host: str, port: int, cache: ResolverCache) -> None:
        self._host, self._port, self._cache = host, port, cache
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._refreshing = False  # a look-up is under way whose answer was not read yet
        self._found: list[Address] = []

    def refresh(self, notify: Callable[[], None]) -> list[Address]:
        """Return the cached addresses, and look the name up again meanwhile; [] where none are, without a look-up.

        The thread of the look-up calls *notify* when ``news`` has an answer, possibly long after the last use.
        """
        known = self._cache.cached(self._host, self._port, time.monotonic())

        def tell(answer: Answer) -> None:
            self._answers.put(answer)
            notify()

        self._refreshing = bool(known) and self._cache.start(self._host, self._port, tell)
        return interleaved(known)

    def news(self) -> list[Address]:
        """Return what was found since ``refresh``, [] for nothing yet. Does not wait."""
        if self._refreshing:
            try:
                answer = self._answers.get_nowait()
            except queue.Empty:
                return []
            self._refreshing = False
            if isinstance(answer, list):
                self._found = interleaved(answer)
            elif answer is None:
                self._answers.put(None)  # for ``answer``
        return self._found

    def answer(self, until: float) -> list[Address]:
        """Wait for the addresses, at most *until* (monotonic clock); the families alternate.

        Raises OSError when there are none, TimeoutError when no answer came, LinkLost when aborted.
        """
        if found := _literal(self._host, self._port) or self.news():
            return found
        known = self._cache.cached(self._host, self._port, time.monotonic())
        try:
            return interleaved(self._wait(min(until, time.monotonic() + KNOWN_NAME_WAIT_S) if known else until))
        except OSError as error:
            if isinstance(error, LinkLost) or not known:
                raise
            log.info("%s: %s; using the addresses of last time", self._host, error)
            return interleaved(known)

    def _wait(self, until: float) -> list[Address]:
        """Begin a look-up every LOOKUP_RETRY_S until one has a final answer."""
        asked, failure = False, None
        while (now := time.monotonic()) < until:
            asked |= self._refreshing or self._cache.start(self._host, self._port, self._answers.put)
            self._refreshing = False
            again = min(now + LOOKUP_RETRY_S, until)
            while (left := again - time.monotonic()) > 0:
                try:
                    answer = self._answers.get(timeout=left)
                except queue.Empty:
                    break
                if answer is None:
                    raise LinkLost("aborted")
                if not isinstance(answer, OSError):
                    return answer
                if answer.errno != socket.EAI_AGAIN:
                    raise answer
                failure = answer  # no name server answered: there may be a network soon
        why = "" if asked else f"; {MAX_LOOKUPS} earlier ones hang"
        raise failure or TimeoutError(f"the look-up of {self._host} does not answer{why}; is there a network?")

    def abort(self) -> None:
        """End the wait, now or later."""
        self._answers.put(None)


def _literal(host: str, port: int) -> list[Address]:
    """Return the address that *host* is; [] where it is a name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [Address(family, sockaddr) for _, _, _, _, sockaddr in found]


def interleaved(addresses: list[Address]) -> list[Address]:
    """Return *addresses* with the families alternating, so that an unreachable family delays the other by one step."""
    first = [each for each in addresses if each.family == addresses[0].family]
    others = [each for each in addresses if each.family != addresses[0].family]
    return [each for pair in itertools.zip_longest(first, others) for each in pair if each]
