"""Microphone level: how loud a recording is, and what to do where that is not right. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..dsp.pcm import FULL_SCALE, SILENCE_DB, frame_samples, is_nothing, level
from .findings import Finding, Mark

CLIPPING_LEVEL = 32767
MAX_CLIPPED_SPEECH = 0.001
"""A larger share of clipped samples is heard as a crackle."""
MAX_OFFSET = 0.02
"""Of full scale: a larger DC offset takes room from the voice, and points to a bad wire or plug."""
QUIET_VOICE_DB = -45.0
"""A voice whose loud frames are softer than this is hardly told from the room."""
NOISY_FLOOR_DB = -40.0
"""A floor above this hides soft voices."""
STANDS_OUT_DB = 10.0
"""Where the loud frames are so much above the floor, there was a voice or another sound."""
MIXER = "in alsamixer (F6 chooses the card, F4 shows what it records)"
ANOTHER = "choose another one: device-agent devices"


@dataclass(frozen=True)
class Levels:
    """Levels of a recording in dBFS. *loud_db* is exceeded by a tenth of the frames, *floor_db* by nine tenths, both
    without the DC *offset*, which is a share of full scale; *clipped* is a share of the samples."""

    seconds: float
    peak_db: float
    rms_db: float
    loud_db: float
    floor_db: float
    offset: float
    clipped: float
    silent: bool


def measure(pcm: bytes, rate: int) -> Levels:
    """Return the levels of *pcm*, which is a frame at least."""
    wave = np.frombuffer(pcm, np.int16).astype(np.float64)
    size = frame_samples(rate)
    powers = wave[: len(wave) // size * size].reshape(-1, size).var(axis=1)
    loud, floor = np.percentile(powers, (90, 10))
    return Levels(
        seconds=len(wave) / rate,
        peak_db=_db(float(np.abs(wave).max()) ** 2),
        rms_db=level(pcm),
        loud_db=_db(float(loud)),
        floor_db=_db(float(floor)),
        offset=float(wave.mean()) / FULL_SCALE,
        clipped=float((np.abs(wave) >= CLIPPING_LEVEL).mean()),
        silent=is_nothing(pcm),
    )


def judge(levels: Levels, *, asked: bool) -> Finding:
    """Return the finding about *levels*; *asked* says that a person was asked to speak meanwhile."""
    text = f"peak {levels.peak_db:.0f} dBFS, RMS {levels.rms_db:.0f}, noise floor {levels.floor_db:.0f}"
    mark, what, advice = _broken(levels) or _audible(levels, asked=asked) or (Mark.OK, "", "")
    figures = {
        "peak_dbfs": round(levels.peak_db, 1),
        "rms_dbfs": round(levels.rms_db, 1),
        "loud_dbfs": round(levels.loud_db, 1),
        "floor_dbfs": round(levels.floor_db, 1),
        "offset": round(levels.offset, 4),
        "clipped": round(levels.clipped, 5),
        "seconds": round(levels.seconds, 2),
    }
    return Finding("level", f"{what}: {text}" if what else text, mark, advice, figures)


def _broken(levels: Levels) -> tuple[Mark, str, str] | None:
    if levels.silent:
        advice = f"is it muted {MIXER}, or by a switch of its own? Else {ANOTHER}"
        return Mark.FAIL, "digital silence", advice
    if levels.clipped > MAX_CLIPPED_SPEECH:
        return Mark.NOTE, f"too loud, {100 * levels.clipped:.1f} % of it is cut off", f"turn it down {MIXER}"
    if abs(levels.offset) > MAX_OFFSET:
        advice = "it does no harm to a turn, but leaves less room for your voice; try another plug, cable or microphone"
        return Mark.NOTE, f"a constant offset of {100 * levels.offset:+.0f} %", advice
    return None


def _audible(levels: Levels, *, asked: bool) -> tuple[Mark, str, str] | None:
    if levels.floor_db > NOISY_FLOOR_DB:
        advice = f"a voice has to be louder than that: turn it down {MIXER}, and look for a fan or a hum"
        return Mark.NOTE, "noisy", advice
    if levels.loud_db < levels.floor_db + STANDS_OUT_DB:
        advice = f"if you spoke, it does not hear you: turn it up {MIXER}, or {ANOTHER}"
        return (Mark.NOTE, "nobody spoke", advice) if asked else None
    if levels.loud_db < QUIET_VOICE_DB:
        return Mark.NOTE, "quiet", f"if that was your voice, turn it up {MIXER}"
    return None


def _db(power: float) -> float:
    return max(SILENCE_DB, 10 * math.log10(power / FULL_SCALE**2)) if power else SILENCE_DB
