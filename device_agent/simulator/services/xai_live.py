"""Simulated Live Voice API of xAI, ``/v1/live``, an older beta. Pure.

Little of it is documented: the key comes in the first message, nothing is acknowledged, and five events come back, the
pieces of a reply with nothing but ``delta``. Documented nowhere are the answer to a wrong key (here an error that is a
string, and 1008), whether a commit alone brings a reply (here no), and what else the service understands (here what
``/v1/realtime`` does).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, Received, Service, ServiceSession
from ..engine.parsing import Refusal
from ..engine.session_settings import Settings, TurnDetection, function_name, vad_of
from ..engine.validation import Check, fields, list_of, one_of, or_null, text
from .xai import XaiSession
from .xai_settings import DETECTION

DEFAULT_MODEL = "grok-3-live"
VOICES = ("alloy", "echo", "fable", "onyx", "nova", "shimmer")
USUAL = TurnDetection(threshold=0.5)
AUTH_S = 10.0
"""How long a client may take to show its key."""
AUTH = "auth"
"""Owner of the step that ends a session without a key."""

EVENTS = {
    "response.output_audio.delta": ("response.audio.delta", ("delta",)),
    "response.output_audio_transcript.delta": ("response.audio_transcript.delta", ("delta",)),
    "input_audio_buffer.speech_started": ("input_audio_buffer.speech_started", ()),
    "input_audio_buffer.speech_stopped": ("input_audio_buffer.speech_stopped", ()),
    "error": ("error", ("error",)),
}
"""Name of an event at ``/v1/realtime`` -> its name here, and its fields. All others are not sent."""


class XaiLive(Service):
    """The service. Any client may connect: the key comes later."""

    path = "/v1/live"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.routes = {("GET", self.path): self._live}

    def _live(self, asked: Asked, behaviour: Behaviour, log: ConnectionLog) -> Answer | ServiceSession:
        log.model = DEFAULT_MODEL
        return XaiLiveSession(behaviour, log, self._random(log), self) if asked.upgrade else UPGRADE


@dataclass(frozen=True)
class LiveSettings(Settings):
    """The settings of one session: flat, 24 kHz both ways, server VAD unless asked otherwise."""

    turn_detection: TurnDetection | None = USUAL

    def updated(self, session: Any) -> Self:
        fields(strict=False, **FIELDS)(session, "session")
        asked = {**self.asked, **{name: value for name, value in session.items() if name in FIELDS}}
        detection = asked.get("turn_detection", {"type": "server_vad"}) or {}
        return replace(
            self,
            turn_detection=vad_of(detection, USUAL) if detection.get("type") else None,
            functions=tuple(filter(None, map(function_name, asked.get("tools", [])))),
            asked=asked,
        )

    def echo(self, model: str) -> dict[str, Any]:
        return {"model": model, **self.asked}


FIELDS: dict[str, Check] = {
    "model": text,
    "voice": one_of(*VOICES),
    "instructions": text,
    "turn_detection": or_null(DETECTION),
    "tools": list_of(fields(name=text, function=fields(name=text)), 128),
}


class XaiLiveSession(XaiSession):
    """One connection to *service*."""

    ANSWERS_COMMITS: ClassVar[bool] = False

    def __init__(self, behaviour: Behaviour, log: ConnectionLog, rng: random.Random, service: XaiLive) -> None:
        super().__init__(behaviour, log, rng, LiveSettings())
        self._service = service
        self._authenticated = False

    def _emit_greeting(self) -> None:
        self._after(AUTH_S, lambda: self._turn_away("Authentication timed out"), AUTH)

    def _expire(self) -> None:
        text = "The session has reached its maximum duration."
        self._end_session("max_duration", None, text, 1000, "")  # "normal", which is all that is documented of closing

    def _handle(self, event: dict[str, Any]) -> None:
        if self._authenticated:
            super()._handle(event)
            return
        self.log.add_message(Received(self._now, {**event, "api_key": "..."}))  # a key is not to be kept
        if event.get("type") != "auth":
            self._turn_away("Authentication required: the first message must be auth")
        elif not self._service.is_key(event.get("api_key")):
            self._turn_away("Invalid API key")
        else:
            self._authenticated = True
            self._schedule.cancel(AUTH)

    def _turn_away(self, why: str) -> None:
        self._end_session("auth", None, why, 1008, why)

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind in EVENTS:
            name, shown = EVENTS[kind]
            self._outgoing.append(json.dumps({"type": name, **{field: fields[field] for field in shown}}))

    def _refuse(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        if self._authenticated:
            super()._refuse(refusal, event)
        else:
            self._turn_away(str(refusal))

    def _emit_error(
        self, _kind: str, _code: str | None, message: str, _param: str | None = None, _event_id: object = None
    ) -> None:
        self._emit("error", error=message)

    def _session_update(self, event: dict[str, Any]) -> None:
        model = self._settings.updated(event.get("session")).asked.get("model", DEFAULT_MODEL)
        if not self._service.has_model(model):
            raise Refusal(f"The model {model[:60]} does not exist", param="session.model")
        self.log.model = model
        super()._session_update(event)

    def _emit_settings(self, echo: dict[str, Any]) -> None:
        """Nothing is acknowledged."""
