"""Conversation history: the last turns, for a service that does not remember them when a new connection begins.

It is private: kept in memory alone, never on a disk or in the log.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..core.actions import CancelReply
from ..core.events import (
    AudioTurn,
    Event,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnEndedByService,
    UserText,
)
from ..services.base import HistoryEntry

MAX_HISTORY_TURNS = 10
"""Of both sides together: a service may charge for each text."""
MAX_HISTORY_CHARS = 4000
MAX_TURN_CHARS = 1500
"""Of a longer turn the end is kept, because that is where the conversation goes on."""
HISTORY_MAX_AGE_S = 30 * 60.0
"""Older turns are not told: another person may stand before the speaker by now."""
MAX_TURN_PARTS = 8
"""Utterances in one turn of one side."""
MAX_KNOWN_CALLS = 32


@dataclass
class _Reply:
    """One reply: the end of its text, and the length of its text and audio in all."""

    text: str = field(default="", repr=False)
    length: int = 0  # characters
    seconds: float = 0.0
    ended: bool = False

    def add(self, text: str) -> None:
        self.length += len(text)
        self.text = (self.text + text)[-MAX_HISTORY_CHARS:]

    def shorten(self, heard_s: float) -> None:
        """Keep the words that were heard, estimated from the share of the audio that was played."""
        if heard_s >= self.seconds:
            return
        unheard = self.length - int(self.length * heard_s / self.seconds)
        self.text = " ".join(self.text[: max(0, len(self.text) - unheard)].split(" ")[:-1])


@dataclass
class _Exchange:
    """A turn of the user, and the replies to it."""

    at: float  # time of its latest part
    typed: str = field(default="", repr=False)
    spoken: dict[str, str] = field(default_factory=dict, repr=False)  # by the service's name for it
    replies: dict[str, _Reply] = field(default_factory=dict, repr=False)
    over: bool = False  # the user has finished
    called: bool = False  # the assistant has called a tool

    @property
    def user(self) -> str:
        return (self.typed or " ".join(self.spoken.values())).strip()

    @property
    def assistant(self) -> str:
        return " ".join(filter(None, (reply.text.strip() for reply in self.replies.values())))


class History:
    """The last exchanges, over all connections and services. Belongs to the link's thread.

    *rate* is that of the device's audio. An exchange counts when it was answered by text or by a tool call: before that
    the outbox still has the turn, and sends it itself.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._exchanges: deque[_Exchange] = deque(maxlen=MAX_HISTORY_TURNS)
        self._calls: deque[str] = deque(maxlen=MAX_KNOWN_CALLS)  # of the latest turn

    def said(self, now: float) -> tuple[HistoryEntry, ...]:
        """Return what to tell a service that does not remember, oldest first."""
        found: list[HistoryEntry] = []
        room = MAX_HISTORY_CHARS
        for exchange in reversed(self._exchanges):
            if now - exchange.at > HISTORY_MAX_AGE_S or len(found) + 2 > MAX_HISTORY_TURNS:
                break
            if exchange.assistant or exchange.called:
                for by_user, text in ((False, exchange.assistant), (True, exchange.user)):
                    kept = text[max(0, len(text) - min(room, MAX_TURN_CHARS)) :]
                    room -= len(kept)
                    found += [HistoryEntry(by_user, kept)] if kept else []
        return tuple(reversed(found))

    def begin(self) -> None:
        """Forget unanswered exchanges, because a new connection gets those turns from the outbox."""
        self._exchanges = deque((each for each in self._exchanges if each.replies or each.called), MAX_HISTORY_TURNS)

    def awaits(self, call: str) -> bool:
        """Whether the result of the tool *call* is still wanted, on whichever connection it was made."""
        return call in self._calls

    def sent(self, item: object, now: float) -> None:
        """Note that *item* of the outbox is sent."""
        if isinstance(item, (TalkStarted, AudioTurn, TextTurn)):
            self._calls.clear()
        match item:
            case TalkStarted() | AudioTurn():
                self._exchanges.append(_Exchange(now, over=isinstance(item, AudioTurn)))
            case TextTurn(text):
                self._exchanges.append(_Exchange(now, typed=text[-MAX_HISTORY_CHARS:], over=True))
            case TalkEnded() if self._exchanges:
                self._exchanges[-1].over = True
            case NoSpeech() if self._exchanges and not self._exchanges[-1].replies:
                self._exchanges.pop()
            case CancelReply(reply, heard_ms):
                self.cut(reply, heard_ms)

    def told(self, event: Event, now: float) -> None:
        """Note an *event* of the service."""
        if not self._exchanges:
            return
        match event:
            case ToolCall(call):
                self._calls.append(call)
                self._exchanges[-1].called = True
            case UserText(item, text):
                self._understood(item, text)
            case TurnEndedByService():
                self._exchanges[-1].over = True
            case ReplyStarted(reply) | ReplyAudio(reply) | ReplyText(reply) | ReplyEnded(reply):
                self._replied(reply, event, now)

    def cut(self, reply: str, heard_ms: int) -> None:
        """Shorten *reply* to what was heard, and drop those after it; "": drop what has no audio yet."""
        self._calls.clear()
        for exchange in reversed(self._exchanges):
            names = list(exchange.replies)
            if reply in names:
                exchange.replies[reply].shorten(heard_ms / 1000)
                for later in names[names.index(reply) + 1 :]:
                    exchange.replies[later].text = ""
                return
        if self._exchanges:
            for unheard in self._exchanges[-1].replies.values():
                if not (unheard.seconds or unheard.ended):
                    unheard.text = ""

    def _understood(self, item: str, text: str) -> None:
        """Add a transcript, which may be late: after the next turn has begun it belongs to one that has no text yet."""
        exchange = next((each for each in self._exchanges if item in each.spoken), None)
        if exchange is None:
            exchange = self._exchanges[-1]
            before = self._exchanges[-2] if len(self._exchanges) > 1 else exchange
            if not exchange.over and not before.user:
                exchange = before
        if item in exchange.spoken or len(exchange.spoken) < MAX_TURN_PARTS:
            exchange.spoken[item] = text[-MAX_HISTORY_CHARS:]

    def _replied(self, name: str, event: Event, now: float) -> None:
        exchange = self._exchanges[-1]
        if name not in exchange.replies and len(exchange.replies) >= MAX_TURN_PARTS:
            return
        exchange.at = now
        reply = exchange.replies.setdefault(name, _Reply())
        match event:
            case ReplyText(_, text):
                reply.add(text)
            case ReplyAudio(_, pcm):
                reply.seconds += len(pcm) / (2 * self.rate)
            case ReplyEnded():
                reply.ended = True
