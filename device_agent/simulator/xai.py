"""A stand-in for the Grok Voice Agent endpoint, ``/v1/realtime``. Pure: no socket, thread or clock.

Names, order and shapes of the events are as recorded from the live service in July 2026. It cannot understand or
think, and is honest about that: its transcripts say what it measured, and its reply to a spoken turn is the sound of
that very turn, sample for sample, so that whoever plays it hears what arrived.

What is known of the live service and not imitated: conversations that outlive their connection, idle timeouts,
pcmu, pcma and opus, tools that run at the service, short-lived tokens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
import random
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..audio import level, resample, seconds
from .hearing import MAX_BUFFER_S, Ear, SpeechStarted, SpeechStopped, loudness_threshold, speech_seconds
from .speaking import Piece, cut, melody
from .voice import Answer, Asked, Happening, Heard, Manners, Message, Received, Turn, Voice
from .xai_settings import Refusal, Settings, TurnDetection

DEFAULT_MODEL = "grok-voice-latest"
SHORTEST_COMMIT_S = 0.1
PARTIAL_EVERY_S = 1.0
"""How often a transcript that grows is told while the user speaks, in audio time."""

MAX_DEPTH = 64
"""Deeper JSON is junk."""

MAX_ITEMS = 500
MAX_TEXT = 4000
"""How many items a conversation remembers, and how much text of each."""

BETA_NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}
PLACE = ("response_id", "item_id", "output_index", "content_index")
"""The fields that say where a piece of a reply belongs."""


class Xai:
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
        """*key* None takes any; *models* None takes any; *wall* is Unix time at 0 of the clock, for time stamps."""
        self._key, self._models, self._seed, self._wall = key, models, seed, wall
        self.routes = {("GET", self.path): self._realtime}

    def _realtime(self, asked: Asked, manners: Manners, heard: Heard) -> Answer | Voice:
        scheme, _, key = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return Answer(401, {"code": "unauthenticated", "error": "No API key: send Authorization: Bearer KEY."})
        if self._key is not None and not hmac.compare_digest(key.strip().encode(), self._key.encode()):
            return Answer(401, {"code": "unauthenticated", "error": "Incorrect API key."})
        heard.model = asked.query.get("model", DEFAULT_MODEL)
        if self._models is not None and heard.model not in self._models:
            return Answer(404, {"code": "not_found", "error": f"The model {heard.model} does not exist."})
        if not asked.upgrade:
            return Answer(426, {"code": "upgrade_required", "error": "This is a WebSocket."}, {"Upgrade": "websocket"})
        return XaiVoice(manners, heard, random.Random(f"{self._seed}/{heard.number}"), wall=self._wall)


@dataclass
class Item:
    """One entry of the conversation. *sound* is kept only while it can still be answered."""

    id: str
    type: str
    role: str
    text: str = ""
    sound: bytes = field(default=b"", repr=False)
    rate: int = 24000
    spoken_s: float = 0.0
    """How much sound of it went out, when it is ours."""


@dataclass
class Reply:
    """The reply under way."""

    id: str
    item: Item
    text: str
    plan: deque[tuple[float, Callable[[], None]]]
    total: int  # bytes of sound
    rate: int
    binary: bool
    rid: str  # recorded on every piece; its meaning is not documented
    sent: int = 0
    said: str = ""
    began: bool = False
    calls: tuple[str, str] | None = None
    output: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Thought:
    """What there is to answer: sound at the output's rate, its transcript, and perhaps a function to call."""

    pcm: bytes
    text: str
    calls: tuple[str, str] | None = None


class XaiVoice(Voice):
    """One connection to the service."""

    def __init__(self, manners: Manners, heard: Heard, chance: random.Random, *, wall: float = 0.0) -> None:
        super().__init__(manners, heard)
        self._chance = chance
        self._wall = wall
        self._now = 0.0
        self._settings = Settings()
        self._ear = Ear(self._settings.input.rate)
        self._greeted = False
        self._ping_due = math.inf
        self._items: dict[str, Item] = {}
        self._user_item = ""  # the item that grows while the user speaks
        self._turn_begun = self._turn_long = False
        self._told_s = 0.0  # how much of the growing transcript was told
        self._reply: Reply | None = None
        self._unanswered = False  # a turn ended while a reply was running that could not be interrupted

    # The contract -----------------------------------------------------------------------------------------------------

    def greet(self, now: float) -> None:
        self._now = now
        self._tell("connected", f"connected, model {self.heard.model}")
        if self.manners.greeting == "none":
            return
        if self.manners.greeting == "full":
            self._emit(
                "session.created",
                session={
                    "id": self._id().replace("-", ""),
                    "object": "realtime.session",
                    "instructions": "",
                    "voice": "ara",
                    "modalities": ["audio"],
                    "turn_detection": {"type": None},
                    "tools": [],
                    "model": self.heard.model,
                },
            )
        conversation = {"id": self._id(), "object": "realtime.conversation"}
        self._emit("conversation.created", conversation=conversation, previous_item_id=None)
        self._greeted = True
        if self.manners.greeting == "full":
            self._ping()
        self._set_deadline()

    def receive(self, message: Message, now: float) -> None:
        self._now = now
        event: dict[str, Any] = {}
        try:
            if isinstance(message, bytes):
                self._hear_frame(message)
            else:
                event = parse(message)
                self._handle(event, len(message))
        except Refusal as refusal:
            self._complain(refusal, event)
        self._set_deadline()

    def tick(self, now: float) -> None:
        self._now = now
        while self._reply and self._reply.plan and self._reply.plan[0][0] <= now:
            _, step = self._reply.plan.popleft()
            step()
        if now >= self._ping_due:
            self._ping()
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._greeted and self.manners.ping_s and self._ping_due == math.inf:
            self._ping_due = self._now + self.manners.ping_s
        due = self._reply.plan[0][0] if self._reply and self._reply.plan else math.inf
        soonest = min(due, self._ping_due)
        self.deadline = None if soonest == math.inf else soonest

    # What goes out ----------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self._id(), **fields}
        if kind != "session.created":
            event.setdefault("previous_item_id", None)  # recorded on every other event
        if not self.manners.ids and kind.startswith("response."):
            event = {name: value for name, value in event.items() if name not in PLACE}
        if self.manners.beta_names:
            event["type"] = BETA_NAMES.get(kind, kind)
        self._outgoing.append(json.dumps(event, allow_nan=False))

    def _tell(self, moment: Any, text: str = "") -> None:
        self._outgoing.append(Happening(moment, text))

    def _id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def _stamp(self) -> int:
        return round(1000 * (self._wall + self._now))

    def _ping(self) -> None:
        self._emit("ping", timestamp=self._stamp())
        self._ping_due = self._now + self.manners.ping_s if self.manners.ping_s else math.inf

    def _complain(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        """An ``error`` event; the session lives on."""
        name = event.get("event_id")
        kind = "invalid_event" if refusal.code == "invalid_event" else "invalid_request_error"
        error = {
            "type": kind,
            "code": refusal.code,
            "message": str(refusal),
            "param": refusal.param,
            "event_id": name if isinstance(name, str) else None,
        }
        self._emit("error", error=error)
        self._tell("trouble", f"refused {str(event.get('type', 'a message'))[:60]}: {refusal}")

    # What comes in ----------------------------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any], size: int) -> None:
        kind = event.get("type")
        if kind != "input_audio_buffer.append":
            self.heard.note(Received(self._now, event, size=size))
        handler = self._HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise Refusal(f"Unknown event type: {str(kind)[:60]}", code="invalid_event", param="type")
        handler(self, event)

    def _session_update(self, event: dict[str, Any]) -> None:
        self._settings = settings = self._settings.updated(event.get("session"))
        self._greeted = True
        self._prepare_ear()
        echo = settings.echo(self.heard.model)
        self.heard.settings = echo
        self._emit("session.updated", session=echo)
        detection = settings.turn_detection
        turns = f"server_vad at {detection.threshold:g}" if detection else "manual turns"
        self._tell(
            "configured",
            f"configured: voice {str(echo.get('voice', 'ara'))[:40]}, {turns}, {settings.input.rate} Hz in, "
            f"{settings.output.rate} Hz out, {len(echo.get('tools', []))} tools",
        )

    def _prepare_ear(self) -> None:
        ear, detection = self._ear, self._settings.turn_detection
        ear.change_rate(self._settings.input.rate)
        if ear.listening and detection is None:
            ear.forget()
            self._user_item = ""
        ear.listening = detection is not None
        usual = detection or TurnDetection()
        ear.threshold_db = loudness_threshold(usual.threshold)
        ear.prefix_ms, ear.silence_ms = usual.prefix_ms, usual.silence_ms

    def _append(self, event: dict[str, Any]) -> None:
        audio = event.get("audio")
        pcm = b""
        try:
            pcm = sound_of(audio, "audio")
        finally:
            length = len(audio) if isinstance(audio, str) else 0
            self.heard.note(Received(self._now, {**event, "audio": f"<{length} characters>"}, pcm, length))
        self._hear(pcm)

    def _hear_frame(self, pcm: bytes) -> None:
        """A binary frame: sound, if that was agreed on."""
        self.heard.note(Received(self._now, {"type": "binary frame"}, pcm, len(pcm)))
        if not self._settings.input.binary:
            raise Refusal("A binary frame, but audio.input.transport is json", code="invalid_event")
        if len(pcm) % 2:
            raise Refusal("A binary frame with half a sample at its end", code="invalid_audio")
        self._hear(pcm)

    def _hear(self, pcm: bytes) -> None:
        ear = self._ear
        if ear.seconds + seconds(pcm, ear.rate) > MAX_BUFFER_S:
            text = f"The input audio buffer holds {MAX_BUFFER_S:g} seconds at most; commit or clear it"
            raise Refusal(text, code="input_audio_buffer_full")
        for noticed in ear.hear(pcm):
            if isinstance(noticed, SpeechStarted):
                self._speech_started(noticed)
            else:
                self._speech_stopped(noticed)
        self._watch_turn()

    def _watch_turn(self) -> None:
        """Tell how far the turn has come that is being spoken."""
        if not (self._ear.speaking if self._ear.listening else self._ear.seconds):
            return
        if not self._turn_begun:
            self._turn_begun = True
            self._tell("turn-begins")
        if not self._turn_long and self._ear.seconds >= 1.0:
            self._turn_long = True
            self._tell("turn-1s")
        if self._user_item and self._settings.transcribes and self._ear.seconds >= self._told_s + PARTIAL_EVERY_S:
            self._told_s = self._ear.seconds
            self._transcript("updated", self._user_item, self._measure(self._ear.sound, self._ear.rate))

    def _measure(self, pcm: bytes, rate: int) -> str:
        """What can be said of the words in *pcm*."""
        spoken = speech_seconds(pcm, rate, self._ear.threshold_db)
        if spoken:
            return f"({spoken:.1f} seconds of speech)"
        return f"({seconds(pcm, rate):.1f} seconds without speech)"

    def _transcript(self, what: str, item: str, text: str, **fields: Any) -> None:
        kind = f"conversation.item.input_audio_transcription.{what}"
        self._emit(kind, item_id=item, content_index=0, transcript=text, **fields)

    def _speech_started(self, noticed: SpeechStarted) -> None:
        self._user_item = self._id()
        self._turn_begun = self._turn_long = False
        self._told_s = 0.0
        self._emit("input_audio_buffer.speech_started", item_id=self._user_item, audio_start_ms=noticed.at)
        self._add(Item(self._user_item, "message", "user"), "in_progress", [{"type": "input_audio", "transcript": ""}])
        detection = self._settings.turn_detection
        if self._reply and detection and detection.interrupt_response:
            self._unanswered = False  # what the user says now is what counts
            self._end_reply("cancelled")

    def _speech_stopped(self, noticed: SpeechStopped) -> None:
        item, self._user_item = self._user_item, ""
        text = self._measure(noticed.pcm, self._ear.rate)
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=noticed.at)
        if self._settings.transcribes:
            self._transcript("completed", item, text, status="in_progress")
        self._emit("input_audio_buffer.committed", item_id=item)
        if self._settings.transcribes:
            self._transcript("completed", item, text, status="completed")
        self._take_turn(item, noticed.pcm, text)
        if self._settings.turn_detection and self._settings.turn_detection.create_response:
            self._answer_when_free()

    def _take_turn(self, item_id: str, pcm: bytes, text: str) -> None:
        """A spoken turn is complete."""
        self._turn_begun = self._turn_long = False
        self._told_s = 0.0
        self._keep_sound(item_id, pcm, text)
        self.heard.note_turn(Turn(self._now, self._ear.rate, pcm))
        length = seconds(pcm, self._ear.rate)
        self._tell("turn", f"heard a turn of {length:.2f} s at {level(pcm):.0f} dBFS {text}")

    def _keep_sound(self, item_id: str, pcm: bytes, text: str) -> None:
        """Only the newest sound can be answered; older sound is forgotten."""
        for item in self._items.values():
            item.sound = b""
        if item_id in self._items:
            item = self._items[item_id]
            item.sound, item.rate, item.text = pcm, self._ear.rate, text

    def _commit(self, event: dict[str, Any]) -> None:
        ear = self._ear
        if ear.listening:
            return  # the ear decides; the live service does not even answer
        if ear.seconds < SHORTEST_COMMIT_S:
            raise Refusal(
                f"Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {1000 * ear.seconds:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        pcm, item = ear.take(), Item(self._id(), "message", "user")
        text = self._measure(pcm, ear.rate)
        self._emit("input_audio_buffer.committed", item_id=item.id, previous_item_id=self._last_item())
        self._add(item, "completed", [{"type": "input_audio", "transcript": ""}])
        if self._settings.transcribes:
            self._transcript("updated", item.id, text)
            self._transcript("completed", item.id, text, status="in_progress")
            self._transcript("completed", item.id, text, status="completed")
        self._take_turn(item.id, pcm, text)

    def _clear(self, event: dict[str, Any]) -> None:
        self._ear.take()
        self._user_item = ""
        self._turn_begun = self._turn_long = False
        self._told_s = 0.0
        self._emit("input_audio_buffer.cleared")

    # The items of the conversation ------------------------------------------------------------------------------------

    def _last_item(self) -> str | None:
        return next(reversed(self._items), None)

    def _add(self, item: Item, status: str, content: list[Any] | None = None, **fields: Any) -> None:
        shown = {"id": item.id, "object": "realtime.item", "type": item.type, "status": status, "role": item.role}
        if content is not None:
            fields["content"] = content
        self._emit("conversation.item.added", item={**shown, **fields}, previous_item_id=self._last_item())
        self._items[item.id] = item
        while len(self._items) > MAX_ITEMS:
            del self._items[next(iter(self._items))]

    def _item_create(self, event: dict[str, Any]) -> None:
        given = event.get("item")
        kind = given.get("type") if isinstance(given, dict) else None
        maker = self._ITEMS.get(kind) if isinstance(kind, str) else None
        if not isinstance(given, dict) or maker is None:
            raise Refusal(f"item.type must be one of {', '.join(self._ITEMS)}", param="item.type")
        if "id" in given and (not isinstance(given["id"], str) or given["id"] in self._items):
            raise Refusal("item.id must be a string that no other item has", param="item.id")
        maker(self, given, given.get("id") or self._id())

    def _create_message(self, given: dict[str, Any], item_id: str) -> None:
        role, content = given.get("role"), given.get("content")
        if role not in ("user", "assistant", "system"):
            raise Refusal("item.role must be one of user, assistant, system", param="item.role")
        item = Item(item_id, "message", role, text=text_of(content))
        sounds = [part for part in content or [] if part["type"] in ("input_audio", "audio")]
        pcm = b"".join(sound_of(part.get("audio", ""), "item.content.audio") for part in sounds)
        shown = [{k: v for k, v in part.items() if k != "audio"} for part in content or []]
        self._add(item, "completed", shown)
        if role != "user":
            return
        if pcm:
            self._keep_sound(item_id, pcm, self._measure(pcm, self._ear.rate))
        self.heard.note_turn(Turn(self._now, self._ear.rate, pcm, item.text))
        self._tell("turn", f"read: {item.text[:200]}" if item.text else f"heard {seconds(pcm, self._ear.rate):.2f} s")

    def _create_call(self, given: dict[str, Any], item_id: str) -> None:
        item = Item(item_id, "function_call", "tool")
        self._add(item, "completed", **{name: given.get(name) for name in ("call_id", "name", "arguments")})

    def _create_output(self, given: dict[str, Any], item_id: str) -> None:
        for name in ("call_id", "output"):
            if not isinstance(given.get(name), str):
                raise Refusal(f"item.{name} must be a string", code="invalid_type", param=f"item.{name}")
        item = Item(item_id, "function_call_output", "tool", text=given["output"][:MAX_TEXT])
        self._add(item, "completed", call_id=given["call_id"], output=given["output"])
        self._tell("turn", f"told by a tool: {item.text[:200]}")

    def _create_spoken(self, given: dict[str, Any], item_id: str) -> None:
        """``force_message``: the service speaks this text, unasked."""
        text = text_of(given.get("content"))
        self._refuse_second_reply()
        self._begin_reply(Thought(melody(text, self._settings.output.rate), text))

    def _item_delete(self, event: dict[str, Any]) -> None:
        item = self._find(event)
        del self._items[item.id]
        self._emit("conversation.item.deleted", item_id=item.id)

    def _item_truncate(self, event: dict[str, Any]) -> None:
        item, end = self._find(event), event.get("audio_end_ms")
        if item.role != "assistant" or (self._reply and self._reply.item is item):
            raise Refusal("Only a reply that is over can be truncated", param="item_id")
        if isinstance(end, bool) or not isinstance(end, int) or end < 0:
            raise Refusal("audio_end_ms must be a whole number", code="invalid_type", param="audio_end_ms")
        length = int(1000 * item.spoken_s)
        if end > length:
            raise Refusal(
                f"Audio content of {length}ms is already shorter than {str(end)[:20]}ms", param="audio_end_ms"
            )
        item.spoken_s = end / 1000
        self._emit("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=end)

    def _find(self, event: Mapping[str, Any]) -> Item:
        name = event.get("item_id")
        item = self._items.get(name) if isinstance(name, str) else None
        if item is None:
            raise Refusal("Item not found", code="item_not_found", param="item_id")
        return item

    # The reply --------------------------------------------------------------------------------------------------------

    def _response_create(self, event: dict[str, Any]) -> None:
        if not isinstance(event.get("response", {}), dict):
            raise Refusal("response must be an object", code="invalid_type", param="response")
        self._refuse_second_reply()
        self._begin_reply(self._think())

    def _response_cancel(self, event: dict[str, Any]) -> None:
        if self._reply is None or event.get("response_id", self._reply.id) != self._reply.id:
            raise Refusal("Cancellation failed: no active response found", code="response_cancel_not_active")
        self._end_reply("cancelled")

    def _refuse_second_reply(self) -> None:
        if self._reply:
            text = f"Conversation already has an active response in progress: {self._reply.id}"
            raise Refusal(text, code="conversation_already_has_active_response")

    def _answer_when_free(self) -> None:
        if self._reply:
            self._unanswered = True
        else:
            self._begin_reply(self._think())

    def _think(self) -> Thought:
        """Find an answer to the newest item that is not ours."""
        rate = self._settings.output.rate
        asked = next((item for item in reversed(self._items.values()) if item.role != "assistant"), None)
        if asked is None:
            return Thought(melody("", rate), "Hello, I am a simulator.")
        calls = self._call_for(asked)
        if calls:
            text = f"I will use {calls[0]}."
            return Thought(melody(text, rate), text, calls)
        if asked.sound:
            return Thought(resample(asked.sound, asked.rate, rate), f"You said: {asked.text}.")
        who = "The tool said" if asked.type == "function_call_output" else "You wrote"
        return Thought(melody(asked.text, rate), f"{who}: {asked.text[:1000]}")

    def _call_for(self, asked: Item) -> tuple[str, str] | None:
        """Which function to call: the one a text names, with the JSON object in it; or the one *manners* names."""
        functions = self._settings.functions
        if asked.role != "user" or not functions:
            return None
        if asked.sound:
            return (self.manners.tool, self.manners.tool_arguments) if self.manners.tool in functions else None
        named = next((name for name in functions if re.search(rf"\b{re.escape(name)}\b", asked.text)), None)
        if named is None:
            return None
        found = re.search(r"\{.*\}", asked.text, re.DOTALL)
        return named, found.group() if found else "{}"

    def _begin_reply(self, thought: Thought) -> None:
        if self.manners.silent:
            return
        output = self._settings.output
        pieces = cut(thought.pcm, thought.text, output.rate, self.manners.pace, self._chance)
        item = Item(self._id(), "message", "assistant", text=thought.text)
        first = self._now + self.manners.think_s
        reply = Reply(self._id(), item, thought.text, deque(), len(thought.pcm), output.rate, output.binary, self._id())
        reply.calls = thought.calls
        reply.plan.append((first, self._announce))
        reply.plan.extend((first + piece.at, self._speaker(piece)) for piece in pieces)
        reply.plan.append((first + (pieces[-1].at if pieces else 0.0), self._conclude))
        self._reply = reply
        created = {"id": reply.id, "object": "realtime.response", "output": [], "status": "in_progress"}
        # A string where one expects an object, and no usage: recorded so.
        self._emit("response.created", response={**created, "status_details": "unimplemented", "usage": {}})

    def _place(self, reply: Reply) -> dict[str, Any]:
        return {"response_id": reply.id, "item_id": reply.item.id, "output_index": 0, "content_index": 0}

    def _shown(self, item: Item, status: str, **fields: Any) -> dict[str, Any]:
        shown = {"id": item.id, "object": "realtime.item", "type": item.type, "status": status, "role": item.role}
        return {**shown, **fields}

    def _announce(self) -> None:
        reply = self._running()
        reply.began = True
        shown = self._shown(reply.item, "in_progress")
        self._emit("response.output_item.added", item=shown, response_id=reply.id, output_index=0)
        self._add(reply.item, "in_progress", [])
        part = {"type": "audio", "transcript": ""}
        self._emit("response.content_part.added", **self._place(reply), part=part, previous_item_id="0")

    def _running(self) -> Reply:
        """The reply whose plan is being followed."""
        assert self._reply is not None, "a plan outlived its reply"  # noqa: S101
        return self._reply

    def _speaker(self, piece: Piece) -> Callable[[], None]:
        return lambda: self._say_sound(piece) if piece.pcm else self._say_words(piece)

    def _say_sound(self, piece: Piece) -> None:
        reply = self._running()
        third = reply.total // 3
        crossed = reply.sent <= third < reply.sent + len(piece.pcm)
        latency = {} if reply.sent else {"latency": f"{self.manners.think_s:.2f}"}
        reply.sent += len(piece.pcm)
        reply.item.spoken_s = reply.sent / (2 * reply.rate)
        if reply.binary:
            self._outgoing.append(piece.pcm)
        else:
            self._emit(
                "response.output_audio.delta",
                **self._place(reply),
                delta=base64.b64encode(piece.pcm).decode(),
                rid=reply.rid,
                **latency,
                audio_duration_ms=round(1000 * seconds(piece.pcm, reply.rate)),
                ts=self._stamp(),
            )
        if crossed:
            self._tell("replying")

    def _say_words(self, piece: Piece) -> None:
        reply = self._running()
        reply.said += piece.words
        place = {**self._place(reply), "rid": reply.rid, "start_time": round(piece.start, 2)}
        self._emit("response.output_audio_transcript.delta", **place, delta=piece.words)

    def _conclude(self) -> None:
        """The end of a reply, in the recorded order."""
        reply = self._running()
        place = self._place(reply)
        self._emit("response.output_audio_transcript.done", **place, transcript=reply.text)
        self._emit("response.content_part.done", **place)  # without the part itself
        self._emit("response.output_audio.done", **place)
        shown = self._shown(reply.item, "completed")
        self._emit("response.output_item.done", item=shown, response_id=reply.id, output_index=0)
        if reply.calls:
            self._call(reply, *reply.calls)
        self._end_reply("completed")

    def _call(self, reply: Reply, name: str, arguments: str) -> None:
        """A function call follows the spoken sentence in the same response. Its role differs from event to event."""
        item = Item(self._id(), "function_call", "tool")
        call: dict[str, Any] = {"call_id": f"call-{self._id()}-0", "name": name}
        place = {"response_id": reply.id, "output_index": 0}
        user = Item(item.id, item.type, "user")
        self._emit("response.output_item.added", item=self._shown(user, "in_progress", **call, arguments=""), **place)
        self._add(item, "in_progress", **call, arguments="")
        ids = {"item_id": item.id, "response_id": reply.id, "call_id": call["call_id"]}
        self._emit("response.function_call_arguments.delta", **ids, delta=arguments)
        self._emit("response.function_call_arguments.done", **ids, output_index=0, name=name, arguments=arguments)
        done = self._shown(user, "completed", **call, arguments=arguments)
        self._emit("response.output_item.done", item=done, **place)
        reply.output.append(done)
        self._tell("replying", f"calls {name}({arguments[:200]})")

    def _end_reply(self, status: str) -> None:
        """The reply is over. A cancelled one ends with ``response.done`` alone."""
        reply = self._running()
        self._reply = None
        self.heard.replies += 1
        content = [{"type": "audio", "transcript": reply.said}]
        item_status = "completed" if status == "completed" else "incomplete"
        spoken = [self._shown(reply.item, item_status, content=content)] if reply.began else []
        response = {"id": reply.id, "object": "realtime.response", "output": [*spoken, *reply.output]}
        self._emit(
            "response.done",
            response={**response, "status": status, "status_details": "unimplemented", "usage": {}},
            response_id=reply.id,
            usage=self._usage(reply),
        )
        self._tell("replied", f"replied {reply.item.spoken_s:.2f} s, {status}: {reply.said[:200]}")
        if self._unanswered:
            self._unanswered = False
            self._answer_when_free()

    def _usage(self, reply: Reply) -> dict[str, Any]:
        """Tokens as recorded: fifty for a second of sound, about one for a word; with seconds beside them."""
        text, sound = len(reply.said.split()), round(50 * reply.item.spoken_s)
        heard = {"text_tokens": 0, "audio_tokens": 0, "grok_tokens": 0}
        said = {"text_tokens": text, "audio_tokens": sound, "grok_tokens": 0}
        return {
            "input_tokens": 0,
            "input_token_details": heard,
            "output_tokens": text + sound,
            "output_token_details": said,
            "total_tokens": text + sound,
            "output_audio_seconds": reply.item.spoken_s,
            "billable_audio_seconds": math.ceil(reply.item.spoken_s),
        }

    _HANDLERS: Mapping[str, Callable[[XaiVoice, dict[str, Any]], None]] = {
        "session.update": _session_update,
        "input_audio_buffer.append": _append,
        "input_audio_buffer.commit": _commit,
        "input_audio_buffer.clear": _clear,
        "conversation.item.create": _item_create,
        "conversation.item.delete": _item_delete,
        "conversation.item.truncate": _item_truncate,
        "response.create": _response_create,
        "response.cancel": _response_cancel,
    }
    _ITEMS: Mapping[str, Callable[[XaiVoice, dict[str, Any], str], None]] = {
        "message": _create_message,
        "function_call": _create_call,
        "function_call_output": _create_output,
        "force_message": _create_spoken,
    }


# Reading what a client wrote ------------------------------------------------------------------------------------------


def parse(message: str) -> dict[str, Any]:
    """Return the event in a text frame; raise Refusal where there is none."""
    try:
        event = json.loads(message, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal("The message is not JSON", code="invalid_event") from None
    if not isinstance(event, dict):
        raise Refusal("An event must be a JSON object", code="invalid_event")
    if depth(event) > MAX_DEPTH:
        raise Refusal(f"An event may be nested {MAX_DEPTH} deep", code="invalid_event")
    return event


def _refuse_number(text: str) -> float:
    raise ValueError(text)  # NaN and Infinity are Python's, not JSON's; echoed, they would break a strict reader


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def depth(value: Any) -> int:
    """Return how deep *value* is nested, without recursion, MAX_DEPTH + 1 at most."""
    level_of, here = 0, [value]
    while here and level_of <= MAX_DEPTH:
        level_of += 1
        here = [inner for outer in here for inner in _inside(outer)]
    return level_of


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def sound_of(audio: Any, where: str) -> bytes:
    """Return the sound in a base64 string; raise Refusal where there is none."""
    if not isinstance(audio, str):
        raise Refusal(f"{where} must be a base64 string", code="invalid_type", param=where)
    try:
        pcm = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(f"{where} is not valid base64", code="invalid_audio", param=where) from None
    if len(pcm) % 2:
        raise Refusal(f"{where} has half a sample at its end", code="invalid_audio", param=where)
    return pcm


def text_of(content: Any) -> str:
    """Return the text in the parts of a message; raise Refusal where they make no sense."""
    if not isinstance(content, list) or not content:
        raise Refusal("item.content must be a list of parts", code="invalid_type", param="item.content")
    texts = []
    for index, part in enumerate(content):
        where = f"item.content[{index}]"
        kinds = ("input_text", "output_text", "text", "input_audio", "audio")
        if not isinstance(part, dict) or part.get("type") not in kinds:
            raise Refusal(f"{where}.type must be one of {', '.join(kinds)}", param=f"{where}.type")
        if part["type"].endswith("text"):
            if not isinstance(part.get("text"), str):
                raise Refusal(f"{where}.text must be a string", code="invalid_type", param=f"{where}.text")
            texts.append(part["text"])
    return " ".join(texts)[:MAX_TEXT]
