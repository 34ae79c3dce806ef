"""OpenAI Realtime, as it is since 2026: a nested session, and not one key that the service does not know, because one
makes it refuse the whole update (seen in the field). The header of the beta is never sent: it ends the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..credentials import Secret
from . import Can, Endpoint, Request, Said, Session, Settings
from .access import ask_for_token, bearer, credential, mint, with_query
from .calls import function_tools, server_tools
from .realtime import RealtimeSession

SERVER_TOOLS = {"mcp": ("server_url", "server_label")}
"""Tools that run at OpenAI -> the parameters that they need."""
TEXT_PART = "output_text"
"""What a text of the assistant is called since general availability."""


@dataclass(frozen=True)
class OpenAI(Settings):
    """The service at api.openai.com, or a server that speaks like it at *url*.

    *token_url* is where to fetch a short-lived token for each connection, *token_key* what we are known by there.
    """

    url: str = "wss://api.openai.com/v1/realtime"
    model: str = "gpt-realtime"
    voice: str = "marin"
    token_url: str = ""
    token_key: Secret | None = None

    can: ClassVar[Can] = Can(
        push_to_talk="yes",
        cancel="yes",
        shorten="yes",
        typed="yes",
        clips="yes",
        tools="yes",
        server_tools=", ".join(SERVER_TOOLS),
        recall="yes",
        text_only="yes",
        token="yes",  # noqa: S106  no password
    )
    rates: ClassVar[tuple[int, ...]] = (24000,)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = SERVER_TOOLS

    def invitation(self, resume: str, said: Sequence[Said] = ()) -> Request | None:
        body = self._token_request()
        return ask_for_token(self.token_url, body, self.token_key, service_url=self.url, key=self.key)

    def mint(self) -> Request:
        """What to POST, with the key, for a token that somebody else may connect with."""
        return mint(self.url, self._token_request(), self.key)

    def _token_request(self) -> dict[str, Any]:
        lifetime = {"anchor": "created_at", "seconds": 600}
        return {"expires_after": lifetime, "session": {"type": "realtime", "model": self.model}}

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        headers = bearer(credential(self.token_url, answer, self.key))
        return Endpoint(
            f"openai at {urlsplit(self.url).hostname}", with_query(self.url, {"model": self.model}), headers
        )

    def session(self) -> Session:
        settings = openai_settings(self)
        return RealtimeSession(
            settings, rate=self.rate, service_ends=self.service_ends, text_part=TEXT_PART, in_order=True
        )


def openai_settings(settings: Settings) -> dict[str, Any]:
    """The microphone of a speaker stands across the room (far_field). Transcription is off unless it is asked for."""
    pcm = {"type": "audio/pcm", "rate": settings.rate}
    return {
        "type": "realtime",
        "output_modalities": ["text" if settings.text_only else "audio"],
        "instructions": settings.instructions,
        "audio": {
            "input": {
                "format": pcm,
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "noise_reduction": {"type": "far_field"},
                "turn_detection": _turn_detection(settings),
            },
            "output": {"format": pcm, "voice": settings.voice},
        },
        "tools": [*server_tools(settings.tools), *function_tools(settings.functions)],
    }


def _turn_detection(settings: Settings) -> dict[str, Any] | None:
    if not settings.service_ends:
        return None
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": settings.silence_ms,
        "create_response": True,
        "interrupt_response": True,
    }
