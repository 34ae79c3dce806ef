"""The LiteLLM proxy: its own key, an alias for a model, and behind the alias a service that speaks one of two dialects.

Facts here were measured with releases 1.81.9 to 1.109.1. The proxy accepts us before it dials the service behind it, so
being connected means nothing yet. A binary frame ends the session without a word; none is ever sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..errors import LinkLost, LinkRefused
from ..events import Event
from ..rejections import rejection
from . import Can, Endpoint, Message, Request, Said, Session, Settings
from .access import bearer, with_query
from .fields import Fields, name, part
from .openai import TEXT_PART, OpenAI, openai_settings
from .patience import UNTAKEN_S
from .realtime import READY_BY_RULE_S, RealtimeSession
from .xai import SERVER_TOOLS, Xai, xai_settings

log = logging.getLogger(__name__)

DIALECTS = ("xai", "openai")
"""What the alias stands for, the default first."""
REJECTED = re.compile(r"rejected .*HTTP (\d{3})")
"""How the goodbye of a proxy tells what the service behind it answered."""


@dataclass(frozen=True)
class LiteLLM(Settings):
    """A proxy at *url*; *model* is an alias of its configuration, *dialect* that of the service behind the alias."""

    url: str = "ws://localhost:4000/v1/realtime"
    dialect: str = DIALECTS[0]

    can: ClassVar[Can] = Can(
        push_to_talk="yes",
        cancel="yes",
        shorten="as the service behind it",
        typed="yes",
        clips="streamed",
        tools="yes",
        server_tools="with an xAI alias",
        recall="yes",
        text_only="with an OpenAI alias",
    )
    rates: ClassVar[tuple[int, ...]] = (24000, 16000)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = SERVER_TOOLS

    def invitation(self, resume: str, said: Sequence[Said] = ()) -> Request | None:
        return None

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        """The header keeps the proxy from rewriting the settings, which xAI would not understand then. OpenAI does not
        accept it any more, and the proxy passes it on."""
        beta = {"OpenAI-Beta": "realtime=v1"} if self.dialect == "xai" else {}
        url = with_query(self.url, {"model": self.model})
        return Endpoint(f"litellm at {urlsplit(self.url).hostname}", url, {**bearer(self.key), **beta})

    def session(self) -> Session:
        part = {"text_part": TEXT_PART} if self.dialect == "openai" else {}
        return LiteLLMSession(self._settings(), rate=self.rate, service_ends=self.service_ends, clips=False, **part)

    def _settings(self) -> dict[str, Any]:
        if self.dialect == "openai":
            return openai_settings(replace(self, voice=self.voice or OpenAI.voice))
        return xai_settings(replace(self, voice=self.voice or Xai.voice))


class LiteLLMSession(RealtimeSession):
    """One connection through the proxy. A greeting shows that there is a service behind it, and nothing else does.

    When that service goes, release 1.81.9 stays connected to us and answers our pings: only a turn that nobody takes
    tells (``Patience``).
    """

    _name = "the service behind the proxy"

    def __init__(self, settings: dict[str, Any], **how: Any) -> None:
        super().__init__(settings, **how)
        self._heard = False

    def _untaken_s(self) -> float:
        return UNTAKEN_S

    def greet(self) -> None:
        super().greet()
        self._due = None

    def receive(self, message: Message) -> Iterator[Event]:
        self._heard = True
        return super().receive(message)

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        if not self.ready:
            self._due = self._now + READY_BY_RULE_S
        return super()._on_greeting(event)

    def _on_session_updated(self, event: Fields) -> Iterable[Event]:
        """Between two dialects a voice may get lost on the way: that should not be a riddle."""
        told, asked = (_voice(settings) for settings in (part(event, "session"), self._settings))
        if told and told.lower() != asked.lower():
            log.warning("the voice is %s and not %s: is service.dialect right?", told, asked)
        return super()._on_session_updated(event)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        if self.ready:
            return super().lost(error)
        if "invalid model" in self._complaint.lower():
            return LinkRefused(
                f"the proxy knows no such model; is service.model one of its aliases? ({self._complaint})"
            )
        if "beta_api_shape_disabled" in str(error):
            return LinkRefused(f"{error}; is service.dialect right? LiteLLM 1.81.9 asks OpenAI for the beta anyhow")
        if status := REJECTED.search(str(error)):
            return rejection("the service behind the proxy", int(status[1]), {}, None)
        judged = super().lost(error)
        if not self._heard and isinstance(judged, LinkLost):  # 1.81.9 says no more about an unknown alias
            said = f"{judged} (no service behind the proxy said a word; is service.model one of its aliases?)"
            return LinkLost(said, retry_after=judged.retry_after)
        return judged


def _voice(settings: Fields) -> str:
    return name(settings, "voice") or name(part(part(settings, "audio"), "output"), "voice")
