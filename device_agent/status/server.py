"""Status server: a unix socket that sends snapshots as lines of JSON, and takes no orders.

A client sends ``snapshot`` or ``watch`` and a newline, and gets one snapshot, or one after the other; or
``{"error": ...}``. Only the user and the group of the agent can connect.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..runtime.paths import status_path

if TYPE_CHECKING:
    from ..core.status_snapshot import Levels, StatusSnapshot

log = logging.getLogger(__name__)

SNAPSHOT, WATCH = b"snapshot\n", b"watch\n"
MAX_REQUEST_BYTES = 64
MAX_STATUS_BYTES = 1 << 20
"""A few thousand are usual."""
SOCKET_MODE = 0o660
MAX_VIEWERS = 4
REQUEST_TIMEOUT_S, SEND_TIMEOUT_S = 2.0, 3.0
"""A viewer that takes longer to send its request, or to receive a line, is disconnected."""
NO_DESCRIPTOR_PAUSE_S = 1.0
"""Pause before the next connection is accepted when the process has too many open files."""
SNAPSHOT_INTERVAL_S = 0.125


class StatusSource(Protocol):
    """Source of the snapshots. Called by the thread of the server."""

    def snapshot(self, now: float) -> StatusSnapshot:
        """Return the status of now, without levels."""

    def levels(self) -> Levels | None:
        """Return the levels since the last call."""

    def measure_levels(self, wanted: bool) -> None:
        """Measure the levels from now on, or no longer."""


class StatusServer:
    """Server with a thread of its own, which calls ``run``; ``wake`` is for any thread.

    If the socket cannot be opened, a line of the log says so, and the agent works without it.
    """

    def __init__(self, source: StatusSource, path: Path | None = None) -> None:
        self._source, self._path = source, path or status_path()
        self._woken, self._wake = socket.socketpair()

    def wake(self) -> None:
        """Make ``run`` look at *stopping*."""
        with suppress(OSError):  # it has returned
            self._wake.send(b"\0")

    def run(self, stopping: threading.Event) -> None:
        """Serve until *stopping* is set and ``wake`` is called."""
        with closing(self._woken), closing(self._wake):
            try:
                with _listening(self._path) as listener, selectors.DefaultSelector() as selector:
                    selector.register(self._woken, selectors.EVENT_READ)
                    _Viewers(self._source, listener, selector, stopping).serve()
            except OSError as error:
                why = error.strerror or error
                log.warning("device-agent status will show nothing: %s cannot be opened: %s", self._path, why)


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Listen at *path*, in place of a socket that a crashed process left. Raises OSError.

    A file beside it stays locked meanwhile: a socket without a lock is left over, and one in use is never replaced.
    Only this user can open that file, so no other user can lock it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
            os.fchmod(listener.fileno(), 0o600)  # before it can be seen
            listener.bind(str(path))
            try:
                listener.listen(MAX_VIEWERS)
                listener.setblocking(False)
                path.chmod(SOCKET_MODE)  # last: from now on the group can connect
                yield listener
            finally:
                path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(error.errno, "another running device-agent uses it") from error


class _Viewer:
    """One connection. Its methods raise OSError when it is over."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.watching = False
        self.deadline: float | None = now + REQUEST_TIMEOUT_S
        self._request = self._unsent = b""
        self._last = False  # the connection ends with what is unsent

    @property
    def events(self) -> int:
        """What to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def receive(self) -> bytes:
        """Return the request once it is complete."""
        received = self.sock.recv(MAX_REQUEST_BYTES)
        self._request += received
        if not received or self.watching or self._last:
            raise ConnectionError("the client closed the connection or sent more than one request")
        if not self._request.endswith(b"\n") and len(self._request) < MAX_REQUEST_BYTES:
            return b""
        self.deadline = None
        return self._request

    def send(self, line: bytes, now: float, *, last: bool = False) -> None:
        """Send *line*, unless the line before it is still being sent."""
        if not self._unsent:
            self._unsent, self._last, self.deadline = line, last, now + SEND_TIMEOUT_S
            self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes."""
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self.sock.send(self._unsent) :]
        if not self._unsent:
            self.deadline = None
            if self._last:
                raise ConnectionError("the client has received everything")


class _Viewers:
    """All connections."""

    def __init__(
        self,
        source: StatusSource,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        stopping: threading.Event,
    ) -> None:
        self._source, self._listener, self._selector, self._stopping = source, listener, selector, stopping
        self._viewers: list[_Viewer] = []
        self._next = 0.0  # when the next snapshot is due for those that watch
        selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve all viewers until it is time to stop."""
        try:
            while not self._stopping.is_set():
                ready = self._selector.select(self._timeout(time.monotonic()))
                now = time.monotonic()
                for key, events in ready:
                    if key.fileobj is self._listener:
                        self._accept(now)
                    elif isinstance(viewer := key.data, _Viewer):
                        with self._served(viewer):
                            self._answer(viewer, events, now)
                self._send_snapshot(now)
                for viewer in [each for each in self._viewers if each.deadline is not None and now >= each.deadline]:
                    self._close(viewer)
        finally:
            for viewer in list(self._viewers):
                self._close(viewer)

    def _timeout(self, now: float) -> float | None:
        """Return the seconds until something is due; None for never."""
        due = [viewer.deadline for viewer in self._viewers if viewer.deadline is not None]
        if self._watched:
            due.append(self._next)
        return max(0.0, min(due) - now) if due else None

    @property
    def _watched(self) -> bool:
        return any(viewer.watching for viewer in self._viewers)

    def _accept(self, now: float) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # no descriptor is left
            self._stopping.wait(NO_DESCRIPTOR_PAUSE_S)
            return
        sock.setblocking(False)
        viewer = _Viewer(sock, now)
        self._viewers.append(viewer)
        self._selector.register(sock, selectors.EVENT_READ, viewer)
        if len(self._viewers) > MAX_VIEWERS:
            refusal = _line({"error": f"{MAX_VIEWERS} others are reading the status already"})
            with self._served(viewer):
                viewer.send(refusal, now, last=True)

    def _answer(self, viewer: _Viewer, events: int, now: float) -> None:
        if events & selectors.EVENT_WRITE:
            viewer.flush()
        request = viewer.receive() if events & selectors.EVENT_READ else b""
        if request == WATCH:
            viewer.watching = True
            self._source.measure_levels(True)
            self._next = now
        elif request == SNAPSHOT:
            viewer.send(_line(self._source.snapshot(now)), now, last=True)
        elif request:
            viewer.send(_line({"error": "ask for snapshot or watch"}), now, last=True)

    def _send_snapshot(self, now: float) -> None:
        """Send a snapshot with levels to the viewers that watch, when it is due."""
        if self._watched and now >= self._next:
            self._next = now + SNAPSHOT_INTERVAL_S
            line = _line({**self._source.snapshot(now), "levels": self._source.levels()})
            for viewer in [viewer for viewer in self._viewers if viewer.watching]:
                with self._served(viewer):
                    viewer.send(line, now)

    @contextmanager
    def _served(self, viewer: _Viewer) -> Iterator[None]:
        """Close the connection if it is over, else wait for its next event."""
        try:
            yield
        except OSError:
            self._close(viewer)
        else:
            self._selector.modify(viewer.sock, viewer.events, viewer)

    def _close(self, viewer: _Viewer) -> None:
        self._viewers.remove(viewer)
        self._selector.unregister(viewer.sock)
        viewer.sock.close()
        if viewer.watching and not self._watched:
            self._source.measure_levels(False)


def _line(answer: Mapping[str, object]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"
