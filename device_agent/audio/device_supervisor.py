"""Microphone and loudspeaker, seen from the main thread: whether they are there, get on, and come back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..core.errors import DeviceFailed
from ..core.events import Port, WorkerCrashed
from ..runtime.rendezvous import Rendezvous
from .capture import CaptureThread
from .playout import PlayoutThread

log = logging.getLogger(__name__)

DEVICE_OPEN_TIMEOUT_S = 30.0
"""How long a device may take to open, or to fail."""
THREAD_STALLED_S = 5.0
"""A thread that hangs in its device for so long will never come out of it: the process ends."""
DEVICE_RETRY_DELAYS_S = (1.0, 2.0, 5.0)
"""A device that is gone is looked for after so long, and again after so long; the last one for ever."""
DIGITAL_SILENCE_TIMEOUT_S = 1800.0
"""A microphone that delivers exact zeros for so long is switched off, or its driver is broken: who knows which?"""
DEVICE_LOST_TIMEOUT_S = 600.0
"""A device that is gone for so long may be back, and only this process unable to see it: it ends, to start anew."""


class DeviceSupervisor:
    """Belongs to the main thread. ``now`` is in seconds of one clock.

    PortAudio looks for new devices only when nobody uses it. So whoever is looked for, both ports are closed for a
    moment, and *closed* is where they meet.
    """

    def __init__(self, ears: CaptureThread, mouth: PlayoutThread, closed: Rendezvous) -> None:
        self._ears, self._mouth, self._closed = ears, mouth, closed
        self._unknown: set[str] = {Port.MICROPHONE, Port.SPEAKER}
        self._lost: dict[str, float] = {}  # since when
        self._looked = 0  # times
        self._look_at = 0.0
        self._gaps = (0, 0, 0)

    def found(self, device: str) -> bool:
        """A device is open; return whether that was the last one we waited for when we started."""
        if device in self._lost:
            log.info("the %s is back", device)
            del self._lost[device]
        return self._known(device)

    def lost(self, device: str, reason: str, now: float) -> bool:
        """A device cannot be opened or used; return whether it was the last one we waited for when we started."""
        if device not in self._lost:
            log.error("%s; looking for it from time to time", reason)
            self._lost[device] = now
            self._looked, self._look_at = 0, now + DEVICE_RETRY_DELAYS_S[0]
        return self._known(device)

    def _known(self, device: str) -> bool:
        last = self._unknown == {device}
        self._unknown.discard(device)
        return last

    def look_for_lost(self, now: float) -> None:
        """Try again, if there is one to look for and it is time. To be called when nobody speaks."""
        if self._lost and now >= self._look_at:
            self._looked += 1
            self._look_at = now + DEVICE_RETRY_DELAYS_S[min(self._looked, len(DEVICE_RETRY_DELAYS_S) - 1)]
            self._closed.call()
            self._ears.reopen()
            self._mouth.reopen()

    @property
    def audible(self) -> bool:
        """Whether there is a loudspeaker."""
        return Port.SPEAKER not in self._lost and Port.SPEAKER not in self._unknown

    def standstill(self, now: float, began: float, *, ringing: bool = False) -> WorkerCrashed | None:
        """Return who does not get on, and never will. A microphone is no reason to end an alarm that is *ringing*."""
        found = (failed for failed in self._standing(now, began) if not (ringing and failed.worker == Port.MICROPHONE))
        return next(found, None)

    def _standing(self, now: float, began: float) -> Iterator[WorkerCrashed]:
        if now - began > DEVICE_OPEN_TIMEOUT_S:
            for name in sorted(self._unknown):
                yield WorkerCrashed(name, DeviceFailed(f"it did not open within {DEVICE_OPEN_TIMEOUT_S:g} s"))
        for name, pulse in ((Port.MICROPHONE, self._ears.pulse), (Port.SPEAKER, self._mouth.pulse)):
            if pulse.stalled_for(now) > THREAD_STALLED_S:
                text = f"it has stood still for {THREAD_STALLED_S:g} s: ending the program, so that it is restarted"
                yield WorkerCrashed(name, DeviceFailed(text))
        if self._ears.lifeless > DIGITAL_SILENCE_TIMEOUT_S:
            text = (
                f"only digital silence for {DIGITAL_SILENCE_TIMEOUT_S:g} s: is it switched off? Ending, to be restarted"
            )
            yield WorkerCrashed(Port.MICROPHONE, DeviceFailed(text))
        for name, since in self._lost.items():
            if now - since > DEVICE_LOST_TIMEOUT_S:
                yield WorkerCrashed(
                    name,
                    DeviceFailed(
                        f"it was gone for {DEVICE_LOST_TIMEOUT_S:g} s: ending the program, so that it is restarted"
                    ),
                )

    def tell_gaps(self) -> None:
        """Gaps in the sound are counted where they happen, and told here, a line for each call at most."""
        gaps = (self._ears.gaps, *self._mouth.gaps)
        if gaps != self._gaps:
            log.warning(
                "gaps so far: %d in the microphone, %d in the loudspeaker, %d in the replies of the service", *gaps
            )
        self._gaps = gaps
