"""Rules between keys, and checks of what the machine lacks for a configuration."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from operator import attrgetter
from typing import Any

from ..core.errors import ConfigError, install_hint
from ..net import tls
from ..services.registry import options, reasons, rules
from .model import OVER_HTTP, PULLED_UP, Config, MqttConfig, ServiceConfig, ToolConfig, is_address, services_of
from .yaml_schema import Violation, number, one_of


def contradictions(config: Config) -> Iterator[Violation]:
    """Yield the violations of rules between keys."""
    yield from _shared_pins(config)
    yield from _held_high(config)
    if len(config.light.rgb) not in (0, 3):
        yield ("light.rgb",), f"should have three pins, red, green and blue, not {len(config.light.rgb)}"
    if len(config.controls.encoder) not in (0, 2):
        yield ("controls.encoder",), f"should have two pins, A and B, not {len(config.controls.encoder)}"
    devices = (config.microphone.device, config.speaker.device)
    files = [os.path.realpath(device[4:]) for device in devices if device.startswith("wav:")]
    if len(files) > len(set(files)):
        keys = ("speaker.device", "microphone.device")
        yield keys, "is the file that the microphone plays, and would be overwritten; name another one"
    for path, service in services_of(config):
        for key, sentence in _wrong_service(service):
            yield (f"{path}.{key}", f"{path}.name"), sentence
        for key, sentence in _wrong_tools_for(service, config.tools):
            yield (key, f"{path}.tools", f"{path}.name"), sentence
    yield from _wrong_tools(config.tools)
    yield from _wrong_broker(config.mqtt)


def absences(config: Config) -> Iterator[Violation]:
    """Yield the CA files and the programs of tools that this machine lacks; ``credentials`` looks for keys."""
    named = [*((path, service.ca_file) for path, service in services_of(config)), ("mqtt", config.mqtt.ca_file)]
    for path, ca_file in named:
        try:
            if ca_file:
                tls.context(ca_file)
        except ConfigError as error:
            yield (f"{path}.ca_file",), f"cannot be used: {error}"
    for index, tool in enumerate(config.tools):
        if tool.command and not shutil.which(tool.command[0]):
            yield (f"tools[{index}].command",), f"begins with {tool.command[0]}, which is not a program on this machine"


EXTRAS = {
    "echo.mode": ("echo", "livekit", "set it to off (the library is 64 bit only)"),
    "metrics.port": ("metrics", "prometheus_client", "leave it empty"),
    "mqtt.host": ("mqtt", "paho", "leave it empty"),
}
"""Key -> the extra of setup.cfg that it may need, the module of its library, and the setting that needs none."""


def wanted_extras(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the keys of *config* that need an extra, and its name. The installer uses it as well."""
    default = Config()  # which needs none
    for key, (extra, _, _) in EXTRAS.items():
        if attrgetter(key)(config) != attrgetter(key)(default):
            yield key, extra


def missing_extras(config: Config) -> Iterator[Violation]:
    """Yield the keys that need a library which is not installed."""
    for key, extra in wanted_extras(config):
        _, module, without = EXTRAS[key]
        if not _is_installed(module):
            yield (key,), f"needs a library: {install_hint(extra)}; or {without}"


def _is_installed(module: str) -> bool:
    """Return whether *module* can be imported, without importing it: that may take a second."""
    return sys.modules[module] is not None if module in sys.modules else find_spec(module) is not None


def _wrong_broker(mqtt: MqttConfig) -> Iterator[Violation]:
    if mqtt.password_file and not mqtt.user:
        keys = ("mqtt.password_file", "mqtt.user")
        yield keys, "has no effect without mqtt.user; set it to the name that this password belongs to"
    if mqtt.ca_file and not mqtt.tls:
        yield ("mqtt.ca_file", "mqtt.tls"), "has no effect without mqtt.tls: true"


def _shared_pins(config: Config) -> Iterator[Violation]:
    """Yield the pins that are used twice."""
    controls, light = config.controls, config.light
    claims = [
        ("button.pin", config.button.pin),
        *[("light.rgb", pin) for pin in light.rgb],
        ("light.pin", None if light.rgb else light.pin),  # light.rgb replaces it
        ("controls.volume_up", controls.volume_up),
        ("controls.volume_down", controls.volume_down),
        *[("controls.encoder", pin) for pin in controls.encoder],
        ("controls.mute", controls.mute),
    ]
    taken: dict[int, str] = {}
    for key, pin in claims:
        if pin is None:
            continue
        if taken.get(pin) == key:
            yield (key,), f"has {pin} twice; give each a pin of its own"
        elif pin in taken:
            yield (key, taken[pin]), f"and {taken[pin]} are both {pin}; give each a pin of its own"
        taken.setdefault(pin, key)


def _held_high(config: Config) -> Iterator[Violation]:
    """Yield the inverted pins that the board holds high."""
    button, controls = config.button, config.controls
    louder = ("controls.volume_inverted", controls.volume_inverted)
    for key, pin, (inverted, so) in (
        ("button.pin", button.pin, ("button.inverted", button.inverted)),
        ("controls.volume_up", controls.volume_up, louder),
        ("controls.volume_down", controls.volume_down, louder),
        ("controls.mute", controls.mute, ("controls.mute_inverted", controls.mute_inverted)),
    ):
        if so and pin in PULLED_UP:
            yield (key, inverted), f"is {pin}, which the board itself holds high; choose another one with {inverted}"


def _wrong_service(service: ServiceConfig) -> Iterator[tuple[str, str]]:
    """Yield each key that does not fit the service, and a sentence about it."""
    cls, known, name = rules(service.name, service.dialect), options(service.name), service.name
    scheme = "http" if name in OVER_HTTP else "ws"
    if service.url and not is_address(service.url, scheme):
        yield "url", f"should begin with {scheme}s:// for {name}"
    yield from _wrong_together(service)
    yield from _wrong_speech(service, cls)
    for key in ("token_url", "audio", "reasoning", "speed", "dialect"):
        if key not in known and getattr(service, key) != getattr(ServiceConfig(), key):
            yield key, f"has no effect with {name}; remove it"
    for tool in service.tools:
        if sentence := _wrong_server_tool(tool, cls.server_tools, _called(service)):
            yield "tools", sentence


def _called(service: ServiceConfig) -> str:
    """Return the name of a service in a sentence about its options."""
    return f"{service.name} with dialect {service.dialect}" if service.name == "litellm" else service.name


def _wrong_speech(service: ServiceConfig, cls: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with reasoning and speed. *cls* has the rules."""
    if service.reasoning and cls.efforts and service.reasoning not in cls.efforts:
        yield "reasoning", f"should be {one_of(*cls.efforts).wish} for {_called(service)}, not {service.reasoning}"
    model = service.model or cls.model
    if service.reasoning and cls.efforts and not reasons(cls, model):
        yield "reasoning", f"is refused by the model {model}; remove it, or name another model"
    low, high = cls.speeds
    if service.speed and low < high and not low <= service.speed <= high:
        yield "speed", f"should be {number(low, high).wish} for {_called(service)}, not {service.speed:g}"


def _wrong_tools_for(service: ServiceConfig, tools: tuple[ToolConfig, ...]) -> Iterator[tuple[str, str]]:
    """Yield each key of the tools of this device that does not fit the service, and a sentence about it."""
    cls = rules(service.name, service.dialect)
    kinds = [tool["type"] if isinstance(tool, dict) else tool for tool in service.tools]
    taken = {name: kind for kind in kinds for name in cls.reserved.get(kind, ())}
    for index, tool in enumerate(tools):
        if kind := taken.get(tool.name):
            yield f"tools[{index}].name", f"is {tool.name}, which {service.name} needs for its own {kind}; rename it"
        if tool.timeout_s > cls.longest_tool_s:
            limit = f"{service.name} waits at most {cls.longest_tool_s:g} s for a tool"
            yield f"tools[{index}].timeout_s", f"is {tool.timeout_s:g}, and {limit}"


def _wrong_together(service: ServiceConfig) -> Iterator[tuple[str, str]]:
    if service.token_key_file and not service.token_url:
        yield "token_key_file", "has no effect without token_url; remove it"
    if service.name == "litellm" and not service.model:
        yield "model", "is empty; it should be an alias of the proxy's model_list"
    if service.name == "litellm" and service.dialect == "openai" and service.rate != ServiceConfig().rate:
        yield "rate", "should be 24000 with dialect openai"


def _wrong_server_tool(tool: Any, known: Mapping[str, tuple[str, ...]], service: str) -> str:
    settings = tool if isinstance(tool, dict) else {"type": tool}
    if known and settings["type"] not in known:
        return f"has {settings['type']}, which is unknown to {service}; it has {', '.join(known)}"
    absent = [name for name in known.get(settings["type"], ()) if name not in settings]
    return f"has {settings['type']} without {' and '.join(absent)}" if absent else ""


def _wrong_tools(tools: tuple[ToolConfig, ...]) -> Iterator[Violation]:
    names = [tool.name for tool in tools]
    for index, tool in enumerate(tools):
        if tool.name in names[:index]:
            yield (f"tools[{index}].name",), f"is {tool.name} again; give each tool a name of its own"
        if not tool.command:
            yield (f"tools[{index}].command",), "is empty; it should begin with a program of this machine"
