"""A sound that is found again in whatever a room makes of it: how late it comes back, and how loud. Pure.

It glides from low to high, so that it is like itself at one moment only. What was recorded is compared with it at every
moment (a matched filter); where it fits, there it is, even far below the noise of a room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..dsp.pcm import FULL_SCALE, loudness, samples

CHIRP_S, CHIRP_EDGE_S = 0.5, 0.02
"""How long it sounds, and how long it swells and fades."""
CHIRP_LOWEST_HZ, CHIRP_HIGHEST = 300.0, 0.3
"""From what a small loudspeaker can do, to this share of the rate: what a resampler keeps."""
CHIRP_PEAK = 0.35
"""Of full scale, at a volume of 100: as loud as a voice."""
MAX_DELAY_S = 1.0
"""So late it is looked for."""
ECHO_TAIL_S = 0.2
"""How much of the answer of a room is echo, and not noise."""
NOISE_BEFORE_S = 0.2
"""From so long before it is due one knows how loud the room is by itself."""
MIN_FIT_RATIO = 25.0
"""So much better it must fit where it fits best than at an ordinary moment. Noise reaches 8 and voices 23; an echo that
is 46 dB softer than what was played, in a quiet room, is at 32 or more."""
DIRECT_PATH_SHARE = 0.5
"""What fits half as well as the best and comes earlier is the straight way; the best may be a reflection."""

PART_S, PART_SLACK_S = 0.05, 0.005
"""A part of it in which it has a pitch of its own, and how far from its place that may be."""
PART_EARLY_S = 0.3
"""How much earlier its beginning may be, where a loudspeaker ran dry in the middle of it."""
ALIGN_MARGIN_S = 0.4
"""How much earlier or later than it is due a sound may begin, on a machine that is too busy to keep time."""
MISSING_SHARE = 0.4
"""What is less than this part of what comes otherwise was not played."""

Wave = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arrival:
    """It came *delay* seconds after it was due, at *level_db* relative to what was played."""

    delay: float
    level_db: float


def chirp(rate: int, volume: int) -> bytes:
    """Return the sound at a *volume* in percent, b"" at 0."""
    factor = CHIRP_PEAK * FULL_SCALE * loudness(volume)
    return np.rint(factor * _sweep(rate)).astype(np.int16).tobytes() if factor else b""


def find(sound: bytes, recorded: bytes, rate: int, due: float) -> Arrival | None:
    """Return when *sound* begins in *recorded*, LATEST_S after *due* seconds of it at most; None where it does not."""
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
    whole = part[at : at + len(played) + samples(ECHO_TAIL_S, rate)]
    return Arrival((begin + at) / rate - due, _level(played, whole, noise, best))


def swallowed(sound: bytes, recorded: bytes, rate: int, begins: float, others: Sequence[float]) -> float:
    """Return how many seconds of the beginning of *sound* are not in *recorded*, where it should begin after *begins*
    seconds; all of it where it is not there. *others* are when it begins where all of it is known to be."""
    played, heard = _wave(sound), _wave(recorded)
    usual = np.median([_parts(played, heard, other, rate) for other in others], axis=0)
    there = _parts(played, heard, begins, rate) >= MISSING_SHARE * usual
    return PART_S * (int(np.argmax(there)) if there.any() else len(there))


def _parts(played: Wave, heard: Wave, begins: float, rate: int) -> Wave:
    """Return for each SLOT_S of *played* how loud it is in *heard*, where it *begins* or beside that; 1 is as it was
    played."""
    slot, slack, early = samples(PART_S, rate), samples(PART_SLACK_S, rate), samples(PART_EARLY_S, rate)
    margin = samples(ALIGN_MARGIN_S, rate)
    begin, end = samples(begins, rate) - margin, samples(begins, rate) + margin + len(played)
    part = heard[max(0, begin - early) : max(0, end + slack)]
    part = part - part.mean() if len(part) else part
    part = np.pad(part, (max(0, early - begin), 0))
    part = np.pad(part, (0, max(0, end + slack - begin + early - len(part))))
    at = int(np.argmax(_matched_filter(played, part[early:])))  # what is left of it fits there best
    starts = range(at, at + len(played) - slot + 1, slot)
    return np.array(
        [_matched_filter(played[n - at : n - at + slot], part[n : n + early + slot + slack]).max() for n in starts]
    )


def _sweep(rate: int) -> Wave:
    time = np.arange(samples(CHIRP_S, rate)) / rate
    pace = math.log(CHIRP_HIGHEST * rate / CHIRP_LOWEST_HZ) / CHIRP_S
    edge = np.clip(np.minimum(time, time[::-1]) / CHIRP_EDGE_S, 0.0, 1.0)
    return np.asarray(
        np.sin(2 * np.pi * CHIRP_LOWEST_HZ / pace * np.expm1(pace * time)) * (0.5 - 0.5 * np.cos(np.pi * edge))
    )


def _matched_filter(played: Wave, heard: Wave) -> Wave:
    """Return for each moment how much of *played* begins there: 1 is all of it, whichever way round the wires are."""
    size = 1 << (len(played) + len(heard)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)), size)
    return np.asarray(np.abs(products[: len(heard) - len(played) + 1]) / np.dot(played, played))


def _level(played: Wave, heard: Wave, noise: Wave, straight: float) -> float:
    """Return in dB how loud it is in *heard*: all that the room makes of it, as far as that is above the noise; else
    *straight*, which is what came on the straight way."""
    theirs = float(noise.var()) * len(heard) if len(noise) else 0.0
    ours = float(heard.var()) * len(heard) - theirs
    if ours < theirs:
        return 20 * math.log10(straight)
    return 10 * math.log10(ours / float(np.dot(played, played)))


def _wave(pcm: bytes) -> Wave:
    return np.frombuffer(pcm, np.int16).astype(np.float64)
