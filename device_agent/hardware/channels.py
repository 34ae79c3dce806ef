"""Channel selection: which channel of a microphone is used, the chosen one or the first that hears.

Channels are never mixed: of a pair with one wired the wrong way round the mean is silence, and a chip with several
microphones puts its result into its first channel, beside the raw ones.
"""

from __future__ import annotations

import logging

import numpy as np

from ..core.errors import DeviceFailed
from ..dsp.pcm import FULL_SCALE, frame_samples, powers

log = logging.getLogger(__name__)

MAX_JUDGED_CHANNELS = 8  # those of the largest arrays
AUDIBLE_POWER = FULL_SCALE**2 * 10 ** (-66 / 10)  # a distant voice has more, a converter without a microphone less
CLEAR_POWER = FULL_SCALE**2 * 10 ** (-50 / 10)  # shows that a channel works
DEAF_RATIO = 10 ** (-24 / 10)
"""Of the loudest channel's power: two microphones on one card differ by a few dB, and crosstalk is weaker."""
ALIKE_RATIO = 0.1  # with more than this part of it, a channel hears as well as the loudest
CHANNEL_SURE_S = 1.0
"""A first channel that heard clearly for so long is not judged again: later a chip may silence it against echo."""
MIN_JUDGED_S = 0.005  # a shorter piece says little about its level


class Channels:
    """Picks one of *count* interleaved channels at *rate* Hz, of a microphone called *name*. For one thread.

    *chosen* counts from 1. None: channel 1, unless that is dead: silent, but for an offset, hiss and crosstalk, while
    another hears something. Then it is the first that hears, until channel 1 does. Each piece is judged before it is
    passed on, so no sound is lost.
    """

    def __init__(self, count: int, rate: int, chosen: int | None = None, name: str = "microphone") -> None:
        self._count, self._name = count, name
        self._heard = (chosen or 1) - 1
        self._doubted = chosen is None and count > 1
        self._least, self._sure = MIN_JUDGED_S * rate, CHANNEL_SURE_S * rate  # samples
        self._piece = frame_samples(rate)
        self._told = False

    @property
    def heard(self) -> int:
        """The channel in use, from 1."""
        return self._heard + 1

    def feed(self, pcm: bytes) -> bytes:
        """Return the one channel of *pcm*, which is whole samples of all of them."""
        if self._count == 1:
            return pcm
        wave = np.frombuffer(pcm, np.int16).reshape(-1, self._count)
        if self._doubted and len(wave) >= self._least:
            self._judge(wave)
        return wave[:, self._heard].tobytes()

    def whole(self, pcm: bytes) -> bytes:
        """Return the one channel of a whole recording, judged piece by piece."""
        size = 2 * self._count * self._piece
        return b"".join(self.feed(pcm[start : start + size]) for start in range(0, len(pcm), size))

    def _judge(self, wave: np.ndarray) -> None:
        heard = [powers(each)[1] for each in wave[:, :MAX_JUDGED_CHANNELS].T.astype(np.float64)]
        loudest, first = max(heard), heard[0]
        if first < DEAF_RATIO * loudest:
            if loudest >= AUDIBLE_POWER and heard[self._heard] < ALIKE_RATIO * loudest:
                self._take(next(number for number, power in enumerate(heard) if power >= ALIKE_RATIO * loudest))
        elif first >= CLEAR_POWER:
            self._heard = 0
            self._sure -= len(wave)
            self._doubted = self._sure > 0

    def _take(self, number: int) -> None:
        self._heard = number
        if not self._told:
            self._told = True
            channel = number + 1
            log.warning(
                "%s: channel 1 of %d is silent, channel %d is heard in its place; microphone.channel: %d keeps it so",
                *(self._name, self._count, channel, channel),
            )


def no_channel(name: str, count: int, chosen: int) -> DeviceFailed:
    """Return the error of a microphone called *name* that has only *count* channels."""
    there = "1 channel" if count == 1 else f"{count} channels"
    return DeviceFailed(
        f"{name} has {there}, and microphone.channel is {chosen}: choose 1 to {count}, or leave it empty"
    )
