"""How loud it is at this moment, for whoever looks."""

from __future__ import annotations

from .pcm import SILENCE_DB, level


class LevelMeter:
    """Shown every frame by the thread that has it; asked by another. Nothing is measured while nobody wants it."""

    def __init__(self) -> None:
        self.wanted = False
        self._loudest = SILENCE_DB

    def hear(self, pcm: bytes) -> None:
        """Take the next frame."""
        if self.wanted:
            self._loudest = max(self._loudest, level(pcm))

    def take(self) -> float:
        """Return the loudness in dBFS of the loudest frame since this was called last."""
        loudest, self._loudest = self._loudest, SILENCE_DB
        return loudest
