"""Microphone channels: which of them have sound, and whether the right one is in use. Pure."""

from __future__ import annotations

import numpy as np

from .findings import Finding, Mark
from .microphone_level import STANDS_OUT_DB, Levels, measure

DEAF_CHANNEL_DB = 24.0
"""A channel that is so much softer than the loudest has no sound, as in ``hardware.channels``."""
SAME_CORRELATION = 0.9
MAX_NAMED_CHANNELS = 8


def judge(pcm: bytes, count: int, rate: int, *, heard: int, chosen: int | None) -> Finding | None:
    """Return the finding about *count* interleaved channels, of a frame at least; None where there is but one.

    *heard* is the one in use, from 1, and *chosen* the value of microphone.channel.
    """
    if count == 1:
        return None
    waves = np.frombuffer(pcm, np.int16).reshape(-1, count)
    found = [measure(wave.tobytes(), rate) for wave in waves.T]
    deaf = _deaf(found)
    text = f"{count} of them, number {heard} is heard{_loudness(found)}{_inverted(waves, heard - 1, deaf)}"
    figures = {"channels": count, "heard": heard, "loud_dbfs": [round(each.loud_db, 1) for each in found]}
    return Finding("channels", text, *_advice(deaf, heard, chosen), figures)


def _deaf(found: list[Levels]) -> list[bool]:
    """Return for each channel whether it has no sound while another one has: not the steady noise of one wire."""
    alive = [each for each in found if not each.silent]
    if not alive:
        return [False] * len(found)
    loudest = max(alive, key=lambda each: each.loud_db)
    happened = loudest.loud_db >= loudest.floor_db + STANDS_OUT_DB
    return [each.silent or (happened and each.loud_db < loudest.loud_db - DEAF_CHANNEL_DB) for each in found]


def _advice(deaf: list[bool], heard: int, chosen: int | None) -> tuple[Mark, str]:
    if deaf[heard - 1]:
        better = deaf.index(False) + 1
        advice = f"number {heard} hears nothing of what number {better} does: write microphone.channel: {better}"
        return Mark.NOTE, advice
    if chosen is None and heard != 1:
        advice = f"number 1 hears nothing: write microphone.channel: {heard}, to use that one from the first sound on"
        return Mark.NOTE, advice
    if chosen is None and len(deaf) > 2:  # an array, and not a pair
        return Mark.OK, "microphone.channel: 1 keeps the one that the chip of a microphone array makes from all of them"
    return Mark.OK, ""


def _loudness(found: list[Levels]) -> str:
    said = ["silent" if each.silent else f"{each.loud_db:.0f} dBFS" for each in found[:MAX_NAMED_CHANNELS]]
    return f" ({', '.join(said)}{', and more' if len(found) > MAX_NAMED_CHANNELS else ''})"


def _inverted(waves: np.ndarray, heard: int, deaf: list[bool]) -> str:
    """Return which channel is *heard* with the other polarity, which does no harm where they are not mixed."""
    for number in range(len(deaf)):
        if number != heard and not deaf[number] and not deaf[heard]:
            one, other = waves[:, heard].astype(np.float64), waves[:, number].astype(np.float64)
            norm = float(np.std(one) * np.std(other))
            if norm and float(np.mean((one - one.mean()) * (other - other.mean()))) / norm < -SAME_CORRELATION:
                return f"; number {number + 1} is the same but wired the wrong way round, which does no harm here"
    return ""
