"""What the services of one family have in common: JSON events, sound in base64, replies in pieces. Pure.

``RealtimeBase`` hears, remembers, thinks and keeps time; how a thing is *said* differs from service to service, and is
written in their own files (``xai.py``, ``openai.py``): all methods here that raise NotImplementedError.
"""

from __future__ import annotations

import functools
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...dsp import g711
from ...dsp.pcm import level, seconds
from ..contract import (
    CALLED_S,
    IDLE_S,
    Behaviour,
    ConnectionLog,
    Goodbye,
    Happening,
    Message,
    Moment,
    Received,
    ServiceSession,
    Turn,
)
from ..services.rewriting import Rewriting
from .answers import Thought, measured, think
from .items import Item, Items
from .parsing import MAX_TEXT, Refusal, bytes_of, parse, text_of
from .reply_audio import Piece, cut, typed, words_first
from .server_vad import MAX_BUFFER_S, ServerVad, SpeechStarted, SpeechStopped, loudness_threshold
from .session_settings import Format, Settings, TurnDetection

SHORTEST_COMMIT_S = 0.1
MAX_LATER = 100
"""How many things may wait to be said later."""
MAX_EARLY = 10_000
"""How many messages may wait for a service that does not read yet."""
THIRD = 3
"""A reply that is cut short is cut after this part of it."""
FAILURES = {
    "rate_limit_exceeded": "Rate limit reached on tokens per min (TPM). Please try again in 166ms.",
    "server_error": "The server had an error while processing your request. Sorry about that!",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
}
"""The code with which a reply fails -> what the service says of it."""

HANDLERS = {
    "session.update": "_session_update",
    "input_audio_buffer.append": "_append",
    "input_audio_buffer.commit": "_commit",
    "input_audio_buffer.clear": "_clear",
    "conversation.item.create": "_item_create",
    "conversation.item.delete": "_item_delete",
    "conversation.item.truncate": "_item_truncate",
    "response.create": "_response_create",
    "response.cancel": "_response_cancel",
}
"""The type of an event -> the method that understands it."""

MAKERS = {
    "message": "_create_message",
    "function_call": "_create_call",
    "function_call_output": "_create_output",
}
"""The type of an item -> the method that puts it into the conversation."""

CODECS = {"pcmu": functools.cache(g711.pcmu), "pcma": functools.cache(g711.pcma)}


@dataclass
class Reply:
    """The reply under way. *aloud*: spoken, rather than written."""

    id: str
    item: Item
    text: str
    plan: deque[tuple[float, Callable[[], None]]]
    total: int  # bytes of sound
    output: Format
    aloud: bool
    rid: str  # recorded on every piece of some services; its meaning is not documented
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the client asked for in this reply alone."""
    sent: int = 0
    said: str = ""
    began: bool = False
    began_at: int = 0
    """How many bytes of sound were sent before its newest item."""
    calls: tuple[str, str] | None = None
    done: list[dict[str, Any]] = field(default_factory=list)
    """The items that are complete, as they are shown."""


class RealtimeBase(ServiceSession):
    """One connection to a service of the family."""

    SESSION_S: ClassVar[float] = 3600.0
    """How long a session lasts."""
    KINDS: ClassVar[tuple[str, ...]] = ("input_text", "input_audio", "output_text", "text", "audio")
    """What the parts of a message may be."""

    def __init__(
        self, manners: Behaviour, heard: ConnectionLog, chance: random.Random, settings: Settings, *, wall: float = 0.0
    ) -> None:
        """*wall* is Unix time at 0 of the clock, for time stamps."""
        super().__init__(manners, heard)
        self._chance = chance
        self._wall = wall
        self._now = 0.0
        self._over_at = self._awake_at = self._idle_at = math.inf
        self._early: deque[Message] = deque(maxlen=MAX_EARLY)  # what came before the service began to read
        self._over = self._failed = self._refused_idle = False
        self._rewriting = Rewriting(self._id)
        self._settings = settings
        self._ear = ServerVad(settings.input.rate)
        self._prepare_ear()
        self._items = Items()
        self._user_item = ""  # the item that grows while the user speaks
        self._read_item = ""  # the text that was a turn last
        self._turn_begun = self._turn_long = False
        self._later: deque[tuple[float, Callable[[], None]]] = deque()
        self._reply: Reply | None = None
        self._unanswered = False  # a turn ended while a reply was running that could not be interrupted

    # The contract -----------------------------------------------------------------------------------------------------

    def greet(self, now: float) -> None:
        self._now = now
        self._over_at = now + (self.manners.session_s or self.SESSION_S)
        self._tell("connected", f"connected, model {self.heard.model}")
        if self.manners.greet_s:
            self._awake_at = now + self.manners.greet_s
        else:
            self._say_hello()
        self._set_deadline()

    def _wake(self) -> None:
        """Greet, and read what came meanwhile."""
        self._awake_at = math.inf
        self._say_hello()
        while self._early:
            self.receive(self._early.popleft(), self._now)

    def receive(self, message: Message, now: float) -> None:
        self._now = now
        if self._over:
            return
        self._idle_at = now + IDLE_S
        if self._awake_at < math.inf:
            self._early.append(message)
            return
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
        if now >= self._awake_at:
            self._wake()
        while not self._over and (plan := self._soonest()) and plan[0][0] <= now:
            _, step = plan.popleft()
            step()
        if not self._over and now >= self._over_at:
            self._expire()
        if now >= self._idle_at:
            self._idle_at = now + IDLE_S if self._reply else math.inf
            if not self._reply:
                self._tell("idle")
        self._set_deadline()

    def _soonest(self) -> deque[tuple[float, Callable[[], None]]] | None:
        """The list whose first entry is due before all others."""
        plans = [plan for plan in (self._later, self._reply.plan if self._reply else None) if plan]
        return min(plans, key=lambda plan: plan[0][0], default=None)

    def _set_deadline(self) -> None:
        plan = self._soonest()
        soonest = min(plan[0][0] if plan else math.inf, self._over_at, self._awake_at, self._idle_at, self._wakes_at())
        self.deadline = None if self._over or soonest == math.inf else soonest

    def _wakes_at(self) -> float:
        """When there is something else to say."""
        return math.inf

    def _in(self, delay: float, step: Callable[[], None]) -> None:
        """Do *step* so many seconds from now."""
        if len(self._later) >= MAX_LATER:
            self._later.popleft()[1]()
        due = self._now + delay
        self._later.append((max(due, self._later[-1][0]) if self._later else due, step))

    def _bye(self, code: int, reason: str) -> None:
        """End the connection."""
        self._over = True
        self._outgoing.append(Goodbye(code, reason))

    # What goes out ----------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, **fields: Any) -> None:
        event = self._finished({"type": kind, "event_id": self._id("event"), **fields})
        for told in self._rewriting(event, self.manners.rewriters):
            self._outgoing.append(json.dumps(told, allow_nan=False))

    def _finished(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return *event* with what every event of the service has."""
        return event

    def _tell(self, moment: Moment, text: str = "") -> None:
        self._outgoing.append(Happening(moment, text))

    def _complain(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        """An ``error`` event; the session lives on."""
        name = event.get("event_id")
        error = {
            "type": self._fault_of(refusal),
            "code": refusal.code,
            "message": str(refusal),
            "param": refusal.param,
            "event_id": name if isinstance(name, str) else None,
        }
        self._emit("error", error=error)
        self._tell("trouble", f"refused {str(event.get('type', 'a message'))[:60]}: {refusal}")

    def _error(self, kind: str, code: str, message: str) -> None:
        """An ``error`` event about something that no message of the client caused."""
        error = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
        self._emit("error", error=error)
        self._tell("trouble", f"{code}: {message}")

    # How each service says it -----------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        """A new name for an event, item, resp(onse), call, conv(ersation) or sess(ion)."""
        raise NotImplementedError

    def _say_hello(self) -> None:
        raise NotImplementedError

    def _expire(self) -> None:
        """The session has lasted as long as it may."""
        raise NotImplementedError

    def _fault_of(self, refusal: Refusal) -> str:
        """The type of the error about a message that makes no sense."""
        raise NotImplementedError

    def _say_settings(self, echo: dict[str, Any]) -> None:
        """Confirm the settings."""
        raise NotImplementedError

    def _say_added(self, item: Item, status: str, content: list[Any] | None = None, **fields: Any) -> None:
        """A new item stands in the conversation, behind the last one."""
        raise NotImplementedError

    def _say_listening(self, item: str, at: int) -> None:
        """The user began to speak."""
        raise NotImplementedError

    def _say_growing(self) -> None:
        """The user is speaking."""

    def _say_heard(self, item: str, at: int, text: str) -> None:
        """The user has finished, and the service noticed by itself."""
        raise NotImplementedError

    def _say_committed(self, item: str, text: str) -> None:
        """The client said that the user has finished."""
        raise NotImplementedError

    def _say_created(self, reply: Reply) -> None:
        """A reply will come."""
        raise NotImplementedError

    def _announce(self) -> None:
        """The first piece of the reply comes next."""
        raise NotImplementedError

    def _say_piece(self, reply: Reply, piece: Piece) -> None:
        """Sound, in base64."""
        raise NotImplementedError

    def _say_words(self, reply: Reply, piece: Piece) -> None:
        raise NotImplementedError

    def _conclude(self) -> None:
        """All pieces were sent."""
        raise NotImplementedError

    def _say_done(self, reply: Reply, status: str, reason: str) -> None:
        """The reply is over; where it failed *reason* is the code."""
        raise NotImplementedError

    def _failed_with(self, code: str) -> dict[str, Any]:
        """The details of a reply that failed."""
        return {"type": "failed", "error": {"type": code, "code": code, "message": FAILURES[code]}}

    # What comes in ----------------------------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any], size: int) -> None:
        kind = event.get("type")
        if kind != "input_audio_buffer.append":
            self._note(event, size)
        handler = self._HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise self._unknown(str(kind)[:60])
        getattr(self, handler)(event)

    def _note(self, event: dict[str, Any], size: int) -> None:
        self.heard.note(Received(self._now, event, size=size))

    def _unknown(self, kind: str) -> Refusal:
        """What to answer to an event that nobody knows."""
        return Refusal(f"Unknown event type: {kind}", code="invalid_event", param="type")

    def _session_update(self, event: dict[str, Any]) -> None:
        settings = self._settings.updated(event.get("session"))
        self._refuse_settings(settings)
        self._settings = settings
        self._prepare_ear()
        echo = settings.echo(self.heard.model)
        self.heard.settings = echo
        self._say_settings(echo)
        detection = settings.turn_detection
        turns = f"server_vad at {detection.threshold:g}" if detection else "manual turns"
        self._tell(
            "configured",
            f"configured: voice {settings.voice[:40]}, {turns}, {settings.input.rate} Hz in, "
            f"{settings.output.rate} Hz out, {len(echo.get('tools', []))} tools",
        )

    def _refuse_settings(self, settings: Settings) -> None:
        """Raise Refusal where the manners say so."""
        if self.manners.refuses == "settings":
            raise Refusal("These settings are not available to you.", param="session")
        if self.manners.refuses == "transcription" and settings.transcribes:
            where = "session.audio.input.transcription.model"
            raise Refusal("The model for the transcripts has been shut down.", param=where)

    def _prepare_ear(self) -> None:
        ear, detection = self._ear, self._detection
        ear.change_rate(self._settings.input.rate)
        if ear.listening is not (detection is not None):
            ear.forget()
            self._user_item = ""
        ear.listening = detection is not None
        ear.watching = self._notices_speech and not ear.listening
        usual = detection or TurnDetection()
        ear.threshold_db = loudness_threshold(usual.threshold)
        ear.prefix_ms, ear.silence_ms = usual.prefix_ms, usual.silence_ms

    @property
    def _detection(self) -> TurnDetection | None:
        """How the service finds turns by itself; None: it does not."""
        return self._settings.turn_detection

    @property
    def _notices_speech(self) -> bool:
        """Whether the beginning of speech is told, although the client says where a turn ends."""
        return False

    def _append(self, event: dict[str, Any]) -> None:
        audio = event.get("audio")
        pcm = b""
        try:
            pcm = self._pcm_of(bytes_of(audio, "audio"), "audio")
        finally:
            length = len(audio) if isinstance(audio, str) else 0
            self.heard.note(Received(self._now, {**event, "audio": f"<{length} characters>"}, pcm, length))
        self._hear(pcm)

    def _pcm_of(self, data: bytes, where: str) -> bytes:
        """Return what the client sent as PCM."""
        codec = self._settings.input.codec
        if codec != "pcm":
            return CODECS[codec]().decode(data)
        if len(data) % 2:
            raise Refusal(f"{where} has half a sample at its end", code="invalid_audio", param=where)
        return data

    def _hear_frame(self, data: bytes) -> None:
        """A binary frame: nothing here takes sound that way."""
        self.heard.note(Received(self._now, {"type": "binary frame"}, size=len(data)))
        raise Refusal("A binary frame, but audio.input.transport is json", code="invalid_event")

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
        self._say_growing()

    def _measure(self, pcm: bytes) -> str:
        return measured(pcm, self._ear.rate, self._ear.threshold_db)

    def _speech_started(self, noticed: SpeechStarted) -> None:
        self._user_item = self._id("item")
        self._turn_begun = self._turn_long = False
        self._say_listening(self._user_item, noticed.at)
        if self._reply and self._detection and self._detection.interrupt_response:
            self._unanswered = False  # what the user says now is what counts
            self._end_reply("cancelled", "turn_detected")

    def _speech_stopped(self, noticed: SpeechStopped) -> None:
        item, self._user_item = self._user_item, ""
        text = self._measure(noticed.pcm)
        self._say_heard(item, noticed.at, text)
        self._take_turn(item, noticed.pcm, text)
        if self._detection and self._detection.create_response:
            self._answer_when_free()

    def _take_turn(self, item_id: str, pcm: bytes, text: str) -> None:
        """A spoken turn is complete."""
        self._turn_begun = self._turn_long = False
        self._items.keep_sound(item_id, pcm, self._ear.rate, text)
        self.heard.note_turn(Turn(self._now, self._ear.rate, pcm))
        length = seconds(pcm, self._ear.rate)
        self._tell("turn", f"heard a turn of {length:.2f} s at {level(pcm):.0f} dBFS {text}")

    def _commit(self, event: dict[str, Any]) -> None:
        ear = self._ear
        if ear.seconds < SHORTEST_COMMIT_S:
            raise Refusal(
                f"Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {1000 * ear.seconds:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        item, self._user_item = self._user_item or self._id("item"), ""
        pcm = ear.take()
        text = self._measure(pcm)
        self._say_committed(item, text)
        self._take_turn(item, pcm, text)

    def _clear(self, event: dict[str, Any]) -> None:
        self._ear.take()
        self._user_item = ""
        self._turn_begun = self._turn_long = False
        self._emit("input_audio_buffer.cleared")

    # The items of the conversation ------------------------------------------------------------------------------------

    def _add(
        self, item: Item, status: str, content: list[Any] | None = None, *, behind: str | None = None, **fields: Any
    ) -> None:
        self._items.add(item, behind)
        self._say_added(item, status, content, **fields)

    def _item_create(self, event: dict[str, Any]) -> None:
        given = event.get("item")
        kind = given.get("type") if isinstance(given, dict) else None
        maker = self._MAKERS.get(kind) if isinstance(kind, str) else None
        if not isinstance(given, dict) or maker is None:
            raise Refusal(f"item.type must be one of {', '.join(self._MAKERS)}", param="item.type")
        if given.get("id") is not None and (not isinstance(given["id"], str) or given["id"] in self._items):
            raise Refusal("item.id must be a string that no other item has", param="item.id")
        getattr(self, maker)(given, given.get("id") or self._id("item"), self._behind(event))

    def _behind(self, event: Mapping[str, Any]) -> str | None:
        """Which item the new one shall stand behind; None is the last one."""
        return None

    def _create_message(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        role, content = given.get("role"), given.get("content")
        if role not in ("user", "assistant", "system"):
            raise Refusal("item.role must be one of user, assistant, system", param="item.role")
        item = Item(item_id, "message", role, text=text_of(content, self.KINDS), typed=True)
        sounds = [part for part in content or [] if part["type"] in ("input_audio", "audio", "output_audio")]
        pcm = b"".join(
            self._pcm_of(bytes_of(part.get("audio") or "", "item.content.audio"), "item.content.audio")
            for part in sounds
        )
        shown = [{k: v for k, v in part.items() if k != "audio"} for part in content or []]
        self._add(item, "completed", shown, behind=behind)
        if role != "user":
            return
        if pcm:
            item.typed = False
            self._items.keep_sound(item_id, pcm, self._ear.rate, self._measure(pcm))
            self.heard.note_turn(Turn(self._now, self._ear.rate, pcm))
            self._tell("turn", f"heard {seconds(pcm, self._ear.rate):.2f} s")

    def _create_call(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        shown = {name: given.get(name) for name in ("call_id", "name", "arguments")}
        item = Item(item_id, "function_call", "tool", call={k: str(v)[:MAX_TEXT] for k, v in shown.items()})
        self._add(item, "completed", behind=behind, **shown)

    def _create_output(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        for name in ("call_id", "output"):
            if not isinstance(given.get(name), str):
                raise Refusal(f"item.{name} must be a string", code="invalid_type", param=f"item.{name}")
        shown = {"call_id": given["call_id"], "output": given["output"]}
        call = {name: value[:MAX_TEXT] for name, value in shown.items()}
        item = Item(item_id, "function_call_output", "tool", text=call["output"], call=call)
        self._add(item, "completed", behind=behind, **shown)
        self._tell("turn", f"told by a tool: {item.text[:200]}")

    def _item_delete(self, event: dict[str, Any]) -> None:
        item = self._find(event)
        del self._items[item.id]
        self._emit("conversation.item.deleted", item_id=item.id)

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
        item = self._items.get(event.get("item_id"))
        if item is None:
            raise Refusal("Item not found", code="item_not_found", param="item_id")
        return item

    # The reply --------------------------------------------------------------------------------------------------------

    def _response_create(self, event: dict[str, Any]) -> None:
        options = event.get("response")
        if not isinstance(options, dict | None):
            raise Refusal("response must be an object", code="invalid_type", param="response")
        self._refuse_second_reply()
        self._read()
        self._answer({name: value for name, value in (options or {}).items() if value is not None})

    def _read(self) -> None:
        """A text is a turn when a reply to it is asked for; others only tell what was said before."""
        asked = self._items.to_answer()
        if asked and asked.typed and asked.role == "user" and asked.id != self._read_item:
            self._read_item = asked.id
            self.heard.note_turn(Turn(self._now, self._ear.rate, text=asked.text))
            self._tell("turn", f"read: {asked.text[:200]}")

    def _refuse_second_reply(self) -> None:
        self._refused_idle = self.manners.busy_idle and not self._reply and not self._refused_idle
        if self._reply or self._refused_idle:
            text = f"Conversation already has an active response in progress: {self._reply.id if self._reply else ''}"
            raise Refusal(text, code="conversation_already_has_active_response")

    def _drop_reply(self) -> None:
        """The reply is over, and nothing is said of it."""
        reply = self._running()
        self._reply = None
        self.heard.replies += 1
        self._tell("replied", f"replied {reply.item.spoken_s:.2f} s, dropped: {reply.said[:200]}")

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
        aloud = self._aloud(options)
        asked, functions = self._items.to_answer(), self._functions(options)
        self._begin_reply(
            think(asked, functions, self.manners, self._settings.output.rate, aloud=aloud), options, aloud=aloud
        )

    def _aloud(self, options: Mapping[str, Any]) -> bool:
        """Whether a reply is spoken."""
        return self._settings.speaks

    def _functions(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """What a reply may call."""
        return self._settings.functions

    def _begin_reply(
        self,
        thought: Thought,
        options: Mapping[str, Any],
        *,
        aloud: bool = True,
        before: Iterable[tuple[float, Callable[[], None]]] = (),
    ) -> None:
        """Begin to reply. *before* are the steps before the first word, each so many seconds after the one before."""
        if self.manners.silent:
            return
        item, rid = Item(self._id("item"), "message", "assistant"), self._id("rid")
        aloud = aloud and self.manners.reply != "text"
        pcm = thought.pcm if aloud else b""
        reply = Reply(self._id("resp"), item, thought.text, deque(), len(pcm), self._settings.output, aloud, rid)
        reply.options, reply.calls, self._reply = options, thought.calls, reply
        if self.manners.announce_s:
            reply.plan.append((self._now + self.manners.announce_s, lambda: self._follow(reply, pcm, before)))
        else:
            self._follow(reply, pcm, before)

    def _follow(self, reply: Reply, pcm: bytes, before: Iterable[tuple[float, Callable[[], None]]]) -> None:
        """Announce *reply*, and plan what follows."""
        plan, at, failure = reply.plan, self._now + self.manners.think_s, self._failure()
        if failure in ("", "server_error"):  # the others are noticed before there is anything to announce
            self._say_created(reply)
        if failure:
            plan.append((at, lambda: self._end_reply("failed", failure)))
            return
        for wait, step in before:
            at += wait
            plan.append((at, step))
        if self.manners.reply == "empty":
            plan.append((at, lambda: self._end_reply("completed")))
        else:
            self._plan_pieces(reply, pcm, at)

    def _failure(self) -> str:
        """The code with which the reply that begins now fails, "" where it does not."""
        if not self.manners.fails or (self._failed and self.manners.fails_once):
            return ""
        self._failed = True
        return self.manners.fails

    def _plan_pieces(self, reply: Reply, pcm: bytes, at: float) -> None:
        """Plan the pieces of *reply*, the first one *at* this time."""
        pace, plan = self.manners.pace, reply.plan
        if reply.aloud:
            pieces = cut(pcm, reply.text, reply.output.rate, pace, self._chance)
        else:
            pieces = typed(reply.text, pace, self._chance)
        if self.manners.voice_s:
            pieces = words_first(pieces, self.manners.voice_s)
        steps = [(at + piece.at, self._speaker(piece)) for piece in pieces]
        end = (steps[-1][0] if steps else at, self._conclude)
        if self.manners.cut_by and steps:
            reason = self.manners.cut_by
            steps = steps[: max(1, len(steps) // THIRD)]
            end = (steps[-1][0], lambda: self._end_reply("incomplete", reason))
        elif self.manners.items > 1 and len(steps) > 1:
            half = len(steps) // 2
            steps.insert(half, (steps[half][0], self._next_item))
        plan.append((at, self._announce))
        plan.extend([*steps, end])

    def _next_item(self) -> None:
        """What follows in the reply is an item of its own, where the service has such."""

    def _running(self) -> Reply:
        """The reply whose plan is being followed."""
        assert self._reply is not None, "a plan outlived its reply"  # noqa: S101
        return self._reply

    def _speaker(self, piece: Piece) -> Callable[[], None]:
        return lambda: self._sound(piece) if piece.pcm else self._speak(piece)

    def _sound(self, piece: Piece) -> None:
        reply = self._running()
        third = reply.total // 3
        crossed = reply.sent <= third < reply.sent + len(piece.pcm)
        self._say_piece(reply, piece)
        reply.sent += len(piece.pcm)
        reply.item.spoken_s = (reply.sent - reply.began_at) / (2 * reply.output.rate)
        if crossed:
            self._tell("replying")

    def _encoded(self, pcm: bytes, reply: Reply) -> bytes:
        """Return sound as it travels."""
        codec = reply.output.codec
        return pcm if codec == "pcm" else CODECS[codec]().encode(pcm)

    def _speak(self, piece: Piece) -> None:
        reply = self._running()
        reply.said += piece.words
        reply.item.text = reply.said[:MAX_TEXT]
        self._say_words(reply, piece)

    def _end_reply(self, status: str, reason: str = "") -> None:
        """The reply is over."""
        reply = self._running()
        self._reply = None
        self.heard.replies += 1
        self._say_done(reply, status, reason)
        how = f"{reply.sent / (2 * reply.output.rate):.2f} s" if reply.aloud else f"{len(reply.said)} characters"
        self._tell("replied", f"replied {how}, {status}: {reply.said[:200]}")
        if self._unanswered:
            self._unanswered = False
            self._answer_when_free()

    def _told_call(self, name: str, arguments: str) -> None:
        """A call was told."""
        self._tell("replying", f"calls {name}({arguments[:200]})")
        self._in(CALLED_S, lambda: self._tell("called"))

    def _place(self, reply: Reply) -> dict[str, Any]:
        return {"response_id": reply.id, "item_id": reply.item.id, "output_index": 0, "content_index": 0}

    def _spoken(self, reply: Reply) -> tuple[int, int]:
        """How many tokens of text and of sound a reply was, as recorded: fifty for a second, about one for a word."""
        return len(reply.said.split()), round(50 * reply.sent / (2 * reply.output.rate))

    _HANDLERS: ClassVar[Mapping[str, str]] = HANDLERS
    _MAKERS: ClassVar[Mapping[str, str]] = MAKERS
