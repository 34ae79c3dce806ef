"""A stand-in for xAI's Live Voice API, ``/v1/live``, an older beta. Pure: no socket, thread or clock.

Little of it is documented, and no second source is known: the key comes in the first message, nothing is acknowledged,
and five events come back, the pieces of a reply with nothing but ``delta``. What a wrong key looks like, whether a
commit alone brings a reply, and what else the service understands is documented nowhere; here an error that is a
string and a goodbye (``auth_close``), no (``commits``), and what its younger relative understands.
"""

from __future__ import annotations

import hmac
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, Received, ServiceSession
from ..engine.parsing import Refusal
from ..engine.realtime_base import HANDLERS
from ..engine.session_settings import Settings, TurnDetection, function_name
from ..engine.validation import Check, fields, flag, list_of, mapping, number, one_of, or_null, text
from .xai import XaiSession

DEFAULT_MODEL = "grok-3-live"
VOICES = ("alloy", "echo", "fable", "onyx", "nova", "shimmer")
USUAL = TurnDetection(threshold=0.5)
AUTH_S = 10.0
"""How long a client may take to show its key."""

SPOKEN = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
}
"""The pieces of a reply: the name that our relatives use -> the name here."""
BARE = ("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped")
"""What is said without any field."""


class XaiLive:
    """The service. Anybody may connect: the key comes later."""

    path = "/v1/live"

    def __init__(
        self,
        *,
        key: str | None = None,
        models: frozenset[str] | None = None,
        seed: int = 1,
        wall: float = 0.0,
    ) -> None:
        self._key, self._models, self._seed, self._wall = key, models, seed, wall
        self.routes = {("GET", self.path): self._live}

    def _live(self, asked: Asked, manners: Behaviour, heard: ConnectionLog) -> Answer | ServiceSession:
        if not asked.upgrade:
            return UPGRADE
        heard.model = DEFAULT_MODEL
        chance = random.Random(f"{self._seed}/{heard.number}")
        return XaiLiveSession(manners, heard, chance, key=self._key, models=self._models, wall=self._wall)


@dataclass(frozen=True)
class LiveSettings(Settings):
    """The settings of one session: flat, 24 kHz both ways, turns found by the service unless asked otherwise."""

    turn_detection: TurnDetection | None = USUAL

    def updated(self, session: Any) -> Self:
        session = mapping(session, "session")
        asked = {name: session[name] for name in _CHECKS if name in session}
        for name, value in asked.items():
            _CHECKS[name](value, f"session.{name}")
        asked = {**self.asked, **asked}
        detection = asked.get("turn_detection", {"type": "server_vad"}) or {}
        found = TurnDetection(
            threshold=detection.get("threshold", USUAL.threshold),
            silence_ms=detection.get("silence_duration_ms", USUAL.silence_ms),
            prefix_ms=detection.get("prefix_padding_ms", USUAL.prefix_ms),
        )
        return replace(
            self,
            turn_detection=found if detection.get("type") else None,
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
    """One connection to the service: its younger relative with its mouth nearly shut."""

    ANSWERS_COMMITS: ClassVar[bool] = False

    def __init__(
        self,
        manners: Behaviour,
        heard: ConnectionLog,
        chance: random.Random,
        *,
        key: str | None = None,
        models: frozenset[str] | None = None,
        wall: float = 0.0,
    ) -> None:
        super().__init__(manners, heard, chance, settings=LiveSettings(), wall=wall)
        self._key, self._models = key, models
        self._auth_by = math.inf

    def _say_hello(self) -> None:
        self._auth_by = self._now + AUTH_S

    def _wakes_at(self) -> float:
        return self._auth_by

    def _expire(self) -> None:
        self._emit("error", error="The session has reached its maximum duration.")
        self._bye(1000, "")  # "normal", which is all that is documented of closing

    def tick(self, now: float) -> None:
        super().tick(now)
        if not self._over and now >= self._auth_by:
            self._turn_away("Authentication timed out")
            self._set_deadline()

    def _handle(self, event: dict[str, Any], size: int) -> None:
        if self._auth_by == math.inf:
            super()._handle(event, size)
            return
        given = event.get("api_key")
        self.heard.note(Received(self._now, {**event, "api_key": "..."}, size=size))  # a key is not to be kept
        if event.get("type") != "auth":
            self._turn_away("Authentication required: the first message must be auth")
        elif not isinstance(given, str) or not given or not self._is_key(given):
            self._turn_away("Invalid API key")
        else:
            self._auth_by = math.inf

    def _is_key(self, given: str) -> bool:
        return self._key is None or hmac.compare_digest(given.encode("utf-8", "replace"), self._key.encode())

    def _turn_away(self, why: str) -> None:
        self._auth_by = math.inf
        self._emit("error", error=why)
        self._tell("trouble", why)
        self._bye(self.manners.auth_close, why)

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind in SPOKEN:
            event = {"type": SPOKEN[kind], "delta": fields["delta"]}
        elif kind in BARE:
            event = {"type": kind}
        elif kind == "error":
            event = {"type": kind, "error": fields["error"]}
        else:
            return
        self._outgoing.append(json.dumps(event))

    def _complain(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        if self._auth_by < math.inf:
            self._turn_away(str(refusal))
            return
        self._emit("error", error=str(refusal))
        self._tell("trouble", f"refused {str(event.get('type', 'a message'))[:60]}: {refusal}")

    def _session_update(self, event: dict[str, Any]) -> None:
        model = self._settings.updated(event.get("session")).asked.get("model", DEFAULT_MODEL)
        if self._models is not None and model not in self._models:
            raise Refusal(f"The model {model[:60]} does not exist", param="session.model")
        self.heard.model = model
        super()._session_update(event)

    def _say_settings(self, echo: dict[str, Any]) -> None:
        """Nothing is acknowledged."""

    _HANDLERS: ClassVar[Mapping[str, str]] = {**HANDLERS, "auth": "_auth_again"}

    def _auth_again(self, event: dict[str, Any]) -> None:
        raise Refusal("Already authenticated")
