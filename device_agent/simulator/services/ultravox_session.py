"""One call at the simulated Ultravox: PCM in binary frames both ways, everything else as JSON. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ...dsp.pcm import seconds
from ..contract import Behaviour, ConnectionLog, Message, Received
from ..engine.answers import MAX_QUOTE, Thought, sung, think
from ..engine.items import Item
from ..engine.parsing import MAX_TEXT, Refusal, parse
from ..engine.reply_audio import streamed, typed
from ..engine.schedule import Step
from ..engine.server_vad import SpeechStarted, SpeechStopped
from ..engine.speech_session import Progress, SpeechSession
from .ultravox_calls import Call, seconds_of

THRESHOLD_DB = -45.0
MAX_CALL_S = 3600.0
AHEAD_S = 0.5
"""How far ahead of real time sound may come; more is dropped. The live service's bound is not documented."""
ANSWER = "answer"
"""Owner of the step that begins an answer."""


@dataclass(kw_only=True)
class Utterance(Progress):
    """What the agent is saying. *ordinal* numbers what is said in a call, by either side."""

    ordinal: int
    concluded: bool = False  # all of it was sent, but not yet played


@dataclass
class Invocation:
    """A tool that the client runs; until it answers, the conversation stands still."""

    id: str
    name: str
    parameters: Mapping[str, Any]
    again: bool  # whether it is called once more, because it did not answer in time


class UltravoxSession(SpeechSession):
    """The service's end of one call."""

    def __init__(self, behaviour: Behaviour, log: ConnectionLog, rng: random.Random, call: Call) -> None:
        super().__init__(behaviour, log, rng, call.input_rate)
        self._call = call
        self._state = ""
        self._ordinal = 0
        self._aloud = call.settings.get("initialOutputMedium") != "MESSAGE_MEDIUM_TEXT"
        self._vad.listening = True
        self._vad.threshold_db = THRESHOLD_DB
        vad = call.settings.get("vadSettings") or {}
        self._vad.silence_ms = round(1000 * seconds_of(vad.get("turnEndpointDelay", "0.384s")))
        self._ahead_s = 0.0  # how far the sound that came is ahead of real time
        self._sound_at = 0.0  # when sound came last
        self._utterance: Utterance | None = None
        self._answering = False  # the agent is about to speak or to call a tool
        self._invocation: Invocation | None = None

    # The contract -----------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        call = self._call
        self._now = self._sound_at = now
        self._after(self.behaviour.session_s or MAX_CALL_S, lambda: self._close(1000, "timeout"))
        self._after(call.idle_s, self._end_if_idle)
        self.log.settings = dict(call.settings)
        self._report("connected", f"joined, model {self.log.model}")
        self._send("call_started", callId=call.id)
        self._set_state("idle")
        buffer = f"{1000 * call.ahead_s:g} ms ahead"
        self._report(
            "configured",
            f"configured: {call.input_rate} Hz in, {call.output_rate} Hz out, {buffer}, {len(call.client_tools)} tools",
        )
        self._set_state("listening")
        if "user" not in call.settings.get("firstSpeakerSettings", {}):
            self._answer_with(lambda: self._sing("", "Hello, I am a simulator."))
        self._set_deadline()

    def receive(self, message: Message, now: float) -> None:
        self._now = now
        if self._closed:
            return
        try:
            if isinstance(message, bytes):
                self._take_sound(message)
            else:
                self._handle(parse(message))
        except Refusal as refusal:  # there are no errors on this socket
            self._report("trouble", str(refusal))
        self._set_deadline()

    def _end_if_idle(self) -> None:
        left_s = self._sound_at + self._call.idle_s - self._now
        if left_s > 0:
            self._after(left_s, self._end_if_idle)
        else:
            self._report("trouble", f"no sound for {self._call.idle_s:g} s: the call is over")
            self._close(1000, "connection_error")

    # What goes out ----------------------------------------------------------------------------------------------------

    def _send(self, kind: str, **fields: Any) -> None:
        self._outgoing.append(json.dumps({"type": kind, **fields}, allow_nan=False))

    def _set_state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._send("state", state=state)

    def _transcribe(self, role: str, ordinal: int, *, final: bool, medium: str = "", **words: str) -> None:
        medium = medium or ("voice" if self._aloud else "text")
        self._send("transcript", role=role, medium=medium, **words, final=final, ordinal=ordinal)

    def _next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal - 1

    # What the user says -----------------------------------------------------------------------------------------------

    def _take_sound(self, sound: bytes) -> None:
        self.log.add_message(Received(self._now, {"type": "binary frame"}, sound))
        pcm = self._within_pace(sound[: len(sound) & ~1])
        self._sound_at = self._now
        self._append_sound(pcm)

    def _within_pace(self, pcm: bytes) -> bytes:
        """Return *pcm* without what comes too fast."""
        rate = self._call.input_rate
        self._ahead_s = max(0.0, self._ahead_s - (self._now - self._sound_at))
        room = 2 * max(0, round((AHEAD_S - self._ahead_s) * rate))
        kept, dropped_s = pcm[:room], seconds(pcm[room:], rate)
        self._ahead_s += seconds(kept, rate)
        if dropped_s and not self.log.dropped_s:
            self._report("trouble", "overflow: sound comes faster than real time, and is dropped")
        self.log.dropped_s += dropped_s
        return kept

    def _speech_started(self, detected: SpeechStarted) -> None:
        self._interrupt()
        if self._answering:  # the user was not finished, and will be answered later
            self._cancel_answer()
            self._set_state("listening")

    def _speech_stopped(self, detected: SpeechStopped) -> None:
        text = self._measure(detected.pcm)
        self._log_speech(detected.pcm, text)
        if self._utterance or self._invocation:
            return  # what is said may not be interrupted, or a tool runs
        self._set_state("thinking")
        self._transcribe("user", self._next_ordinal(), final=True, medium="voice", text=text)
        self._answer(Item("", "message", "user", text, detected.pcm, self._vad.rate))

    # What the client writes -------------------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any]) -> None:
        self.log.add_message(Received(self._now, event))
        kind = event.get("type")
        if not isinstance(kind, str) or kind not in self.HANDLERS:
            raise Refusal(f"unknown message type: {str(kind)[:60]}")
        getattr(self, self.HANDLERS[kind])(event)

    def _text_message(self, event: dict[str, Any]) -> None:
        text = _text(event, "text")
        if event.get("urgency") == "immediate":
            self._stop()
        elif self._utterance or self._invocation or self._answering:
            raise Refusal("the agent is busy, and the text is not urgent: here it would never be answered")
        if not text:
            self._set_state("listening")  # seen in the field: an empty text makes the agent stop
            return
        self._log_text(text)
        self._set_state("thinking")
        self._transcribe("user", self._next_ordinal(), final=True, medium="text", text=text)
        self._answer(Item("", "message", "user", text[:MAX_TEXT]))

    def _tool_result(self, event: dict[str, Any]) -> None:
        invocation = self._invocation
        if invocation is None or event.get("invocationId") != invocation.id:
            raise Refusal("the result belongs to no call of a tool that waits")
        failed = "errorType" in event
        result = _text(event, "errorMessage" if failed else "result")[:MAX_TEXT]
        self._take_invocation()
        self._report("turn", f"told by {invocation.name}: {'failed, ' if failed else ''}{result[:200]}")
        if event.get("agentReaction") == "listens":
            self._set_state("listening")
        else:
            source = "The tool failed" if failed else "The tool said"
            self._answer_with(lambda: self._sing(result, f"{source}: {result[:MAX_QUOTE]}"))

    def _hang_up(self, event: dict[str, Any]) -> None:
        self._stop()
        self._close(1000, "hangup")

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "user_text_message": "_text_message",
        "client_tool_result": "_tool_result",
        "hang_up": "_hang_up",
    }
    """The type of a message -> the method that handles it."""

    # What the agent says ----------------------------------------------------------------------------------------------

    def _answer(self, asked: Item) -> None:
        tools = tuple(self._call.client_tools)
        thought = think(asked, tools, self.behaviour, self._call.output_rate, aloud=self._aloud)
        if self.behaviour.silent:
            return
        if thought.calls and (parameters := _object(thought.calls[1])) is not None:
            self._answer_with(partial(self._invoke, thought.calls[0], parameters))
        else:
            self._answer_with(lambda: self._speak(thought))

    def _answer_with(self, step: Step) -> None:
        """Do *step* after some thinking."""
        self._set_state("thinking")
        self._answering = True

        def begin() -> None:
            self._answering = False
            step()

        self._after(self.behaviour.think_s, begin, ANSWER)

    def _cancel_answer(self) -> None:
        self._answering = False
        self._schedule.cancel(ANSWER)

    def _invoke(self, name: str, parameters: Mapping[str, Any], *, again: bool = False) -> None:
        invocation = Invocation(f"{self._rng.getrandbits(64):016x}", name, parameters, again)
        self._invocation = invocation
        self._after(self._call.client_tools[name], self._give_up, invocation)
        self._report_call(name, json.dumps(parameters))
        self._send("client_tool_invocation", toolName=name, invocationId=invocation.id, parameters=parameters)

    def _take_invocation(self) -> None:
        if self._invocation:
            self._schedule.cancel(self._invocation)
            self._invocation = None

    def _give_up(self) -> None:
        """The client was too slow: call the tool once more, and ignore the result of the first call."""
        assert self._invocation is not None, "a tool must have been called"  # noqa: S101
        late, self._invocation = self._invocation, None
        text = f"{late.name} did not answer in time."
        self._report("trouble", text)
        if late.again:
            self._sing(text, text)
        else:
            self._invoke(late.name, late.parameters, again=True)

    def _sing(self, tune: str, text: str) -> None:
        self._speak(sung(tune, self._call.output_rate, text, aloud=self._aloud))

    def _speak(self, thought: Thought) -> None:
        """Begin to say something. It lasts until the client has played it, which is longer than it takes to send it."""
        rate, pace = self._call.output_rate, self.behaviour.pace
        pieces = (
            streamed(thought.pcm, thought.text, rate, pace, self._call.ahead_s, self._rng)
            if self._aloud
            else typed(thought.text, pace, self._rng)
        )
        utterance = Utterance(ordinal=self._next_ordinal(), total=len(thought.pcm))
        self._utterance = utterance
        for piece in pieces:
            step = partial(self._send_sound, piece.pcm) if piece.pcm else partial(self._send_words, piece.words)
            self._after(piece.at, step, utterance)
        sent_s = pieces[-1].at if pieces else 0.0
        self._after(sent_s, self._conclude, utterance)
        self._after(max(seconds(thought.pcm, rate), sent_s), self._end_utterance, utterance)
        self._set_state("speaking")

    def _running(self) -> Utterance:
        assert self._utterance is not None, "a step outlived its utterance"  # noqa: S101
        return self._utterance

    def _send_sound(self, pcm: bytes) -> None:
        self._outgoing.append(pcm)
        self._count_sound(self._running(), pcm)

    def _send_words(self, words: str) -> None:
        utterance = self._running()
        utterance.said += words
        self._transcribe("agent", utterance.ordinal, final=False, delta=words)

    def _conclude(self) -> None:
        """All of it was sent."""
        utterance = self._running()
        utterance.concluded = True
        self._transcribe("agent", utterance.ordinal, final=True, text=utterance.said)

    def _end_utterance(self, how: str = "completed") -> None:
        """All of it was played, if the client plays without a pause; or it was cut short."""
        utterance, self._utterance = self._running(), None
        self._schedule.cancel(utterance)
        sent = utterance.sent / (2 * self._call.output_rate)
        self._log_reply(f"{sent:.2f} s, {how}", utterance.said)
        if how == "cancelled":
            self._send("playback_clear_buffer")  # also what was sent is not to be played any more
            if not utterance.concluded:
                self._transcribe("agent", utterance.ordinal, final=True, text=utterance.said)
        self._set_state("listening")

    def _interrupt(self) -> None:
        if self._utterance:
            self._end_utterance("cancelled")

    def _stop(self) -> None:
        """Whatever the agent does or was about to do, it does not."""
        self._interrupt()
        self._cancel_answer()
        self._take_invocation()


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str):
        raise Refusal(f"{name} must be a string")
    return value


def _object(arguments: str) -> dict[str, Any] | None:
    """Return the object in a function's arguments: here they travel as such."""
    try:
        return parse(arguments)
    except Refusal:
        return None
