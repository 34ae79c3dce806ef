"""Session settings that the services have in common. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

DEFAULT_RATE = 24000
SIMULATED_G711_RATE_HZ = 8000


@dataclass(frozen=True)
class TurnDetection:
    """Server VAD: how the service finds the beginning and the end of a turn."""

    threshold: float = 0.85
    silence_ms: int = 500  # the live service's default is not documented; similar services use this
    prefix_ms: int = 333
    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True)
class Format:
    """Format of sound in one direction."""

    rate: int = DEFAULT_RATE
    codec: str = "pcm"  # or pcmu, pcma


def format_of(asked: Mapping[str, Any] | None) -> Format:
    """Return the format in a checked ``format`` object: G.711 has one rate, PCM the one that is named."""
    asked = asked or {}
    codec = str(asked.get("type", "audio/pcm")).removeprefix("audio/")
    return Format(int(asked.get("rate", DEFAULT_RATE)) if codec == "pcm" else SIMULATED_G711_RATE_HZ, codec)


@dataclass(frozen=True)
class Settings(ABC):
    """The settings of one session. *asked* holds what the client asked for, checked, to be repeated to it."""

    turn_detection: TurnDetection | None = None
    input: Format = Format()
    output: Format = Format()
    transcribes: bool = False
    functions: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def voice(self) -> str:
        """The voice of the replies."""
        return str(self.asked.get("voice", "as usual"))

    @abstractmethod
    def updated(self, session: Any) -> Self:
        """Return these settings with the changes of *session*; raise Refusal where one is wrong."""

    @abstractmethod
    def echo(self, model: str) -> dict[str, Any]:
        """Return the session as ``session.updated`` shows it."""


def vad_of(detection: Mapping[str, Any], usual: TurnDetection) -> TurnDetection:
    """Return checked ``server_vad`` settings; what they leave out is as *usual*."""
    return TurnDetection(
        threshold=detection.get("threshold", usual.threshold),
        silence_ms=detection.get("silence_duration_ms", usual.silence_ms),
        prefix_ms=detection.get("prefix_padding_ms", usual.prefix_ms),
        create_response=detection.get("create_response", usual.create_response),
        interrupt_response=detection.get("interrupt_response", usual.interrupt_response),
    )


def function_name(tool: Mapping[str, Any]) -> str:
    """Return the name in a function tool, flat (as documented) or nested (as some repeat it)."""
    name = tool.get("name", (tool.get("function") or {}).get("name"))
    return name if isinstance(name, str) else ""
