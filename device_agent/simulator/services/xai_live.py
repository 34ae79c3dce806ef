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
from ..engine.validation import Check, fields, flag, list_of, mapping, number, one_of, or_null, text
from .xai import XaiSession

DEFAULT_MODEL = "grok-3-live"
VOICES = ("alloy", "echo", "fable", "onyx", "nova", "shimmer")
USUAL = TurnDetection(threshold=0.5)
AUTH_S = 10.0
"""How long a client may take to show its key."""

EVENTS = {
    "response.output_audio.delta": ("response.audio.delta", ("delta",)),
    "response.output_audio_transcript.delta": ("response.audio_transcript.delta", ("delta",)),
    "input_audio_buffer.speech_started": ("input_audio_buffer.speech_started", ()),
    "input_audio_buffer.speech_stopped": ("input_audio_buffer.speech_stopped", ()),
    "error": ("error", ("error",)),
}
"""Name of an event at ``/v1/realtime`` -> its name here, and its fields. All others are not sent."""


class XaiLive(Service):
    """The service. Anybody may connect: the key comes later."""

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
        asked = {name: value for name, value in mapping(session, "session").items() if name in _CHECKS}
        for name, value in asked.items():
            _CHECKS[name](value, f"session.{name}")
        asked = {**self.asked, **asked}
        detection = asked.get("turn_detection", {"type": "server_vad"}) or {}
        return replace(
            self,
            turn_detection=vad_of(detection, USUAL) if detection.get("type") else None,
            functions=tuple(filter(None, map(function_name, asked.get("tools", [])))),
            asked=asked,
        )

    def echo(self, model: str) -> dict[str, Any]:
        return {"model": model, **self.asked}


_CHECKS: dict[str, Check] = {
    "model": text,
    "voice": one_of(*VOICES),
    "instructions": text,
    "turn_detection": or_null(
        fields(
            type=one_of("server_vad", None),
            threshold=number(0, 1),
            silence_duration_ms=number(0, 10_000, whole=True),
            prefix_padding_ms=number(0, 10_000, whole=True),
            create_response=flag,
            interrupt_response=flag,
        )
    ),
    "tools": list_of(fields(name=text, function=fields(name=text)), 128),
}


class XaiLiveSession(XaiSession):
    """One connection to *service*."""

    ANSWERS_COMMITS: ClassVar[bool] = False
    HANDLERS: ClassVar[Mapping[str, str]] = {**XaiSession.HANDLERS, "auth": "_auth_again"}

    def __init__(self, behaviour: Behaviour, log: ConnectionLog, chance: random.Random, service: XaiLive) -> None:
        super().__init__(behaviour, log, chance, LiveSettings())
        self._service = service
        self._authenticated = False

    def _emit_greeting(self) -> None:
        self._after(AUTH_S, self._time_out)

    def _time_out(self) -> None:
        if not self._authenticated:
            self._turn_away("Authentication timed out")

    def _expire(self) -> None:
        self._emit("error", error="The session has reached its maximum duration.")
        self._close(1000, "")  # "normal", which is all that is documented of closing

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

    def _turn_away(self, why: str) -> None:
        self._emit("error", error=why)
        self._report("trouble", why)
        self._close(1008, why)

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind in EVENTS:
            name, shown = EVENTS[kind]
            self._outgoing.append(json.dumps({"type": name, **{field: fields[field] for field in shown}}))

    def _refuse(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        if not self._authenticated:
            self._turn_away(str(refusal))
            return
        self._emit("error", error=str(refusal))
        self._report("trouble", f"refused {str(event.get('type', 'a message'))[:60]}: {refusal}")

    def _session_update(self, event: dict[str, Any]) -> None:
        model = self._settings.updated(event.get("session")).asked.get("model", DEFAULT_MODEL)
        if not self._service.has_model(model):
            raise Refusal(f"The model {model[:60]} does not exist", param="session.model")
        self.log.model = model
        super()._session_update(event)

    def _emit_settings(self, echo: dict[str, Any]) -> None:
        """Nothing is acknowledged."""

    def _auth_again(self, event: dict[str, Any]) -> None:
        raise Refusal("Already authenticated")
