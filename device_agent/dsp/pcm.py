"""PCM arithmetic: frames, levels, gain, mixing. All sound is s16le mono; only its rate differs."""

from __future__ import annotations

import math

import numpy as np

FRAME_MS = 20
"""Length of a frame: what the microphone delivers, the gate judges and the loudspeaker takes at once."""
FULL_SCALE = 32768.0
SILENCE_DB = -96.0  # level of digital silence: the floor of 16 bits
DITHER = 2  # steps of the converter: a rate conversion makes so much dither of digital silence
PROBE_STRIDE = 40  # one sample in so many is looked at first: a dozen tell nearly every frame from silence


def samples(seconds: float, rate: int) -> int:
    """Return how many samples *seconds* last at *rate*."""
    return round(seconds * rate)


def frame_samples(rate: int) -> int:
    """Return how many samples are in a frame at *rate*."""
    return rate * FRAME_MS // 1000


def frame_bytes(rate: int) -> int:
    """Return how many bytes are in a frame at *rate*."""
    return 2 * frame_samples(rate)


def frames(milliseconds: float) -> int:
    """Return how many frames it takes to hold *milliseconds*."""
    return math.ceil(milliseconds / FRAME_MS)


def seconds(pcm: bytes, rate: int) -> float:
    """Return the length of *pcm*."""
    return len(pcm) / (2 * rate)


def level(pcm: bytes) -> float:
    """Return the level of *pcm* in dBFS (RMS; a full-scale square wave is 0), SILENCE_DB for digital silence."""
    wave = np.frombuffer(pcm, np.int16).astype(np.float32)
    return decibels(float(np.dot(wave, wave)) / max(1, len(wave)))


def powers(wave: np.ndarray) -> tuple[float, float]:
    """Return the power of *wave* (float64, for exact sums), with and without an offset, which some microphones have."""
    count = max(1, len(wave))
    power = float(np.dot(wave, wave)) / count
    return power, power - (float(wave.sum()) / count) ** 2


def decibels(power: float) -> float:
    """Return *power* in dBFS, at least SILENCE_DB."""
    return max(SILENCE_DB, 10 * math.log10(power / FULL_SCALE**2)) if power > 0 else SILENCE_DB


def is_nothing(pcm: bytes) -> bool:
    """Whether *pcm* is digital silence, with any offset: a converter that hears a room is never so quiet."""
    few = memoryview(pcm).cast("h")[::PROBE_STRIDE]
    if few and max(few) - min(few) > 2 * DITHER:
        return False
    wave = np.frombuffer(pcm, np.int16)
    return not len(wave) or int(wave.max()) - int(wave.min()) <= 2 * DITHER


def mix(one: bytes, other: bytes) -> bytes:
    """Return the sum of both, as long as the longer of them and clipped to 16 bits."""
    if not (one and other):
        return one or other
    size = max(len(one), len(other))
    waves = [np.frombuffer(pcm.ljust(size, b"\0"), np.int16).astype(np.int32) for pcm in (one, other)]
    return bytes(np.clip(waves[0] + waves[1], -32768, 32767).astype(np.int16))


def unfold(pcm: bytes, channels: int) -> bytes:
    """Return mono *pcm* as the same sound on each of *channels*, interleaved."""
    return pcm if channels == 1 else np.repeat(np.frombuffer(pcm, np.int16), channels).tobytes()


class Gain:
    """Volume without clicks: a change is spread over one frame."""

    def __init__(self, percent: float) -> None:
        self._target = self._now = loudness(percent)

    def set(self, percent: float) -> None:
        """Change to *percent* (0 to 100) within the next frame."""
        self._target = loudness(percent)

    def apply(self, pcm: bytes) -> bytes:
        """Return *pcm* at the volume."""
        if self._now == self._target == 1.0 or not pcm:
            return pcm
        wave = np.frombuffer(pcm, np.int16)
        factor: np.float32 | np.ndarray = np.float32(self._target)
        if self._now != self._target:
            factor = np.linspace(self._now, self._target, len(wave), dtype=np.float32)
            self._now = self._target
        return np.rint(wave * factor).astype(np.int16).tobytes()


def loudness(percent: float) -> float:
    """Return the factor for a volume of *percent*: 100 is 1, 0 is 0, and the steps between sound equal."""
    return (max(0.0, min(100.0, percent)) / 100) ** 2
