"""What was said lately, for a service that does not know it: a new connection begins where the last one ended.

It is private: it lives in memory alone and never comes near a disk or the log.
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
"""So many turns, of both sides together: each costs money where a service takes money for texts."""
MAX_HISTORY_CHARS = 4000
"""Characters of all of them."""
MAX_TURN_CHARS = 1500
"""Characters of one; of what is longer the end is kept, because that is where one goes on."""
HISTORY_MAX_AGE_S = 30 * 60.0
"""What was said longer ago is not told again: somebody else may stand before the speaker by now."""
MAX_TURN_PARTS = 8
"""So many utterances may make up one turn of one side."""
MAX_KNOWN_CALLS = 32
"""So many calls of tools are known by name."""


@dataclass
class _Reply:
    """What came of one reply: the end of its text, how long its text and its sound are in all."""

    text: str = field(default="", repr=False)
    length: int = 0  # characters
    seconds: float = 0.0
    ended: bool = False

    def add(self, text: str) -> None:
        self.length += len(text)
        self.text = (self.text + text)[-MAX_HISTORY_CHARS:]

    def shorten(self, heard_s: float) -> None:
        """Keep the words that were heard, as far as one can tell: text and sound do not come at the same pace."""
        if heard_s >= self.seconds:
            return
        unheard = self.length - int(self.length * heard_s / self.seconds)
        self.text = " ".join(self.text[: max(0, len(self.text) - unheard)].split(" ")[:-1])


@dataclass
class _Exchange:
    """A turn of the user and what was replied."""

    at: float  # when something of it was said last
    typed: str = field(default="", repr=False)
    spoken: dict[str, str] = field(default_factory=dict, repr=False)  # by the service's name for it
    replies: dict[str, _Reply] = field(default_factory=dict, repr=False)
    over: bool = False  # the user has finished
    called: bool = False  # the assistant has asked for a tool

    @property
    def user(self) -> str:
        return (self.typed or " ".join(self.spoken.values())).strip()

    @property
    def assistant(self) -> str:
        return " ".join(filter(None, (reply.text.strip() for reply in self.replies.values())))


class History:
    """The last exchanges, over all connections and services. Belongs to the link's thread.

    *rate* is that of the sound, in samples per second. An exchange counts when it was answered in words, or by a call
    of a tool: before that the outbox has the turn and sends it itself.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._exchanges: deque[_Exchange] = deque(maxlen=MAX_HISTORY_TURNS)
        self._calls: deque[str] = deque(maxlen=MAX_KNOWN_CALLS)  # of the latest turn

    def at(self, rate: int) -> History:
        """Go on with sound at another *rate*; return itself."""
        self._rate = rate
        return self

    def said(self, now: float) -> tuple[HistoryEntry, ...]:
        """Return what is worth to be told to who does not know it, oldest first."""
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
        """The connection is new: what nobody has answered will be sent to it as it was spoken."""
        self._exchanges = deque((each for each in self._exchanges if each.replies or each.called), MAX_HISTORY_TURNS)

    def awaits(self, call: str) -> bool:
        """Whether the result of this *call* of a tool is still wanted, on whatever connection it was made."""
        return call in self._calls

    def sent(self, item: object, now: float) -> None:
        """*item* of the outbox goes up."""
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
        """The service said *event*."""
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
        """*heard_ms* of *reply* were heard, and nothing of what would have followed; "": of none that has sounded."""
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
        """A transcript may come late, when the next turn has begun: then it belongs to the turn that still has none."""
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
                reply.seconds += len(pcm) / (2 * self._rate)
            case ReplyEnded():
                reply.ended = True
