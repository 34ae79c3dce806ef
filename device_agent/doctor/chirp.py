"""Chirp: a test sound that is found in a recording of a room, with its delay and level. Pure.

The chirp sweeps upwards, so that it matches itself at one moment only. A matched filter compares the recording with it
at every moment, and finds it far below the noise of a room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..dsp.pcm import FULL_SCALE, loudness, samples

CHIRP_S, CHIRP_EDGE_S = 0.5, 0.02
"""Its length, and that of its fade in and out."""
CHIRP_LOWEST_HZ, CHIRP_HIGHEST = 300.0, 0.3
"""From what a small loudspeaker plays, to this share of the rate: what a resampler keeps."""
CHIRP_PEAK = 0.35
"""Of full scale, at a volume of 100: as loud as a voice."""
MAX_DELAY_S = 1.0
CHIRP_TAIL_S = 0.2
"""Reverberation behind the chirp that counts as echo, and not as noise."""
NOISE_BEFORE_S = 0.2
"""Before the chirp, to measure the noise of the room."""
MIN_FIT_RATIO = 25.0
"""Of the best match to the median. Noise reaches 8 and voices 23; an echo 46 dB below what was played, in a quiet room,
has 32 or more."""
DIRECT_PATH_SHARE = 0.5
"""The first match of this share of the best one is the direct path; the best may be a reflection."""

PART_S, PART_SLACK_S = 0.05, 0.005
"""A part of the chirp that is found by itself, and how far from its place."""
PART_EARLY_S = 0.3
"""How much earlier the beginning may be, where the loudspeaker ran dry in the middle."""
ALIGN_MARGIN_S = 0.4
"""How much earlier or later a sound may begin, on a machine that is too busy to keep time."""
MISSING_SHARE = 0.4
"""A part with less than this share of its usual level was not played."""

Wave = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arrival:
    """A chirp in a recording: seconds after it was due, and level in dB of what was played."""

    delay: float
    level_db: float


def chirp(rate: int, volume: int) -> bytes:
    """Return the chirp at a *volume* in percent, b"" at 0."""
    factor = CHIRP_PEAK * FULL_SCALE * loudness(volume)
    return np.rint(factor * _sweep(rate)).astype(np.int16).tobytes() if factor else b""


def find(sound: bytes, recorded: bytes, rate: int, due: float) -> Arrival | None:
    """Return where *sound* begins in *recorded*, from *due* seconds to MAX_DELAY_S after it; None where it does not."""
    played, heard, begin = _wave(sound), _wave(recorded), max(0, samples(due, rate))
    noise = heard[max(0, begin - samples(NOISE_BEFORE_S, rate)) : begin]
    part = heard[begin : begin + samples(MAX_DELAY_S, rate) + len(played)]
    if len(part) <= len(played) or not part.any():
        return None
    fit = _matched_filter(played, part - part.mean())
    best = float(fit.max())
    if best <= MIN_FIT_RATIO * float(np.median(fit)):
        return None
    at = int(np.argmax(fit >= DIRECT_PATH_SHARE * best))
    whole = part[at : at + len(played) + samples(CHIRP_TAIL_S, rate)]
    return Arrival((begin + at) / rate - due, _level(played, whole, noise, best))


def swallowed(sound: bytes, recorded: bytes, rate: int, begins: float, others: Sequence[float]) -> float:
    """Return how many seconds of the beginning of *sound* are missing in *recorded*, where it begins at *begins*
    seconds; its length if all is missing. *others* are where whole ones begin."""
    played, heard = _wave(sound), _wave(recorded)
    usual = np.median([_parts(played, heard, other, rate) for other in others], axis=0)
    there = _parts(played, heard, begins, rate) >= MISSING_SHARE * usual
    return PART_S * (int(np.argmax(there)) if there.any() else len(there))


def _parts(played: Wave, heard: Wave, begins: float, rate: int) -> Wave:
    """Return the level of each PART_S of *played* in *heard*, near *begins* seconds; 1 is as it was played."""
    slot, slack, early = samples(PART_S, rate), samples(PART_SLACK_S, rate), samples(PART_EARLY_S, rate)
    margin = samples(ALIGN_MARGIN_S, rate)
    begin, end = samples(begins, rate) - margin, samples(begins, rate) + margin + len(played)
    part = heard[max(0, begin - early) : max(0, end + slack)]
    part = part - part.mean() if len(part) else part
    part = np.pad(part, (max(0, early - begin), 0))
    part = np.pad(part, (0, max(0, end + slack - begin + early - len(part))))
    at = int(np.argmax(_matched_filter(played, part[early:])))  # what is left of it fits there best
    starts = range(at, at + len(played) - slot + 1, slot)
    pairs = ((played[n - at : n - at + slot], part[n : n + early + slot + slack]) for n in starts)
    return np.array([_matched_filter(*pair).max() for pair in pairs])


def _sweep(rate: int) -> Wave:
    time = np.arange(samples(CHIRP_S, rate)) / rate
    pace = math.log(CHIRP_HIGHEST * rate / CHIRP_LOWEST_HZ) / CHIRP_S
    edge = np.clip(np.minimum(time, time[::-1]) / CHIRP_EDGE_S, 0.0, 1.0)
    wave = np.sin(2 * np.pi * CHIRP_LOWEST_HZ / pace * np.expm1(pace * time))
    return np.asarray(wave * (0.5 - 0.5 * np.cos(np.pi * edge)))


def _matched_filter(played: Wave, heard: Wave) -> Wave:
    """Return for each moment the share of *played* that begins there, for either polarity."""
    size = 1 << (len(played) + len(heard)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)), size)
    return np.asarray(np.abs(products[: len(heard) - len(played) + 1]) / np.dot(played, played))


def _level(played: Wave, heard: Wave, noise: Wave, direct: float) -> float:
    """Return the level of *heard* in dB, with all reflections, where it is above the noise; else that of the *direct*
    path."""
    theirs = float(noise.var()) * len(heard) if len(noise) else 0.0
    ours = float(heard.var()) * len(heard) - theirs
    return 20 * math.log10(direct) if ours < theirs else 10 * math.log10(ours / float(np.dot(played, played)))


def _wave(pcm: bytes) -> Wave:
    return np.frombuffer(pcm, np.int16).astype(np.float64)
