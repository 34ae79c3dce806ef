"""Home Assistant: discovery message, state, commands and announcements, as topics and texts for an MQTT broker.

Pure: ``mqtt`` carries them. The form is that of MQTT discovery, one message for the whole device, since 2024.11
(https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..core.actions import Connect, Show
from ..core.conversation import MOODS, RESTING
from ..core.events import Announcement, Event, MuteAsked, StopAsked, VolumeAsked
from ..core.transition import Transition

if TYPE_CHECKING:
    from ..core.status_snapshot import StatusSnapshot

MAX_ANNOUNCEMENT_CHARS = 1000
MAX_ANNOUNCEMENTS = 8
"""Announcements that may wait; more are refused."""
ANNOUNCEMENT_EXPIRY_S = 600.0
"""An announcement that has waited longer is dropped."""
ANNOUNCEMENT_PROMPT = (
    "Say the following to everybody in the room, word for word and in its own language, and nothing else: {}"
)
MAX_STATE_CHARS = 255
"""Longest state in Home Assistant."""

_RESTING_MOODS = frozenset(MOODS[state] for state in RESTING)
_ON, _OFF = "ON", "OFF"


class HomeAssistant:
    """Topics and messages of one speaker. *name* is shown and is part of the topics, *prefix* is where Home Assistant
    looks for new devices, and *machine* distinguishes two speakers of one name."""

    def __init__(self, name: str = "", prefix: str = "homeassistant", machine: str = "") -> None:
        self.name = name or socket.gethostname()
        self.id = re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_") or "speaker"
        self.unique = f"{self.id}-{machine}" if machine else self.id
        base = f"device-agent/{self.id}"
        self.state = f"{base}/state"
        self.available = f"{base}/available"
        self.discovery = f"{prefix}/device/device-agent-{self.unique}/config" if prefix else ""
        self.former_discovery = f"{prefix}/device/device-agent-{self.id}/config" if prefix and machine else ""
        """Topic of earlier versions, to be cleared."""
        self.mute, self.volume = f"{base}/mute/set", f"{base}/volume/set"
        self.say, self.stop = f"{base}/say", f"{base}/stop"

    @property
    def commands(self) -> tuple[str, ...]:
        """The topics to subscribe to."""
        return self.mute, self.volume, self.say, self.stop

    def discovery_message(self) -> str:
        """Return the message that describes the speaker."""
        return json.dumps(
            {
                "device": {
                    "identifiers": [f"device-agent-{self.unique}"],
                    "name": self.name,
                    "manufacturer": "device_agent",
                    "model": "smart speaker",
                    "sw_version": __version__,
                },
                "origin": {"name": "device_agent", "sw_version": __version__},
                "availability_topic": self.available,
                "state_topic": self.state,
                "components": dict(self._components()),
            }
        )

    def _components(self) -> list[tuple[str, dict[str, Any]]]:
        part, diagnostic = self._component, {"entity_category": "diagnostic"}
        moods: dict[str, Any] = {"device_class": "enum", "options": sorted(set(MOODS.values()))}
        percent = {"min": 0, "max": 100, "unit_of_measurement": "%"}
        minutes = {"state_class": "total_increasing", "unit_of_measurement": "min", **diagnostic}
        online = {"device_class": "connectivity", **diagnostic}
        return [
            part("mood", "sensor", "Mood", icon="mdi:account-voice", value="mood", **moods),
            part("muted", "switch", "Muted", icon="mdi:microphone-off", value="muted", command=self.mute),
            part("volume", "number", "Volume", icon="mdi:volume-high", value="volume", command=self.volume, **percent),
            part("say", "notify", "Say", command=self.say),
            part("stop", "button", "Stop", icon="mdi:stop", command=self.stop),
            part("connected", "binary_sensor", "Connected to its service", value="connected", **online),
            part("minutes", "sensor", "Minutes connected today", value="minutes_today", **minutes),
            part("trouble", "sensor", "Last error", value="last_error", **diagnostic),
        ]

    def _component(
        self, key: str, platform: str, name: str, *, value: str = "", command: str = "", **more: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return name and description of a component; *value* is its field of ``state_message``."""
        made = {"unique_id": f"device-agent-{self.unique}-{key}", "platform": platform, "name": name, **more}
        if value:
            made["value_template"] = f"{{{{ value_json.{value} }}}}"
        if command:
            made["command_topic"] = command
        return f"{self.id}_{key}", made

    def state_message(self, snapshot: StatusSnapshot) -> str:
        """Return the state."""
        error = snapshot["last_error"]
        return json.dumps(
            {
                "mood": snapshot["mood"],
                "muted": _ON if snapshot["muted"] else _OFF,
                "volume": snapshot["volume"],
                "connected": _ON if snapshot["connected"]["now"] else _OFF,
                "minutes_today": round(snapshot["connected"]["today_s"] / 60),
                "turns": snapshot["counts"]["turns"],
                "last_error": error["text"][:MAX_STATE_CHARS] if error else "",
            }
        )

    def parse_command(self, topic: str, payload: bytes) -> Event | str:
        """Return the meaning of a message on one of ``commands``: an event, or the text of an announcement.

        Raises ValueError with a sentence for the log.
        """
        try:
            text = payload.decode().strip()
        except UnicodeDecodeError:
            raise ValueError(f"the message on {topic} is not UTF-8") from None
        if topic == self.say:
            if not text or len(text) > MAX_ANNOUNCEMENT_CHARS:
                raise ValueError(f"an announcement has 1 to {MAX_ANNOUNCEMENT_CHARS} characters, not {len(text)}")
            return text
        if topic == self.stop:
            return StopAsked()
        if topic == self.mute and text.upper() in (_ON, _OFF):
            return MuteAsked(text.upper() == _ON)
        if topic == self.volume and re.fullmatch(r"\d{1,3}(\.0*)?", text) and float(text) <= 100:
            return VolumeAsked(percent=int(float(text)))
        raise ValueError(f"the message on {topic} is neither ON, OFF nor a number from 0 to 100")


class Announcements:
    """Observer that queues announcements, and puts one into the inbox by *tell* when the conversation rests.

    ``say`` is for any thread.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Announcement, float]] = deque()
        self._resting = False
        self._offered: Announcement | None = None  # to the conversation, which may be in another turn by then

    def say(self, text: str, now: float) -> None:
        """Queue *text*. Raises ValueError if too many wait already."""
        with self._lock:
            if len(self._waiting) >= MAX_ANNOUNCEMENTS:
                raise ValueError(f"{MAX_ANNOUNCEMENTS} announcements wait already; this one is left out")
            self._waiting.append((Announcement(ANNOUNCEMENT_PROMPT.format(text), text), now))
            self._offer(now)

    def __call__(self, step: Transition) -> None:
        with self._lock:
            if step.event is self._offered and Connect() in step.actions and self._waiting:
                self._waiting.popleft()  # it is being said
            for action in step.actions:
                if isinstance(action, Show):
                    self._resting, self._offered = action.mood in _RESTING_MOODS, None
                    self._offer(step.now)

    def _offer(self, now: float) -> None:
        while self._waiting and now - self._waiting[0][1] > ANNOUNCEMENT_EXPIRY_S:
            self._waiting.popleft()
        if self._resting and self._offered is None and self._waiting:
            self._offered = self._waiting[0][0]
            self._tell(self._offered)
