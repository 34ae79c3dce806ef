"""Session of one Ultravox call: PCM in binary frames both ways, everything else as JSON. Only tool calls have an id, so
replies are counted here, and told apart by the ``state`` messages of the service.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

from ..core.actions import Action, CancelReply, ToolResult
from ..core.conversation import DEFAULT_PATIENCE_S
from ..core.events import (
    AudioTurn,
    Event,
    LinkUp,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ServiceError,
    Speech,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnEndedByService,
    UserText,
)
from ..net.models import Message
from .base import Session
from .json_fields import MAX_DELTA_CHARS, MAX_TRANSCRIPT_CHARS, Fields, Samples, event_of, name, part, text
from .response_timeout import ResponseTimeout
from .tool_calls import MAX_OPEN_CALLS, cut

log = logging.getLogger(__name__)

STREAM_FRAME_S = 0.02
MAX_STREAM_LAG_S = 0.1  # frames that are due after a longer pause are left out: the service would drop them
TEXT_END_TIMEOUT_S = 1.0  # seconds from the end of its sound until a reply counts as over without the end of its text
MAX_ORDINAL = 1 << 31  # a text with a larger ordinal counts as one without: Python formats no number of 4301 digits
REPLYING_STATES = {"thinking", "speaking"}


class UltravoxSession(Session):
    """One call, with sound at *rate* both ways. *text_only*: replies are silent. *patience_s*: longest silence."""

    def __init__(self, *, rate: int, text_only: bool = False, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        super().__init__()
        self._text_only = text_only
        self._frame = 2 * round(rate * STREAM_FRAME_S)
        self._now = 0.0
        self._speech = bytearray()  # not yet due; bounded by the outbox
        self._talking = False
        self._turn_open = False  # a turn that the service has not accepted yet
        self._turn_heard = False  # some of it has been sent
        self._turn_whole = False  # it is complete, and some of it is not yet due
        self._timeout = ResponseTimeout("ultravox", patience_s)
        self._state = ""
        self._unwanted = False  # what the service says now belongs to a cancelled reply
        self._count = 0
        self._reply = ""  # the reply under way
        self._last = ""  # the reply that may still be playing
        self._sounding = False
        self._samples = Samples()
        self._settled_at: float | None = None  # when the reply is over although its text has no end
        self._agent_text: tuple[int, str] = (-1, "")  # ordinal, transcript so far
        self._agent_past = -1  # texts up to this ordinal belong to replies that are over
        self._user_text: tuple[int, str] = (-1, "")
        self._calls: dict[str, bool] = {}  # open calls; whether the reply to the result is wanted
        self._worth = False  # one of the results since no call was open is not quiet

    @property
    def busy(self) -> bool:  # type: ignore[override]  # derived here, stored in other sessions
        return bool(self._talking or self._turn_open or self._speech or self._calls or self._replying)

    @property
    def _replying(self) -> bool:
        return bool(self._reply) or self._state in REPLYING_STATES

    # Messages to the service ------------------------------------------------------------------------------------------

    def goes_on(self, resume: str) -> bool:
        """A call that cannot continue another one is not made. Otherwise its ``initialMessages`` are the history."""
        return bool(resume)

    def tick(self, now: float) -> Iterable[Event]:
        self._now = now
        self._timeout.check(now)
        if self.deadline is None:
            return ()
        if now - self.deadline > MAX_STREAM_LAG_S:
            self.deadline = now
        while self.deadline <= now:
            self._stream()
            self.deadline += STREAM_FRAME_S
        if self._turn_whole and not self._speech:
            self._turn_whole = False
            if self._turn_open:
                self._timeout.ask()
        if self._settled_at is not None and now >= self._settled_at:
            return self._end_reply()
        return ()

    def _stream(self) -> None:
        frame = bytes(self._speech[: self._frame])
        del self._speech[: self._frame]
        self._turn_heard |= bool(frame)
        self._outgoing.append(frame.ljust(self._frame, b"\0"))

    def send(self, item: Speech | Action) -> None:
        match item:
            case bytes():
                self._speech += item
            case TalkStarted():
                self._cancel()
                self._open_turn()
                self._talking = True
            case TalkEnded():
                self._talking, self._turn_whole = False, True  # zeros follow, in which the service detects the end
            case NoSpeech():
                self._talking = self._turn_open = self._turn_whole = False
                self._speech.clear()
            case TextTurn():
                self._disown()
                self._send_text_turn(item.text)
            case AudioTurn():
                self._cancel()
                self._open_turn()
                self._turn_whole = True
                self._speech += item.pcm
            case ToolResult():
                self._answer(item)
            case CancelReply():
                if not self._talking:
                    self._speech.clear()
                self._cancel()

    def _open_turn(self) -> None:
        self._turn_open, self._turn_heard, self._turn_whole = True, False, False

    def _send_text_turn(self, words: str) -> None:
        self._turn_open = self._turn_heard = self._turn_whole = True
        self._send_text(words)

    def _send_text(self, words: str) -> None:
        self._send_event("user_text_message", text=words, urgency="immediate")

    def _cancel(self) -> None:
        """An empty urgent text makes the agent stop (seen in the field); there is no message for that."""
        if self._replying and not self._unwanted:
            self._send_text("")
        self._disown()

    def _disown(self) -> None:
        """What the service says is unwanted from now on, until it listens again or accepts the next turn."""
        self._unwanted = self._replying
        self._calls = dict.fromkeys(self._calls, False)
        self._worth = False
        self._last = ""
        self._drop_reply()

    def _answer(self, result: ToolResult) -> None:
        """Send the result of a tool; a failure, too: the conversation is frozen until every call has one. That the
        agent ``listens`` after a result and says nothing is documented. What it does after several results that differ
        in it is not: so the last one has the reaction to all of them, whichever counts."""
        wanted = self._calls.pop(result.call, None)
        if wanted is None:
            self._answer_late(result)
            return
        outcome = (
            {"errorType": "implementation-error", "errorMessage": result.output}
            if result.failed
            else {"result": result.output, "responseType": "tool-response"}
        )
        self._worth |= wanted and not result.quiet
        reaction = "speaks" if wanted and self._worth else "listens"
        self._worth = self._worth and bool(self._calls)
        self._send_event("client_tool_result", invocationId=result.call, agentReaction=reaction, **outcome)

    def _answer_late(self, result: ToolResult) -> None:
        """Send the result of a call that is over as a text of the user, as pipecat 1.14 does."""
        if not result.name:
            log.debug("the tool call %s belongs to another connection", result.call)
        elif not result.quiet:
            self._send_text_turn(f"(The result of the tool {result.name} that you called: {result.output})")

    def knows(self, call: str) -> bool:
        return call in self._calls

    def farewell(self) -> None:
        self._send_event("hang_up")

    # Messages of the service ------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> Iterator[Event]:
        if isinstance(message, bytes):
            yield from self._on_sound(message)
            return
        event = event_of(message)
        if isinstance(event, str):
            yield ServiceError(event)
        elif handler := self.EVENTS.get(event["type"]):
            yield from handler(self, event)
            owed = self._state == "thinking" and not self._calls
            self._timeout.heard(self._now, owed=owed, works=bool(self._reply) and not self._sounding, spare=self.spare)
        else:
            log.debug("the event %s is ignored", event["type"])

    def _on_call_started(self, event: Fields) -> Iterable[Event]:
        self.resume = name(event, "callId") or self.resume
        return self._become_ready()

    def _become_ready(self) -> Iterable[Event]:
        if self.ready:
            return ()
        self.ready, self.deadline = True, self._now
        return (LinkUp(),)

    def _on_state(self, event: Fields) -> Iterator[Event]:
        yield from self._become_ready()
        self._state = name(event, "state")
        accepted = self._state == "thinking" and self._turn_open and self._turn_heard
        if accepted or self._state in {"listening", "idle"}:
            self._unwanted = False
        if self._state == "speaking":
            self._settled_at = None
        elif self._reply:
            yield from self._settle()
        if accepted:
            self._turn_open = False
            yield TurnEndedByService()

    def _settle(self) -> Iterable[Event]:
        """The sound of a reply is over. The end of its text may come later."""
        if self._agent_text[0] <= self._agent_past:
            return self._end_reply()
        self._settled_at = self._now + TEXT_END_TIMEOUT_S
        return ()

    def _on_sound(self, sound: bytes) -> Iterator[Event]:
        self._timeout.heard(self._now, owed=False, works=False)
        if self._unwanted or not self.ready:
            return
        self._begin_reply()
        pcm = self._samples.whole(sound)
        if not pcm:
            return
        if not self._sounding:
            self._sounding = True
            yield ReplyStarted(self._reply)
        yield ReplyAudio(self._reply, pcm)

    def _on_transcript(self, event: Fields) -> Iterator[Event]:
        """``text`` replaces the transcript of an ordinal, ``delta`` continues it."""
        ordinal = event.get("ordinal")
        number = self._agent_past + 1
        if isinstance(ordinal, int) and 0 <= ordinal <= MAX_ORDINAL:
            number = ordinal
        final = event.get("final") is True
        if text(event, "role") == "user":
            before = self._user_text[1] if self._user_text[0] == number else ""
            self._user_text = (number, (text(event, "text") or before + text(event, "delta"))[:MAX_TRANSCRIPT_CHARS])
            yield UserText(str(number), self._user_text[1], final)
        elif text(event, "role") == "agent":
            yield from self._agent_said(number, text(event, "text"), text(event, "delta"), final=final)

    def _agent_said(self, number: int, whole: str, delta: str, *, final: bool) -> Iterator[Event]:
        if self._unwanted:
            self._agent_past = max(self._agent_past, number)
        if number <= self._agent_past:
            return
        self._begin_reply()
        before = self._agent_text[1] if self._agent_text[0] == number else ""
        if whole:
            delta = whole[len(before) :] if whole.startswith(before) and len(before) < MAX_TRANSCRIPT_CHARS else ""
        self._agent_text = (number, (before + delta)[:MAX_TRANSCRIPT_CHARS])
        if delta:
            yield ReplyText(self._reply, delta[:MAX_DELTA_CHARS])
        if final:
            self._agent_past = number
            if self._state != "speaking" and (self._sounding or self._text_only):
                yield from self._end_reply()  # else its sound may follow

    def _begin_reply(self) -> None:
        """Sound or text without the state speaking is a reply, too."""
        if not self._reply:
            self._count += 1
            self._reply = self._last = f"reply {self._count}"
        if self._state != "speaking":
            self._settled_at = self._now + TEXT_END_TIMEOUT_S

    def _end_reply(self) -> Iterable[Event]:
        reply, heard = self._reply, self._sounding or self._text_only
        self._drop_reply()
        more = any(self._calls.values()) or (self._state == "thinking" and not self._turn_open)
        return (ReplyEnded(reply, more=more, silent=not (heard or more)),) if reply else ()

    def _drop_reply(self) -> None:
        self._agent_past = max(self._agent_past, self._agent_text[0])
        self._reply, self._sounding, self._samples, self._settled_at = "", False, Samples(), None

    def _on_clear(self, _event: Fields) -> Iterator[Event]:
        """The user interrupted: buffered sound is not to be heard either."""
        reply = self._reply or self._last
        self._last = ""
        self._drop_reply()
        if reply:
            yield ReplyWithdrawn(reply)

    def _on_tool(self, event: Fields) -> Iterator[Event]:
        call, tool = name(event, "invocationId"), name(event, "toolName")
        if not call or not tool or call in self._calls or len(self._calls) >= MAX_OPEN_CALLS:
            return
        self._calls[call] = not self._unwanted
        if self._unwanted:
            self._answer(ToolResult(call, "the user does not want it any more", failed=True))
            return
        yield ToolCall(call, tool, cut(json.dumps(part(event, "parameters"))))

    EVENTS: ClassVar[Mapping[str, Callable[[UltravoxSession, Fields], Iterable[Event]]]] = {
        "call_started": _on_call_started,
        "state": _on_state,
        "transcript": _on_transcript,
        "client_tool_invocation": _on_tool,
        "playback_clear_buffer": _on_clear,
    }
    """The type of a message -> its handler; other types are ignored."""
