"""Sound of a reply, and how it is cut into pieces. Pure; the random generator is an argument."""

from __future__ import annotations

import itertools
import math
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...dsp.pcm import FULL_SCALE, samples, seconds

MIN_PIECE_S, MAX_PIECE_S = 0.077, 0.795
"""How long the pieces of a reply last, as recorded from the live service; only the last may be shorter."""
STREAMED_PIECE_S, MIN_STREAMED_PIECE_S = 0.1, 0.02
"""How long the pieces of a stream are for a client with a large buffer, and for one with a small one."""
MAX_WORDS = 4
"""Words in one piece of transcript."""
PHRASE_S = 0.8
"""How long it takes to say a few words."""
NOTES_HZ = (392.00, 440.00, 523.25, 587.33, 659.26, 783.99)
"""A pentatonic scale: any order of it is a tune."""
NOTE_S = 0.22
MELODY_DB = -20.0


@dataclass(frozen=True)
class Piece:
    """Sound of a reply, or its words from *start* seconds on. It is sent *at* so many seconds after the first piece."""

    at: float
    start: float
    pcm: bytes = b""
    words: str = ""


def cut(pcm: bytes, text: str, rate: int, pace: float, rng: random.Random) -> list[Piece]:
    """Return a reply in the order it is sent: sound in pieces of uneven length, words behind their sound."""
    lengths = iter(lambda: rng.uniform(MIN_PIECE_S, MAX_PIECE_S), None)
    return _cut(pcm, _phrases(text, rng), rate, lengths, lambda start, _end: start / pace)


def streamed(pcm: bytes, text: str, rate: int, pace: float, ahead_s: float, rng: random.Random) -> list[Piece]:
    """Return a reply in pieces of one length for a client with a buffer of *ahead_s*, with its words in between.

    What was sent is never more than *ahead_s* ahead of what the client has played.
    """
    length = min(STREAMED_PIECE_S, max(ahead_s / 3, MIN_STREAMED_PIECE_S))
    return _cut(
        pcm,
        _phrases(text, rng),
        rate,
        itertools.repeat(length),
        lambda start, end: max(start / pace, end - ahead_s),
    )


def _cut(
    pcm: bytes, phrases: list[str], rate: int, lengths: Iterator[float], when: Callable[[float, float], float]
) -> list[Piece]:
    total = seconds(pcm, rate)
    words = [Piece(0.0, total * index / len(phrases), words=phrase) for index, phrase in enumerate(phrases)]
    pieces: list[Piece] = []
    offset = 0
    while offset < len(pcm):
        size = 2 * samples(next(lengths), rate)
        start, end = offset / (2 * rate), (offset + size) / (2 * rate)
        at = when(start, end)
        pieces.append(Piece(at, start, pcm=pcm[offset : offset + size]))
        while words and words[0].start < end:
            pieces.append(replace(words.pop(0), at=at))
        offset += size
    return pieces


def words_first(pieces: list[Piece], late_s: float) -> list[Piece]:
    """Return *pieces* with all words at once, and the sound so many seconds later than it was."""
    words = [replace(piece, at=0.0) for piece in pieces if piece.words]
    return words + [replace(piece, at=piece.at + late_s) for piece in pieces if piece.pcm]


def _phrases(text: str, rng: random.Random) -> list[str]:
    """Return *text* in pieces of a few words; joined they are *text*."""
    words = text.split(" ")
    phrases: list[str] = []
    while words:
        count = rng.randint(1, MAX_WORDS)
        phrases.append((" " if phrases else "") + " ".join(words[:count]))
        words = words[count:]
    return phrases


def typed(text: str, pace: float, rng: random.Random) -> list[Piece]:
    """Return a written reply in pieces: a few words at a time, as fast as they could be spoken at *pace*."""
    return [Piece(PHRASE_S * index / pace, 0.0, words=phrase) for index, phrase in enumerate(_phrases(text, rng))]


def melody(text: str, rate: int) -> bytes:
    """Return a tune for *text*, always the same one: 3 to 12 notes, as many as it has words."""
    seed = zlib.crc32(text.encode("utf-8", "replace"))
    count = max(3, min(12, len(text.split())))
    notes = [NOTES_HZ[(seed >> (2 * index)) % len(NOTES_HZ)] for index in range(count)]
    return b"".join(_note(frequency, rate) for frequency in notes)


def _note(frequency: float, rate: int) -> bytes:
    """Return a note that begins and ends in silence, so that nothing clicks."""
    time = np.arange(samples(NOTE_S, rate)) / rate
    shape = np.minimum(1.0, time / 0.01) * np.minimum(1.0, (NOTE_S - time) / 0.05)
    wave = np.sin(2 * math.pi * frequency * time) * shape * 10 ** (MELODY_DB / 20) * math.sqrt(2)
    pcm: bytes = np.rint(wave * (FULL_SCALE - 1)).astype(np.int16).tobytes()
    return pcm
