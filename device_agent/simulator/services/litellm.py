"""Simulated LiteLLM proxy, ``/v1/realtime``, in front of the simulated xAI and OpenAI. Pure.

It does what release 1.106.2 was seen to do: takes the connection before it dials, renames events or rewrites settings
depending on the ``OpenAI-Beta`` header, swallows pings, fails on binary frames, and repeats how the service behind it
ended. With ``binary_json`` it behaves as release 1.81.9. It has its own key; the services behind it accept any.

Not imitated: other ways to bring a key, guardrails, several services under one name, tokens for WebRTC.
"""

from __future__ import annotations

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
    Service,
    ServiceSession,
    load,
)
from .rewriting import BETA_NAMES

UPSTREAMS = {"xai": "grok-voice-latest", "openai": "gpt-realtime-2.1"}
"""What an alias may stand for: the service behind it -> its model."""
OLD_FORMATS = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
OLD_CONTENT = {"output_audio": "audio", "output_text": "text"}
FLAT = {
    "voice": ("output", "voice"),
    "turn_detection": ("input", "turn_detection"),
    "input_audio_transcription": ("input", "transcription"),
    "input_audio_format": ("input", "format"),
    "output_audio_format": ("output", "format"),
}
"""Setting of the beta -> where it stands in ``audio`` now."""
MAX_ASKED = 10_000
"""Replies that the proxy asks for in a row; more is an endless loop."""


class Litellm(Service):
    """The proxy. *models* are the aliases that exist, None for all in the behaviour."""

    path = "/v1/realtime"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._upstreams = {name: load(name)(wall=self._wall) for name in UPSTREAMS}
        self.routes = {
            **{("GET", path): lambda _asked, _behaviour, _log: Answer(403, None) for path in ("/*", "/v1/*")},
            **{("GET", path): self._realtime for path in (self.path, "/realtime", "/openai/v1/realtime")},
        }

    def _realtime(self, asked: Asked, behaviour: Behaviour, log: ConnectionLog) -> Answer | ServiceSession:
        alias = asked.query.get("model", "")
        if not alias or not self.is_key(asked.bearer or asked.headers.get("api-key")):
            return Answer(403, None)
        if not asked.upgrade:
            return UPGRADE
        log.model = alias
        beta = asked.headers.get("openai-beta", "") == "realtime=v1"
        name = behaviour.aliases.get(alias) if self.has_model(alias) else None
        return LitellmSession(behaviour, log, name, self._dial(name, behaviour, log, beta, asked.at), beta=beta)

    def _dial(
        self, name: str | None, behaviour: Behaviour, log: ConnectionLog, beta: bool, at: float
    ) -> ServiceSession | None:
        """Connect to the service called *name*, with another key and nothing of the query but the model."""
        if not name:
            return None
        headers = {"authorization": "Bearer upstream"}
        if beta and name == "openai":
            headers["openai-beta"] = "realtime=v1"
        service = self._upstreams[name]
        asked = Asked("GET", service.path, {"model": UPSTREAMS[name]}, headers, upgrade=True, at=at)
        answer = service.routes["GET", service.path](asked, behaviour, log)
        return answer if isinstance(answer, ServiceSession) else None


class LitellmSession(ServiceSession):
    """One connection through the proxy to the service called *name*: None unknown, "" not to be reached."""

    def __init__(
        self,
        behaviour: Behaviour,
        log: ConnectionLog,
        name: str | None,
        upstream: ServiceSession | None,
        *,
        beta: bool,
    ) -> None:
        super().__init__(behaviour, log)
        self._name, self._upstream, self._beta = name, upstream, beta
        self._dead = False  # it stays connected and does nothing

    def connected(self, now: float) -> None:
        if self._upstream:
            self._upstream.connected(now)
            self._pass_on(now)
            return
        why = "Internal server error: the service cannot be reached"
        if self._name is None:
            why = f"Invalid model name passed in model={self.log.model[:60]}"
        self._report("trouble", why)
        if self.behaviour.binary_json:
            self._drop()
            return
        if self._name is None:
            self._emit_error(why)
        self._close(1011, why[:120])

    def _drop(self) -> None:
        self._closed, self.deadline = True, None
        self._outgoing.append(Drop())

    def receive(self, message: Message, now: float) -> None:
        if self._closed or self._upstream is None or self._dead:
            return
        if isinstance(message, bytes):
            self._report("trouble", "a binary frame: the proxy fails on it")
            self._dead = True
            if not self.behaviour.binary_json:
                self._drop()
            return
        self._upstream.behaviour = self.behaviour
        self._upstream.receive(message if self._beta else upstream_message(message), now)
        self._pass_on(now)

    def tick(self, now: float) -> None:
        if self._upstream and not self._closed:
            self._upstream.behaviour = self.behaviour
            self._upstream.tick(now)
            self._pass_on(now)

    def disconnected(self, now: float) -> None:
        if self._upstream:
            self._upstream.disconnected(now)

    def _pass_on(self, now: float) -> None:
        """Send what the service behind sends, and ask it for the replies that the proxy wants."""
        assert self._upstream is not None, "there was something to pass on"  # noqa: S101
        for _ in range(MAX_ASKED):
            asks = [item for item in self._upstream.outgoing() if self._pass_on_item(item)]
            if not asks or self._closed or not self.behaviour.injects:
                break
            for _ask in asks:
                self._upstream.receive('{"type": "response.create"}', now)
        self.deadline = None if self._closed else self._upstream.deadline

    def _pass_on_item(self, item: object) -> bool:
        """Send one thing; return whether it is a transcript after which the proxy asks for a reply."""
        match item:
            case Happening():
                self._outgoing.append(item)
            case Goodbye(code, reason):
                self._repeat_close(code, reason)
            case str() if not self._closed and not self._dead:
                return self._pass_on_event(json.loads(item))
        return False

    def _repeat_close(self, code: int, reason: str) -> None:
        if self.behaviour.binary_json:
            self._dead = True  # the old release sends nothing any more
            return
        if code != 1000:
            self._emit_error(f"upstream websocket closed with code {code}: {reason}")
        self._close(code, reason)

    def _pass_on_event(self, event: dict[str, Any]) -> bool:
        kind = event["type"]
        if self._name == "xai":
            if kind == "ping" and not self.behaviour.binary_json:
                return False
            event = normal(event)
        if self._beta:
            if kind == "conversation.item.done":
                return False
            event = _old_content({**event, "type": BETA_NAMES.get(kind, kind)})
        self._emit(event)
        return bool(kind == "conversation.item.input_audio_transcription.completed")

    def _emit_error(self, text: str) -> None:
        self._emit({"type": "error", "error": {"type": "server_error", "message": text}})

    def _emit(self, event: Mapping[str, Any]) -> None:
        text = json.dumps(event)
        self._outgoing.append(text.encode() if self.behaviour.binary_json else text)


def upstream_message(message: str) -> str:
    """Return *message* with settings in the shape of general availability; everything else goes through as it is."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return message
    if not isinstance(event, dict) or event.get("type") != "session.update":
        return message
    session = event.get("session")
    return json.dumps({**event, "session": rewritten(session)}) if isinstance(session, dict) else message


def rewritten(session: dict[str, Any]) -> dict[str, Any]:
    """Return flat settings in the shape of general availability. What stands in both shapes is taken from the flat."""
    new = {name: value for name, value in session.items() if name not in (*FLAT, "modalities")}
    new["type"] = "realtime"
    given = session.get("audio")
    sides = given.items() if isinstance(given, dict) else ()
    audio: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    audio |= {side: dict(value) for side, value in sides if isinstance(value, dict)}
    if isinstance(session.get("modalities"), list):
        new["output_modalities"] = ["audio"] if "audio" in session["modalities"] else ["text"]
    for old, (side, name) in FLAT.items():
        if old in session:
            value = session[old]
            audio[side][name] = OLD_FORMATS.get(value, value) if name == "format" and isinstance(value, str) else value
    filled = {side: audio[side] for side in ("input", "output") if audio[side]}
    return {**new, "audio": filled} if filled else new


def _old_content(value: Any) -> Any:
    """Return *value* with the types that content had in the beta."""
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
