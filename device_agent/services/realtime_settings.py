"""Settings that xAI, OpenAI and the services behind LiteLLM share, besides those of every service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from ..core.redaction import Secret
from ..dsp.g711 import G711_RATE, Codec, pcma, pcmu
from ..net.models import Request
from .auth import bearer, origin, read_token
from .base import Capabilities, HistoryEntry, Service

CODECS = {"pcmu": pcmu, "pcma": pcma}  # values of audio besides pcm


@dataclass(frozen=True)
class RealtimeSettings(Service):
    """*audio* is pcm, or pcmu or pcma (G.711 at 8000 Hz). *reasoning* is one of ``efforts``, "" for the default of the
    model. *speed* is the speech rate: 1 is normal, 0 the default of the service."""

    audio: str = "pcm"
    reasoning: str = ""
    speed: float = 0.0

    can = Capabilities(
        push_to_talk="yes",
        cancel="yes",
        shorten="yes",
        typed="yes",
        clips="yes",
        tools="yes",
        recall="yes",
        thin="yes",
        language="yes",
        announcements="asked for",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.audio in CODECS:
            object.__setattr__(self, "rate", G711_RATE)

    @classmethod
    def sample_rate(cls, rate: int, audio: str) -> int:
        return G711_RATE if audio in CODECS else super().sample_rate(rate, audio)

    @property
    def format(self) -> dict[str, Any]:
        """The audio format, as ``session.update`` names it: only PCM names its rate."""
        kind = {"type": f"audio/{self.audio}"}
        return {**kind, "rate": self.rate} if self.audio == "pcm" else kind

    @cached_property
    def codec(self) -> Codec | None:
        return CODECS[self.audio]() if self.audio in CODECS else None


@dataclass(frozen=True)
class TokenSettings(RealtimeSettings):
    """*token_url* is where to fetch a short-lived token for each connection, *token_key* the credential there. A token
    server is the service itself, which needs the key, or a third party, which must never see it."""

    token_url: str = ""
    token_key: Secret | None = None

    def token_request(self) -> dict[str, Any]:
        """Return the body of a request for a token."""
        raise NotImplementedError

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
        if not self.token_url:
            return None
        key = self.key if origin(self.token_url) == origin(self.url) else None
        return Request(self.token_url, self.token_request(), bearer(self.token_key or key))

    def mint(self) -> Request:
        """Return the request, with the key, for a token that another device may connect with."""
        parts = urlsplit(self.url)
        scheme = "http" if parts.scheme == "ws" else "https"
        url = parts._replace(scheme=scheme, path=f"{parts.path.rstrip('/')}/client_secrets", query="").geturl()
        return Request(url, self.token_request(), bearer(self.key))

    def authorization(self, answer: Any) -> dict[str, str]:
        """Return the header to connect with: the token in *answer* where one was requested, else the key."""
        return bearer(read_token(answer) if self.token_url else self.key)


def server_vad(silence_ms: int, threshold: float, padding_ms: int) -> dict[str, Any]:
    """Return ``turn_detection`` by the service, which replies, and interrupts a reply, without being asked."""
    return {
        "type": "server_vad",
        "threshold": threshold,
        "prefix_padding_ms": padding_ms,
        "silence_duration_ms": silence_ms,
        "create_response": True,
        "interrupt_response": True,
    }


def optional(**fields: Any) -> dict[str, Any]:
    """Return the *fields* with a value; for the others the service has its own default."""
    return {name: value for name, value in fields.items() if value}
