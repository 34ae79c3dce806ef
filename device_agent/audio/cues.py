"""Short sounds that say something without words, and how to take them out of what the microphone hears.

A cue plays while somebody begins to speak, and must not be part of what is sent. So all cues are made of three pure
notes that swell and fade softly: such a sound occupies a few narrow bands, whatever the room makes of it and however
late it arrives, and can be taken out of a frame without knowing either, while nearly all of a voice stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..core.actions import Cue
from ..dsp.pcm import FULL_SCALE, loudness, samples

LOW, MIDDLE, HIGH = 1000, 1500, 2000
"""Hz. A fifth and a fourth: they go together in any order. Small loudspeakers reach them, and old ears."""
NOTE_S = 0.1
"""A note swells and fades for all of its length, so it has no edge that would sound at other frequencies."""
HEARD = (LOW, MIDDLE, HIGH, 3000)
"""Hz. The notes, and what a small loudspeaker adds to them: twice the middle one, three times the low one."""
PEAK = 0.5
"""Of full scale, at a volume of 100."""
REST = 0

MELODIES = {
    Cue.LISTENING: (LOW, MIDDLE),
    Cue.DONE: (MIDDLE, LOW),
    Cue.WAITING: (LOW, REST, LOW),
    Cue.FAILED: (MIDDLE, LOW, LOW),
    Cue.OFFLINE: (LOW, REST, LOW, REST, LOW),
    Cue.REFUSED: (HIGH, LOW, HIGH, LOW),
    Cue.TROUBLE: (LOW, LOW, REST, LOW, LOW, REST, LOW, LOW),
    Cue.CAP: (HIGH, MIDDLE, LOW, REST, LOW),
    Cue.MUTED: (HIGH, LOW),
    Cue.UNMUTED: (LOW, HIGH),
    Cue.VOLUME: (MIDDLE,),
    Cue.ALARM: (HIGH, REST, HIGH, REST, HIGH, REST, REST, REST, REST, REST),
}

EVERY = tuple(cue.value for cue in MELODIES)


@dataclass(frozen=True, slots=True)
class CuePolicy:
    """How loud the cues are, in percent, and which of them play; the alarm always does."""

    volume: int
    alarm_volume: int
    wanted: Collection[str] = EVERY


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
        factor = PEAK * FULL_SCALE * loudness(own if volume is None or not own else volume)
        wave = np.concatenate([self._note(hertz) for hertz in MELODIES[cue]])
        return bytes(np.rint(factor * wave).astype(np.int16)) if factor else b""

    def _note(self, hertz: int) -> np.ndarray:
        count = samples(NOTE_S, self._rate)
        swell = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)
        return swell * np.sin(2 * np.pi * hertz * np.arange(count) / self._rate)
