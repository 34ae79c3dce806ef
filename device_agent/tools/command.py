"""A tool that is a command of the owner's: arguments as JSON on its standard input, its output is the answer."""

from __future__ import annotations

import json
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

from ..services import Function
from . import ToolFailed

LARGEST = 16 * 1024
"""Bytes of output that the assistant is told; what says more is stopped."""
KEPT = ("PATH", "HOME", "LANG", "TZ", "LC_ALL")
"""What a command sees of our environment: nothing that may be a key."""
LOOK_S = 0.1
"""How often a command that runs is looked after."""


@dataclass(frozen=True)
class Command:
    """Runs *line*, a program and its arguments, without a shell, for *timeout* seconds at most."""

    function: Function
    line: tuple[str, ...]
    timeout: float
    quiet = False

    def run(self, arguments: dict[str, Any], stopping: threading.Event) -> str:
        """Return what the command wrote, as JSON: its own, or the text as a string. Raises ToolFailed."""
        with _started(self.line) as process:
            output, complaint = self._talk(process, json.dumps(arguments).encode(), stopping)
            status = self._end(process, stopping)
        if status:
            reason = complaint.decode(errors="replace").strip()[-500:] or f"it ended with status {status}"
            raise ToolFailed(reason)
        return _as_json(output.decode(errors="replace").strip())

    def _end(self, process: subprocess.Popen[bytes], stopping: threading.Event) -> int:
        """Wait for the end of a command that says nothing any more; return its status. Raises ToolFailed."""
        ends = time.monotonic() + self.timeout
        while True:
            try:
                return process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if stopping.is_set() or time.monotonic() > ends:
                    raise ToolFailed(f"it took longer than {self.timeout:g} s") from None

    def _talk(self, process: subprocess.Popen[bytes], said: bytes, stopping: threading.Event) -> tuple[bytes, bytes]:
        """Write *said* to the command, and read what it writes until it has nothing more to say."""
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018  they are pipes
        heard: dict[IO[bytes], bytes] = {process.stdout: b"", process.stderr: b""}
        ends = time.monotonic() + self.timeout
        with selectors.DefaultSelector() as selector:
            for pipe in (process.stdin, *heard):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ)
            while selector.get_map():
                if stopping.is_set() or time.monotonic() > ends:
                    raise ToolFailed(f"it took longer than {self.timeout:g} s")
                for key, _ in selector.select(LOOK_S):
                    if key.fileobj is process.stdin:
                        said = _write(process.stdin, said)
                        done = not said
                    else:
                        done = _read(key.fileobj, heard)  # type: ignore[arg-type]  # the map holds what we put in
                    if done:
                        selector.unregister(key.fileobj)
        return heard[process.stdout], heard[process.stderr]


def _write(pipe: IO[bytes], said: bytes) -> bytes:
    """Return what could not be written yet."""
    try:
        left = said[os.write(pipe.fileno(), said) :]
    except BlockingIOError:
        return said
    except BrokenPipeError:  # it does not want to hear
        left = b""
    if not left:
        pipe.close()
    return left


def _read(pipe: IO[bytes], heard: dict[IO[bytes], bytes]) -> bool:
    """Return whether that was all."""
    try:
        piece = os.read(pipe.fileno(), LARGEST)
    except BlockingIOError:
        return False
    heard[pipe] += piece
    if len(heard[pipe]) > LARGEST:
        raise ToolFailed(f"it said more than {LARGEST} bytes")
    return not piece


@contextmanager
def _started(line: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command in a process group of its own, and leave nothing of the group behind. Raises ToolFailed."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
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
