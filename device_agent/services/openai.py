"""OpenAI Realtime, as it is since 2026: a nested session, and not one key that the service does not know, because one
makes it refuse the whole update (seen in the field). The header of the beta is never sent: it ends the session.
"""

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

SERVER_TOOLS = {"mcp": ("server_url", "server_label")}
"""Tools that run at OpenAI -> the parameters that they need."""
TEXT_PART = "output_text"
"""What a text of the assistant is called since general availability."""
TRANSCRIPTION_MODEL = "gpt-transcribe"
"""What writes down what the user said: it works on each turn that is committed, with server VAD and without, and costs
a quarter of gpt-live-transcribe (0.0045 dollars a minute, DevEmperor/DictateKeyboard #248), which refuses turn
detection (OpenWhispr/openwhispr #2077). Strands names it beside gpt-realtime-2.1 (strandsagents.com)."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
LEAST_EFFORT = "minimal"
"""What none is sent as: ``reasoning.effort`` has no such value (types of openai 3.57.0; pydantic-ai leaves it out), and
one value that the service does not know makes it refuse the whole update."""
REFUSES_REASONING = r"gpt-(4o-(mini-)?)?realtime(-mini|-preview|-1\.5)?(-\d{4}-\d{2}-\d{2})?"
"""The models from before gpt-realtime-2: "Unsupported option for this model" (pydantic-ai profiles/openai.py)."""
SPEEDS = (0.25, 1.5)
"""What ``audio.output.speed`` may be (types of openai 3.57.0)."""


@dataclass(frozen=True)
class OpenAI(RealtimeSettings):
    """The service at api.openai.com, or a server that speaks like it at *url*.

    *token_url* is where to fetch a short-lived token for each connection, *token_key* what we are known by there.
    """

    url: str = "wss://api.openai.com/v1/realtime"
    model: str = "gpt-realtime-2.1"
    voice: str = "marin"
    token_url: str = ""
    token_key: Secret | None = None

    can: ClassVar[Capabilities] = Capabilities(
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
        thin="yes",
        language="yes",
        reasoning="none to xhigh",
        speed="0.25 to 1.5",
        announcements="asked for",
    )
    rates: ClassVar[tuple[int, ...]] = (24000,)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = SERVER_TOOLS
    efforts: ClassVar[tuple[str, ...]] = EFFORTS
    refuses_reasoning: ClassVar[str] = REFUSES_REASONING
    speeds: ClassVar[tuple[float, float]] = SPEEDS
    asks_approval: ClassVar[bool] = True

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
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
        return RealtimeSession(openai_settings(self), **self.session_options(), text_part=TEXT_PART, in_order=True)


def openai_settings(settings: RealtimeSettings) -> dict[str, Any]:
    """The microphone of a speaker stands across the room (far_field). Transcription is off unless it is asked for."""
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
                "turn_detection": _turn_detection(settings),
            },
            "output": {"format": settings.format, "voice": settings.voice, **optional(speed=settings.speed)},
        },
        "tools": [*server_tools(settings.tools), *function_tools(settings.functions)],
        **optional(reasoning=optional(effort=LEAST_EFFORT if effort == "none" else effort)),
    }


def _languages(tag: str) -> list[str]:
    """Return the language of a BCP 47 tag for the transcription, which knows ISO 639-1, two letters, and no more."""
    language = tag.partition("-")[0].lower()
    return [language] if len(language) == 2 else []


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
