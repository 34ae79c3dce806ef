"""Status client: reads snapshots from the socket of a running agent."""

from __future__ import annotations

import grp
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from ..core.errors import AgentError
from ..core.printable import printable
from ..core.status_snapshot import StatusSnapshot
from ..runtime import systemd
from .server import MAX_STATUS_BYTES, SNAPSHOT, WATCH

ANSWER_TIMEOUT_S = 3.0
"""Longest wait for an answer, and for the next snapshot of a stream."""


class StatusUnavailable(AgentError):
    """No running agent answers."""


def fetch_snapshot(paths: Sequence[Path]) -> StatusSnapshot:
    """Return one snapshot. Raises StatusUnavailable."""
    with StatusStream(paths, SNAPSHOT) as stream:
        return stream.next()


def watch_snapshots(paths: Sequence[Path]) -> Iterator[StatusSnapshot]:
    """Yield snapshots until the agent ends. Raises StatusUnavailable."""
    with StatusStream(paths) as stream:
        while True:
            yield stream.next()


class StatusStream:
    """Connection to the first of *paths* at which an agent listens. Belongs to one thread.

    The constructor, ``next`` and ``ready`` raise StatusUnavailable.
    """

    def __init__(self, paths: Sequence[Path], request: bytes = WATCH) -> None:
        self._sock = _connected(paths)
        self._rest = b""
        with suppress(OSError):  # closed by the server; what it sent before says why
            self._sock.sendall(request)

    def __enter__(self) -> StatusStream:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._sock.close()

    def fileno(self) -> int:
        """For select."""
        return self._sock.fileno()

    def next(self) -> StatusSnapshot:
        """Wait for the next snapshot."""
        while (snapshot := self.ready()) is None:
            pass
        return snapshot

    def ready(self) -> StatusSnapshot | None:
        """Read what has arrived; return the latest snapshot, if one is complete."""
        self._read()
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
        return cast("StatusSnapshot", answers[-1]) if answers else None

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
        if len(self._rest) > MAX_STATUS_BYTES:
            raise StatusUnavailable("the answer of the device-agent does not end")


def _connected(paths: Sequence[Path]) -> socket.socket:
    forbidden: Path | None = None
    for path in paths:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(ANSWER_TIMEOUT_S)
        try:
            sock.connect(str(path))
        except OSError as error:  # no agent listens, or the path is too long for a socket
            sock.close()
            if isinstance(error, BlockingIOError | TimeoutError):
                raise StatusUnavailable("the device-agent accepts no connection: it hangs, or is stopped") from error
            if isinstance(error, PermissionError):
                forbidden = forbidden or path
        else:
            return sock
    if forbidden:
        raise StatusUnavailable(_forbidden(forbidden))
    unit = systemd.unit_properties("LoadState", "ActiveState", "SubState", "ExecMainStatus", "StatusText")
    about_unit = _explained(unit) if unit.get("LoadState") == "loaded" else ()
    raise StatusUnavailable("\n".join(["no device-agent is running here", *about_unit]))


def _forbidden(path: Path) -> str:
    """Return which group may connect to *path*."""
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "device-agent"
    return (
        "You are not root. Repeat with sudo: sudo device-agent status (or join the group that may see the status: "
        f"sudo usermod -aG {group} $USER, and log in again)"
    )


def _explained(unit: dict[str, str]) -> Iterator[str]:
    """Yield the meaning of the properties of the systemd unit, and what to do."""
    active = unit.get("ActiveState", "unknown")
    text = f', it says "{unit["StatusText"]}"' if unit.get("StatusText") else ""
    yield f"systemd: {systemd.UNIT_NAME}.service is {active} ({unit.get('SubState', 'unknown')}){text}"
    if unit.get("ExecMainStatus") == "78":
        yield "Its configuration or its key is wrong. What is wrong, and what to do: sudo device-agent check"
    elif active == "inactive":
        yield "Start it: sudo systemctl start device-agent"
    else:
        yield "To see why: sudo journalctl -u device-agent -n 30"


def _clean(value: Any) -> Any:
    """Return *value* without control characters, which a terminal would obey."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return {name: _clean(each) for name, each in value.items()} if isinstance(value, dict) else value
