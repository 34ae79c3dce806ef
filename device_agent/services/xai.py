"""xAI Grok Voice Agent: voice and turn detection stand at the top of the session, formats in ``audio``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.redaction import Secret
from ..net.models import Endpoint, Request
from .auth import ask_for_token, bearer, credential, mint, with_query
from .base import Capabilities, HistoryEntry, Session, Settings
from .realtime_session import RealtimeSession
from .realtime_settings import RealtimeSettings, optional
from .registry import reasons
from .tool_calls import function_tools, server_tools

SERVER_TOOLS = {
    "web_search": (),
    "x_search": (),
    "file_search": ("vector_store_ids",),
    "mcp": ("server_url", "server_label"),
}
"""Tools that run at xAI, as documented by the vendor -> the parameters that they need."""
RESERVED = {
    "web_search": ("web_search", "browse_page"),
    "x_search": ("x_keyword_search", "x_semantic_search", "x_user_search", "x_thread_fetch"),
    "file_search": ("collections_search", "file_search"),
}
"""A tool that runs at xAI -> the names that it has for its own use. A tool of ours with such a name makes the first
reply fail with ``server_error`` (measured by livekit-plugins-xai 1.8.9, refused by aplisay/llm-agent #338 as well)."""
EFFORTS = ("none", "high")
"""What ``reasoning.effort`` may be (docs.x.ai, livekit and pipecat)."""
REFUSES_REASONING = r"grok-voice-fast-.*"
"""The models without it (docs.x.ai/developers/rest-api-reference/inference/voice)."""
SPEEDS = (0.7, 1.5)
"""What ``audio.output.speed`` may be (docs.x.ai, pipecat)."""
TOKEN_REQUEST = {"expires_after": {"seconds": 300}}
"""A token has to be valid when we connect and no longer. xAI supports no ``anchor`` and no ``session`` here."""


@dataclass(frozen=True)
class Xai(RealtimeSettings):
    """The service at api.x.ai, or one that speaks like it at *url*.

    *token_url* is where to fetch a short-lived token for each connection, *token_key* what we are known by there.
    """

    url: str = "wss://api.x.ai/v1/realtime"
    model: str = "grok-voice-latest"
    voice: str = "eve"
    token_url: str = ""
    token_key: Secret | None = None

    can: ClassVar[Capabilities] = Capabilities(
        push_to_talk="yes",
        cancel="yes",
        shorten="tried",
        typed="yes",
        clips="yes",
        tools="yes",
        server_tools=", ".join(SERVER_TOOLS),
        resume="yes, for 30 minutes",
        recall="yes",
        token="yes",  # noqa: S106  no password
        thin="yes",
        language="yes",
        reasoning="none or high",
        speed="0.7 to 1.5",
        announcements="word for word",
    )
    rates: ClassVar[tuple[int, ...]] = (24000, 16000)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = SERVER_TOOLS
    reserved: ClassVar[Mapping[str, tuple[str, ...]]] = RESERVED
    efforts: ClassVar[tuple[str, ...]] = EFFORTS
    refuses_reasoning: ClassVar[str] = REFUSES_REASONING
    speeds: ClassVar[tuple[float, float]] = SPEEDS

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
        return ask_for_token(self.token_url, TOKEN_REQUEST, self.token_key, service_url=self.url, key=self.key)

    def mint(self) -> Request:
        """What to POST, with the key, for a token that somebody else may connect with."""
        return mint(self.url, TOKEN_REQUEST, self.key)

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        query = {"model": self.model, "conversation_id": resume}
        headers = bearer(credential(self.token_url, answer, self.key))
        return Endpoint(f"xai at {urlsplit(self.url).hostname}", with_query(self.url, query), headers)

    def session(self) -> Session:
        settings = {**xai_settings(self), "resumption": {"enabled": True}}
        return RealtimeSession(settings, **self.session_options(), resumes=True, verbatim=True, answers_commits=True)


def xai_settings(settings: RealtimeSettings) -> dict[str, Any]:
    """All of it, every time: after a connect the service is in manual mode with another voice (recorded from the live
    service), and an update that leaves ``turn_detection`` out falls back to that."""
    effort = settings.reasoning if reasons(Xai, settings.model) else ""
    return {
        "instructions": settings.prompt,
        "voice": settings.voice,
        "turn_detection": _turn_detection(settings),
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


def _turn_detection(settings: Settings) -> dict[str, Any]:
    if not settings.service_ends:
        return {"type": None}
    return {
        "type": "server_vad",
        "threshold": 0.85,
        "prefix_padding_ms": 333,
        "silence_duration_ms": settings.silence_ms,
        "create_response": True,
        "interrupt_response": True,
    }
