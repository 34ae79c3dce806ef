"""Health: the periodic checks of one device, and the watchdog of the service manager."""

from __future__ import annotations

import logging
import time

from ..core.conversation import RESTING
from ..core.errors import AgentError
from ..core.events import AlarmDue, WorkerCrashed
from ..runtime import systemd
from .device import Device

log = logging.getLogger(__name__)

LINK = "link"
"""The name of the link's thread."""
LINK_STALLED_S = 60.0
"""The link looks up every few seconds while it is connected, and no step of a connect takes longer than this."""


class Health:
    """Checks that every thread makes progress, looks for lost devices, due alarms and the daily limit. Belongs to the
    main thread. *began* is when the device started, in seconds of the monotonic clock."""

    def __init__(self, device: Device, began: float) -> None:
        self._device, self._began = device, began

    def check(self, now: float) -> None:
        """Do all checks once, and feed the watchdog; a thread without progress becomes an event instead."""
        device = self._device
        if failed := self._stalled(now):
            device.inbox.put(failed)
            return
        resting = device.conversation.state in RESTING
        if resting:
            device.supervisor.retry_lost(now)
        for event in device.alarms.due(time.time(), now, audible=device.supervisor.audible):
            if isinstance(event, AlarmDue):
                log.info("an alarm rings")  # its name is private, like all speech
            device.inbox.put(event)
        device.meter.look(time.strftime("%Y-%m-%d"), now)  # in the time zone that the alarms have just read
        if not device.meter.spent:
            device.link.allow(True)
        elif resting:
            device.link.allow(False)
        device.outbox.look(now, awaited=not resting)
        device.supervisor.log_gaps()
        systemd.notify(WATCHDOG=1)

    def _stalled(self, now: float) -> WorkerCrashed | None:
        ringing = self._device.alarms.ringing
        if failed := self._device.supervisor.failure(now, self._began, ringing=ringing):
            return failed
        if ringing or self._device.link.pulse.stalled_for(now) <= LINK_STALLED_S:
            return None
        text = f"it has stood still for {LINK_STALLED_S:g} s: ending the program, so that it is restarted"
        return WorkerCrashed(LINK, AgentError(text))
