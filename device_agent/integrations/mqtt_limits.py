"""MQTT limits: which packets a broker may send, and how many, checked at the socket before the library stores them.

MQTT 5.0, section 2.1: a packet begins with its type and four flags, and the number of bytes that follow.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_PACKET_BYTES = 8192
"""The broker is told (Maximum Packet Size)."""
MAX_PACKETS, PACKET_WINDOW_S = 200, 10.0
"""Packets within this time, more than any home sends."""
SEND_STALLED_S = 30.0
"""A broker that sends, but has read nothing for this time, makes the queue of the library grow."""
MAX_HEADER_BYTES = 5

CONNACK, PUBLISH = 2, 3
FROM_BROKER = frozenset({CONNACK, PUBLISH, 4, 5, 6, 7, 9, 11, 13, 14, 15})
"""Packet types that a client may receive: also PUBACK to PUBCOMP, SUBACK, UNSUBACK, PINGRESP, DISCONNECT and AUTH."""
QOS = 0b0110
"""Flags of a PUBLISH that hold its quality of service. The client subscribes with 1; messages of 2 would be stored."""


class BrokerLimit(ConnectionAbortedError):
    """A broker has exceeded a limit."""


class PacketLimits:
    """Limits of one connection. Pure; it keeps no payload."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0  # bytes of the packet that has begun
        self._connected = False
        self._times: deque[float] = deque(maxlen=MAX_PACKETS)

    def feed(self, data: bytes, now: float) -> None:
        """Check *data*, a piece of any size; *now* is in seconds of a monotonic clock. Raises BrokerLimit."""
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
        if kind == CONNACK and self._connected:
            raise BrokerLimit("it repeats its greeting")
        self._connected |= kind == CONNACK
        if len(self._times) == MAX_PACKETS and now - self._times[0] < PACKET_WINDOW_S:
            raise BrokerLimit(f"it sends more than {MAX_PACKETS} packets within {PACKET_WINDOW_S:g} s")
        self._times.append(now)
        self._header.clear()
        self._left = size


class LimitedSocket:
    """Socket to a broker that ends the connection at a limit, after a call of *exceeded* with the reason."""

    def __init__(self, sock: Any, exceeded: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._sock, self._exceeded, self._clock = sock, exceeded, clock
        self._limits = PacketLimits()
        self._stalled: float | None = None  # since when the broker has read nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """Receive like a socket. Raises BrokerLimit, too."""
        data: bytes = self._sock.recv(size)
        now = self._clock()
        try:
            self._limits.feed(data, now)
            if self._stalled is not None and now - self._stalled > SEND_STALLED_S:
                raise BrokerLimit(f"it has read nothing for {SEND_STALLED_S:g} s, but keeps sending")
        except BrokerLimit as error:
            self._exceeded(str(error))
            raise
        return data

    def send(self, data: bytes) -> int:
        """Send like a socket."""
        try:
            sent: int = self._sock.send(data)
        except OSError:
            if self._stalled is None:
                self._stalled = self._clock()
            raise
        self._stalled = None
        return sent
