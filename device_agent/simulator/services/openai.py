"""Simulated OpenAI realtime service, ``/v1/realtime``, as of general availability. Pure.

Names, order and shapes of the events are as recorded from the live service in July 2026.

Not imitated: replies beside the conversation, idle timeouts, images, transcription sessions, WebRTC, the list of the
tools of an MCP server, and approvals: a tool of type ``mcp`` is used only if ``require_approval`` says never.
"""

from __future__ import annotations

import math
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ...dsp.pcm import seconds
from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, Service, ServiceSession
from ..engine.answers import call_for, sung
from ..engine.auth import Tokens
from ..engine.items import Item
from ..engine.parsing import Refusal, parse
from ..engine.realtime_base import RealtimeBase, Reply
from ..engine.reply_audio import Piece
from ..engine.schedule import Step
from ..engine.session_settings import Format, TurnDetection
from .openai_settings import EVENTS, PCM, TOKEN, USUAL, USUAL_DETECTION, OpenaiSettings, functions

DEFAULT_MODEL = "gpt-realtime-2.1"
USUAL_TOKEN_S = 600
BETA_GONE = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
NO_SLOT = "All session slots are in use"
LETTERS = string.ascii_letters + string.digits

TRANSCRIPT_S = 0.1
"""How long after a turn its transcript comes: it is made beside the reply, and often after its beginning."""
ARGUMENTS_AT_ONCE = 12
"""Characters of a function's arguments in one piece."""
PROGRESS_S = 5.0
"""How often a tool of the service is reported to be at work."""
SESSION_SLOT_S = 3.0
"""How long after its end a session still takes one of the slots."""
PHASES = ("commentary", "final_answer")
"""What the items of a reply are, where there are two."""


class Openai(Service):
    """The service: its routes, tokens and session slots."""

    path = "/v1/realtime"
    token_prefix = "ek_"  # noqa: S105

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._tokens = Tokens(self.token_prefix)
        self._sessions: list[OpenaiSession] = []
        self.routes = {
            ("GET", self.path): self._realtime,
            ("POST", "/v1/realtime/client_secrets"): self._client_secret,
        }

    def _realtime(self, asked: Asked, behaviour: Behaviour, log: ConnectionLog) -> Answer | ServiceSession:
        token = self._tokens.find(asked.bearer, asked.at)
        if token is None and not self.is_key(asked.bearer):
            return refused(401, "invalid_api_key", "Incorrect API key provided.")
        brought = token.session if token else None
        log.model = asked.query.get("model") or (brought or {}).get("model") or DEFAULT_MODEL
        if not self.has_model(log.model):
            return refused(404, "model_not_found", f"The model {log.model} does not exist.")
        if not asked.upgrade:
            return UPGRADE
        settings = OpenaiSettings().updated(brought) if brought else OpenaiSettings()
        beta = "realtime=v1" in asked.headers.get("openai-beta", "")
        session = OpenaiSession(behaviour, log, self._random(log), settings, self._wall, beta=beta)
        self._sessions = [each for each in self._sessions if asked.at < each.left + SESSION_SLOT_S]
        session.has_slot = not behaviour.sessions or len(self._sessions) < behaviour.sessions
        if session.has_slot:
            self._sessions.append(session)
        return session

    def _client_secret(self, asked: Asked, _behaviour: Behaviour, _log: ConnectionLog) -> Answer:
        """Return a token, and the settings that a connection with it begins with."""
        if not self.is_key(asked.bearer):
            return refused(401, "invalid_api_key", "Incorrect API key provided.")
        try:
            wish = parse(asked.body or b"{}")
            TOKEN(wish, "")
            session = wish.get("session", {"type": "realtime"})
            settings = OpenaiSettings().updated(session)
        except Refusal as refusal:
            return refused(400, refusal.code, str(refusal), refusal.param)
        until = asked.at + (wish.get("expires_after") or {}).get("seconds", USUAL_TOKEN_S)
        value = self._tokens.mint(until, session)
        shown = {**settings.echo(session.get("model", DEFAULT_MODEL)), "id": f"sess_{value[-21:]}", "expires_at": 0}
        return Answer(200, {"value": value, "expires_at": int(self._wall + until), "session": shown})


def refused(status: int, code: str, message: str, param: str | None = None) -> Answer:
    """Return a refusal in the service's shape."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": param}
    return Answer(status, {"error": error})


class OpenaiSession(RealtimeBase):
    """One connection. *beta*: the client asks for the shape of the beta, which is gone."""

    PART_TYPES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "user": ("input_text", "input_audio", "input_image"),
        "assistant": ("output_text", "output_audio"),
        "system": ("input_text",),
    }
    HANDLERS: ClassVar[Mapping[str, str]] = {
        **RealtimeBase.HANDLERS,
        "conversation.item.retrieve": "_item_retrieve",
    }

    def __init__(
        self,
        behaviour: Behaviour,
        log: ConnectionLog,
        rng: random.Random,
        settings: OpenaiSettings | None = None,
        wall: float = 0.0,
        *,
        beta: bool = False,
    ) -> None:
        super().__init__(behaviour, log, rng, settings or OpenaiSettings(), wall)
        self._beta = beta
        self._session, self._conversation = self._id("sess"), self._id("conv")
        self._expires_at = self.left = math.inf  # left: when the connection ended
        self.has_slot = True

    def disconnected(self, now: float) -> None:
        self.left = now

    # The connection ---------------------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        return f"{kind}_{''.join(self._rng.choices(LETTERS, k=21))}"

    def connected(self, now: float) -> None:
        self._expires_at = now + (self.behaviour.expires_s or self.behaviour.session_s or self.SESSION_S)
        super().connected(now)

    def _emit_greeting(self) -> None:
        if self._beta:
            code = "beta_api_shape_disabled"
            self._end_session("invalid_request_error", code, BETA_GONE, 4000, f"invalid_request_error.{code}")
        elif not self.has_slot:  # as some self-hosted servers refuse it
            self._end_session("session_limit_reached", None, f"{NO_SLOT}.", 1008, NO_SLOT)
        elif self.behaviour.greeting == "full":
            self._emit("session.created", session=self._shown_session())
        elif self.behaviour.greeting == "conversation":
            conversation = {"id": self._conversation, "object": "realtime.conversation"}
            self._emit("conversation.created", conversation=conversation)

    def _shown_session(self) -> dict[str, Any]:
        until = int(self._wall + self._expires_at)
        shown = {**self._settings.echo(self.log.model), "id": self._session, "expires_at": until}
        if self.behaviour.output_rate:
            told = {**shown["audio"]["output"], "format": {**PCM, "rate": self.behaviour.output_rate}}
            shown["audio"] = {**shown["audio"], "output": told}
        return shown

    def _expire(self) -> None:
        minutes = (self.behaviour.session_s or self.SESSION_S) / 60
        text = f"Your session hit the maximum duration of {minutes:g} minutes."
        self._end_session("invalid_request_error", "session_expired", text, 1001, text)

    def _unknown(self, kind: str) -> Refusal:
        return Refusal(f"Invalid value: '{kind}'. Supported values are: {', '.join(EVENTS)}.", param="type")

    def _check(self, kind: str, event: dict[str, Any]) -> None:
        EVENTS[kind](event, "")

    def _emit_settings(self, echo: dict[str, Any]) -> None:
        shown = self.log.settings = self._shown_session()
        self._emit("session.updated", session=shown)

    def _session_update(self, event: dict[str, Any]) -> None:
        super()._session_update(event)
        if self.behaviour.output_rate:
            self._settings = replace(self._settings, output=Format(self.behaviour.output_rate))

    @property
    def _detection(self) -> TurnDetection | None:
        return self._settings.turn_detection or (USUAL_DETECTION if self.behaviour.automatic else None)

    # The user's turns -------------------------------------------------------------------------------------------------

    def _emit_speech_started(self, item: str, at: int) -> None:
        self._emit("input_audio_buffer.speech_started", item_id=item, audio_start_ms=at)

    def _emit_speech_stopped(self, item: str, at: int, text: str) -> None:
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=at)
        self._emit_committed(item, text)

    def _emit_committed(self, item: str, text: str) -> None:
        self._emit("input_audio_buffer.committed", item_id=item, previous_item_id=self._items.last)
        self._add(Item(item, "message", "user"), "completed", content=[{"type": "input_audio", "transcript": None}])
        if self._settings.transcribes:
            self._after(TRANSCRIPT_S, lambda: self._transcribe(item, text))

    def _transcribe(self, item: str, text: str) -> None:
        """Emit a transcript beside the reply, piece by piece, and then as a whole."""
        kind = "conversation.item.input_audio_transcription"
        place = {"item_id": item, "content_index": 0}
        if not self.behaviour.transcribes:
            error = {"type": "server_error", "code": "transcription_failed", "message": "Input transcription failed."}
            self._emit(f"{kind}.failed", **place, error={**error, "param": None})
            return
        for index, word in enumerate(text.split(" ")):
            delta = f" {word}" if index else word
            self._emit(f"{kind}.delta", **place, delta=delta)
        known = self._items.get(item)
        if known:
            known.shown["content"] = [{"type": "input_audio", "transcript": text}]
        usage = {"type": "duration", "seconds": math.ceil(seconds(known.sound, known.rate)) if known else 0}
        self._emit(f"{kind}.completed", **place, transcript=text, usage=usage)

    # Items ------------------------------------------------------------------------------------------------------------

    def _shown(self, item: Item, status: str, **fields: Any) -> dict[str, Any]:
        role = {"role": item.role} if item.type == "message" else {}
        shown_status = {"status": status} if item.type in ("message", "function_call") else {}
        item.shown = {"id": item.id, "type": item.type, **shown_status, **role, **fields}
        return item.shown

    def _item_retrieve(self, event: dict[str, Any]) -> None:
        self._emit("conversation.item.retrieved", item=self._find(event).shown)

    def _emit_added(self, item: Item, status: str, **fields: Any) -> None:
        shown = self._shown(item, status, **fields)
        self._emit("conversation.item.added", previous_item_id=self._items.before(item.id), item=shown)
        if status == "completed":
            self._emit_item_done(item, shown)

    def _emit_item_done(self, item: Item, shown: Mapping[str, Any]) -> None:
        self._emit("conversation.item.done", previous_item_id=self._items.before(item.id), item=shown)

    def _behind(self, event: Mapping[str, Any]) -> str | None:
        name = event.get("previous_item_id")
        if name is None or name == "root" or name in self._items:
            return name
        raise Refusal("Item not found", code="item_not_found", param="previous_item_id")

    def _item_truncate(self, event: dict[str, Any]) -> None:
        """Its words are dropped, because nothing says which of them were heard."""
        super()._item_truncate(event)
        self._find(event).shown["content"] = [{"type": "output_audio", "transcript": None}]

    # The reply --------------------------------------------------------------------------------------------------------

    def _is_aloud(self, options: Mapping[str, Any]) -> bool:
        return self._modalities(options) == ["audio"]

    def _modalities(self, options: Mapping[str, Any]) -> list[str]:
        usual = self._settings.asked.get("output_modalities", USUAL["output_modalities"])
        return list(options.get("output_modalities", usual))

    def _functions(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return functions(self._tools(options), options.get("tool_choice", self._settings.asked.get("tool_choice")))

    def _tools(self, options: Mapping[str, Any]) -> list[Any]:
        return list(options.get("tools", self._settings.asked.get("tools", [])))

    def _response(self, reply: Reply, status: str, output: Sequence[Any], details: Any) -> dict[str, Any]:
        settings = self._settings.echo(self.log.model)
        audio = {"format": settings["audio"]["output"]["format"], "voice": self._settings.voice}
        return {
            "object": "realtime.response",
            "id": reply.id,
            "status": status,
            "status_details": details,
            "output": output,
            "conversation_id": self._conversation,
            "output_modalities": self._modalities(reply.options),
            "max_output_tokens": reply.options.get("max_output_tokens", settings["max_output_tokens"]),
            "audio": {"output": audio},
            "usage": None,
            "metadata": reply.options.get("metadata"),
        }

    def _begin_item(self) -> None:
        """A written reply that calls a function has no words, as recorded."""
        reply = self._running()
        if reply.calls and not reply.aloud:
            return
        reply.begun = True
        self._emit_begun(reply, reply.item, self._shown(reply.item, "in_progress", content=[], **self._phase(reply)))
        part = {"type": "audio", "transcript": ""} if reply.aloud else {"type": "text", "text": ""}
        self._emit("response.content_part.added", **self._place(reply), part=part)

    def _phase(self, reply: Reply) -> dict[str, str]:
        return {"phase": PHASES[min(len(reply.done), 1)]} if self.behaviour.items > 1 else {}

    def _next_item(self) -> None:
        reply = self._running()
        self._close_item(reply, "completed")
        reply.item, reply.said, reply.item_offset = Item(self._id("item"), "message", "assistant"), "", reply.sent
        self._begin_item()

    def _place(self, reply: Reply) -> dict[str, Any]:
        return {**super()._place(reply), "output_index": len(reply.done)}

    def _emit_sound(self, reply: Reply, piece: Piece) -> None:
        self._emit("response.output_audio.delta", **self._place(reply), delta=self._encode(piece.pcm, reply))

    def _send_piece(self, piece: Piece) -> None:
        if self._running().begun:
            super()._send_piece(piece)

    def _emit_words(self, reply: Reply, piece: Piece) -> None:
        kind = "response.output_audio_transcript.delta" if reply.aloud else "response.output_text.delta"
        self._emit(kind, **self._place(reply), delta=piece.words)
        if not reply.aloud and reply.said == piece.words:
            self._report("replying")

    def _finish_reply(self) -> None:
        reply = self._running()
        self._close_item(reply, "completed")
        if reply.calls:
            self._call(reply, *reply.calls)
        self._end_reply("completed")

    def _close_item(self, reply: Reply, status: str) -> None:
        """Emit the end of what was said, in the recorded order; a reply that was cut short has one, too."""
        if not reply.begun:
            return
        reply.begun = False
        place = self._place(reply)
        if reply.aloud:
            self._emit("response.output_audio.done", **place)
            self._emit("response.output_audio_transcript.done", **place, transcript=reply.said)
            part = {"type": "audio", "transcript": reply.said}
        else:
            self._emit("response.output_text.done", **place, text=reply.said)
            part = {"type": "text", "text": reply.said}
        self._emit("response.content_part.done", **place, part=part)
        # A part of the same content has another type than the content itself: recorded so.
        content = [{**part, "type": f"output_{part['type']}"}]
        self._emit_finished(reply, reply.item, self._shown(reply.item, status, content=content, **self._phase(reply)))

    def _emit_begun(self, reply: Reply, item: Item, shown: dict[str, Any]) -> None:
        """Emit the beginning of an item of a reply."""
        self._emit("response.output_item.added", response_id=reply.id, output_index=len(reply.done), item=shown)
        self._items.add(item)
        self._emit("conversation.item.added", previous_item_id=self._items.before(item.id), item=shown)

    def _emit_finished(self, reply: Reply, item: Item, shown: dict[str, Any]) -> None:
        """Emit the end of an item of a reply."""
        self._emit_item_done(item, shown)
        self._emit("response.output_item.done", response_id=reply.id, output_index=len(reply.done), item=shown)
        reply.done.append(shown)

    def _call(self, reply: Reply, name: str, arguments: str) -> None:
        """Emit a function call, an item of its own behind what was said."""
        call = {"name": name, "call_id": self._id("call")}
        item = Item(self._id("item"), "function_call", "tool", call={**call, "arguments": arguments})
        place = {"response_id": reply.id, "output_index": len(reply.done), "item_id": item.id}
        self._emit_begun(reply, item, self._shown(item, "in_progress", **call, arguments=""))
        for start in range(0, len(arguments), ARGUMENTS_AT_ONCE):
            delta = arguments[start : start + ARGUMENTS_AT_ONCE]
            more = {"call_id": call["call_id"], "delta": delta}
            self._emit("response.function_call_arguments.delta", **place, **more)
        self._emit("response.function_call_arguments.done", **place, **call, arguments=arguments)
        self._emit_finished(reply, item, self._shown(item, "completed", **call, arguments=arguments))
        self._called(name, arguments)

    # Tools that run at the service ------------------------------------------------------------------------------------

    def _answer(self, options: Mapping[str, Any]) -> None:
        asked = self._items.to_answer()
        tools = [tool for tool in self._tools(options) if tool.get("require_approval") == "never"]
        call = call_for(asked, [tool["server_label"] for tool in tools], self.behaviour) if asked else None
        if call is None:
            super()._answer(options)
        else:
            self._use_server({"server_label": call[0], "name": "search", "arguments": call[1]}, options)

    def _use_server(self, details: dict[str, str], options: Mapping[str, Any]) -> None:
        """Begin a reply with the call of a tool at the service."""
        item = Item(self._id("mcp"), "mcp_call", "tool", call=details)
        tool_s = self.behaviour.tool_s
        progress = [(PROGRESS_S, lambda: self._emit_progress(item, "in_progress"))] * int(tool_s // PROGRESS_S)
        begin: tuple[float, Step] = (0.0, lambda: self._begin_server_call(item))
        end: tuple[float, Step] = (tool_s % PROGRESS_S, lambda: self._end_server_call(item))
        text = f"The tool {details['name']} of {details['server_label']} has answered."
        thought = sung(text, self._settings.output.rate, text)
        self._begin_reply(thought, options, aloud=self._is_aloud(options), before=[begin, *progress, end])

    def _emit_progress(self, item: Item, what: str) -> None:
        place = {"item_id": item.id, "output_index": len(self._running().done)}
        self._emit(f"response.mcp_call.{what}", **place)

    def _begin_server_call(self, item: Item) -> None:
        reply = self._running()
        self._emit_begun(reply, item, self._shown(item, "in_progress", **item.call))
        self._emit_progress(item, "in_progress")

    def _end_server_call(self, item: Item) -> None:
        self._emit_progress(item, "completed")
        self._emit_finished(self._running(), item, self._shown(item, "completed", **item.call, output="{}"))
        self._report("replying", f"has called {item.call['name']}")

    def _emit_reply_done(self, reply: Reply, status: str, reason: str) -> None:
        self._close_item(reply, "incomplete")
        details = {"type": status, "reason": reason} if reason else None
        if status == "failed":
            details = self._failed_with(reason)
        self._emit("response.done", response=self._response(reply, status, reply.done, details))
        limit = {"name": "tokens", "limit": 15_000_000, "remaining": 14_999_000, "reset_seconds": 0.004}
        self._emit("rate_limits.updated", rate_limits=[limit])
