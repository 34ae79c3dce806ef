"""What a home sees of the speaker, and what it may ask for: topics and texts as Home Assistant likes them.

Pure: ``mqtt`` carries it. The form is that of Home Assistant's MQTT discovery, one message for the whole device
(https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, since 2024.11).
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .. import __version__
from ..core.actions import Connect, Show
from ..core.conversation import MOODS, RESTING
from ..core.events import Announcement, Event, MuteAsked, StopAsked, VolumeAsked
from ..core.status_snapshot import StatusSnapshot
from ..core.transition import Transition

MAX_ANNOUNCEMENT_CHARS = 1000
"""Characters of an announcement."""
MAX_ANNOUNCEMENTS = 8
"""So many wait until nobody speaks; more are refused."""
ANNOUNCEMENT_EXPIRY_S = 600.0
"""An announcement that waited so long is news no more."""
ANNOUNCEMENT_PROMPT = (
    "Say the following to everybody in the room, word for word and in its own language, and nothing else: {}"
)

_MOODS_AT_REST = frozenset(MOODS[state] for state in RESTING)
_ON, _OFF = "ON", "OFF"


class HomeAssistant:
    """The names of one speaker in its home: *name* is for people and topics, *prefix* where the home looks for new
    devices. *machine* is what tells two speakers of one name apart: broker and home know them by it, too."""

    def __init__(self, name: str = "", prefix: str = "homeassistant", machine: str = "") -> None:
        self.name = name or socket.gethostname()
        self.id = re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_") or "speaker"
        self.unique = f"{self.id}-{machine}" if machine else self.id
        base = f"device-agent/{self.id}"
        self.state = f"{base}/state"
        self.available = f"{base}/available"
        self.discovery = f"{prefix}/device/device-agent-{self.unique}/config" if prefix else ""
        self.former = f"{prefix}/device/device-agent-{self.id}/config" if prefix and machine else ""
        """Where a version before this one announced it: nothing is to be left there."""
        self.mute, self.volume = f"{base}/mute/set", f"{base}/volume/set"
        self.say, self.stop = f"{base}/say", f"{base}/stop"

    @property
    def commands(self) -> tuple[str, ...]:
        """The topics that somebody else writes to."""
        return self.mute, self.volume, self.say, self.stop

    def announced(self) -> str:
        """Return the message that makes the speaker known."""
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
                "components": {f"{self.id}_{key}": self._part(key, part) for key, part in self._parts().items()},
            }
        )

    def _part(self, key: str, part: Mapping[str, Any]) -> dict[str, Any]:
        return {"unique_id": f"device-agent-{self.unique}-{key}", **part}

    def _parts(self) -> dict[str, dict[str, Any]]:
        moods = sorted(set(MOODS.values()))
        return {
            "mood": {
                "platform": "sensor",
                "name": "Mood",
                "icon": "mdi:account-voice",
                "device_class": "enum",
                "options": moods,
                "value_template": "{{ value_json.mood }}",
            },
            "muted": {
                "platform": "switch",
                "name": "Muted",
                "icon": "mdi:microphone-off",
                "command_topic": self.mute,
                "value_template": "{{ value_json.muted }}",
            },
            "volume": {
                "platform": "number",
                "name": "Volume",
                "icon": "mdi:volume-high",
                "command_topic": self.volume,
                "min": 0,
                "max": 100,
                "unit_of_measurement": "%",
                "value_template": "{{ value_json.volume }}",
            },
            "say": {"platform": "notify", "name": "Say", "command_topic": self.say},
            "stop": {"platform": "button", "name": "Stop", "icon": "mdi:stop", "command_topic": self.stop},
            "connected": {
                "platform": "binary_sensor",
                "name": "Connected to its service",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "value_template": "{{ value_json.connected }}",
            },
            "minutes": {
                "platform": "sensor",
                "name": "Minutes connected today",
                "state_class": "total_increasing",
                "unit_of_measurement": "min",
                "entity_category": "diagnostic",
                "value_template": "{{ value_json.minutes_today }}",
            },
            "trouble": {
                "platform": "sensor",
                "name": "Last error",
                "entity_category": "diagnostic",
                "value_template": "{{ value_json.last_error }}",
            },
        }

    def told(self, snapshot: StatusSnapshot) -> str:
        """Return the state as the home is told it, from ``Statistics.snapshot``."""
        error = snapshot["last_error"]
        return json.dumps(
            {
                "mood": snapshot["mood"],
                "muted": _ON if snapshot["muted"] else _OFF,
                "volume": snapshot["volume"],
                "connected": _ON if snapshot["connected"]["now"] else _OFF,
                "minutes_today": round(snapshot["connected"]["today_s"] / 60),
                "turns": snapshot["counts"]["turns"],
                "last_error": error["text"][:255] if error else "",  # the longest state there is in Home Assistant
            }
        )

    def asked(self, topic: str, payload: bytes) -> Event | str:
        """Return what a message on one of ``commands`` asks for: an event, or words to be said.

        Raises ValueError with a sentence for who sent it.
        """
        try:
            text = payload.decode().strip()
        except UnicodeDecodeError:
            raise ValueError(f"the message on {topic} is not UTF-8") from None
        if topic == self.say:
            return _announcement(text)
        if topic == self.stop:
            return StopAsked()
        if topic == self.mute and text.upper() in (_ON, _OFF):
            return MuteAsked(text.upper() == _ON)
        if topic == self.volume and re.fullmatch(r"\d{1,3}(\.0*)?", text) and float(text) <= 100:
            return VolumeAsked(percent=int(float(text)))
        raise ValueError(f"the message on {topic} is neither ON, OFF nor a number from 0 to 100")


def _announcement(text: str) -> str:
    if not text or len(text) > MAX_ANNOUNCEMENT_CHARS:
        raise ValueError(f"an announcement has 1 to {MAX_ANNOUNCEMENT_CHARS} characters, not {len(text)}")
    return text


class Announcements:
    """Has words said when nobody speaks, one after the other. It watches the agent, in the main thread.

    ``say`` belongs to any thread; *tell* puts an event into the inbox.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Announcement, float]] = deque()
        self._resting = False
        self._offered: Announcement | None = None  # to the conversation, which may just have begun something else

    def say(self, text: str, now: float) -> None:
        """Have *text* said. Raises ValueError where too much waits already."""
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
                    self._resting, self._offered = action.mood in _MOODS_AT_REST, None
                    self._offer(step.now)

    def _offer(self, now: float) -> None:
        while self._waiting and now - self._waiting[0][1] > ANNOUNCEMENT_EXPIRY_S:
            self._waiting.popleft()
        if self._resting and self._offered is None and self._waiting:
            self._offered = self._waiting[0][0]
            self._tell(self._offered)
