"""Factories: services, ports and tools from a configuration. A library is imported only where one is configured."""

from __future__ import annotations

import logging
import queue
from collections.abc import Mapping
from typing import Any

from ..audio.echo_control import EchoControl
from ..audio.gate import Gate
from ..audio.playback_buffer import PlaybackBuffer
from ..config.credentials import key_of, token_key_of
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
from ..core.errors import ConfigError
from ..core.events import Event
from ..core.redaction import Secret
from ..dsp.vad import VoiceDetector
from ..hardware.front_panel import FrontPanel, Opener, Openers
from ..hardware.ports import Button, Controls, Light, Microphone, Speaker
from ..link.unavailable import Unavailable
from ..services import registry
from ..services.base import Function, Service
from ..state.alarms import Alarms
from ..tools.base import Tool
from ..tools.builtin import builtin_tools
from .device import Device
from .policies import can_unmute, gate_policy, half_duplex

log = logging.getLogger(__name__)

WAV = "wav:"


def open_services(config: Config, key: Secret | None = None, *, patient: bool = False, **given: Any) -> list[Service]:
    """Return the services that *config* names, first choice first, with their keys.

    Raises ConfigError where a key cannot be read; *patient*: such a service refuses each connection instead.
    """
    opened: list[Service] = []
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
    """Return the keys of a service. Raises ConfigError."""
    token = {"token_key": token_key_of(config)} if config.token_url else {}
    return {"key": key or key_of(config, first), **token}


def open_service(config: ServiceConfig, talk: TalkConfig, secrets: Mapping[str, Any], **given: Any) -> Service:
    """Return one service. Settings that are empty or unknown to it have its own defaults."""
    service: Service = registry.load(config.name)(
        **_settings(config),
        **given,
        **secrets,
        service_ends=talk.end == "service",
        silence_ms=talk.silence_ms,
    )
    return service


def _settings(config: ServiceConfig) -> dict[str, Any]:
    """Return the settings of a section that are set and that the service knows, without secrets."""
    cls, known = registry.load(config.name), registry.options(config.name)
    settings = {name: value for name, value in vars(config).items() if value and name in known}
    if config.rate not in cls.rates:
        del settings["rate"]
    return settings


def sound_rate(config: Config) -> int:
    """Return the sample rate of the device in Hz: that of the first service. Reads no file."""
    return registry.rate(config.service.name, config.service.rate, config.service.audio)


def open_tools(config: Config, alarms: Alarms, playback: PlaybackBuffer, inbox: queue.SimpleQueue[Event]) -> list[Tool]:
    """Return the tools of this device; one of the owner replaces a built-in one of the same name."""
    wanted = [name for name in config.abilities if name != "mute" or can_unmute(config)]
    builtin = builtin_tools(wanted, tell=inbox.put, volume=lambda: playback.volume, alarms=alarms)
    own = [open_tool(tool) for tool in config.tools]
    names = {tool.function.name for tool in own}
    return [*own, *(tool for tool in builtin if tool.function.name not in names)]


def open_tool(tool: ToolConfig) -> Tool:
    """Return a tool of the owner, which runs a command."""
    from ..tools.command import Command

    about = Function(tool.name, tool.description, tool.parameters, tool.timeout_s)
    return Command(about, tool.command, tool.timeout_s)


def open_echo(config: Config, rate: int, *, proven: bool = False) -> EchoControl:
    """Return the echo control.

    Raises ConfigError where the canceller does not start; *proven*: then the microphone is ignored during playback.
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
    return EchoControl(rate, half_duplex=half_duplex(config), canceller=canceller)


def open_microphone(microphone: MicrophoneConfig, rate: int) -> Microphone:
    """Return the configured microphone at *rate* Hz, not open yet."""
    if microphone.device.startswith(WAV):
        from ..hardware.wav import WavMicrophone

        return WavMicrophone(microphone.device.removeprefix(WAV), rate, microphone.channel)
    from ..hardware.portaudio import PortAudioMicrophone

    return PortAudioMicrophone(rate, microphone.device, microphone.channel)


def open_speaker(device: str, rate: int) -> Speaker:
    """Return the loudspeaker *device* at *rate* Hz, not open yet."""
    if device.startswith(WAV):
        from ..hardware.wav import WavSpeaker

        return WavSpeaker(device.removeprefix(WAV), rate)
    from ..hardware.portaudio import PortAudioSpeaker

    return PortAudioSpeaker(rate, device)


def open_gate(talk: TalkConfig, rate: int) -> Gate:
    """Return the gate, closed."""
    return Gate(VoiceDetector(rate, talk.vad), gate_policy(talk))


def open_panel(openers: Openers, before: Device | None) -> FrontPanel:
    """Return the panel of *before* with the ports of *openers*, or a new one. Raises DeviceFailed."""
    if before is None:
        return FrontPanel(openers)
    before.panel.exchange(openers)
    return before.panel


def openers(
    config: Config, button: Button | None = None, light: Light | None = None, controls: Controls | None = None
) -> Openers:
    """Return the openers of button, light and controls. Ports that are given are open."""
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
    """Return the light on its pins, or a line on the terminal."""
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
