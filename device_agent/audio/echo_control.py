"""Echo control: tone removal, half duplex and echo cancellation for the sound of the device's own loudspeaker.

A cue is removed by its tones. While a reply sounds, and until its echo has died away in the room, no speech counts but
that of the button (half duplex); or an echo canceller removes the reply, and the user may talk over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dsp.delay_estimator import DelayEstimator
from ..dsp.notch_filter import ToneFilter
from ..dsp.pcm import level, seconds
from .cues import CUE_TONES_HZ
from .gate import EchoPresence
from .playback_buffer import OutputFrame

if TYPE_CHECKING:  # loaded only where the configuration asks for it
    from ..dsp.aec import Canceller

ECHO_TAIL_S = 0.25  # a room goes on sounding, and a microphone delivering, for so long after the loudspeaker
CUE_ECHO_TAIL_S = 0.5  # the same for cues: removing what is no longer there costs little


class EchoControl:
    """Knows what the loudspeaker plays, and when it is over, in seconds of the clock that ``now`` is read from.

    ``played`` and ``dropped`` belong to the playout thread, ``clean`` and ``overflowed`` to the capture thread, the
    others to any. Where *half_duplex* is False and there is no canceller, the device is trusted to remove the echo.
    """

    def __init__(self, rate: int, *, half_duplex: bool = True, canceller: Canceller | None = None) -> None:
        self._rate, self._half_duplex, self._canceller = rate, half_duplex, canceller
        self._tones, self._delay, self._room = ToneFilter(rate, CUE_TONES_HZ), DelayEstimator(), ECHO_TAIL_S
        self._over = 0.0  # when everything that was written has left the loudspeaker
        self._voice_over = self._cue_over = 0.0  # the same of the last reply, of the last cue

    def played(self, sound: OutputFrame, latency: float, now: float) -> None:
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
        """The loudspeaker dropped what it had not played yet."""
        self._over = now
        self._voice_over, self._cue_over = min(self._voice_over, now), min(self._cue_over, now)
        self._delay.dropped(now)
        if self._canceller is not None:
            self._canceller.dropped()

    def unheard(self, now: float) -> float:
        """Return how many seconds of what was written have not left the loudspeaker yet."""
        return max(0.0, self._over - now)

    def tune(self, *, half_duplex: bool) -> None:
        """Ignore speech while the device speaks, or not."""
        self._half_duplex = half_duplex

    def clean(self, frame: bytes, now: float) -> tuple[bytes, EchoPresence]:
        """Return *frame* without what can be removed, and how much echo of a reply may be left in it."""
        late = self._delay.seconds or 0.0  # what a sound server adds to the latency of the device
        if now < self._cue_over + late + CUE_ECHO_TAIL_S:
            frame = self._tones.clean(frame)
        else:
            self._tones.pass_by(frame)
        echo = self._presence(now - self._voice_over - late)
        if echo is not EchoPresence.NONE:
            self._delay.heard(level(frame), now)
        if self._canceller is None:
            return frame, echo if self._half_duplex else EchoPresence.NONE
        return self._canceller.clean(frame), EchoPresence.NONE if self._canceller.trusted else echo

    def overflowed(self) -> None:
        """The microphone dropped sound: what is played and what is heard have to be aligned again."""
        if self._canceller is not None:
            self._canceller.dropped()

    def _presence(self, since: float) -> EchoPresence:
        """Return what there is of a reply so many seconds after its end."""
        if since < 0:
            return EchoPresence.ACTIVE
        return EchoPresence.TAIL if since < self._room else EchoPresence.NONE
