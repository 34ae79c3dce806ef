"""The protocol that xAI, OpenAI and LiteLLM share: JSON events, sound in base64.

What differs between them is in their own files: where to connect, and what a session is told. Names of events differ
between generations of servers, so every spelling that was seen anywhere is read (EVENTS).
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ..core.actions import Action, CancelReply, ToolResult
from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import (
    Announcement,
    AudioTurn,
    Event,
    LinkUp,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyProgress,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ServiceError,
    Speech,
    TalkEnded,
    TalkStarted,
    TextTurn,
    TurnAcknowledged,
    TurnEndedByService,
    UserText,
)
from ..dsp.g711 import Codec
from ..net.models import Message
from . import error_events
from .audio_payload import AudioPayload
from .base import HistoryEntry, Session
from .closing import ERROR_BEFORE_CLOSE_S, judge
from .json_fields import MAX_DELTA_CHARS, MAX_TRANSCRIPT_CHARS, Fields, event_of, name, number, part, parts, text
from .reply_tracker import Due, ReplyTracker
from .response_timeout import DEFAULT_PATIENCE_S, ResponseTimeout
from .session_settings import without_refused
from .tool_calls import ToolCalls
from .truncation import TruncationTracker

log = logging.getLogger(__name__)

READY_WITHOUT_ACK_S = 5.0
"""Some servers skip parts of the greeting: this long after session.update we take the session for ready."""
REPLY_END_TIMEOUT_S = 10.0
"""A reply that sounded, and of which nothing more comes for so long, is over: some servers never say so."""
WITHDRAWN_REPLY_RETRY_S = 2.0
"""A service that ended its own reply before it sounded, because it heard more speech, begins another one by then."""
PROGRESS_INTERVAL_S = 1.0
"""So often, at most, it is told that the service works on an answer."""
NO_SPEECH = "the service heard no speech in it"
MIN_RATE, MAX_RATE = 8000, 48000
"""Samples per second that a service may tell."""
TRAILING_SILENCE_S = 1.0
"""Silence that follows a turn for a service that listens for its end: without it, it waits for ever."""
MAX_CLIP_BYTES = 8 * 1024 * 1024
"""Bytes. A longer recording is sent in pieces, because messages are limited: 15 MiB at OpenAI, 16 MiB at LiteLLM."""
CLIP_PIECE_S = 1.0
"""How much of a recording goes into one piece."""

EVENTS = {
    "session.created": "_on_greeting",
    "conversation.created": "_on_greeting",
    "session.updated": "_on_session_updated",
    "input_audio_buffer.speech_started": "_on_speech_started",
    "input_audio_buffer.speech_stopped": "_on_turn_taken",
    "input_audio_buffer.committed": "_on_committed",
    "conversation.item.added": "_on_item",
    "conversation.item.created": "_on_item",
    "conversation.item.input_audio_transcription.updated": "_on_user_text",
    "conversation.item.input_audio_transcription.delta": "_on_user_text_delta",
    "conversation.item.input_audio_transcription.completed": "_on_user_text_final",
    "input_audio_transcription.completed": "_on_user_text_final",
    "conversation.item.input_audio_transcription.failed": "_on_user_text_failed",
    "response.created": "_on_reply_created",
    "response.output_item.added": "_on_output_item",
    "response.output_item.done": "_on_output_item_done",
    "response.output_audio.delta": "_on_reply_audio",
    "response.audio.delta": "_on_reply_audio",
    "response.output_audio_transcript.delta": "_on_reply_text",
    "response.audio_transcript.delta": "_on_reply_text",
    "response.output_text.delta": "_on_reply_text",
    "response.text.delta": "_on_reply_text",
    "response.output_audio_transcript.done": "_on_reply_text_done",
    "response.audio_transcript.done": "_on_reply_text_done",
    "response.output_text.done": "_on_reply_text_done",
    "response.text.done": "_on_reply_text_done",
    "response.function_call_arguments.done": "_on_call",
    "response.done": "_on_reply_done",
    "response.cancelled": "_on_reply_done",
    "error": "_on_error",
}
"""The type of an event on the wire -> the method that understands it. The others tell us nothing that we need."""

HISTORY_EVENTS = {"conversation.item.added", "conversation.item.created"}
"""What comes before the session is ready only where a conversation goes on: what was said in it."""
GREETING_EVENTS = {"session.created", "conversation.created", "session.updated", "error"}
"""What matters before the session is ready. Anything else that early is history of a conversation that goes on: it was
heard and acted upon before."""


class RealtimeSession(Session):
    """One connection to a service of the family.

    *settings* is the ``session`` of session.update. *rate* is that of the sound both ways. *service_ends* says that the
    service decides when the user has finished (server VAD); otherwise each turn is committed by hand. *codec* packs the
    sound, *clips* says that a recording may travel in one piece, *resumes* that the service will know us again.
    *text_part* is what it calls a text of the assistant. *in_order* says that speech is judged by the settings that
    went up before it, whether they were confirmed already or not: it follows them as soon as there is a session.
    *answers_commits* says that it may answer a commit without being asked, and that a request which goes up with the
    commit would be answered first, without the speech: so at xAI (pydantic-ai 2.53, checked live; others of 2026 saw it
    wait for a request). *verbatim* says that it has a message which it speaks word for word. *patience_s* is how long
    it may be silent.
    """

    _name: ClassVar[str] = "the service"
    """What owes us a reply."""

    _events: ClassVar[Mapping[str, str]] = EVENTS

    _unended_s: ClassVar[float] = REPLY_END_TIMEOUT_S
    _acknowledges_turns: ClassVar[bool] = True

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        rate: int,
        service_ends: bool,
        codec: Codec | None = None,
        clips: bool = True,
        resumes: bool = False,
        text_part: str = "text",
        in_order: bool = False,
        answers_commits: bool = False,
        verbatim: bool = False,
        patience_s: float = DEFAULT_PATIENCE_S,
    ) -> None:
        super().__init__()
        self._settings, self._rate, self._service_ends = settings, rate, service_ends
        self._sound, self._clips, self._resumes = AudioPayload(codec), clips and codec is None, resumes
        self._text_part, self._in_order, self._verbatim = text_part, in_order, verbatim
        self._answers_commits = answers_commits
        self._text_only = settings.get("output_modalities") == ["text"]
        self._now = 0.0
        self._due: float | None = None  # when the session is ready by rule
        self._timeout = ResponseTimeout(self._name, patience_s, acknowledges=self._acknowledges_turns)
        self._history = False  # the service knows what was said on earlier connections
        self._recalled: list[str] = []  # texts of the user that we repeated, and that may come back
        self._talking = self._sound_sent = False
        self._replies, self._calls, self._spoken = (
            ReplyTracker(self._create, self._end),
            ToolCalls(),
            TruncationTracker(),
        )
        self._commits = 0  # that were not acknowledged yet
        self._acknowledges = False  # a commit was acknowledged on this connection
        self._unacknowledged: deque[str] = deque(maxlen=8)  # kinds of content of whole turns that we sent
        self._taken = ""  # the latest turn that the service took by itself
        self._speech = ""  # the item in which the service has noticed speech since the user began to speak
        self._stopped = False  # the service told the end of speech, and not yet the commit that belongs to it
        self._reply = ""  # the wanted reply that the latest pieces belong to
        self._sounding = ""  # the reply whose sound has begun
        self._worded = ""  # the reply that has words
        self._text_kind = ""  # the first of the names under which this reply's text came
        self._texts: set[str] = set()  # items whose words came in pieces
        self._quiet_at: float | None = None  # when the reply that sounds is over by rule
        self._tool_runs = False  # at the service, inside a reply
        self._retried = self._follows_tools = False  # the reply of this turn
        self._progress_told = 0.0
        self._user_text: tuple[str, str] = ("", "")  # item, what was said so far
        self._complaint = ""  # what the service said was wrong, last
        self._last_error = ("", "", -math.inf)  # code and message of the latest error event, and when it came
        self._noticed = False  # the service has noticed the turn under way, or its end

    @property
    def deadline(self) -> float | None:  # type: ignore[override]  # the earliest of several
        """When to call ``tick``: something is due, or the service owes us something."""
        soonest = self._due
        for each in (self._timeout.deadline(self._now), self._replies.deadline, self._quiet_at):
            if each is not None and (soonest is None or each < soonest):
                soonest = each
        return soonest

    @property
    def busy(self) -> bool:  # type: ignore[override]
        return self._talking or self._calls.open or not self._replies.idle

    # What we say ------------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        self._say("session.update", session=self._settings)
        self._due = self._now + READY_WITHOUT_ACK_S

    def tick(self, now: float) -> Iterable[Event]:
        self._now = now
        self._timeout.check(now)
        if self._due is None and self._quiet_at is None and self._replies.deadline is None:
            return ()
        return tuple(self._do_what_is_due(now))

    def _do_what_is_due(self, now: float) -> Iterator[Event]:
        if self._due is not None and now >= self._due:
            yield from self._ready_by_rule()
        if self._quiet_at is not None and now >= self._quiet_at:
            self._quiet_at = None
            yield from self._on_reply_done({})
        if self._replies.overdue(now):
            yield from self._ask_by_rule()
        if self._replies.tick(now):
            self._timeout.ask()

    def _ready_by_rule(self) -> Iterable[Event]:
        self._due = None
        if self._complaint and not self.ready:
            raise LinkLost(f"{self._name} did not accept our settings: {self._complaint}")
        log.info("no session.updated was received; continuing without it")
        return self._become_ready()

    def _ask_by_rule(self) -> Iterable[Event]:
        """The service was to answer by itself. One that acknowledged commits before and not this one has heard no
        speech in it, and would answer nothing at all."""
        unheard = self._replies.due is Due.COMMITTED and not self._replies.acknowledged and self._acknowledges
        if unheard and not self._noticed:
            self._replies.give_up()
            self._commits = 0
            self._timeout.settle()
            return (ReplyEnded("", NO_SPEECH),)
        self._replies.ask_now()
        return ()

    def _become_ready(self) -> Iterable[Event]:
        if self.ready:
            return ()
        self.ready, self._due = True, None
        return (LinkUp(),)

    def goes_on(self, resume: str) -> bool:
        """By the name that it greets with; where it has none, by what it remembers. Too old, it has another name."""
        return bool(resume) and (self.resume == resume if self.resume else self._history)

    def recall(self, said: Sequence[HistoryEntry]) -> None:
        """As items; no reply is asked for. That xAI takes those of the assistant under the name ``text``, as it does in
        what it replays itself, is inferred."""
        for each in said:
            role, kind = ("user", "input_text") if each.by_user else ("assistant", self._text_part)
            content = [{"type": kind, "text": each.text}]
            self._say("conversation.item.create", item={"type": "message", "role": role, "content": content})
        self._recalled = [each.text for each in said if each.by_user]

    def send(self, item: Speech | Action) -> None:
        to_notice = isinstance(item, TalkEnded) and self._talking and self._service_ends and not self._noticed
        self._send(item)
        if to_notice or (isinstance(item, (TalkEnded, TextTurn, AudioTurn, ToolResult)) and self._replies.owed):
            self._timeout.ask()

    def _send(self, item: Speech | Action) -> None:
        match item:
            case bytes():
                self._append(item)
            case TalkStarted():
                self._begin_turn()
                self._talking, self._sound_sent, self._noticed, self._speech = True, False, False, ""
            case TalkEnded():
                self._end_turn()
            case NoSpeech():
                self._talking = False
                if self._sound_sent:
                    self._say("input_audio_buffer.clear")
            case TextTurn():
                self._send_words(item)
            case AudioTurn():
                self._send_clip(item.pcm)
            case ToolResult():
                self._answer(item)
            case CancelReply(reply, heard_ms):
                self._cancel()
                self._shorten(reply, heard_ms)

    def _append(self, pcm: bytes) -> None:
        """The f-string is four times faster than json.dumps, and base64 needs no escaping."""
        self._sound_sent = True
        self._outgoing.append(f'{{"type":"input_audio_buffer.append","audio":"{self._sound.pack(pcm)}"}}')

    def _begin_turn(self) -> None:
        self._cancel()
        self._await_reply(tools=False)

    def _await_reply(self, *, tools: bool) -> None:
        """From now on an answer to the latest turn, or to the results of *tools*, is waited for."""
        self._retried, self._follows_tools, self._progress_told = False, tools, self._now

    def _end_turn(self) -> None:
        if not self._talking:
            return
        self._talking = False
        if self._service_ends:
            self._append(bytes(2 * round(TRAILING_SILENCE_S * (self.input_rate or self._rate))))
            return
        self._say("input_audio_buffer.commit")
        self._commits += 1
        if self._answers_commits:
            self._replies.commit()
            self.probe = True
        else:
            self._replies.ask(self._now)

    def _whole_turn(self, content: Fields) -> None:
        """A turn in one piece. It has no end to be noticed, so the reply is asked for, whichever side ends turns."""
        self._begin_turn()
        self._unacknowledged.append(content["type"])
        self._say("conversation.item.create", item={"type": "message", "role": "user", "content": [content]})
        self._replies.ask(self._now)

    def _send_words(self, words: TextTurn) -> None:
        """A typed turn. An announcement is spoken as it is where the service can (``force_message``: docs.x.ai, and
        livekit-plugins-xai 1.8.9): the reply to it comes unasked. Elsewhere its text asks the assistant to say it."""
        if not (isinstance(words, Announcement) and self._verbatim):
            self._whole_turn({"type": "input_text", "text": words.text})
            return
        self._begin_turn()
        content = [{"type": "output_text", "text": words.exact}]
        self._say("conversation.item.create", item={"type": "force_message", "role": "assistant", "content": content})
        self._replies.expect()

    def _send_clip(self, pcm: bytes) -> None:
        if self._clips and len(pcm) <= MAX_CLIP_BYTES:
            self._whole_turn({"type": "input_audio", "audio": self._sound.pack(pcm)})
            return
        self.send(TalkStarted())
        step = 2 * round(CLIP_PIECE_S * self._rate)
        for begin in range(0, len(pcm), step):
            self._append(pcm[begin : begin + step])
        self.send(TalkEnded())

    def knows(self, call: str) -> bool:
        return self._calls.knows(call)

    def arrived(self, now: float) -> None:
        """A server that has not said a word yet may take our turn and answer pings, and look at neither."""
        if self._timeout.spoke:
            self._replies.arrived(now)

    def _answer(self, result: ToolResult) -> None:
        """A call of an earlier connection is told first: without it, its result would be an error here.

        An item alone starts no reply: response.create does. So it is documented by OpenAI; that xAI and what stands
        behind a proxy keep to it as well is inferred, and a reply that begins all the same is cancelled.
        """
        if not self._calls.answer(result.call, quiet=result.quiet):
            self._repeat(result)
            return
        self._say_result(result)
        self._go_on()

    def _repeat(self, result: ToolResult) -> None:
        """The connection with the call is lost. That the family takes ``function_call`` items is documented by both
        vendors; xAI does not give calls back when a conversation goes on (pydantic-ai 2.68)."""
        if not result.name:
            log.debug("the tool call %s belongs to another connection", result.call)
            return
        item = {"type": "function_call", "call_id": result.call, "name": result.name, "arguments": result.arguments}
        self._say("conversation.item.create", item=item)
        self._say_result(result)
        if not result.quiet:
            self._await_reply(tools=True)
            self._replies.ask(self._now)

    def _say_result(self, result: ToolResult) -> None:
        item = {"type": "function_call_output", "call_id": result.call, "output": result.output}
        self._say("conversation.item.create", item=item)

    def _go_on(self) -> None:
        """The assistant speaks again after the last answer, and not before the reply with the calls is over. If all
        answers are quiet it does not, and nothing tells of that: the tools know."""
        if self._calls.complete():
            self._await_reply(tools=True)
            self._replies.ask(self._now)

    def _create(self) -> None:
        """Ask for a reply. Behind an answered commit xAI drops a bare request until other input has come, which a
        ``clear`` is (pydantic-ai 2.53)."""
        if self._answers_commits and self._retried:
            self._say("input_audio_buffer.clear")
        self._say("response.create")

    def _end(self, reply: str) -> None:
        """End a reply by its id: without one, the service would end the reply of the conversation."""
        self._say("response.cancel", **({"response_id": reply} if reply else {}))

    def _cancel(self) -> None:
        """At a service that answers commits, ``clear`` takes back one that is not answered yet."""
        if self._replies.due is Due.COMMITTED:
            self._say("input_audio_buffer.clear")
        self._calls.forget()
        self._replies.cancel()
        self._timeout.settle()
        self._quiet_at = None

    def _shorten(self, reply: str, heard_ms: int) -> None:
        """OpenAI cannot know what was heard over a WebSocket; xAI understands this since about July 2026, and what it
        says against it is no trouble (``complaints``)."""
        for item, ms in self._spoken.cut(reply, heard_ms):
            if ms:
                self._say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=ms)
            else:
                self._say("conversation.item.delete", item_id=item)

    def _say(self, kind: str, **fields: object) -> None:
        self._outgoing.append(json.dumps({"type": kind, **fields}))

    # What the service says --------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> Iterator[Event]:
        event = event_of(message)  # also from bytes: LiteLLM before 1.100 sends JSON in binary frames
        if isinstance(event, str):
            yield ServiceError(event)
            return
        yield from self._understand(event)

    def _understand(self, event: Fields) -> Iterator[Event]:
        kind, first = event["type"], not self._timeout.spoke
        if self.listens and kind in self._events and kind not in GREETING_EVENTS:
            yield from self._become_ready()  # it takes what we say without a word about our settings
        if kind in self._events and (self.ready or kind in GREETING_EVENTS):
            yield from getattr(self, self._events[kind])(event)
        else:
            self._history |= kind in HISTORY_EVENTS
            log.debug("the event %s is ignored", kind)
        if kind != "ping":
            yield from self._note_sign(kind)
        if first:
            self._replies.arrived(self._now)  # it looks at what has come by now

    def _note_sign(self, kind: str) -> Iterator[Event]:
        """An event is a sign of life, and one about a reply that nothing can be heard of yet a sign of work."""
        of_reply = kind.startswith(("response.", "mcp_"))
        if of_reply:
            self._tool_runs = kind.endswith("in_progress") and "_call" in kind
        sounds = self._replies.open and self._sounding == self._reply
        works = (self._replies.silent or self._replies.open) and (not sounds or self._tool_runs)
        self._quiet_at = self._now + self._unended_s if sounds and not self._tool_runs else None
        self._timeout.heard(self._now, owed=self._replies.owed, works=works, spare=self.spare)
        if of_reply and works and self._now - self._progress_told >= PROGRESS_INTERVAL_S:
            self._progress_told = self._now
            yield ReplyProgress()

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        self.listens = self._in_order
        if self._resumes:
            self.resume = name(part(event, "conversation"), "id") or self.resume
        self.expires_at = number(part(event, "session"), "expires_at") or self.expires_at
        return ()

    def _on_session_updated(self, event: Fields) -> Iterable[Event]:
        self._on_greeting(event)
        if self._sound.is_pcm:
            self.input_rate, self.output_rate = (rate_of(event, way) for way in ("input", "output"))
        return self._become_ready()

    def _on_speech_started(self, event: Fields) -> Iterable[Event]:
        """Told again for a turn whose end was told: the user goes on, and xAI drops the reply that it had begun without
        ``response.done`` (pydantic-ai 2.60, recorded live)."""
        self._noticed = True
        self._stopped = False
        self._speech = item = name(event, "item_id")
        if not (self._service_ends and item and item == self._taken):
            return ()
        self._taken = ""
        withdrawn = self._replies.withdraw()
        return (ReplyWithdrawn(withdrawn),) if withdrawn and self._sounding == withdrawn else ()

    def _on_turn_taken(self, event: Fields) -> Iterator[Event]:
        """Told twice, by the end of speech and by the commit; a second word must not end the turn after it, and a reply
        may have begun in between."""
        self._noticed = True
        if not self._service_ends:
            return
        item, stopped = name(event, "item_id"), self._stopped
        self._stopped = event["type"] == "input_audio_buffer.speech_stopped"
        if item == self._taken if item else (stopped and not self._stopped):
            return
        self._taken = item
        self._await_reply(tools=False)
        self._replies.expect()
        yield TurnEndedByService()

    def _on_committed(self, event: Fields) -> Iterator[Event]:
        if not self._service_ends and self._talking and self._speech and name(event, "item_id") == self._speech:
            log.warning("the service ends turns by itself, although it was told not to; this is accepted")
            self._service_ends = True
        if self._service_ends:
            yield from self._on_turn_taken(event)
            return
        if self._commits:
            self._commits -= 1
            self._acknowledges = True
            if withdrawn := self._replies.acknowledge(self._now):
                yield ReplyWithdrawn(withdrawn)
        yield TurnAcknowledged()

    def _on_item(self, event: Fields) -> Iterator[Event]:
        """Ours is known by its kind: it comes back under a name that the service gave it."""
        item = part(event, "item")
        if text(item, "role") != "user":
            return
        kinds = {text(each, "type"): text(each, "text") for each in parts(item, "content")}
        if kinds.get("input_text") in self._recalled:
            self._recalled.remove(kinds["input_text"])
        elif self._unacknowledged and self._unacknowledged[0] in kinds:
            self._unacknowledged.popleft()
            yield TurnAcknowledged()

    def _on_user_text(self, event: Fields) -> Iterator[Event]:
        """xAI: all that was said so far; it may rewrite earlier words."""
        yield self._user_said(name(event, "item_id"), text(event, "transcript"), final=False)

    def _on_user_text_delta(self, event: Fields) -> Iterator[Event]:
        """OpenAI: the next words."""
        item = name(event, "item_id")
        before = self._user_text[1] if self._user_text[0] == item else ""
        yield self._user_said(item, before + text(event, "delta"), final=False)

    def _on_user_text_final(self, event: Fields) -> Iterator[Event]:
        """xAI sends several of these with status in_progress before the last one."""
        final = event.get("status", "completed") == "completed"
        yield self._user_said(name(event, "item_id"), text(event, "transcript"), final=final)

    def _on_user_text_failed(self, event: Fields) -> Iterator[Event]:
        """The model has heard the turn all the same (recorded at Azure: DeploymentNotFound)."""
        yield ServiceError(f"the speech could not be transcribed: {error_events.read(event)[1]}")

    def _user_said(self, item: str, said: str, *, final: bool) -> UserText:
        said = said[:MAX_TRANSCRIPT_CHARS]
        self._user_text = (item, said)
        return UserText(item, said, final)

    def _on_reply_created(self, event: Fields) -> Iterable[Event]:
        self._noticed |= self._service_ends
        self._replies.begin(name(part(event, "response"), "id") or name(event, "response_id"), self._now)
        return ()

    def _wanted(self, event: Fields, *, heard: bool) -> str:
        """Return the wanted reply that a piece belongs to, or ""; *heard* where it is more than words."""
        reply = self._replies.piece(name(event, "response_id"), self._now, heard=heard)
        if reply:
            self._follow(reply)
        return reply

    def _follow(self, reply: str) -> None:
        """What comes from here on is about this reply."""
        if reply != self._reply:
            self._reply = reply
            self._calls.begin()
            self._sound.begin()
            self._text_kind = ""
            self._texts.clear()

    def _on_reply_audio(self, event: Fields) -> Iterator[Event]:
        reply = self._wanted(event, heard=True)
        if not reply:
            return
        try:
            pcm = self._sound.unpack(text(event, "delta"))
        except ValueError:
            yield ServiceError("a piece of a reply is damaged (bad base64); left out")
            return
        if not pcm:
            return
        if reply != self._sounding or not self._replies.open:
            self._sounding = reply
            self._replies.reopen()
            yield ReplyStarted(reply)
        self._spoken.note(reply, name(event, "item_id"), len(pcm) / (2 * (self.output_rate or self._rate)))
        yield ReplyAudio(reply, pcm)

    def _on_reply_text(self, event: Fields) -> Iterator[Event]:
        reply = self._wanted(event, heard=False)
        self._text_kind = self._text_kind or event["type"]
        if reply and event["type"] == self._text_kind:
            self._texts.add(name(event, "item_id"))
            yield self._said(reply, text(event, "delta"))

    def _on_reply_text_done(self, event: Fields) -> Iterator[Event]:
        """Some servers tell the words of an item in one piece, at its end (speech-to-speech#439)."""
        reply = self._wanted(event, heard=False)
        whole = text(event, "transcript") or text(event, "text")
        if reply and whole and name(event, "item_id") not in self._texts:
            yield self._said(reply, whole)

    def _said(self, reply: str, words: str) -> ReplyText:
        self._worded = reply
        return ReplyText(reply, words[:MAX_DELTA_CHARS])

    def _on_output_item(self, event: Fields) -> Iterator[Event]:
        item, reply = part(event, "item"), self._wanted(event, heard=False)
        if not reply:
            return
        self._calls.announce(item)
        if text(item, "type") == "message":
            self._spoken.note(reply, name(item, "id"))
        elif text(item, "type") == "mcp_approval_request":
            tool = f"{name(item, 'name')} of {name(item, 'server_label')}"
            yield ServiceError(f"the tool {tool} waits for an approval; write require_approval: never in service.tools")

    def _on_output_item_done(self, event: Fields) -> Iterator[Event]:
        """Some servers tell of a call here alone."""
        if text(part(event, "item"), "type") == "function_call":
            yield from self._on_call({"response_id": event.get("response_id"), **part(event, "item")})

    def _on_call(self, event: Fields) -> Iterator[Event]:
        if self._wanted(event, heard=True) and (call := self._calls.ask(event)):
            yield call

    def _on_reply_done(self, event: Fields) -> Iterator[Event]:
        response = part(event, "response")
        reply = name(response, "id") or name(event, "response_id")
        if text(response, "status") in {"", "completed"}:  # servers that say no name with the arguments say it here
            for item in parts(response, "output"):
                if text(item, "type") == "function_call":
                    yield from self._on_call({"response_id": reply, **item})
        if ended := self._replies.end(reply):
            yield from self._over(ended, response)
        self._replies.ask_if_free()

    def _over(self, reply: str, response: Fields) -> Iterator[Event]:
        """A wanted reply is over: is it whole, and does it answer the user?"""
        self._follow(reply)
        problem = error_events.of_reply(response)
        sounded, worded = self._sounding == reply, self._worded == reply
        called = self._calls.asked
        if problem and not (sounded or worded or called) and self._ask_again(response, problem):
            return
        if problem:
            self._calls.forget()
        more = not problem and self._calls.reply_over()
        answered = sounded or called or self._follows_tools or (worded and self._text_only)
        yield ReplyEnded(reply, problem, more=more, silent=not (answered or problem))
        self._go_on()

    def _ask_again(self, response: Fields, problem: str) -> bool:
        """Ask once more, and once only, where a reply failed for a moment, or where the service ended it by itself;
        return whether it is."""
        taken_back = text(response, "status") == "cancelled"
        if self._retried or not (taken_back or error_events.momentary(response)):
            return False
        self._retried = True
        after = WITHDRAWN_REPLY_RETRY_S if taken_back else error_events.again_after(problem)
        log.info("the reply failed before it began (%s); requesting it once more in %.1f s", problem, after)
        self._replies.again(self._now, after)
        return True

    def _on_error(self, event: Fields) -> Iterator[Event]:
        code, message = error_events.read(event)
        self._last_error = (code, message, self._now)
        if error_events.is_busy(code, message):
            self._replies.busy(self._now)
            return
        if code == error_events.EMPTY_COMMIT_CODE and self._replies.due is Due.ASKED and not self._noticed:
            self._cancel()  # the request behind the commit would be answered as if something had been said
            yield ReplyEnded("", NO_SPEECH)
            return
        if not (said := error_events.judge(code, message)):
            return
        self._complaint = said
        if not self.ready:
            yield from self._refused_settings(error_events.parameter(event), code, said)
        elif self._replies.due is Due.ASKED and error_events.is_momentary(code):
            failure = {"status": "failed", "status_details": {"error": {"code": code, "message": message}}}
            yield from self._on_reply_done({"response": failure})
        else:
            yield ServiceError(said)

    def _refused_settings(self, parameter: str, code: str, said: str) -> Iterator[Event]:
        """What we asked for was refused: go on without it, if it is not needed. Raises LinkRefused where it is."""
        if left := without_refused(self._settings, parameter, said):
            refused, self._settings = left
            log.warning("the service does not accept our setting for %s (%s); continuing without it", refused, said)
            self._complaint = ""
            self.greet()
        elif parameter.startswith("session") or code.startswith(("invalid_", "unknown_", "unsupported_")):
            raise LinkRefused(f"{self._name} refuses our settings ({said}): are service.model, voice and tools right?")
        else:
            yield ServiceError(said)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """What the service complained of right before its close frame, or at any time before it was ready, is why the
        connection ended."""
        if isinstance(error, LinkClosed):
            code, message, at = self._last_error
            if self.ready and self._now - at > ERROR_BEFORE_CLOSE_S:
                code = message = ""
            return judge(error, code, message, ready=self.ready)
        if self.ready or not self._complaint or self._complaint in str(error):
            return error
        said = f"{error} ({self._complaint})"
        return LinkRefused(said) if isinstance(error, LinkRefused) else LinkLost(said, retry_after=error.retry_after)


def rate_of(event: Fields, way: str) -> int:
    """Return the samples per second of PCM that session.updated tells for *way*, 0 where it tells none."""
    format_ = part(part(part(part(event, "session"), "audio"), way), "format")
    rate = number(format_, "rate") if name(format_, "type") in {"audio/pcm", ""} else 0.0
    return int(rate) if MIN_RATE <= rate <= MAX_RATE else 0
