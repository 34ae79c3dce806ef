"""The rehearsal: simulator and agent in one process, shown on the terminal.

``rehearse`` plays a recorded question to the agent and measures the answer; ``converse`` lets a person talk through
the sound card. The simulator answers with the question itself, so an ear can judge the whole way of the sound.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import wave
from contextlib import closing
from dataclasses import replace
from importlib.resources import as_file
from pathlib import Path
from typing import TextIO

from ..app.agent import Agent
from ..app.assembly import Ports, build_device
from ..app.factories import WAV, open_microphone, open_speaker, sound_rate
from ..config.model import ButtonConfig, Config, CuesConfig, MicrophoneConfig, ServiceConfig, SpeakerConfig
from ..core.events import LinkDown, Refused, ReplyText, ServiceError, UserText
from ..core.printable import printable
from ..core.redaction import Secret
from ..core.transition import Observer, Transition
from ..dsp.correlation import likeness
from ..dsp.pcm import level, seconds
from ..runtime.signals import stopped_by_signals
from ..simulator import QUESTION, Simulator
from ..telemetry.turn_timing import TurnTimer, TurnTimes

SIMULATOR_KEY = Secret("any-key-will-do")
EX_STOPPED = 130
PLAYER = "aplay"
CARDS = Path("/dev/snd")


def rehearse(save: Path) -> int:
    """Ask the recorded question, write what a listener would have heard to *save*, and show the times; return the exit
    status."""
    screen, stopwatch, end = DemoOutput(sys.stdout), TurnTimer(), _DemoEnd()
    with as_file(QUESTION) as question:
        config = Config(
            microphone=MicrophoneConfig(device=f"{WAV}{question}"),
            speaker=SpeakerConfig(device=f"{WAV}{save}", volume=100),
            cues=CuesConfig(volume=0),  # what is measured is the reply alone
        )
        status = _talk(config, screen, end, stopwatch)
        if end.by:
            screen.line("Stopped: the demo was not finished, and nothing was measured.")
            return EX_STOPPED
        if status == 0 and stopwatch.turn is not None:
            _report(screen, stopwatch.turn, question, save)
            _offer(screen, save)
    return status


def converse(config: Config) -> int:
    """Let a person talk to the simulator through the sound card that *config* names, until Ctrl-C; return the exit
    status. Raises DeviceFailed where there is no card."""
    rate = sound_rate(config)
    for port in (open_microphone(config.microphone, rate), open_speaker(config.speaker.device, rate)):
        with closing(port):
            port.open()  # nobody is asked to speak where nothing hears it
    screen, end = DemoOutput(sys.stdout), _DemoEnd()
    screen.line("Say something: you will hear yourself. Ctrl-C ends.")
    status = _talk(config, screen, end)
    if end.by:
        screen.line("Stopped.")
    return status


class _DemoEnd:
    """Which signal ended it, if any."""

    by = ""


def _talk(config: Config, screen: DemoOutput, end: _DemoEnd, *watch: Observer) -> int:
    """Run an agent that opens on speech against a simulator of its own."""
    with Simulator(key=SIMULATOR_KEY.reveal()) as simulator:
        config = replace(
            config,
            service=replace(ServiceConfig(), url=simulator.url),
            talk=replace(config.talk, start="voice"),
            button=ButtonConfig(pin=None),
        )
        agent = Agent(build_device(config, Ports(light=screen), key=SIMULATOR_KEY), observers=(screen, *watch))

        def stop(by: str) -> None:
            end.by = by
            agent.stop(by)

        with stopped_by_signals(stop):
            return agent.run()


def _offer(screen: DemoOutput, save: Path) -> None:
    """Say how to hear the recording; on a terminal of a machine with a sound card, offer to play it."""
    screen.line("")
    can = shutil.which(PLAYER) and any(CARDS.glob("pcm*p"))
    if not (can and sys.stdin.isatty() and sys.stdout.isatty()):
        screen.line(f"To hear the answer: {PLAYER} {save}")
        return
    try:
        answer = input(f"Play the answer now ({PLAYER} {save})? [y/N] ")
    except EOFError:
        return
    if answer.strip().lower() in {"y", "yes"}:
        subprocess.run([PLAYER, "--quiet", str(save)], check=False)  # noqa: S603


def _report(screen: DemoOutput, turn: TurnTimes, question: Path, save: Path) -> None:
    asked, rate = _read(question)
    heard, _ = _read(save)
    fit, at = likeness(_loud(asked, rate), heard)
    screen.line("")
    reply = _loud(heard, rate)
    screen.line(f"What a listener heard is in {save}, {seconds(heard, rate):.1f} s long.")
    screen.line(
        f"The reply in it lasts {seconds(reply, rate):.1f} s at {level(reply):.0f} dBFS. It repeats the question"
    )
    screen.line(f"from {at / rate:.2f} s on, with a likeness of {fit:.3f}; 1 means the same sound.")
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


class DemoOutput:
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

    def __call__(self, step: Transition) -> None:
        now = step.now
        match step.event:
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
