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

from ..errors import LinkClosed, LinkLost, LinkRefused
from ..events import (
    Action,
    CancelReply,
    Clip,
    Event,
    LinkUp,
    NothingSaid,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    ServiceError,
    Speech,
    TalkEnded,
    TalkStarted,
    ToolResult,
    TurnReceived,
    TurnTaken,
    UserText,
    Words,
)
from . import Message, Said, Session, complaints
from .calls import Calls
from .closing import JUST_BEFORE_S, judge
from .fields import LONGEST_PIECE, LONGEST_TEXT, Fields, event_of, name, number, part, parts, text
from .g711 import Codec
from .patience import UNTAKEN_S, Patience
from .replies import Replies
from .sound import Sound
from .spoken import Spoken

log = logging.getLogger(__name__)

READY_BY_RULE_S = 5.0
"""Some servers skip parts of the greeting: this long after session.update we take the session for ready."""
BLOCKED_S = 3.0
"""A cancelled reply may be dropped by the service without a word (seen on xAI); after so long we ask for the next."""
TRAILING_S = 1.0
"""Silence that follows a turn for a service that listens for its end: without it, it waits for ever."""
LARGEST_CLIP = 8 * 1024 * 1024
"""Bytes. A longer recording is sent in pieces, because messages are limited: 15 MiB at OpenAI, 16 MiB at LiteLLM."""
PIECE_S = 1.0
"""How much of a recording goes into one piece."""

EVENTS = {
    "session.created": "_on_greeting",
    "conversation.created": "_on_greeting",
    "session.updated": "_on_session_updated",
    "input_audio_buffer.speech_stopped": "_on_turn_taken",
    "input_audio_buffer.committed": "_on_committed",
    "conversation.item.added": "_on_item",
    "conversation.item.created": "_on_item",
    "conversation.item.input_audio_transcription.updated": "_on_user_text",
    "conversation.item.input_audio_transcription.delta": "_on_user_text_delta",
    "conversation.item.input_audio_transcription.completed": "_on_user_text_final",
    "input_audio_transcription.completed": "_on_user_text_final",
    "response.created": "_on_reply_created",
    "response.output_item.added": "_on_output_item",
    "response.output_audio.delta": "_on_reply_audio",
    "response.audio.delta": "_on_reply_audio",
    "response.output_audio_transcript.delta": "_on_reply_text",
    "response.audio_transcript.delta": "_on_reply_text",
    "response.output_text.delta": "_on_reply_text",
    "response.text.delta": "_on_reply_text",
    "response.function_call_arguments.done": "_on_call",
    "response.done": "_on_reply_done",
    "response.cancelled": "_on_reply_done",
    "error": "_on_error",
}
"""The type of an event on the wire -> the method that understands it. The others tell us nothing that we need."""

HISTORY = {"conversation.item.added", "conversation.item.created"}
"""What comes before the session is ready only where a conversation goes on: what was said in it."""
GREETING = {"session.created", "conversation.created", "session.updated", "error"}
"""What matters before the session is ready. Anything else that early is history of a conversation that goes on: it was
heard and acted upon before."""


class RealtimeSession(Session):
    """One connection to a service of the family.

    *settings* is the ``session`` of session.update. *rate* is that of the sound both ways. *service_ends* says that the
    service decides when the user has finished (server VAD); otherwise each turn is committed by hand. *codec* packs the
    sound, *clips* says that a recording may travel in one piece, *resumes* that the service will know us again.
    *text_part* is what it calls a text of the assistant. *in_order* says that speech is judged by the settings that
    went up before it, whether they were confirmed already or not: it follows them as soon as there is a session.
    """

    _name: ClassVar[str] = "the service"
    """Who owes us a reply."""

    _events: ClassVar[Mapping[str, str]] = EVENTS

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
    ) -> None:
        super().__init__()
        self._settings, self._rate, self._service_ends = settings, rate, service_ends
        self._sound, self._clips, self._resumes = Sound(codec), clips and codec is None, resumes
        self._text_part, self._in_order = text_part, in_order
        self._now = 0.0
        self._due: float | None = None  # when there is something to do
        self._patience = Patience(self._name)
        self._history = False  # the service knows what was said on earlier connections
        self._recalled: list[str] = []  # texts of the user that we repeated, and that may come back
        self._talking = self._sound_sent = False
        self._replies, self._calls, self._spoken = Replies(self._say), Calls(), Spoken()
        self._unacknowledged: deque[str] = deque(maxlen=8)  # kinds of content of whole turns that we sent
        self._taken = ""  # the latest turn that the service took by itself
        self._sounding = ""  # the reply whose sound has begun
        self._text_kind = ""  # the first of the names under which this reply's text came
        self._user_text: tuple[str, str] = ("", "")  # item, what was said so far
        self._complaint = ""  # what the service said was wrong, last
        self._last_error = ("", "", -math.inf)  # code and message of the latest error event, and when it came
        self._noticed = False  # the service has noticed the turn under way, or its end

    @property
    def deadline(self) -> float | None:  # type: ignore[override]  # the earlier of two
        """When to call ``tick``: something is due, or the service owes us something."""
        owed = self._patience.deadline(self._now)
        return min((each for each in (self._due, owed) if each is not None), default=None)

    @property
    def busy(self) -> bool:  # type: ignore[override]
        return self._talking or self._calls.open or not self._replies.idle

    # What we say ------------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        self._say("session.update", session=self._settings)
        self._due = self._now + READY_BY_RULE_S

    def tick(self, now: float) -> Iterable[Event]:
        self._now = now
        self._patience.check(now)
        if self._due is None or now < self._due:
            return ()
        self._due = None
        if not self.ready:
            log.info("no session.updated came; going on without it")
            return self._become_ready()
        if self._replies.blocked:
            self._replies.ask_anyway()
            self._patience.ask(self._untaken_s())
        return ()

    def _untaken_s(self) -> float:
        """How long it may take the service to say a word after a whole turn, in seconds."""
        return UNTAKEN_S

    def _become_ready(self) -> Iterable[Event]:
        if self.ready:
            return ()
        self.ready, self._due = True, None
        return (LinkUp(),)

    def goes_on(self, resume: str) -> bool:
        """By the name that it greets with; where it has none, by what it remembers. Too old, it has another name."""
        return bool(resume) and (self.resume == resume if self.resume else self._history)

    def recall(self, said: Sequence[Said]) -> None:
        """As items. Nobody is asked to reply to them. That xAI takes those of the assistant under the name ``text``,
        as it does in what it replays itself, is inferred."""
        for each in said:
            role, kind = ("user", "input_text") if each.by_user else ("assistant", self._text_part)
            content = [{"type": kind, "text": each.text}]
            self._say("conversation.item.create", item={"type": "message", "role": role, "content": content})
        self._recalled = [each.text for each in said if each.by_user]

    def send(self, item: Speech | Action) -> None:
        to_notice = isinstance(item, TalkEnded) and self._talking and self._service_ends and not self._noticed
        self._send(item)
        if to_notice or (isinstance(item, (TalkEnded, Words, Clip, ToolResult)) and self._replies.owed):
            self._patience.ask(self._untaken_s())

    def _send(self, item: Speech | Action) -> None:
        match item:
            case bytes():
                self._append(item)
            case TalkStarted():
                self._cancel()
                self._talking, self._sound_sent, self._noticed = True, False, False
            case TalkEnded():
                self._end_turn()
            case NothingSaid():
                self._talking = False
                if self._sound_sent:
                    self._say("input_audio_buffer.clear")
            case Words():
                self._whole_turn({"type": "input_text", "text": item.text})
            case Clip():
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

    def _end_turn(self) -> None:
        if not self._talking:
            return
        self._talking = False
        if self._service_ends:
            self._append(bytes(2 * round(TRAILING_S * self._rate)))
            return
        self._say("input_audio_buffer.commit")
        self._ask()

    def _whole_turn(self, content: Fields) -> None:
        """A turn in one piece. It has no end to be noticed, so the reply is asked for whoever decides about ends."""
        self._cancel()
        self._unacknowledged.append(content["type"])
        self._say("conversation.item.create", item={"type": "message", "role": "user", "content": [content]})
        self._ask()

    def _send_clip(self, pcm: bytes) -> None:
        if self._clips and len(pcm) <= LARGEST_CLIP:
            self._whole_turn({"type": "input_audio", "audio": self._sound.pack(pcm)})
            return
        self.send(TalkStarted())
        step = 2 * round(PIECE_S * self._rate)
        for begin in range(0, len(pcm), step):
            self._append(pcm[begin : begin + step])
        self.send(TalkEnded())

    def _answer(self, result: ToolResult) -> None:
        """The answer to a call of another connection would be an error here.

        An item alone makes nobody speak: response.create does. So it is documented by OpenAI; that xAI and what stands
        behind a proxy keep to it as well is inferred, and what they say all the same nobody asked for: it is cancelled.
        """
        if not self._calls.answer(result.call, quiet=result.quiet):
            log.debug("nobody here asked for the answer to %s", result.call)
            return
        item = {"type": "function_call_output", "call_id": result.call, "output": result.output}
        self._say("conversation.item.create", item=item)
        self._go_on()

    def _go_on(self) -> None:
        """The assistant speaks again after the last answer, and not before the reply with the calls is over. If all
        answers are quiet it does not, and nothing tells of that: who answered knows."""
        if self._calls.complete():
            self._ask()

    def _ask(self) -> None:
        self._replies.ask()
        if self._replies.blocked:
            self._due = self._now + BLOCKED_S

    def _cancel(self) -> None:
        self._calls.forget()
        self._replies.cancel()

    def _shorten(self, reply: str, heard_ms: int) -> None:
        """OpenAI cannot know what was heard over a WebSocket; xAI understands this since about July 2026, and what it
        says against it is no trouble (``complaints``)."""
        if shortened := self._spoken.shorten(reply, heard_ms):
            item, ms = shortened
            self._say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=ms)

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
        kind = event["type"]
        if self.listens and kind in self._events and kind not in GREETING:
            yield from self._become_ready()  # it takes what we say without a word about our settings
        if kind in self._events and (self.ready or kind in GREETING):
            yield from getattr(self, self._events[kind])(event)
        else:
            self._history |= kind in HISTORY
            log.debug("%s is nothing to us", kind)
        if kind != "ping":
            self._patience.heard(self._now, owed=self._replies.owed)

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        self.listens = self._in_order
        if self._resumes:
            self.resume = name(part(event, "conversation"), "id") or self.resume
        self.expires_at = number(part(event, "session"), "expires_at") or self.expires_at
        return ()

    def _on_session_updated(self, event: Fields) -> Iterable[Event]:
        self._on_greeting(event)
        return self._become_ready()

    def _on_turn_taken(self, event: Fields) -> Iterator[Event]:
        """Told twice, by the end of speech and by the commit; a second word must not end the turn after it."""
        self._noticed = True
        if self._service_ends:
            self._replies.expect()
            item, before = name(event, "item_id"), self._taken
            self._taken = item
            if not item or item != before:
                yield TurnTaken()

    def _on_committed(self, event: Fields) -> Iterator[Event]:
        if self._service_ends:
            yield from self._on_turn_taken(event)
        else:
            yield TurnReceived()

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
            yield TurnReceived()

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

    def _user_said(self, item: str, said: str, *, final: bool) -> UserText:
        said = said[:LONGEST_TEXT]
        self._user_text = (item, said)
        return UserText(item, said, final)

    def _on_reply_created(self, event: Fields) -> Iterable[Event]:
        self._begin(name(part(event, "response"), "id") or name(event, "response_id"))
        return ()

    def _begin(self, reply: str) -> None:
        self._noticed = True
        self._replies.begin(reply)
        self._calls.begin()
        self._sound.begin()
        self._text_kind = ""

    def _wanted(self, reply: str) -> str:
        """Return the wanted reply that *reply* means, or "". Some servers do not announce it."""
        if not self._replies.announced(reply):
            self._begin(reply)
        return self._replies.wanted(reply)

    def _on_reply_audio(self, event: Fields) -> Iterator[Event]:
        reply = self._wanted(name(event, "response_id"))
        if not reply:
            return
        try:
            pcm = self._sound.unpack(text(event, "delta"))
        except ValueError:
            yield ServiceError("a piece of a reply is damaged (bad base64); left out")
            return
        if not pcm:
            return
        if reply != self._sounding:
            self._sounding = reply
            yield ReplyStarted(reply)
        self._spoken.note(reply, name(event, "item_id"), len(pcm) / (2 * self._rate))
        yield ReplyAudio(reply, pcm)

    def _on_reply_text(self, event: Fields) -> Iterator[Event]:
        reply = self._wanted(name(event, "response_id"))
        self._text_kind = self._text_kind or event["type"]
        if reply and event["type"] == self._text_kind:
            yield ReplyText(reply, text(event, "delta")[:LONGEST_PIECE])

    def _on_output_item(self, event: Fields) -> Iterable[Event]:
        self._calls.announce(part(event, "item"))
        return ()

    def _on_call(self, event: Fields) -> Iterator[Event]:
        if self._wanted(name(event, "response_id")) and (call := self._calls.ask(event)):
            yield call

    def _on_reply_done(self, event: Fields) -> Iterator[Event]:
        response = part(event, "response")
        reply = name(response, "id") or name(event, "response_id")
        if self._wanted(reply):
            yield from self._calls_of(response)
        if wanted := self._replies.end(reply):
            problem = complaints.of_reply(response)
            if problem:
                self._calls.forget()
            yield ReplyEnded(wanted, problem, more=not problem and self._calls.reply_over())
            self._go_on()
        self._replies.ask_if_free()

    def _calls_of(self, response: Fields) -> Iterator[Event]:
        """Servers that say no name with the arguments say it here."""
        if text(response, "status") in {"", "completed"}:
            for item in parts(response, "output"):
                if text(item, "type") == "function_call" and (call := self._calls.ask(item)):
                    yield call

    def _on_error(self, event: Fields) -> Iterator[Event]:
        code, message = complaints.read(event)
        self._last_error = (code, message, self._now)
        if complaints.is_busy(code, message):
            self._replies.busy()
        elif said := complaints.judge(code, message):
            self._complaint = said
            yield ServiceError(said)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """What the service complained of right before its close frame, or at any time before it was ready, is why the
        connection ended."""
        if isinstance(error, LinkClosed):
            code, message, at = self._last_error
            if self.ready and self._now - at > JUST_BEFORE_S:
                code = message = ""
            return judge(error, code, message, ready=self.ready)
        if self.ready or not self._complaint:
            return error
        said = f"{error} ({self._complaint})"
        return LinkRefused(said) if isinstance(error, LinkRefused) else LinkLost(said, retry_after=error.retry_after)
