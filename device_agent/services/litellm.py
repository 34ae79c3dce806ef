"""The LiteLLM proxy: its own key, an alias for a model, and behind the alias a service that speaks one of two dialects.

Facts here were measured with releases 1.81.9 to 1.109.1. The proxy accepts us before it dials the service behind it, so
being connected means nothing yet. A binary frame ends the session without a word; none is ever sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..errors import LinkLost, LinkRefused
from ..events import Event
from . import Can, Endpoint, Request, Session, Settings
from .access import bearer, with_query
from .fields import Fields, part, text
from .openai import OpenAI, openai_settings
from .realtime import READY_BY_RULE_S, RealtimeSession
from .xai import SERVER_TOOLS, Xai, xai_settings

log = logging.getLogger(__name__)

DIALECTS = ("xai", "openai")
"""What the alias stands for, the default first."""


@dataclass(frozen=True)
class LiteLLM(Settings):
    """A proxy at *url*; *model* is an alias of its configuration, *dialect* that of the service behind the alias."""

    url: str = "ws://localhost:4000/v1/realtime"
    dialect: str = DIALECTS[0]

    can: ClassVar[Can] = Can(
        push_to_talk="yes",
        cancel="yes",
        typed="yes",
        clips="streamed",
        tools="yes",
        server_tools="with an xAI alias",
        text_only="with an OpenAI alias",
    )
    rates: ClassVar[tuple[int, ...]] = (24000, 16000)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = SERVER_TOOLS

    def invitation(self, resume: str) -> Request | None:
        return None

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        """The header keeps the proxy from rewriting the settings, which xAI would not understand then. OpenAI does not
        accept it any more, and the proxy passes it on."""
        beta = {"OpenAI-Beta": "realtime=v1"} if self.dialect == "xai" else {}
        url = with_query(self.url, {"model": self.model})
        return Endpoint(f"litellm at {urlsplit(self.url).hostname}", url, {**bearer(self.key), **beta})

    def session(self) -> Session:
        return LiteLLMSession(self._settings(), rate=self.rate, service_ends=self.service_ends, clips=False)

    def _settings(self) -> dict[str, Any]:
        if self.dialect == "openai":
            return openai_settings(replace(self, voice=self.voice or OpenAI.voice))
        return xai_settings(replace(self, voice=self.voice or Xai.voice))


class LiteLLMSession(RealtimeSession):
    """One connection through the proxy. A greeting shows that there is a service behind it, and nothing else does."""

    def greet(self) -> None:
        super().greet()
        self.deadline = None

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        if not self.ready:
            self.deadline = self._now + READY_BY_RULE_S
        return ()

    def _on_session_updated(self, event: Fields) -> Iterable[Event]:
        """Between two dialects a voice may get lost on the way: that should not be a riddle."""
        told, asked = (_voice(settings) for settings in (part(event, "session"), self._settings))
        if told and told.lower() != asked.lower():
            log.warning("the voice is %s and not %s: is service.dialect right?", told, asked)
        return super()._on_session_updated(event)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        if not self.ready and "invalid model" in self._complaint.lower():
            return LinkRefused(
                f"the proxy knows no such model; is service.model one of its aliases? ({self._complaint})"
            )
        return super().lost(error)


def _voice(settings: Fields) -> str:
    return text(settings, "voice") or text(part(part(settings, "audio"), "output"), "voice")
