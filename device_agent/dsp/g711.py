"""G.711 codec of telephony: 8 bits a sample at 8 kHz, mu-law (pcmu) or A-law (pcma).

By table, because ``audioop`` has left the standard library: a frame of 20 ms takes microseconds. The tables are filled
by the arithmetic of ITU-T G.711, with the exact values of ``audioop`` and of Sun's reference code. Samples are in the
byte order of the machine, which is little-endian wherever this runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

G711_RATE = 8000  # samples per second


@dataclass(frozen=True)
class Codec:
    """Tables between s16le and one law."""

    codes: bytes  # the code of every sample, by the sample read as an unsigned number
    low: bytes  # the lower byte of the sample of every code
    high: bytes

    def encode(self, pcm: bytes) -> bytes:
        """Return one byte for each sample of *pcm*."""
        return bytes(map(self.codes.__getitem__, memoryview(pcm).cast("H")))

    def decode(self, codes: bytes) -> bytes:
        """Return the samples, as s16le."""
        pcm = bytearray(2 * len(codes))
        pcm[0::2], pcm[1::2] = codes.translate(self.low), codes.translate(self.high)
        return bytes(pcm)


def pcmu() -> Codec:
    """Return the codec of North America and Japan."""
    return _codec(_to_mu, _from_mu)


def pcma() -> Codec:
    """Return the codec of the rest of the world."""
    return _codec(_to_a, _from_a)


def _codec(to_code: Callable[[int], int], to_sample: Callable[[int], int]) -> Codec:
    codes = bytes(to_code(sample) for sample in (*range(32768), *range(-32768, 0)))
    samples = [to_sample(code) & 0xFFFF for code in range(256)]
    return Codec(codes, bytes(sample & 0xFF for sample in samples), bytes(sample >> 8 for sample in samples))


def _to_mu(sample: int) -> int:
    """14 bits, a bias of 33, eight segments; all bits of the code are inverted."""
    value, mask = sample >> 2, 0xFF
    if value < 0:
        value, mask = -value, 0x7F
    value = min(value, 8158) + 33
    segment = max(0, value.bit_length() - 6)
    return (segment << 4 | value >> (segment + 1) & 0xF) ^ mask


def _from_mu(code: int) -> int:
    code ^= 0xFF
    value = (((code & 0xF) << 3) + 132 << (code >> 4 & 7)) - 132
    return -value if code & 0x80 else value


def _to_a(sample: int) -> int:
    """13 bits, eight segments; every other bit of the code is inverted."""
    value, mask = sample >> 3, 0xD5
    if value < 0:
        value, mask = -value - 1, 0x55
    segment = max(0, value.bit_length() - 5)
    return (segment << 4 | value >> max(segment, 1) & 0xF) ^ mask


def _from_a(code: int) -> int:
    code ^= 0x55
    segment = code >> 4 & 7
    value = ((code & 0xF) << 4) + 8
    if segment:
        value = value + 256 << segment - 1
    return value if code & 0x80 else -value
