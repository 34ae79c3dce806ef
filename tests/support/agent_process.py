"""``device-agent`` as a process, with its log, its WAV files and its configuration."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file
from pathlib import Path
from types import MappingProxyType

from device_agent.simulator import QUESTION

RATE = 24000

PATIENCE_S = 30.0


def question() -> bytes:
    with as_file(QUESTION) as path, wave.open(str(path)) as wav:
        return wav.readframes(wav.getnframes())


def write_wav(path: Path, pcm: bytes, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, rate, 0, "NONE", ""))
        wav.writeframes(pcm)
    return path


def read_wav(path: Path) -> bytes:
    with wave.open(str(path)) as wav:
        return wav.readframes(wav.getnframes())


def write_config(folder: Path, url: str, *, sound: bytes, extra: str = "") -> Path:
    """Write a configuration that hears *sound* and says into said.wav."""
    path = folder / "config.yaml"
    path.write_text(
        f"service: {{name: xai, url: '{url}'}}\n"
        f"talk: {{start: voice, silence_ms: 400}}\n"
        f"microphone: {{device: 'wav:{write_wav(folder / 'heard.wav', sound)}'}}\n"
        f"speaker: {{device: 'wav:{folder / 'said.wav'}', volume: 100}}\n"
        f"button: {{pin: }}\nlight: {{pin: }}\ncues: {{volume: 0}}\nlog: {{transcript: info}}\n{extra}"
    )
    return path


class Agent:
    """A running ``device-agent``, with its log read as it comes."""

    def __init__(self, *arguments: str | Path, env: Mapping[str, str] = MappingProxyType({})) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "device_agent", *map(str, arguments)],
            env={**os.environ, "XAI_API_KEY": "a-key-that-is-secret", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        self._grew = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._grew:
                self.log += line
                self._grew.notify_all()

    def says(self, words: str) -> None:
        """Wait until the log says *words*."""
        with self._grew:
            assert self._grew.wait_for(lambda: words in self.log, PATIENCE_S), self.log

    def end(self, number: int | None = None) -> int:
        """Send a signal, if any; wait for the end; return the exit status."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    @property
    def output(self) -> str:
        assert self.process.stdout
        return self.process.stdout.read()


@contextmanager
def running(*arguments: str | Path, env: Mapping[str, str] = MappingProxyType({})) -> Iterator[Agent]:
    agent = Agent(*arguments, env=env)
    try:
        yield agent
    finally:
        agent.process.kill()
        agent.end()  # its log is read to the end before it is closed
        agent.process.communicate()


ROOM = bytes(2 * 60 * RATE)


def config(folder: Path, url: str, *, device: str = "default") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"service: {{url: '{url}'}}\ntalk: {{start: voice, silence_ms: 400}}\nbutton: {{pin: }}\nlight: {{pin: }}\n"
        f"microphone: {{device: {device}}}\nspeaker: {{device: {device}, volume: 100}}\ncues: {{volume: 0}}\n"
    )
    return path
