"""What the demo offers in the end: to hear what it recorded."""

from __future__ import annotations

import io
import os
import pty
import sys
from pathlib import Path

import pytest

from device_agent.commands.demo import DemoOutput, offer_playback
from tests.support.paths import ROOT

OFFER = """
import sys
from pathlib import Path
from device_agent.commands import demo
demo.CARDS = Path(sys.argv[1])
demo.offer_playback(demo.DemoOutput(sys.stdout), Path("reply.wav"))
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with a sound card, and a player that writes down what it plays."""
    (tmp_path / "pcmC0D0p").touch()
    (tmp_path / "aplay").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/played\n')
    (tmp_path / "aplay").chmod(0o755)
    return tmp_path


def at_a_terminal(machine: Path, answer: str) -> str:
    """Answer the offer; return what the terminal showed."""
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{machine}:{os.environ['PATH']}"}
        os.execve(sys.executable, [sys.executable, "-c", OFFER, str(machine)], environment)  # noqa: S606
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the terminal is closed
            break
        if answer and b"[y/N] " in shown:
            os.write(terminal, answer.encode())
            answer = ""
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, shown
    return shown.decode()


def test_a_yes_plays_the_answer(machine):
    assert "Play the answer now" in at_a_terminal(machine, "y\n")
    assert (machine / "played").read_text() == "--quiet reply.wav\n"


@pytest.mark.parametrize("answer", ["\n", "n\n", "\x04"])
def test_nothing_is_played_without_a_yes(machine, answer):
    at_a_terminal(machine, answer)
    assert not (machine / "played").exists()


def test_without_a_card_or_a_terminal_the_command_is_shown(machine):
    (machine / "pcmC0D0p").unlink()
    assert "To hear the answer: aplay reply.wav" in at_a_terminal(machine, "")
    offer_playback(DemoOutput(out := io.StringIO()), Path("reply.wav"))
    assert out.getvalue() == "\nTo hear the answer: aplay reply.wav\n"
