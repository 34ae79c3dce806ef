"""Microphone and loudspeaker on a sound card, through PortAudio's blocking calls."""

from __future__ import annotations

import time

from ..dsp import pcm as audio
from ..dsp import resampling
from .channels import Channels
from .portaudio_stream import PortAudioStream
from .ports import Cut, never

MICROPHONE_PERIOD_MS = audio.FRAME_MS
SPEAKER_PERIOD_MS = 2 * audio.FRAME_MS
"""PortAudio gives a card a buffer of two to three periods. The speaker's are longer: they outlast a busy processor."""
RESAMPLER_S, SLOW_RESAMPLER_S, SLOW_HZ = 0.010, 0.022, 16000
"""What the resampler holds back on average, and towards a card with less than SLOW_HZ."""


class PortAudioMicrophone:
    """A card's input in frames of 20 ms at *rate* Hz. *device* is "default" or a part of a name.

    Of its channels one is used: the *channel*, from 1, or what ``Channels`` finds. All methods belong to one thread;
    ``close`` from another one asks the owner to close.
    """

    def __init__(self, rate: int, device: str = "default", channel: int | None = None) -> None:
        self.overflows = 0  # gaps in what was read, because it was read too late
        self._rate, self._channel = rate, channel
        self._card = PortAudioStream("input", device, channel)
        self._channels = Channels(1, rate)
        self._framer = resampling.Framer(audio.frame_bytes(rate))
        self._resampler = resampling.Resampler(rate, rate)
        self._missing = 0  # of the card's samples, until the next whole period
        self._full_at = 0.0  # when the card's buffer overflows if it is not read

    def open(self) -> None:
        self._card.open(self._rate, MICROPHONE_PERIOD_MS)
        self._framer = resampling.Framer(audio.frame_bytes(self._rate))
        self._channels = Channels(self._card.channels, self._card.rate, self._channel, str(self._card))
        self._resampler = resampling.Resampler(self._card.rate, self._rate)
        self._card.start()
        self._missing = self._card.period
        self._full_at = time.monotonic() + self._card.seconds(self._card.buffer)

    def read(self) -> bytes:
        """Wait for the next frame; b"" when another thread asked to close. Raises DeviceFailed when the card is gone or
        moved nothing for CARD_STALLED_S."""
        while not (frame := self._framer.take()):
            if not (pcm := self._record()):
                return b""
            self._framer.feed(self._resampler.feed(self._channels.feed(pcm)))
        return frame

    def close(self) -> None:
        self._card.close()

    def _record(self) -> bytes:
        """Wait for sound; return all there is, a buffer at most, as the card delivers it; b"" when asked to close.

        Even less than a period is taken: half a block of sound that is left in a sound server's library can lock that
        up for good, if the server dies meanwhile.
        """
        self._notice_overflow()
        waiting = self._card.wait(1, self._missing)
        if not waiting:
            return b""
        # False: or else PyAudio would close the stream for good at the first overflow.
        pcm: bytes = self._card.call("read", waiting, False)
        self._missing = self._card.period - (waiting - self._missing) % self._card.period
        self._full_at = time.monotonic() + self._card.seconds(self._card.buffer)
        return pcm

    def _notice_overflow(self) -> None:
        """Count an overflow since the last read, one for each gap, however long.

        PortAudio restarts the card after an overflow, but PyAudio can only close the stream over it or keep silent. So
        this goes by how it looks from outside: the last read is longer ago than the card had room for, and its buffer
        is not full but emptied by the restart. Neither a card nor a sound server that stood still counts.
        """
        if time.monotonic() >= self._full_at and self._card.available() < self._card.buffer / 2:
            self.overflows += 1


class PortAudioSpeaker:
    """A card's output for s16le mono at *rate* Hz. *device* is "default" or a part of a name.

    The card runs from the first ``write`` to ``drain`` or ``drop`` only, so a silent speaker costs nothing. All methods
    belong to one thread; any thread may ask for ``latency``, and with ``close`` ask the owner to close.
    """

    def __init__(self, rate: int, device: str = "default") -> None:
        self.underruns = 0  # how often ``write`` found the card silent, because it came too late
        self._rate = rate
        self._card = PortAudioStream("output", device)
        self._resampler = resampling.Resampler(rate, rate)
        self._latency = 0.0
        self._playing = False  # between the first write and the end of a reply
        self._dry_at = 0.0  # when the card will have played everything, at the earliest; 0: it got nothing yet

    @property
    def latency(self) -> float:
        """Seconds from ``write`` to the ear when the card's buffer is full, as it is in the midst of a reply; 0 until
        the first ``open``. PortAudio does not know what a sound server adds."""
        return self._latency

    def open(self) -> None:
        self._card.open(self._rate, SPEAKER_PERIOD_MS)
        self._resampler = resampling.Resampler(self._rate, self._card.rate)
        held = RESAMPLER_S if self._card.rate >= SLOW_HZ else SLOW_RESAMPLER_S
        if self._card.rate == self._rate:
            held = 0.0
        # PortAudio's own latency leaves out the whole period that sounds just now.
        self._latency = self._card.seconds(self._card.buffer) + held
        self._playing = False

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        if cut():
            return
        if self._playing:
            self._notice_underrun()
        else:
            self._card.start()
            self._playing, self._dry_at = True, 0.0
        self._play(self._resampler.feed(pcm), cut)

    def drain(self, cut: Cut = never) -> None:
        if not self._playing:
            return
        # PortAudio never waits for the end of a buffer, it drops it. But when the card has taken a whole buffer of
        # silence behind the last word, that word has been heard; one period more allows for rounding.
        self._play(self._resampler.flush() + bytes(2 * (self._card.buffer + self._card.period)), cut)
        self.drop()

    def drop(self) -> None:
        self._resampler.clear()
        if self._playing:
            self._playing = False
            self._card.call("stop_stream")

    def close(self) -> None:
        self._card.close()

    def _play(self, pcm: bytes, cut: Cut) -> None:
        """Write *pcm*, which has the rate of the card, until *cut*."""
        for start in range(0, len(pcm), 2 * self._card.period):
            piece = pcm[start : start + 2 * self._card.period]
            size = len(piece) // 2
            if not self._card.wait(size, size, cut) or cut():
                return
            self._card.call("write", audio.unfold(piece, self._card.channels))
            now = time.monotonic()
            longest = now + self._card.seconds(self._card.buffer)
            self._dry_at = min(longest, max(now, self._dry_at) + audio.seconds(piece, self._card.rate))

    def _notice_underrun(self) -> None:
        """Count an underrun since the last write, one for each gap, however long.

        Here, too, PyAudio hides what PortAudio notices. But a card in the middle of a reply that has room for a whole
        buffer, and had the time to play one, is silent.
        """
        if 0 < self._dry_at <= time.monotonic() and self._card.available() >= self._card.buffer:
            self.underruns += 1
