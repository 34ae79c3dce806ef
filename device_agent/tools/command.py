"""Tool that runs a program: arguments as JSON on standard input, its output is the answer."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from ..services.base import Function
from .base import ToolFailed

MAX_OUTPUT_BYTES = 16 * 1024  # a command that writes more is stopped
PASSED_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "LC_ALL")  # of the environment: nothing that may be a key
COMMAND_POLL_S = 0.1
OUTPUT_GRACE_S = 0.2  # after the end of a command, in which a process that it started may still write


@dataclass(frozen=True)
class Command:
    """Runs *line*, a program and its arguments, without a shell, for *timeout* seconds at most."""

    function: Function
    line: tuple[str, ...]
    timeout: float
    quiet = False

    def run(self, arguments: dict[str, Any], stopping: threading.Event) -> str:
        """Return the output as JSON: the command's own, or its text as a string. Raises ToolFailed."""
        deadline = _Deadline(self.timeout, stopping)
        with _started(self.line) as process:
            output, complaint = _talk(process, json.dumps(arguments).encode(), deadline)
            status = _end(process, deadline)
        if status:
            reason = complaint.decode(errors="replace").strip()[-500:] or f"it ended with status {status}"
            raise ToolFailed(reason)
        return _as_json(output.decode(errors="replace").strip())


class _Deadline:
    """End of a command: after *timeout* seconds, or when *stopping* is set."""

    def __init__(self, timeout: float, stopping: threading.Event) -> None:
        self._timeout, self._stopping = timeout, stopping
        self._ends = time.monotonic() + timeout

    def check(self) -> None:
        """Raise ToolFailed where it has passed."""
        if self._stopping.is_set() or time.monotonic() > self._ends:
            raise ToolFailed(f"it took longer than {self._timeout:g} s")


def _talk(process: subprocess.Popen[bytes], sent: bytes, deadline: _Deadline) -> tuple[bytes, bytes]:
    """Write *sent* to the command, and read what it writes to its end. Raises ToolFailed."""
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018  they are pipes
    heard: dict[IO[bytes], bytes] = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdin, *heard):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ)
        for _ in _looks(process, deadline):
            for key, _ in selector.select(COMMAND_POLL_S):
                if key.fileobj is process.stdin:
                    sent = _write(process.stdin, sent)
                    done = not sent
                else:
                    done = _read(key.fileobj, heard)  # type: ignore[arg-type]  # one of the pipes above
                if done:
                    selector.unregister(key.fileobj)
            if not selector.get_map():
                break
    return heard[process.stdout], heard[process.stderr]


def _looks(process: subprocess.Popen[bytes], deadline: _Deadline) -> Iterator[None]:
    """Go on until OUTPUT_GRACE_S after the end of the command: its children may hold its pipes. Raises ToolFailed."""
    ended = math.inf
    while time.monotonic() <= ended + OUTPUT_GRACE_S:
        deadline.check()
        yield
        if process.poll() is not None:
            ended = min(ended, time.monotonic())


def _end(process: subprocess.Popen[bytes], deadline: _Deadline) -> int:
    """Wait for the end of a command that has closed its output; return its status. Raises ToolFailed."""
    while True:
        try:
            return process.wait(COMMAND_POLL_S)
        except subprocess.TimeoutExpired:
            deadline.check()


def _write(pipe: IO[bytes], sent: bytes) -> bytes:
    """Return what could not be written yet."""
    try:
        left = sent[os.write(pipe.fileno(), sent) :]
    except BlockingIOError:
        return sent
    except BrokenPipeError:  # it does not read its input
        left = b""
    if not left:
        pipe.close()
    return left


def _read(pipe: IO[bytes], heard: dict[IO[bytes], bytes]) -> bool:
    """Read once; return whether that was all."""
    try:
        piece = os.read(pipe.fileno(), MAX_OUTPUT_BYTES)
    except BlockingIOError:
        return False
    heard[pipe] += piece
    if len(heard[pipe]) > MAX_OUTPUT_BYTES:
        raise ToolFailed(f"it said more than {MAX_OUTPUT_BYTES} bytes")
    return not piece


@contextmanager
def _started(line: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command in a process group of its own, which is killed at the end. Raises ToolFailed."""
    environment = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(  # noqa: S603  the owner's own command, and no shell
            line, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise ToolFailed(f"{line[0]} does not start: {error.strerror}") from error
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:  # closes the pipes and waits
            pass


def _as_json(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(text)
    return text
