"""xAI Grok Voice Agent: ``voice`` and ``turn_detection`` at the top of the session, formats in ``audio``."""

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

XAI_SERVER_TOOLS = {  # as documented by the vendor
    "web_search": (),
    "x_search": (),
    "file_search": ("vector_store_ids",),
    "mcp": ("server_url", "server_label"),
}
RESERVED = {
    "web_search": ("web_search", "browse_page"),
    "x_search": ("x_keyword_search", "x_semantic_search", "x_user_search", "x_thread_fetch"),
    "file_search": ("collections_search", "file_search"),
}
"""A tool of this device with such a name makes the first reply fail with ``server_error`` (measured by
livekit-plugins-xai 1.8.9, refused by aplisay/llm-agent #338 as well)."""
XAI_DIALECT = Dialect(answers_commits=True, resumes=True, verbatim=True)


@dataclass(frozen=True)
class Xai(TokenSettings):
    """The service at api.x.ai, or a compatible one at *url*."""

    url: str = "wss://api.x.ai/v1/realtime"
    model: str = "grok-voice-latest"
    voice: str = "eve"

    can = replace(
        RealtimeSettings.can,
        shorten="tried",
        server_tools=", ".join(XAI_SERVER_TOOLS),
        resume="yes, for 30 minutes",
        token="yes",  # noqa: S106  no password
        reasoning="none or high",
        speed="0.7 to 1.5",
        announcements="word for word",
    )
    rates = (24000, 16000)
    server_tools = XAI_SERVER_TOOLS
    reserved = RESERVED
    efforts = ("none", "high")  # docs.x.ai, livekit and pipecat
    refuses_reasoning = r"grok-voice-fast-.*"  # docs.x.ai/developers/rest-api-reference/inference/voice
    speeds = (0.7, 1.5)  # docs.x.ai, pipecat

    def token_request(self) -> dict[str, Any]:
        """A token has to be valid at the connect and no longer. xAI supports no ``anchor`` and no ``session`` here."""
        return {"expires_after": {"seconds": 300}}

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        url = with_query(self.url, {"model": self.model, "conversation_id": resume})
        return Endpoint(f"xai at {urlsplit(self.url).hostname}", url, self.authorization(answer))

    def session(self) -> Session:
        settings = {**xai_settings(self), "resumption": {"enabled": True}}
        return RealtimeSession(self, settings, XAI_DIALECT)


def xai_settings(settings: RealtimeSettings) -> dict[str, Any]:
    """Return the whole session, for every update: after a connect the service is in manual mode with another voice
    (recorded from the live service), and an update without ``turn_detection`` resets that to manual mode."""
    effort = settings.reasoning if reasons(Xai, settings.model) else ""
    return {
        "instructions": settings.prompt,
        "voice": settings.voice,
        "turn_detection": server_vad(settings.silence_ms, 0.85, 333) if settings.service_ends else {"type": None},
        "audio": {
            "input": {
                "format": settings.format,
                "transcription": {"model": "grok-transcribe", **optional(language_hint=settings.language)},
            },
            "output": {"format": settings.format, **optional(speed=settings.speed)},
        },
        "tools": [*server_tools(settings.tools), *function_tools(settings.functions)],
        **optional(reasoning=optional(effort=effort)),
    }
