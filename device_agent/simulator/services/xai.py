"""Simulated Grok voice service, ``/v1/realtime``. Pure.

Names, order and shapes of the events are as recorded from the live service in July 2026. Speech is answered as soon as
it is committed, as others have checked with the live service in autumn 2026; the variant ``asks`` waits for
``response.create``, as older servers did.

Not imitated: idle timeouts, opus, sound in binary frames, tools that run at the service, transcripts that grow while
the user speaks.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...dsp.pcm import seconds
from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, Service, ServiceSession
from ..engine.answers import sung
from ..engine.auth import Tokens
from ..engine.conversation_store import Conversation, ConversationStore
from ..engine.items import Item
from ..engine.parsing import Refusal, parse, text_of
from ..engine.realtime_base import RealtimeBase, Reply
from ..engine.reply_audio import Piece
from ..engine.server_vad import SpeechStarted, SpeechStopped
from ..engine.session_settings import Settings
from ..engine.validation import number, only
from .xai_settings import XaiSettings

DEFAULT_MODEL = "grok-voice-latest"
USUAL_TOKEN_S, MAX_TOKEN_S = 600, 3600
TOKEN = only(expires_after=only(seconds=number(1, MAX_TOKEN_S, whole=True)))
"""The body of a request for a token. Unlike OpenAI this service takes neither an anchor nor settings."""
TAKEN_BACK_S = 0.4
"""How long after it has begun to reply the service still takes the end of a turn back: a few hundred milliseconds."""
PART_TYPES = ("input_text", "input_audio", "output_text", "text", "audio")


class Xai(Service):
    """The service: its routes, tokens and conversations."""

    path = "/v1/realtime"
    token_prefix = "xai-realtime-client-secret-"  # noqa: S105

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._tokens = Tokens(self.token_prefix)
        self._store = ConversationStore()
        self.routes = {
            ("GET", self.path): self._realtime,
            ("POST", "/v1/realtime/client_secrets"): self._client_secret,
        }

    def _realtime(self, asked: Asked, behaviour: Behaviour, log: ConnectionLog) -> Answer | ServiceSession:
        if not asked.bearer:
            return refused("No API key: send Authorization: Bearer KEY.")
        if not self.is_key(asked.bearer) and not self._tokens.find(asked.bearer, asked.at):
            return refused("Incorrect API key.")
        log.model = asked.query.get("model", DEFAULT_MODEL)
        if not self.has_model(log.model):
            return Answer(404, {"code": "not_found", "error": f"The model {log.model} does not exist."})
        if not asked.upgrade:
            return UPGRADE
        before = self._store.recall(asked.query.get("conversation_id", ""), asked.at)
        return XaiSession(behaviour, log, self._random(log), wall=self._wall, store=self._store, before=before)

    def _client_secret(self, asked: Asked, _behaviour: Behaviour, _log: ConnectionLog) -> Answer:
        if not self.is_key(asked.bearer):
            return refused("Incorrect API key.")
        try:
            wish = parse(asked.body or b"{}")
            TOKEN(wish, "")
        except Refusal as refusal:
            return Answer(400, {"code": refusal.code, "error": str(refusal)})
        until = asked.at + wish.get("expires_after", {}).get("seconds", USUAL_TOKEN_S)
        return Answer(200, {"value": self._tokens.mint(until), "expires_at": int(self._wall + until)})


def refused(why: str) -> Answer:
    """Return a refusal in the service's shape: two strings."""
    return Answer(401, {"code": "unauthenticated", "error": why})


@dataclass(frozen=True)
class Commit:
    """Speech on its way into the conversation, which it joins *at* this time."""

    at: float
    item: str
    pcm: bytes = field(repr=False)


class XaiSession(RealtimeBase):
    """One connection. *store* keeps conversations that outlive their connection; *before* is the one to go on with."""

    SESSION_S: ClassVar[float] = 120 * 60.0
    PART_TYPES: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("user", "assistant", "system"), PART_TYPES)
    ERROR_TYPES: ClassVar[Mapping[str, str]] = {"invalid_event": "invalid_event"}
    ITEM_HANDLERS: ClassVar[Mapping[str, str]] = {
        **RealtimeBase.ITEM_HANDLERS,
        "force_message": "_create_spoken",
    }
    ANSWERS_COMMITS: ClassVar[bool] = True
    """Whether speech is answered as soon as it is committed, where the behaviour does not say it."""

    def __init__(
        self,
        behaviour: Behaviour,
        log: ConnectionLog,
        rng: random.Random,
        settings: Settings | None = None,
        wall: float = 0.0,
        *,
        store: ConversationStore | None = None,
        before: Conversation | None = None,
    ) -> None:
        super().__init__(behaviour, log, rng, settings or XaiSettings(), wall)
        self._store = store or ConversationStore()
        self._before = before
        log.goes_on = before is not None
        self._conversation = Conversation(before.id if before else self._id("conv"), self._items)
        self._pings = False
        self._committed: Commit | None = None
        self._answered = False  # the latest input was committed speech, and its answer has begun
        self._stopped: Commit | None = None  # a turn whose end may still be taken back

    # The connection ---------------------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind != "session.created":
            fields.setdefault("previous_item_id", None)  # recorded on every other event
        super()._emit(kind, **fields)

    def _emit_greeting(self) -> None:
        if self.behaviour.greeting == "none":
            return
        if self.behaviour.greeting == "full":
            session = {"id": self._id("sess").replace("-", ""), "object": "realtime.session", "model": self.log.model}
            usual = {"voice": "ara", "modalities": ["audio"], "turn_detection": {"type": None}, "tools": []}
            self._emit("session.created", session={**session, "instructions": "", **usual})
        conversation = {"id": self._conversation.id, "object": "realtime.conversation"}
        self._emit("conversation.created", conversation=conversation)
        if self.behaviour.greeting == "full":
            self._emit("ping", timestamp=self._stamp())
        self._start_pings()

    def _stamp(self) -> int:
        return round(1000 * (self._wall + self._now))

    def _start_pings(self) -> None:
        if self.behaviour.ping_s and not self._pings:
            self._pings = True
            self._after(self.behaviour.ping_s, self._ping)

    def _ping(self) -> None:
        self._pings = False
        self._emit("ping", timestamp=self._stamp())
        self._start_pings()

    def _expire(self) -> None:
        text = "The session has reached its maximum duration."
        self._end_session("max_duration", "max_duration", text, 1001, "max_duration")  # the code is documented nowhere

    def disconnected(self, now: float) -> None:
        self._conversation.left = now

    # Settings, and a conversation that goes on ------------------------------------------------------------------------

    def _emit_settings(self, echo: dict[str, Any]) -> None:
        self._start_pings()
        if (self._settings.asked.get("resumption") or {}).get("enabled"):
            self._replay()
            self._store.keep(self._conversation)
        self._emit("session.updated", session=echo)

    def _replay(self) -> None:
        """Emit what was said on earlier connections, as text, with new ids. Typed text and calls do not come back."""
        before, self._before = self._before, None
        for old in list(before.items.values()) if before else ():
            if old.type == "message" and old.text and not old.typed:
                kind = "text" if old.role == "assistant" else "input_text"
                item = Item(self._id("item"), old.type, old.role, old.text)
                self._add(item, "completed", content=[{"type": kind, "text": old.text}])

    # The user's turns, found by server VAD ----------------------------------------------------------------------------

    @property
    def _reports_speech(self) -> bool:
        """It is where speech is answered as soon as it is committed."""
        wish = self.behaviour.commits
        return self.ANSWERS_COMMITS if wish == "usual" else wish == "answered"

    def _speech_started(self, detected: SpeechStarted) -> None:
        self._answered = False
        if stopped := self._stopped:
            self._stopped, self._user_item = None, stopped.item
            self._emit("input_audio_buffer.speech_started", item_id=stopped.item, audio_start_ms=detected.at)
            if self._reply:
                self._drop_reply()
            return
        super()._speech_started(detected)
        if self._vad.watching and self._reply:
            self._drop_reply()
            if self._committed:
                self._add_speech(self._committed)

    def _emit_speech_started(self, item: str, at: int) -> None:
        self._emit("input_audio_buffer.speech_started", item_id=item, audio_start_ms=at)
        if self._vad.listening:
            self._add(Item(item, "message", "user"), "in_progress", content=[{"type": "input_audio", "transcript": ""}])

    def _transcript(self, what: str, item: str, text: str, **fields: Any) -> None:
        if self._settings.transcribes:
            kind = f"conversation.item.input_audio_transcription.{what}"
            self._emit(kind, item_id=item, content_index=0, transcript=text, **fields)

    def _speech_stopped(self, detected: SpeechStopped) -> None:
        if not self.behaviour.takes_back:
            super()._speech_stopped(detected)
            return
        item, self._user_item = self._user_item, ""
        known = self._items.get(item)  # it has sound where its end was taken back
        pcm = (known.sound if known else b"") + detected.pcm
        self._stopped = stopped = Commit(self._now + TAKEN_BACK_S, item, pcm)
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=detected.at)
        self._items.keep_sound(item, pcm, self._vad.rate, self._measure(pcm))
        self._after(TAKEN_BACK_S, lambda: self._confirm_stop(stopped))
        self._answer_when_free()

    def _confirm_stop(self, stopped: Commit) -> None:
        """Commit a turn whose end was not taken back."""
        if self._stopped is stopped:
            self._stopped = None
            text = self._measure(stopped.pcm)
            self._emit_turn_complete(stopped.item, text)
            self._take_turn(stopped.item, stopped.pcm, text)

    def _emit_speech_stopped(self, item: str, at: int, text: str) -> None:
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=at)
        self._emit_turn_complete(item, text)

    def _emit_turn_complete(self, item: str, text: str) -> None:
        """Emit that a turn that server VAD has ended is complete."""
        self._transcript("completed", item, text, status="in_progress")
        self._emit("input_audio_buffer.committed", item_id=item)
        self._transcript("completed", item, text, status="completed")

    # The user's turns, ended by the client ----------------------------------------------------------------------------

    def _commit(self, event: dict[str, Any]) -> None:
        """Speech joins the conversation after a moment. A commit of silence is not answered."""
        if self._vad.listening:
            return  # server VAD decides; the live service does not even answer
        if not self._reports_speech:
            super()._commit(event)
        elif self._vad.speaking:
            self._committed = commit = self._take_buffer()
            if self.behaviour.commit_s:
                self._after(self.behaviour.commit_s, lambda: self._answer_commit(commit))
            else:
                self._answer_commit(commit)

    def _take_buffer(self) -> Commit:
        item, self._user_item = self._user_item or self._id("item"), ""
        return Commit(self._now + self.behaviour.commit_s, item, self._vad.take())

    def _answer_commit(self, commit: Commit) -> None:
        """Let the speech join the conversation, and answer it; behind a reply that overtook it."""
        if self._committed is commit and not self._reply:
            self._add_speech(commit)
            self._answer({})

    def _add_speech(self, commit: Commit) -> None:
        self._committed, self._answered = None, True
        text = self._measure(commit.pcm)
        self._emit_committed(commit.item, text)
        self._take_turn(commit.item, commit.pcm, text)

    def _end_reply(self, status: str, reason: str = "") -> None:
        super()._end_reply(status, reason)
        if (commit := self._committed) and self._now >= commit.at and not self._closed:
            self._answer_commit(commit)

    def _clear(self, event: dict[str, Any]) -> None:
        """Right after a commit this cancels the answer, too."""
        super()._clear(event)
        self._committed = None
        if self._answered and self._reply and not self._reply.begun:
            self._end_reply("cancelled", "client_cancelled")
        self._answered = False

    def _response_create(self, event: dict[str, Any]) -> None:
        """What comes with a commit is answered before the speech is there, what comes behind it is dropped."""
        if self._vad.watching and self._committed is None:
            if self._answered:
                return
            if self._vad.speaking and not self._reply:
                self._add_speech(self._take_buffer())
        super()._response_create(event)

    def _emit_committed(self, item: str, text: str) -> None:
        self._emit("input_audio_buffer.committed", item_id=item, previous_item_id=self._items.last)
        self._add(Item(item, "message", "user"), "completed", content=[{"type": "input_audio", "transcript": ""}])
        self._transcript("updated", item, text)
        self._transcript("completed", item, text, status="in_progress")
        self._transcript("completed", item, text, status="completed")

    # Items ------------------------------------------------------------------------------------------------------------

    def _item_create(self, event: dict[str, Any]) -> None:
        super()._item_create(event)
        self._answered = False

    def _shown(self, item: Item, status: str, **fields: Any) -> dict[str, Any]:
        shown = {"id": item.id, "object": "realtime.item", "type": item.type, "status": status, "role": item.role}
        return {**shown, **fields}

    def _emit_added(self, item: Item, status: str, **fields: Any) -> None:
        shown = self._shown(item, status, **fields)
        self._emit("conversation.item.added", item=shown, previous_item_id=self._items.before(item.id))

    def _create_spoken(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        """``force_message``: the service speaks this text, unasked."""
        text = text_of(given.get("content"), PART_TYPES)
        self._refuse_second_reply()
        self._begin_reply(sung(text, self._settings.output.rate, text), {})

    def _item_truncate(self, event: dict[str, Any]) -> None:
        """It has no effect on a reply that is under way."""
        if not (self._reply and self._reply.item is self._find(event)):
            super()._item_truncate(event)

    # The reply --------------------------------------------------------------------------------------------------------

    def _response(self, reply: Reply, status: str, output: Sequence[Any], details: Any) -> dict[str, Any]:
        """Where others have an object, details are a string: recorded so."""
        metadata = {"metadata": reply.options["metadata"]} if "metadata" in reply.options else {}
        response = {"id": reply.id, "object": "realtime.response", "output": output, "status": status}
        return {**response, "status_details": details or "unimplemented", "usage": {}, **metadata}

    def _begin_item(self) -> None:
        reply = self._running()
        reply.begun = True
        shown = self._shown(reply.item, "in_progress")
        self._emit("response.output_item.added", item=shown, response_id=reply.id, output_index=0)
        self._add(reply.item, "in_progress", content=[])
        part = {"type": "audio", "transcript": ""}
        self._emit("response.content_part.added", **self._place(reply), part=part, previous_item_id="0")

    def _emit_sound(self, reply: Reply, piece: Piece) -> None:
        latency = {} if reply.sent else {"latency": f"{self.behaviour.think_s:.2f}"}
        self._emit(
            "response.output_audio.delta",
            **self._place(reply),
            delta=self._encode(piece.pcm, reply),
            rid=reply.rid,
            **latency,
            audio_duration_ms=round(1000 * seconds(piece.pcm, reply.output.rate)),
            ts=self._stamp(),
        )

    def _emit_words(self, reply: Reply, piece: Piece) -> None:
        place = {**self._place(reply), "rid": reply.rid, "start_time": round(piece.start, 2)}
        self._emit("response.output_audio_transcript.delta", **place, delta=piece.words)

    def _finish_reply(self) -> None:
        """Emit the end of a reply, in the recorded order."""
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
        """Emit a function call behind the spoken sentence, in the same response. Its role differs by event."""
        call: dict[str, str] = {"call_id": f"call-{self._id('call')}-0", "name": name}
        item = Item(self._id("item"), "function_call", "tool", call={**call, "arguments": arguments})
        place = {"response_id": reply.id, "output_index": 0}
        user = Item(item.id, item.type, "user")
        self._emit("response.output_item.added", item=self._shown(user, "in_progress", **call, arguments=""), **place)
        self._add(item, "in_progress", **call, arguments="")
        ids = {"item_id": item.id, "response_id": reply.id, "call_id": call["call_id"]}
        self._emit("response.function_call_arguments.delta", **ids, delta=arguments)
        self._emit("response.function_call_arguments.done", **ids, output_index=0, name=name, arguments=arguments)
        done = self._shown(user, "completed", **call, arguments=arguments)
        self._emit("response.output_item.done", item=done, **place)
        reply.done.append(done)
        self._called(name, arguments)

    def _emit_reply_done(self, reply: Reply, status: str, reason: str) -> None:
        """A cancelled reply ends with ``response.done`` alone."""
        content = [{"type": "audio", "transcript": reply.said}]
        item_status = "completed" if status == "completed" else "incomplete"
        spoken = [self._shown(reply.item, item_status, content=content)] if reply.begun else []
        details = self._failed_with(reason) if status == "failed" else None
        response = self._response(reply, status, [*spoken, *reply.done], details)
        self._emit("response.done", response=response, response_id=reply.id)
