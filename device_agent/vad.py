"""Is this frame speech? The only file that knows webrtcvad."""

from __future__ import annotations

import webrtcvad

from .audio import Framer, Resampler, frame_bytes, swing

RATE = 16000
"""webrtcvad takes 8, 16, 32 and 48 kHz; it works inside at 8 kHz, and 24 kHz it refuses."""
ABOVE_FLOOR_DB = 6.0
"""Speech is at least this much louder than the quietest frame of late. It tells a voice from a fan or mains hum,
which webrtcvad alone takes for speech."""
QUIETEST_DB, LOUDEST_FLOOR_DB = -70.0, -30.0
"""Where the floor may lie: below is only the converter's own noise, above is somebody shouting."""
FLOOR_RISE_DB = 0.05
"""How much the floor may rise with each frame: 2.5 dB a second, so that a long sentence does not drown itself."""


class VoiceDetector:
    """Judges one frame after the other, all at *rate*. Belongs to one thread."""

    def __init__(self, rate: int, aggressiveness: int) -> None:
        self._vad = webrtcvad.Vad(aggressiveness)
        self._resampler, self._framer = Resampler(rate, RATE), Framer(frame_bytes(RATE))
        self._floor = LOUDEST_FLOOR_DB  # the first frame brings it down to where it belongs
        self._voiced = False

    def __call__(self, frame: bytes) -> bool:
        """Return whether *frame* holds speech. The verdict may lag by the 20 ms that the resampler holds back."""
        loudness = swing(frame)
        self._floor = min(max(loudness, QUIETEST_DB), self._floor + FLOOR_RISE_DB, LOUDEST_FLOOR_DB)
        self._framer.feed(self._resampler.feed(frame))
        while ready := self._framer.take():
            self._voiced = self._vad.is_speech(ready, RATE)
        return self._voiced and loudness >= self._floor + ABOVE_FLOOR_DB
