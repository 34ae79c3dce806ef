"""Notch filter: removes known tones from a frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .pcm import FULL_SCALE, frame_samples


class ToneFilter:
    """Removes tones of these *frequencies* (Hz) from the frames of a microphone at *rate* Hz. Belongs to one thread.

    Each tone is fitted to two frames, its amplitude as a cubic, and subtracted from the last one: 30 dB and more of a
    cue, and of a voice what lies within some 40 Hz of the tones.
    """

    def __init__(self, rate: int, frequencies: Iterable[float]) -> None:
        self._size = frame_samples(rate)
        time = np.arange(2 * self._size) / rate
        bend = np.linspace(-1, 1, 2 * self._size)
        waves = [
            bend**power * wave(2 * np.pi * hertz * time)
            for hertz in frequencies
            for power in range(4)
            for wave in (np.cos, np.sin)
        ]
        basis: np.ndarray = np.linalg.qr(np.stack(waves, axis=1))[0]
        self._analysis, self._synthesis = basis.T.astype(np.float32), basis[self._size :].astype(np.float32)
        self._last = np.zeros(self._size, np.int16)

    def pass_by(self, frame: bytes) -> None:
        """Take a frame without tones."""
        self._last = np.frombuffer(frame, np.int16)

    def clean(self, frame: bytes) -> bytes:
        """Return the next frame without the tones."""
        now = np.frombuffer(frame, np.int16)
        both = np.concatenate((self._last, now)).astype(np.float32)
        self._last = now
        rest = now - self._synthesis @ (self._analysis @ both)
        return bytes(np.rint(np.clip(rest, -FULL_SCALE, FULL_SCALE - 1)).astype(np.int16))
