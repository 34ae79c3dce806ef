"""A configuration becomes a device, in the order the sound goes.

The parts that depend on a library are imported here and only when the configuration asks for them.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterable

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
from ..runtime.rendezvous import Rendezvous
from ..state.alarms import Alarms
from ..state.store import StateStore
from ..state.usage_meter import UsageMeter
from ..tools.toolbox import Toolbox
from .agent import Agent, Reconfiguring, Watch
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
from .policies import begins_muted, conversation_rules, cue_rules, remembered_volume, stays_connected

log = logging.getLogger(__name__)

MOST_WAITING = 1000
"""So many events may wait for the main thread before the link reads on."""


def assemble(
    config: Config,
    *,
    key: Secret | None = None,
    watch: Iterable[Watch] = (),
    microphone: Microphone | None = None,
    speaker: Speaker | None = None,
    button: Button | None = None,
    light: Light | None = None,
    controls: Controls | None = None,
    memory: StateStore | None = None,
    before: Device | None = None,
    care: Callable[[Device], Reconfiguring] | None = None,
    text_only: bool = False,
    patient: bool = False,
    proven: bool = False,
) -> Agent:
    """Build the device that *config* describes; nothing is opened yet but what is on pins.

    A port that is given takes the place of the one in *config*. Without a *memory* nothing outlives the process;
    *before* is the device that this one follows: its panel and its inbox go on, so that no press is lost, and so does
    what was said. *care* makes the part that sees to its configuration. Raises ConfigError where a key is missing,
    DeviceFailed where a pin is; then nothing stays open but the panel of *before*, as it was. *text_only* asks for
    replies without sound, from services that can. *patient* says that a sound card or a key which is gone will come
    back; *proven*, that *config* has worked before: a library that is gone is then done without.
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

    panel = open_panel(openers(config, button, light, controls), before)  # the last that can fail
    muted = begins_muted(config, panel.muted, memory)
    gate = open_gate(config.talk, rate)
    outbox = Outbox(limit=2 * frame_bytes(rate) * (MAX_TURN_FRAMES + NO_SPEECH_TIMEOUT_FRAMES))
    link = LinkManager(
        candidates,
        outbox,
        playback,
        inbox.put,
        always=stays_connected(config),
        crowded=lambda: inbox.qsize() > MOST_WAITING,
        recall=before.link.recall if before else None,
    )
    ears = CaptureThread(
        microphone or open_microphone(config.microphone, rate),
        echo,
        gate,
        outbox.put,
        inbox.put,
        closed := Rendezvous(),
        muted=muted,
        patient=patient and not config.microphone.device.startswith(WAV),
    )
    mouth = PlayoutThread(
        playback,
        speaker or open_speaker(config.speaker.device, rate),
        echo,
        inbox.put,
        closed,
        patient=patient and not config.speaker.device.startswith(WAV),
    )
    parts = Device(
        ears=ears,
        echo=echo,
        gate=gate,
        outbox=outbox,
        link=link,
        playback=playback,
        mouth=mouth,
        devices=DeviceSupervisor(ears, mouth, closed),
        panel=panel,
        conversation=Conversation(**conversation_rules(config), muted=muted),
        cues=Cues(rate, **cue_rules(config)),
        toolbox=Toolbox(tools),
        alarms=alarms,
        memory=memory,
        meter=UsageMeter(memory, config.connection.daily_minutes),
        inbox=inbox,
    )
    return Agent(parts, watch=watch, care=care and care(parts))


# What the configuration means to one part -----------------------------------------------------------------------------
