"""``device-agent ask``: sends one question, as text or as a recording, and prints and plays the answer."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from ..app.agent import Agent
from ..app.assembly import Ports, build_device
from ..app.factories import WAV, open_services
from ..config.model import ButtonConfig, Config, ControlsConfig, CuesConfig, SpeakerConfig
from ..core.events import (
    AudioTurn,
    DeadlinePassed,
    LinkDown,
    Refused,
    ReplyEnded,
    ReplyText,
    ServiceError,
    Started,
    TextTurn,
)
from ..core.printable import printable
from ..core.transition import Transition
from ..dsp.resampling import resample
from ..hardware.channels import Channels
from ..hardware.null_speaker import SilentSpeaker
from ..hardware.wav import read_wav
from ..runtime.signals import stopped_by_signals


def ask(config: Config, text: str, audio: Path | None, *, save: Path | None, text_only: bool) -> int:
    """Ask *text*, or the recording *audio*, and print the answer as it comes.

    Returns 0 for an answer, else 1 after a line that says why. For the main thread. Raises ConfigError, DeviceFailed.
    """
    rate = open_services(config)[0].rate
    turn = TextTurn(text) if audio is None else AudioTurn(_clip(audio, rate))
    if save is not None:
        config = replace(config, speaker=SpeakerConfig(device=f"{WAV}{save}", volume=100))
    microphone, answer = NoMicrophone(), Answer(sys.stdout)
    # A single question has no use for pins, cues, and tools whose effect outlives it.
    config = replace(
        config, button=ButtonConfig(pin=None), controls=ControlsConfig(), cues=CuesConfig(volume=0), abilities=()
    )
    ports = Ports(microphone=microphone, speaker=SilentSpeaker() if text_only else None, light=answer)
    agent = Agent(
        build_device(config, ports, text_only=text_only),
        observers=(answer, lambda step: _begin(step, agent, turn, microphone)),
    )
    with stopped_by_signals(agent.stop):
        status = agent.run()
    return answer.end() or status


def _begin(step: Transition, agent: Agent, turn: TextTurn | AudioTurn, microphone: NoMicrophone) -> None:
    if isinstance(step.event, Started):
        agent.tell(turn)
        microphone.finish()


def _clip(path: Path, rate: int) -> bytes:
    pcm, channels, hertz = read_wav(str(path))
    return resample(Channels(channels, hertz, name=str(path)).whole(pcm), hertz, rate)


class NoMicrophone:
    """Microphone without sound, which ends by ``finish``."""

    overflows = 0

    def __init__(self) -> None:
        self._over = threading.Event()

    def finish(self) -> None:
        """End the sound."""
        self._over.set()

    def open(self) -> None: ...

    def read(self) -> bytes:
        self._over.wait(1.0)
        return b""

    def close(self) -> None: ...


class Answer:
    """Observer that prints the answer as it comes; also the light, which stays dark."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._said = self._whole = False
        self._reply = ""
        self._trouble = "no answer came"

    def __call__(self, step: Transition) -> None:
        match step.event:
            case ReplyText(reply, text):
                apart = "\n" if self._said and reply != self._reply else ""
                print(apart + printable(text, keep="\n\t"), end="", file=self._out, flush=True)
                self._said, self._reply = True, reply
            case ReplyEnded(_, "", False, silent):
                self._whole = self._said or not silent
                self._trouble = "the answer is empty"
            case ReplyEnded(_, problem, False):
                self._trouble = f"the answer is incomplete: {problem}"
            case LinkDown(reason) | Refused(reason) | ServiceError(reason):
                self._trouble = reason
            case DeadlinePassed():
                self._trouble = f"{self._trouble}; it took too long"

    def end(self) -> int:
        """End the line; return 0 for an answer, else 1 after a line that says why."""
        if self._said:
            print(file=self._out)
        if not self._whole:
            print(printable(self._trouble, keep="\n"), file=sys.stderr)
        return 0 if self._whole else 1

    def show(self, mood: str) -> None: ...
    def close(self) -> None: ...
