"""A stand-in for a LiteLLM proxy, ``/v1/realtime``, in front of the other services of the family. Pure.

It does what release 1.106.2 was seen to do: opens the door before it dials, renames events or rewrites settings
depending on the ``OpenAI-Beta`` header, swallows pings, cannot stand binary frames, and repeats how the service behind
it ended. With ``binary_json`` it is as talkative as release 1.81.9. It has its own door; the services behind it take
any key.

What is known of the proxy and not imitated: other ways to bring a key, guardrails, several services under one name,
tokens for WebRTC.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

from ..contract import (
    UPGRADE,
    Answer,
    Asked,
    Behaviour,
    ConnectionLog,
    Drop,
    Goodbye,
    Happening,
    Message,
    ServiceSession,
    load,
)
from .rewriting import BETA_NAMES

INSIDE = {"xai": ("xai", "grok-voice-latest"), "openai": ("openai", "gpt-realtime-2.1")}
"""What an alias may stand for -> the service behind it, and its model."""

FLAT = ("modalities", "voice", "turn_detection", "input_audio_format", "output_audio_format")
OLD_FORMATS = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
OLD_CONTENT = {"output_audio": "audio", "output_text": "text"}
MOST_SWAPPED = 10_000
"""How many messages of the service behind are handed on at once; more is an endless loop."""


class Litellm:
    """The proxy: its address, and who may come in. Services behind it are made when they are first asked for."""

    path = "/v1/realtime"

    def __init__(
        self,
        *,
        key: str | None = None,
        models: frozenset[str] | None = None,
        seed: int = 1,
        wall: float = 0.0,
    ) -> None:
        """*models* are the aliases that exist, None for all that the manners name."""
        self._key, self._models = key, models
        self._behind = {name: load(service)(seed=seed, wall=wall) for name, (service, _) in INSIDE.items()}
        known = (self.path, "/realtime", "/openai/v1/realtime")
        elsewhere = {("GET", path): lambda _asked, _manners, _heard: Answer(403, None) for path in ("/*", "/v1/*")}
        self.routes = {**elsewhere, **{("GET", path): self._realtime for path in known}}

    def _realtime(self, asked: Asked, manners: Behaviour, heard: ConnectionLog) -> Answer | ServiceSession:
        given, alias = asked.bearer or asked.headers.get("api-key", ""), asked.query.get("model", "")
        right = self._key is None or hmac.compare_digest(given.encode(), self._key.encode())
        if not given or not right or not alias:
            return Answer(403, None)
        if not asked.upgrade:
            return UPGRADE
        heard.model = alias
        beta = asked.headers.get("openai-beta", "") == "realtime=v1"
        known = alias in manners.aliases and (self._models is None or alias in self._models)
        kind = manners.aliases[alias] if known else None
        return LitellmSession(manners, heard, kind, self._dial(kind, manners, heard, beta, asked.at), beta=beta)

    def _dial(
        self, kind: str | None, manners: Behaviour, heard: ConnectionLog, beta: bool, at: float
    ) -> Answer | ServiceSession:
        """Connect to the service behind an alias, with its own key and nothing of the query but the model."""
        if not kind:
            return Answer(502, None)
        headers = {"authorization": "Bearer upstream"}
        if beta and kind == "openai":
            headers["openai-beta"] = "realtime=v1"
        service, model = self._behind[kind], INSIDE[kind][1]
        asked = Asked("GET", service.path, {"model": model}, headers, upgrade=True, at=at)
        answer: Answer | ServiceSession = service.routes["GET", service.path](asked, manners, heard)
        return answer


class LitellmSession(ServiceSession):
    """One connection through the proxy. *kind* is the service behind: None unknown, "" not to be reached."""

    def __init__(
        self, manners: Behaviour, heard: ConnectionLog, kind: str | None, behind: Answer | ServiceSession, *, beta: bool
    ) -> None:
        super().__init__(manners, heard)
        self._kind, self._beta = kind, beta
        self._behind = behind if isinstance(behind, ServiceSession) else None
        self._over = self._dead = False

    def greet(self, now: float) -> None:
        if self._behind:
            self._behind.greet(now)
            self._pass_on(now)
        elif self._kind is None:
            self._turn_away(f"Invalid model name passed in model={self.heard.model[:60]}", told=True)
        else:
            self._turn_away("Internal server error: the service cannot be reached", told=False)

    def _turn_away(self, why: str, *, told: bool) -> None:
        self._tell_trouble(why)
        if told and not self.manners.binary_json:
            self._error(why)
        self._over = True
        self._outgoing.append(Drop() if self.manners.binary_json else Goodbye(1011, why[:120]))

    def _tell_trouble(self, text: str) -> None:
        self._outgoing.append(Happening("trouble", text))

    def receive(self, message: Message, now: float) -> None:
        if self._over or self._behind is None or self._dead:
            return
        if isinstance(message, bytes):
            self._stumble()
            return
        self._behind.manners = self.manners
        self._behind.receive(self._upwards(message), now)
        self._pass_on(now)

    def _stumble(self) -> None:
        """A binary frame is more than the proxy can bear."""
        self._tell_trouble("a binary frame: the proxy cannot bear it")
        self._dead = True
        if not self.manners.binary_json:
            self._over, self.deadline = True, None
            self._outgoing.append(Drop())

    def tick(self, now: float) -> None:
        if self._behind and not self._over:
            self._behind.manners = self.manners
            self._behind.tick(now)
            self._pass_on(now)

    def hung_up(self, now: float) -> None:
        if self._behind:
            self._behind.hung_up(now)

    # Upwards ----------------------------------------------------------------------------------------------------------

    def _upwards(self, message: str) -> str:
        """Without the header of the beta, old settings are written anew; everything else goes through as it is."""
        if self._beta:
            return message
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            return message
        if not isinstance(event, dict) or event.get("type") != "session.update":
            return message
        session = event.get("session")
        return json.dumps({**event, "session": rewritten(session)}) if isinstance(session, dict) else message

    # Downwards --------------------------------------------------------------------------------------------------------

    def _pass_on(self, now: float) -> None:
        """Hand on what the service behind says, and ask for replies that nobody wanted."""
        assert self._behind is not None, "who speaks must be there"  # noqa: S101
        for _ in range(MOST_SWAPPED):
            items = self._behind.outgoing()
            asks = [item for item in items if self._hand_on(item)]
            if not asks or self._over or not self.manners.injects:
                break
            for _ask in asks:
                self._behind.receive('{"type": "response.create"}', now)
        self.deadline = None if self._over else self._behind.deadline

    def _hand_on(self, item: object) -> bool:
        """Hand on one thing; return whether it is a transcript after which the proxy asks for a reply."""
        match item:
            case Happening():
                self._outgoing.append(item)
            case Goodbye(code, reason):
                self._repeat_goodbye(code, reason)
            case Drop():
                self._repeat_goodbye(1011, "the service is gone")
            case str() if not self._over and not self._dead:
                return self._hand_on_event(item)
        return False  # binary frames of the service are lost on the way

    def _repeat_goodbye(self, code: int, reason: str) -> None:
        if self.manners.binary_json:
            self._dead = True  # the old release says nothing, for ever
            return
        if code != 1000:
            self._error(f"upstream websocket closed with code {code}: {reason}")
        self._over = True
        self._outgoing.append(Goodbye(code, reason))

    def _error(self, text: str) -> None:
        self._out({"type": "error", "error": {"type": "server_error", "message": text}})

    def _hand_on_event(self, message: str) -> bool:
        event: dict[str, Any] = json.loads(message)
        kind = event["type"]
        if self._kind == "xai":
            if kind == "ping" and not self.manners.binary_json:
                return False
            event = normal(event)
        if self._beta:
            if kind == "conversation.item.done":
                return False
            event = renamed(event)
        self._out(event)
        return bool(kind == "conversation.item.input_audio_transcription.completed")

    def _out(self, event: Mapping[str, Any]) -> None:
        text = json.dumps(event)
        self._outgoing.append(text.encode() if self.manners.binary_json else text)


def rewritten(session: dict[str, Any]) -> dict[str, Any]:
    """Return flat settings in the shape of general availability. What stands in both shapes is taken from the flat."""
    new = {name: value for name, value in session.items() if name not in (*FLAT, "input_audio_transcription")}
    new["type"] = "realtime"
    given = session.get("audio")
    sides = given.items() if isinstance(given, dict) else ()
    audio = {side: dict(value) for side, value in sides if isinstance(value, dict)}
    heard, said = audio.get("input", {}), audio.get("output", {})
    if isinstance(session.get("modalities"), list):
        new["output_modalities"] = ["audio"] if "audio" in session["modalities"] else ["text"]
    for old, side, name in (
        ("voice", said, "voice"),
        ("turn_detection", heard, "turn_detection"),
        ("input_audio_transcription", heard, "transcription"),
    ):
        if old in session:
            side[name] = session[old]
    for old, side in (("input_audio_format", heard), ("output_audio_format", said)):
        if isinstance(session.get(old), str):
            side["format"] = OLD_FORMATS.get(session[old], session[old])
    filled = {name: side for name, side in (("input", heard), ("output", said)) if side}
    return {**new, "audio": filled} if filled else new


def renamed(event: dict[str, Any]) -> dict[str, Any]:
    """Return *event* with the names of the beta."""
    return dict(_old_content({**event, "type": BETA_NAMES.get(event["type"], event["type"])}))


def _old_content(value: Any) -> Any:
    if isinstance(value, list):
        return [_old_content(each) for each in value]
    if isinstance(value, dict):
        inner = {name: _old_content(each) for name, each in value.items()}
        kind = inner.get("type")
        return {**inner, "type": OLD_CONTENT[kind]} if isinstance(kind, str) and kind in OLD_CONTENT else inner
    return value


def normal(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of xAI with what it lacks."""
    kind, new = event["type"], dict(event)
    if kind.startswith(("response.output_audio", "response.content_part")):
        new = {"output_index": 0, "content_index": 0, **new}
    if kind == "response.content_part.done":
        new.setdefault("part", {"type": "audio", "transcript": ""})
    item = new.get("item")
    if isinstance(item, dict) and item.get("role") == "tool":
        new["item"] = {**item, "role": "assistant"}
    response = new.get("response")
    if isinstance(response, dict) and response.get("usage") == {}:
        zeros = {"total_tokens": 0, "input_tokens": 0, "output_tokens": 0}
        new["response"] = {**response, "usage": None if kind == "response.created" else zeros}
    return new
