"""What the service says: the sound of a reply, and how it is cut into pieces. Pure; chance comes in as an argument."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...dsp.pcm import FULL_SCALE, samples, seconds

SHORTEST_S, LONGEST_S = 0.077, 0.795
"""How long the pieces of a reply last, as recorded from the live service; only the last may be shorter."""

WORDS_AT_ONCE = 4
"""At most so many words come in one piece of transcript."""

PHRASE_S = 0.8
"""How long it takes to say a few words."""

STREAMED_S, SHORTEST_STREAMED_S = 0.1, 0.02
"""How long the pieces of a stream are for a client that can hold many, and for one that can hold few."""

NOTES = (392.00, 440.00, 523.25, 587.33, 659.26, 783.99)
"""A pentatonic scale: any order of it is a tune."""

NOTE_S = 0.22
MELODY_DB = -20.0


@dataclass(frozen=True)
class Piece:
    """A piece of a reply: sound, or the words that begin *start* seconds into the reply. *at*: when it is sent,
    in seconds after the first piece."""

    at: float
    start: float
    pcm: bytes = b""
    words: str = ""


def cut(pcm: bytes, text: str, rate: int, pace: float, chance: random.Random) -> list[Piece]:
    """Return a reply in pieces, in the order they are sent: sound of uneven length, each word behind its sound."""
    total = seconds(pcm, rate)
    waiting = list(_phrases(text, chance))
    words = [Piece(0.0, total * index / len(waiting), words=phrase) for index, phrase in enumerate(waiting)]
    pieces: list[Piece] = []
    offset = 0
    while offset < len(pcm):
        size = 2 * samples(chance.uniform(SHORTEST_S, LONGEST_S), rate)
        start, end = offset / (2 * rate), (offset + size) / (2 * rate)
        pieces.append(Piece(start / pace, start, pcm=pcm[offset : offset + size]))
        while words and words[0].start < end:
            pieces.append(Piece(start / pace, words[0].start, words=words.pop(0).words))
        offset += size
    return pieces


def words_first(pieces: list[Piece], late_s: float) -> list[Piece]:
    """Return *pieces* with all words at once, and the sound so many seconds later than it was."""
    words = [replace(piece, at=0.0) for piece in pieces if piece.words]
    return words + [replace(piece, at=piece.at + late_s) for piece in pieces if piece.pcm]


def _phrases(text: str, chance: random.Random) -> Iterator[str]:
    """Cut *text* into a few words at a time; joined again they are *text*."""
    words = text.split(" ")
    begun = False
    while words:
        count = chance.randint(1, WORDS_AT_ONCE)
        yield (" " if begun else "") + " ".join(words[:count])
        begun = True
        words = words[count:]


def typed(text: str, pace: float, chance: random.Random) -> list[Piece]:
    """Return a written reply in pieces: a few words at a time, no faster than somebody could say them at *pace*."""
    phrases = list(_phrases(text, chance))
    return [Piece(PHRASE_S * index / pace, 0.0, words=phrase) for index, phrase in enumerate(phrases)]


def streamed(pcm: bytes, text: str, rate: int, pace: float, ahead_s: float, chance: random.Random) -> list[Piece]:
    """Return a reply in pieces of one length for a client that can hold so many seconds, with its words in between.

    No piece is sent before the client has room for it: what is sent is never more than *ahead_s* of what it has played.
    """
    total, size = seconds(pcm, rate), 2 * samples(min(STREAMED_S, max(ahead_s / 3, SHORTEST_STREAMED_S)), rate)
    waiting = list(_phrases(text, chance))
    words = [Piece(0.0, total * index / len(waiting), words=phrase) for index, phrase in enumerate(waiting)]
    pieces: list[Piece] = []
    for offset in range(0, len(pcm), size):
        start, end = offset / (2 * rate), (offset + size) / (2 * rate)
        at = max(start / pace, end - ahead_s)
        pieces.append(Piece(at, start, pcm=pcm[offset : offset + size]))
        while words and words[0].start < end:
            pieces.append(Piece(at, words[0].start, words=words.pop(0).words))
    return pieces


def melody(text: str, rate: int) -> bytes:
    """Return a tune for *text*, always the same one: 3 to 12 notes, as many as it has words."""
    seed = zlib.crc32(text.encode("utf-8", "replace"))
    count = max(3, min(12, len(text.split())))
    notes = [NOTES[(seed >> (2 * index)) % len(NOTES)] for index in range(count)]
    return b"".join(_note(frequency, rate) for frequency in notes)


def _note(frequency: float, rate: int) -> bytes:
    """A plucked note: it begins and ends in silence, so that nothing clicks."""
    time = np.arange(samples(NOTE_S, rate)) / rate
    shape = np.minimum(1.0, time / 0.01) * np.minimum(1.0, (NOTE_S - time) / 0.05)
    wave = np.sin(2 * math.pi * frequency * time) * shape * 10 ** (MELODY_DB / 20) * math.sqrt(2)
    pcm: bytes = np.rint(wave * (FULL_SCALE - 1)).astype(np.int16).tobytes()
    return pcm
