"""What config.yaml may say, and what it means when it says nothing.

The dataclasses are the schema. A field is a key: its type says what may stand there (``| None``: it may be left empty),
what is ``Annotated`` says the rest, and its default is what the shipped file shows. A new key is one line here and one
in config.yaml. Keys and tokens are no part of it: see ``credentials``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from ..core.errors import ConfigError, missing
from ..core.events import Cue
from ..net import tls as trust
from ..services import SERVICES, options, reasons, rules
from . import yaml_schema as schema
from .yaml_schema import SECRET_NAME, Must, Places, number, one_of, whole


def _is_address(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number
        return False
    return (
        named
        and parts.scheme in {f"{scheme}{s}" for scheme in schemes for s in ("", "s")}
        and url.isprintable()
        and " " not in url
    )


def _is_host(text: str) -> bool:
    """Whether *text* can be looked up: some that look like names make the library of the broker fail."""
    try:
        return bool(re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:]+", text) and text.encode("idna"))
    except UnicodeError:
        return False


def _has_no_secret(url: str) -> bool:
    parts = urlsplit(url)
    return "@" not in parts.netloc and not SECRET_NAME.search(parts.query)


def _stays_near(url: str) -> bool:
    """Names are looked up, and judged, when the connection is made; here it is about addresses that are numbers."""
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return True
    return parts.scheme in {"wss", "https"} or not (getattr(address, "ipv4_mapped", None) or address).is_global


def _is_server_tool(tool: Any) -> bool:
    name = tool.get("type") if isinstance(tool, dict) else tool
    return isinstance(name, str) and bool(name.strip())


def _is_object_schema(schema: Any) -> bool:
    """The assistants take JSON schema as it is; this finds what none of them takes."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    named = isinstance(properties, dict) and all(isinstance(each, dict) for each in properties.values())
    return named and isinstance(required, list) and all(name in properties for name in required)


ADDRESS = (
    Must(
        "an address that begins with wss:// (or ws:// in your own network)", lambda url: _is_address(url, "ws", "http")
    ),
    Must("an address without password, key or token: see service.api_key_file", _has_no_secret),
    Must("a wss:// address, because plain ws:// to a public address can be overheard", _stays_near),
)
TOKEN_ADDRESS = (
    Must("an address that begins with https:// (or http:// in your own network)", lambda url: _is_address(url, "http")),
    *ADDRESS[1:],
)
SERVER_TOOL = Must("the name of a tool, or its settings with a type", _is_server_tool)
TOOL_NAME = Must("1 to 64 letters, digits, _ and -", lambda name: bool(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)))
TOOL_SCHEMA = Must("a JSON schema of type object, with properties", _is_object_schema)
LANGUAGE = Must(
    "a language tag such as de or pt-BR",
    lambda tag: bool(re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}", tag)),
    ("no",),  # Norwegian, which YAML takes for something else
)
"""As in BCP 47, without the forms that nobody speaks: grandfathered, private, reserved."""
EFFORT = one_of("none", "minimal", "low", "medium", "high", "xhigh")
OVER_HTTP = {"ultravox"}
"""Services whose address is not that of the connection itself: it is asked for one."""
DEVICE = Must("default, a part of a device's name or wav:FILE", lambda text: text != "wav:")
HOST = Must("a name or an address, without port", _is_host)
TOPIC = Must("a topic without # and +", lambda text: bool(re.fullmatch(r"[^#+\s/][^#+\s]*[^#+\s/]|[^#+\s/]", text)))
PIN = whole(0, 27)  # BCM numbers on the 40-pin header
PULLED_UP = (2, 3)
"""Pins that the board itself holds high."""
CUES = tuple(cue.value for cue in Cue if cue is not Cue.ALARM)
ABILITIES = ("volume", "mute", "stop", "alarms", "time")
"""What the assistant can do on every device; ``tools.device`` says how."""


@dataclass(frozen=True)
class ServiceConfig:
    """Who answers."""

    name: Annotated[str, one_of(*SERVICES)] = next(iter(SERVICES))
    url: Annotated[str | None, *ADDRESS] = None
    model: str | None = None
    voice: str | None = None
    instructions: str | None = "You are a helpful voice in a small speaker. Answer briefly."
    api_key_file: str | None = None
    token_url: Annotated[str | None, *TOKEN_ADDRESS] = None
    token_key_file: str | None = None
    ca_file: str | None = None
    tools: tuple[Annotated[Any, SERVER_TOOL], ...] = ()
    language: Annotated[str | None, LANGUAGE] = None
    reasoning: Annotated[str | None, EFFORT] = None
    speed: Annotated[float | None, number(0.25, 1.5)] = None
    patience_s: Annotated[float, number(20, 600)] = 30
    audio: Literal["pcm", "pcmu", "pcma"] = "pcm"
    rate: Annotated[int, Must("24000 or 16000", lambda rate: rate in {24000, 16000})] = 24000
    dialect: Literal["xai", "openai"] = "xai"


@dataclass(frozen=True)
class TalkConfig:
    """Which sound is a turn."""

    start: Literal["button", "voice"] = "button"
    end: Literal["device", "service"] = "device"
    vad: Annotated[int, whole(0, 3)] = 2
    silence_ms: Annotated[int, whole(100, 5000)] = 700
    preroll_ms: Annotated[int, whole(0, 2000)] = 300
    follow_up_s: Annotated[float, number(0, 60)] = 0
    interrupt: Literal["button", "voice"] = "button"


@dataclass(frozen=True)
class ConnectionConfig:
    """When there is a connection."""

    mode: Literal["on-demand", "always"] = "on-demand"
    idle_s: Annotated[float, number(5, 3600)] = 60
    daily_minutes: Annotated[int, whole(0, 1440)] = 0
    price_per_minute: Annotated[float, number(0, 1000)] = 0


@dataclass(frozen=True)
class MicrophoneConfig:
    """What hears."""

    device: Annotated[str, DEVICE] = "default"
    channel: Annotated[int | None, whole(1, 128)] = None


@dataclass(frozen=True)
class SpeakerConfig:
    """What is heard."""

    device: Annotated[str, DEVICE] = "default"
    volume: Annotated[int, whole(0, 100)] = 80
    wake_ms: Annotated[int, whole(0, 3000)] = 0


@dataclass(frozen=True)
class ButtonConfig:
    """What is pressed."""

    pin: Annotated[int | None, PIN] = 17
    inverted: bool = False


@dataclass(frozen=True)
class LightConfig:
    """What is seen."""

    pin: Annotated[int | None, PIN] = 25
    rgb: tuple[Annotated[int, PIN], ...] = ()
    inverted: bool = False


@dataclass(frozen=True)
class ControlsConfig:
    """What is turned."""

    volume_up: Annotated[int | None, PIN] = None
    volume_down: Annotated[int | None, PIN] = None
    volume_inverted: bool = False
    encoder: tuple[Annotated[int, PIN], ...] = ()
    mute: Annotated[int | None, PIN] = None
    mute_is: Literal["button", "switch"] = "button"
    mute_inverted: bool = False


@dataclass(frozen=True)
class EchoConfig:
    """What becomes of our own voice in the microphone."""

    mode: Literal["off", "cancel"] = "off"


@dataclass(frozen=True)
class CuesConfig:
    """Short sounds."""

    volume: Annotated[int, whole(0, 100)] = 50
    play: tuple[Annotated[str, one_of(*CUES)], ...] = CUES


@dataclass(frozen=True)
class AlarmsConfig:
    """Timers and alarms."""

    volume: Annotated[int, whole(10, 100)] = 70


@dataclass(frozen=True)
class MetricsConfig:
    """Figures for Prometheus."""

    port: Annotated[int | None, whole(1024, 65535)] = None


@dataclass(frozen=True)
class MqttConfig:
    """The broker of a home."""

    host: Annotated[str | None, HOST] = None
    port: Annotated[int, whole(1, 65535)] = 1883
    tls: bool = False
    ca_file: str | None = None
    user: str | None = None
    password_file: str | None = None
    name: Annotated[str | None, Must("1 to 64 characters", lambda name: len(name) <= 64)] = None
    discovery: Annotated[str | None, TOPIC] = "homeassistant"


@dataclass(frozen=True)
class LogConfig:
    """What is written down."""

    transcript: Literal["off", "debug", "info"] = "off"


@dataclass(frozen=True)
class ToolConfig:
    """What the assistant may do on this device: run a command."""

    name: Annotated[str, TOOL_NAME]
    description: str
    command: tuple[str, ...]
    parameters: Annotated[Any, TOOL_SCHEMA] = field(default_factory=lambda: {"type": "object", "properties": {}})
    timeout_s: Annotated[float, number(1, 60)] = 10


@dataclass(frozen=True)
class Config:
    """All of config.yaml."""

    service: ServiceConfig = field(default_factory=ServiceConfig)
    fallback: tuple[ServiceConfig, ...] = ()
    talk: TalkConfig = field(default_factory=TalkConfig)
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    microphone: MicrophoneConfig = field(default_factory=MicrophoneConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    button: ButtonConfig = field(default_factory=ButtonConfig)
    light: LightConfig = field(default_factory=LightConfig)
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    echo: EchoConfig = field(default_factory=EchoConfig)
    cues: CuesConfig = field(default_factory=CuesConfig)
    alarms: AlarmsConfig = field(default_factory=AlarmsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    mqtt: MqttConfig = field(default_factory=MqttConfig)
    log: LogConfig = field(default_factory=LogConfig)
    abilities: tuple[Annotated[str, one_of(*ABILITIES)], ...] = ABILITIES
    tools: tuple[ToolConfig, ...] = ()


def services_of(config: Config) -> Iterator[tuple[str, ServiceConfig]]:
    """Yield the services, first choice first, with what they are called in the file."""
    yield "service", config.service
    for index, service in enumerate(config.fallback):
        yield f"fallback[{index}]", service


def contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what is right alone and wrong together: keys, and a sentence about the first of them."""
    yield from _shared_pins(config)
    yield from _held_high(config)
    if len(config.light.rgb) not in (0, 3):
        yield ("light.rgb", "light.rgb"), f"should have three pins, red, green and blue, not {len(config.light.rgb)}"
    if len(config.controls.encoder) not in (0, 2):
        yield (
            ("controls.encoder", "controls.encoder"),
            f"should have two pins, A and B, not {len(config.controls.encoder)}",
        )
    devices = (config.microphone.device, config.speaker.device)
    files = [os.path.realpath(device[4:]) for device in devices if device.startswith("wav:")]
    if len(files) > len(set(files)):
        keys = ("speaker.device", "microphone.device")
        yield keys, "is the file that the microphone plays, and would be overwritten; name another one"
    for path, service in services_of(config):
        for key, sentence in _wrong_service(service):
            yield (f"{path}.{key}", f"{path}.name"), sentence
        for key, sentence in _wrong_for(service, config.tools):
            yield (key, f"{path}.tools", f"{path}.name"), sentence
    yield from _shared_names(config.tools)
    yield from _wrong_broker(config.mqtt)


def absences(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what *config* names and this machine does not have just now: the same key twice, and a sentence about it.

    Files of authorities and programs of tools. Keys are looked for by ``credentials``.
    """
    named = [*((path, service.ca_file) for path, service in services_of(config)), ("mqtt", config.mqtt.ca_file)]
    for path, ca_file in named:
        try:
            if ca_file:
                trust.context(ca_file)
        except ConfigError as error:
            yield (f"{path}.ca_file", f"{path}.ca_file"), f"cannot be used: {error}"
    for index, tool in enumerate(config.tools):
        if tool.command and not shutil.which(tool.command[0]):
            key = f"tools[{index}].command"
            yield (key, key), f"begins with {tool.command[0]}, which is not a program on this machine"


EXTRAS = {
    "echo.mode": ("echo", "livekit", "set it to off (the library is 64 bit only)"),
    "metrics.port": ("metrics", "prometheus_client", "leave it empty"),
    "mqtt.host": ("mqtt", "paho", "leave it empty"),
}
"""Key -> the extra of setup.cfg that it may need, its library, and how to do without."""


def wanted_extras(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the keys of *config* that need an extra, and which one; the installer asks, too."""
    wanted = {
        "echo.mode": config.echo.mode == "cancel",
        "metrics.port": config.metrics.port is not None,
        "mqtt.host": bool(config.mqtt.host),
    }
    yield from ((key, extra) for key, (extra, _, _) in EXTRAS.items() if wanted[key])


def missing_extras(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the keys that need a library which is not installed, as ``absences`` does."""
    for key, extra in wanted_extras(config):
        _, module, without = EXTRAS[key]
        if not _is_installed(module):
            yield (key, key), f"needs a library: {missing(extra)}; or {without}"


def _is_installed(module: str) -> bool:
    """Return whether *module* can be imported. Without importing it: that may take a second."""
    return sys.modules[module] is not None if module in sys.modules else find_spec(module) is not None


def _wrong_broker(mqtt: MqttConfig) -> Iterator[tuple[tuple[str, str], str]]:
    if mqtt.password_file and not mqtt.user:
        yield (
            ("mqtt.password_file", "mqtt.user"),
            "has no effect without mqtt.user; set it to the name that this password belongs to",
        )
    if mqtt.ca_file and not mqtt.tls:
        yield ("mqtt.ca_file", "mqtt.tls"), "has no effect without mqtt.tls: true"


def _shared_pins(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the keys of pins that another key has taken."""
    controls, light = config.controls, config.light
    claims = [
        ("button.pin", config.button.pin),
        *[("light.rgb", pin) for pin in light.rgb],
        ("light.pin", None if light.rgb else light.pin),  # which light.rgb takes the place of
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
            yield (key, key), f"has {pin} twice; give each a pin of its own"
        elif pin in taken:
            yield (key, taken[pin]), f"and {taken[pin]} are both {pin}; give each a pin of its own"
        taken.setdefault(pin, key)


def _held_high(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the pins that should be low at rest and never are."""
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
    """Yield what does not fit the service that is named: a key, and a sentence about it."""
    cls, known, name = rules(service.name, service.dialect), options(service.name), service.name
    scheme = "http" if name in OVER_HTTP else "ws"
    if service.url and not _is_address(service.url, scheme):
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
    """Return what a service is called in a sentence about what it takes."""
    return f"{service.name} with dialect {service.dialect}" if service.name == "litellm" else service.name


def _wrong_speech(service: ServiceConfig, cls: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong about how the model is to think and to speak. *cls* has the rules."""
    if service.reasoning and cls.efforts and service.reasoning not in cls.efforts:
        yield "reasoning", f"should be {one_of(*cls.efforts).wish} for {_called(service)}, not {service.reasoning}"
    model = service.model or cls.model
    if service.reasoning and cls.efforts and not reasons(cls, model):
        yield "reasoning", f"is refused by the model {model}; remove it, or name another model"
    low, high = cls.speeds
    if service.speed and low < high and not low <= service.speed <= high:
        yield "speed", f"should be {number(low, high).wish} for {_called(service)}, not {service.speed:g}"


def _wrong_for(service: ServiceConfig, tools: tuple[ToolConfig, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with tools of this device for the sake of one service: a key, and a sentence about it."""
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


def _shared_names(tools: tuple[ToolConfig, ...]) -> Iterator[tuple[tuple[str, str], str]]:
    names = [tool.name for tool in tools]
    for index, tool in enumerate(tools):
        here = f"tools[{index}]"
        if tool.name in names[:index]:
            yield (f"{here}.name", f"{here}.name"), f"is {tool.name} again; give each tool a name of its own"
        if not tool.command:
            yield (f"{here}.command", f"{here}.command"), "is empty; it should begin with a program of this machine"


WORDS: schema.Words = {
    word: meant
    for words, meant in {
        "mic mike mics input recorder": ("microphone",),
        "loudspeaker speakers output": ("speaker",),
        "led lamp": ("light",),
        "grok x x.ai": ("xai",),
        "chatgpt gpt gpt_realtime open_ai azure": ("openai",),
        "proxy lite_llm": ("litellm",),
        "fixie": ("ultravox",),
        "provider company vendor api": ("service", "name"),
        "address endpoint base_url uri server host": ("url", "host"),
        "prompt system system_prompt personality": ("instructions",),
        "lang locale": ("language",),
        "gpio bcm": ("pin",),
        "card sound_card": ("device",),
        "vol loudness gain": ("volume",),
        "colour color colours colors": ("rgb",),
        "press push ptt push_to_talk key": ("button",),
        "speech vad wake_word wakeword": ("voice",),
        "aec echo_cancellation echo_canceller": ("echo", "cancel"),
        "on true yes webrtc": ("cancel",),
        "none false no": ("off",),
        "beeps sounds earcons chimes": ("cues",),
        "timers timer reminders": ("alarms",),
        "knob volume_buttons": ("controls",),
        "prometheus statistics": ("metrics",),
        "broker home_assistant homeassistant hass": ("mqtt",),
        "username login": ("user",),
        "functions commands plugins": ("tools",),
        "conversation turn": ("talk",),
        "network internet": ("connection",),
        "logging": ("log",),
        "backup second_service alternative": ("fallback",),
        "permanent keep": ("always",),
    }.items()
    for word in words.split()
}
"""What people write, with _ for spaces and hyphens -> what it is called here."""


def load(path: str | os.PathLike[str]) -> Config:
    """Return what the file says, with defaults for what it does not say.

    Raises ConfigError. Its text lists every mistake as ``file:line:column: what is wrong and what to do`` and shows
    nothing that may be a key. Reads one small file; for any thread.
    """
    return understand(read(Path(path)), Path(path))[0]


def read(path: Path) -> str:
    """Return what stands in the file. Raises ConfigError."""
    return schema.read(path)


def understand(text: str, path: Path, *, alone: bool = False) -> tuple[Config, Places]:
    """Return what *text* says, and where it says so; *path* is where it stands. As ``load``, which reads it as well.

    *alone*: whatever of it this machine does not have just now.
    """
    return schema.understand(text, path, Config, contradictions if alone else _all_that_is_wrong, WORDS)


def _all_that_is_wrong(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    yield from contradictions(config)
    yield from absences(config)


INSTALLED, HERE = Path("/etc/device-agent/config.yaml"), Path("config.yaml")
"""Where the unit reads it, and where one tries it out."""


def default_path() -> Path:
    """Return where the configuration is when nobody says where: that of the speaker that is installed here, else the
    one in this folder."""
    return INSTALLED if INSTALLED.exists() or not HERE.exists() else HERE
