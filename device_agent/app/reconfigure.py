"""What an edit of config.yaml changes while the device runs, and what only when nobody speaks."""

from __future__ import annotations

from collections.abc import Callable

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
"""In these states it has not been seen that both sound devices work."""
REBUILD_KEYS = frozenset({"microphone.device", "microphone.channel", "speaker.device", "echo.mode", "talk.end"})
"""Keys that change only when nobody speaks, by a device that is assembled anew: the way that sound goes, and who ends a
turn, on which gate and service have to agree. The rate of sound is such a one, too: more than one key makes it."""


def needs_rebuild(old: Config, new: Config) -> bool:
    """Whether a device that is *old* can become *new* only by being assembled anew."""
    keys = differences(old, new)
    return not REBUILD_KEYS.isdisjoint(keys) or sound_rate(old) != sound_rate(new)


def retune(device: Device, old: Config, new: Config) -> None:
    """Make the device that runs as *old* run as *new*; what is under way goes on. For the main thread.

    Raises ConfigError and DeviceFailed; then it is as before. EditTaken has to follow.
    """
    tools = open_tools(new, device.alarms, device.playback, device.inbox)
    services = open_services(new, functions=tuple(tool.function for tool in tools))
    device.panel.exchange(openers(new))
    # From here on nothing can fail.
    device.toolbox.use(tools)
    device.link.use(services, always=stays_connected(new))
    for tune in TUNED:
        tune(device, old, new)


def _turns(device: Device, old: Config, new: Config) -> None:
    """What is a turn."""
    detector = VoiceDetector(sound_rate(new), new.talk.vad) if old.talk.vad != new.talk.vad else None
    device.gate.tune(detector, gate_policy(new.talk))
    device.echo.tune(half_duplex=half_duplex(new))
    device.conversation.tune(turn_policy(new))


def _connection(device: Device, _old: Config, new: Config) -> None:
    """When there is a connection."""
    device.meter.limit = 60.0 * new.connection.daily_minutes
    if not device.meter.spent:
        device.link.allow(True)  # a press may come before the next tick
    if device.conversation.state in RESTING:
        device.link.linger()


def _loudness(device: Device, _old: Config, new: Config) -> None:
    """What is heard how loud."""
    device.playback.volume = remembered_volume(device.memory, new.speaker.volume)
    device.playback.wake = new.speaker.wake_ms
    device.cues.tune(cue_policy(new))


def _muted(device: Device, _old: Config, new: Config) -> None:
    """A speaker that nothing can unmute any more has to hear."""
    if device.conversation.muted and not can_unmute(new):
        device.inbox.put(MuteAsked(False))


TUNED: tuple[Callable[[Device, Config, Config], None], ...] = (_turns, _connection, _loudness, _muted)


class Reconfigurer:
    """Looks after one device once a second: whether its configuration was edited, and whether it can be that now.

    Belongs to the main thread.
    """

    def __init__(self, edits: ConfigWatcher, device: Device) -> None:
        self._edits, self._device = edits, device
        self._told = False  # the mistakes that there were before this device
        self.next: LoadedConfig | None = None
        """What the device is to be assembled anew for, when nobody speaks: an edit, or what is in use."""

    def look(self, now: float) -> Event | None:
        """Return what has become of an edit, if there was one."""
        if (found := self._edits.look(now)) is not None:
            self._told = True
            return self._take(found)
        if (state := self._device.conversation.state) in RESTING | UNPROVEN_STATES:
            self._edits.keep(now, well=state not in UNPROVEN_STATES)
        if not self._told:
            self._told = True
            return self._refused() if self._edits.mistakes else None
        return None

    def fail(self, error: AgentError, key: str = "") -> bool:
        """The device cannot go on for *error*, which is about *key* where that is known: return whether an edit is to
        blame, and what was before it is in use now. It is to blame where it changed that key, or another one that says
        which device it is."""
        section = key.partition(".")[0]
        keys = [key, *sorted(each for each in REBUILD_KEYS if key and each.startswith(f"{section}."))]
        changed = [each for each in keys if self._edits.on_trial(each)]
        if not changed:
            return False
        self._edits.go_back(error, next((each for each in changed if each and each in str(error)), changed[0]))
        self.next = None
        return True

    def _take(self, found: LoadedConfig | ConfigError) -> Event | None:
        self.next = None  # a newer one goes before it
        if isinstance(found, ConfigError):
            return self._refused(found)
        try:
            with internal_errors_reported(self._edits.path):
                if needs_rebuild(self._edits.config, found.config):
                    self.next = found
                    return None
                retune(self._device, self._edits.config, found.config)
        except AgentError as error:
            if isinstance(error, InternalError) or not isinstance(error, ConfigError | DeviceFailed):
                self.next = self._edits.reading  # some of it may have changed, or be gone: assembled anew, it is back
            return self._refused(located(error, self._edits.path, found))
        self._edits.take(found)
        return ConfigApplied()

    def _refused(self, error: AgentError | None = None) -> ConfigRejected:
        if error is not None:
            self._edits.refuse(error)
        return ConfigRejected("\n".join(self._edits.mistakes))
