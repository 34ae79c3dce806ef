"""Is this frame speech? The only file that knows webrtcvad.

It uses the C module inside: the wrapper around that looks its own version up when it is loaded, and with that loads
email, zip and csv, 1.3 MiB of them.
"""

from __future__ import annotations

import _webrtcvad
import numpy as np

from .audio import FULL_SCALE, Framer, Resampler, decibels, frame_bytes, powers

RATE = 16000
"""webrtcvad takes 8, 16, 32 and 48 kHz; it works inside at 8 kHz, and 24 kHz it refuses."""
ABOVE_FLOOR_DB = 6.0
"""Speech is at least this much louder than the quietest frame of late. It tells a voice from a fan or mains hum,
which webrtcvad alone takes for speech."""
QUIETEST_DB, LOUDEST_DB = -70.0, 0.0
"""Where the floor may lie: below is only the converter's own noise. Above there is no limit: what
is loud from the first frame on and never softer is no voice, which pauses for breath, however loud it is."""
FLOOR_RISE_DB = 0.05
"""How much the floor may rise with each frame: 2.5 dB a second, so that a long sentence does not drown itself."""
RAIL = int(0.98 * FULL_SCALE)
"""A sample that is farther from zero lies at the rail: what the converter says when it has no more to say."""
MOST_AT_RAILS = 0.75
"""How much of a frame may lie at the rails. More does not even in a voice that is 18 dB too loud; what a broken
microphone or a plug that is half out delivers does."""


class VoiceDetector:
    """Judges one frame after the other, all at *rate*. Belongs to one thread."""

    def __init__(self, rate: int, aggressiveness: int) -> None:
        self.aggressiveness = aggressiveness
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, aggressiveness)
        self._resampler, self._framer = Resampler(rate, RATE), Framer(frame_bytes(RATE))
        self._floor = LOUDEST_DB  # the first frame brings it down to where it belongs
        self._voiced = False

    def __call__(self, frame: bytes) -> bool:
        """Return whether *frame* holds speech. The verdict may lag by the 20 ms that the resampler holds back."""
        self._framer.feed(self._resampler.feed(frame))
        while ready := self._framer.take():
            self._voiced = _webrtcvad.process(self._vad, RATE, ready, len(ready) // 2)
        power, swing = powers(frame)
        if power > MOST_AT_RAILS * RAIL**2 and _at_the_rails(frame) > MOST_AT_RAILS:  # one of less power cannot be
            return False  # and the floor stays: how loud the room is cannot be told from it
        loudness = decibels(swing)
        self._floor = min(max(loudness, QUIETEST_DB), self._floor + FLOOR_RISE_DB)
        return self._voiced and loudness >= self._floor + ABOVE_FLOOR_DB


def _at_the_rails(frame: bytes) -> float:
    """Return how much of *frame* lies at the rails, 0 to 1."""
    wave = np.frombuffer(frame, np.int16)
    return np.count_nonzero((wave >= RAIL) | (wave <= -RAIL)) / max(1, len(wave))
