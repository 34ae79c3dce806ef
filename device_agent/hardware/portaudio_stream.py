"""One stream to or from a sound card: opened at a rate that the card takes, and never waited for inside PortAudio.

- A stream belongs to the thread that opened it. Closing or stopping it from another thread while it reads or writes
  crashes the process, so every stream has one owner.
- PyAudio closes a stream by itself as soon as a call on it fails. A card that failed can only be closed, and may then
  be opened again.
- A blocking call to a card that was pulled out may never return and burn a whole core meanwhile; to one that is frozen,
  it just never returns. So we wait here, by asking the card what it can give or take, and call PortAudio for no more
  than that. Rarely a call hangs all the same (``close`` while a sound server is frozen): whoever supervises the owner
  then ends the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from ..core.errors import DeviceFailed
from .channels import no_channel
from .period_estimator import PeriodEstimator
from .portaudio_host import (
    BAD_CHANNELS,
    BAD_FORMAT,
    BAD_RATE,
    CHECK_CABLE,
    INT16,
    OVERFLOWED,
    PORT_NAMES,
    Direction,
    SoundDevice,
    alone,
    choose,
    code_of,
    counts,
    failed,
    initialize,
    own_rate,
    said_of,
)
from .ports import Cut, never

log = logging.getLogger(__name__)

FALLBACK_RATES = (48000, 44100, 96000, 88200, 32000, 24000, 192000, 176400, 64000, 22050, 16000, 12000, 11025, 8000)
"""Where a card does not take the service's own rate, it is opened at the first of these that it takes, or else at the
one that it prefers."""
LIKELY_COUNTS = 3
"""Where a card refuses every number of channels at one rate, so many are tried at the others."""

MIN_PAUSE_S: dict[Direction, float] = {"input": 0.00025, "output": 0.010}
"""The shortest wait in seconds before a card is asked again. Only sound that comes in is worth a wait so short."""

CARD_STALLED_S = 2.0
"""A card that moves nothing for so long has failed. Busy machines lose half a second now and then."""


class PortAudioStream:
    """PyAudio and one stream: finds the card, opens it at a rate it takes, puts every failure into words.

    All methods belong to one thread.
    """

    def __init__(self, way: Direction, device: str, channel: int | None = None) -> None:
        """*channel*, from 1, is one that it has to have."""
        self.rate = 0
        """Hz of the card itself."""
        self.channels = 1
        """How many it was opened with, interleaved."""
        self.period = 0
        """Samples of each channel that it moves at once."""
        self.buffer = 0
        """Samples of each channel that it holds."""
        self._way: Direction = way
        self._device, self._channel = device, channel
        self._system: Any = None
        self._stream: Any = None
        self._worked = (0, 0)  # rate and channels of the last success
        self._owner = threading.current_thread()
        self._left = 0  # samples that it could give or take and that the last caller left to the next one
        self._moved = 0  # samples since the last step that somebody waited for
        self._steps = PeriodEstimator(MIN_PAUSE_S[way])
        self._leaving = False  # another thread asked to close

    def __str__(self) -> str:
        return f"{PORT_NAMES[self._way]} {self._device!r}"

    def open(self, rate: int, period_ms: int) -> None:
        """Open the card at *rate* Hz or else at one of FALLBACKS, not running yet. Raises DeviceFailed."""
        self.close()
        if self._system is not None:
            raise DeviceFailed(f"{self} is still used by the thread {self._owner.name}: wait for it")
        self._owner = threading.current_thread()
        self._leaving = False
        with alone(), said_of(str(self)):
            self._system = initialize()
            try:
                device = choose(self._system, self._way, self._device)
                self._stream = self._open_at_best(device, rate, period_ms)
                self._measure()
            except BaseException:
                self._release()
                raise
        log.info("%s is %r at %d Hz, %d channel(s)", self, device.name, self.rate, self.channels)

    def close(self) -> None:
        """Give the card back; from another thread than the owner's, only ask for it. Harmless where it is not open."""
        if self._system is None:
            return
        if self._owner is not threading.current_thread() and self._owner.is_alive():
            self._leaving = True
            return
        with alone(), said_of(str(self)):
            self._release()

    def seconds(self, samples: int) -> float:
        """Return how long it takes the card to move so many samples."""
        return samples / self.rate

    def start(self) -> None:
        """Let the card move. Raises DeviceFailed."""
        self.call("start_stream")
        self._left = self._moved = 0
        self._steps.begin(time.monotonic(), self.rate, self.period)

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the stream. Raises DeviceFailed."""
        if self._stream is None:
            raise DeviceFailed(f"{self} is not open: call open first")
        try:
            return getattr(self._stream, method)(*arguments)
        except (OSError, ValueError) as error:
            raise failed(str(self), error) from error

    def available(self) -> int:
        """Return how many samples the card can give or take without waiting. Raises DeviceFailed."""
        count: int = self.call("get_read_available" if self._way == "input" else "get_write_available")
        if count < 0 and count != OVERFLOWED:  # these calls return their errors
            error = OSError(count, "it does not answer")
            raise failed(str(self), error) from error
        return max(0, count)

    def wait(self, least: int, samples: int, cut: Cut = never) -> int:
        """Wait until the card can give or take *least* samples; return how many it can, 0 when asked to close or *cut*.

        *samples* are what the caller really waits for. Of an input he is to take all there is, of an output *least*.
        Raises DeviceFailed after STALLED_S without *least*.
        """
        begun = time.monotonic()
        has_to_move = self._left < least  # what the last caller left is too little: to ask before that is in vain
        pause = self._steps.until(begun, self._moved + samples - self._left) if has_to_move else 0.0
        while True:
            if self._leaving or (pause > 0 and cut(pause)):
                return 0
            if (ready := self.available()) >= least:
                break
            now = time.monotonic()
            if now > begun + CARD_STALLED_S:
                raise DeviceFailed(f"{self}: it has stood still for {CARD_STALLED_S:g} s: {CHECK_CABLE}")
            pause = self._steps.pause(now, begun)
        self._moved += max(0, ready - self._left)  # it holds less where it was begun anew
        self._left = 0 if self._way == "input" else ready - least
        if has_to_move and ready >= samples:
            self._steps.came(time.monotonic(), self._moved)
            self._moved = 0
        return ready

    def _open_at_best(self, device: SoundDevice, rate: int, period_ms: int) -> Any:
        """Return a stream, opened in the first format that the card takes."""
        most = device.channels(self._way)
        if self._channel and self._channel > most:
            raise no_channel(str(self), most, self._channel)
        rates = (rate, *FALLBACK_RATES, *own_rate(device))
        numbers = counts(self._way, most, self._channel or 1)
        refused: OSError | None = None
        # What worked last time comes first: PortAudio writes three lines to standard error for every refusal.
        for hertz in _first(self._worked[0], rates):
            for channels in _first(self._worked[1], numbers):
                self.rate, self.channels, self.period = hertz, channels, hertz * period_ms // 1000
                try:
                    stream = self._open_stream(device.index)
                    self._worked = hertz, channels
                    return stream
                except OSError as error:
                    # Only a refused format is worth another try; a card that is gone or busy says so each time.
                    if code_of(error) not in (BAD_RATE, BAD_CHANNELS, BAD_FORMAT):
                        raise
                    if code_of(error) != BAD_CHANNELS:
                        refused = refused or error
                        break  # whatever the number: the rate is looked at first
                    refused = error
            else:
                numbers = numbers[:LIKELY_COUNTS]
        raise refused or OSError(BAD_CHANNELS, "Invalid number of channels")

    def _open_stream(self, index: int) -> Any:
        ways = {self._way: True, f"{self._way}_device_index": index}
        return self._system.open(self.rate, self.channels, INT16, frames_per_buffer=self.period, start=False, **ways)

    def _measure(self) -> None:
        """Learn how much the card really holds. An output is asked, which makes no sound as long as nothing is written;
        for an input, PortAudio's latency is the buffer without its last period.
        """
        if self._way == "input":
            self.buffer = round(self._stream.get_input_latency() * self.rate) + self.period
            return
        self._stream.start_stream()
        self.buffer = self.available()
        self._stream.stop_stream()
        self.period = min(self.period, self.buffer)

    def _release(self) -> None:
        system, self._system, self._stream = self._system, None, None
        system.terminate()  # closes the stream first


def _first(worked: int, others: Iterable[int]) -> list[int]:
    """Return *others*, each once, in their order, but for what *worked*, which comes first."""
    return list(dict.fromkeys((worked, *others) if worked else others))
