"""The settings of a session, as far as the services of the family have them in common. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

DEFAULT_RATE = 24000
G711_RATE = 8000

Codec = Literal["pcm", "pcmu", "pcma"]


@dataclass(frozen=True)
class TurnDetection:
    """When the service decides itself that the user speaks and has finished."""

    threshold: float = 0.85
    silence_ms: int = 500  # the live service's default is not documented; this is what its relatives use
    prefix_ms: int = 333
    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True)
class Format:
    """How sound travels in one direction."""

    rate: int = DEFAULT_RATE
    codec: Codec = "pcm"


def format_of(asked: Mapping[str, Any] | None) -> Format:
    """Return the format in a checked ``format`` object: G.711 has one rate, PCM the one that is named."""
    asked = asked or {}
    match asked.get("type"):
        case "audio/pcmu":
            return Format(G711_RATE, "pcmu")
        case "audio/pcma":
            return Format(G711_RATE, "pcma")
        case _:
            return Format(int(asked.get("rate", DEFAULT_RATE)))


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
        """The voice that speaks."""
        return str(self.asked.get("voice", ""))

    @property
    def speaks(self) -> bool:
        """Whether replies are spoken, rather than written."""
        return True

    @property
    def clashes(self) -> bool:
        """Whether a function is called like a tool of the service."""
        return False

    @abstractmethod
    def updated(self, session: Any) -> Self:
        """Return these settings with the changes of *session*; raise Refusal where one is wrong."""

    @abstractmethod
    def echo(self, model: str) -> dict[str, Any]:
        """Return the session as ``session.updated`` shows it."""


def function_name(tool: Mapping[str, Any]) -> str:
    """Return the name in a function tool, flat (as documented) or nested (as some repeat it)."""
    name = tool.get("name", (tool.get("function") or {}).get("name"))
    return name if isinstance(name, str) else ""
