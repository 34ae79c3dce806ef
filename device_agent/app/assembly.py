"""A configuration becomes a device, in the order the sound goes.

The parts that depend on a library are imported here and only when the configuration asks for them.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import services
from ..audio.capture import Ears
from ..audio.cues import Cues
from ..audio.device_supervisor import Devices
from ..audio.echo_control import Echo
from ..audio.gate import LONGEST, NOBODY, WINDOW, Gate
from ..audio.playback_buffer import Playback
from ..audio.playout import Mouth
from ..config.credentials import TOKEN_KEY, Secret, find_key, find_password, variable
from ..config.model import (
    ButtonConfig,
    Config,
    ControlsConfig,
    LightConfig,
    MicrophoneConfig,
    ServiceConfig,
    TalkConfig,
    ToolConfig,
)
from ..core.conversation import Conversation
from ..core.errors import ConfigError
from ..core.events import Event
from ..dsp.pcm import frame_bytes, frames
from ..dsp.vad import VoiceDetector
from ..hardware import Button, Controls, Light, Microphone, Speaker
from ..hardware.front_panel import Opener, Openers, Panel
from ..link.manager import Link
from ..link.outbox import Outbox
from ..link.unavailable import Unavailable
from ..runtime.worker import Meeting
from ..services import Function
from ..state.alarms import Alarms
from ..state.store import Memory
from ..state.usage_meter import Meter
from ..tools import Tool, Toolbox
from ..tools.builtin import abilities
from .agent import Agent, Care, Watch
from .device import Parts

log = logging.getLogger(__name__)

WAV = "wav:"
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
    memory: Memory | None = None,
    before: Parts | None = None,
    care: Callable[[Parts], Care] | None = None,
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
    memory = memory or Memory(None)
    alarms = Alarms(memory)
    rate = sound_rate(config)
    playback = Playback(rate, volume=remembered_volume(memory, config.speaker.volume), wake=config.speaker.wake_ms)
    tools = open_tools(config, alarms, playback, inbox)
    functions = tuple(tool.function for tool in tools)
    candidates = open_services(config, key, patient=patient, functions=functions, text_only=text_only)
    echo = open_echo(config, rate, proven=proven)

    panel = open_panel(openers(config, button, light, controls), before)  # the last that can fail
    muted = begins_muted(config, panel.muted, memory)
    gate = open_gate(config.talk, rate)
    outbox = Outbox(limit=2 * frame_bytes(rate) * (LONGEST + NOBODY))
    link = Link(
        candidates,
        outbox,
        playback,
        inbox.put,
        always=stays_connected(config),
        crowded=lambda: inbox.qsize() > MOST_WAITING,
        recall=before.link.recall if before else None,
    )
    ears = Ears(
        microphone or open_microphone(config.microphone, rate),
        echo,
        gate,
        outbox,
        inbox.put,
        closed := Meeting(),
        muted=muted,
        patient=patient and not config.microphone.device.startswith(WAV),
    )
    mouth = Mouth(
        playback,
        speaker or open_speaker(config.speaker.device, rate),
        echo,
        inbox.put,
        closed,
        patient=patient and not config.speaker.device.startswith(WAV),
    )
    parts = Parts(
        ears=ears,
        echo=echo,
        gate=gate,
        outbox=outbox,
        link=link,
        playback=playback,
        mouth=mouth,
        devices=Devices(ears, mouth, closed),
        panel=panel,
        conversation=Conversation(**conversation_rules(config), muted=muted),
        cues=Cues(rate, **cue_rules(config)),
        toolbox=Toolbox(tools),
        alarms=alarms,
        memory=memory,
        meter=Meter(memory, config.connection.daily_minutes),
        inbox=inbox,
    )
    return Agent(parts, watch=watch, care=care and care(parts))


# What the configuration means to one part -----------------------------------------------------------------------------


def conversation_rules(config: Config) -> dict[str, Any]:
    """Return what the conversation goes by."""
    return {
        "voice_starts": config.talk.start == "voice",
        "voice_interrupts": config.talk.interrupt == "voice",
        "follow_up": config.talk.follow_up_s,
        "idle": None if stays_connected(config) else config.connection.idle_s,
        "press_unmutes": config.controls.mute is None,
        "patience_s": config.service.patience_s,
    }


def gate_rules(talk: TalkConfig) -> dict[str, int]:
    """Return what the gate goes by, in frames."""
    return {"silence": max(frames(talk.silence_ms), WINDOW), "preroll": frames(talk.preroll_ms)}


def cue_rules(config: Config) -> dict[str, Any]:
    """Return which cues there are, and how loud."""
    return {"volume": config.cues.volume, "alarm_volume": config.alarms.volume, "wanted": config.cues.play}


def half_duplex(config: Config) -> bool:
    """Return whether the device is deaf while it speaks."""
    return config.talk.interrupt != "voice"


def stays_connected(config: Config) -> bool:
    """Return whether there is a connection although nobody speaks."""
    return config.connection.mode == "always"


def open_services(
    config: Config, key: Secret | None = None, *, patient: bool = False, **given: Any
) -> list[services.Service]:
    """Return the services that *config* names, first choice first, with their keys.

    Raises ConfigError where a key cannot be read; *patient*: such a service refuses to be dialled.
    """
    opened: list[services.Service] = []
    for one in (config.service, *config.fallback):
        try:
            opened.append(open_service(one, config.talk, _secrets(one, config.service, key), **given))
        except ConfigError as error:
            if not patient:
                raise
            shut: Any = Unavailable(open_service(one, config.talk, {}, **given), str(error))
            opened.append(shut)
    return opened


def _secrets(config: ServiceConfig, first: ServiceConfig, key: Secret | None) -> dict[str, Secret | None]:
    """Return what a service is known by. Raises ConfigError."""
    token = {"token_key": token_key_of(config)} if config.token_url else {}
    return {"key": key or key_of(config, first), **token}


def open_service(
    config: ServiceConfig, talk: TalkConfig, secrets: Mapping[str, Secret | None], **given: Any
) -> services.Service:
    """Return one service. Settings left empty, and those that it does not know, are the service's own."""
    service: services.Service = services.load(config.name)(
        **_settings(config),
        **given,
        **secrets,
        service_ends=talk.end == "service",
        silence_ms=talk.silence_ms,
    )
    return service


def _settings(config: ServiceConfig) -> dict[str, Any]:
    """Return what a service is told of its section, without secrets: what is set, and it knows."""
    cls, known = services.load(config.name), services.options(config.name)
    settings = {name: value for name, value in vars(config).items() if value and name in known}
    if config.rate not in cls.rates:
        del settings["rate"]
    return settings


def token_key_of(config: ServiceConfig) -> Secret | None:
    """Return what the token server knows this device by; None where it asks for none. Raises ConfigError."""
    return find_password(config.token_key_file, TOKEN_KEY) if config.token_url else None


def key_of(config: ServiceConfig, first: ServiceConfig) -> Secret | None:
    """Return the key of a service; None where a token server knows us by other means. Raises ConfigError."""
    return key_and_place(config, first)[0]


def key_and_place(config: ServiceConfig, first: ServiceConfig) -> tuple[Secret | None, str]:
    """Return the key of a service, and where it comes from. Raises ConfigError.

    A key without a name is that of the *first*; no other company is to see it.
    """
    unnamed = variable(config.name) == variable(first.name)
    try:
        return find_key(config.name, config.api_key_file, unnamed=unnamed, direct=config.url is None)
    except ConfigError:
        if config.token_url and not config.api_key_file:
            return None, "token server of service.token_url"
        raise


def sound_rate(config: Config) -> int:
    """Return the samples per second of everything in this device: what the first service wants. Reads no file."""
    cls, settings = services.load(config.service.name), _settings(config.service)
    rate: int = cls(**settings).rate
    return rate


def open_tools(config: Config, alarms: Alarms, playback: Playback, inbox: queue.SimpleQueue[Event]) -> list[Tool]:
    """Return what the assistant may do on this device; a tool of the owner's goes before one of ours."""
    wanted = [name for name in config.abilities if name != "mute" or can_unmute(config)]
    ours = abilities(wanted, tell=inbox.put, volume=lambda: playback.volume, alarms=alarms)
    theirs = [open_tool(tool) for tool in config.tools]
    names = {tool.function.name for tool in theirs}
    return [*theirs, *(tool for tool in ours if tool.function.name not in names)]


def open_tool(tool: ToolConfig) -> Tool:
    """Return a tool of the owner's."""
    from ..tools.command import Command

    about = Function(tool.name, tool.description, tool.parameters, tool.timeout_s)
    return Command(about, tool.command, tool.timeout_s)


def can_unmute(config: Config) -> bool:
    """Return whether there is something to unmute by: a speaker that could only be muted would be deaf for good."""
    return config.controls.mute is not None or config.button.pin is not None


def begins_muted(config: Config, switch: bool | None, memory: Memory) -> bool:
    """Return whether the microphone is to be closed: by its *switch*, if there is one, else as it was."""
    if switch is not None:
        return switch
    return memory.get("muted", False) is True and can_unmute(config)


def remembered_volume(memory: Memory, configured: int) -> int:
    """Return the volume as it was, unless the owner has written another one into config.yaml since."""
    volume = memory.get("volume", configured)
    known = memory.get("configured_volume", None) == configured
    if not known or not isinstance(volume, int) or isinstance(volume, bool) or not 0 <= volume <= 100:
        memory.put("configured_volume", configured)
        memory.put("volume", configured)
        return configured
    return volume


def open_echo(config: Config, rate: int, *, proven: bool = False) -> Echo:
    """Return what keeps the device from hearing itself.

    Raises ConfigError where the canceller does not start; *proven*: then the device is deaf while it speaks.
    """
    canceller = None
    if config.echo.mode == "cancel":
        try:
            from ..dsp.aec import Canceller

            canceller = Canceller(rate)
        except ConfigError as error:
            if not proven:
                raise
            log.error("%s; continuing without it: the speaker cannot hear you while it speaks", error)
    return Echo(rate, half_duplex=half_duplex(config), canceller=canceller)


def open_microphone(microphone: MicrophoneConfig, rate: int) -> Microphone:
    """Return the microphone that is described, at *rate* Hz; its owner opens it."""
    if microphone.device.startswith(WAV):
        from ..hardware.wav import WavMicrophone

        return WavMicrophone(microphone.device.removeprefix(WAV), rate, microphone.channel)
    from ..hardware.portaudio import PortAudioMicrophone

    return PortAudioMicrophone(rate, microphone.device, microphone.channel)


def open_speaker(device: str, rate: int) -> Speaker:
    """Return the loudspeaker called *device*; its owner opens it."""
    if device.startswith(WAV):
        from ..hardware.wav import WavSpeaker

        return WavSpeaker(device.removeprefix(WAV), rate)
    from ..hardware.portaudio import PortAudioSpeaker

    return PortAudioSpeaker(rate, device)


def open_gate(talk: TalkConfig, rate: int) -> Gate:
    """Return the gate, closed."""
    return Gate(VoiceDetector(rate, talk.vad), **gate_rules(talk), device_ends=talk.end == "device")


def open_panel(openers: Openers, before: Parts | None) -> Panel:
    """Return the panel of *before*, changed to what *openers* want, or a new one. Raises DeviceFailed."""
    if before is None:
        return Panel(openers)
    before.panel.exchange(openers)
    return before.panel


def openers(
    config: Config, button: Button | None = None, light: Light | None = None, controls: Controls | None = None
) -> Openers:
    """Return what opens button, light and controls. What is given is open."""
    return {
        "controls": Opener(config.controls, lambda: controls or open_controls(config.controls)),
        "button": Opener(config.button, lambda: button or open_button(config.button)),
        "light": Opener(config.light, lambda: light or open_light(config.light)),
    }


def open_button(button: ButtonConfig) -> Button:
    """Return the button on its pin, or the return key."""
    if button.pin is None:
        from ..hardware.terminal import TerminalButton

        return TerminalButton()
    from ..hardware.gpio import GpioButton

    return GpioButton(button.pin, inverted=button.inverted)


def open_light(light: LightConfig) -> Light:
    """Return the light that hangs on pins, or a line on the terminal."""
    if light.rgb:
        from ..hardware.gpio import GpioColourLight

        return GpioColourLight(light.rgb, inverted=light.inverted)
    if light.pin is not None:
        from ..hardware.gpio import GpioLight

        return GpioLight(light.pin, inverted=light.inverted)
    from ..hardware.terminal import TerminalLight

    return TerminalLight()


def open_controls(controls: ControlsConfig) -> Controls | None:
    """Return the knobs for volume and mute, if there are any."""
    pins = (controls.volume_up, controls.volume_down, controls.mute, *controls.encoder)
    if all(pin is None for pin in pins):
        return None
    from ..hardware.gpio import GpioControls

    return GpioControls(**vars(controls))
