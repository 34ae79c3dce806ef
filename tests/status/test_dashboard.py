"""``device-agent status --watch`` on a terminal, in a process of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import selectors
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.status import QUIET, Talker, opened

PATIENCE_S = 15.0
"""How long to wait for what must happen."""
TAKEN, GIVEN_BACK = "\x1b[?1049h", "\x1b[?1049l"
"""The whole terminal, and with what was on it before."""


class Terminal:
    """A terminal with a process in it that watches."""

    def __init__(self, runtime: Path, columns: int = 80, lines: int = 24) -> None:
        self._hands, terminal = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self._hands)
        self.text = ""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "device_agent", "status", "--watch"],  # so Ctrl-C is a signal
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**kept, "XDG_RUNTIME_DIR": str(runtime), "XDG_STATE_HOME": str(runtime), "TERM": "xterm-256color"},
        )
        os.close(terminal)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._hands, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key: bytes) -> None:
        os.write(self._hands, key)

    def shows(self, words: str) -> str:
        """Wait until *words* are shown that were not before; return what is there up to them."""
        ends = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._hands, selectors.EVENT_READ)
            while words not in self.text:
                assert selector.select(max(0.0, ends - time.monotonic())), (
                    f"waited for {words!r}, saw {self.text[-2000:]!r}"
                )
                self.text += os.read(self._hands, 1 << 16).decode(errors="replace")
        shown, self.text = self.text.split(words, 1)
        return shown

    def ended(self) -> int:
        """Wait until the process has ended; return its status."""
        shown = self.shows(GIVEN_BACK)
        status = self.process.wait(PATIENCE_S)
        assert "\x1b[?25h" in shown + self.text, "the cursor is back"
        assert termios.tcgetattr(self._hands) == self.before
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._hands)


@contextmanager
def watched(runtime: Path, **size: int) -> Iterator[Terminal]:
    terminal = Terminal(runtime, **size)
    try:
        yield terminal
    finally:
        terminal.close()


def talker(**snapshot: Any) -> Talker:
    return Talker(**{**QUIET, **snapshot})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device-agent" / "status.sock"


def test_it_runs_until_the_user_ends_it(path, tmp_path):
    """There is no agent, one comes, goes, and another one comes; the terminal grows; q ends it."""
    with watched(tmp_path) as terminal:
        terminal.shows(TAKEN)
        terminal.shows("no device-agent is running here")
        with opened(path, talker(mood="listening")) as statue:
            terminal.shows("listening")
            terminal.resize(120, 40)
            terminal.shows("microphone")
            assert statue.listening
        terminal.shows("has ended")
        with opened(path, talker(mood="follow-up")) as statue:
            terminal.shows("follow-up")
            terminal.press(b"x")  # which means nothing
            terminal.shows("follow-up")
            terminal.press(b"q")
            assert terminal.ended() == 0
            statue.until(lambda: not statue.listening)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_it_leaves_the_terminal_as_it_was(path, tmp_path, how):
    with opened(path, talker(mood="thinking")), watched(tmp_path) as terminal:
        terminal.shows("thinking")
        ignored = re.findall(
            r"^SigIgn:\s+(\w+)", Path(f"/proc/{terminal.process.pid}/status").read_text(), re.MULTILINE
        )
        assert int(ignored[0], 16) & 1 << signal.SIGTSTP - 1, "Ctrl-Z would leave it in the way"
        if how == "Ctrl-C":
            terminal.press(b"\x03")
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0
