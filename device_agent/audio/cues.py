"""Short sounds that say something without words, and how to take them out of what the microphone hears.

A cue plays while somebody begins to speak, and must not be part of what is sent. So all cues are made of three pure
notes that swell and fade softly: such a sound occupies a few narrow bands, whatever the room makes of it and however
late it arrives, and can be taken out of a frame without knowing either, while nearly all of a voice stays.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..core.events import Cue
from ..dsp.pcm import FULL_SCALE, frame_samples, loudness, samples

LOW, MIDDLE, HIGH = 1000, 1500, 2000
"""Hz. A fifth and a fourth: they go together in any order. Small loudspeakers reach them, and old ears."""
NOTE_S = 0.1
"""A note swells and fades for all of its length, so it has no edge that would sound at other frequencies."""
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


class Cues:
    """The cues of one device at *rate* Hz, s16le mono. Those in *wanted* have a *volume* of their own, in percent."""

    def __init__(self, rate: int, *, volume: int, alarm_volume: int, wanted: Collection[str] = EVERY) -> None:
        self._rate = rate
        self.tune(volume=volume, alarm_volume=alarm_volume, wanted=wanted)

    def tune(self, *, volume: int, alarm_volume: int, wanted: Collection[str]) -> None:
        """Let the next ones be so loud. For the thread that calls ``sound``."""
        self._volumes = {cue: volume if cue.value in wanted else 0 for cue in MELODIES}
        self._volumes[Cue.ALARM] = alarm_volume

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


class Comb:
    """Takes the notes of cues out of the frames of a microphone at *rate* Hz. Belongs to one thread.

    What the last two frames hold of each note, at a loudness that may change as a cubic does, is subtracted from the
    last one: 30 dB and more of a cue, and of a voice what lies within some 40 Hz of the notes.
    """

    HEARD = (LOW, MIDDLE, HIGH, 3000)
    """The notes, and what a small loudspeaker adds to them: twice the middle one, thrice the low one."""

    def __init__(self, rate: int) -> None:
        self._size = frame_samples(rate)
        time = np.arange(2 * self._size) / rate
        bend = np.linspace(-1, 1, 2 * self._size)
        waves = [
            bend**power * wave(2 * np.pi * hertz * time)
            for hertz in self.HEARD
            for power in range(4)
            for wave in (np.cos, np.sin)
        ]
        notes: np.ndarray = np.linalg.qr(np.stack(waves, axis=1))[0]
        self._seen, self._taken = notes.T.astype(np.float32), notes[self._size :].astype(np.float32)
        self._last = np.zeros(self._size, np.int16)

    def pass_by(self, frame: bytes) -> None:
        """Take a frame that holds no cue."""
        self._last = np.frombuffer(frame, np.int16)

    def clean(self, frame: bytes) -> bytes:
        """Return the next frame without what it holds of a cue."""
        now = np.frombuffer(frame, np.int16)
        both = np.concatenate((self._last, now)).astype(np.float32)
        self._last = now
        rest = now - self._taken @ (self._seen @ both)
        return bytes(np.rint(np.clip(rest, -FULL_SCALE, FULL_SCALE - 1)).astype(np.int16))
