"""The rehearsal: simulator and agent in one process, shown on the terminal.

``rehearse`` plays a recorded question to the agent and measures the answer; ``converse`` lets a person talk through
the sound card. The simulator answers with the question itself, so an ear can judge the whole way of the sound.
"""

from __future__ import annotations

import sys
import time
import wave
from dataclasses import replace
from importlib.resources import as_file
from pathlib import Path
from typing import TextIO

from .agent import Watch
from .assembly import WAV, assemble
from .audio import level, likeness, seconds
from .config import ButtonConfig, Config, CuesConfig, MicrophoneConfig, ServiceConfig, SpeakerConfig
from .credentials import Secret
from .events import Action, Event, LinkDown, Refused, ReplyText, ServiceError, UserText
from .printable import printable
from .signals import stopped_by_signals
from .simulator import QUESTION, Simulator
from .times import Stopwatch, TurnTimes

KEY = Secret("any-key-will-do")


def rehearse(save: Path) -> int:
    """Ask the recorded question, write what a listener would have heard to *save*, and show the times."""
    screen, stopwatch = Screen(sys.stdout), Stopwatch()
    with as_file(QUESTION) as question:
        config = Config(
            microphone=MicrophoneConfig(device=f"{WAV}{question}"),
            speaker=SpeakerConfig(device=f"{WAV}{save}", volume=100),
            cues=CuesConfig(volume=0),  # what is measured is the reply alone
        )
        status = _talk(config, screen, stopwatch)
        if status == 0 and stopwatch.turn is not None:
            _report(screen, stopwatch.turn, question, save)
    return status


def converse(config: Config) -> int:
    """Let a person talk to the simulator through the sound card that *config* names, until Ctrl-C."""
    screen = Screen(sys.stdout)
    screen.line("Say something: you will hear yourself. Ctrl-C ends.")
    return _talk(config, screen)


def _talk(config: Config, screen: Screen, *watch: Watch) -> int:
    """Run an agent that opens on speech against a simulator of its own."""
    with Simulator(key=KEY.reveal()) as simulator:
        config = replace(
            config,
            service=replace(ServiceConfig(), url=simulator.url),
            talk=replace(config.talk, start="voice"),
            button=ButtonConfig(pin=None),
        )
        agent = assemble(config, key=KEY, watch=(screen, *watch), light=screen)
        with stopped_by_signals(agent.stop):
            return agent.run()


def _report(screen: Screen, turn: TurnTimes, question: Path, save: Path) -> None:
    asked, rate = _read(question)
    heard, _ = _read(save)
    fit, at = likeness(_loud(asked, rate), heard)
    screen.line("")
    reply = _loud(heard, rate)
    screen.line(f"What a listener heard is in {save}, {seconds(heard, rate):.1f} s long.")
    screen.line(f"The reply in it lasts {seconds(reply, rate):.1f} s at {level(reply):.0f} dBFS and begins with")
    screen.line(f"the question at {at / rate:.2f} s: likeness {fit:.3f}, where 1 is the same sound.")
    screen.line("")
    for name, length in turn.steps():
        screen.line(f"  {name:48} {1000 * length:7.1f} ms")


def _read(path: Path) -> tuple[bytes, int]:
    with wave.open(str(path)) as wav:
        return wav.readframes(wav.getnframes()), wav.getframerate()


def _loud(pcm: bytes, rate: int) -> bytes:
    """Return *pcm* from its first loud frame to its last: the speech in it."""
    step = rate // 25  # 20 ms
    loud = [n for n in range(0, len(pcm) - step, step) if level(pcm[n : n + step]) > -45]
    return pcm[loud[0] : loud[-1] + step] if loud else b""


class Screen:
    """Watches an agent and shows a person what happens: a line for each change, and words as they come.

    It is the agent's light as well. Belongs to the main thread.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = time.monotonic()
        self._reply = ""  # the reply whose words are on the line that is still open

    def line(self, text: str) -> None:
        """Print a whole line."""
        self.close()
        print(text, file=self._out, flush=True)

    def show(self, mood: str) -> None:
        """Be the light."""
        self._stamped(time.monotonic(), mood)

    def __call__(self, word: Event | Action, now: float) -> None:
        match word:
            case UserText(_, text, True):
                self._stamped(now, f"{'':10} you:       {text}")
            case ReplyText(reply, text):
                self._words(reply, text, now)
            case LinkDown(reason, retry_in):
                self._stamped(now, f"{reason}; next try in {retry_in:.1f} s")
            case Refused(reason):
                self._stamped(now, reason)
            case ServiceError(message):
                self._stamped(now, f"the service complains: {message}")

    def _stamped(self, now: float, text: str) -> None:
        self.line(f"{now - self._began:6.2f} s  {printable(text)}")

    def _words(self, reply: str, text: str, now: float) -> None:
        if reply != self._reply:
            self.close()
            self._reply = reply
            print(f"{now - self._began:6.2f} s  {'':10} assistant: ", end="", file=self._out)
        print(printable(text), end="", file=self._out, flush=True)

    def close(self) -> None:
        """End the line that is open."""
        if self._reply:
            print(file=self._out)
        self._reply = ""
