"""OpenAI Realtime, as of 2026: a nested session without unknown keys, because one makes the service refuse the whole
update (seen in the field). The header of the beta is never sent: it ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from ..net.models import Endpoint
from .auth import with_query
from .base import Session
from .realtime_session import Dialect, RealtimeSession
from .realtime_settings import RealtimeSettings, TokenSettings, optional, server_vad
from .registry import reasons
from .tool_calls import function_tools, server_tools

OPENAI_SERVER_TOOLS = {"mcp": ("server_url", "server_label")}
TEXT_PART = "output_text"  # the type of a text of the assistant since general availability
TRANSCRIPTION_MODEL = "gpt-transcribe"
"""Transcribes each committed turn, with server VAD and without, and costs a quarter of gpt-live-transcribe (0.0045
dollars a minute, DevEmperor/DictateKeyboard #248), which refuses turn detection (OpenWhispr/openwhispr #2077). Strands
names it beside gpt-realtime-2.1 (strandsagents.com)."""
LEAST_EFFORT = "minimal"
"""Sent for none: ``reasoning.effort`` has no such value (types of openai 3.57.0; pydantic-ai leaves it out), and an
unknown value makes the service refuse the whole update."""


@dataclass(frozen=True)
class OpenAI(TokenSettings):
    """The service at api.openai.com, or a compatible one at *url*."""

    url: str = "wss://api.openai.com/v1/realtime"
    model: str = "gpt-realtime-2.1"
    voice: str = "marin"

    can = replace(
        RealtimeSettings.can,
        server_tools=", ".join(OPENAI_SERVER_TOOLS),
        text_only="yes",
        token="yes",  # noqa: S106  no password
        reasoning="none to xhigh",
        speed="0.25 to 1.5",
    )
    server_tools = OPENAI_SERVER_TOOLS
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh")
    refuses_reasoning = r"gpt-(4o-(mini-)?)?realtime(-mini|-preview|-1\.5)?(-\d{4}-\d{2}-\d{2})?"
    """The models before gpt-realtime-2: "Unsupported option for this model" (pydantic-ai profiles/openai.py)."""
    speeds = (0.25, 1.5)  # types of openai 3.57.0
    asks_approval = True

    def token_request(self) -> dict[str, Any]:
        lifetime = {"anchor": "created_at", "seconds": 600}
        return {"expires_after": lifetime, "session": {"type": "realtime", "model": self.model}}

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        url = with_query(self.url, {"model": self.model})
        return Endpoint(f"openai at {urlsplit(self.url).hostname}", url, self.authorization(answer))

    def session(self) -> Session:
        return RealtimeSession(self, openai_settings(self), Dialect(text_part=TEXT_PART, in_order=True))


def openai_settings(settings: RealtimeSettings) -> dict[str, Any]:
    """Return the session. The microphone is across the room (far_field); transcription is off unless requested."""
    effort = settings.reasoning if reasons(OpenAI, settings.model) else ""
    return {
        "type": "realtime",
        "output_modalities": ["text" if settings.text_only else "audio"],
        "instructions": settings.prompt,
        "audio": {
            "input": {
                "format": settings.format,
                "transcription": {"model": TRANSCRIPTION_MODEL, **optional(languages=_languages(settings.language))},
                "noise_reduction": {"type": "far_field"},
                "turn_detection": server_vad(settings.silence_ms, 0.5, 300) if settings.service_ends else None,
            },
            "output": {"format": settings.format, "voice": settings.voice, **optional(speed=settings.speed)},
        },
        "tools": [*server_tools(settings.tools), *function_tools(settings.functions)],
        **optional(reasoning=optional(effort=LEAST_EFFORT if effort == "none" else effort)),
    }


def _languages(tag: str) -> list[str]:
    """Return the language of a BCP 47 tag for the transcription, which accepts ISO 639-1, two letters, alone."""
    language = tag.partition("-")[0].lower()
    return [language] if len(language) == 2 else []
