"""xAI Grok Voice Agent: voice and turn detection stand at the top of the session, formats in ``audio``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..credentials import Secret
from . import Can, Endpoint, Request, Said, Session, Settings, g711
from .access import ask_for_token, bearer, credential, mint, with_query
from .calls import function_tools, server_tools
from .realtime import RealtimeSession

CODECS = {"pcmu": g711.pcmu, "pcma": g711.pcma}
"""What ``audio`` may be besides pcm."""
SERVER_TOOLS = {
    "web_search": (),
    "x_search": (),
    "file_search": ("vector_store_ids",),
    "mcp": ("server_url", "server_label"),
}
"""Tools that run at xAI, as documented by the vendor -> the parameters that they need."""
TOKEN_REQUEST = {"expires_after": {"seconds": 300}}
"""A token has to be valid when we connect and no longer. xAI supports no ``anchor`` and no ``session`` here."""


@dataclass(frozen=True)
class Xai(Settings):
    """The service at api.x.ai, or one that speaks like it at *url*.

    *token_url* is where to fetch a short-lived token for each connection, *token_key* what we are known by there.
    *audio* is pcm, pcmu or pcma.
    """

    url: str = "wss://api.x.ai/v1/realtime"
    model: str = "grok-voice-latest"
    voice: str = "eve"
    token_url: str = ""
    token_key: Secret | None = None
    audio: str = "pcm"

    can: ClassVar[Can] = Can(
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
    )
    rates: ClassVar[tuple[int, ...]] = (24000, 16000)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = SERVER_TOOLS

    def __post_init__(self) -> None:
        if self.audio in CODECS:
            object.__setattr__(self, "rate", g711.RATE)

    def invitation(self, resume: str, said: Sequence[Said] = ()) -> Request | None:
        return ask_for_token(self.token_url, TOKEN_REQUEST, self.token_key, service_url=self.url, key=self.key)

    def mint(self) -> Request:
        """What to POST, with the key, for a token that somebody else may connect with."""
        return mint(self.url, TOKEN_REQUEST, self.key)

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        query = {"model": self.model, "conversation_id": resume}
        headers = bearer(credential(self.token_url, answer, self.key))
        return Endpoint(f"xai at {urlsplit(self.url).hostname}", with_query(self.url, query), headers)

    def session(self) -> Session:
        codec = CODECS[self.audio]() if self.audio in CODECS else None
        settings = {**xai_settings(self, self.audio), "resumption": {"enabled": True}}
        return RealtimeSession(
            settings, rate=self.rate, service_ends=self.service_ends, codec=codec, resumes=True, answers_commits=True
        )


def xai_settings(settings: Settings, audio: str = "pcm") -> dict[str, Any]:
    """All of it, every time: after a connect the service is in manual mode with another voice (recorded from the live
    service), and an update that leaves ``turn_detection`` out falls back to that."""
    kind = {"type": f"audio/{audio}"}
    format_ = {**kind, "rate": settings.rate} if audio == "pcm" else kind
    return {
        "instructions": settings.instructions,
        "voice": settings.voice,
        "turn_detection": _turn_detection(settings),
        "audio": {
            "input": {"format": format_, "transcription": {"model": "grok-transcribe"}},
            "output": {"format": format_},
        },
        "tools": [*server_tools(settings.tools), *function_tools(settings.functions)],
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
