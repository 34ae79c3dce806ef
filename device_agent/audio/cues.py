"""Cues: synthesis of the short tones that tell the state of the device.

A cue may sound while the user begins to speak, and must not be part of what is sent. So all cues are made of three pure
tones that fade in and out: such a sound occupies a few narrow bands, whatever the room makes of it and however late it
arrives, and ``ToneFilter`` can remove it without knowing either, while nearly all of a voice stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..core.actions import Cue
from ..dsp.pcm import FULL_SCALE, loudness, samples

LOW_HZ, MIDDLE_HZ, HIGH_HZ = 1000, 1500, 2000
"""A fifth and a fourth: they sound well in any order. Small loudspeakers play them, and old ears hear them."""
PAUSE_HZ = 0
CUE_NOTE_S = 0.1
"""A note fades in and out for all of its length, so it has no edge that would sound at other frequencies."""
CUE_TONES_HZ = (LOW_HZ, MIDDLE_HZ, HIGH_HZ, 3000)  # with the harmonics of a small loudspeaker: 2 x 1500, 3 x 1000
CUE_PEAK = 0.5  # of full scale, at a volume of 100

MELODIES = {
    Cue.LISTENING: (LOW_HZ, MIDDLE_HZ),
    Cue.DONE: (MIDDLE_HZ, LOW_HZ),
    Cue.WAITING: (LOW_HZ, PAUSE_HZ, LOW_HZ),
    Cue.FAILED: (MIDDLE_HZ, LOW_HZ, LOW_HZ),
    Cue.OFFLINE: (LOW_HZ, PAUSE_HZ, LOW_HZ, PAUSE_HZ, LOW_HZ),
    Cue.REFUSED: (HIGH_HZ, LOW_HZ, HIGH_HZ, LOW_HZ),
    Cue.TROUBLE: (*(LOW_HZ, LOW_HZ, PAUSE_HZ) * 2, LOW_HZ, LOW_HZ),
    Cue.CAP: (HIGH_HZ, MIDDLE_HZ, LOW_HZ, PAUSE_HZ, LOW_HZ),
    Cue.MUTED: (HIGH_HZ, LOW_HZ),
    Cue.UNMUTED: (LOW_HZ, HIGH_HZ),
    Cue.VOLUME: (MIDDLE_HZ,),
    Cue.ALARM: (*(HIGH_HZ, PAUSE_HZ) * 3, *(PAUSE_HZ,) * 4),
}

ALL_CUES = tuple(cue.value for cue in MELODIES)


@dataclass(frozen=True, slots=True)
class CuePolicy:
    """How loud the cues are, in percent, and which of them play; the alarm always does."""

    volume: int
    alarm_volume: int
    wanted: Collection[str] = ALL_CUES


class Cues:
    """The cues of one device at *rate* Hz, s16le mono."""

    def __init__(self, rate: int, policy: CuePolicy) -> None:
        self._rate = rate
        self.tune(policy)

    def tune(self, policy: CuePolicy) -> None:
        """Follow another *policy* from the next cue on. For the thread that calls ``sound``."""
        self._volumes = {cue: policy.volume if cue.value in policy.wanted else 0 for cue in MELODIES}
        self._volumes[Cue.ALARM] = policy.alarm_volume

    def sound(self, cue: Cue, volume: int | None = None) -> bytes:
        """Return a cue, b"" where it is not wanted; at another *volume* than its own, unless it is off."""
        own = self._volumes[cue]
        factor = CUE_PEAK * FULL_SCALE * loudness(own if volume is None or not own else volume)
        wave = np.concatenate([self._note(hertz) for hertz in MELODIES[cue]])
        return bytes(np.rint(factor * wave).astype(np.int16)) if factor else b""

    def _note(self, hertz: int) -> np.ndarray:
        count = samples(CUE_NOTE_S, self._rate)
        envelope = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)
        return envelope * np.sin(2 * np.pi * hertz * np.arange(count) / self._rate)
