"""LiteLLM proxy: its own key, an alias for a model, and behind the alias a service that speaks one of two dialects.

The facts here were measured with releases 1.81.9 to 1.109.1, and the texts of its errors with 1.108.7. The proxy
accepts a connection before it dials the service behind it, so being connected means nothing yet. A binary frame ends
the session without a word; none is ever sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.errors import LinkLost, LinkRefused
from ..core.events import Event
from ..net.http_errors import rejection
from ..net.models import Endpoint, Message
from .auth import bearer, with_query
from .base import Service, Session
from .json_fields import Fields, name, part
from .openai import TEXT_PART, OpenAI, openai_settings
from .realtime_session import READY_WITHOUT_ACK_S, Dialect, Handler, RealtimeSession
from .realtime_settings import RealtimeSettings
from .xai import Xai, xai_settings

log = logging.getLogger(__name__)

BACKEND = "the service behind the proxy"
DIALECTS = {
    "xai": Dialect(BACKEND, clips=False, answers_commits=True, verbatim=True),
    "openai": Dialect(BACKEND, clips=False, text_part=TEXT_PART),
}
BACKEND_STATUS_PATTERN = re.compile(r"rejected .*HTTP (\d{3})")
"""The HTTP status of the service behind the proxy, in a close reason."""
PROXY_MISTAKES = {
    "invalid model": "the proxy does not know this model; is service.model one of its aliases?",
    "api_key is required": "the proxy has no key for the service behind it; is there one in its model_list?",
    "no healthy deployments": "the proxy has no usable entry for this alias; is its model_list right?",
    "unsupported model": "the proxy does not support realtime for the model of this alias; is its model_list right?",
}
"""Part of an error of a misconfigured proxy -> the message for it. A key for xAI it calls one for OpenAI."""
BACKEND_UNREACHED = "internal server error"
"""The beginning of the close reason if the proxy could not connect to the service behind it."""


@dataclass(frozen=True)
class LiteLLM(RealtimeSettings):
    """A proxy at *url*; *model* is an alias of its configuration, *dialect* that of the service behind the alias."""

    url: str = "ws://localhost:4000/v1/realtime"
    dialect: str = "xai"

    can = replace(
        RealtimeSettings.can,
        clips="streamed",
        text_only="with an OpenAI alias",
        **dict.fromkeys(("shorten", "server_tools", "reasoning", "speed", "announcements"), "as the service behind it"),
    )
    rates = (24000, 16000)
    behind: ClassVar[Mapping[str, type[Service]]] = {"xai": Xai, "openai": OpenAI}

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        """The header keeps the proxy from rewriting the settings, which xAI would not understand then. OpenAI does not
        accept it any more, and the proxy passes it on."""
        beta = {"OpenAI-Beta": "realtime=v1"} if self.dialect == "xai" else {}
        url = with_query(self.url, {"model": self.model})
        return Endpoint(f"litellm at {urlsplit(self.url).hostname}", url, {**bearer(self.key), **beta})

    def session(self) -> Session:
        return LiteLLMSession(self, self._settings(), DIALECTS[self.dialect])

    def _settings(self) -> dict[str, Any]:
        if self.dialect == "openai":
            return openai_settings(replace(self, voice=self.voice or OpenAI.voice))
        return xai_settings(replace(self, voice=self.voice or Xai.voice))


class LiteLLMSession(RealtimeSession):
    """One connection through the proxy. A greeting shows that there is a service behind it, and nothing else does. When
    that service is lost, release 1.81.9 keeps the connection and answers pings: only a turn that is not accepted
    reveals it (``ResponseTimeout``)."""

    _heard = False  # a message was received

    def greet(self) -> None:
        super().greet()
        self._ready_at = None

    def receive(self, message: Message) -> Iterator[Event]:
        self._heard = True
        return super().receive(message)

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        if not self.ready:
            self._ready_at = self._now + READY_WITHOUT_ACK_S
        return super()._on_greeting(event)

    def _on_session_updated(self, event: Fields) -> Iterable[Event]:
        """A voice may get lost between two dialects: warn of it."""
        told, asked = (_voice(settings) for settings in (part(event, "session"), self._settings))
        if told and told.lower() != asked.lower():
            log.warning("the voice is %s and not %s: is service.dialect right?", told, asked)
        return super()._on_session_updated(event)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        if self.ready:
            return super().lost(error)
        said = f"{error} {self._complaint}".lower()
        for phrase, why in PROXY_MISTAKES.items():
            if phrase in said:
                return LinkRefused(f"{why} ({self._complaint or error})")
        if "beta_api_shape_disabled" in str(error):
            return LinkRefused(
                f"{error}; is service.dialect right? LiteLLM 1.81.9 always uses the beta protocol with OpenAI"
            )
        if status := BACKEND_STATUS_PATTERN.search(str(error)):
            return _rejected(int(status[1]))
        judged = super().lost(error)
        if isinstance(judged, LinkLost) and not self._heard:
            return LinkLost(f"{judged} ({_hint(said)})", retry_after=judged.retry_after)
        return judged

    EVENTS: ClassVar[Mapping[str, Handler]] = {
        **RealtimeSession.EVENTS,
        "session.created": _on_greeting,
        "conversation.created": _on_greeting,
        "session.updated": _on_session_updated,
    }


def _rejected(status: int) -> LinkLost | LinkRefused:
    """Return what *status* of the service behind the proxy means: key and model are configured in the proxy."""
    judged = rejection(BACKEND, status, {}, None)
    if isinstance(judged, LinkLost):
        return judged
    return LinkRefused(f"{BACKEND} answered {status}; are its key and model right in the proxy's model_list?")


def _hint(said: str) -> str:
    """Return advice for a connection that ended before a greeting: release 1.81.9 does so for an unknown alias and
    for a missing key alike."""
    if BACKEND_UNREACHED in said:
        return "the proxy cannot reach the service behind it; is that service running, and its api_base right?"
    return "no service behind the proxy answered; is service.model one of its aliases, with a key in its model_list?"


def _voice(settings: Fields) -> str:
    return name(settings, "voice") or name(part(part(settings, "audio"), "output"), "voice")
