"""What a device is made of, as ``assembly`` built it."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from ..audio.capture import Ears
from ..audio.cues import Cues
from ..audio.device_supervisor import Devices
from ..audio.echo_control import Echo
from ..audio.gate import Gate
from ..audio.playback_buffer import Playback
from ..audio.playout import Mouth
from ..core.conversation import Conversation
from ..core.events import Event
from ..hardware.front_panel import Panel
from ..link.manager import Link
from ..link.outbox import Outbox
from ..state.alarms import Alarms
from ..state.store import Memory
from ..state.usage_meter import Meter
from ..tools.toolbox import Toolbox


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
