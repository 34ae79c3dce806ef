"""Device supervisor: detects lost or stalled microphones and loudspeakers, retries, and gives up."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..core.errors import DeviceFailed
from ..core.events import Port, WorkerCrashed
from ..runtime.rendezvous import Rendezvous
from .capture import CaptureThread
from .playout import PlayoutThread

log = logging.getLogger(__name__)

DEVICE_OPEN_TIMEOUT_S = 30.0  # until a device is open, or has failed
THREAD_STALLED_S = 5.0  # a thread that hangs in its device for so long never comes out of it: the process ends
DEVICE_RETRY_DELAYS_S = (1.0, 2.0, 5.0)  # the last one again and again
DIGITAL_SILENCE_TIMEOUT_S = 1800.0  # exact zeros for so long: the microphone is off, or its driver is broken
DEVICE_LOST_TIMEOUT_S = 600.0  # a device may be back, and only this process unable to see it: it is started anew


class DeviceSupervisor:
    """Belongs to the main thread. ``now`` is in seconds of one clock. PortAudio looks for new devices only while no
    stream is open: so whichever is lost, both ports are closed for a moment, and meet at *closed*."""

    def __init__(self, capture: CaptureThread, playout: PlayoutThread, closed: Rendezvous) -> None:
        self._capture, self._playout, self._closed = capture, playout, closed
        self._unknown: set[str] = {Port.MICROPHONE, Port.SPEAKER}
        self._lost: dict[str, float] = {}  # since when
        self._retries = 0
        self._retry_at = 0.0
        self._gaps = (0, 0, 0)

    def found(self, device: str) -> bool:
        """A device is open; return whether it was the last one that the start waited for."""
        if device in self._lost:
            log.info("the %s is back", device)
            del self._lost[device]
        return self._known(device)

    def lost(self, device: str, reason: str, now: float) -> bool:
        """A device cannot be opened or used; return whether it was the last one that the start waited for."""
        if device not in self._lost:
            log.error("%s; looking for it from time to time", reason)
            self._lost[device] = now
            self._retries, self._retry_at = 0, now + DEVICE_RETRY_DELAYS_S[0]
        return self._known(device)

    def _known(self, device: str) -> bool:
        last = self._unknown == {device}
        self._unknown.discard(device)
        return last

    def retry_lost(self, now: float) -> None:
        """Try again to open a lost device when it is time. To be called while the device is idle."""
        if self._lost and now >= self._retry_at:
            self._retries += 1
            self._retry_at = now + DEVICE_RETRY_DELAYS_S[min(self._retries, len(DEVICE_RETRY_DELAYS_S) - 1)]
            self._closed.reset()
            self._capture.reopen()
            self._playout.reopen()

    @property
    def audible(self) -> bool:
        """Whether there is a loudspeaker."""
        return Port.SPEAKER not in self._lost and Port.SPEAKER not in self._unknown

    def failure(self, now: float, began: float, *, ringing: bool = False) -> WorkerCrashed | None:
        """Return the failure of a device that only a restart can mend. While an alarm is *ringing*, that of the
        microphone does not count."""
        found = (failed for failed in self._failures(now, began) if not (ringing and failed.worker == Port.MICROPHONE))
        return next(found, None)

    def _failures(self, now: float, began: float) -> Iterator[WorkerCrashed]:
        restart = "ending the program, so that it is restarted"
        if now - began > DEVICE_OPEN_TIMEOUT_S:
            for name in sorted(self._unknown):
                yield _crashed(name, f"it did not open within {DEVICE_OPEN_TIMEOUT_S:g} s")
        for name, pulse in ((Port.MICROPHONE, self._capture.pulse), (Port.SPEAKER, self._playout.pulse)):
            if pulse.stalled_for(now) > THREAD_STALLED_S:
                yield _crashed(name, f"it has stood still for {THREAD_STALLED_S:g} s: {restart}")
        if self._capture.silent_for > DIGITAL_SILENCE_TIMEOUT_S:
            text = (
                f"only digital silence for {DIGITAL_SILENCE_TIMEOUT_S:g} s: is it switched off? Ending, to be restarted"
            )
            yield _crashed(Port.MICROPHONE, text)
        for name, since in self._lost.items():
            if now - since > DEVICE_LOST_TIMEOUT_S:
                yield _crashed(name, f"it was gone for {DEVICE_LOST_TIMEOUT_S:g} s: {restart}")

    def log_gaps(self) -> None:
        """Log the gaps in the sound that were counted since the last call, in one line."""
        gaps = (self._capture.gaps, *self._playout.gaps)
        if gaps != self._gaps:
            log.warning(
                "gaps so far: %d in the microphone, %d in the loudspeaker, %d in the replies of the service", *gaps
            )
        self._gaps = gaps


def _crashed(name: str, text: str) -> WorkerCrashed:
    return WorkerCrashed(name, DeviceFailed(text))
