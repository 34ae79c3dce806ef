"""Base of the sessions with JSON events, base64 sound and replies in pieces: xAI and OpenAI. Pure.

``RealtimeBase`` keeps settings, items, the reply under way and its timing. The events differ from service to service:
the abstract methods are implemented in the modules of the services.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...dsp import g711
from ...dsp.pcm import seconds
from ..contract import CALLED_S, IDLE_S, Behaviour, ConnectionLog, Message, Received
from ..services.rewriting import Rewriting
from .answers import Thought, think
from .items import Item, Items
from .parsing import MAX_TEXT, Refusal, bytes_of, parse, text_of
from .reply_audio import Piece, cut, typed, words_first
from .schedule import Step
from .server_vad import MAX_BUFFER_S, SpeechStarted, SpeechStopped, loudness_threshold
from .session_settings import Format, Settings, TurnDetection
from .speech_session import Progress, SpeechSession

MIN_COMMIT_S = 0.1
MAX_EARLY_MESSAGES = 10_000
"""Messages that may wait for a service that does not read yet."""
CUT_PARTS = 3
"""A reply that is cut short ends after one of so many parts."""
FAILURES = {
    "rate_limit_exceeded": "Rate limit reached on tokens per min (TPM). Please try again in 166ms.",
    "server_error": "The server had an error while processing your request. Sorry about that!",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
}
"""The code with which a reply fails -> message. A quota fails every reply of a connection, the others the first."""

SIMULATED_CODECS = {"pcmu": functools.cache(g711.pcmu), "pcma": functools.cache(g711.pcma)}


@dataclass(kw_only=True)
class Reply(Progress):
    """The reply under way. *aloud*: with sound."""

    id: str
    item: Item
    text: str
    pcm: bytes = field(repr=False)
    output: Format
    aloud: bool
    options: Mapping[str, Any]  # what the client asked for in this reply alone
    calls: tuple[str, str] | None  # function and arguments
    rid: str  # recorded on every piece of xAI; its meaning is not documented
    begun: bool = False
    item_offset: int = 0  # bytes of sound sent before its newest item
    done: list[dict[str, Any]] = field(default_factory=list)  # the items that are complete, as they are shown


class RealtimeBase(SpeechSession, ABC):
    """One connection. *wall* is Unix time at 0 of the clock, for time stamps."""

    SESSION_S: ClassVar[float] = 3600.0
    """How long a session lasts."""
    PART_TYPES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Role of a message -> the types that its parts may have."""
    ERROR_TYPES: ClassVar[Mapping[str, str]] = {}
    """Code of a refusal -> type of the error, unless it is invalid_request_error."""
    HANDLERS: ClassVar[Mapping[str, str]] = {
        "session.update": "_session_update",
        "input_audio_buffer.append": "_append",
        "input_audio_buffer.commit": "_commit",
        "input_audio_buffer.clear": "_clear",
        "conversation.item.create": "_item_create",
        "conversation.item.truncate": "_item_truncate",
        "response.create": "_response_create",
        "response.cancel": "_response_cancel",
    }
    """The type of an event -> the method that handles it."""
    ITEM_HANDLERS: ClassVar[Mapping[str, str]] = {
        "message": "_create_message",
        "function_call": "_create_call",
        "function_call_output": "_create_output",
    }
    """The type of an item -> the method that puts it into the conversation."""

    def __init__(
        self, behaviour: Behaviour, log: ConnectionLog, rng: random.Random, settings: Settings, wall: float = 0.0
    ) -> None:
        super().__init__(behaviour, log, rng, settings.input.rate)
        self._wall = wall
        self._idle_at = math.inf
        self._early: deque[Message] | None = None  # what came before the service reads
        self._failed = self._refused_idle = False
        self._rewriting = Rewriting(self._id)
        self._settings = settings
        self._configure_vad()
        self._items = Items()
        self._user_item = ""  # the item that grows while the user speaks
        self._read_item = ""  # the text that was a turn last
        self._reply: Reply | None = None
        self._unanswered = False  # a turn ended while a reply was running that could not be interrupted

    # The contract -----------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        self._now = now
        self._after(self.behaviour.session_s or self.SESSION_S, self._expire)
        self._report("connected", f"connected, model {self.log.model}")
        if self.behaviour.greet_s:
            self._early = deque(maxlen=MAX_EARLY_MESSAGES)
            self._after(self.behaviour.greet_s, self._begin_to_read)
        else:
            self._emit_greeting()
        self._set_deadline()

    def _begin_to_read(self) -> None:
        early, self._early = self._early or (), None
        self._emit_greeting()
        for message in early:
            self.receive(message, self._now)

    def receive(self, message: Message, now: float) -> None:
        self._now = now
        if self._closed:
            return
        self._idle_at = now + IDLE_S
        if self._early is not None:
            self._early.append(message)
            return
        event: dict[str, Any] = {}
        try:
            if isinstance(message, bytes):
                self.log.add_message(Received(self._now, {"type": "binary frame"}))
                raise Refusal("A binary frame, but audio.input.transport is json", code="invalid_event")
            event = parse(message)
            self._handle(event)
        except Refusal as refusal:
            self._refuse(refusal, event)
        self._set_deadline()

    def tick(self, now: float) -> None:
        super().tick(now)
        if now >= self._idle_at:
            self._idle_at = now + IDLE_S if self._reply else math.inf
            if not self._reply:
                self._report("idle")
        self._set_deadline()

    def _set_deadline(self) -> None:
        super()._set_deadline()
        if self.deadline is not None:
            self.deadline = min(self.deadline, self._idle_at)

    # What goes out ----------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self._id("event"), **fields}
        for each in self._rewriting(event, self.behaviour.rewriters):
            self._outgoing.append(json.dumps(each, allow_nan=False))

    def _refuse(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        """Answer *event* with an ``error``; the session goes on."""
        kind, name = self.ERROR_TYPES.get(refusal.code, "invalid_request_error"), event.get("event_id")
        self._emit_error(kind, refusal.code, str(refusal), refusal.param, name)
        self._report("trouble", f"refused {str(event.get('type', 'a message'))[:60]}: {refusal}")

    def _emit_error(
        self, kind: str, code: str | None, message: str, param: str | None = None, event_id: object = None
    ) -> None:
        name = event_id if isinstance(event_id, str) else None
        error = {"type": kind, "code": code, "message": message, "param": param, "event_id": name}
        self._emit("error", error=error)

    def _end_session(self, kind: str, code: str | None, message: str, close_code: int, reason: str) -> None:
        """Say why in an ``error``, and close."""
        self._emit_error(kind, code, message)
        self._report("trouble", f"{code or kind}: {message}")
        self._close(close_code, reason)

    # How each service says it -----------------------------------------------------------------------------------------

    @abstractmethod
    def _id(self, kind: str) -> str:
        """Return a new id for an event, item, resp(onse), call, conv(ersation) or sess(ion)."""

    @abstractmethod
    def _emit_greeting(self) -> None: ...

    @abstractmethod
    def _expire(self) -> None:
        """End the session, which has lasted as long as it may."""

    @abstractmethod
    def _emit_settings(self, echo: dict[str, Any]) -> None: ...

    @abstractmethod
    def _emit_added(self, item: Item, status: str, **fields: Any) -> None: ...

    @abstractmethod
    def _emit_speech_started(self, item: str, at: int) -> None: ...

    @abstractmethod
    def _emit_speech_stopped(self, item: str, at: int, text: str) -> None:
        """Emit the end of a turn that server VAD has found."""

    @abstractmethod
    def _emit_committed(self, item: str, text: str) -> None:
        """Emit the end of a turn that the client has committed."""

    @abstractmethod
    def _response(self, reply: Reply, status: str, output: Sequence[Any], details: Any) -> dict[str, Any]:
        """Return *reply* as it is shown."""

    @abstractmethod
    def _begin_item(self) -> None:
        """Emit the beginning of the item that is spoken."""

    @abstractmethod
    def _emit_sound(self, reply: Reply, piece: Piece) -> None: ...

    @abstractmethod
    def _emit_words(self, reply: Reply, piece: Piece) -> None: ...

    @abstractmethod
    def _finish_reply(self) -> None:
        """Emit the end of the item, and what follows in the reply."""

    @abstractmethod
    def _emit_reply_done(self, reply: Reply, status: str, reason: str) -> None:
        """Emit the end of the reply; where it failed *reason* is the code."""

    def _failed_with(self, code: str) -> dict[str, Any]:
        """Return the details of a reply that failed."""
        return {"type": "failed", "error": {"type": code, "code": code, "message": FAILURES[code]}}

    # What comes in ----------------------------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind != "input_audio_buffer.append":
            self.log.add_message(Received(self._now, event))
        if not isinstance(kind, str) or kind not in self.HANDLERS:
            raise self._unknown(str(kind)[:60])
        self._check(kind, event)
        getattr(self, self.HANDLERS[kind])(event)

    def _unknown(self, kind: str) -> Refusal:
        return Refusal(f"Unknown event type: {kind}", code="invalid_event", param="type")

    def _check(self, kind: str, event: dict[str, Any]) -> None:
        """Raise Refusal where *event* has the wrong fields."""

    def _session_update(self, event: dict[str, Any]) -> None:
        settings = self._settings.updated(event.get("session"))
        self._refuse_settings(settings)
        self._settings = settings
        self._configure_vad()
        echo = settings.echo(self.log.model)
        self.log.settings = echo
        self._emit_settings(echo)
        detection = settings.turn_detection
        turns = f"server_vad at {detection.threshold:g}" if detection else "manual turns"
        self._report(
            "configured",
            f"configured: voice {settings.voice[:40]}, {turns}, {settings.input.rate} Hz in, "
            f"{settings.output.rate} Hz out, {len(echo.get('tools', []))} tools",
        )

    def _refuse_settings(self, settings: Settings) -> None:
        """Raise Refusal where the behaviour says so."""
        if self.behaviour.refuses == "settings":
            raise Refusal("These settings are not available to you.", param="session")
        if self.behaviour.refuses == "transcription" and settings.transcribes:
            where = "session.audio.input.transcription.model"
            raise Refusal("The model for the transcripts has been shut down.", param=where)

    def _configure_vad(self) -> None:
        vad, detection = self._vad, self._detection
        vad.change_rate(self._settings.input.rate)
        if vad.listening is not (detection is not None):
            vad.reset()
            self._user_item = ""
        vad.listening = detection is not None
        vad.watching = self._reports_speech and not vad.listening
        usual = detection or TurnDetection()
        vad.threshold_db = loudness_threshold(usual.threshold)
        vad.prefix_ms, vad.silence_ms = usual.prefix_ms, usual.silence_ms

    @property
    def _detection(self) -> TurnDetection | None:
        """Server VAD; None where the client ends the turns."""
        return self._settings.turn_detection

    @property
    def _reports_speech(self) -> bool:
        """Whether the beginning of speech is reported although the client ends the turns."""
        return False

    def _append(self, event: dict[str, Any]) -> None:
        audio = event.get("audio")
        pcm = b""
        try:
            pcm = self._decode(bytes_of(audio, "audio"), "audio")
        finally:
            length = len(audio) if isinstance(audio, str) else 0
            self.log.add_message(Received(self._now, {**event, "audio": f"<{length} characters>"}, pcm))
        if self._vad.seconds + seconds(pcm, self._vad.rate) > MAX_BUFFER_S:
            text = f"The input audio buffer holds {MAX_BUFFER_S:g} seconds at most; commit or clear it"
            raise Refusal(text, code="input_audio_buffer_full")
        self._append_sound(pcm)

    def _decode(self, data: bytes, where: str) -> bytes:
        """Return sound of the client as PCM."""
        codec = self._settings.input.codec
        if codec != "pcm":
            return SIMULATED_CODECS[codec]().decode(data)
        if len(data) % 2:
            raise Refusal(f"{where} has half a sample at its end", code="invalid_audio", param=where)
        return data

    def _speech_started(self, detected: SpeechStarted) -> None:
        self._user_item = self._id("item")
        self._emit_speech_started(self._user_item, detected.at)
        if self._reply and self._detection and self._detection.interrupt_response:
            self._unanswered = False  # what the user says now is what counts
            self._end_reply("cancelled", "turn_detected")

    def _speech_stopped(self, detected: SpeechStopped) -> None:
        item, self._user_item = self._user_item, ""
        text = self._measure(detected.pcm)
        self._emit_speech_stopped(item, detected.at, text)
        self._take_turn(item, detected.pcm, text)
        if self._detection and self._detection.create_response:
            self._answer_when_free()

    def _take_turn(self, item_id: str, pcm: bytes, text: str) -> None:
        """Take a complete spoken turn."""
        self._items.keep_sound(item_id, pcm, self._vad.rate, text)
        self._log_speech(pcm, text)

    def _commit(self, event: dict[str, Any]) -> None:
        if self._vad.seconds < MIN_COMMIT_S:
            raise Refusal(
                f"Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {1000 * self._vad.seconds:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        item, self._user_item = self._user_item or self._id("item"), ""
        pcm = self._vad.take()
        text = self._measure(pcm)
        self._emit_committed(item, text)
        self._take_turn(item, pcm, text)

    def _clear(self, event: dict[str, Any]) -> None:
        self._vad.take()
        self._user_item = ""
        self._emit("input_audio_buffer.cleared")

    # The items of the conversation ------------------------------------------------------------------------------------

    def _add(self, item: Item, status: str, behind: str | None = None, **fields: Any) -> None:
        self._items.add(item, behind)
        self._emit_added(item, status, **fields)

    def _item_create(self, event: dict[str, Any]) -> None:
        given = event.get("item")
        kind = given.get("type") if isinstance(given, dict) else None
        if not isinstance(given, dict) or not isinstance(kind, str) or kind not in self.ITEM_HANDLERS:
            raise Refusal(f"item.type must be one of {', '.join(self.ITEM_HANDLERS)}", param="item.type")
        if given.get("id") is not None and (not isinstance(given["id"], str) or given["id"] in self._items):
            raise Refusal("item.id must be a string that no other item has", param="item.id")
        item_id = given.get("id") or self._id("item")
        getattr(self, self.ITEM_HANDLERS[kind])(given, item_id, self._behind(event))

    def _behind(self, event: Mapping[str, Any]) -> str | None:
        """Return the id of the item that the new one follows; None: the last one."""
        return None

    def _create_message(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        role, content = given.get("role"), given.get("content")
        if not isinstance(role, str) or role not in self.PART_TYPES:
            raise Refusal(f"item.role must be one of {', '.join(self.PART_TYPES)}", param="item.role")
        item = Item(item_id, "message", role, text=text_of(content, self.PART_TYPES[role]), typed=True)
        clips = [part.get("audio") or "" for part in content or [] if "audio" in part["type"]]
        where = "item.content.audio"
        pcm = b"".join(self._decode(bytes_of(clip, where), where) for clip in clips)
        shown = [{k: v for k, v in part.items() if k != "audio"} for part in content or []]
        self._add(item, "completed", behind, content=shown)
        if role == "user" and pcm:
            item.typed = False
            self._take_turn(item_id, pcm, self._measure(pcm))

    def _create_call(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        call = {name: str(given.get(name))[:MAX_TEXT] for name in ("call_id", "name", "arguments")}
        self._add(Item(item_id, "function_call", "tool", call=call), "completed", behind, **call)

    def _create_output(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        call = {}
        for name in ("call_id", "output"):
            if not isinstance(given.get(name), str):
                raise Refusal(f"item.{name} must be a string", code="invalid_type", param=f"item.{name}")
            call[name] = given[name][:MAX_TEXT]
        item = Item(item_id, "function_call_output", "tool", text=call["output"], call=call)
        self._add(item, "completed", behind, call_id=given["call_id"], output=given["output"])
        self._report("turn", f"told by a tool: {item.text[:200]}")

    def _item_truncate(self, event: dict[str, Any]) -> None:
        """Also while the reply is under way: what is sent afterwards counts again."""
        item, end = self._find(event), event.get("audio_end_ms")
        if item.role != "assistant" or item.type != "message":
            raise Refusal("Only a reply can be truncated", param="item_id")
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
        item = self._items.find(event.get("item_id"))
        if item is None:
            raise Refusal("Item not found", code="item_not_found", param="item_id")
        return item

    # The reply --------------------------------------------------------------------------------------------------------

    def _response_create(self, event: dict[str, Any]) -> None:
        options = event.get("response")
        if not isinstance(options, dict | None):
            raise Refusal("response must be an object", code="invalid_type", param="response")
        self._refuse_second_reply()
        self._take_text()
        self._answer({name: value for name, value in (options or {}).items() if value is not None})

    def _take_text(self) -> None:
        """Take a text as a turn when a reply to it is asked for; others only tell what was said before."""
        asked = self._items.to_answer()
        if asked and asked.typed and asked.role == "user" and asked.id != self._read_item:
            self._read_item = asked.id
            self._log_text(asked.text)

    def _refuse_second_reply(self) -> None:
        self._refused_idle = self.behaviour.busy_idle and not self._reply and not self._refused_idle
        if self._reply or self._refused_idle:
            text = f"Conversation already has an active response in progress: {self._reply.id if self._reply else ''}"
            raise Refusal(text, code="conversation_already_has_active_response")

    def _response_cancel(self, event: dict[str, Any]) -> None:
        if self._reply is None or event.get("response_id", self._reply.id) != self._reply.id:
            raise Refusal("Cancellation failed: no active response found", code="response_cancel_not_active")
        self._end_reply("cancelled", "client_cancelled")

    def _answer_when_free(self) -> None:
        if self._reply:
            self._unanswered = True
        else:
            self._answer({})

    def _answer(self, options: Mapping[str, Any]) -> None:
        aloud = self._is_aloud(options)
        asked, functions = self._items.to_answer(), self._functions(options)
        thought = think(asked, functions, self.behaviour, self._settings.output.rate, aloud=aloud)
        self._begin_reply(thought, options, aloud=aloud)

    def _is_aloud(self, options: Mapping[str, Any]) -> bool:
        """Return whether a reply has sound."""
        return True

    def _functions(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the functions that a reply may call."""
        return self._settings.functions

    def _begin_reply(
        self,
        thought: Thought,
        options: Mapping[str, Any],
        *,
        aloud: bool = True,
        before: Iterable[tuple[float, Step]] = (),
    ) -> None:
        """Begin to reply. *before* are the steps before the first word, each so many seconds after the one before."""
        if self.behaviour.silent:
            return
        aloud = aloud and self.behaviour.reply != "text"
        pcm = thought.pcm if aloud else b""
        self._reply = reply = Reply(
            item=Item(self._id("item"), "message", "assistant"),
            rid=self._id("rid"),
            id=self._id("resp"),
            text=thought.text,
            pcm=pcm,
            total=len(pcm),
            output=self._settings.output,
            aloud=aloud,
            options=options,
            calls=thought.calls,
        )
        if self.behaviour.announce_s:
            self._after(self.behaviour.announce_s, lambda: self._plan_reply(reply, before), reply)
        else:
            self._plan_reply(reply, before)

    def _plan_reply(self, reply: Reply, before: Iterable[tuple[float, Step]]) -> None:
        """Announce *reply*, and schedule what follows."""
        delay_s, failure = self.behaviour.think_s, self._failure()
        if failure in ("", "server_error"):  # the others are noticed before there is anything to announce
            self._emit("response.created", response=self._response(reply, "in_progress", [], None))
        if failure:
            self._after(delay_s, lambda: self._end_reply("failed", failure), reply)
            return
        for wait_s, step in before:
            delay_s += wait_s
            self._after(delay_s, step, reply)
        if self.behaviour.reply == "empty":
            self._after(delay_s, lambda: self._end_reply("completed"), reply)
        else:
            self._plan_pieces(reply, delay_s)

    def _failure(self) -> str:
        """Return the code with which the reply that begins now fails, "" where it does not."""
        code = self.behaviour.fails
        if self._failed and code != "insufficient_quota":
            return ""
        self._failed = bool(code)
        return code

    def _plan_pieces(self, reply: Reply, delay_s: float) -> None:
        """Schedule the pieces of *reply*, the first one in *delay_s*."""
        pace = self.behaviour.pace
        if reply.aloud:
            pieces = cut(reply.pcm, reply.text, reply.output.rate, pace, self._rng)
        else:
            pieces = typed(reply.text, pace, self._rng)
        if self.behaviour.voice_s:
            pieces = words_first(pieces, self.behaviour.voice_s)
        steps: list[tuple[float, Step]] = [(piece.at, functools.partial(self._send_piece, piece)) for piece in pieces]
        end: Step = self._finish_reply
        if reason := self.behaviour.cut_by:
            steps = steps[: max(1, len(steps) // CUT_PARTS)]
            end = functools.partial(self._end_reply, "incomplete", reason)
        elif self.behaviour.items > 1 and len(steps) > 1:
            half = len(steps) // 2
            steps.insert(half, (steps[half][0], self._next_item))
        last = steps[-1][0] if steps else 0.0
        for at, step in [(0.0, self._begin_item), *steps, (last, end)]:
            self._after(delay_s + at, step, reply)

    def _next_item(self) -> None:
        """Begin an item of its own for the rest of the reply, where the service has such."""

    def _running(self) -> Reply:
        """Return the reply whose steps are run."""
        assert self._reply is not None, "a step outlived its reply"  # noqa: S101
        return self._reply

    def _send_piece(self, piece: Piece) -> None:
        reply = self._running()
        if piece.pcm:
            self._emit_sound(reply, piece)
            reply.item.spoken_s = (reply.sent + len(piece.pcm) - reply.item_offset) / (2 * reply.output.rate)
            self._count_sound(reply, piece.pcm)
        else:
            reply.said += piece.words
            reply.item.text = reply.said[:MAX_TEXT]
            self._emit_words(reply, piece)

    def _encode(self, pcm: bytes, reply: Reply) -> str:
        """Return sound as it travels."""
        codec = reply.output.codec
        return base64.b64encode(pcm if codec == "pcm" else SIMULATED_CODECS[codec]().encode(pcm)).decode()

    def _take_reply(self) -> Reply:
        """Return the reply under way, which ends here."""
        reply, self._reply = self._running(), None
        self._schedule.cancel(reply)
        return reply

    def _drop_reply(self) -> None:
        """End the reply without an event."""
        reply = self._take_reply()
        self._log_reply(f"{reply.item.spoken_s:.2f} s, dropped", reply.said)

    def _end_reply(self, status: str, reason: str = "") -> None:
        reply = self._take_reply()
        self._emit_reply_done(reply, status, reason)
        how = f"{reply.sent / (2 * reply.output.rate):.2f} s" if reply.aloud else f"{len(reply.said)} characters"
        self._log_reply(f"{how}, {status}", reply.said)
        if self._unanswered:
            self._unanswered = False
            self._answer_when_free()

    def _called(self, name: str, arguments: str) -> None:
        """Report a call, and the moment after it."""
        self._report_call(name, arguments)
        self._after(CALLED_S, lambda: self._report("called"))

    def _place(self, reply: Reply) -> dict[str, Any]:
        return {"response_id": reply.id, "item_id": reply.item.id, "output_index": 0, "content_index": 0}
