"""Names become addresses, aside: a look-up that hangs costs nobody more than their own patience.

The system's look-up cannot be stopped, and without a network it takes half a minute. So it runs in a thread that nobody
waits for longer than they like. There are never more than a few of these; and what was found lately is good enough to
begin with, or when no answer comes, because whoever lives there now still has to show a certificate.
"""

from __future__ import annotations

import ipaddress
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
"""How long to wait for an answer where an older one is known."""
LOOKUP_RETRY_S = 2.0
"""After so long without an answer it is asked again: the first may have gone to a server of another network."""
MAX_LOOKUPS = 4
"""Look-ups that may be under way at a time, for all names together."""
RESOLVED_MAX_AGE_S = 24 * 3600.0
"""How long an answer may be used in place of a new one."""
MAX_RESOLVED_NAMES = 32

PRIVATE_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        [
            *("0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
            "100.64.0.0/10",
            *("::/128", "::1/128", "fc00::/7", "fe80::/10"),
        ],
    )
)
"""This machine and private networks (100.64.0.0/10 is where many of the virtual ones are): where plain words may go."""


@dataclass(frozen=True)
class Address:
    """Where to connect: the arguments of ``socket`` and ``connect``."""

    family: int
    place: tuple[Any, ...]

    @property
    def near(self) -> bool:
        """Whether it is this machine or in a private network."""
        address = ipaddress.ip_address(str(self.place[0]).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in PRIVATE_NETWORKS if network.version == address.version)


Resolve = Callable[[str, int], list[Address]]
Answer = list[Address] | OSError | None
"""Addresses, why there are none, or: nobody wants to know any more."""


def system_lookup(host: str, port: int) -> list[Address]:
    """Ask the system, however long that takes. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name with an empty part, or one that is too long
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a valid name") from error
    return [Address(family, place) for family, _, _, _, place in found]


class ResolverCache:
    """What was found, and the look-ups under way. Any thread may call anything here."""

    def __init__(self, ask: Resolve = system_lookup) -> None:
        self._ask = ask
        self._room = threading.BoundedSemaphore(MAX_LOOKUPS)
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}

    def known(self, host: str, port: int, now: float) -> list[Address]:
        """Return what was found lately, if anything was. *now* is in seconds of the monotonic clock."""
        with self._lock:
            found, addresses = self._known.get((host, port), (0.0, []))
        return addresses if now - found <= RESOLVED_MAX_AGE_S else []

    def note(self, host: str, port: int, addresses: list[Address], now: float) -> None:
        """Remember *addresses*, and forget the oldest name when there are too many."""
        with self._lock:
            self._known.pop((host, port), None)
            self._known[host, port] = (now, addresses)
            while len(self._known) > MAX_RESOLVED_NAMES:
                del self._known[next(iter(self._known))]

    def ahead(self, host: str, port: int) -> None:
        """Look *host* up aside where nothing is known of it: who connects later need not wait for that."""
        if not (_literal(host, port) or self.known(host, port, time.monotonic())):
            self.begin(host, port, lambda _answer: None)

    def begin(self, host: str, port: int, tell: Callable[[Answer], None]) -> bool:
        """Look up *host* aside and *tell* what comes of it, some day; return False where too many are under way."""
        if not self._room.acquire(blocking=False):
            return False
        # The one kind of thread that nobody owns: nobody could end it.
        thread = threading.Thread(target=self._look_up, args=(host, port, tell), name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # as many threads as the system allows
            self._room.release()
            return False
        return True

    def _look_up(self, host: str, port: int, tell: Callable[[Answer], None]) -> None:
        answer: Answer
        try:
            answer = self._ask(host, port)
            self.note(host, port, answer, time.monotonic())
        except OSError as error:
            answer = error
        finally:
            self._room.release()
        tell(answer)


BOOK = ResolverCache()
"""The one of this process: each connection is made by somebody new, and all want to remember the same names."""


class Lookup:
    """One question for the addresses of a name. ``abort`` belongs to any thread, the rest to one."""

    def __init__(self, host: str, port: int, book: ResolverCache = BOOK) -> None:
        self._host, self._port, self._book = host, port, book
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._aside = False  # a question is under way that nobody waits for yet
        self._found: list[Address] = []

    def aside(self, ring: Callable[[], None]) -> list[Address]:
        """Return what was found lately, and ask again meanwhile; [] where nothing was, and nothing is asked.

        *ring* is called when there are ``news``, by another thread, and perhaps long after nobody cares.
        """
        known = self._book.known(self._host, self._port, time.monotonic())

        def tell(answer: Answer) -> None:
            self._answers.put(answer)
            ring()

        self._aside = bool(known) and self._book.begin(self._host, self._port, tell)
        return interleaved(known)

    def news(self) -> list[Address]:
        """Return what was found since ``aside``, [] where that is nothing, or nothing yet. Does not wait."""
        if self._aside:
            try:
                answer = self._answers.get_nowait()
            except queue.Empty:
                return []
            self._aside = False
            if isinstance(answer, list):
                self._found = interleaved(answer)
            elif answer is None:
                self._answers.put(None)  # for who waits
        return self._found

    def answer(self, until: float) -> list[Address]:
        """Wait for the addresses, at most *until*, in seconds of the monotonic clock; each family's turn by turn.

        Raises OSError when there are none, TimeoutError when no answer came, LinkLost when aborted.
        """
        if found := _literal(self._host, self._port) or self.news():
            return found
        known = self._book.known(self._host, self._port, time.monotonic())
        try:
            return interleaved(self._wait(min(until, time.monotonic() + KNOWN_NAME_WAIT_S) if known else until))
        except OSError as error:
            if isinstance(error, LinkLost) or not known:
                raise
            log.info("%s: %s; using the addresses of last time", self._host, error)
            return interleaved(known)

    def _wait(self, until: float) -> list[Address]:
        """Ask every AGAIN_S until an answer comes that will not change."""
        asked, failure = False, None
        while (now := time.monotonic()) < until:
            asked |= self._aside or self._book.begin(self._host, self._port, self._answers.put)
            self._aside = False
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
                failure = answer  # nobody could be asked: there may be a network soon
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
    return [Address(family, place) for _, _, _, _, place in found]


def interleaved(addresses: list[Address]) -> list[Address]:
    """Return *addresses* with the families alternating: one that leads nowhere delays the other by one step only."""
    first = [each for each in addresses if each.family == addresses[0].family]
    others = [each for each in addresses if each.family != addresses[0].family]
    mixed: list[Address] = []
    for n in range(max(len(first), len(others))):
        mixed += [*first[n : n + 1], *others[n : n + 1]]
    return mixed
