"""WAV files as microphone and loudspeaker.

Both keep time like a card: they count from the moment they were opened, not from call to call, so they never drift.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Literal

from ..core.errors import DeviceFailed
from ..dsp import pcm as audio
from ..dsp import resampling
from .channels import Channels, no_channel
from .ports import Cut, never

READER_STALLED_S = 0.1  # a reader that is so late has stopped, and the file has stopped with it
CUT_POLL_S = 0.01
WAV_BUFFER_S = 0.1  # how much sound the loudspeaker takes in advance
READ_BYTES = 16384  # at once, and at least a sample of each channel
MAX_DATA_BYTES = 2**32 - 2**12  # a WAV file counts with 32 bits: a day at 24 kHz
WAV_RATES = range(4000, 384001)
WAV_CHANNELS = range(1, 2**16)
MAX_CHUNKS = 100  # before the sound in a WAV file

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # the kinds of sound in a WAV header
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


class Pace:
    """Time as these ports use it; tests replace it."""

    def now(self) -> float:
        """Return seconds of a clock that never jumps."""
        return time.monotonic()

    def wait_until(self, moment: float) -> None:
        """Wait until the clock shows *moment*."""
        threading.Event().wait(max(0.0, moment - self.now()))


def read_wav(path: str) -> tuple[bytes, int, int]:
    """Return the interleaved sound of a file, the number of its channels, and its rate in Hz. Raises DeviceFailed. For
    any thread."""
    try:
        with open(path, "rb") as file:
            form = _read_form(file)
            return file.read(form.size - form.size % (2 * form.channels)), form.channels, form.rate
    except (OSError, ValueError) as error:
        raise _failed("microphone", path, error) from error


class WavMicrophone:
    """Plays its file once, in real time, in frames of 20 ms at *rate* Hz.

    Takes 16 bit PCM at any rate with any number of channels, one of which is used: the *channel*, from 1, or what
    ``Channels`` finds. All methods belong to one thread.
    """

    def __init__(self, path: str, rate: int, channel: int | None = None, *, pace: Pace | None = None) -> None:
        self.overflows = 0  # always: a file waits
        self._path, self._rate, self._pace = path, rate, pace or Pace()
        self._file: BinaryIO | None = None
        self._channel = channel
        self._width = 2  # bytes of a sample of all channels
        self._channels = Channels(1, rate)
        self._left = 0  # bytes of the file that were not read yet
        self._resampler = resampling.Resampler(rate, rate)
        self._framer = resampling.Framer(audio.frame_bytes(rate))
        self._due = 0.0  # when the present frame is complete

    def open(self) -> None:
        self.close()
        try:
            self._file = _opened(self._path, "rb", "is not a file")
            form = _read_form(self._file)
        except (OSError, ValueError) as error:
            self.close()
            raise _failed("microphone", self._path, error) from error
        if self._channel and self._channel > form.channels:
            self.close()
            raise no_channel(f"microphone wav:{self._path}", form.channels, self._channel)
        self._width, self._left = 2 * form.channels, form.size
        self._channels = Channels(form.channels, form.rate, self._channel, f"microphone wav:{self._path}")
        self._resampler = resampling.Resampler(form.rate, self._rate)
        self._framer = resampling.Framer(audio.frame_bytes(self._rate))
        self._due = self._pace.now()

    def read(self) -> bytes:
        frame = self._next()
        if not frame:
            return b""
        if self._pace.now() > self._due + READER_STALLED_S:
            self._due = self._pace.now()
        self._due += audio.FRAME_MS / 1000
        self._pace.wait_until(self._due)
        return frame

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _next(self) -> bytes:
        """Return the next frame of the file, the last one filled up with silence, then b""."""
        while not (frame := self._framer.take()):
            if self._file is None:
                return self._framer.flush()
            if piece := self._piece(self._file):
                self._framer.feed(self._resampler.feed(piece))
            else:
                self._framer.feed(self._resampler.flush())
                self.close()
        return frame

    def _piece(self, file: BinaryIO) -> bytes:
        """Return the next piece of the file as mono, still at the rate of the file."""
        try:
            raw = file.read(min(max(self._width, READ_BYTES - READ_BYTES % self._width), self._left))
        except OSError as error:
            raise _failed("microphone", self._path, error) from error
        self._left -= len(raw)
        whole = len(raw) - len(raw) % self._width  # a file that was cut off may end within a sample
        return self._channels.feed(raw[:whole])


class WavSpeaker:
    """Writes a file of what a listener would have heard at *rate* Hz since ``open``, silence included.

    Like a card with a buffer of 100 ms, whose content is not in the file yet, so that ``drop`` and ``close`` leave it
    out. A process that is killed leaves a valid file. All methods belong to one thread.
    """

    latency = WAV_BUFFER_S

    def __init__(self, path: str, rate: int, pace: Pace | None = None) -> None:
        self.underruns = 0  # writes that came too late for what was written before
        self._path, self._rate, self._pace = path, rate, pace or Pace()
        self._file: BinaryIO | None = None
        self._buffer = bytearray()
        self._opened = 0.0  # the moment of the first sample
        self._heard = 0  # samples in the file
        self._playing = False  # more is expected

    def open(self) -> None:
        """Begin the file anew. Raises DeviceFailed."""
        self.close()
        self._opened, self._heard, self._playing = self._pace.now(), 0, False
        try:
            self._file = _opened(self._path, "wb", "is not a file; name a file to record into")
        except (OSError, ValueError) as error:
            raise _failed("speaker", self._path, error) from error
        self._record(b"", 0)

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        self._listen()
        if self._playing and not self._buffer:
            self.underruns += 1
        self._playing = True
        self._buffer += pcm
        self._wait_until(self._end() - WAV_BUFFER_S, cut)

    def drain(self, cut: Cut = never) -> None:
        self._wait_until(self._end(), cut)
        self.drop()

    def drop(self) -> None:
        self._listen()
        self._buffer.clear()
        self._playing = False

    def close(self) -> None:
        if self._file is None:
            return
        try:
            self.drop()
        finally:
            file, self._file = self._file, None
            with suppress(OSError):  # which _record has raised before
                file.close()

    def _wait_until(self, moment: float, cut: Cut) -> None:
        while (now := self._pace.now()) < moment and not cut():
            self._pace.wait_until(min(moment, now + CUT_POLL_S))

    def _end(self) -> float:
        """Return the moment when everything written has been heard."""
        return self._opened + (self._heard + len(self._buffer) // 2) / self._rate

    def _listen(self) -> None:
        """Write what was heard until now: first what was in the buffer, then silence."""
        until = max(self._heard, audio.samples(self._pace.now() - self._opened, self._rate))
        sound = bytes(self._buffer[: 2 * (until - self._heard)])
        del self._buffer[: len(sound)]
        self._record(sound, until)

    def _record(self, sound: bytes, until: int) -> None:
        """Add *sound* to the file, and silence up to so many samples."""
        if self._file is None:
            raise DeviceFailed(f"speaker wav:{self._path} is not open: call open first")
        size = 2 * until
        if size > MAX_DATA_BYTES:
            raise DeviceFailed(f"speaker wav:{self._path} is full at 4 GiB; start again with another one")
        try:
            self._file.seek(_HEADER.size + 2 * self._heard)
            self._file.write(sound)
            self._file.truncate(_HEADER.size + size)  # silence costs neither time nor, on most disks, space
            self._file.seek(0)
            self._file.write(_header(self._rate, size))
            self._file.flush()
        except OSError as error:
            raise _failed("speaker", self._path, error) from error
        self._heard = until


def _opened(path: str, mode: Literal["rb", "wb"], otherwise: str) -> BinaryIO:
    """Open a file, and nothing else: opening a pipe might block. Raises OSError, and ValueError(*otherwise*)."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(otherwise)
    return open(path, mode)


@dataclass(frozen=True)
class _Form:
    """The header of a WAV file, in Hz and bytes."""

    channels: int
    rate: int
    size: int


def _header(rate: int, size: int) -> bytes:
    """Return the header of a WAV file with *size* bytes of s16le mono."""
    form = (b"fmt ", 16, _PCM, 1, rate, 2 * rate, 2, 16)
    return _HEADER.pack(b"RIFF", _HEADER.size - 8 + size, b"WAVE", *form, b"data", size)


def _read_form(file: BinaryIO) -> _Form:
    """Read up to the first sample. Raises ValueError, which says what is wrong with the file.

    The standard library knows the long form of the header only since Python 3.12.
    """
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise ValueError("is empty" if not riff else "is not a WAV file")
    channels = rate = 0
    for _ in range(MAX_CHUNKS):
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        start = file.tell()
        if name == b"fmt ":
            channels, rate = _read_kind(file.read(min(size, 40)))
        if name == b"data" and channels:
            rest = file.seek(0, os.SEEK_END) - start
            if not size and not _are_chunks(file, start, start + rest):
                size = MAX_DATA_BYTES  # unknown to a recorder that was killed or wrote into a pipe
            size = min(size, rest)
            file.seek(start)
            if size >= 2 * channels:
                return _Form(channels, rate, size)
        file.seek(start + size + size % 2)
    raise ValueError("contains no sound")


def _are_chunks(file: BinaryIO, start: int, end: int) -> bool:
    """Whether there are only chunks from *start* to the *end* of the file, with printable names and matching sizes, and
    no sound."""
    for _ in range(MAX_CHUNKS):
        if start >= end:
            return True
        file.seek(start)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if not all(32 <= letter < 127 for letter in name):
            return False
        start += 8 + size + size % 2
        if start > end + 1:  # the last byte of padding is often missing
            return False
    return False


def _read_kind(form: bytes) -> tuple[int, int]:
    """Return channels and rate. Raises ValueError for any other encoding than 16 bit PCM."""
    if len(form) < 16:
        raise ValueError("is damaged")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", form[:16])
    if kind == _EXTENSIBLE and len(form) == 40:
        kind = int.from_bytes(form[24:26], "little")
    if kind not in {_PCM, _FLOAT}:
        raise ValueError(f"is compressed (kind {kind:#x})")
    if (kind, bits) != (_PCM, 16):
        raise ValueError(f"has {bits} bit {'float' if kind == _FLOAT else 'integer'} samples")
    if channels not in WAV_CHANNELS or rate not in WAV_RATES:
        raise ValueError(f"has {channels} channels at {rate} Hz")
    return channels, rate


def _failed(port: str, path: str, error: OSError | ValueError) -> DeviceFailed:
    """Return the failure of *port* for *error*, with what to do about it."""
    if isinstance(error, OSError):
        return DeviceFailed(f"{port} wav:{path}: {error.strerror or error}; check the name and the permissions")
    advice = "it should be a WAV file of 16 bit samples; make one with: ffmpeg -i FILE -c:a pcm_s16le NEW.wav"
    return DeviceFailed(f"{port} wav:{path} {error}" + (f"; {advice}" if port == "microphone" else ""))
