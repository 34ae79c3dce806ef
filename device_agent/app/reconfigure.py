"""Reconfiguration: applies edits of config.yaml to a device that runs, or asks for a new device at rest."""

from __future__ import annotations

from ..config.diff import differences, located
from ..config.load import LoadedConfig
from ..config.model import Config
from ..config.watcher import ConfigWatcher, InternalError, internal_errors_reported
from ..core.conversation import MUTED, RESTING, STARTING, TROUBLE
from ..core.errors import AgentError, ConfigError, DeviceFailed
from ..core.events import ConfigApplied, ConfigRejected, Event, MuteAsked
from ..dsp.vad import VoiceDetector
from .device import Device
from .factories import open_services, open_tools, openers, sound_rate
from .policies import (
    can_unmute,
    cue_policy,
    gate_policy,
    half_duplex,
    remembered_volume,
    stays_connected,
    turn_policy,
)

UNPROVEN_STATES = frozenset({STARTING, TROUBLE, MUTED})
"""States that do not show that both sound devices work."""
REBUILD_KEYS = frozenset({"microphone.device", "microphone.channel", "speaker.device", "echo.mode", "talk.end"})
"""Keys that need a new device, at rest: the path of the sound, and the end of a turn, on which gate and service have to
agree. The sound rate, which several keys determine, does as well."""


def needs_rebuild(old: Config, new: Config) -> bool:
    """Return whether the change from *old* to *new* needs a new device."""
    return not REBUILD_KEYS.isdisjoint(differences(old, new)) or sound_rate(old) != sound_rate(new)


def retune(device: Device, old: Config, new: Config) -> None:
    """Change *device* from *old* to *new* while it runs. For the main thread; ConfigApplied has to follow.

    Raises ConfigError and DeviceFailed; then nothing has changed.
    """
    tools = open_tools(new, device.alarms, device.playback, device.inbox)
    services = open_services(new, functions=tuple(tool.function for tool in tools))
    device.panel.exchange(openers(new))
    # From here on nothing can fail.
    device.toolbox.use(tools)
    device.link.use(services, always=stays_connected(new))
    detector = VoiceDetector(sound_rate(new), new.talk.vad) if old.talk.vad != new.talk.vad else None
    device.gate.tune(detector, gate_policy(new.talk))
    device.echo.tune(half_duplex=half_duplex(new))
    device.conversation.tune(turn_policy(new))
    _tune_connection(device, new)
    device.playback.volume = remembered_volume(device.memory, new.speaker.volume)
    device.playback.wake = new.speaker.wake_ms
    device.cues.tune(cue_policy(new))
    if device.conversation.muted and not can_unmute(new):
        device.inbox.put(MuteAsked(False))


def _tune_connection(device: Device, new: Config) -> None:
    device.meter.limit = 60.0 * new.connection.daily_minutes
    if not device.meter.spent:
        device.link.allow(True)  # a press may come before the next check
    if device.conversation.state in RESTING:
        device.link.linger()


class Reconfigurer:
    """Applies the edits of config.yaml to one device. Belongs to the main thread."""

    def __init__(self, watcher: ConfigWatcher, device: Device) -> None:
        self._watcher, self._device = watcher, device
        self._told = False  # the mistakes from before this device
        self.pending: LoadedConfig | None = None
        """What needs a new device at rest: an edit, or the configuration in use."""

    def poll(self, now: float) -> Event | None:
        """Check for an edit, once a second; return its result, if there was one."""
        if (found := self._watcher.poll(now)) is not None:
            self._told = True
            return self._apply(found)
        if (state := self._device.conversation.state) in RESTING | UNPROVEN_STATES:
            self._watcher.confirm(now, well=state not in UNPROVEN_STATES)
        if not self._told:
            self._told = True
            return self._rejected() if self._watcher.mistakes else None
        return None

    def roll_back(self, error: AgentError, key: str = "") -> bool:
        """Go back to the previous configuration if an edit has caused *error*; return whether it has: it changed *key*,
        where that is known, or another key of that section that needs a new device."""
        section = key.partition(".")[0]
        keys = [key, *sorted(each for each in REBUILD_KEYS if key and each.startswith(f"{section}."))]
        changed = [each for each in keys if self._watcher.on_trial(each)]
        if not changed:
            return False
        self._watcher.roll_back(error, next((each for each in changed if each and each in str(error)), changed[0]))
        self.pending = None
        return True

    def _apply(self, found: LoadedConfig | ConfigError) -> Event | None:
        self.pending = None  # the newer edit replaces it
        if isinstance(found, ConfigError):
            return self._rejected(found)
        try:
            with internal_errors_reported(self._watcher.path):
                if needs_rebuild(self._watcher.config, found.config):
                    self.pending = found
                    return None
                retune(self._device, self._watcher.config, found.config)
        except AgentError as error:
            if isinstance(error, InternalError) or not isinstance(error, ConfigError | DeviceFailed):
                self.pending = self._watcher.loaded  # a part may have changed or closed: a new device repairs it
            return self._rejected(located(error, self._watcher.path, found))
        self._watcher.accept(found)
        return ConfigApplied()

    def _rejected(self, error: AgentError | None = None) -> ConfigRejected:
        if error is not None:
            self._watcher.reject(error)
        return ConfigRejected("\n".join(self._watcher.mistakes))
