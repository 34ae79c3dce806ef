"""One call at the simulated Ultravox: PCM in binary frames both ways, everything else as JSON. Pure."""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ...dsp.pcm import level, seconds
from ..contract import Behaviour, ConnectionLog, Goodbye, Happening, Message, Moment, Received, ServiceSession, Turn
from ..engine.answers import MAX_QUOTE, Thought, measured, sung, think
from ..engine.items import Item
from ..engine.parsing import MAX_TEXT, Refusal, parse
from ..engine.rate_limiter import RateLimiter, verdict
from ..engine.reply_audio import streamed, typed
from ..engine.server_vad import ServerVad, SpeechStarted, SpeechStopped
from .ultravox_calls import Call, seconds_of

QUIETEST_DB = -47.0
"""What is heard as speech at the lowest frameActivationThreshold; at 1 it must be 20 dB louder."""


@dataclass
class Utterance:
    """What the agent is saying. *ordinal* numbers what is said in a call, by whomever."""

    ordinal: int
    plan: deque[tuple[float, Callable[[], None]]]
    total: int  # bytes of sound
    aloud: bool
    sent: int = 0
    said: str = ""


@dataclass
class Invocation:
    """A tool that the client runs; until it answers, the conversation stands still."""

    id: str
    name: str
    parameters: Mapping[str, Any]
    until: float
    again: bool = False
    """Whether it is asked for once more, because it did not answer in time."""


class UltravoxSession(ServiceSession):
    """The service's end of one call."""

    def __init__(self, manners: Behaviour, heard: ConnectionLog, chance: random.Random, call: Call) -> None:
        super().__init__(manners, heard)
        self._chance, self._call = chance, call
        self._now = 0.0
        self._over = False
        self._state = ""
        self._ordinal = 0
        self._aloud = call.settings.get("initialOutputMedium") != "MESSAGE_MEDIUM_TEXT"
        self._ear = ServerVad(call.input_rate)
        self._ear.listening = True
        vad = call.settings.get("vadSettings") or {}
        self._ear.silence_ms = round(1000 * seconds_of(vad.get("turnEndpointDelay", "0.384s")))
        self._ear.threshold_db = QUIETEST_DB + 20.0 * vad.get("frameActivationThreshold", 0.1)
        self._turn_begun = self._turn_long = False
        self._pace = RateLimiter(call.input_rate, 0.0)
        self._pace_wrong = ""
        self._sound_at = math.inf  # when sound came last
        self._speech: Utterance | None = None
        self._starts_at = math.inf  # when the agent begins to speak
        self._next: Callable[[], None] | None = None  # what it does then
        self._invocation: Invocation | None = None
        self._over_at = math.inf

    # The contract -----------------------------------------------------------------------------------------------------

    def greet(self, now: float) -> None:
        call = self._call
        self._now = self._sound_at = now
        self._pace = RateLimiter(call.input_rate, now)
        self._over_at = now + (self.manners.session_s or call.lasts("maxDuration", "3600s"))
        self.heard.settings = dict(call.settings)
        self._tell("connected", f"joined, model {self.heard.model}")
        self._say("call_started", "callStarted", callId=call.id)
        self._be("idle")
        buffer = f"{1000 * call.ahead_s:g} ms ahead"
        self._tell(
            "configured",
            f"configured: {call.input_rate} Hz in, {call.output_rate} Hz out, {buffer}, {len(call.client_tools)} tools",
        )
        self._open()
        self._set_deadline()

    def _open(self) -> None:
        """Somebody speaks first: by default it is the agent."""
        first = self._call.settings.get("firstSpeakerSettings") or {"agent": {}}
        self._be("listening")
        if "agent" in first:
            agent = first["agent"]
            text = agent.get("text") or "Hello, I am a simulator."
            self._soon(lambda: self._sing(text, text))

    def receive(self, message: Message, now: float) -> None:
        self._now = now
        if self._over:
            return
        if isinstance(message, bytes):
            self._hear(message)
        else:
            try:
                self._read(message)
            except Refusal as refusal:
                self._complain(str(refusal))
        self._set_deadline()

    def tick(self, now: float) -> None:
        self._now = now
        while not self._over and (due := self._due()) and due[0] <= now:
            due[1]()
        self._set_deadline()

    def hung_up(self, now: float) -> None:
        said_goodbye = self.heard.ended.startswith("client said 10")
        self._call.end(now, "hangup" if said_goodbye else "connection_error")

    def _set_deadline(self) -> None:
        due = None if self._over else self._due()
        self.deadline = due[0] if due else None

    def _due(self) -> tuple[float, Callable[[], None]] | None:
        """What is to be done next, and when."""
        all_due = [
            (self._over_at, self._expire),
            (self._pace.judge_at, self._judge_pace),
            (self._sound_at + self._call.idle_s, self._starve),
            (self._starts_at, self._start),
        ]
        if self._speech and self._speech.plan:
            all_due.append((self._speech.plan[0][0], self._go_on))
        if self._invocation:
            all_due.append((self._invocation.until, self._give_up))
        due = min(all_due, key=lambda each: each[0])
        return None if due[0] == math.inf else due

    def _go_on(self) -> None:
        assert self._speech is not None, "a plan outlived what was said"  # noqa: S101
        _, step = self._speech.plan.popleft()
        step()

    # What goes out ----------------------------------------------------------------------------------------------------

    def _say(self, kind: str, wish: str, **fields: Any) -> None:
        """A message, if the client wants that kind."""
        if self._call.wants(wish):
            self._outgoing.append(json.dumps({"type": kind, **fields}, allow_nan=False))

    def _tell(self, moment: Moment, text: str = "") -> None:
        self._outgoing.append(Happening(moment, text))

    def _complain(self, text: str) -> None:
        """There are no errors on this socket; who asks for debug messages is told."""
        self._say("debug", "debug", message=text)
        self._tell("trouble", text)

    def _be(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._say("state", "state", state=state)

    def _transcribe(self, role: str, ordinal: int, *, final: bool, medium: str = "", **words: str) -> None:
        medium = medium or ("voice" if self._aloud else "text")
        self._say("transcript", "transcript", role=role, medium=medium, **words, final=final, ordinal=ordinal)

    def _count(self) -> int:
        self._ordinal += 1
        return self._ordinal - 1

    def _hang_up(self, reason: str) -> None:
        self._call.end(self._now, reason)
        self._over = True
        self._outgoing.append(Goodbye(1000, reason))

    # Limits -----------------------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        self._hang_up("timeout")

    def _starve(self) -> None:
        self._complain(f"no sound for {self._call.idle_s:g} s: the call is over")
        self._hang_up("connection_error")

    def _judge_pace(self) -> None:
        pace = self._pace.judge(self._now)
        if pace is None:
            return
        self.heard.note_pace(pace)
        self.heard.dropped_s = self._pace.dropped_s
        wrong = verdict(pace)
        if wrong and wrong != self._pace_wrong:
            dropped = f"; {self._pace.dropped_s:.2f} s were dropped so far" if self._pace.dropped_s else ""
            self._complain(f"{wrong}: sound comes at {100 * pace:.0f} % of real time{dropped}")
        self._pace_wrong = wrong

    # What the user says -----------------------------------------------------------------------------------------------

    def _hear(self, sound: bytes) -> None:
        self._sound_at = self._now
        self.heard.note(Received(self._now, {"type": "binary frame"}, sound, len(sound)))
        if len(sound) % 2:
            self._complain("a binary frame with half a sample at its end")
            sound = sound[:-1]
        pcm = self._pace.take(sound, self._now)
        self.heard.dropped_s = self._pace.dropped_s
        for noticed in self._ear.hear(pcm):
            if isinstance(noticed, SpeechStarted):
                self._speech_started()
            else:
                self._speech_stopped(noticed)
        self._watch_turn()

    def _watch_turn(self) -> None:
        """Tell how far the turn has come that is being spoken."""
        if not self._ear.speaking:
            return
        if not self._turn_begun:
            self._turn_begun = True
            self._tell("turn-begins")
        if not self._turn_long and self._ear.seconds >= 1.0:
            self._turn_long = True
            self._tell("turn-1s")

    def _speech_started(self) -> None:
        self._turn_begun = self._turn_long = False
        self._say("user_started_speaking", "userStartedSpeaking")
        if self._speech:
            self._interrupt()
        if self._starts_at < math.inf and self._invocation is None:
            self._starts_at, self._next = math.inf, None  # the user was not finished, and will be answered later
            self._be("listening")

    def _speech_stopped(self, noticed: SpeechStopped) -> None:
        self._say("user_stopped_speaking", "userStoppedSpeaking")
        text = measured(noticed.pcm, self._ear.rate, self._ear.threshold_db)
        turn = Turn(self._now, self._ear.rate, noticed.pcm)
        self.heard.note_turn(turn)
        self._tell("turn", f"heard a turn of {turn.seconds:.2f} s at {level(noticed.pcm):.0f} dBFS {text}")
        if self._speech or self._invocation:
            return  # nobody listens: what is said may not be interrupted, or a tool runs
        self._be("thinking")
        self._transcribe("user", self._count(), final=True, medium="voice", text=text)
        self._answer(Item("", "message", "user", text, noticed.pcm, self._ear.rate))

    # What the client writes -------------------------------------------------------------------------------------------

    def _read(self, message: str) -> None:
        event = parse(message)
        self.heard.note(Received(self._now, event, size=len(message)))
        kind = event.get("type")
        handler = self._HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise Refusal(f"unknown message type: {str(kind)[:60]}")
        getattr(self, handler)(event)

    def _text_message(self, event: dict[str, Any]) -> None:
        text = _text(event, "text")
        if event.get("urgency") == "immediate":
            self._stop()
        elif self._busy:
            raise Refusal("the agent is busy, and the text is not urgent: here it would never be answered")
        self._take_text(text)

    @property
    def _busy(self) -> bool:
        return bool(self._speech or self._invocation or self._starts_at < math.inf)

    def _take_text(self, text: str) -> None:
        """An empty text asks for nothing: it only stops the agent, where it is urgent."""
        if not text:
            self._be("listening")
            return
        self.heard.note_turn(Turn(self._now, self._ear.rate, text=text))
        self._tell("turn", f"read: {text[:200]}")
        self._be("thinking")
        self._transcribe("user", self._count(), final=True, medium="text", text=text)
        self._answer(Item("", "message", "user", text[:MAX_TEXT]))

    def _tool_result(self, event: dict[str, Any]) -> None:
        invocation = self._invocation
        if invocation is None or event.get("invocationId") != invocation.id:
            raise Refusal("nobody waits for the result of this tool")
        self._invocation = None
        failed = "errorType" in event
        result = _text(event, "errorMessage" if failed else "result", "")[:MAX_TEXT]
        self._tell("turn", f"told by {invocation.name}: {'failed, ' if failed else ''}{result[:200]}")
        if event.get("responseType") == "hang-up":
            self._hang_up("agent_hangup")
        elif event.get("agentReaction") == "listens":
            self._be("listening")
        else:
            who = "The tool failed" if failed else "The tool said"
            self._soon(lambda: self._sing(result, f"{who}: {result[:MAX_QUOTE]}"))

    def _client_hangs_up(self, event: dict[str, Any]) -> None:
        self._stop()
        self._hang_up("hangup")

    def _ping(self, event: dict[str, Any]) -> None:
        stamp = event.get("timestamp")
        if isinstance(stamp, bool) or not isinstance(stamp, (int, float)):
            raise Refusal("timestamp must be a number")
        self._say("pong", "pong", timestamp=stamp)

    _HANDLERS: ClassVar[Mapping[str, str]] = {
        "user_text_message": "_text_message",
        "client_tool_result": "_tool_result",
        "hang_up": "_client_hangs_up",
        "ping": "_ping",
    }
    """The type of a message -> the method that understands it."""

    # What the agent says ----------------------------------------------------------------------------------------------

    def _answer(self, asked: Item) -> None:
        thought = think(asked, tuple(self._call.client_tools), self.manners, self._call.output_rate, aloud=self._aloud)
        if self.manners.silent:
            return
        if thought.calls and (parameters := _object(thought.calls[1])) is not None:
            name = thought.calls[0]
            self._soon(lambda: self._invoke(name, parameters))
        else:
            self._soon(lambda: self._speak(thought))

    def _soon(self, step: Callable[[], None]) -> None:
        """Do *step* after some thinking."""
        self._be("thinking")
        self._starts_at, self._next = self._now + self.manners.think_s, step

    def _start(self) -> None:
        step, self._next, self._starts_at = self._next, None, math.inf
        if step:
            step()

    def _invoke(self, name: str, parameters: Mapping[str, Any], *, again: bool = False) -> None:
        until = self._now + self._call.client_tools[name]
        invocation = Invocation(f"{self._chance.getrandbits(64):016x}", name, parameters, until, again)
        self._invocation = invocation
        self._tell("replying", f"calls {name}({json.dumps(parameters)[:200]})")
        self._say(
            "client_tool_invocation",
            "clientToolInvocation",
            toolName=name,
            invocationId=invocation.id,
            parameters=parameters,
        )

    def _give_up(self) -> None:
        """The client was too slow: it is asked once more, and what it answers to the first question is thrown away."""
        assert self._invocation is not None, "a tool must have been called"  # noqa: S101
        late, self._invocation = self._invocation, None
        text = f"{late.name} did not answer in time."
        self._complain(text)
        if late.again:
            self._sing(text, text)
        else:
            self._invoke(late.name, late.parameters, again=True)

    def _sing(self, tune: str, text: str) -> None:
        self._speak(sung(tune, self._call.output_rate, text, aloud=self._aloud))

    def _speak(self, thought: Thought) -> None:
        """Begin to say something. It lasts until the client has played it, which is longer than it takes to send it."""
        rate, pace = self._call.output_rate, self.manners.pace
        pieces = (
            streamed(thought.pcm, thought.text, rate, pace, self._call.ahead_s, self._chance)
            if self._aloud
            else typed(thought.text, pace, self._chance)
        )
        speech = Utterance(self._count(), deque(), len(thought.pcm), self._aloud)
        for piece in pieces:
            step = partial(self._send, piece.pcm) if piece.pcm else partial(self._send_words, piece.words)
            speech.plan.append((self._now + piece.at, step))
        speech.plan.append((self._now + (pieces[-1].at if pieces else 0.0), self._conclude))
        played = max(self._now + seconds(thought.pcm, rate), speech.plan[-1][0])
        speech.plan.append((played, self._fall_silent))
        self._speech = speech
        self._be("speaking")

    def _running(self) -> Utterance:
        assert self._speech is not None, "a plan outlived what was said"  # noqa: S101
        return self._speech

    def _send(self, pcm: bytes) -> None:
        speech = self._running()
        third = speech.total // 3
        crossed = speech.sent <= third < speech.sent + len(pcm)
        speech.sent += len(pcm)
        self._outgoing.append(pcm)
        if crossed:
            self._tell("replying")

    def _send_words(self, words: str) -> None:
        speech = self._running()
        speech.said += words
        self._transcribe("agent", speech.ordinal, final=False, delta=words)

    def _conclude(self) -> None:
        """All of it was sent."""
        speech = self._running()
        self._transcribe("agent", speech.ordinal, final=True, text=speech.said)

    def _fall_silent(self) -> None:
        """All of it was played, if the client plays without a pause."""
        self._over_with("completed")
        self._be("listening")

    def _over_with(self, how: str) -> Utterance:
        speech = self._running()
        self._speech = None
        self.heard.replies += 1
        sent = speech.sent / (2 * self._call.output_rate)
        self._tell("replied", f"replied {sent:.2f} s, {how}: {speech.said[:200]}")
        return speech

    def _interrupt(self) -> None:
        """What the agent says is cut short: also what was sent is not to be played any more."""
        if self._speech is None:
            return
        concluded = len(self._speech.plan) <= 1
        speech = self._over_with("cancelled")
        self._say("playback_clear_buffer", "playbackClearBuffer")
        if not concluded:
            self._transcribe("agent", speech.ordinal, final=True, text=speech.said)
        self._be("listening")

    def _stop(self) -> None:
        """Whatever the agent does or was about to do, it does not."""
        self._interrupt()
        self._starts_at, self._next, self._invocation = math.inf, None, None


def _text(event: Mapping[str, Any], name: str, usual: str | None = None) -> str:
    value = event.get(name, usual)
    if not isinstance(value, str):
        raise Refusal(f"{name} must be a string")
    return value


def _object(arguments: str) -> dict[str, Any] | None:
    """Return the object in a function's arguments: here they travel as such."""
    try:
        return parse(arguments)
    except Refusal:
        return None
