"""A room in software: what the loudspeaker says comes back to the microphone, and a person is in the room as well.

Sound is an array of floats here, 1.0 is full scale. Everything is the same at every call: chance has a seed.
"""

from __future__ import annotations

import math
import random
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import as_file
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from device_agent.dsp.aec import Canceller
from device_agent.dsp.pcm import FRAME_MS, FULL_SCALE, frame_samples, samples
from device_agent.simulator import QUESTION

Sound = npt.NDArray[np.floating[Any]]

FRAME_S = FRAME_MS / 1000
BEGINS_S, ENDS_S = 0.58, 3.16
"""Where the words are in the recorded question, about itself silence."""
RECORDED_AT = 24000
PITCHES = (1.0, 0.84, 1.12, 0.92, 1.22, 0.78)
"""The same words by people of another size: played faster they are higher and shorter."""


# What is said ---------------------------------------------------------------------------------------------------------


def voice(rate: int, *, pitch: float = 1.0, level_db: float = -20.0) -> Sound:
    """Return the recorded question, 2.6 s of words at *pitch* 1, with an RMS of *level_db* dBFS."""
    recorded = _recording()
    count = round(len(recorded) / pitch * rate / RECORDED_AT)
    said = np.interp(np.arange(count) * pitch * RECORDED_AT / rate, np.arange(len(recorded)), recorded)
    return at_level(said, level_db)


def speech(rate: int, seconds: float, *, level_db: float = -20.0, seed: int = 1) -> Sound:
    """Return *seconds* of talk by changing voices, with pauses between the sentences like those of a long answer."""
    chance, parts, length = random.Random(seed), [], 0
    while length < samples(seconds, rate):
        parts.append(voice(rate, pitch=chance.choice(PITCHES) * chance.uniform(0.96, 1.04)))
        parts.append(np.zeros(samples(chance.uniform(0.1, 0.5), rate)))
        length += len(parts[-2]) + len(parts[-1])
    return at_level(np.concatenate(parts)[: samples(seconds, rate)], level_db)


def at_level(sound: Sound, level_db: float) -> Sound:
    """Return *sound* with an RMS of *level_db* dBFS."""
    return np.asarray(sound * (10 ** (level_db / 20) / np.sqrt(np.mean(sound**2))))


def hiss(count: int, level_db: float, seed: int = 1) -> Sound:
    """Return *count* samples of white noise at *level_db* dBFS."""
    return np.random.default_rng(seed).standard_normal(count) * 10 ** (level_db / 20)


def to_pcm(sound: Sound) -> bytes:
    """Return *sound* as s16le; what is louder than full scale is clipped."""
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16).tobytes()


def to_sound(pcm: bytes) -> Sound:
    """Return s16le *pcm* as sound."""
    return np.frombuffer(pcm, np.int16) / FULL_SCALE


@cache
def _recording() -> Sound:
    with as_file(QUESTION) as path, wave.open(str(path)) as wav:
        pcm = wav.readframes(wav.getnframes())
    return to_sound(pcm)[samples(BEGINS_S, RECORDED_AT) : samples(ENDS_S, RECORDED_AT)]


# The room -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """From the loudspeaker's terminals to the microphone's.

    *delay* is in seconds and has the devices' own latency in it, *loss_db* is what the way takes away. *rt60* is the
    seconds in which the room's answer falls by 60 dB, *direct_db* how much stronger than all of it is what comes
    straight from the loudspeaker: 10 in one housing, -10 through a whole room. The loudspeaker *clips* softly when it
    is loud. *drift_ppm* is how much faster the microphone's clock runs than the loudspeaker's. At *jump_at* seconds the
    sound begins to arrive *jump* seconds later, as after an underrun.
    """

    delay: float = 0.06
    loss_db: float = 6.0
    rt60: float = 0.3
    direct_db: float = 3.0
    clips: bool = False
    drift_ppm: float = 0.0
    noise_db: float = -60.0
    jump_at: float | None = None
    jump: float = 0.04
    seed: int = 1

    def echo(self, played: Sound, rate: int) -> Sound:
        """Return what of *played* arrives in the microphone, as long as *played* is."""
        sound = np.tanh(2.2 * played) / 1.8 if self.clips else played
        sound = _convolve(sound, self._answer(rate)) * 10 ** (-self.loss_db / 20)
        times = np.arange(len(sound), dtype=float)
        late = np.full(len(sound), self.delay * rate)
        if self.jump_at is not None:
            late[samples(self.jump_at, rate) :] += self.jump * rate
        return np.interp(times * (1 + self.drift_ppm / 1e6) - late, times, sound, left=0.0, right=0.0)

    def noise(self, count: int) -> Sound:
        """Return what the microphone hears of nothing."""
        return hiss(count, self.noise_db, self.seed)

    def _answer(self, rate: int) -> Sound:
        """The impulse response: the direct way, a few early reflections, and a tail that dies away. Its energy is 1."""
        count = samples(self.rt60, rate)
        tail = np.random.default_rng(self.seed).standard_normal(count) * np.exp(-6.9 * np.arange(count) / count)
        tail[: samples(0.001, rate)] = 0.0
        tail[0] = np.sqrt(np.sum(tail**2)) * 10 ** (self.direct_db / 20)
        return np.asarray(tail / np.sqrt(np.sum(tail**2)))


def _convolve(sound: Sound, answer: Sound) -> Sound:
    size = 1 << (len(sound) + len(answer)).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(answer, size), size)[: len(sound)]


# What happens in it ---------------------------------------------------------------------------------------------------


class Happening(Enum):
    """What may happen to the device."""

    PLAYED = "a piece was handed to the loudspeaker"
    DROPPED = "the loudspeaker forgot what it had not played yet"
    HEARD = "a frame came from the microphone"


class Piece(NamedTuple):
    """Something that happens at *at* seconds, with a piece of sound."""

    at: float
    what: Happening
    pcm: bytes = b""


class Reply(NamedTuple):
    """What the loudspeaker says from *start* seconds on, until it is *cut*."""

    start: float
    sound: Sound
    cut: float = math.inf


@dataclass(frozen=True)
class Scene:
    """What is said in a room, by the loudspeaker and by a person *near*. Times are in seconds.

    *ahead* is how much the loudspeaker's buffer holds: so much is handed over at once when a reply begins, and then a
    *period* whenever there is room. The microphone's thread stands still for *stall* seconds every *stall_every*, and
    finds all frames of that time at once.
    """

    room: Room
    rate: int
    seconds: float
    replies: Sequence[Reply] = ()
    near: Sequence[tuple[float, Sound]] = ()
    ahead: float = 0.12
    period: float = 0.04
    stall: float = 0.0
    stall_every: float = 1.7
    echo: Sound = field(init=False)
    """Our voice in the microphone."""
    said: Sound = field(init=False)
    """The other voice in the microphone."""
    microphone: Sound = field(init=False)
    """All that the microphone hears."""

    def __post_init__(self) -> None:
        heard = [
            (start, sound[: samples(min(cut - start, self.seconds), self.rate)]) for start, sound, cut in self.replies
        ]
        echo, said = self.room.echo(self._mix(heard), self.rate), self._mix(self.near)
        parts = {"echo": echo, "said": said, "microphone": echo + said + self.room.noise(len(echo))}
        for name, sound in parts.items():
            object.__setattr__(self, name, sound)

    def pieces(self) -> list[Piece]:
        """Return all that happens, in the order it happens."""
        return sorted([*self._handed(), *self._heard()], key=lambda piece: piece.at)

    def clean(self, canceller: Canceller) -> Sound:
        """Return what *canceller* makes of it all; it is told of everything in time."""
        frames = []
        for _, what, pcm in self.pieces():
            match what:
                case Happening.PLAYED:
                    canceller.played(pcm)
                case Happening.DROPPED:
                    canceller.dropped()
                case Happening.HEARD:
                    frames.append(canceller.clean(pcm))
        return to_sound(b"".join(frames))

    def _mix(self, parts: Sequence[tuple[float, Sound]]) -> Sound:
        whole = np.zeros(samples(self.seconds, self.rate))
        for start, sound in parts:
            at = samples(start, self.rate)
            whole[at : at + len(sound)] += sound[: len(whole) - at]
        return whole

    def _handed(self) -> Iterator[Piece]:
        size = 2 * frame_samples(self.rate)
        for start, sound, cut in self.replies:
            pcm = to_pcm(sound)
            for number, begin in enumerate(range(0, len(pcm), size)):
                behind = max(0.0, (number + 1) * FRAME_S - self.ahead)
                at = start + math.ceil(behind / self.period - 1e-9) * self.period
                if at < cut:
                    yield Piece(at, Happening.PLAYED, pcm[begin : begin + size])
            if cut < math.inf:
                yield Piece(cut, Happening.DROPPED)

    def _heard(self) -> Iterator[Piece]:
        pcm, size = to_pcm(self.microphone), 2 * frame_samples(self.rate)
        for number in range(len(pcm) // size):
            at = (number + 1) * FRAME_S
            since = at % self.stall_every  # the thread stands still at the beginning of each such time
            late = self.stall - since if since < self.stall else 0.0
            yield Piece(at + late, Happening.HEARD, pcm[number * size : (number + 1) * size])


# What became of it ----------------------------------------------------------------------------------------------------

AUDIBLE_DB = -50.0


def powers(sound: Sound, rate: int) -> Sound:
    """Return the mean square of each frame."""
    size = frame_samples(rate)
    return np.asarray((sound[: len(sound) // size * size].reshape(-1, size) ** 2).mean(axis=1))


def decibels(power: float) -> float:
    """Return *power* in dBFS."""
    return 10 * math.log10(power + 1e-12)


def erle(scene: Scene, cleaned: Sound, begin: float, end: float) -> float:
    """Return how many dB of our own voice were taken away from *begin* to *end*, where only that was heard."""
    came, left, echo, said = (
        powers(sound, scene.rate)[round(begin / FRAME_S) : round(end / FRAME_S)]
        for sound in (scene.microphone, cleaned, scene.echo, scene.said)
    )
    ours = (echo > 10 ** (AUDIBLE_DB / 10)) & (said == 0)
    return decibels(came[ours].mean()) - decibels(left[ours].mean())


def survived(scene: Scene, cleaned: Sound) -> tuple[float, float]:
    """Return how loud the other voice still is where both talk, in dB against what it was, and how much of it is left:
    the share of its frames that lost less than 10 dB."""
    both = (powers(scene.said, scene.rate) > 10 ** (AUDIBLE_DB / 10)) & (
        powers(scene.echo, scene.rate) > 10 ** (AUDIBLE_DB / 10)
    )
    size = frame_samples(scene.rate)
    lags = range(frame_samples(scene.rate))
    near = scene.said[: len(both) * size]
    lag = max(lags, key=lambda lag: float(np.dot(cleaned[lag:], near[: len(near) - lag])))
    late = np.concatenate([cleaned[lag:], np.zeros(lag)]).reshape(-1, size)[both]
    near = near.reshape(-1, size)[both]
    shares = (late * near).sum(axis=1) / (near * near).sum(axis=1)  # what of each frame is that voice
    whole = (late * near).sum() / (near * near).sum()
    return 20 * math.log10(max(whole, 1e-6)), float((shares > 10 ** (-10 / 20)).mean())
