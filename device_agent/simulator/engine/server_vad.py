"""Input buffer of a session, with voice activity detection by level.

Everything is counted in *audio time*, the length of what was appended, never on a clock: a client may send as fast as
it likes. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dsp.pcm import FRAME_MS, FULL_SCALE, frame_bytes, level, samples
from ..contract import Moment

MAX_BUFFER_S = 600.0
"""The longest turn: more sound is refused, or ends the turn where server VAD decides."""
LONG_TURN_S = 1.0
"""A turn that is as long as this is reported."""
LOUD_FRAMES, WITHIN_FRAMES = 3, 5
"""Speech begins with this many loud frames within so many, so that a click or the button's thump does not begin it."""


def loudness_threshold(threshold: float) -> float:
    """Return the level in dBFS that counts as speech for a *threshold* between 0 and 1.

    0.1 detects a whisper across the room (-60 dBFS), the default 0.85 talk (-45 dBFS), 0.9 a little less.
    """
    return 20.0 * threshold - 62.0


def speech_seconds(pcm: bytes, rate: int, threshold_db: float) -> float:
    """Return the seconds from the first loud frame of *pcm* to its last, 0 without a loud frame."""
    size = frame_bytes(rate) // 2
    wave = np.frombuffer(pcm, np.int16)
    frames = wave[: len(wave) // size * size].reshape(-1, size).astype(np.float32)
    power = np.einsum("ij,ij->i", frames, frames) / (size * FULL_SCALE**2)
    loud = np.flatnonzero(power > 10 ** (threshold_db / 10))
    return (int(loud[-1]) - int(loud[0]) + 1) * FRAME_MS / 1000 if len(loud) else 0.0


@dataclass(frozen=True)
class SpeechStarted:
    """Speech began *at* so many milliseconds of audio time; the turn begins there."""

    at: int


@dataclass(frozen=True)
class SpeechStopped:
    """The silence after speech was long enough: the turn is *pcm*."""

    at: int
    pcm: bytes


class ServerVad:
    """The input buffer. *listening*: it decides where a turn begins and ends, and keeps nothing else. *watching*: it
    detects the beginning of speech only, and keeps everything."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.listening = self.watching = False
        self.threshold_db = -45.0
        self.prefix_ms = 333
        self.silence_ms = 500
        self.speaking = False
        self._sound = bytearray()
        self._judged = 0  # bytes of the buffer that detection has seen, a whole number of frames
        self._before_ms = 0.0  # audio time before the buffer
        self._loud: list[bool] = []  # the newest frames, before speech
        self._quiet_ms = 0  # since the last loud frame of speech
        self._reported = 0  # how many moments of the turn in the buffer were returned

    @property
    def seconds(self) -> float:
        """Length of the buffer."""
        return len(self._sound) / (2 * self.rate)

    @property
    def sound(self) -> bytes:
        """The sound in the buffer."""
        return bytes(self._sound)

    def append(self, pcm: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Append *pcm*; return what was detected: nothing unless *listening* or *watching*."""
        self._sound += pcm
        detected: list[SpeechStarted | SpeechStopped] = []
        size = frame_bytes(self.rate)
        while (self.listening or self.watching) and len(self._sound) - self._judged >= size:
            loud = level(bytes(self._sound[self._judged : self._judged + size])) > self.threshold_db
            self._judged += size
            detected += self._in_speech(loud) if self.speaking else self._before_speech(loud)
        return detected

    def progress(self) -> list[Moment]:
        """Return, once each, the moments that the turn in the buffer has reached."""
        in_turn = self.speaking if self.listening else bool(self._sound)
        reached: list[Moment] = ["turn-begins"] if in_turn else []
        if in_turn and self.seconds >= LONG_TURN_S:
            reached.append("turn-1s")
        new = reached[self._reported :]
        self._reported += len(new)
        return new

    def take(self) -> bytes:
        """Return the sound in the buffer and empty it."""
        pcm = bytes(self._sound)
        self._drop(len(pcm))
        self.reset()
        return pcm

    def reset(self) -> None:
        """Begin detection afresh at the beginning of the buffer; the sound stays."""
        self.speaking, self._loud, self._quiet_ms, self._judged, self._reported = False, [], 0, 0, 0

    def change_rate(self, rate: int) -> None:
        """Take sound of another *rate* from now on; the buffer is emptied."""
        if rate != self.rate:
            self.take()
            self.rate = rate

    def _time(self, offset: int) -> float:
        """Milliseconds of audio time at *offset* bytes of the buffer."""
        return self._before_ms + offset / (2 * self.rate) * 1000

    def _before_speech(self, loud: bool) -> list[SpeechStarted | SpeechStopped]:
        self._loud = [*self._loud[1 - WITHIN_FRAMES :], loud]
        prefix = 2 * samples(self.prefix_ms / 1000, self.rate)
        if sum(self._loud) < LOUD_FRAMES:
            self._drop_before(self._judged - prefix - WITHIN_FRAMES * frame_bytes(self.rate))
            return []
        onset = self._judged - (len(self._loud) - self._loud.index(True)) * frame_bytes(self.rate)
        self._drop_before(onset - prefix)
        self.speaking, self._quiet_ms = True, 0
        return [SpeechStarted(round(self._time(max(0, onset - prefix) if self.watching else 0)))]

    def _in_speech(self, loud: bool) -> list[SpeechStarted | SpeechStopped]:
        if self.watching:
            return []
        self._quiet_ms = 0 if loud else self._quiet_ms + FRAME_MS
        too_long = self._judged >= 2 * samples(MAX_BUFFER_S, self.rate)
        if not too_long and (loud or self._quiet_ms < self.silence_ms):
            return []
        pcm = bytes(self._sound[: self._judged])
        self._drop(len(pcm))
        self.reset()
        return [SpeechStopped(round(self._time(0)), pcm)]

    def _drop_before(self, size: int) -> None:
        """Drop the oldest *size* bytes, which belong to no turn."""
        if not self.watching:
            self._drop(size)

    def _drop(self, size: int) -> None:
        if size > 0:
            self._before_ms = self._time(size)
            del self._sound[:size]
            self._judged = max(0, self._judged - size)
