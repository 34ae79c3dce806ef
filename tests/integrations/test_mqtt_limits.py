"""What a broker may send, without a socket: every packet of an honest one passes, in whatever pieces it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.integrations.mqtt_limits import (
    FROM_BROKER,
    MAX_PACKET_BYTES,
    MAX_PACKETS,
    PACKET_WINDOW_S,
    SEND_STALLED_S,
    BrokerLimit,
    LimitedSocket,
    PacketLimits,
)

GREETING = b"\x20\x03\0\0\0"


def packet(first: int, size: int) -> bytes:
    left, length = size, b""
    while left > 0x7F:
        length += bytes([left & 0x7F | 0x80])
        left >>= 7
    return bytes([first]) + length + bytes([left]) + bytes(size)


HONEST = st.builds(
    packet,
    st.sampled_from([0x30, 0x31, 0x32, 0x33, 0x3A, *(kind << 4 for kind in FROM_BROKER - {2, 3})]),
    st.integers(0, 300) | st.integers(0, MAX_PACKET_BYTES - 3),
)


@given(st.lists(HONEST, max_size=MAX_PACKETS - 1), st.data())
def test_an_honest_broker_passes_in_pieces_of_any_size(packets, data):
    limits, stream = PacketLimits(), GREETING + b"".join(packets)
    while stream:
        size = data.draw(st.sampled_from([1, 1, 2, 3, 100, len(stream)]))
        limits.feed(stream[:size], 0.0)
        stream = stream[size:]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (packet(0x30, MAX_PACKET_BYTES - 2), "a packet of 8190 bytes, and was told to send 8192"),
        (b"\x30\xff\xff\xff\x7f", "a packet of 268435455 bytes"),
        (b"\x30\xff\xff\xff\xff", "a packet that does not end"),
        (b"\x34\x05", "of kind 3, flags 0100, that we did not ask for"),
        (b"\x36\x05", "of kind 3, flags 0110"),
        (GREETING + GREETING, "repeats its greeting"),
        *((bytes([kind << 4, 0]), f"of kind {kind}") for kind in sorted(set(range(16)) - FROM_BROKER)),
    ],
)
def test_what_exceeds_a_limit_is_found_before_it_is_there(sent, said):
    limits = PacketLimits()
    with pytest.raises(BrokerLimit, match=said):
        for byte in sent:
            limits.feed(bytes([byte]), 0.0)


def test_many_packets_are_too_many_only_where_they_come_at_once():
    slow, fast = PacketLimits(), PacketLimits()
    for number in range(10 * MAX_PACKETS):
        slow.feed(b"\xd0\0", number * (PACKET_WINDOW_S / MAX_PACKETS) * 1.01)
    fast.feed(b"\xd0\0" * MAX_PACKETS, 0.0)
    with pytest.raises(BrokerLimit, match="more than 200 packets within 10 s"):
        fast.feed(b"\xd0\0", PACKET_WINDOW_S - 0.1)


class Pipe:
    """A socket to a broker that talks, and reads only while it *reads*."""

    def __init__(self) -> None:
        self.reads = True

    def recv(self, size: int) -> bytes:
        return b"\xd0\0"[:size]

    def send(self, data: bytes) -> int:
        if not self.reads:
            raise BlockingIOError
        return len(data)

    def fileno(self) -> int:
        return 7


def test_a_broker_that_talks_on_and_reads_nothing_is_left():
    pipe, told, now = Pipe(), [], 0.0
    limited = LimitedSocket(pipe, told.append, clock=lambda: now)
    assert (limited.send(b"ping"), limited.fileno()) == (4, 7)
    pipe.reads = False
    with pytest.raises(BlockingIOError):
        limited.send(b"ping")
    now = SEND_STALLED_S
    assert limited.recv(2) == b"\xd0\0"
    now = SEND_STALLED_S + 1
    with pytest.raises(BrokerLimit):
        limited.recv(2)
    assert told == ["it has read nothing for 30 s, but keeps sending"]


def test_one_that_reads_again_is_not():
    pipe, told, now = Pipe(), [], 0.0
    limited = LimitedSocket(pipe, told.append, clock=lambda: now)
    pipe.reads = False
    with pytest.raises(BlockingIOError):
        limited.send(b"ping")
    pipe.reads = True
    limited.send(b"ping")
    now = 10 * SEND_STALLED_S
    assert limited.recv(2)
    assert told == []
