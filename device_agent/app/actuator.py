"""Actuator: executes the actions of the conversation on the parts of one device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..core.actions import (
    Action,
    CancelReply,
    CloseGate,
    Connect,
    Cue,
    ForgetTurn,
    HangUp,
    InterruptReply,
    Mute,
    OpenGate,
    Play,
    ReleaseConnection,
    SetGateMode,
    Show,
    StartAlarm,
    StopAlarm,
)
from ..core.conversation import MOODS, STARTING
from ..core.events import DailyLimitReached
from ..runtime import systemd
from .device import Device

log = logging.getLogger(__name__)


class Actuator:
    """Executes each action by the one method that its type has in a table. Belongs to the main thread."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.mood = MOODS[STARTING]
        self.service = ""
        """The service of the connection that is open."""
        self.complaint = ""
        """What is wrong with config.yaml, in one line."""
        self._methods: dict[type[Action], Callable[[Any, float], None]] = {
            InterruptReply: self._interrupt_reply,
            Play: lambda action, _now: device.playback.play(device.cues.sound(action.cue)),
            StartAlarm: lambda _action, _now: device.playback.ring(device.cues.sound(Cue.ALARM)),
            StopAlarm: self._stop_alarm,
            Connect: self._connect,
            ReleaseConnection: lambda _action, _now: device.link.linger(),
            HangUp: lambda _action, _now: device.link.hang_up(),
            ForgetTurn: lambda _action, _now: device.outbox.forget(),
            OpenGate: lambda _action, _now: device.gate.press(),
            CloseGate: lambda _action, _now: device.gate.close(),
            SetGateMode: lambda action, _now: device.gate.set_mode(action.mode),
            Mute: self._mute,
            Show: self._show,
        }

    def execute(self, action: Action, now: float) -> None:
        """Execute *action*; ``Finish`` has no method, because only the main loop handles it."""
        if method := self._methods.get(type(action)):
            method(action, now)

    def set_volume(self, percent: int | None, by: int) -> None:
        """Set the volume to *percent*, or change it *by* so many. A change by hand is heard, unless a reply plays."""
        playback = self._device.playback
        playback.volume = max(0, min(100, playback.volume + by if percent is None else percent))
        self._device.memory.put("volume", playback.volume)
        log.info("volume %d", playback.volume)
        if by and playback.quiet:
            playback.play(self._device.cues.sound(Cue.VOLUME, playback.volume))

    def renew_alarm(self) -> None:
        """Let an alarm that rings be as loud as the cues are now."""
        if self._device.alarms.ringing:
            self._device.playback.ring(self._device.cues.sound(Cue.ALARM))

    def tell_status(self) -> None:
        """Tell the service manager the mood, the service and the complaint."""
        systemd.notify(STATUS=", ".join(filter(None, (self.mood, self.service, self.complaint))))

    def _interrupt_reply(self, _action: InterruptReply, now: float) -> None:
        reply, read_ms = self._device.playback.cut()
        heard_ms = max(0, read_ms - round(1000 * self._device.echo.unheard(now)))
        log.info("the reply was cut after %.2f s", heard_ms / 1000)
        self._device.outbox.put(CancelReply(reply, heard_ms))

    def _stop_alarm(self, _action: StopAlarm, _now: float) -> None:
        self._device.playback.ring(b"")
        self._device.alarms.stop_ringing()

    def _connect(self, action: Connect, _now: float) -> None:
        if self._device.meter.spent:
            self._device.inbox.put(DailyLimitReached())
        else:
            self._device.link.dial(asked=action.asked)

    def _mute(self, action: Mute, _now: float) -> None:
        self._device.capture.mute(action.muted)
        self._device.memory.put("muted", action.muted)
        log.info("the microphone is %s", "closed" if action.muted else "open again")

    def _show(self, action: Show, _now: float) -> None:
        self.mood = action.mood
        self._device.panel.show(action.mood)
        self.tell_status()
