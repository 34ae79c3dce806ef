"""The protocol that xAI, OpenAI and LiteLLM share: JSON events, sound in base64.

What differs between them is in their own files: where to connect, and what a session is told. Names of events differ
between generations of servers, so every spelling that was seen anywhere is read (EVENTS).

Replies are matched to what was asked for, not to what arrives: a reply that nobody asked for, or that was cancelled
before it had a name, is cancelled as soon as it has one and never heard.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from ..errors import LinkLost, LinkRefused
from ..events import (
    Action,
    CancelReply,
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
    TurnReceived,
    TurnTaken,
    UserText,
)
from . import Message, Session

log = logging.getLogger(__name__)

READY_BY_RULE_S = 5.0
"""Some servers skip parts of the greeting: this long after session.update we take the session for ready."""
BLOCKED_S = 3.0
"""A cancelled reply may be dropped by the service without a word (seen on xAI); after so long we ask for the next."""
TRAILING_S = 1.0
"""Silence that follows a turn for a service that listens for its end: without it, it waits for ever."""
DEAD = 32
"""So many cancelled replies are remembered by name."""

FATAL = {
    "invalid_api_key": "the key is not valid",
    "insufficient_quota": "the account has no credit left",
    "model_not_found": "there is no such model",
    "beta_api_shape_disabled": "the server does not speak the beta protocol any more",
}
"""Error codes after which no other try helps."""
OVER = {"session_expired", "max_duration", "timeout"}
"""Error codes that end the session in the ordinary course of things."""
NOISE = ("no active response", "already has an active response", "truncat")
"""Parts of messages of errors that only say that we were a moment late."""

EVENTS = {
    "session.updated": "_on_session_updated",
    "input_audio_buffer.speech_stopped": "_on_turn_taken",
    "input_audio_buffer.committed": "_on_committed",
    "conversation.item.input_audio_transcription.updated": "_on_user_text",
    "conversation.item.input_audio_transcription.delta": "_on_user_text_delta",
    "conversation.item.input_audio_transcription.completed": "_on_user_text_final",
    "input_audio_transcription.completed": "_on_user_text_final",
    "response.created": "_on_reply_created",
    "response.output_audio.delta": "_on_reply_audio",
    "response.audio.delta": "_on_reply_audio",
    "response.output_audio_transcript.delta": "_on_reply_text",
    "response.audio_transcript.delta": "_on_reply_text",
    "response.output_text.delta": "_on_reply_text",
    "response.text.delta": "_on_reply_text",
    "response.done": "_on_reply_done",
    "response.cancelled": "_on_reply_done",
    "error": "_on_error",
}
"""The type of an event on the wire -> the method that understands it. The others tell us nothing that we need."""


class Owed(Enum):
    """A reply that was asked for and has no name yet."""

    NOTHING = "nothing"
    WANTED = "wanted"
    UNWANTED = "unwanted"


class RealtimeSession(Session):
    """One connection to a service of the family.

    *settings* is the ``session`` of session.update. *rate* is that of the sound both ways. *service_ends* says that the
    service decides when the user has finished (server VAD); otherwise each turn is committed by hand.
    """

    def __init__(self, settings: dict[str, Any], *, rate: int, service_ends: bool) -> None:
        super().__init__()
        self._settings, self._rate, self._service_ends = settings, rate, service_ends
        self._now = 0.0
        self._talking = self._sound_sent = False
        self._owed = Owed.NOTHING
        self._postponed = False  # a reply to ask for as soon as the one under way is over
        self._reply = ""  # the reply under way at the service, wanted or not
        self._replies = 0  # counts those that came without an id
        self._dead: deque[str] = deque(maxlen=DEAD)
        self._sounding = ""  # the reply whose sound has begun
        self._odd = b""  # half a sample that a delta ended with
        self._text_kind = ""  # the first of the names under which this reply's text came
        self._user_text: tuple[str, str] = ("", "")  # item, what was said so far

    # What we say ------------------------------------------------------------------------------------------------------

    def greet(self) -> None:
        self._say("session.update", session=self._settings)
        self.deadline = self._now + READY_BY_RULE_S

    def tick(self, now: float) -> Iterable[Event]:
        self._now = now
        if self.deadline is None or now < self.deadline:
            return ()
        self.deadline = None
        if not self.ready:
            log.warning("no session.updated within %g s; going on without it", READY_BY_RULE_S)
            self.ready = True
            return (LinkUp(),)
        if self._postponed:
            self._owed, self._reply = Owed.NOTHING, ""
            self._ask_if_free()
        return ()

    def send(self, item: Speech | Action) -> None:
        match item:
            case bytes():
                self._append(item)
            case TalkStarted():
                self._cancel()
                self._talking, self._sound_sent = True, False
            case TalkEnded():
                self._end_turn()
            case NothingSaid():
                self._talking = False
                if self._sound_sent:
                    self._say("input_audio_buffer.clear")
            case CancelReply():
                self._cancel()

    def _append(self, pcm: bytes) -> None:
        """The f-string is four times faster than json.dumps, and base64 needs no escaping."""
        self._sound_sent = True
        self._outgoing.append(f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(pcm).decode()}"}}')

    def _end_turn(self) -> None:
        if not self._talking:
            return
        self._talking = False
        if self._service_ends:
            self._append(bytes(2 * round(TRAILING_S * self._rate)))
            return
        self._say("input_audio_buffer.commit")
        self._postponed = True
        self._ask_if_free()

    def _ask_if_free(self) -> None:
        """Ask for the reply that was postponed, unless another is under way: a service runs one at a time."""
        if not self._postponed:
            return
        if self._reply or self._owed is not Owed.NOTHING:
            self.deadline = self._now + BLOCKED_S
            return
        self._postponed, self._owed = False, Owed.WANTED
        self._say("response.create")

    def _cancel(self) -> None:
        """Nobody wants the replies any more that were asked for so far."""
        self._postponed = False
        if self._owed is Owed.WANTED:
            self._owed = Owed.UNWANTED
        if self._reply and self._reply not in self._dead:
            self._kill(self._reply)

    def _kill(self, reply: str) -> None:
        self._dead.append(reply)
        self._say("response.cancel")

    def _say(self, kind: str, **fields: object) -> None:
        self._outgoing.append(json.dumps({"type": kind, **fields}))

    # What the service says --------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> Iterator[Event]:
        try:
            event = json.loads(message)  # LiteLLM before 1.100 sends JSON in binary frames
        except (ValueError, RecursionError):
            yield ServiceError(f"the service sent {len(message)} bytes that are not JSON; ignored")
            return
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str):
            yield ServiceError("the service sent JSON that is not an event; ignored")
        elif kind in EVENTS:
            yield from getattr(self, EVENTS[kind])(event)
        else:
            log.debug("%s is nothing to us", kind)

    def _on_session_updated(self, _event: dict[str, Any]) -> Iterator[Event]:
        if not self.ready:
            self.ready, self.deadline = True, None
            yield LinkUp()

    def _on_turn_taken(self, _event: dict[str, Any]) -> Iterator[Event]:
        if self._service_ends:
            self._owed = Owed.WANTED
            yield TurnTaken()

    def _on_committed(self, event: dict[str, Any]) -> Iterator[Event]:
        if self._service_ends:
            yield from self._on_turn_taken(event)
        else:
            yield TurnReceived()

    def _on_user_text(self, event: dict[str, Any]) -> Iterator[Event]:
        """xAI: all that was said so far; it may rewrite earlier words."""
        yield self._user_said(_text(event, "item_id"), _text(event, "transcript"), final=False)

    def _on_user_text_delta(self, event: dict[str, Any]) -> Iterator[Event]:
        """OpenAI: the next words."""
        item = _text(event, "item_id")
        before = self._user_text[1] if self._user_text[0] == item else ""
        yield self._user_said(item, before + _text(event, "delta"), final=False)

    def _on_user_text_final(self, event: dict[str, Any]) -> Iterator[Event]:
        """xAI sends several of these with status in_progress before the last one."""
        final = event.get("status", "completed") == "completed"
        yield self._user_said(_text(event, "item_id"), _text(event, "transcript"), final=final)

    def _user_said(self, item: str, text: str, *, final: bool) -> UserText:
        self._user_text = (item, text)
        return UserText(item, text, final)

    def _on_reply_created(self, event: dict[str, Any]) -> Iterable[Event]:
        self._begin(_text(_part(event, "response"), "id") or _text(event, "response_id"))
        return ()

    def _begin(self, reply: str) -> None:
        """A reply has a name now: is it one that somebody wants?"""
        owed, self._owed = self._owed, Owed.NOTHING
        self._replies += 1
        self._reply = reply or f"reply {self._replies}"
        self._odd, self._text_kind = b"", ""
        if owed is not Owed.WANTED:
            self._kill(self._reply)

    def _on_reply_audio(self, event: dict[str, Any]) -> Iterator[Event]:
        reply = self._named(event)
        if not reply:
            return
        try:
            pcm = self._odd + base64.b64decode(_text(event, "delta"))
        except (binascii.Error, ValueError):
            yield ServiceError("a piece of a reply is damaged (bad base64); left out")
            return
        whole = len(pcm) & ~1
        self._odd = pcm[whole:]
        if reply != self._sounding and whole:
            self._sounding = reply
            yield ReplyStarted(reply)
        if whole:
            yield ReplyAudio(reply, pcm[:whole])

    def _on_reply_text(self, event: dict[str, Any]) -> Iterator[Event]:
        reply = self._named(event)
        self._text_kind = self._text_kind or event["type"]
        if reply and event["type"] == self._text_kind:
            yield ReplyText(reply, _text(event, "delta"))

    def _named(self, event: dict[str, Any]) -> str:
        """Return the wanted reply that *event* is about, or "". Old servers do not say; some do not announce it."""
        reply = _text(event, "response_id") or self._reply
        if self._owed is Owed.WANTED and reply not in self._dead:
            self._begin(reply)
            return self._reply
        return reply if reply == self._reply and reply not in self._dead else ""

    def _on_reply_done(self, event: dict[str, Any]) -> Iterator[Event]:
        response = _part(event, "response")
        reply = _text(response, "id") or _text(event, "response_id") or self._reply
        if reply == self._reply:
            self._reply = ""
        if reply in self._dead:
            self._dead.remove(reply)
        else:
            yield ReplyEnded(reply, _problem(response))
        self._ask_if_free()

    def _on_error(self, event: dict[str, Any]) -> Iterator[Event]:
        error = event.get("error")
        detail = error if isinstance(error, dict) else {}
        code = _text(detail, "code") or _text(detail, "type")
        message = _text(detail, "message") or (error if isinstance(error, str) else "") or code or "no reason given"
        if code in FATAL:
            raise LinkRefused(f"{FATAL[code]} ({code}: {message})")
        if code in OVER:
            raise LinkLost(f"the session is over ({code}: {message})")
        if code == "conversation_already_has_active_response":
            self._on_busy()
        elif code != "response_cancel_not_active" and not any(words in message.lower() for words in NOISE):
            yield ServiceError(f"{code}: {message}" if code and code != message else message)

    def _on_busy(self) -> None:
        """Our request for a reply came while another runs: ask again after it, unless that one answers us already."""
        if self._owed is Owed.WANTED and self._reply in self._dead:
            self._postponed = True
        self._owed = Owed.NOTHING


def _text(event: dict[str, Any], key: str) -> str:
    value = event.get(key)
    return value if isinstance(value, str) else ""


def _part(event: dict[str, Any], key: str) -> dict[str, Any]:
    value = event.get(key)
    return value if isinstance(value, dict) else {}


def _problem(response: dict[str, Any]) -> str:
    """Return why a reply is not whole, "" where it is. xAI's status_details may be a string that means nothing."""
    status = _text(response, "status") or "completed"
    if status == "completed":
        return ""
    details = _part(response, "status_details")
    error = _part(details, "error")
    return _text(error, "message") or _text(error, "code") or _text(details, "reason") or status
