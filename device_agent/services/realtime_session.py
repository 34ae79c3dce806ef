"""Session of the protocol that xAI, OpenAI and LiteLLM share: JSON events, sound in base64.

Where to connect, and the settings, are in the module of each service. Names of events differ between generations of
servers, so every spelling that was seen anywhere is understood (``RealtimeSession.EVENTS``).
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from ..net.models import Message
from . import error_events
from .audio_payload import AudioPayload
from .base import HistoryEntry, Service, Session
from .closing import ERROR_BEFORE_CLOSE_S, judge
from .json_fields import MAX_DELTA_CHARS, MAX_TRANSCRIPT_CHARS, Fields, event_of, name, number, part, parts, text
from .reply_tracker import Due, ReplyTracker
from .response_timeout import ResponseTimeout
from .session_settings import without_refused
from .tool_calls import ToolCalls
from .truncation import TruncationTracker
from .turn_detection import TurnDetection

log = logging.getLogger(__name__)

Handler = Callable[[Any, Fields], Iterable[Event]]
"""Understands one event of the service: takes the session and the event, returns what it means."""

READY_WITHOUT_ACK_S = 5.0  # from session.update until the session counts as ready: some servers never confirm it
REPLY_END_TIMEOUT_S = 10.0  # an audible reply without a new piece counts as over: some servers never report its end
WITHDRAWN_REPLY_RETRY_S = 2.0
"""Seconds in which a service that ended its own silent reply, because it heard more speech, begins another one."""
PROGRESS_INTERVAL_S = 1.0  # the least time between two reports that the service works on an answer
NO_SPEECH = "the service heard no speech in it"
MIN_RATE, MAX_RATE = 8000, 48000  # samples per second that a service may choose
TRAILING_SILENCE_S = 1.0  # sent after a turn to a service that detects its end, and waits for ever without it
MAX_CLIP_BYTES = 8 * 1024 * 1024
"""Bytes. A longer recording is sent in pieces, because messages are limited: 15 MiB at OpenAI, 16 MiB at LiteLLM."""
CLIP_PIECE_S = 1.0
HISTORY_EVENTS = {"conversation.item.added", "conversation.item.created"}
"""Sent before the session is ready only where a conversation continues: its items."""
GREETING_EVENTS = {"session.created", "conversation.created", "session.updated", "error"}
"""Understood before the session is ready. Anything else that early is history of a conversation that continues: it was
heard and acted upon before."""


@dataclass(frozen=True)
class Dialect:
    """How servers of the protocol differ."""

    name: str = "the service"  # the server, in errors
    text_part: str = "text"  # the type of a text of the assistant
    clips: bool = True  # a recording may travel in one message
    resumes: bool = False  # a later connection may resume the conversation
    in_order: bool = False  # speech meets the settings sent before it, confirmed or not, and may follow them at once
    answers_commits: bool = False
    """A commit may be answered without a request, and a request sent together with it would be answered first, without
    the speech: so at xAI (pydantic-ai 2.53, checked live; others of 2026 saw it wait for a request)."""
    verbatim: bool = False  # force_message is spoken word for word
    acknowledges_turns: bool = True  # something is sent about a turn before the reply to it
    reply_end_timeout_s: float = REPLY_END_TIMEOUT_S


class RealtimeSession(Session):
    """One connection to *service*, which speaks *dialect*. *settings* is the ``session`` of session.update."""

    def __init__(self, service: Service, settings: dict[str, Any], dialect: Dialect) -> None:
        super().__init__()
        self._settings, self._dialect, self._rate = settings, dialect, service.rate
        self._clips = dialect.clips and service.codec is None
        self._text_only = settings.get("output_modalities") == ["text"]
        self._timeout = ResponseTimeout(dialect.name, service.patience_s, acknowledges=dialect.acknowledges_turns)
        self._audio = AudioPayload(service.codec)
        self._detection = TurnDetection(by_service=service.service_ends)
        self._replies = ReplyTracker(self._create, self._end)
        self._calls, self._truncation = ToolCalls(), TruncationTracker()
        self._now = 0.0
        # the handshake
        self._ready_at: float | None = None  # when the session counts as ready
        self._history = False  # the service knows the conversation of earlier connections
        self._recalled: list[str] = []  # texts of the user in the history sent, which may be echoed
        self._complaint = ""  # the latest error message
        self._last_error = ("", "", -math.inf)  # code and message of the latest error event, and when it came
        # the turn
        self._talking = self._sound_sent = False
        self._commits = 0  # not acknowledged yet
        self._acknowledges = False  # a commit was acknowledged on this connection
        self._unacknowledged: deque[str] = deque(maxlen=8)  # content types of the whole turns sent
        self._user_text: tuple[str, str] = ("", "")  # item, transcript so far
        # the reply
        self._reply = ""  # the wanted reply that the latest pieces belong to
        self._sounding = ""  # the reply whose sound has begun
        self._worded = ""  # the reply that has words
        self._text_kind = ""  # the first event type under which the text of this reply came
        self._texts: set[str] = set()  # items whose words came in pieces
        self._quiet_at: float | None = None  # when the audible reply counts as over
        self._tool_runs = False  # at the service, inside a reply
        self._retried = self._follows_tools = False  # the reply of this turn
        self._progress_told = 0.0

    @property
    def deadline(self) -> float | None:  # type: ignore[override]  # the earliest of several
        """When ``tick`` is next due, in seconds of its clock; None: not at all."""
        times = (self._ready_at, self._timeout.deadline(self._now), self._replies.deadline, self._quiet_at)
        return min((each for each in times if each is not None), default=None)

    @property
    def busy(self) -> bool:  # type: ignore[override]
        return self._talking or self._calls.open or not self._replies.idle

    # Messages to the service ------------------------------------------------------------------------------------------

    def greet(self) -> None:
        self._send_event("session.update", session=self._settings)
        self._ready_at = self._now + READY_WITHOUT_ACK_S

    def tick(self, now: float) -> Iterable[Event]:
        self._now = now
        self._timeout.check(now)
        if self._ready_at is None and self._quiet_at is None and self._replies.deadline is None:
            return ()
        return tuple(self._do_what_is_due(now))

    def _do_what_is_due(self, now: float) -> Iterator[Event]:
        if self._ready_at is not None and now >= self._ready_at:
            yield from self._ready_without_ack()
        if self._quiet_at is not None and now >= self._quiet_at:
            self._quiet_at = None
            yield from self._on_reply_done({})
        if self._replies.overdue(now):
            yield from self._request_overdue()
        if self._replies.tick(now):
            self._timeout.ask()

    def _ready_without_ack(self) -> Iterable[Event]:
        self._ready_at = None
        if self._complaint and not self.ready:
            raise LinkLost(f"{self._dialect.name} did not accept our settings: {self._complaint}")
        log.info("no session.updated was received; continuing without it")
        return self._become_ready()

    def _request_overdue(self) -> Iterable[Event]:
        """Request a reply that the service was to begin by itself. A service that acknowledged commits before and not
        this one has heard no speech in it, and would answer nothing at all."""
        unheard = self._replies.due is Due.COMMITTED and not self._replies.acknowledged and self._acknowledges
        if unheard and not self._detection.noticed:
            self._replies.give_up()
            self._commits = 0
            self._timeout.settle()
            return (ReplyEnded("", NO_SPEECH),)
        self._replies.ask_now()
        return ()

    def _become_ready(self) -> Iterable[Event]:
        if self.ready:
            return ()
        self.ready, self._ready_at = True, None
        return (LinkUp(),)

    def goes_on(self, resume: str) -> bool:
        """By the id in the greeting, which is another one if the old conversation has expired; without an id, by the
        history that the service sends."""
        return bool(resume) and (self.resume == resume if self.resume else self._history)

    def recall(self, said: Sequence[HistoryEntry]) -> None:
        """As items; no reply is requested. That xAI accepts those of the assistant with the type ``text``, as in what
        it replays itself, is inferred."""
        for each in said:
            role, kind = ("user", "input_text") if each.by_user else ("assistant", self._dialect.text_part)
            self._create_item("message", role=role, content=[{"type": kind, "text": each.text}])
        self._recalled = [each.text for each in said if each.by_user]

    def send(self, item: Speech | Action) -> None:
        detection = self._detection
        unnoticed = isinstance(item, TalkEnded) and self._talking and detection.by_service and not detection.noticed
        self._send(item)
        if unnoticed or (isinstance(item, (TalkEnded, TextTurn, AudioTurn, ToolResult)) and self._replies.owed):
            self._timeout.ask()

    def _send(self, item: Speech | Action) -> None:
        match item:
            case bytes():
                self._append(item)
            case TalkStarted():
                self._cancel()
                self._expect_reply(tools=False)
                self._talking, self._sound_sent = True, False
                self._detection.begin()
            case TalkEnded():
                self._end_turn()
            case NoSpeech():
                self._talking = False
                if self._sound_sent:
                    self._send_event("input_audio_buffer.clear")
            case TextTurn():
                self._send_text(item)
            case AudioTurn():
                self._send_clip(item.pcm)
            case ToolResult():
                self._answer(item)
            case CancelReply(reply, heard_ms):
                self._cancel()
                self._truncate(reply, heard_ms)

    def _append(self, pcm: bytes) -> None:
        """The f-string is four times faster than json.dumps, and base64 needs no escaping."""
        self._sound_sent = True
        self._outgoing.append(f'{{"type":"input_audio_buffer.append","audio":"{self._audio.pack(pcm)}"}}')

    def _end_turn(self) -> None:
        if not self._talking:
            return
        self._talking = False
        if self._detection.by_service:
            self._append(bytes(2 * round(TRAILING_SILENCE_S * (self.input_rate or self._rate))))
            return
        self._send_event("input_audio_buffer.commit")
        self._commits += 1
        if self._dialect.answers_commits:
            self._replies.commit()
            self.probe = True
        else:
            self._replies.ask(self._now)

    def _send_turn(self, content: Fields) -> None:
        """Send a turn in one piece. It has no end to be detected, so the reply is requested, even with server VAD."""
        self._cancel()
        self._unacknowledged.append(content["type"])
        self._create_item("message", role="user", content=[content])
        self._request_reply(tools=False)

    def _send_text(self, turn: TextTurn) -> None:
        """An announcement is spoken verbatim where the service can (``force_message``: docs.x.ai, and
        livekit-plugins-xai 1.8.9): its reply comes unrequested. Elsewhere the text asks the assistant to say it."""
        if not (isinstance(turn, Announcement) and self._dialect.verbatim):
            self._send_turn({"type": "input_text", "text": turn.text})
            return
        self._cancel()
        self._expect_reply(tools=False)
        content = [{"type": "output_text", "text": turn.exact}]
        self._create_item("force_message", role="assistant", content=content)
        self._replies.expect()

    def _send_clip(self, pcm: bytes) -> None:
        if self._clips and len(pcm) <= MAX_CLIP_BYTES:
            self._send_turn({"type": "input_audio", "audio": self._audio.pack(pcm)})
            return
        self.send(TalkStarted())
        step = 2 * round(CLIP_PIECE_S * self._rate)
        for begin in range(0, len(pcm), step):
            self._append(pcm[begin : begin + step])
        self.send(TalkEnded())

    def _expect_reply(self, *, tools: bool) -> None:
        """A reply to the latest turn, or to the results of *tools*, is expected from now on."""
        self._retried, self._follows_tools, self._progress_told = False, tools, self._now

    def _request_reply(self, *, tools: bool) -> None:
        self._expect_reply(tools=tools)
        self._replies.ask(self._now)

    def knows(self, call: str) -> bool:
        return self._calls.knows(call)

    def arrived(self, now: float) -> None:
        """A server that has sent no event yet may accept the turn and answer pings, and process neither."""
        if self._timeout.spoke:
            self._replies.arrived(now)

    def _answer(self, result: ToolResult) -> None:
        """Send the result of a tool; for a call of an earlier connection, after the call, or it would be an error here.

        An item alone starts no reply: response.create does. So it is documented by OpenAI; that xAI and the services
        behind a proxy do the same is inferred, and a reply that begins all the same is cancelled. That both accept
        ``function_call`` items is documented; xAI does not replay calls when a conversation is resumed (pydantic-ai
        2.68).
        """
        known = self._calls.answer(result.call, quiet=result.quiet)
        if not known and not result.name:
            log.debug("the tool call %s belongs to another connection", result.call)
            return
        if not known:
            self._create_item("function_call", call_id=result.call, name=result.name, arguments=result.arguments)
        self._create_item("function_call_output", call_id=result.call, output=result.output)
        if known:
            self._request_after_tools()
        elif not result.quiet:
            self._request_reply(tools=True)

    def _request_after_tools(self) -> None:
        """The assistant speaks again after the last result, and not before the reply with the calls is over. If all
        results are quiet it does not, and no event reports that: the tools know."""
        if self._calls.complete():
            self._request_reply(tools=True)

    def _create(self) -> None:
        """Request a reply. Behind an answered commit xAI drops a bare request until other input has come, which a
        ``clear`` is (pydantic-ai 2.53)."""
        if self._dialect.answers_commits and self._retried:
            self._send_event("input_audio_buffer.clear")
        self._send_event("response.create")

    def _end(self, reply: str) -> None:
        """End a reply by its id: without one, the service would end the reply of the conversation."""
        self._send_event("response.cancel", **({"response_id": reply} if reply else {}))

    def _cancel(self) -> None:
        """Cancel every reply. At a service that answers commits, ``clear`` revokes one that is not answered yet."""
        if self._replies.due is Due.COMMITTED:
            self._send_event("input_audio_buffer.clear")
        self._calls.forget()
        self._replies.cancel()
        self._timeout.settle()
        self._quiet_at = None

    def _truncate(self, reply: str, heard_ms: int) -> None:
        """OpenAI cannot know what was heard over a WebSocket; xAI understands this since about July 2026, and its
        objections are ignored (``error_events``)."""
        for item, ms in self._truncation.cut(reply, heard_ms):
            if ms:
                self._send_event("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=ms)
            else:
                self._send_event("conversation.item.delete", item_id=item)

    def _create_item(self, kind: str, **fields: object) -> None:
        self._send_event("conversation.item.create", item={"type": kind, **fields})

    # Events of the service --------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> Iterator[Event]:
        event = event_of(message)  # also from bytes: LiteLLM before 1.100 sends JSON in binary frames
        if isinstance(event, str):
            yield ServiceError(event)
            return
        yield from self._understand(event)

    def _understand(self, event: Fields) -> Iterator[Event]:
        kind, first = event["type"], not self._timeout.spoke
        handler = self.EVENTS.get(kind)
        if handler and self.listens and kind not in GREETING_EVENTS:
            yield from self._become_ready()  # the service accepts speech without a word about the settings
        if handler and (self.ready or kind in GREETING_EVENTS):
            yield from handler(self, event)
        else:
            self._history |= kind in HISTORY_EVENTS
            log.debug("the event %s is ignored", kind)
        if kind != "ping":
            yield from self._note_activity(kind)
        if first:
            self._replies.arrived(self._now)  # the service processes what has arrived by now

    def _note_activity(self, kind: str) -> Iterator[Event]:
        """An event is a sign of life; an event about a reply that is not audible yet is a sign of work."""
        of_reply = kind.startswith(("response.", "mcp_"))
        if of_reply:
            self._tool_runs = kind.endswith("in_progress") and "_call" in kind
        sounds = self._replies.open and self._sounding == self._reply
        works = (self._replies.silent or self._replies.open) and (not sounds or self._tool_runs)
        self._quiet_at = self._now + self._dialect.reply_end_timeout_s if sounds and not self._tool_runs else None
        self._timeout.heard(self._now, owed=self._replies.owed, works=works, spare=self.spare)
        if of_reply and works and self._now - self._progress_told >= PROGRESS_INTERVAL_S:
            self._progress_told = self._now
            yield ReplyProgress()

    def _on_greeting(self, event: Fields) -> Iterable[Event]:
        self.listens = self._dialect.in_order
        if self._dialect.resumes:
            self.resume = name(part(event, "conversation"), "id") or self.resume
        self.expires_at = number(part(event, "session"), "expires_at") or self.expires_at
        return ()

    def _on_session_updated(self, event: Fields) -> Iterable[Event]:
        self._on_greeting(event)
        if self._audio.is_pcm:
            self.input_rate, self.output_rate = (rate_of(event, way) for way in ("input", "output"))
        return self._become_ready()

    def _on_speech_started(self, event: Fields) -> Iterable[Event]:
        """Sent again for a turn whose end was reported: the user continues, and xAI drops the reply that it had begun
        without ``response.done`` (pydantic-ai 2.60, recorded live)."""
        if not self._detection.speech_started(name(event, "item_id")):
            return ()
        withdrawn = self._replies.withdraw()
        return (ReplyWithdrawn(withdrawn),) if withdrawn and self._sounding == withdrawn else ()

    def _on_turn_ended(self, event: Fields) -> Iterator[Event]:
        stopped = event["type"] == "input_audio_buffer.speech_stopped"
        if self._detection.ended(name(event, "item_id"), stopped=stopped):
            self._expect_reply(tools=False)
            self._replies.expect()
            yield TurnEndedByService()

    def _on_committed(self, event: Fields) -> Iterator[Event]:
        speech = self._detection.speech
        if not self._detection.by_service and self._talking and speech and name(event, "item_id") == speech:
            log.warning("the service ends turns by itself, although it was told not to; this is accepted")
            self._detection.by_service = True
        if self._detection.by_service:
            yield from self._on_turn_ended(event)
            return
        if self._commits:
            self._commits -= 1
            self._acknowledges = True
            if withdrawn := self._replies.acknowledge(self._now):
                yield ReplyWithdrawn(withdrawn)
        yield TurnAcknowledged()

    def _on_item(self, event: Fields) -> Iterator[Event]:
        """The echo of an item that was sent is known by its content: its id is chosen by the service."""
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
        """A delta holds the next words (OpenAI), others the transcript so far, which may change earlier words (xAI)."""
        kind, item = event["type"], name(event, "item_id")
        said = text(event, "transcript")
        if kind.endswith(".delta"):
            said = (self._user_text[1] if self._user_text[0] == item else "") + text(event, "delta")
        # xAI sends several completed ones with status in_progress before the last one
        final = kind.endswith(".completed") and event.get("status", "completed") == "completed"
        self._user_text = (item, said[:MAX_TRANSCRIPT_CHARS])
        yield UserText(*self._user_text, final)

    def _on_user_text_failed(self, event: Fields) -> Iterator[Event]:
        """The model has heard the turn all the same (recorded at Azure: DeploymentNotFound)."""
        yield ServiceError(f"the speech could not be transcribed: {error_events.read(event)[1]}")

    def _on_reply_created(self, event: Fields) -> Iterable[Event]:
        self._detection.noticed |= self._detection.by_service
        self._replies.begin(name(part(event, "response"), "id") or name(event, "response_id"), self._now)
        return ()

    def _wanted(self, event: Fields, *, heard: bool) -> str:
        """Return the wanted reply that a piece belongs to, or ""; *heard*: the piece is more than words."""
        reply = self._replies.piece(name(event, "response_id"), self._now, heard=heard)
        if reply:
            self._follow(reply)
        return reply

    def _follow(self, reply: str) -> None:
        """Reset what is kept of one reply, if *reply* is another one."""
        if reply != self._reply:
            self._reply = reply
            self._calls.begin()
            self._audio.begin()
            self._text_kind = ""
            self._texts.clear()

    def _on_reply_audio(self, event: Fields) -> Iterator[Event]:
        reply = self._wanted(event, heard=True)
        if not reply:
            return
        try:
            pcm = self._audio.unpack(text(event, "delta"))
        except ValueError:
            yield ServiceError("a piece of a reply is damaged (bad base64); left out")
            return
        if not pcm:
            return
        if reply != self._sounding or not self._replies.open:
            self._sounding = reply
            self._replies.reopen()
            yield ReplyStarted(reply)
        self._truncation.note(reply, name(event, "item_id"), len(pcm) / (2 * (self.output_rate or self._rate)))
        yield ReplyAudio(reply, pcm)

    def _on_reply_text(self, event: Fields) -> Iterator[Event]:
        reply = self._wanted(event, heard=False)
        self._text_kind = self._text_kind or event["type"]
        if reply and event["type"] == self._text_kind:
            self._texts.add(name(event, "item_id"))
            yield self._reply_text(reply, text(event, "delta"))

    def _on_reply_text_done(self, event: Fields) -> Iterator[Event]:
        """Some servers send the words of an item in one piece, at its end (speech-to-speech#439)."""
        reply = self._wanted(event, heard=False)
        whole = text(event, "transcript") or text(event, "text")
        if reply and whole and name(event, "item_id") not in self._texts:
            yield self._reply_text(reply, whole)

    def _reply_text(self, reply: str, words: str) -> ReplyText:
        self._worded = reply
        return ReplyText(reply, words[:MAX_DELTA_CHARS])

    def _on_output_item(self, event: Fields) -> Iterator[Event]:
        item, reply = part(event, "item"), self._wanted(event, heard=False)
        if not reply:
            return
        self._calls.announce(item)
        if text(item, "type") == "message":
            self._truncation.note(reply, name(item, "id"))
        elif text(item, "type") == "mcp_approval_request":
            tool = f"{name(item, 'name')} of {name(item, 'server_label')}"
            yield ServiceError(f"the tool {tool} waits for an approval; write require_approval: never in service.tools")

    def _on_output_item_done(self, event: Fields) -> Iterator[Event]:
        """Some servers report a call here alone."""
        yield from self._calls_in([part(event, "item")], event.get("response_id"))

    def _calls_in(self, items: Iterable[Fields], reply: object) -> Iterator[Event]:
        for item in items:
            if text(item, "type") == "function_call":
                yield from self._on_call({"response_id": reply, **item})

    def _on_call(self, event: Fields) -> Iterator[Event]:
        if self._wanted(event, heard=True) and (call := self._calls.ask(event)):
            yield call

    def _on_reply_done(self, event: Fields) -> Iterator[Event]:
        response = part(event, "response")
        reply = name(response, "id") or name(event, "response_id")
        if text(response, "status") in {"", "completed"}:  # servers without a name beside the arguments name it here
            yield from self._calls_in(parts(response, "output"), reply)
        if ended := self._replies.end(reply):
            yield from self._end_wanted(ended, response)
        self._replies.ask_if_free()

    def _end_wanted(self, reply: str, response: Fields) -> Iterator[Event]:
        """End a wanted reply: is it whole, and does it answer the user?"""
        self._follow(reply)
        problem = error_events.of_reply(response)
        sounded, worded = self._sounding == reply, self._worded == reply
        called = self._calls.asked
        if problem and not (sounded or worded or called) and self._retry(response, problem):
            return
        if problem:
            self._calls.forget()
        more = not problem and self._calls.reply_over()
        answered = sounded or called or self._follows_tools or (worded and self._text_only)
        yield ReplyEnded(reply, problem, more=more, silent=not (answered or problem))
        self._request_after_tools()

    def _retry(self, response: Fields, problem: str) -> bool:
        """Request a reply again, once, if it failed temporarily or was ended by the service; return whether it is."""
        withdrawn = text(response, "status") == "cancelled"
        if self._retried or not (withdrawn or error_events.momentary(response)):
            return False
        self._retried = True
        after = WITHDRAWN_REPLY_RETRY_S if withdrawn else error_events.again_after(problem)
        log.info("the reply failed before it began (%s); requesting it once more in %.1f s", problem, after)
        self._replies.again(self._now, after)
        return True

    def _on_error(self, event: Fields) -> Iterator[Event]:
        code, message = error_events.read(event)
        self._last_error = (code, message, self._now)
        if error_events.is_busy(code, message):
            self._replies.busy(self._now)
            return
        requested = self._replies.due is Due.ASKED
        if code == error_events.EMPTY_COMMIT_CODE and requested and not self._detection.noticed:
            self._cancel()  # the request behind the commit would be answered as if something had been said
            yield ReplyEnded("", NO_SPEECH)
            return
        if not (said := error_events.judge(code, message)):
            return
        self._complaint = said
        if not self.ready:
            yield from self._settings_refused(error_events.parameter(event), code, said)
        elif requested and error_events.is_momentary(code):
            failure = {"status": "failed", "status_details": {"error": {"code": code, "message": message}}}
            yield from self._on_reply_done({"response": failure})
        else:
            yield ServiceError(said)

    def _settings_refused(self, parameter: str, code: str, said: str) -> Iterator[Event]:
        """Send the settings again without an optional one that was refused. Raises LinkRefused if a needed one was."""
        if left := without_refused(self._settings, parameter, said):
            refused, self._settings = left
            log.warning("the service does not accept our setting for %s (%s); continuing without it", refused, said)
            self._complaint = ""
            self.greet()
        elif parameter.startswith("session") or code.startswith(("invalid_", "unknown_", "unsupported_")):
            server = self._dialect.name
            raise LinkRefused(f"{server} refuses our settings ({said}): are service.model, voice and tools right?")
        else:
            yield ServiceError(said)

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        """The cause is the error event right before the close frame, or at any time before the session was ready."""
        if isinstance(error, LinkClosed):
            code, message, at = self._last_error
            if self.ready and self._now - at > ERROR_BEFORE_CLOSE_S:
                code = message = ""
            return judge(error, code, message, ready=self.ready)
        if self.ready or not self._complaint or self._complaint in str(error):
            return error
        said = f"{error} ({self._complaint})"
        return LinkRefused(said) if isinstance(error, LinkRefused) else LinkLost(said, retry_after=error.retry_after)

    EVENTS: ClassVar[Mapping[str, Handler]] = {
        "session.created": _on_greeting,
        "conversation.created": _on_greeting,
        "session.updated": _on_session_updated,
        "input_audio_buffer.speech_started": _on_speech_started,
        "input_audio_buffer.speech_stopped": _on_turn_ended,
        "input_audio_buffer.committed": _on_committed,
        "conversation.item.added": _on_item,
        "conversation.item.created": _on_item,
        "conversation.item.input_audio_transcription.updated": _on_user_text,
        "conversation.item.input_audio_transcription.delta": _on_user_text,
        "conversation.item.input_audio_transcription.completed": _on_user_text,
        "input_audio_transcription.completed": _on_user_text,
        "conversation.item.input_audio_transcription.failed": _on_user_text_failed,
        "response.created": _on_reply_created,
        "response.output_item.added": _on_output_item,
        "response.output_item.done": _on_output_item_done,
        "response.output_audio.delta": _on_reply_audio,
        "response.audio.delta": _on_reply_audio,
        "response.output_audio_transcript.delta": _on_reply_text,
        "response.audio_transcript.delta": _on_reply_text,
        "response.output_text.delta": _on_reply_text,
        "response.text.delta": _on_reply_text,
        "response.output_audio_transcript.done": _on_reply_text_done,
        "response.audio_transcript.done": _on_reply_text_done,
        "response.output_text.done": _on_reply_text_done,
        "response.text.done": _on_reply_text_done,
        "response.function_call_arguments.done": _on_call,
        "response.done": _on_reply_done,
        "response.cancelled": _on_reply_done,
        "error": _on_error,
    }
    """The type of an event -> its handler; other types are ignored. A subclass with another handler extends this."""


def rate_of(event: Fields, way: str) -> int:
    """Return the samples per second of PCM in session.updated for *way*, input or output; 0 if there is none."""
    format_ = part(part(part(part(event, "session"), "audio"), way), "format")
    rate = number(format_, "rate") if name(format_, "type") in {"audio/pcm", ""} else 0.0
    return int(rate) if MIN_RATE <= rate <= MAX_RATE else 0
