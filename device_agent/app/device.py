"""Device: the parts of one speaker."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from ..audio.capture import CaptureThread
from ..audio.cues import Cues
from ..audio.device_supervisor import DeviceSupervisor
from ..audio.echo_control import EchoControl
from ..audio.gate import Gate
from ..audio.playback_buffer import PlaybackBuffer
from ..audio.playout import PlayoutThread
from ..core.conversation import Conversation
from ..core.events import Event
from ..hardware.front_panel import FrontPanel
from ..link.manager import LinkManager
from ..link.outbox import Outbox
from ..state.alarms import Alarms
from ..state.store import StateStore
from ..state.usage_meter import UsageMeter
from ..tools.toolbox import Toolbox


@dataclass(frozen=True)
class Device:
    """The parts of one speaker, in the order of the sound. They stay while it runs; ``reconfigure`` tunes them."""

    capture: CaptureThread
    echo: EchoControl
    gate: Gate
    outbox: Outbox
    link: LinkManager
    playback: PlaybackBuffer
    playout: PlayoutThread
    supervisor: DeviceSupervisor
    panel: FrontPanel
    conversation: Conversation
    cues: Cues
    toolbox: Toolbox
    alarms: Alarms
    memory: StateStore
    meter: UsageMeter
    inbox: queue.SimpleQueue[Event]
