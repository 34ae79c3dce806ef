"""What config.yaml may say, and what it means when it says nothing.

The dataclasses are the schema. A field is a key: its type says what may stand there (``| None``: it may be left empty),
what is ``Annotated`` says the rest, and its default is what the shipped file shows. A new key is one line here and one
in config.yaml. Keys and tokens are no part of it: see ``credentials``.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from .schema import SECRET_NAME, Must, number, one_of, read, whole
from .services import SERVICES


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number
        return False
    return named and parts.scheme in {"ws", "wss"} and url.isprintable() and " " not in url


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
    return parts.scheme == "wss" or not (getattr(address, "ipv4_mapped", None) or address).is_global


ADDRESS = (
    Must("an address that begins with wss:// (or ws:// in your own network)", _is_address),
    Must("an address without password, key or token: see service.api_key_file", _has_no_secret),
    Must("a wss:// address, because everybody on the way to a public one can listen to plain ws://", _stays_near),
)
DEVICE = Must("default, a part of a device's name or wav:FILE", lambda text: text != "wav:")
PIN = whole(0, 27)  # BCM numbers on the 40-pin header


@dataclass(frozen=True)
class ServiceConfig:
    """Who answers."""

    name: Annotated[str, one_of(*SERVICES)] = next(iter(SERVICES))
    url: Annotated[str | None, *ADDRESS] = None
    model: str | None = None
    voice: str | None = None
    instructions: str | None = "You are a helpful voice in a small speaker. Answer briefly."
    api_key_file: str | None = None
    tools: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class MicrophoneConfig:
    """What hears."""

    device: Annotated[str, DEVICE] = "default"


@dataclass(frozen=True)
class SpeakerConfig:
    """What is heard."""

    device: Annotated[str, DEVICE] = "default"
    volume: Annotated[int, whole(0, 100)] = 80


@dataclass(frozen=True)
class ButtonConfig:
    """What is pressed."""

    pin: Annotated[int | None, PIN] = 17


@dataclass(frozen=True)
class LightConfig:
    """What is seen."""

    pin: Annotated[int | None, PIN] = 25


@dataclass(frozen=True)
class Config:
    """All of config.yaml."""

    service: ServiceConfig = field(default_factory=ServiceConfig)
    talk: TalkConfig = field(default_factory=TalkConfig)
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    microphone: MicrophoneConfig = field(default_factory=MicrophoneConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
    button: ButtonConfig = field(default_factory=ButtonConfig)
    light: LightConfig = field(default_factory=LightConfig)


def contradictions(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what is right alone and wrong together: two keys, and a sentence about the first of them."""
    if config.button.pin is not None and config.button.pin == config.light.pin:
        yield ("light.pin", "button.pin"), f"and button.pin are both {config.light.pin}; give each a pin of its own"
    devices = (config.microphone.device, config.speaker.device)
    files = [os.path.realpath(device[4:]) for device in devices if device.startswith("wav:")]
    if len(files) > len(set(files)):
        keys = ("speaker.device", "microphone.device")
        yield keys, "is the file that the microphone plays, and would be overwritten; name another one"


def load(path: str | os.PathLike[str]) -> Config:
    """Return what the file says, with defaults for what it does not say.

    Raises ConfigError. Its text lists every mistake as ``file:line:column: what is wrong and what to do`` and shows
    nothing that may be a key. Reads one small file; for any thread.
    """
    return read(Path(path), Config, contradictions)


def default_path() -> Path:
    """Return where the configuration is when nobody says where."""
    return Path("config.yaml" if os.path.exists("config.yaml") else "/etc/device-agent/config.yaml")
