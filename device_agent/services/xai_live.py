"""xAI Live Voice API (``/v1/live``), an older beta. Little of it is documented: the key goes in the first message,
nobody acknowledges anything, and what comes back may hold nothing but ``delta``. So much here is by rule; where the
documents are silent we speak as OpenAI's beta did.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import Event
from ..core.redaction import Secret
from ..net.models import Endpoint, Request
from . import error_events
from .base import Capabilities, HistoryEntry, Session, Settings
from .closing import busy_for
from .json_fields import Fields
from .realtime_session import EVENTS, READY_WITHOUT_ACK_S, RealtimeSession
from .tool_calls import function_tools

READY_WITHOUT_GREETING_S = 1.0
"""So long after session.update we take a service that says nothing for ready."""
REPLY_END_SILENCE_S = 1.5
"""A reply without a new piece for so long is over, where no event says so."""
KEY_REFUSAL_S = 10.0
"""A service that hangs up so early, and has said nothing, does not want our key."""


@dataclass(frozen=True)
class XaiLive(Settings):
    """The service at api.x.ai, or one that speaks like it at *url*."""

    url: str = "wss://api.x.ai/v1/live"
    model: str = "grok-3-live"
    voice: str = "alloy"

    can: ClassVar[Capabilities] = Capabilities(
        push_to_talk="tried, not documented",
        cancel="tried, not documented",
        typed="tried, not documented",
        clips="streamed",
        tools="tried, not documented",
        language="asked for",
        announcements="asked for",
    )
    rates: ClassVar[tuple[int, ...]] = (24000,)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request | None:
        return None

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        return Endpoint(f"xai-live at {urlsplit(self.url).hostname}", self.url)

    def session(self) -> Session:
        how = {"rate": self.rate, "service_ends": self.service_ends, "patience_s": self.patience_s}
        return XaiLiveSession(self.key, self._settings(), **how, clips=False)

    def _settings(self) -> dict[str, Any]:
        detection = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": self.silence_ms}
        return {
            "model": self.model,
            "voice": self.voice,
            "instructions": self.prompt,
            "turn_detection": detection if self.service_ends else None,
            **({"tools": function_tools(self.functions)} if self.functions else {}),
        }


class XaiLiveSession(RealtimeSession):
    """One connection. Replies have no names and no end of their own: they begin with a piece and end with silence."""

    _events: ClassVar[Mapping[str, str]] = {
        **EVENTS,
        "response.audio.done": "_on_reply_done",
        "response.output_audio.done": "_on_reply_done",
    }
    _unended_s: ClassVar[float] = REPLY_END_SILENCE_S
    _acknowledges_turns: ClassVar[bool] = False

    def __init__(self, key: Secret | None, settings: dict[str, Any], **how: Any) -> None:
        super().__init__(settings, **how)
        self._key = key
        self._greeted_at = 0.0
        self._heard = False

    def greet(self) -> None:
        if self._key:
            self._outgoing.append(json.dumps({"type": "auth", "api_key": self._key.reveal()}))
        super().greet()
        self._greeted_at = self._now
        self._due = self._now + READY_WITHOUT_GREETING_S

    def recall(self, said: Sequence[HistoryEntry]) -> None:
        """No word of the documents tells how to: it begins anew."""

    def _cancel(self) -> None:
        super()._cancel()
        self._await_silence()

    def _await_silence(self) -> None:
        """A cancelled reply is over when no more of it comes."""
        if self._replies.dying:
            self._quiet_at = self._now + REPLY_END_SILENCE_S

    def _understand(self, event: Fields) -> Iterator[Event]:
        if event["type"] == "error" and not self._heard:
            code, reason = error_events.read(event)
            if wait := busy_for(f"{code} {reason}".lower()):
                raise LinkLost(f"the service is busy: {reason}", retry_after=wait)
            raise LinkRefused(f"the service refuses the connection: {reason} (are the key and the settings right?)")
        self._heard = True
        yield from super()._understand(event)
        self._await_silence()

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        """A service that greets will acknowledge our settings, too."""
        if not self.ready:
            self._due = self._greeted_at + READY_WITHOUT_ACK_S
        return ()

    def _on_turn_taken(self, event: Fields) -> Iterator[Event]:
        """What comes from here on is the answer to this turn, whatever was still to come of another one."""
        if self._service_ends and self._replies.open:
            yield from self._on_reply_done({})
        yield from super()._on_turn_taken(event)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """Nothing is documented about a wrong key: a close frame before the first word is how it must look. What breaks
        has another cause, and so has a service that says it is busy."""
        judged = super().lost(error)
        early = isinstance(error, LinkClosed) and not self._heard and self._now - self._greeted_at <= KEY_REFUSAL_S
        if early and isinstance(judged, LinkLost) and not judged.retry_after:
            return LinkRefused(f"{judged}, before its first message; is the key right?")
        return judged
