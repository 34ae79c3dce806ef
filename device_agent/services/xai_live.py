"""xAI Live Voice API (``/v1/live``), an older beta. Little of it is documented: the key is sent in the first message,
no message is acknowledged, and events may hold ``delta`` alone. So much here is by rule; where the documents are silent
OpenAI's beta protocol is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import Event
from ..net.models import Endpoint
from . import error_events
from .base import Capabilities, HistoryEntry, Service, Session
from .closing import busy_for
from .json_fields import Fields
from .realtime_session import READY_WITHOUT_ACK_S, Dialect, Handler, RealtimeSession
from .tool_calls import function_tools

READY_WITHOUT_GREETING_S = 1.0  # seconds from session.update until a silent service counts as ready
REPLY_END_SILENCE_S = 1.5
"""Seconds without a new piece after which a reply counts as over, where no event reports its end."""
KEY_REFUSAL_S = 10.0  # a service that closes the connection so early, without an event, refuses the key
XAI_LIVE_DIALECT = Dialect(clips=False, acknowledges_turns=False, reply_end_timeout_s=REPLY_END_SILENCE_S)


@dataclass(frozen=True)
class XaiLive(Service):
    """The service at api.x.ai, or a compatible one at *url*."""

    url: str = "wss://api.x.ai/v1/live"
    model: str = "grok-3-live"
    voice: str = "alloy"

    can = Capabilities(
        push_to_talk="tried, not documented",
        cancel="tried, not documented",
        typed="tried, not documented",
        clips="streamed",
        tools="tried, not documented",
        language="asked for",
        announcements="asked for",
    )

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        return Endpoint(f"xai-live at {urlsplit(self.url).hostname}", self.url)

    def session(self) -> Session:
        return XaiLiveSession(self, self._settings())

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
    """One connection. Replies have no id and no end of their own: they begin with a piece and end with silence."""

    def __init__(self, service: Service, settings: dict[str, Any]) -> None:
        super().__init__(service, settings, XAI_LIVE_DIALECT)
        self._key = service.key
        self._greeted_at = 0.0
        self._heard = False  # an event was received

    def greet(self) -> None:
        if self._key:
            self._send_event("auth", api_key=self._key.reveal())
        super().greet()
        self._greeted_at = self._now
        self._ready_at = self._now + READY_WITHOUT_GREETING_S

    def recall(self, said: Sequence[HistoryEntry]) -> None:
        """Not documented: the conversation starts anew."""

    def _cancel(self) -> None:
        super()._cancel()
        self._await_silence()

    def _await_silence(self) -> None:
        """A cancelled reply is over when no more pieces of it arrive."""
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
        """A service that greets will acknowledge the settings, too."""
        if not self.ready:
            self._ready_at = self._greeted_at + READY_WITHOUT_ACK_S
        return ()

    def _on_turn_ended(self, event: Fields) -> Iterator[Event]:
        """What follows is the reply to this turn, even if another reply was under way."""
        if self._detection.by_service and self._replies.open:
            yield from self._on_reply_done({})
        yield from super()._on_turn_ended(event)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """Nothing is documented about a wrong key: it must look like a close frame before the first event. A broken
        connection has another cause, and so has a service that says it is busy."""
        judged = super().lost(error)
        early = isinstance(error, LinkClosed) and not self._heard and self._now - self._greeted_at <= KEY_REFUSAL_S
        if early and isinstance(judged, LinkLost) and not judged.retry_after:
            return LinkRefused(f"{judged}, before its first message; is the key right?")
        return judged

    EVENTS: ClassVar[Mapping[str, Handler]] = {
        **RealtimeSession.EVENTS,
        "session.created": _on_greeting,
        "conversation.created": _on_greeting,
        "input_audio_buffer.speech_stopped": _on_turn_ended,
        "response.audio.done": RealtimeSession.EVENTS["response.done"],
        "response.output_audio.done": RealtimeSession.EVENTS["response.done"],
    }
