"""What a broker may send us, measured at the socket: whatever it ignores, the library never has the message.

MQTT 5.0, section 2.1: a packet begins with its kind and four flags, and with how many bytes follow.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_PACKET_BYTES = 8192
"""Bytes of a packet; the broker is told so (Maximum Packet Size)."""
MAX_PACKETS, PACKET_WINDOW_S = 200, 10.0
"""So many packets within so long are more than a home ever sends."""
SEND_STALLED_S = 30.0
"""A broker that talks on and for so long reads nothing of ours makes what waits for it grow."""

CONNACK, PUBLISH = 2, 3
FROM_BROKER = frozenset({CONNACK, PUBLISH, 4, 5, 6, 7, 9, 11, 13, 14, 15})
"""Kinds of packets that a client may receive: publish and its acknowledgements, subscribed, pong, goodbye, auth."""
QOS = 0b0110
"""The flags of a PUBLISH that hold its quality of service. We ask for 1 at most: 2 would have to be stored."""
MAX_HEADER_BYTES = 5


class BrokerLimit(ConnectionAbortedError):
    """The broker sends what it must not, or too much of it."""


class PacketLimits:
    """Reads along what a broker sends on one connection, in pieces of any size. Keeps nothing of it. Pure."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0  # bytes of the packet that has begun
        self._greeted = False
        self._times: deque[float] = deque(maxlen=MAX_PACKETS)

    def feed(self, data: bytes, now: float) -> None:
        """The broker has sent *data*; *now* is in seconds of a steady clock. Raises BrokerFloods."""
        at = 0
        while at < len(data):
            if self._left:
                passed = min(self._left, len(data) - at)
                self._left -= passed
                at += passed
                continue
            self._header.append(data[at])
            at += 1
            if len(self._header) > 1 and self._header[-1] < 0x80:
                self._begin(now)
            elif len(self._header) == MAX_HEADER_BYTES:
                raise BrokerLimit("it sends a packet that does not end")

    def _begin(self, now: float) -> None:
        kind, flags, size = self._header[0] >> 4, self._header[0] & 0x0F, 0
        for place, byte in enumerate(self._header[1:]):
            size |= (byte & 0x7F) << 7 * place
        if size + len(self._header) > MAX_PACKET_BYTES:
            raise BrokerLimit(f"it sends a packet of {size} bytes, and was told to send {MAX_PACKET_BYTES} at most")
        if kind not in FROM_BROKER or (kind == PUBLISH and flags & QOS > 0b0010):
            raise BrokerLimit(f"it sends a packet of kind {kind}, flags {flags:04b}, that we did not ask for")
        if kind == CONNACK and self._greeted:
            raise BrokerLimit("it repeats its greeting")
        self._greeted |= kind == CONNACK
        if len(self._times) == MAX_PACKETS and now - self._times[0] < PACKET_WINDOW_S:
            raise BrokerLimit(f"it sends more than {MAX_PACKETS} packets within {PACKET_WINDOW_S:g} s")
        self._times.append(now)
        self._header.clear()
        self._left = size


class LimitedSocket:
    """A socket to a broker. What exceeds the limits is told to *complain*, and ends the connection."""

    def __init__(self, sock: Any, complain: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._sock, self._complain, self._clock = sock, complain, clock
        self._limits = PacketLimits()
        self._stuck: float | None = None  # since when the broker has taken nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """As of a socket. Raises BrokerFloods, too."""
        data: bytes = self._sock.recv(size)
        now = self._clock()
        try:
            self._limits.feed(data, now)
            if self._stuck is not None and now - self._stuck > SEND_STALLED_S:
                raise BrokerLimit(f"it has read nothing for {SEND_STALLED_S:g} s, but keeps sending")
        except BrokerLimit as error:
            self._complain(str(error))
            raise
        return data

    def send(self, data: bytes) -> int:
        """As of a socket."""
        try:
            sent: int = self._sock.send(data)
        except OSError:
            if self._stuck is None:
                self._stuck = self._clock()
            raise
        self._stuck = None
        return sent
