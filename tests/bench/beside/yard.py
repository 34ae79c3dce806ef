"""Where a client is put to be measured: a sound card on one side, a service on the other, and it is not asked anything.

All clocks are ``time.monotonic``, which processes share.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.beside.card import AnyCard, Failed, Ledger, Loudspeaker
from tests.bench.beside.service import RATE, Came, Happening, Shape, Went, voice
from tests.bench.beside.usage import Usage, family, usage
from tests.support.paths import ROOT

PATIENCE_S = 30.0
LOOK_S = 0.5
"""A wait for a word of a client checks so often whether the client still runs."""

# The service ----------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """What came to a service, and what went."""

    came: list[Came] = field(default_factory=list)
    went: list[Went] = field(default_factory=list)

    def sound(self, since: float, until: float) -> list[Came]:
        return [each for each in self.came if each.audio and since <= each.at < until]


class Other:
    """The service, in a process of its own."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._happened: list[Happening] = []
        self._changed = threading.Condition()
        self._scratch = Path(tempfile.mkdtemp(prefix="beside-"))

    def __enter__(self) -> Other:
        command = [sys.executable, "-m", "tests.bench.beside.service", *self._options]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=env, text=True, **pipes)
        self._port = json.loads(self._process.stdout.readline())["port"]
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._process.kill()
        self._thread.join(PATIENCE_S)
        self._process.stdout.close()
        for file in self._scratch.iterdir():
            file.unlink()
        self._scratch.rmdir()

    @property
    def url(self) -> str:
        return f"{'wss' if '--cert' in self._options else 'ws'}://127.0.0.1:{self._port}/v1/realtime"

    def replies(self, shape: Shape) -> None:
        """From now on replies are like this."""
        self._order(reply=asdict(shape))

    def happened(self, what: str, since: float, patience: float = PATIENCE_S) -> Happening:
        """Wait for the first of that kind since then. Raises Failed."""
        found: list[Happening] = []

        def is_there() -> bool:
            found[:] = [each for each in self._happened if each.what == what and each.at >= since][:1]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(is_there, patience):
                raise Failed(f"the service saw nothing of {what!r} within {patience:g} s")
        return found[0]

    def log(self) -> Log:
        """Return what came and went since the last call. Raises Failed."""
        since, path = time.monotonic(), self._scratch / "log.json"
        self._order(dump=str(path))
        self.happened("dumped", since)
        log = json.loads(path.read_text())
        return Log([Came(**each) for each in log["came"]], [Went(**each) for each in log["went"]])

    def _order(self, **words: Any) -> None:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        for line in self._process.stdout:
            words = json.loads(line)
            with self._changed:
                self._happened.append(Happening(**words))
                del self._happened[:-10_000]
                self._changed.notify_all()


# The client -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """A program to be measured, and how it wants to be treated.

    *ends_itself*: it ends a turn when it hears silence, and its button is only tapped; otherwise the button is held.
    *notifies*: it says that it is ready as systemd wants it; otherwise by a line ``ready``. *config* is the text of its
    configuration, *connects* whether it has a session without being asked for one, *cannot* what it is unable to do, as
    in ``peers.CANNOT``.
    """

    name: str
    command: Sequence[str]
    note: str = ""
    ends_itself: bool = False
    notifies: bool = False
    config: str = ""
    connects: bool = True
    cannot: frozenset[str] = frozenset()


class Running:
    """A client that runs. Raises Failed where it ended, or did not say that it is ready."""

    def __init__(self, client: Client, card: AnyCard, other: Other, env: Mapping[str, str] | None = None) -> None:
        self.client, self.card, self.other = client, card, other
        self._more_env = dict(env or {})
        self._ends = ExitStack()
        self._noticed: queue.SimpleQueue[float] = queue.SimpleQueue()

    def __enter__(self) -> Running:
        self._home = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="beside-")))
        self._log = self._ends.enter_context((self._home / "log").open("wb"))
        try:
            self._start()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ends.close()

    def _start(self) -> None:
        if self.client.notifies:
            self._manage()
        env = {
            **os.environ,
            **self.card.env,
            "BENCH_URL": self.other.url,
            "OPENAI_API_KEY": "k",
            "HOME": str(self._home),
        }
        env |= {"OPENBLAS_NUM_THREADS": "1", **self._more_env}
        if self.client.notifies:
            env |= {"NOTIFY_SOCKET": str(self._home / "notify"), "STATE_DIRECTORY": str(self._home)}
        (self._home / "config.yaml").write_text(self.client.config.format(url=self.other.url))
        command = [word.format(config=self._home / "config.yaml") for word in self.client.command]
        told = subprocess.DEVNULL if self.client.notifies else subprocess.PIPE
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": told, "stderr": self._log}
        self.started = time.monotonic()
        self._process = subprocess.Popen(command, env=env, start_new_session=True, bufsize=0, **pipes)
        self._ends.callback(self._stop)
        self.ready = self._wait_for_notice() if self.client.notifies else self._wait_for_line()
        self.session = self.other.happened("session", self.started).at if self.client.connects else None

    def _manage(self) -> None:
        """Listen to what it tells its manager, to its end: unread, that would hold it up."""
        manager = self._ends.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(str(self._home / "notify"))
        manager.settimeout(LOOK_S)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    if b"READY=1" in manager.recv(4096):
                        self._noticed.put(time.monotonic())

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        self._ends.callback(listening.join, PATIENCE_S)
        self._ends.callback(ended.set)

    def _wait_for_notice(self) -> float:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(queue.Empty):
                return self._noticed.get(timeout=LOOK_S)
        raise Failed(f"{self.client.name} was not ready: {self.complaint}")

    def _wait_for_line(self) -> float:
        found: list[float] = []

        def read() -> None:
            for line in self._process.stdout:
                if line.strip() == b"ready" and not found:
                    found.append(time.monotonic())
                    done.set()
            done.set()

        done = threading.Event()
        threading.Thread(target=read, daemon=True).start()
        if not done.wait(PATIENCE_S) or not found:
            raise Failed(f"{self.client.name} was not ready: {self.complaint}")
        return found[0]

    def _stop(self) -> None:
        with suppress(OSError):
            self._process.stdin.close()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        for process in family(self._process.pid):  # its children, if it left any behind
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    @property
    def complaint(self) -> str:
        """The last that it wrote on standard error."""
        lines = (self._home / "log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-6:])

    @property
    def stderr(self) -> str:
        """All that it wrote there."""
        return (self._home / "log").read_text(errors="replace")

    def usage(self) -> Usage:
        """What it has used. Raises Failed where it does not run any more."""
        if self._process.poll() is not None:
            raise Failed(f"{self.client.name} ended with {self._process.returncode}: {self.complaint}")
        return usage(self._process.pid)

    def press(self) -> float:
        """Type a line: press the button or let it go; or tap it. Returns when. Raises Failed."""
        at = time.monotonic()
        try:
            self._process.stdin.write(b"\n")
        except OSError as error:
            raise Failed(f"{self.client.name} takes no button: {self.complaint}") from error
        return at


@dataclass
class Turn:
    """One turn and its reply: when what happened, and the number of the reply."""

    pressed: float
    heard: float
    """When the first of its sound could be read at the service."""
    said: float
    """When the last of what was said was given to the card."""
    released: float
    committed: float
    reply: int
    asked: float


def turn(running: Running, speech: bytes) -> Turn:
    """Press, speak, let go or be silent; return when all of the reply has been sent. Raises Failed."""
    try:
        return _turn(running, speech)
    except Failed as error:
        raise Failed(f"{running.client.name}: {error}; it says: {running.complaint}") from error


def _turn(running: Running, speech: bytes) -> Turn:
    card, other = running.card.giver, running.other
    pressed = running.press()
    number = card.say(speech)
    heard = other.happened("heard", pressed)
    said = card.said(number)
    released = said if running.client.ends_itself else running.press()
    committed = other.happened("committed", released)
    asked = other.happened("reply", committed.at)
    other.happened("sent", asked.at)
    return Turn(pressed, heard.at, said, released, committed.at, asked.reply, asked.at)


# What is found out ----------------------------------------------------------------------------------------------------


def lags(ledger: Ledger, messages: Sequence[Came], place: int = 0) -> tuple[list[float], int]:
    """Return how long after its last sample was given each message came, in seconds, and how many are not of it.

    Each is looked for behind the one before, the first behind byte *place*: so no silence is taken for an earlier one.
    """
    found, strange = [], 0
    for message in messages:
        end = ledger.find(base64.b64decode(message.audio), place)
        if end is None:
            strange += 1
            continue
        found.append(message.at - ledger.when(end))
        place = end
    return found, strange


def sounded(heard: Loudspeaker, log: Log, number: int) -> float | None:
    """Return how long after its first piece was handed to the kernel reply *number* sounded, in seconds."""
    pieces = [piece for piece in log.went if piece.reply == number and not piece.first]
    if not pieces:
        return None
    first = heard.first(voice(number, pieces[0].count / RATE))
    return None if first is None else first - pieces[0].at
