"""Composition root: builds a device from a configuration, in the order of the sound."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from ..audio.capture import CaptureThread
from ..audio.cues import Cues
from ..audio.device_supervisor import DeviceSupervisor
from ..audio.gate import MAX_TURN_FRAMES, NO_SPEECH_TIMEOUT_FRAMES
from ..audio.playback_buffer import PlaybackBuffer
from ..audio.playout import PlayoutThread
from ..config.model import Config
from ..core.conversation import Conversation
from ..core.events import Event
from ..core.redaction import Secret
from ..dsp.pcm import frame_bytes
from ..hardware.ports import Button, Controls, Light, Microphone, Speaker
from ..link.manager import LinkManager
from ..link.outbox import Outbox
from ..net.transport import Transport
from ..runtime.rendezvous import Rendezvous
from ..state.alarms import Alarms
from ..state.store import StateStore
from ..state.usage_meter import UsageMeter
from ..tools.toolbox import Toolbox
from .device import Device
from .factories import (
    WAV,
    open_echo,
    open_gate,
    open_microphone,
    open_panel,
    open_services,
    open_speaker,
    open_tools,
    openers,
    sound_rate,
)
from .policies import begins_muted, cue_policy, remembered_volume, stays_connected, turn_policy

MAX_INBOX_EVENTS = 1000
"""How many events may wait for the main thread before the link stops reading."""


@dataclass(frozen=True)
class Ports:
    """Ports that take the place of those in the configuration; None: as configured."""

    microphone: Microphone | None = None
    speaker: Speaker | None = None
    button: Button | None = None
    light: Light | None = None
    controls: Controls | None = None


AS_CONFIGURED = Ports()


def build_device(
    config: Config,
    ports: Ports = AS_CONFIGURED,
    *,
    key: Secret | None = None,
    memory: StateStore | None = None,
    before: Device | None = None,
    text_only: bool = False,
    patient: bool = False,
    proven: bool = False,
) -> Device:
    """Build the device that *config* describes; only its pins are opened now.

    Without a *memory* no state outlives the process. *before* is the device that this one replaces, and that hands on
    its panel, inbox and history. *text_only* asks services that can for replies without sound. *patient*: wait for a
    sound card or a key that is missing. *proven*: *config* has worked before, so do without a missing library.

    Raises ConfigError where a key is missing, DeviceFailed where a pin is; then only the panel of *before* stays open.
    """
    inbox: queue.SimpleQueue[Event] = before.inbox if before else queue.SimpleQueue()
    memory = memory or StateStore(None)
    alarms = Alarms(memory)
    rate = sound_rate(config)
    playback = PlaybackBuffer(
        rate, volume=remembered_volume(memory, config.speaker.volume), wake=config.speaker.wake_ms
    )
    tools = open_tools(config, alarms, playback, inbox)
    functions = tuple(tool.function for tool in tools)
    candidates = open_services(config, key, patient=patient, functions=functions, text_only=text_only)
    echo = open_echo(config, rate, proven=proven)
    panel = open_panel(openers(config, ports.button, ports.light, ports.controls), before)  # the last that can fail
    muted = begins_muted(config, panel.muted, memory)

    gate = open_gate(config.talk, rate)
    outbox = Outbox(limit=2 * frame_bytes(rate) * (MAX_TURN_FRAMES + NO_SPEECH_TIMEOUT_FRAMES))
    link = LinkManager(
        candidates,
        outbox,
        playback,
        inbox.put,
        before.link.transport if before else Transport(),
        always=stays_connected(config),
        crowded=lambda: inbox.qsize() > MAX_INBOX_EVENTS,
        history=before.link.history if before else None,
    )
    closed = Rendezvous()
    capture = CaptureThread(
        ports.microphone or open_microphone(config.microphone, rate),
        echo,
        gate,
        outbox.put,
        inbox.put,
        closed,
        muted=muted,
        patient=patient and not config.microphone.device.startswith(WAV),
    )
    playout = PlayoutThread(
        playback,
        ports.speaker or open_speaker(config.speaker.device, rate),
        echo,
        inbox.put,
        closed,
        patient=patient and not config.speaker.device.startswith(WAV),
    )
    return Device(
        capture=capture,
        echo=echo,
        gate=gate,
        outbox=outbox,
        link=link,
        playback=playback,
        playout=playout,
        supervisor=DeviceSupervisor(capture, playout, closed),
        panel=panel,
        conversation=Conversation(turn_policy(config), muted=muted),
        cues=Cues(rate, cue_policy(config)),
        toolbox=Toolbox(tools),
        alarms=alarms,
        memory=memory,
        meter=UsageMeter(memory, config.connection.daily_minutes),
        inbox=inbox,
    )
