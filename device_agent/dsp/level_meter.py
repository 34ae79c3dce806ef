"""Level meter: peak of the frame levels, measured only while it is watched."""

from __future__ import annotations

from .pcm import SILENCE_DB, level


class LevelMeter:
    """``measure`` belongs to the thread with the frames, ``take`` to another. Measures only while *wanted*."""

    def __init__(self) -> None:
        self.wanted = False
        self._loudest = SILENCE_DB

    def measure(self, pcm: bytes) -> None:
        """Take the next frame."""
        if self.wanted:
            self._loudest = max(self._loudest, level(pcm))

    def take(self) -> float:
        """Return the level in dBFS of the loudest frame since the last call."""
        loudest, self._loudest = self._loudest, SILENCE_DB
        return loudest
