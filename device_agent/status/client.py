"""Looks through the window of a running agent, from another process."""

from __future__ import annotations

import grp
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import AgentError
from ..core.printable import printable
from ..runtime import systemd
from .server import MAX_ANSWER_BYTES, SNAPSHOT, WATCH

Snapshot = dict[str, Any]

ANSWER_TIMEOUT_S = 3.0
"""How long an agent may take to answer; and, when it is watched, to send the next snapshot."""


class StatusUnavailable(AgentError):
    """There is no agent that one could look at."""


def fetch_snapshot(at: Sequence[Path]) -> Snapshot:
    """Return one snapshot. Raises NotSeen."""
    with StatusStream(at, SNAPSHOT) as looking:
        return looking.next()


def watch_snapshots(at: Sequence[Path]) -> Iterator[Snapshot]:
    """Return one snapshot after the other, until the agent ends. Raises NotSeen."""
    with StatusStream(at, WATCH) as looking:
        while True:
            yield looking.next()


class StatusStream:
    """A look through the window. Belongs to one thread."""

    def __init__(self, at: Sequence[Path], request: bytes = WATCH) -> None:
        """Connect to the first of the windows *at* that is open. Raises NotSeen."""
        self._sock = _connected(at)
        self._rest = b""
        with suppress(OSError):  # we were shown the door; what is to be read says why
            self._sock.sendall(request)

    def __enter__(self) -> StatusStream:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._sock.close()

    def fileno(self) -> int:
        """For select."""
        return self._sock.fileno()

    def next(self) -> Snapshot:
        """Wait for the next snapshot. Raises NotSeen where none comes."""
        while b"\n" not in self._rest:
            self._read()
        return self._taken()[0]

    def ready(self) -> Snapshot | None:
        """There is something to read: return the latest snapshot, if one is complete. Raises NotSeen."""
        self._read()
        return self._taken()[-1] if b"\n" in self._rest else None

    def _taken(self) -> list[Snapshot]:
        *lines, self._rest = self._rest.split(b"\n")
        try:
            answers = [_clean(json.loads(line)) for line in lines]
        except (ValueError, RecursionError) as error:
            raise StatusUnavailable(f"the answer of the device-agent cannot be understood: {error}") from error
        for answer in answers:
            if not isinstance(answer, dict):
                raise StatusUnavailable("the answer of the device-agent cannot be understood")
            if "error" in answer:
                raise StatusUnavailable(f"the device-agent shows no status now: {answer['error']}")
        return answers

    def _read(self) -> None:
        try:
            read = self._sock.recv(1 << 16)
        except TimeoutError as error:
            raise StatusUnavailable(
                f"the device-agent does not answer within {ANSWER_TIMEOUT_S:g} s: it hangs, or is stopped"
            ) from error
        except OSError as error:
            raise StatusUnavailable(f"the connection to the device-agent broke: {error.strerror}") from error
        self._rest += read
        if not read:
            raise StatusUnavailable("the device-agent has ended")
        if len(self._rest) > MAX_ANSWER_BYTES:
            raise StatusUnavailable("the answer of the device-agent does not end")


def _connected(at: Sequence[Path]) -> socket.socket:
    closed: Path | None = None
    for path in at:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(ANSWER_TIMEOUT_S)
        try:
            sock.connect(str(path))
        except OSError as error:  # nobody is there, or the path is too long to be one
            sock.close()
            if isinstance(error, BlockingIOError | TimeoutError):
                raise StatusUnavailable("the device-agent accepts no connection: it hangs, or is stopped") from error
            if isinstance(error, PermissionError):
                closed = closed or path
        else:
            return sock
    raise StatusUnavailable(_forbidden(closed) if closed else "\n".join(["no device-agent is running here", *_unit()]))


def _forbidden(path: Path) -> str:
    """Say who may look through the window at *path*."""
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "device-agent"
    return (
        "You are not root. Repeat with sudo: sudo device-agent status (or join the group that may see the status: "
        f"sudo usermod -aG {group} $USER, and log in again)"
    )


def _unit() -> Iterator[str]:
    """Yield what systemd says about the unit, if there is one."""
    told = systemd.unit_properties("LoadState", "ActiveState", "SubState", "ExecMainStatus", "StatusText")
    if told.get("LoadState") == "loaded":
        yield from _explained(told)


def _explained(told: dict[str, str]) -> Iterator[str]:
    """Say what the properties of the unit mean, and what to do."""
    active = told.get("ActiveState", "unknown")
    yield f"systemd: {systemd.UNIT_NAME}.service is {active} ({told.get('SubState', 'unknown')})" + (
        f', it says "{told["StatusText"]}"' if told.get("StatusText") else ""
    )
    if told.get("ExecMainStatus") == "78":
        yield "Its configuration or its key is wrong. What is wrong, and what to do: sudo device-agent check"
    elif active == "inactive":
        yield "Start it: sudo systemctl start device-agent"
    else:
        yield "To see why: sudo journalctl -u device-agent -n 30"


def _clean(value: Any) -> Any:
    """Return *value* without what a terminal would obey."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return {name: _clean(each) for name, each in value.items()} if isinstance(value, dict) else value
