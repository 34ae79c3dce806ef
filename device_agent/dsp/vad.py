"""Voice activity detection: is this frame speech? The only file that imports webrtcvad.

It uses the C module inside: the Python wrapper around it also loads email, zip and csv, 1.3 MiB of them.
"""

from __future__ import annotations

import _webrtcvad
import numpy as np

from .pcm import FULL_SCALE, decibels, frame_samples, powers

VAD_RATE_HZ = 8000
"""What webrtcvad works at inside, whatever it is given; 24 kHz it refuses. All rates of the services are multiples."""
LOW_PASS_TAPS = 8  # samples at VAD_RATE_HZ: 40 dB less above 5.6 kHz, and a verdict that lags by half of them
SPEECH_ABOVE_FLOOR_DB = 6.0
"""Above the quietest recent frame: tells a voice from a fan or mains hum, which webrtcvad alone takes for speech."""
MIN_FLOOR_DB, MAX_FLOOR_DB = -70.0, 0.0
"""Where the floor may lie. Below is only the noise of the converter; above there is no limit: what is loud from the
first frame on and never softer is no voice, which pauses for breath."""
FLOOR_RISE_DB = 0.05  # in a frame: 2.5 dB a second, so that a long sentence does not raise the floor above itself
RAIL_LEVEL = int(0.98 * FULL_SCALE)  # a sample that is farther from zero is clipped
MAX_CLIPPED_SHARE = 0.75
"""Not even a voice that is 18 dB too loud clips more of a frame; a broken microphone or a half-out plug does."""


class VoiceDetector:
    """Judges one frame after the other, all at *rate*. Belongs to one thread."""

    def __init__(self, rate: int, aggressiveness: int) -> None:
        self.aggressiveness = aggressiveness
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, aggressiveness)
        self._narrow = _Decimator(rate)
        self._floor = MAX_FLOOR_DB  # the first frame brings it down to where it belongs

    def __call__(self, frame: bytes) -> bool:
        """Return whether *frame* of 20 ms holds speech."""
        narrow = self._narrow.feed(frame)
        voiced = _webrtcvad.process(self._vad, VAD_RATE_HZ, narrow, len(narrow) // 2)
        wave = self._narrow.wave
        power, swing = powers(wave)
        # With less power so many samples cannot be clipped.
        if power > MAX_CLIPPED_SHARE * RAIL_LEVEL**2 and _clipped_share(wave) > MAX_CLIPPED_SHARE:
            return False  # and the floor stays: such a frame says nothing about the noise of the room
        loudness = decibels(swing)
        self._floor = min(max(loudness, MIN_FLOOR_DB), self._floor + FLOOR_RISE_DB)
        return voiced and loudness >= self._floor + SPEECH_ABOVE_FLOOR_DB


class _Decimator:
    """Reduces a stream at *rate* to VAD_RATE_HZ, with a low pass against aliases."""

    def __init__(self, rate: int) -> None:
        factor, size = rate // VAD_RATE_HZ, frame_samples(rate)
        length = LOW_PASS_TAPS * factor if factor > 1 else 1
        taps = np.hamming(length) * np.sinc((np.arange(length) - (length - 1) / 2) / factor)
        self._taps = taps / taps.sum()
        self._size = size
        self._both = np.zeros(length - 1 + size)  # the end of the frame before, and the frame
        self._windows = np.lib.stride_tricks.sliding_window_view(self._both, length)[::factor]
        self.wave = self._both[length - 1 :]
        """The frame as it came, in float64; changes with the next."""

    def feed(self, frame: bytes) -> bytes:
        """Take the next frame; return it as s16le at VAD_RATE_HZ."""
        self._both[: -self._size] = self._both[self._size :]
        self.wave[:] = np.frombuffer(frame, np.int16)
        narrow = self._windows.dot(self._taps).clip(-FULL_SCALE, FULL_SCALE - 1)  # a filter may overshoot
        return bytes(narrow.astype(np.int16))


def _clipped_share(wave: np.ndarray) -> float:
    """Return how much of *wave* is clipped, 0 to 1."""
    return np.count_nonzero((wave >= RAIL_LEVEL) | (wave <= -RAIL_LEVEL)) / max(1, len(wave))
