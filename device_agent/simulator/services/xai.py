"""A stand-in for the Grok Voice Agent endpoint, ``/v1/realtime``. Pure: no socket, thread or clock.

Names, order and shapes of the events are as recorded from the live service in July 2026. It cannot understand or
think, and is honest about that: its transcripts say what it measured, and its reply to a spoken turn is the sound of
that very turn, sample for sample, so that whoever plays it hears what arrived.

Speech is answered as soon as it is committed, as others have checked with the live service in autumn 2026; the manner
``asks`` waits for ``response.create``, as older servers did.

What is known of the live service and not imitated: idle timeouts, opus, sound in binary frames, tools that run at the
service.
"""

from __future__ import annotations

import base64
import math
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...dsp.pcm import seconds
from ..contract import UPGRADE, Answer, Asked, Behaviour, ConnectionLog, ServiceSession
from ..engine.answers import sung
from ..engine.auth import Auth
from ..engine.conversation_store import Conversation, ConversationStore
from ..engine.items import Item
from ..engine.parsing import Refusal, parse, text_of
from ..engine.realtime_base import MAKERS, RealtimeBase, Reply
from ..engine.reply_audio import Piece
from ..engine.server_vad import SpeechStarted, SpeechStopped
from ..engine.session_settings import Settings
from ..engine.validation import mapping
from .xai_settings import XaiSettings

DEFAULT_MODEL = "grok-voice-latest"
PARTIAL_EVERY_S = 1.0
"""How often a transcript that grows is told while the user speaks, in audio time."""

TOKEN_PREFIX = "xai-realtime-client-secret-"  # noqa: S105
USUAL_TOKEN_S, LONGEST_TOKEN_S = 600, 3600

TAKEN_BACK_S = 0.4
"""How long after it has begun to reply the service still takes the end of a turn back: a few hundred milliseconds."""


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
        self._models, self._seed, self._wall = models, seed, wall
        self._door = Auth(key, TOKEN_PREFIX, seed)
        self._memory = ConversationStore()
        self.routes = {
            ("GET", self.path): self._realtime,
            ("POST", "/v1/realtime/client_secrets"): self._client_secret,
        }

    def _realtime(self, asked: Asked, manners: Behaviour, heard: ConnectionLog) -> Answer | ServiceSession:
        if not asked.bearer:
            return refused("No API key: send Authorization: Bearer KEY.")
        if not self._door.admit(asked.bearer, asked.at):
            return refused("Incorrect API key.")
        heard.model = asked.query.get("model", DEFAULT_MODEL)
        if self._models is not None and heard.model not in self._models:
            return Answer(404, {"code": "not_found", "error": f"The model {heard.model} does not exist."})
        if not asked.upgrade:
            return UPGRADE
        before = self._memory.recall(asked.query.get("conversation_id", ""), asked.at)
        chance = random.Random(f"{self._seed}/{heard.number}")
        return XaiSession(manners, heard, chance, wall=self._wall, memory=self._memory, before=before)

    def _client_secret(self, asked: Asked, _manners: Behaviour, _heard: ConnectionLog) -> Answer:
        """A token. Unlike its relatives this service takes neither an anchor nor settings with it."""
        if not self._door.is_key(asked.bearer):
            return refused("Incorrect API key.")
        try:
            lasts = token_seconds(asked.body)
        except Refusal as refusal:
            return Answer(400, {"code": refusal.code, "error": str(refusal)})
        value = self._door.mint(asked.at, lasts)
        return Answer(200, {"value": value, "expires_at": int(self._wall + asked.at + lasts)})


def refused(why: str) -> Answer:
    """A refusal in the service's shape: two strings."""
    return Answer(401, {"code": "unauthenticated", "error": why})


def token_seconds(body: bytes) -> int:
    """Return how long the token in a request shall last; raise Refusal where the request makes no sense."""
    asked = parse(body or b"{}")
    for name in asked.keys() - {"expires_after"}:
        raise Refusal(f"{name[:60]} is not supported here", param=name[:60])
    after = mapping(asked.get("expires_after", {}), "expires_after")
    for name in after.keys() - {"seconds"}:
        raise Refusal(f"expires_after.{name[:60]} is not supported", param=f"expires_after.{name[:60]}")
    lasts = after.get("seconds", USUAL_TOKEN_S)
    if isinstance(lasts, bool) or not isinstance(lasts, int) or not 1 <= lasts <= LONGEST_TOKEN_S:
        raise Refusal(f"expires_after.seconds must be between 1 and {LONGEST_TOKEN_S}", param="expires_after.seconds")
    return lasts


@dataclass(frozen=True)
class Commit:
    """Speech on its way into the conversation: it gets there *at* this time."""

    at: float
    item: str
    pcm: bytes = field(repr=False)


class XaiSession(RealtimeBase):
    """One connection to the service."""

    SESSION_S: ClassVar[float] = 120 * 60.0
    ANSWERS_COMMITS: ClassVar[bool] = True
    """Whether speech is answered as soon as it is committed, where the manners do not say it."""

    def __init__(
        self,
        manners: Behaviour,
        heard: ConnectionLog,
        chance: random.Random,
        settings: Settings | None = None,
        *,
        wall: float = 0.0,
        memory: ConversationStore | None = None,
        before: Conversation | None = None,
    ) -> None:
        """*memory* keeps conversations that shall outlive their connection; *before* is the one to go on with."""
        super().__init__(manners, heard, chance, settings or XaiSettings(), wall=wall)
        self._memory = memory or ConversationStore()
        self._before = before
        heard.goes_on = before is not None
        self._conversation = Conversation(before.id if before else self._id("conv"), self._items)
        self._greeted = False
        self._ping_due = math.inf
        self._told_s = 0.0  # how much of the growing transcript was told
        self._committed: Commit | None = None
        self._answered = False  # the latest input was committed speech, and its answer has begun
        self._stopped: Commit | None = None  # a turn whose end may still be taken back
        self._billed_s = 0.0

    # The connection ---------------------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def _finished(self, event: dict[str, Any]) -> dict[str, Any]:
        if event["type"] != "session.created":
            event.setdefault("previous_item_id", None)  # recorded on every other event
        return event

    def _say_hello(self) -> None:
        if self.manners.greeting == "none":
            return
        if self.manners.greeting == "full":
            self._emit(
                "session.created",
                session={
                    "id": self._id("sess").replace("-", ""),
                    "object": "realtime.session",
                    "instructions": "",
                    "voice": "ara",
                    "modalities": ["audio"],
                    "turn_detection": {"type": None},
                    "tools": [],
                    "model": self.heard.model,
                },
            )
        self._emit(
            "conversation.created", conversation={"id": self._conversation.id, "object": "realtime.conversation"}
        )
        self._greeted = True
        if self.manners.greeting == "full":
            self._ping()

    def _stamp(self) -> int:
        return round(1000 * (self._wall + self._now))

    def _ping(self) -> None:
        self._emit("ping", timestamp=self._stamp())
        self._ping_due = self._now + self.manners.ping_s if self.manners.ping_s else math.inf

    def _wakes_at(self) -> float:
        if self._greeted and self.manners.ping_s and self._ping_due == math.inf:
            self._ping_due = self._now + self.manners.ping_s
        return self._ping_due

    def tick(self, now: float) -> None:
        super().tick(now)
        if not self._over and now >= self._ping_due:
            self._ping()
            self._set_deadline()

    def _expire(self) -> None:
        self._error("max_duration", "max_duration", "The session has reached its maximum duration.")
        self._bye(1001, "max_duration")  # the code is documented nowhere

    def hung_up(self, now: float) -> None:
        self._conversation.left = now

    def _fault_of(self, refusal: Refusal) -> str:
        return "invalid_event" if refusal.code == "invalid_event" else "invalid_request_error"

    # Settings, and a conversation that goes on ------------------------------------------------------------------------

    def _say_settings(self, echo: dict[str, Any]) -> None:
        self._greeted = True
        assert isinstance(self._settings, XaiSettings), "they were made here"  # noqa: S101
        if self._settings.resumes:
            self._replay()
            self._memory.keep(self._conversation)
        self._emit("session.updated", session=echo)

    def _replay(self) -> None:
        """What was said on earlier connections, as text, with new ids. Typed text and calls do not come back."""
        before, self._before = self._before, None
        for old in before.items if before else ():
            if old.type == "message" and old.text and not old.typed:
                kind = "text" if old.role == "assistant" else "input_text"
                item = Item(self._id("item"), old.type, old.role, old.text)
                self._add(item, "completed", [{"type": kind, "text": old.text}])

    # What the user says -----------------------------------------------------------------------------------------------

    @property
    def _notices_speech(self) -> bool:
        return self._answers_commits

    @property
    def _answers_commits(self) -> bool:
        """Whether speech is answered as soon as it is committed."""
        wish = self.manners.commits
        return self.ANSWERS_COMMITS if wish == "usual" else wish == "answered"

    def _speech_started(self, noticed: SpeechStarted) -> None:
        self._answered = False
        if stopped := self._stopped:
            self._stopped, self._user_item = None, stopped.item
            self._emit("input_audio_buffer.speech_started", item_id=stopped.item, audio_start_ms=noticed.at)
            if self._reply:
                self._drop_reply()
            return
        super()._speech_started(noticed)
        if self._ear.watching and self._reply:
            self._drop_reply()
            if self._committed:
                self._join(self._committed)

    def _say_listening(self, item: str, at: int) -> None:
        self._told_s = 0.0
        self._emit("input_audio_buffer.speech_started", item_id=item, audio_start_ms=at)
        if self._ear.listening:
            self._add(Item(item, "message", "user"), "in_progress", [{"type": "input_audio", "transcript": ""}])

    def _say_growing(self) -> None:
        heard_s = self._ear.seconds
        wanted = self._ear.listening and self._user_item and self._settings.transcribes
        if wanted and heard_s >= self._told_s + PARTIAL_EVERY_S:
            self._told_s = heard_s
            self._transcript("updated", self._user_item, self._measure(self._ear.sound))

    def _transcript(self, what: str, item: str, text: str, **fields: Any) -> None:
        if self._settings.transcribes:
            kind = f"conversation.item.input_audio_transcription.{what}"
            self._emit(kind, item_id=item, content_index=0, transcript=text, **fields)

    def _speech_stopped(self, noticed: SpeechStopped) -> None:
        if not self.manners.takes_back:
            super()._speech_stopped(noticed)
            return
        before = self._held_back(self._user_item)
        item, self._user_item = self._user_item, ""
        stopped = Commit(self._now + TAKEN_BACK_S, item, before + noticed.pcm)
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=noticed.at)
        self._items.keep_sound(item, stopped.pcm, self._ear.rate, self._measure(stopped.pcm))
        self._stopped = stopped
        self._in(TAKEN_BACK_S, lambda: self._settle(stopped))
        self._answer_when_free()

    def _held_back(self, item: str) -> bytes:
        """The sound of a turn whose end was taken back."""
        known = self._items.get(item)
        return known.sound if known else b""

    def _settle(self, stopped: Commit) -> None:
        """The end of a turn was no pause."""
        if self._stopped is stopped:
            self._stopped = None
            text = self._measure(stopped.pcm)
            self._say_taken(stopped.item, text)
            self._take_turn(stopped.item, stopped.pcm, text)

    def _say_heard(self, item: str, at: int, text: str) -> None:
        self._emit("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=at)
        self._say_taken(item, text)

    def _say_taken(self, item: str, text: str) -> None:
        """A turn that the service has ended itself is complete."""
        self._transcript("completed", item, text, status="in_progress")
        self._emit("input_audio_buffer.committed", item_id=item)
        self._transcript("completed", item, text, status="completed")

    # Turns that the client ends ---------------------------------------------------------------------------------------

    def _commit(self, event: dict[str, Any]) -> None:
        """Speech joins the conversation after a moment. Nothing is said to a commit of silence."""
        if self._ear.listening:
            return  # the ear decides; the live service does not even answer
        if not self._answers_commits:
            super()._commit(event)
        elif self._ear.speaking:
            self._committed = commit = self._take_buffer()
            if self.manners.commit_s:
                self._in(self.manners.commit_s, lambda: self._land(commit))
            else:
                self._land(commit)

    def _take_buffer(self) -> Commit:
        item, self._user_item = self._user_item or self._id("item"), ""
        return Commit(self._now + self.manners.commit_s, item, self._ear.take())

    def _land(self, commit: Commit) -> None:
        """The speech is part of the conversation now, and is answered; behind a reply that overtook it."""
        if self._committed is commit and not self._reply:
            self._join(commit)
            self._answer({})

    def _join(self, commit: Commit) -> None:
        self._committed, self._answered = None, True
        text = self._measure(commit.pcm)
        self._say_committed(commit.item, text)
        self._take_turn(commit.item, commit.pcm, text)

    def _end_reply(self, status: str, reason: str = "") -> None:
        super()._end_reply(status, reason)
        if (commit := self._committed) and self._now >= commit.at and not self._over:
            self._land(commit)

    def _clear(self, event: dict[str, Any]) -> None:
        """Right after a commit this cancels the answer, too."""
        super()._clear(event)
        self._committed = None
        if self._answered and self._reply and not self._reply.began:
            self._end_reply("cancelled", "client_cancelled")
        self._answered = False

    def _response_create(self, event: dict[str, Any]) -> None:
        """What comes with a commit is answered before the speech is there, what comes behind it is dropped."""
        if self._ear.watching and self._committed is None:
            if self._answered:
                return
            if self._ear.speaking and not self._reply:
                self._join(self._take_buffer())
        super()._response_create(event)

    def _create_message(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        super()._create_message(given, item_id, behind)
        self._answered = False

    def _create_output(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        super()._create_output(given, item_id, behind)
        self._answered = False

    def _say_committed(self, item: str, text: str) -> None:
        self._emit("input_audio_buffer.committed", item_id=item, previous_item_id=self._items.last)
        self._add(Item(item, "message", "user"), "completed", [{"type": "input_audio", "transcript": ""}])
        self._transcript("updated", item, text)
        self._transcript("completed", item, text, status="in_progress")
        self._transcript("completed", item, text, status="completed")

    # Items ------------------------------------------------------------------------------------------------------------

    def _shown(self, item: Item, status: str, **fields: Any) -> dict[str, Any]:
        shown = {"id": item.id, "object": "realtime.item", "type": item.type, "status": status, "role": item.role}
        return {**shown, **fields}

    def _say_added(self, item: Item, status: str, content: list[Any] | None = None, **fields: Any) -> None:
        if content is not None:
            fields["content"] = content
        shown = self._shown(item, status, **fields)
        self._emit("conversation.item.added", item=shown, previous_item_id=self._items.before(item.id))

    def _create_spoken(self, given: dict[str, Any], item_id: str, behind: str | None) -> None:
        """``force_message``: the service speaks this text, unasked."""
        text = text_of(given.get("content"), self.KINDS)
        self._refuse_second_reply()
        self._begin_reply(sung(text, self._settings.output.rate, text), {})

    # The reply --------------------------------------------------------------------------------------------------------

    def _say_created(self, reply: Reply) -> None:
        created = {"id": reply.id, "object": "realtime.response", "output": [], "status": "in_progress"}
        # A string where one expects an object, and no usage: recorded so.
        more = {"status_details": "unimplemented", "usage": {}, **self._metadata(reply)}
        self._emit("response.created", response={**created, **more})

    def _metadata(self, reply: Reply) -> dict[str, Any]:
        return {"metadata": reply.options["metadata"]} if "metadata" in reply.options else {}

    def _announce(self) -> None:
        reply = self._running()
        reply.began = True
        shown = self._shown(reply.item, "in_progress")
        self._emit("response.output_item.added", item=shown, response_id=reply.id, output_index=0)
        self._add(reply.item, "in_progress", [])
        part = {"type": "audio", "transcript": ""}
        self._emit("response.content_part.added", **self._place(reply), part=part, previous_item_id="0")

    def _say_piece(self, reply: Reply, piece: Piece) -> None:
        latency = {} if reply.sent else {"latency": f"{self.manners.think_s:.2f}"}
        self._emit(
            "response.output_audio.delta",
            **self._place(reply),
            delta=base64.b64encode(self._encoded(piece.pcm, reply)).decode(),
            rid=reply.rid,
            **latency,
            audio_duration_ms=round(1000 * seconds(piece.pcm, reply.output.rate)),
            ts=self._stamp(),
        )

    def _say_words(self, reply: Reply, piece: Piece) -> None:
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
        call: dict[str, str] = {"call_id": f"call-{self._id('call')}-0", "name": name}
        item = Item(self._id("item"), "function_call", "tool", call={**call, "arguments": arguments})
        place = {"response_id": reply.id, "output_index": 0}
        user = Item(item.id, item.type, "user")
        self._emit("response.output_item.added", item=self._shown(user, "in_progress", **call, arguments=""), **place)
        self._add(item, "in_progress", None, **call, arguments="")
        ids = {"item_id": item.id, "response_id": reply.id, "call_id": call["call_id"]}
        self._emit("response.function_call_arguments.delta", **ids, delta=arguments)
        self._emit("response.function_call_arguments.done", **ids, output_index=0, name=name, arguments=arguments)
        done = self._shown(user, "completed", **call, arguments=arguments)
        self._emit("response.output_item.done", item=done, **place)
        reply.done.append(done)
        self._told_call(name, arguments)

    def _say_done(self, reply: Reply, status: str, reason: str) -> None:
        """A cancelled reply ends with ``response.done`` alone."""
        content = [{"type": "audio", "transcript": reply.said}]
        item_status = "completed" if status == "completed" else "incomplete"
        spoken = [self._shown(reply.item, item_status, content=content)] if reply.began else []
        response = {"id": reply.id, "object": "realtime.response", "output": [*spoken, *reply.done]}
        details = self._failed_with(reason) if status == "failed" else "unimplemented"
        self._emit(
            "response.done",
            response={**response, "status": status, "status_details": details, "usage": {}, **self._metadata(reply)},
            response_id=reply.id,
            usage=self._usage(reply),
        )

    def _usage(self, reply: Reply) -> dict[str, Any]:
        """Beside the response, with seconds beside the tokens; those that are billed are the sum so far."""
        text, sound = self._spoken(reply)
        self._billed_s += reply.item.spoken_s
        heard = {"text_tokens": 0, "audio_tokens": 0, "grok_tokens": 0}
        said = {"text_tokens": text, "audio_tokens": sound, "grok_tokens": 0}
        return {
            "input_tokens": 0,
            "input_token_details": heard,
            "output_tokens": text + sound,
            "output_token_details": said,
            "total_tokens": text + sound,
            "output_audio_seconds": reply.item.spoken_s,
            "billable_audio_seconds": math.ceil(self._billed_s),
        }

    def _failure(self) -> str:
        """A function that is called like a tool of the service makes the first reply fail."""
        clashes = not self._failed and self._settings.clashes
        self._failed = self._failed or clashes
        return "server_error" if clashes else super()._failure()

    def _item_truncate(self, event: dict[str, Any]) -> None:
        """It has no effect on a reply that is under way."""
        if not (self._reply and self._reply.item is self._find(event)):
            super()._item_truncate(event)

    _MAKERS: ClassVar[Mapping[str, str]] = {**MAKERS, "force_message": "_create_spoken"}
