"""xAI Grok Voice Agent: voice and turn detection stand at the top of the session, formats in ``audio``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..credentials import Secret
from . import Endpoint, Request, Session
from .realtime import RealtimeSession


@dataclass(frozen=True)
class Xai:
    """The service at api.x.ai, or one that speaks like it at *url*."""

    key: Secret
    url: str = "wss://api.x.ai/v1/realtime"
    model: str = "grok-voice-latest"
    voice: str = "eve"
    instructions: str = ""
    tools: tuple[str, ...] = ()
    service_ends: bool = False
    silence_ms: int = 700
    rate: int = 24000

    def invitation(self, resume: str) -> Request | None:
        return None

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        parts = urlsplit(self.url)
        query = "&".join(filter(None, [parts.query, urlencode({"model": self.model})]))
        url = parts._replace(query=query).geturl()
        return Endpoint(f"xai at {parts.hostname}", url, {"Authorization": f"Bearer {self.key.reveal()}"})

    def session(self) -> Session:
        return RealtimeSession(self.settings(), rate=self.rate, service_ends=self.service_ends)

    def settings(self) -> dict[str, Any]:
        """All of it, every time: after a connect the service is in manual mode with another voice, and an update that
        leaves ``turn_detection`` out falls back to that."""
        pcm = {"type": "audio/pcm", "rate": self.rate}
        return {
            "instructions": self.instructions,
            "voice": self.voice,
            "turn_detection": self._turn_detection(),
            "audio": {
                "input": {"format": pcm, "transcription": {"model": "grok-transcribe"}},
                "output": {"format": pcm},
            },
            "tools": [{"type": tool} for tool in self.tools],
        }

    def _turn_detection(self) -> dict[str, Any]:
        if not self.service_ends:
            return {"type": None}
        return {
            "type": "server_vad",
            "threshold": 0.85,
            "prefix_padding_ms": 333,
            "silence_duration_ms": self.silence_ms,
            "create_response": True,
            "interrupt_response": True,
        }
