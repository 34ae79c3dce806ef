"""A configuration becomes a device, in the order the sound goes.

The parts that depend on a library are imported here and only when the configuration asks for them.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import Any

from . import services
from .agent import Agent, Watch
from .audio import frame_bytes, frames
from .config import Config, ServiceConfig, TalkConfig, ToolConfig
from .conversation import Conversation
from .credentials import Secret, find_key
from .errors import ConfigError
from .events import Event
from .gate import LONGEST, NOBODY, WINDOW, Gate
from .hardware import Button, Light, Microphone, Speaker
from .link import Link
from .outbox import Outbox
from .playback import Playback
from .services import Function
from .tools import Toolbox
from .tools.command import Command
from .vad import VoiceDetector

WAV = "wav:"


def assemble(
    config: Config,
    *,
    key: Secret | None = None,
    watch: Iterable[Watch] = (),
    microphone: Microphone | None = None,
    speaker: Speaker | None = None,
    button: Button | None = None,
    light: Light | None = None,
    text_only: bool = False,
) -> Agent:
    """Build the device that *config* describes; nothing is opened yet but the button and the light.

    A port that is given takes the place of the one in *config*. Raises ConfigError where a key is missing,
    DeviceFailed where a pin is. *text_only* asks for replies without sound, from services that can.
    """
    candidates = open_services(config, key, text_only=text_only)
    rate = candidates[0].rate
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()

    microphone = microphone or open_microphone(config.microphone.device, rate)
    gate = open_gate(config.talk, rate)
    outbox = Outbox(limit=2 * frame_bytes(rate) * (LONGEST + NOBODY))
    playback = Playback(rate)
    link = Link(candidates, outbox, playback, inbox.put, always=config.connection.mode == "always")
    speaker = speaker or open_speaker(config.speaker.device, rate, config.speaker.volume)
    conversation = Conversation(
        voice_starts=config.talk.start == "voice",
        voice_interrupts=config.talk.interrupt == "voice",
        follow_up=config.talk.follow_up_s,
        idle=config.connection.idle_s if config.connection.mode == "on-demand" else None,
    )
    return Agent(
        microphone=microphone,
        speaker=speaker,
        button=button or open_button(config.button.pin),
        light=light or open_light(config.light.pin),
        gate=gate,
        outbox=outbox,
        playback=playback,
        link=link,
        conversation=conversation,
        toolbox=open_toolbox(config.tools),
        inbox=inbox,
        watch=watch,
    )


def open_services(config: Config, key: Secret | None = None, *, text_only: bool = False) -> list[services.Service]:
    """Return the services that *config* names, first choice first, with their keys. Raises ConfigError."""
    functions = tuple(Function(tool.name, tool.description, tool.parameters) for tool in config.tools)
    given = {"functions": functions, "text_only": text_only}
    return [open_service(one, config.talk, key, **given) for one in (config.service, *config.fallback)]


def open_service(config: ServiceConfig, talk: TalkConfig, key: Secret | None = None, **given: Any) -> services.Service:
    """Return one service. Settings left empty, and those that it does not know, are the service's own."""
    cls = services.load(config.name)
    wanted = {name: value for name, value in vars(config).items() if value and name in services.options(config.name)}
    if config.rate not in cls.rates:
        del wanted["rate"]
    service: services.Service = cls(
        **wanted,
        **given,
        key=key or _key(config),
        service_ends=talk.end == "service",
        silence_ms=talk.silence_ms,
    )
    return service


def _key(config: ServiceConfig) -> Secret | None:
    try:
        return find_key(config.name, config.api_key_file)
    except ConfigError:
        if config.token_url and not config.api_key_file:
            return None  # the token server knows us by other means
        raise


def open_toolbox(tools: tuple[ToolConfig, ...]) -> Toolbox:
    """Return the tools of this device."""
    return Toolbox(
        Command(Function(tool.name, tool.description, tool.parameters), tool.command, tool.timeout_s) for tool in tools
    )


def open_microphone(device: str, rate: int) -> Microphone:
    """Return the microphone called *device*; its owner opens it."""
    if device.startswith(WAV):
        from .hardware.wav import WavMicrophone

        return WavMicrophone(device.removeprefix(WAV), rate)
    from .hardware.portaudio import PortAudioMicrophone

    return PortAudioMicrophone(rate, device)


def open_speaker(device: str, rate: int, volume: int) -> Speaker:
    """Return the loudspeaker called *device*; its owner opens it."""
    if device.startswith(WAV):
        from .hardware.wav import WavSpeaker

        return WavSpeaker(device.removeprefix(WAV), rate, volume)
    from .hardware.portaudio import PortAudioSpeaker

    return PortAudioSpeaker(rate, device, volume)


def open_gate(talk: TalkConfig, rate: int) -> Gate:
    """Return the gate, closed."""
    return Gate(
        VoiceDetector(rate, talk.vad),
        silence=max(frames(talk.silence_ms), WINDOW),
        preroll=frames(talk.preroll_ms),
        device_ends=talk.end == "device",
    )


def open_button(pin: int | None) -> Button:
    """Return the button at BCM *pin*, or the return key."""
    if pin is None:
        from .hardware.terminal import TerminalButton

        return TerminalButton()
    from .hardware.gpio import GpioButton

    return GpioButton(pin)


def open_light(pin: int | None) -> Light:
    """Return the light at BCM *pin*, or a line on the terminal."""
    if pin is None:
        from .hardware.terminal import TerminalLight

        return TerminalLight()
    from .hardware.gpio import GpioLight

    return GpioLight(pin)
