"""What systemd does for the unit, as far as a bench needs it: starts it, listens, loses its patience, starts it again.

The times are those of ``systemd/device-agent.service``. Sandbox, user and credentials are not its business: these are
proved by ``make test-unit``, under a real systemd.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

UNIT = ROOT / "systemd" / "device-agent.service"
LOOK_S = 0.02
"""How often it looks at its process, in seconds: as exact as its times are."""
MOST_LINES = 20_000


def seconds(name: str) -> float:
    """Return a time that the unit sets."""
    found = re.search(rf"^{name}=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found, f"{UNIT} does not set {name} in seconds"
    return float(found[1])


@dataclass(frozen=True)
class Line:
    """One line of the journal, and when it came (``time.monotonic``). *by_agent*: else the supervisor wrote it."""

    at: float
    text: str
    by_agent: bool = True


class Unit:
    """A service that is kept alive. Any thread may call anything; a thread of its own does what systemd does.

    *command* is started with *env* and a ``NOTIFY_SOCKET``; its standard error is the journal, its standard input is
    kept open: ``type`` writes there. ``order`` writes to another pipe, whose number is the last word of the command.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], directory: Path) -> None:
        self._command, self._directory = list(command), directory
        self._restart, self._watchdog = seconds("RestartSec"), seconds("WatchdogSec")
        self._start, self._stop = seconds("TimeoutStartSec"), seconds("TimeoutStopSec")
        self._env = {
            **os.environ,
            **env,
            "NOTIFY_SOCKET": str(directory / "notify"),
            "WATCHDOG_USEC": str(round(1e6 * self._watchdog)),
            "STATE_DIRECTORY": str(directory),
            "PYTHONFAULTHANDLER": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._socket.settimeout(LOOK_S)
        self._changed = threading.Condition()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._orders = -1
        self._fed = 0.0  # when the watchdog was, or the process began
        self._ready = False
        self._killed = 0.0  # when the watchdog, or the clock of the start, lost its patience
        self.journal: list[Line] = []
        self.told: list[tuple[float, str]] = []
        """What the process told its manager: when, and "READY=1", "STATUS=ready" ..."""
        self.starts = 0

    def __enter__(self) -> Unit:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._leaving.set()
        self._thread.join(self._stop + 5)
        self._socket.close()

    # Hands ------------------------------------------------------------------------------------------------------------

    def type(self, text: str) -> None:
        """Write *text* to the standard input of the process. Raises OSError where there is none to take it."""
        process = self._process
        if process is None or process.stdin is None:
            raise BrokenPipeError("it does not run")
        process.stdin.write(text.encode())
        process.stdin.flush()

    def order(self, text: str) -> None:
        """Write a line to the pipe of orders."""
        os.write(self._orders, f"{text}\n".encode())

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    # Eyes -------------------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether there is a process that has not ended."""
        process = self._process
        return process is not None and process.poll() is None

    def lines(self, since: float) -> list[Line]:
        """Return the journal since then."""
        with self._changed:
            return [line for line in self.journal if line.at >= since]

    def heard(self, what: str, since: float) -> float | None:
        """Return when the process first told its manager since then something that begins with *what*."""
        with self._changed:
            return next((at for at, text in self.told if at >= since and text.startswith(what)), None)

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._leaving.is_set():
            with self._begin() as process:
                reader = threading.Thread(target=self._read, args=[process], daemon=True)
                reader.start()
                self._attend(process)
                reader.join(self._stop)
            os.close(self._orders)
            self._leaving.wait(self._restart)

    def _begin(self) -> subprocess.Popen[bytes]:
        self._fed, self._ready, self._killed = time.monotonic(), False, 0.0
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        theirs, self._orders = os.pipe()
        try:
            command = [*self._command, str(theirs)]
            process = subprocess.Popen(command, env=self._env, pass_fds=[theirs], **pipes)
        finally:
            os.close(theirs)
        self._process = process
        self.starts += 1
        return process

    def _attend(self, process: subprocess.Popen[bytes]) -> None:
        """Look after *process* until it has ended."""
        while process.poll() is None:
            self._listen()
            if self._leaving.is_set() and not self._killed:
                self._give_up(process, signal.SIGTERM)
            self._judge(process, time.monotonic())
        self._process = None
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        if not self._leaving.is_set():
            status = process.returncode
            how = f"code=killed, status={signal.Signals(-status).name}" if status < 0 else f"status={status}"
            self._write(f"main process exited, {how}")

    def _judge(self, process: subprocess.Popen[bytes], now: float) -> None:
        if self._killed:
            if now - self._killed > self._stop:
                process.kill()
        elif self._ready and now - self._fed > self._watchdog:
            self._write(f"watchdog timeout (limit {self._watchdog:g} s)")
            self._give_up(process, signal.SIGABRT)
        elif not self._ready and now - self._fed > self._start:
            self._write(f"not ready within {self._start:g} s")
            self._give_up(process, signal.SIGTERM)

    def _give_up(self, process: subprocess.Popen[bytes], number: int) -> None:
        self._killed = time.monotonic()
        process.send_signal(number)

    def _listen(self) -> None:
        try:
            message = self._socket.recv(4096).decode()
        except TimeoutError:
            return
        now = time.monotonic()
        self._ready |= "READY=1" in message
        if "READY=1" in message or "WATCHDOG=1" in message:
            self._fed = now
        with self._changed:
            self.told += [(now, text) for text in message.splitlines() if text != "WATCHDOG=1"]
            del self.told[:-MOST_LINES]
            self._changed.notify_all()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for raw in process.stderr:
            self._write(raw.decode(errors="replace").rstrip(), by_agent=True)

    def _write(self, text: str, *, by_agent: bool = False) -> None:
        with self._changed:
            self.journal.append(Line(time.monotonic(), text, by_agent))
            del self.journal[:-MOST_LINES]
            self._changed.notify_all()
