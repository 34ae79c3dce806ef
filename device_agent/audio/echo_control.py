"""What the microphone hears of our own loudspeaker, and what is done about it.

A cue is taken out of the frames by its notes. A reply makes us deaf, but for the button, until the last of it has died
away in the room (half duplex); or an echo canceller takes it out and one may talk over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dsp.delay_estimator import DelayEstimator
from ..dsp.notch_filter import ToneFilter
from ..dsp.pcm import level, seconds
from .cues import CUE_TONES_HZ
from .gate import EchoPresence
from .playback_buffer import OutputFrame

if TYPE_CHECKING:  # it is there only where it is wanted
    from ..dsp.aec import Canceller

ECHO_TAIL_S = 0.25
"""How long a room goes on sounding, and a microphone on delivering, after the loudspeaker has stopped."""
CUE_ECHO_TAIL_S = 0.5
"""The same for cues: taking out what is no longer there costs little."""


class EchoControl:
    """Knows what the loudspeaker plays, and when it is over, in seconds of the clock that ``now`` is read from.

    ``sounds`` and ``dropped`` belong to the speaker's thread, ``hear`` to the microphone's; ``unheard`` to any. Where
    *half_duplex* is False and there is no canceller, the device is trusted to remove the echo itself.
    """

    def __init__(self, rate: int, *, half_duplex: bool = True, canceller: Canceller | None = None) -> None:
        self._rate, self._half_duplex, self._canceller = rate, half_duplex, canceller
        self._comb, self._delay, self._room = ToneFilter(rate, CUE_TONES_HZ), DelayEstimator(), ECHO_TAIL_S
        self._over = 0.0  # when everything that was written has left the loudspeaker
        self._voice_over = self._cue_over = 0.0  # the same of the last reply, of the last cue

    # The speaker's thread ---------------------------------------------------------------------------------------------

    def sounds(self, sound: OutputFrame, latency: float, now: float) -> None:
        """The loudspeaker is about to take *sound*; it holds *latency* seconds of sound at most."""
        length = seconds(sound.pcm, self._rate)
        self._over = min(now + latency, max(now, self._over)) + length
        if sound.cue:
            self._cue_over = self._over
        if sound.voice:
            self._voice_over = self._over
        self._delay.played(level(sound.voice), now)
        if self._canceller is not None:
            self._canceller.played(sound.voice or bytes(len(sound.pcm)))

    def dropped(self, now: float) -> None:
        """The loudspeaker forgot what it had not played yet."""
        self._over = now
        self._voice_over, self._cue_over = min(self._voice_over, now), min(self._cue_over, now)
        self._delay.dropped(now)
        if self._canceller is not None:
            self._canceller.dropped()

    # Any thread -------------------------------------------------------------------------------------------------------

    def unheard(self, now: float) -> float:
        """Return how many seconds of what was written have not left the loudspeaker yet."""
        return max(0.0, self._over - now)

    def tune(self, *, half_duplex: bool) -> None:
        """Be deaf while the device speaks, or not."""
        self._half_duplex = half_duplex

    # The microphone's thread ------------------------------------------------------------------------------------------

    def hear(self, frame: bytes, now: float) -> tuple[bytes, EchoPresence]:
        """Return *frame* without what can be taken out of it, and how much of our own voice may still be in it."""
        late = self._delay.seconds or 0.0  # what a sound server adds to what the device says
        if now < self._cue_over + late + CUE_ECHO_TAIL_S:
            frame = self._comb.clean(frame)
        else:
            self._comb.pass_by(frame)
        own = self._own(now - self._voice_over - late)
        if own is not EchoPresence.NONE:
            self._delay.heard(level(frame), now)
        if self._canceller is None:
            return frame, own if self._half_duplex else EchoPresence.NONE
        return self._canceller.clean(frame), EchoPresence.NONE if self._canceller.trusted else own

    def _own(self, since: float) -> EchoPresence:
        """Return what there is of our voice so many seconds after it has ended."""
        if since < 0:
            return EchoPresence.ACTIVE
        return EchoPresence.TAIL if since < self._room else EchoPresence.NONE

    def missed(self) -> None:
        """The microphone left something out: what is played and what is heard begin anew side by side."""
        if self._canceller is not None:
            self._canceller.dropped()
