"""``device-agent demo``: an agent and a simulated service in one process, shown on the terminal.

``rehearse`` plays a recorded question to the agent and measures the answer; ``converse`` uses the sound card. The
simulator answers with the question itself, so that the whole path of the sound can be compared.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
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
from ..hardware.wav import read_wav
from ..runtime.signals import stopped_by_signals
from ..simulator import QUESTION, Simulator
from ..telemetry.turn_timing import TurnTimer, TurnTimes

SIMULATOR_KEY = Secret("any-key-will-do")
EX_STOPPED = 130
PLAYER = "aplay"
CARDS = Path("/dev/snd")


def rehearse(save: Path) -> int:
    """Ask the recorded question, record the answer into *save*, and show the times; return the exit status."""
    output, timer = DemoOutput(sys.stdout), TurnTimer()
    with as_file(QUESTION) as question:
        config = Config(
            microphone=MicrophoneConfig(device=f"{WAV}{question}"),
            speaker=SpeakerConfig(device=f"{WAV}{save}", volume=100),
            cues=CuesConfig(volume=0),  # only the reply is measured
        )
        status, stopped = _talk(config, output, timer)
        if stopped:
            output.line("Stopped: the demo was not finished, and nothing was measured.")
            return EX_STOPPED
        if status == 0 and timer.turn is not None:
            _report(output, timer.turn, question, save)
            offer_playback(output, save)
    return status


def converse(config: Config) -> int:
    """Let the user talk to the simulator through the sound card of *config*, until Ctrl-C; return the exit status.

    Raises DeviceFailed.
    """
    rate = sound_rate(config)
    for port in (open_microphone(config.microphone, rate), open_speaker(config.speaker.device, rate)):
        with closing(port):
            port.open()  # fails before the user is asked to speak
    output = DemoOutput(sys.stdout)
    output.line("Say something: you will hear yourself. Ctrl-C ends.")
    status, stopped = _talk(config, output)
    if stopped:
        output.line("Stopped.")
    return status


def _talk(config: Config, output: DemoOutput, *observers: Observer) -> tuple[int, bool]:
    """Run an agent that starts on speech against a simulator; return its exit status, and if a signal stopped it."""
    signals = []
    with Simulator(key=SIMULATOR_KEY.reveal()) as simulator:
        config = replace(
            config,
            service=replace(ServiceConfig(), url=simulator.url),
            talk=replace(config.talk, start="voice"),
            button=ButtonConfig(pin=None),
        )
        device = build_device(config, Ports(light=output), key=SIMULATOR_KEY)
        agent = Agent(device, observers=(output, *observers))

        def stop(by: str) -> None:
            signals.append(by)
            agent.stop(by)

        with stopped_by_signals(stop):
            return agent.run(), bool(signals)


def offer_playback(output: DemoOutput, save: Path) -> None:
    """Show how to play the recording, or offer to play it on a terminal of a machine with a sound card."""
    output.line("")
    can = shutil.which(PLAYER) and any(CARDS.glob("pcm*p"))
    if not (can and sys.stdin.isatty() and sys.stdout.isatty()):
        output.line(f"To hear the answer: {PLAYER} {save}")
        return
    try:
        answer = input(f"Play the answer now ({PLAYER} {save})? [y/N] ")
    except EOFError:
        return
    if answer.strip().lower() in {"y", "yes"}:
        subprocess.run([PLAYER, "--quiet", str(save)], check=False)  # noqa: S603


def _report(output: DemoOutput, turn: TurnTimes, question: Path, save: Path) -> None:
    asked, _, rate = read_wav(str(question))
    heard, _, _ = read_wav(str(save))
    fit, at = likeness(_loud(asked, rate), heard)
    reply = _loud(heard, rate)
    output.line("")
    output.line(f"What a listener heard is in {save}, {seconds(heard, rate):.1f} s long.")
    output.line(
        f"The reply in it lasts {seconds(reply, rate):.1f} s at {level(reply):.0f} dBFS. It repeats the question"
    )
    output.line(f"from {at / rate:.2f} s on, with a likeness of {fit:.3f}; 1 means the same sound.")
    output.line("")
    for name, length in turn.steps():
        output.line(f"  {name:48} {1000 * length:7.1f} ms")


def _loud(pcm: bytes, rate: int) -> bytes:
    """Return *pcm* from its first loud frame to its last: the speech in it."""
    step = rate // 25  # 20 ms
    loud = [n for n in range(0, len(pcm) - step, step) if level(pcm[n : n + step]) > -45]
    return pcm[loud[0] : loud[-1] + step] if loud else b""


class DemoOutput:
    """Observer, and light, that prints a line for each change, and text as it arrives. For the main thread."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = time.monotonic()
        self._reply = ""  # whose text is on the line that is open

    def line(self, text: str) -> None:
        """Print *text* as a line."""
        self.close()
        print(text, file=self._out, flush=True)

    def show(self, mood: str) -> None:
        """Print *mood*."""
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
        """End the open line."""
        if self._reply:
            print(file=self._out)
        self._reply = ""
