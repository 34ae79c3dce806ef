"""What a device is made of, as ``assembly`` built it."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from .alarms import Alarms
from .conversation import Conversation
from .cues import Cues
from .devices import Devices
from .ears import Ears
from .echo import Echo
from .events import Event
from .gate import Gate
from .link import Link
from .memory import Memory
from .meter import Meter
from .mouth import Mouth
from .outbox import Outbox
from .panel import Panel
from .playback import Playback
from .tools import Toolbox


@dataclass(frozen=True)
class Parts:
    """All parts of one device, in the order the sound goes. They are no others for as long as it runs; what they do may
    change, see ``retune``."""

    ears: Ears
    echo: Echo
    gate: Gate
    outbox: Outbox
    link: Link
    playback: Playback
    mouth: Mouth
    devices: Devices
    panel: Panel
    conversation: Conversation
    cues: Cues
    toolbox: Toolbox
    alarms: Alarms
    memory: Memory
    meter: Meter
    inbox: queue.SimpleQueue[Event]
