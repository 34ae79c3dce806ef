"""The settings that xAI, OpenAI and what stands behind LiteLLM have in common, besides those of every service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..dsp import g711
from .base import Settings

CODECS = {"pcmu": g711.pcmu, "pcma": g711.pcma}
"""What ``audio`` may be besides pcm."""


@dataclass(frozen=True)
class RealtimeSettings(Settings):
    """*audio* is pcm, or pcmu or pcma (G.711, 8000 samples per second). *reasoning* is how hard the model thinks before
    it speaks, one of ``efforts``, "" for the model's own. *speed* is that of its speech: 1 is normal, 0 means the
    service's own."""

    audio: str = "pcm"
    reasoning: str = ""
    speed: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.audio in CODECS:
            object.__setattr__(self, "rate", g711.G711_RATE)

    @property
    def format(self) -> dict[str, Any]:
        """How sound travels, as ``session.update`` names it: only PCM names its rate."""
        kind = {"type": f"audio/{self.audio}"}
        return {**kind, "rate": self.rate} if self.audio == "pcm" else kind

    def session_options(self) -> dict[str, Any]:
        """Return what a ``RealtimeSession`` has to know of these settings, as its keywords."""
        codec = CODECS[self.audio]() if self.audio in CODECS else None
        return {
            "rate": self.rate,
            "service_ends": self.service_ends,
            "codec": codec,
            "patience_s": self.patience_s,
        }


def optional(**fields: Any) -> dict[str, Any]:
    """Return those of *fields* that say something; a service that is not told goes by its own default."""
    return {name: value for name, value in fields.items() if value}
