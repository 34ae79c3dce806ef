"""A window in the running agent: a unix socket through which one may look and nothing else.

Who connects says ``snapshot`` or ``watch`` and a newline, and is answered with one line of JSON, or with one after the
other: snapshots of the statistics, or ``{"error": ...}``. The socket belongs to the group of the agent's user; nobody
else may look.
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
from typing import Protocol

from ..core.status_snapshot import Levels, StatusSnapshot
from ..runtime.paths import status_path

log = logging.getLogger(__name__)

SNAPSHOT, WATCH = b"snapshot\n", b"watch\n"
SOCKET_MODE = 0o660
MAX_VIEWERS = 4
"""So many may look at the same time."""
REQUEST_TIMEOUT_S, SEND_TIMEOUT_S = 2.0, 3.0
"""How long somebody may take to say what he wants, and to take what he was sent."""
NO_DESCRIPTOR_PAUSE_S = 1.0
"""How long nobody is let in when the process has too much open."""
SNAPSHOT_INTERVAL_S = 0.125
"""Who watches is sent a snapshot so often."""
MAX_ANSWER_BYTES = 1 << 20
"""Bytes of an answer; a few thousand are usual."""


class StatusSource(Protocol):
    """Source of the snapshots. Called by the thread of the status server."""

    def snapshot(self, now: float) -> StatusSnapshot:
        """Return the status of now, without levels."""

    def levels(self) -> Levels | None:
        """Return the levels since the last call."""

    def measure_levels(self, wanted: bool) -> None:
        """Measure the levels from now on, or no longer."""


class StatusServer:
    """``run`` is the work of a thread of its own; ``wake`` may be called from any.

    An agent that cannot have a window says so in the log, and works without.
    """

    def __init__(self, shown: StatusSource, path: Path | None = None) -> None:
        self._shown, self._path = shown, path or status_path()
        self._woken, self._wake = socket.socketpair()

    def wake(self) -> None:
        """Look at the world: somebody wants us to stop."""
        with suppress(OSError):  # it is over already
            self._wake.send(b"\0")

    def run(self, stopping: threading.Event) -> None:
        """Let people look until *stopping* is set and ``wake`` is called."""
        with closing(self._woken), closing(self._wake):
            try:
                with _opened(self._path) as door, selectors.DefaultSelector() as selector:
                    _Viewers(self._shown, door, self._woken, selector, stopping).attend()
            except OSError as error:
                why = error.strerror or error
                log.warning("device-agent status will show nothing: %s cannot be opened: %s", self._path, why)


@contextmanager
def _opened(path: Path) -> Iterator[socket.socket]:
    """Open the socket at *path*, in place of one that a crashed process left. Raises OSError.

    A file beside it is locked for as long as it is open: so a socket without a lock is left over from an agent that has
    ended, and one in use is never taken away. Only this user can open that file, so no other can lock it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as door:
            os.fchmod(door.fileno(), 0o600)  # before anybody can see it
            door.bind(str(path))
            try:
                door.listen(MAX_VIEWERS)
                door.setblocking(False)
                path.chmod(SOCKET_MODE)  # last: who sees it like this can come in
                yield door
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
    """Somebody who looks."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.watching = False
        self.deadline: float | None = now + REQUEST_TIMEOUT_S
        self._asked = b""
        self._rest = b""  # of what is on its way to him
        self._last = False  # and then goodbye

    @property
    def busy(self) -> bool:
        """Whether he has not taken all of what he was sent."""
        return bool(self._rest)

    def hear(self) -> bytes:
        """Return his request when it is complete. Raises OSError where he is gone, or says too much."""
        heard = self.sock.recv(64)
        self._asked += heard
        if not heard or self.watching or self._last:
            raise ConnectionError("the client closed the connection or sent more than one request")
        if not self._asked.endswith(b"\n") and len(self._asked) < 64:
            return b""
        self.deadline = None
        return self._asked

    def tell(self, line: bytes, now: float, *, last: bool = False) -> None:
        """Send *line*, unless he is busy with another. Raises OSError where he is gone, or was told the *last*."""
        if not self._rest:
            self._rest, self._last, self.deadline = line, last, now + SEND_TIMEOUT_S
            self.send()

    def send(self) -> None:
        """Send what he takes of it. Raises OSError like ``tell``."""
        with suppress(BlockingIOError):
            self._rest = self._rest[self.sock.send(self._rest) :]
        if not self._rest:
            self.deadline = None
            if self._last:
                raise ConnectionError("the client has received everything")


class _Viewers:
    """Behind the window: who looks at the moment, and what they are sent."""

    def __init__(
        self,
        shown: StatusSource,
        door: socket.socket,
        woken: socket.socket,
        selector: selectors.BaseSelector,
        stopping: threading.Event,
    ) -> None:
        self._shown, self._door, self._selector, self._stopping = shown, door, selector, stopping
        self._guests: list[_Viewer] = []
        self._next = 0.0  # snapshot for those who watch
        selector.register(door, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)

    def attend(self) -> None:
        """Serve everybody until it is time to stop."""
        try:
            while not self._stopping.is_set():
                ready = self._selector.select(self._patience(time.monotonic()))
                now = time.monotonic()
                for key, events in ready:
                    self._serve(key, events, now)
                self._show(now)
                self._part(now)
        finally:
            for guest in list(self._guests):
                self._leave(guest)

    def _patience(self, now: float) -> float | None:
        """Return how long nothing can be due; None: for ever."""
        due = [guest.deadline for guest in self._guests if guest.deadline is not None]
        if self._watched:
            due.append(self._next)
        return max(0.0, min(due) - now) if due else None

    @property
    def _watched(self) -> bool:
        return any(guest.watching for guest in self._guests)

    def _serve(self, key: selectors.SelectorKey, events: int, now: float) -> None:
        if key.fileobj is self._door:
            self._welcome(now)
        elif isinstance(key.data, _Viewer):
            try:
                if events & selectors.EVENT_WRITE:
                    key.data.send()
                if events & selectors.EVENT_READ:
                    self._answer(key.data, key.data.hear(), now)
            except OSError:
                self._leave(key.data)
            else:
                self._await(key.data)

    def _welcome(self, now: float) -> None:
        try:
            sock, _ = self._door.accept()
        except OSError:  # no descriptor is left for him
            self._stopping.wait(NO_DESCRIPTOR_PAUSE_S)
            return
        sock.setblocking(False)
        guest = _Viewer(sock, now)
        self._guests.append(guest)
        self._selector.register(sock, selectors.EVENT_READ, guest)
        if len(self._guests) > MAX_VIEWERS:
            self._tell(guest, _refusal(f"{MAX_VIEWERS} others are reading the status already"), now, last=True)

    def _answer(self, guest: _Viewer, request: bytes, now: float) -> None:
        if request == WATCH:
            guest.watching = True
            self._shown.measure_levels(True)
            self._next = now
        elif request == SNAPSHOT:
            guest.tell(_line(self._shown.snapshot(now)), now, last=True)
        elif request:
            guest.tell(_refusal("ask for snapshot or watch"), now, last=True)

    def _show(self, now: float) -> None:
        """Show those who watch how things are, when it is time."""
        if self._watched and now >= self._next:
            self._next = now + SNAPSHOT_INTERVAL_S
            snapshot = self._shown.snapshot(now)
            snapshot["levels"] = self._shown.levels()
            line = _line(snapshot)
            for guest in [guest for guest in self._guests if guest.watching]:
                self._tell(guest, line, now)

    def _tell(self, guest: _Viewer, line: bytes, now: float, *, last: bool = False) -> None:
        try:
            guest.tell(line, now, last=last)
        except OSError:
            self._leave(guest)
        else:
            self._await(guest)

    def _await(self, guest: _Viewer) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if guest.busy else 0)
        self._selector.modify(guest.sock, events, guest)

    def _part(self, now: float) -> None:
        """Part from those who take too long."""
        for guest in list(self._guests):
            if guest.deadline is not None and now >= guest.deadline:
                self._leave(guest)

    def _leave(self, guest: _Viewer) -> None:
        self._guests.remove(guest)
        self._selector.unregister(guest.sock)
        guest.sock.close()
        if guest.watching and not self._watched:
            self._shown.measure_levels(False)


def _line(answer: Mapping[str, object]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _refusal(why: str) -> bytes:
    return _line({"error": why})
