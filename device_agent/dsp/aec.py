"""Acoustic echo cancellation by AEC3 of WebRTC. The only file that imports livekit.

The canceller compares two streams side by side, 10 ms of each at a time: what is played and what is heard. But the
loudspeaker is written to in bursts, and not at all while nothing plays. So what was played waits here and leaves at the
pace of the microphone, with silence where nothing waits, and only one thread calls the canceller. It finds out by
itself how much later the echo arrives, up to about 0.4 s; a hint changes nothing.

While no reply sounds or dies away, frames pass unchanged: a canceller with nothing to cancel costs as much as one at
work, and changes every voice a little. For the same reason noise suppression and gain control stay off.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Protocol

import numpy as np

from ..core.errors import ConfigError, install_hint

log = logging.getLogger(__name__)

BLOCKS_PER_SECOND = 100  # of 10 ms each: the canceller does not complain about other lengths
MAX_PLAYBACK_LEAD_S = 0.5
"""How much more may have been played than heard; a card holds 0.12 s. Beyond that the microphone is not read."""
ECHO_LINGER_S = 1.5  # after the last sound: the delay of the devices, and the answer of the room
WARM_UP_BLOCKS = 20
"""From before the first sound, to learn the noise of the room: else up to 9 dB more is left in the first seconds."""

JUDGED_BLOCKS = 50  # are judged together: half a second
TRUSTED_AFTER_PROOFS = 8
"""Judgements in a row that the echo is cancelled, before speech in what is left counts as the user's: of 62 false
alarms in 45 minutes of replies, 59 came earlier."""
SPEECH_POWER = 100.0**2  # of half a second in which a reply really sounded, -50 dBFS
CANCELLED_RATIO, STEADY_RATIO = 30.0, 4.0
"""The echo is cancelled when so little of the power is left (15 dB), or what is left is as even as noise: 6 dB at most
between its mean and its quietest 10 ms."""
IMPOSSIBLE_GAIN, AUDIBLE_OUTPUT_POWER = 16.0, 30.0**2
"""Output with so much more power (12 dB) than the input is an error of the engine, if it is audible (-61 dBFS)."""


class Engine(Protocol):
    """Cancels an echo. Belongs to one thread."""

    def cancel(self, played: bytes, heard: bytes) -> bytes:
        """Return 10 ms of *heard* without the echo of *played*. May raise anything."""


class Canceller:
    """Takes what is played and what is heard, s16le mono at *rate*, and returns the latter without the former.

    ``clean`` belongs to the capture thread, everything else to any. Sound comes out 10 ms late, always: so much the
    engine holds back. Raises ConfigError where livekit is missing or does not run on this machine.
    """

    def __init__(self, rate: int, engine: Engine | None = None) -> None:
        self._engine = engine or _WebRtc(rate)
        size = 2 * rate // BLOCKS_PER_SECOND
        self._silence = bytes(size)
        self._waiting = _Waiting(2 * round(MAX_PLAYBACK_LEAD_S * rate), size)
        self._before = deque([self._silence] * WARM_UP_BLOCKS, maxlen=WARM_UP_BLOCKS)
        self._linger = 0  # blocks in which there may still be an echo
        self._judge = _Judge()
        self._healthy = True  # once it is not, it stays so, and frames pass unchanged
        self._trusted = False

    @property
    def trusted(self) -> bool:
        """Whether the echo was cancelled for long enough: speech in a frame is the user's."""
        return self._healthy and self._trusted

    def played(self, pcm: bytes) -> None:
        """Take what was just written to the loudspeaker. Never waits."""
        self._waiting.put(pcm)

    def dropped(self) -> None:
        """The loudspeaker dropped what it had not played, or the microphone lost frames: align both streams again."""
        self._waiting.clear()

    def clean(self, frame: bytes) -> bytes:
        """Return what was heard without what was played, as long as *frame*, 10 ms late.

        Takes 0.15 ms of CPU for 20 ms while there may be an echo, next to nothing otherwise. Raises ValueError where
        *frame* is no whole number of 10 ms.
        """
        size = len(self._silence)
        if len(frame) % size:
            raise ValueError(f"a frame of {len(frame)} bytes is not a multiple of 10 ms ({size} bytes)")
        return b"".join(self._clean(frame[at : at + size]) for at in range(0, len(frame), size))

    def _clean(self, heard: bytes) -> bytes:
        played, late = self._waiting.take(), self._before[-1]
        if played != self._silence:
            if not self._linger:
                self._begin()
            self._linger = round(ECHO_LINGER_S * BLOCKS_PER_SECOND)
        self._before.append(heard)
        if not self._linger:
            return late
        self._linger -= 1
        return self._cancel(played, heard) or late

    def _begin(self) -> None:
        """A reply begins: push out what the engine held back when it last worked, and let it hear the room."""
        for heard in tuple(self._before):
            self._cancel(self._silence, heard)

    def _cancel(self, played: bytes, heard: bytes) -> bytes:
        if not self._healthy:
            return b""
        try:
            cleaned = self._engine.cancel(played, heard)
            self._judge.look(played, heard, cleaned)
        except Exception as error:  # noqa: BLE001  the speaker goes on without it, whatever breaks
            log.error("the echo canceller failed: %r; the speaker goes on without it until the next start", error)
            self._healthy = False
            return b""
        self._trusted |= self._judge.proofs >= TRUSTED_AFTER_PROOFS
        return cleaned


class _Waiting:
    """What was played and not heard yet. For any thread."""

    def __init__(self, most: int, size: int) -> None:
        self._most, self._size = most, size
        self._pcm = bytearray()
        self._overflowed = False
        self._lock = threading.Lock()

    def put(self, pcm: bytes) -> None:
        with self._lock:
            self._pcm += pcm
            self._overflowed |= len(self._pcm) > self._most
            if self._overflowed:
                # Until the microphone is read again only the newest is kept: the canceller can find the delay of
                # sound that is compared too early, but not of sound that is compared after its echo.
                del self._pcm[: -self._size]

    def take(self) -> bytes:
        with self._lock:
            self._overflowed = False
            pcm = bytes(self._pcm[: self._size])
            del self._pcm[: self._size]
        return pcm.ljust(self._size, b"\0")

    def clear(self) -> None:
        with self._lock:
            self._pcm.clear()


class _Judge:
    """Judges half a second at a time: is the output plausible, and is the echo cancelled?"""

    def __init__(self) -> None:
        self.proofs = 0  # half seconds in a row with a reply, all of it cancelled
        self._powers: list[tuple[float, float, float]] = []

    def look(self, played: bytes, heard: bytes, cleaned: bytes) -> None:
        """Take 10 ms. Raises ValueError where the output is not plausible."""
        if len(cleaned) != len(heard):
            raise ValueError(f"{len(cleaned)} bytes came out of {len(heard)}")
        self._powers.append((_power(played), _power(heard), _power(cleaned)))
        if len(self._powers) == JUDGED_BLOCKS:
            self._conclude(*zip(*self._powers, strict=True))
            self._powers.clear()

    def _conclude(self, played: tuple[float, ...], heard: tuple[float, ...], cleaned: tuple[float, ...]) -> None:
        said, came, left = (sum(powers) / JUDGED_BLOCKS for powers in (played, heard, cleaned))
        if left > IMPOSSIBLE_GAIN * max(came, AUDIBLE_OUTPUT_POWER):
            raise ValueError("its output was louder than its input")
        if said > SPEECH_POWER:
            gone = came > CANCELLED_RATIO * left or left < STEADY_RATIO * min(cleaned)
            self.proofs = self.proofs + 1 if gone else 0


def _power(pcm: bytes) -> float:
    wave = np.frombuffer(pcm, np.int16).astype(np.float32)
    return float(np.dot(wave, wave)) / len(wave)


class _WebRtc:
    def __init__(self, rate: int) -> None:
        try:
            from livekit.rtc import AudioFrame
            from livekit.rtc.apm import AudioProcessingModule

            logging.getLogger("livekit").setLevel(logging.CRITICAL)  # it logs what it raises, which is logged here
            self._frame, self._rate = AudioFrame, rate
            self._module = AudioProcessingModule(echo_cancellation=True)
        except Exception as error:  # an ImportError, or whatever its parts raise where they do not fit together
            raise ConfigError(
                f"echo.mode is cancel, but the echo canceller does not start ({error}); "
                f"{install_hint('echo')} (64 bit only), or set echo.mode to off"
            ) from error

    def cancel(self, played: bytes, heard: bytes) -> bytes:
        near = self._frame(bytearray(heard), self._rate, 1, len(heard) // 2)
        self._module.process_reverse_stream(self._frame(bytearray(played), self._rate, 1, len(played) // 2))
        self._module.process_stream(near)
        return bytes(near.data)
