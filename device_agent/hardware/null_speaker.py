"""Null speaker: discards sound in real time."""

from __future__ import annotations

import time

from ..dsp.pcm import FRAME_MS
from .ports import Cut, never


class SilentSpeaker:
    """Takes frames, each in the time that it would sound."""

    underruns = 0
    latency = 0.0

    def open(self) -> None: ...

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        time.sleep(FRAME_MS / 1000)

    def drain(self, cut: Cut = never) -> None: ...
    def drop(self) -> None: ...
    def close(self) -> None: ...
