"""A stand-in for the OpenAI realtime endpoint, ``/v1/realtime``, as of general availability. Pure: no socket or clock.

Names, order and shapes of the events are as recorded from the live service in July 2026, and it is as strict: a
message with one key too many is refused whole. The reply to a spoken turn is the sound of that turn, as everywhere in
this simulator.

A tool of type ``mcp`` waits for its approval unless ``require_approval`` says never. What it would answer is beyond us;
that the service speaks by itself once it was approved is documented nowhere.

What is known of the live service and not imitated: replies beside the conversation, idle timeouts, images, the list of
the tools of an MCP server, transcription sessions, WebRTC.
"""

from __future__ import annotations

import base64
import json
import math
import random
import string
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ...dsp.pcm import seconds
from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, Goodbye, Message, ServiceSession
from ..engine.answers import Thought, call_for, sung
from ..engine.auth import Auth
from ..engine.items import Item
from ..engine.parsing import Refusal, parse
from ..engine.realtime_base import HANDLERS, MAKERS, RealtimeBase, Reply
from ..engine.reply_audio import Piece
from ..engine.session_settings import Format, Settings, TurnDetection
from .openai_settings import EVENTS, PCM, TOKEN, USUAL_DETECTION, OpenaiSettings, functions, without_nulls

DEFAULT_MODEL = "gpt-realtime-2.1"
TOKEN_PREFIX = "ek_"  # noqa: S105
USUAL_TOKEN_S = 600

BETA_GONE = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
LETTERS = string.ascii_letters + string.digits

TRANSCRIPT_S = 0.1
"""How long after a turn its transcript comes: it is made beside the reply, and often after its beginning."""

ARGUMENTS_AT_ONCE = 12
"""How many characters of a function's arguments come in one piece."""
PROGRESS_S = 5.0
"""How often a tool of the service is told to be at work."""
DRAINED_S = 3.0
"""How long after its end a session still takes a place, where there are so many."""
PHASES = ("commentary", "final_answer")
"""What the items of a reply are, where there are two."""


class Openai:
    """The service: its addresses, and who may come in."""

    path = "/v1/realtime"

    def __init__(
        self,
        *,
        key: str | None = None,
        models: frozenset[str] | None = None,
        seed: int = 1,
        wall: float = 0.0,
    ) -> None:
        self._models, self._seed, self._wall = models, seed, wall
        self._door = Auth(key, TOKEN_PREFIX, seed)
        self._lock = threading.Lock()
        self._sessions: list[OpenaiSession] = []
        self.routes = {
            ("GET", self.path): self._realtime,
            ("POST", "/v1/realtime/client_secrets"): self._client_secret,
        }

    def _realtime(self, asked: Asked, manners: Behaviour, heard: ConnectionLog) -> Answer | ServiceSession:
        right = self._door.admit(asked.bearer, asked.at)
        if right is None:
            return refused(401, "invalid_api_key", "Incorrect API key provided.")
        heard.model = asked.query.get("model") or (right.session or {}).get("model") or DEFAULT_MODEL
        if self._models is not None and heard.model not in self._models:
            return refused(404, "model_not_found", f"The model {heard.model} does not exist.")
        if not asked.upgrade:
            return UPGRADE
        settings = OpenaiSettings()
        if right.session:
            settings = settings.updated(right.session)
        beta = "realtime=v1" in asked.headers.get("openai-beta", "")
        chance = random.Random(f"{self._seed}/{heard.number}")
        voice = OpenaiSession(manners, heard, chance, settings, wall=self._wall, beta=beta)
        return voice if self._has_room(voice, asked.at) else TurnedAway(manners, heard)

    def _has_room(self, voice: OpenaiSession, now: float) -> bool:
        """Keep *voice*, if there is a place for it."""
        with self._lock:
            self._sessions = [each for each in self._sessions if now < each.left + DRAINED_S]
            room = not voice.manners.sessions or len(self._sessions) < voice.manners.sessions
            if room:
                self._sessions.append(voice)
        return room

    def _client_secret(self, asked: Asked, _manners: Behaviour, _heard: ConnectionLog) -> Answer:
        """A token, and the settings that a connection with it begins with."""
        if not self._door.is_key(asked.bearer):
            return refused(401, "invalid_api_key", "Incorrect API key provided.")
        try:
            wish = parse(asked.body or b"{}")
            TOKEN(wish, "")
            session = wish.get("session", {"type": "realtime"})
            settings = OpenaiSettings().updated(session)
        except Refusal as refusal:
            return refused(400, refusal.code, str(refusal), refusal.param)
        lasts = (wish.get("expires_after") or {}).get("seconds", USUAL_TOKEN_S)
        value, until = self._door.mint(asked.at, lasts, session), int(self._wall + asked.at + lasts)
        shown = {**settings.echo(session.get("model", DEFAULT_MODEL)), "id": f"sess_{value[-21:]}", "expires_at": 0}
        return Answer(200, {"value": value, "expires_at": until, "session": shown})


def refused(status: int, code: str, message: str, param: str | None = None) -> Answer:
    """A refusal in the service's shape."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": param}
    return Answer(status, {"error": error})


class TurnedAway(ServiceSession):
    """A connection for which there is no place, as some self-hosted servers say it."""

    def greet(self, now: float) -> None:
        text = "All session slots are in use"
        error = {"type": "session_limit_reached", "code": None, "message": f"{text}.", "param": None}
        self._outgoing += [json.dumps({"type": "error", "event_id": "event_0", "error": error}), Goodbye(1008, text)]

    def receive(self, message: Message, now: float) -> None:
        """It is not heard."""


class OpenaiSession(RealtimeBase):
    """One connection to the service."""

    SESSION_S: ClassVar[float] = 60 * 60.0
    KINDS: ClassVar[tuple[str, ...]] = ("input_text", "input_audio", "input_image", "output_text", "output_audio")

    def __init__(
        self,
        manners: Behaviour,
        heard: ConnectionLog,
        chance: random.Random,
        settings: OpenaiSettings | None = None,
        *,
        wall: float = 0.0,
        beta: bool = False,
    ) -> None:
        """*beta*: the client asks for the shape of the beta, which is gone."""
        super().__init__(manners, heard, chance, settings or OpenaiSettings(), wall=wall)
        self._beta = beta
        self._session, self._conversation = self._id("sess"), self._id("conv")
        self._spoke = False
        self.left = math.inf
        """When the connection ended."""

    def hung_up(self, now: float) -> None:
        self.left = now

    # The connection ---------------------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        return f"{kind}_{''.join(self._chance.choices(LETTERS, k=21))}"

    def _padding(self) -> str:
        """Recorded on every delta, so that its length does not betray its words."""
        return "".join(self._chance.choices(LETTERS, k=self._chance.randint(8, 16)))

    def _say_hello(self) -> None:
        if self._beta:
            self._error("invalid_request_error", "beta_api_shape_disabled", BETA_GONE)
            self._bye(4000, "invalid_request_error.beta_api_shape_disabled")
        elif self.manners.greeting == "full":
            self._emit("session.created", session=self._shown_session())
        elif self.manners.greeting == "conversation":
            conversation = {"id": self._conversation, "object": "realtime.conversation"}
            self._emit("conversation.created", conversation=conversation)

    def _shown_session(self) -> dict[str, Any]:
        over_at = self._now + self.manners.expires_s if self.manners.expires_s else self._over_at
        until = 0 if over_at == math.inf else int(self._wall + over_at)
        shown = {**self._settings.echo(self.heard.model), "id": self._session, "expires_at": until}
        if self.manners.output_rate:
            told = {**shown["audio"]["output"], "format": {**PCM, "rate": self.manners.output_rate}}
            shown["audio"] = {**shown["audio"], "output": told}
        return shown

    def _expire(self) -> None:
        minutes = (self.manners.session_s or self.SESSION_S) / 60
        text = f"Your session hit the maximum duration of {minutes:g} minutes."
        self._error("invalid_request_error", "session_expired", text)
        self._bye(1001, text)

    def _fault_of(self, refusal: Refusal) -> str:
        return "invalid_request_error"

    def _unknown(self, kind: str) -> Refusal:
        return Refusal(f"Invalid value: '{kind}'. Supported values are: {', '.join(EVENTS)}.", param="type")

    def _handle(self, event: dict[str, Any], size: int) -> None:
        kind = event.get("type")
        try:
            if isinstance(kind, str) and kind in EVENTS:
                event = without_nulls(event)
                EVENTS[kind](event, "")
        except Refusal:
            self._note(event, size)
            raise
        super()._handle(event, size)

    def _say_settings(self, echo: dict[str, Any]) -> None:
        shown = self.heard.settings = self._shown_session()
        self._emit("session.updated", session=shown)

    def _session_update(self, event: dict[str, Any]) -> None:
        super()._session_update(event)
        if self.manners.output_rate:
            self._settings = replace(self._settings, output=Format(self.manners.output_rate))

    def _refuse_settings(self, settings: Settings) -> None:
        super()._refuse_settings(settings)
        if settings.asked.get("model", self.heard.model) != self.heard.model:
            raise Refusal("The model of a session cannot be changed.", param="session.model")
        if self._spoke and settings.voice != self._settings.voice:
            raise Refusal(
                "Cannot update a conversation's voice if assistant audio is present.",
                code="cannot_update_voice",
                param="session.audio.output.voice",
            )

    @property
    def _detection(self) -> TurnDetection | None:
        return self._settings.turn_detection or (USUAL_DETECTION if self.manners.automatic else None)

    # What the user says -----------------------------------------------------------------------------------------------

    def _say_listening(self, item: str, at: int) -> None:
        self._emit("input_audio_buffer.speech_started", item_id=item, audio_start_ms=at)

    def _say_heard(self, item: str, at: int, text: str) -> None:
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=at)
        self._say_committed(item, text)

    def _say_committed(self, item: str, text: str) -> None:
        self._emit("input_audio_buffer.committed", item_id=item, previous_item_id=self._items.last)
        self._add(Item(item, "message", "user"), "completed", [{"type": "input_audio", "transcript": None}])
        if self._settings.transcribes:
            self._in(TRANSCRIPT_S, lambda: self._transcribe(item, text))

    def _transcribe(self, item: str, text: str) -> None:
        """Beside the reply, piece by piece, and then as a whole."""
        kind = "conversation.item.input_audio_transcription"
        place = {"item_id": item, "content_index": 0}
        if not self.manners.transcribes:
            error = {"type": "server_error", "code": "transcription_failed", "message": "Input transcription failed."}
            self._emit(f"{kind}.failed", **place, error={**error, "param": None})
            return
        for index, word in enumerate(text.split(" ")):
            delta = f" {word}" if index else word
            self._emit(f"{kind}.delta", **place, delta=delta, obfuscation=self._padding())
        known = self._items.get(item)
        heard_s = seconds(known.sound, known.rate) if known else 0.0
        if known:
            known.shown["content"] = [{"type": "input_audio", "transcript": text}]
        usage = {"type": "duration", "seconds": math.ceil(heard_s)}
        self._emit(f"{kind}.completed", **place, transcript=text, usage=usage)

    # Items ------------------------------------------------------------------------------------------------------------

    def _shown(self, item: Item, status: str, **fields: Any) -> dict[str, Any]:
        role = {"role": item.role} if item.type == "message" else {}
        shown_status = {"status": status} if item.type in ("message", "function_call") else {}
        item.shown = {"id": item.id, "type": item.type, **shown_status, **role, **fields}
        return item.shown

    def _item_retrieve(self, event: dict[str, Any]) -> None:
        self._emit("conversation.item.retrieved", item=self._find(event).shown)

    def _say_added(self, item: Item, status: str, content: list[Any] | None = None, **fields: Any) -> None:
        if content is not None:
            fields["content"] = content
        shown = self._shown(item, status, **{name: value for name, value in fields.items() if value is not None})
        self._emit("conversation.item.added", previous_item_id=self._items.before(item.id), item=shown)
        if status == "completed":
            self._say_item_done(item, shown)

    def _say_item_done(self, item: Item, shown: Mapping[str, Any]) -> None:
        self._emit("conversation.item.done", previous_item_id=self._items.before(item.id), item=shown)

    def _behind(self, event: Mapping[str, Any]) -> str | None:
        name = event.get("previous_item_id")
        if name is None or name == "root" or name in self._items:
            return name
        raise Refusal("Item not found", code="item_not_found", param="previous_item_id")

    def _item_truncate(self, event: dict[str, Any]) -> None:
        """Its words are forgotten, because nothing says which of them were heard."""
        super()._item_truncate(event)
        item = self._find(event)
        item.shown["content"] = [{"type": "output_audio", "transcript": None}]

    # The reply --------------------------------------------------------------------------------------------------------

    def _aloud(self, options: Mapping[str, Any]) -> bool:
        return self._modalities(options) == ["audio"]

    def _modalities(self, options: Mapping[str, Any]) -> list[str]:
        usual = ["audio"] if self._settings.speaks else ["text"]
        return list(options.get("output_modalities", usual))

    def _functions(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        asked = self._settings.asked
        tools = options.get("tools", asked.get("tools", []))
        return functions(tools, options.get("tool_choice", asked.get("tool_choice", "auto")))

    def _response(self, reply: Reply, status: str, **fields: Any) -> dict[str, Any]:
        """A response as it is shown."""
        settings = self._settings.echo(self.heard.model)
        audio = {"format": settings["audio"]["output"]["format"], "voice": self._settings.voice}
        return {
            "object": "realtime.response",
            "id": reply.id,
            "status": status,
            "status_details": None,
            "output": [],
            "conversation_id": self._conversation,
            "output_modalities": self._modalities(reply.options),
            "max_output_tokens": reply.options.get("max_output_tokens", settings["max_output_tokens"]),
            "audio": {"output": audio},
            "usage": None,
            "metadata": reply.options.get("metadata"),
            **fields,
        }

    def _say_created(self, reply: Reply) -> None:
        self._emit("response.created", response=self._response(reply, "in_progress"))

    def _announce(self) -> None:
        """A written reply that calls a function has no words, as recorded."""
        reply = self._running()
        if reply.calls and not reply.aloud:
            return
        reply.began = True
        shown = self._shown(reply.item, "in_progress", content=[], **self._phase(reply))
        self._emit("response.output_item.added", response_id=reply.id, output_index=len(reply.done), item=shown)
        self._add(reply.item, "in_progress", [])
        part = {"type": "audio", "transcript": ""} if reply.aloud else {"type": "text", "text": ""}
        self._emit("response.content_part.added", **self._place(reply), part=part)

    def _phase(self, reply: Reply) -> dict[str, str]:
        return {"phase": PHASES[min(len(reply.done), 1)]} if self.manners.items > 1 else {}

    def _next_item(self) -> None:
        reply = self._running()
        self._close_item(reply, "completed")
        reply.item, reply.said, reply.began_at = Item(self._id("item"), "message", "assistant"), "", reply.sent
        self._announce()

    def _place(self, reply: Reply) -> dict[str, Any]:
        return {**super()._place(reply), "output_index": len(reply.done)}

    def _say_piece(self, reply: Reply, piece: Piece) -> None:
        self._spoke = True
        delta = base64.b64encode(self._encoded(piece.pcm, reply)).decode()
        self._emit("response.output_audio.delta", **self._place(reply), delta=delta)

    def _speak(self, piece: Piece) -> None:
        reply = self._running()
        if reply.began:
            super()._speak(piece)

    def _say_words(self, reply: Reply, piece: Piece) -> None:
        kind = "response.output_audio_transcript.delta" if reply.aloud else "response.output_text.delta"
        self._emit(kind, **self._place(reply), delta=piece.words, obfuscation=self._padding())
        if not reply.aloud and reply.said == piece.words:
            self._tell("replying")

    def _conclude(self) -> None:
        reply = self._running()
        self._close_item(reply, "completed")
        if reply.calls:
            self._call(reply, *reply.calls)
        self._end_reply("completed")

    def _close_item(self, reply: Reply, status: str) -> None:
        """The end of what was said, in the recorded order; a reply that was cut short has one, too."""
        if not reply.began:
            return
        reply.began = False
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
        self._finish(reply, reply.item, self._shown(reply.item, status, content=content, **self._phase(reply)))

    def _finish(self, reply: Reply, item: Item, shown: dict[str, Any]) -> None:
        """An item of a reply is complete."""
        self._say_item_done(item, shown)
        self._emit("response.output_item.done", response_id=reply.id, output_index=len(reply.done), item=shown)
        reply.done.append(shown)

    def _begin(self, reply: Reply, item: Item, shown: dict[str, Any]) -> None:
        """An item that is not spoken begins in a reply."""
        self._emit("response.output_item.added", response_id=reply.id, output_index=len(reply.done), item=shown)
        self._items.add(item)
        self._emit("conversation.item.added", previous_item_id=self._items.before(item.id), item=shown)

    def _call(self, reply: Reply, name: str, arguments: str) -> None:
        """A function call is an item of its own, behind what was said."""
        call = {"name": name, "call_id": self._id("call")}
        item = Item(self._id("item"), "function_call", "tool", call={**call, "arguments": arguments})
        place = {"response_id": reply.id, "output_index": len(reply.done), "item_id": item.id}
        self._begin(reply, item, self._shown(item, "in_progress", **call, arguments=""))
        for start in range(0, len(arguments), ARGUMENTS_AT_ONCE):
            delta = arguments[start : start + ARGUMENTS_AT_ONCE]
            more = {"call_id": call["call_id"], "delta": delta, "obfuscation": self._padding()}
            self._emit("response.function_call_arguments.delta", **place, **more)
        self._emit("response.function_call_arguments.done", **place, **call, arguments=arguments)
        self._finish(reply, item, self._shown(item, "completed", **call, arguments=arguments))
        self._told_call(name, arguments)

    # Tools that run at the service ------------------------------------------------------------------------------------

    def _answer(self, options: Mapping[str, Any]) -> None:
        asked, tools = self._items.to_answer(), options.get("tools", self._settings.asked.get("tools", []))
        servers = {tool["server_label"]: tool for tool in tools if tool["type"] == "mcp"}
        call = call_for(asked, list(servers), self.manners) if asked else None
        if call is None:
            super()._answer(options)
            return
        allowed = servers[call[0]].get("allowed_tools")
        name = str(allowed[0]) if isinstance(allowed, list) and allowed else "search"
        details = {"server_label": call[0], "name": name, "arguments": call[1]}
        if servers[call[0]].get("require_approval") == "never":
            self._use_server(details, options)
        else:
            request = [(0.0, lambda: self._request_approval(details)), (0.0, lambda: self._end_reply("completed"))]
            self._begin_reply(Thought(b"", ""), options, before=request)

    def _request_approval(self, details: dict[str, str]) -> None:
        reply, item = self._running(), Item(self._id("mcpr"), "mcp_approval_request", "tool", call=details)
        shown = self._shown(item, "completed", **details)
        self._begin(reply, item, shown)
        self._finish(reply, item, shown)
        self._tell("replying", f"asks whether it may call {details['name']} at {details['server_label']}")

    def _create_approval(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        request = self._items.get(given["approval_request_id"])
        if request is None or request.type != "mcp_approval_request":
            raise Refusal("There is no such request", code="item_not_found", param="item.approval_request_id")
        self._refuse_second_reply()
        answer = {name: given.get(name) for name in ("approval_request_id", "approve", "reason")}
        self._add(Item(item_id, "mcp_approval_response", "tool"), "completed", behind=behind, **answer)
        if given["approve"]:
            self._use_server({**request.call, "approval_request_id": request.id}, {})

    def _use_server(self, details: dict[str, str], options: Mapping[str, Any]) -> None:
        """A reply that begins with the call of a tool at the service."""
        item = Item(self._id("mcp"), "mcp_call", "tool", call=details)
        steps: list[tuple[float, Callable[[], None]]] = [(0.0, lambda: self._begin_server_call(item))]
        for _ in range(math.floor(self.manners.tool_s / PROGRESS_S)):
            steps.append((PROGRESS_S, lambda: self._tell_progress(item, "in_progress")))
        steps.append((self.manners.tool_s % PROGRESS_S, lambda: self._end_server_call(item)))
        text = f"The tool {details['name']} of {details['server_label']} has answered."
        thought = sung(text, self._settings.output.rate, text)
        self._begin_reply(thought, options, aloud=self._aloud(options), before=steps)

    def _tell_progress(self, item: Item, what: str) -> None:
        place = {"item_id": item.id, "output_index": len(self._running().done)}
        self._emit(f"response.mcp_call.{what}", **place)

    def _begin_server_call(self, item: Item) -> None:
        reply = self._running()
        self._begin(reply, item, self._shown(item, "in_progress", **item.call))
        place = {"response_id": reply.id, "item_id": item.id, "output_index": len(reply.done)}
        self._emit("response.mcp_call_arguments.done", **place, arguments=item.call["arguments"])
        self._tell_progress(item, "in_progress")

    def _end_server_call(self, item: Item) -> None:
        self._tell_progress(item, "completed")
        self._finish(self._running(), item, self._shown(item, "completed", **item.call, output="{}"))
        self._tell("replying", f"has called {item.call['name']}")

    def _say_done(self, reply: Reply, status: str, reason: str) -> None:
        self._close_item(reply, "incomplete")
        details = {"type": status, "reason": reason} if reason else None
        if status == "failed":
            details = self._failed_with(reason)
        response = self._response(reply, status, status_details=details, output=reply.done, usage=self._usage(reply))
        self._emit("response.done", response=response)
        limit = {"name": "tokens", "limit": 15_000_000, "remaining": 14_999_000, "reset_seconds": 0.004}
        self._emit("rate_limits.updated", rate_limits=[limit])

    def _usage(self, reply: Reply) -> dict[str, Any]:
        text, sound = self._spoken(reply)
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        heard = {**cached, "cached_tokens": 0, "cached_tokens_details": cached}
        return {
            "total_tokens": text + sound,
            "input_tokens": 0,
            "output_tokens": text + sound,
            "input_token_details": heard,
            "output_token_details": {"text_tokens": text, "audio_tokens": sound},
        }

    _HANDLERS: ClassVar[Mapping[str, str]] = {**HANDLERS, "conversation.item.retrieve": "_item_retrieve"}
    _MAKERS: ClassVar[Mapping[str, str]] = {**MAKERS, "mcp_approval_response": "_create_approval"}
