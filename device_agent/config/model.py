"""Model of config.yaml: one dataclass for each section, one field for each key, with type, limits and default.

A type with ``| None`` may be left empty; ``Annotated`` adds conditions; the default is what the shipped file shows. A
new key is one line here and one in config.yaml. API keys and tokens are no part of it: see ``credentials``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from ..core.actions import Cue
from ..core.redaction import SECRET_NAME
from ..services.registry import SERVICES
from .yaml_schema import Must, Synonyms, number, one_of, whole


def is_address(url: str, *schemes: str) -> bool:
    """Return whether *url* has a host and one of *schemes*, with or without the s of TLS."""
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
    """Return whether *text* can be looked up: some that look like names make paho fail."""
    try:
        return bool(re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:]+", text) and text.encode("idna"))
    except UnicodeError:
        return False


def _has_no_secret(url: str) -> bool:
    parts = urlsplit(url)
    return "@" not in parts.netloc and not SECRET_NAME.search(parts.query)


def _stays_near(url: str) -> bool:
    """Judge an IP address; a name is judged when it is looked up, for the connection."""
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
    """Return whether a service may take *schema*: this finds only what none of them takes."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    named = isinstance(properties, dict) and all(isinstance(each, dict) for each in properties.values())
    return named and isinstance(required, list) and all(name in properties for name in required)


ADDRESS = (
    Must(
        "an address that begins with wss:// (or ws:// in your own network)", lambda url: is_address(url, "ws", "http")
    ),
    Must("an address without password, key or token: see service.api_key_file", _has_no_secret),
    Must("a wss:// address, because plain ws:// to a public address can be overheard", _stays_near),
)
TOKEN_ADDRESS = (
    Must("an address that begins with https:// (or http:// in your own network)", lambda url: is_address(url, "http")),
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
"""As in BCP 47, without grandfathered, private and reserved tags."""
EFFORT = one_of("none", "minimal", "low", "medium", "high", "xhigh")
OVER_HTTP = {"ultravox"}
"""Services whose URL is asked for the address of each connection."""
DEVICE = Must("default, a part of a device's name or wav:FILE", lambda text: text != "wav:")
HOST = Must("a name or an address, without port", _is_host)
TOPIC = Must("a topic without # and +", lambda text: bool(re.fullmatch(r"[^#+\s/][^#+\s]*[^#+\s/]|[^#+\s/]", text)))
PIN = whole(0, 27)  # BCM numbers on the 40-pin header
PULLED_UP = (2, 3)
"""Pins that the board holds high by a resistor."""
CUES = tuple(cue.value for cue in Cue if cue is not Cue.ALARM)
ABILITIES = ("volume", "mute", "stop", "alarms", "time")
"""The groups of built-in tools; see ``tools.builtin``."""


@dataclass(frozen=True)
class ServiceConfig:
    """The voice service."""

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
    """The beginning and the end of a turn."""

    start: Literal["button", "voice"] = "button"
    end: Literal["device", "service"] = "device"
    vad: Annotated[int, whole(0, 3)] = 2
    silence_ms: Annotated[int, whole(100, 5000)] = 700
    preroll_ms: Annotated[int, whole(0, 2000)] = 300
    follow_up_s: Annotated[float, number(0, 60)] = 0
    interrupt: Literal["button", "voice"] = "button"


@dataclass(frozen=True)
class ConnectionConfig:
    """The connection to the service."""

    mode: Literal["on-demand", "always"] = "on-demand"
    idle_s: Annotated[float, number(5, 3600)] = 60
    daily_minutes: Annotated[int, whole(0, 1440)] = 0
    price_per_minute: Annotated[float, number(0, 1000)] = 0


@dataclass(frozen=True)
class MicrophoneConfig:
    """The microphone."""

    device: Annotated[str, DEVICE] = "default"
    channel: Annotated[int | None, whole(1, 128)] = None


@dataclass(frozen=True)
class SpeakerConfig:
    """The loudspeaker."""

    device: Annotated[str, DEVICE] = "default"
    volume: Annotated[int, whole(0, 100)] = 80
    wake_ms: Annotated[int, whole(0, 3000)] = 0


@dataclass(frozen=True)
class ButtonConfig:
    """The button."""

    pin: Annotated[int | None, PIN] = 17
    inverted: bool = False


@dataclass(frozen=True)
class LightConfig:
    """The light."""

    pin: Annotated[int | None, PIN] = 25
    rgb: tuple[Annotated[int, PIN], ...] = ()
    inverted: bool = False


@dataclass(frozen=True)
class ControlsConfig:
    """Controls for volume and mute."""

    volume_up: Annotated[int | None, PIN] = None
    volume_down: Annotated[int | None, PIN] = None
    volume_inverted: bool = False
    encoder: tuple[Annotated[int, PIN], ...] = ()
    mute: Annotated[int | None, PIN] = None
    mute_is: Literal["button", "switch"] = "button"
    mute_inverted: bool = False


@dataclass(frozen=True)
class EchoConfig:
    """Echo cancellation."""

    mode: Literal["off", "cancel"] = "off"


@dataclass(frozen=True)
class CuesConfig:
    """Short sounds of the device."""

    volume: Annotated[int, whole(0, 100)] = 50
    play: tuple[Annotated[str, one_of(*CUES)], ...] = CUES


@dataclass(frozen=True)
class AlarmsConfig:
    """Timers and alarms."""

    volume: Annotated[int, whole(10, 100)] = 70


@dataclass(frozen=True)
class MetricsConfig:
    """Metrics for Prometheus."""

    port: Annotated[int | None, whole(1024, 65535)] = None


@dataclass(frozen=True)
class MqttConfig:
    """The MQTT broker of a home."""

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
    """The log."""

    transcript: Literal["off", "debug", "info"] = "off"


@dataclass(frozen=True)
class ToolConfig:
    """A command on this device that the assistant may run."""

    name: Annotated[str, TOOL_NAME]
    description: str
    command: tuple[str, ...]
    parameters: Annotated[Any, TOOL_SCHEMA] = field(default_factory=lambda: {"type": "object", "properties": {}})
    timeout_s: Annotated[float, number(1, 60)] = 10


@dataclass(frozen=True)
class Config:
    """The whole of config.yaml."""

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
    """Yield the services, first choice first, each with its key in the file."""
    yield "service", config.service
    for index, service in enumerate(config.fallback):
        yield f"fallback[{index}]", service


SYNONYMS: Synonyms = {
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
"""What owners write, with _ for spaces and hyphens -> the name here."""
