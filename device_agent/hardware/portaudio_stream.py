"""PortAudio stream: one direction of a sound card, opened at a rate that the card takes, without blocking calls.

- A stream belongs to the thread that opened it: closing or stopping it from another thread while it reads or writes
  crashes the process.
- PyAudio closes a stream as soon as a call on it fails. A card that failed can only be closed and opened again.
- A blocking call to a card that is frozen never returns, and to one that was unplugged may use a whole core meanwhile.
  So this waits by asking the card what it can give or take, and calls PortAudio for no more than that. Rarely a call
  hangs all the same (``close`` while a sound server is frozen): then ``DeviceSupervisor`` ends the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from ..core.errors import DeviceFailed
from . import portaudio_host as host
from .channels import no_channel
from .period_estimator import PeriodEstimator
from .portaudio_host import CHECK_CABLE, PORT_NAMES, Direction, SoundDevice
from .ports import Cut, never

log = logging.getLogger(__name__)

FALLBACK_RATES = (48000, 44100, 96000, 88200, 32000, 24000, 192000, 176400, 64000, 22050, 16000, 12000, 11025, 8000)
"""A card that does not take the rate of the service is opened at the first of these that it takes, or at the one that
it prefers."""
LIKELY_COUNTS = 3  # numbers of channels to try at further rates, where one rate takes none
MIN_PAUSE_S: dict[Direction, float] = {"input": 0.00025, "output": 0.010}  # before a card is asked again
CARD_STALLED_S = 2.0  # a card that moves nothing for so long has failed; busy machines lose half a second now and then


class PortAudioStream:
    """Finds the card, opens it at a rate it takes, and explains every failure. All methods belong to one thread."""

    def __init__(self, direction: Direction, device: str, channel: int | None = None) -> None:
        """*channel*, from 1, is one that the card has to have."""
        self.rate = 0  # of the card itself, in Hz
        self.channels = 1  # with which it was opened, interleaved
        self.period = 0  # samples of each channel that it moves at once
        self.buffer = 0  # samples of each channel that it holds
        self._direction: Direction = direction
        self._device, self._channel = device, channel
        self._system: Any = None
        self._stream: Any = None
        self._worked = (0, 0)  # rate and channels of the last success
        self._owner = threading.current_thread()
        self._left = 0  # samples that it could give or take and the last caller did not use
        self._moved = 0  # samples since the last period that was waited for
        self._periods = PeriodEstimator(MIN_PAUSE_S[direction])
        self._leaving = False  # another thread asked to close

    def __str__(self) -> str:
        return f"{PORT_NAMES[self._direction]} {self._device!r}"

    def open(self, rate: int, period_ms: int) -> None:
        """Open the card at *rate* Hz or else at one of FALLBACK_RATES, not running yet. Raises DeviceFailed."""
        self.close()
        if self._system is not None:
            raise DeviceFailed(f"{self} is still used by the thread {self._owner.name}: wait for it")
        self._owner = threading.current_thread()
        self._leaving = False
        with host.alone(), host.said_of(str(self)):
            self._system = host.initialize()
            try:
                device = host.choose(self._system, self._direction, self._device)
                self._stream = self._open_at_best(device, rate, period_ms)
                self._measure()
            except BaseException:
                self._release()
                raise
        log.info("%s is %r at %d Hz, %d channel(s)", self, device.name, self.rate, self.channels)

    def close(self) -> None:
        """Release the card; from another thread than the owner's, only ask for it. Harmless where it is not open."""
        if self._system is None:
            return
        if self._owner is not threading.current_thread() and self._owner.is_alive():
            self._leaving = True
            return
        with host.alone(), host.said_of(str(self)):
            self._release()

    def seconds(self, samples: int) -> float:
        """Return how long the card takes to move so many samples."""
        return samples / self.rate

    def start(self) -> None:
        """Start the card. Raises DeviceFailed."""
        self.call("start_stream")
        self._left = self._moved = 0
        self._periods.begin(time.monotonic(), self.rate, self.period)

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the stream. Raises DeviceFailed."""
        if self._stream is None:
            raise DeviceFailed(f"{self} is not open: call open first")
        try:
            return getattr(self._stream, method)(*arguments)
        except (OSError, ValueError) as error:
            raise host.failed(str(self), error) from error

    def available(self) -> int:
        """Return how many samples the card can give or take without waiting. Raises DeviceFailed."""
        count: int = self.call("get_read_available" if self._direction == "input" else "get_write_available")
        if count < 0 and count != host.OVERFLOWED:  # these calls return their errors
            error = OSError(count, "it does not answer")
            raise host.failed(str(self), error) from error
        return max(0, count)

    def wait(self, least: int, samples: int, cut: Cut = never) -> int:
        """Wait until the card can give or take *least* samples; return how many it can, 0 when asked to close or *cut*.

        *samples* are what the caller really waits for. Of an input it has to take all there is, of an output *least*.
        Raises DeviceFailed after CARD_STALLED_S without *least*.
        """
        begun = time.monotonic()
        has_to_move = self._left < least  # else what the last caller left is enough
        pause = self._periods.until(begun, self._moved + samples - self._left) if has_to_move else 0.0
        while True:
            if self._leaving or (pause > 0 and cut(pause)):
                return 0
            if (ready := self.available()) >= least:
                break
            now = time.monotonic()
            if now > begun + CARD_STALLED_S:
                raise DeviceFailed(f"{self}: it has stood still for {CARD_STALLED_S:g} s: {CHECK_CABLE}")
            pause = self._periods.pause(now, begun)
        self._moved += max(0, ready - self._left)  # it holds less after a restart
        self._left = 0 if self._direction == "input" else ready - least
        if has_to_move and ready >= samples:
            self._periods.came(time.monotonic(), self._moved)
            self._moved = 0
        return ready

    def _open_at_best(self, device: SoundDevice, rate: int, period_ms: int) -> Any:
        """Return a stream in the first format that the card takes, that of the last time first: PortAudio writes three
        lines to standard error for every refusal."""
        most = device.channels(self._direction)
        if self._channel and self._channel > most:
            raise no_channel(str(self), most, self._channel)
        rates = (rate, *FALLBACK_RATES, *host.own_rate(device))
        numbers = host.counts(self._direction, most, self._channel or 1)
        refused: OSError | None = None
        for hertz in _first(self._worked[0], rates):
            for channels in _first(self._worked[1], numbers):
                self.rate, self.channels, self.period = hertz, channels, hertz * period_ms // 1000
                try:
                    stream = self._open_stream(device.index)
                    self._worked = hertz, channels
                    return stream
                except OSError as error:
                    if host.code_of(error) not in (host.BAD_RATE, host.BAD_CHANNELS, host.BAD_FORMAT):
                        raise  # it is gone or busy in every format
                    if host.code_of(error) != host.BAD_CHANNELS:
                        refused = refused or error
                        break  # at this rate it takes no number of channels
                    refused = error
            else:
                numbers = numbers[:LIKELY_COUNTS]
        raise refused or OSError(host.BAD_CHANNELS, "Invalid number of channels")

    def _open_stream(self, index: int) -> Any:
        options = {self._direction: True, f"{self._direction}_device_index": index, "frames_per_buffer": self.period}
        return self._system.open(self.rate, self.channels, host.INT16, start=False, **options)

    def _measure(self) -> None:
        """Measure the buffer of the card. An output is asked, which is silent as long as nothing is written; for an
        input, PortAudio's latency is the buffer without its last period."""
        if self._direction == "input":
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
    """Return *others*, each once, in their order, after what *worked*."""
    return list(dict.fromkeys((worked, *others) if worked else others))
