"""Base of the sessions of all services: schedule, input buffer, and the log of turns and replies. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from ...dsp.pcm import level
from ..contract import Behaviour, ConnectionLog, ServiceSession, Turn
from .answers import measured
from .schedule import Schedule, Step
from .server_vad import ServerVad, SpeechStarted, SpeechStopped


@dataclass(kw_only=True)
class Progress:
    """How far a reply was sent: *total* and *sent* are bytes of sound, *said* is its text so far."""

    total: int
    sent: int = 0
    said: str = ""


class SpeechSession(ServiceSession):
    """A session that takes speech. *rate* is the sample rate of the input."""

    def __init__(self, behaviour: Behaviour, log: ConnectionLog, rng: random.Random, rate: int) -> None:
        super().__init__(behaviour, log)
        self._rng = rng
        self._schedule = Schedule()
        self._vad = ServerVad(rate)

    def tick(self, now: float) -> None:
        self._now = now
        while not self._closed and self._schedule.due is not None and self._schedule.due <= now:
            self._schedule.take()()
        self._set_deadline()

    def _set_deadline(self) -> None:
        self.deadline = None if self._closed else self._schedule.due

    def _after(self, delay_s: float, step: Step, owner: object = None) -> None:
        """Run *step* in *delay_s*, unless *owner* is cancelled before."""
        self._schedule.add(self._now + delay_s, step, owner)

    # Speech of the user -----------------------------------------------------------------------------------------------

    def _append_sound(self, pcm: bytes) -> None:
        """Put *pcm* into the input buffer."""
        for detected in self._vad.append(pcm):
            if isinstance(detected, SpeechStarted):
                self._speech_started(detected)
            else:
                self._speech_stopped(detected)
        for moment in self._vad.progress():
            self._report(moment)

    def _speech_started(self, detected: SpeechStarted) -> None:
        raise NotImplementedError

    def _speech_stopped(self, detected: SpeechStopped) -> None:
        raise NotImplementedError

    def _measure(self, pcm: bytes) -> str:
        """Return the transcript of *pcm*."""
        return measured(pcm, self._vad.rate, self._vad.threshold_db)

    def _log_speech(self, pcm: bytes, transcript: str) -> None:
        turn = Turn(self._now, self._vad.rate, pcm)
        self.log.add_turn(turn)
        self._report("turn", f"heard a turn of {turn.seconds:.2f} s at {level(pcm):.0f} dBFS {transcript}")

    def _log_text(self, text: str) -> None:
        self.log.add_turn(Turn(self._now, self._vad.rate, text=text))
        self._report("turn", f"read: {text[:200]}")

    # The reply --------------------------------------------------------------------------------------------------------

    def _count_sound(self, reply: Progress, pcm: bytes) -> None:
        """Count *pcm* as sent, and report when a third of the reply is."""
        third = reply.total // 3
        crossed = reply.sent <= third < reply.sent + len(pcm)
        reply.sent += len(pcm)
        if crossed:
            self._report("replying")

    def _log_reply(self, how: str, text: str) -> None:
        self.log.replies += 1
        self._report("replied", f"replied {how}: {text[:200]}")

    def _report_call(self, name: str, arguments: Any) -> None:
        self._report("replying", f"calls {name}({str(arguments)[:200]})")
