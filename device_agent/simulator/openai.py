"""A stand-in for the OpenAI realtime endpoint, ``/v1/realtime``, as of general availability. Pure: no socket or clock.

Names, order and shapes of the events are as recorded from the live service in July 2026, and it is as strict: a
message with one key too many is refused whole. The reply to a spoken turn is the sound of that turn, as everywhere in
this simulator.

What is known of the live service and not imitated: replies beside the conversation, ``conversation.item.retrieve``,
idle timeouts, images, MCP, transcription sessions, WebRTC.
"""

from __future__ import annotations

import base64
import math
import random
import string
from collections.abc import Mapping
from typing import Any, ClassVar

from ..audio import seconds
from .checks import text as check_text
from .door import Door
from .family import FamilyVoice, Reply
from .items import Item
from .openai_settings import EVENTS, TOKEN, OpenaiSettings, functions
from .reading import Refusal, parse, text_of
from .speaking import Piece
from .voice import UPGRADE, Answer, Asked, Heard, Manners, Voice

DEFAULT_MODEL = "gpt-realtime"
TOKEN_PREFIX = "ek_"  # noqa: S105
USUAL_TOKEN_S, OLD_TOKEN_S = 600, 60

BETA_GONE = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
LETTERS = string.ascii_letters + string.digits

TRANSCRIPT_S = 0.1
"""How long after a turn its transcript comes: it is made beside the reply, and often after its beginning."""

ARGUMENTS_AT_ONCE = 12
"""How many characters of a function's arguments come in one piece."""


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
        self._door = Door(key, TOKEN_PREFIX, seed)
        self.routes = {
            ("GET", self.path): self._realtime,
            ("POST", "/v1/realtime/client_secrets"): self._client_secret,
            ("POST", "/v1/realtime/sessions"): self._old_secret,
        }

    def _realtime(self, asked: Asked, manners: Manners, heard: Heard) -> Answer | Voice:
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
        return OpenaiVoice(manners, heard, chance, settings, wall=self._wall, beta=beta)

    def _client_secret(self, asked: Asked, _manners: Manners, _heard: Heard) -> Answer:
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

    def _old_secret(self, asked: Asked, _manners: Manners, _heard: Heard) -> Answer:
        """A token in the shape of the beta, good for one minute. Its settings are not kept."""
        if not self._door.is_key(asked.bearer):
            return refused(401, "invalid_api_key", "Incorrect API key provided.")
        try:
            wish = parse(asked.body or b"{}")
            check_text(wish.get("model", ""), "model")
        except Refusal as refusal:
            return refused(400, refusal.code, str(refusal), refusal.param)
        secret = {
            "value": self._door.mint(asked.at, OLD_TOKEN_S),
            "expires_at": int(self._wall + asked.at + OLD_TOKEN_S),
        }
        model = wish.get("model") or DEFAULT_MODEL
        return Answer(200, {"object": "realtime.session", "model": model, "client_secret": secret})


def refused(status: int, code: str, message: str, param: str | None = None) -> Answer:
    """A refusal in the service's shape."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": param}
    return Answer(status, {"error": error})


class OpenaiVoice(FamilyVoice):
    """One connection to the service."""

    SESSION_S: ClassVar[float] = 60 * 60.0
    KINDS: ClassVar[tuple[str, ...]] = ("input_text", "input_audio", "input_image", "output_text", "output_audio")

    def __init__(
        self,
        manners: Manners,
        heard: Heard,
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
        until = 0 if self._over_at == math.inf else int(self._wall + self._over_at)
        return {**self._settings.echo(self.heard.model), "id": self._session, "expires_at": until}

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
                EVENTS[kind](event, "")
        except Refusal:
            self._note(event, size)
            raise
        super()._handle(event, size)

    def _say_settings(self, echo: dict[str, Any]) -> None:
        shown = self.heard.settings = self._shown_session()
        self._emit("session.updated", session=shown)

    def _session_update(self, event: dict[str, Any]) -> None:
        session = event["session"]
        if session.get("model", self.heard.model) != self.heard.model:
            raise Refusal("The model of a session cannot be changed.", param="session.model")
        before = self._settings.voice
        after = self._settings.updated(session).voice
        if self._spoke and after != before:
            raise Refusal(
                "Cannot update a conversation's voice if assistant audio is present.",
                code="cannot_update_voice",
                param="session.audio.output.voice",
            )
        super()._session_update(event)

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
        for index, word in enumerate(text.split(" ")):
            delta = f" {word}" if index else word
            self._emit(f"{kind}.delta", **place, delta=delta, obfuscation=self._padding())
        known = self._items.get(item)
        heard_s = seconds(known.sound, known.rate) if known else 0.0
        usage = {"type": "duration", "seconds": math.ceil(heard_s)}
        self._emit(f"{kind}.completed", **place, transcript=text, usage=usage)

    # Items ------------------------------------------------------------------------------------------------------------

    def _shown(self, item: Item, status: str, **fields: Any) -> dict[str, Any]:
        role = {"role": item.role} if item.type == "message" else {}
        shown_status = {"status": status} if item.type != "function_call_output" else {}
        return {"id": item.id, "type": item.type, **shown_status, **role, **fields}

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

    def _text_of(self, content: Any, role: str) -> str:
        return text_of(content, self.KINDS)

    # The reply --------------------------------------------------------------------------------------------------------

    def _response_create(self, event: dict[str, Any]) -> None:
        super()._response_create({**event, "response": event.get("response") or {}})

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
        shown = self._shown(reply.item, "in_progress", content=[])
        self._emit("response.output_item.added", response_id=reply.id, output_index=0, item=shown)
        self._add(reply.item, "in_progress", [])
        part = {"type": "audio", "transcript": ""} if reply.aloud else {"type": "text", "text": ""}
        self._emit("response.content_part.added", **self._place(reply), part=part)

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
        shown = self._shown(reply.item, status, content=[{**part, "type": f"output_{part['type']}"}])
        self._say_item_done(reply.item, shown)
        self._emit("response.output_item.done", response_id=reply.id, output_index=0, item=shown)
        reply.done.append(shown)

    def _call(self, reply: Reply, name: str, arguments: str) -> None:
        """A function call is an item of its own, behind what was said."""
        call = {"name": name, "call_id": self._id("call")}
        item = Item(self._id("item"), "function_call", "tool", call={**call, "arguments": arguments})
        place = {"response_id": reply.id, "output_index": len(reply.done)}
        begun = self._shown(item, "in_progress", **call, arguments="")
        self._emit("response.output_item.added", **place, item=begun)
        self._add(item, "in_progress", None, **call, arguments="")
        place["item_id"] = item.id
        for start in range(0, len(arguments), ARGUMENTS_AT_ONCE):
            delta = arguments[start : start + ARGUMENTS_AT_ONCE]
            more = {"call_id": call["call_id"], "delta": delta, "obfuscation": self._padding()}
            self._emit("response.function_call_arguments.delta", **place, **more)
        self._emit("response.function_call_arguments.done", **place, **call, arguments=arguments)
        done = self._shown(item, "completed", **call, arguments=arguments)
        self._say_item_done(item, done)
        self._emit("response.output_item.done", response_id=reply.id, output_index=place["output_index"], item=done)
        reply.done.append(done)
        self._tell("replying", f"calls {name}({arguments[:200]})")

    def _say_done(self, reply: Reply, status: str, reason: str) -> None:
        self._close_item(reply, "incomplete")
        details = {"type": status, "reason": reason} if reason else None
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
