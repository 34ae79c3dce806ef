"""A socket whose calls end by a deadline, however slowly the other side speaks."""

from __future__ import annotations

import io
import math
import socket
import ssl
import time

READ_AHEAD_BYTES = 16384
"""Bytes to read ahead."""
TLS_EOF_ERRORS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What TLS raises when the other side has ended the connection: which of the two differs between releases of Python."""
DISCONNECTED_ERRORS = (ConnectionError, *TLS_EOF_ERRORS)
"""What a call raises when the other side has ended the connection. What it said before may be there to read still."""


class DeadlineStream:
    """What websocket-client and http.client want of a socket. All methods belong to one thread.

    A timeout of a socket is for one read, so that a byte now and then keeps us waiting for ever; ``allow`` is for
    everything that follows, until the next ``allow``.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._until = -math.inf
        self._seconds = 0.0
        self._size: float = math.inf
        self._ahead = b""
        self._waits = True  # whether a call on the socket may wait, as far as we know
        self._gone: OSError | None = None  # the other side has, as a write has told

    def allow(self, seconds: float) -> None:
        """All that follows may take so many *seconds* together."""
        self._seconds, self._until = seconds, time.monotonic() + seconds

    def limit(self, size: int | None) -> None:
        """All that follows may bring so many bytes (*size*) together; None: any number."""
        self._size = math.inf if size is None else size

    def _left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it took more than {self._seconds:g} s")
        return left

    def fill(self) -> bool:
        """Return whether there is something to read, without waiting: under TLS a descriptor may be readable and bring
        nothing but the other side's housekeeping. Raises OSError."""
        if not self._ahead:
            self._hurry()
            try:
                self._ahead = self.sock.recv(READ_AHEAD_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
        return True  # also at the end, which ``recv`` will tell

    def pending(self) -> bool:
        """Whether something was read that no select will ever see."""
        return bool(self._ahead) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def recv(self, size: int) -> bytes:
        """Read at most *size* bytes. Raises OSError, TimeoutError among them."""
        if not self._ahead:
            left = self._left()
            if not self.fill():
                self._wait(left)
                self._ahead = self.sock.recv(max(size, READ_AHEAD_BYTES))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        self._size -= len(data)
        if self._size < 0:
            raise ConnectionError("the answer has no end")
        return data

    def send(self, data: bytes) -> int:
        """Write some of *data*; return how much. Raises OSError, TimeoutError among them; once one of GONE, then for
        ever: TLS takes no other write after one that failed, and would fail in its own way."""
        if self._gone is not None:
            raise ConnectionResetError(str(self._gone))
        left = self._left()
        self._hurry()
        try:
            return self._send(data, left)
        except DISCONNECTED_ERRORS as error:
            self._gone = error
            raise

    def _send(self, data: bytes, left: float) -> int:
        try:
            return self.sock.send(data)  # there is room nearly always, and to prepare for a wait costs as much again
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._wait(left)
            return self.sock.send(data)

    def sendall(self, data: bytes) -> None:
        """Write all of *data*. Raises OSError, TimeoutError among them."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest) :]  # type: ignore[arg-type]  # any buffer will do

    def _hurry(self) -> None:
        """Let no call on the socket wait."""
        if self._waits:
            self.sock.settimeout(0)
            self._waits = False

    def _wait(self, seconds: float) -> None:
        """Let a call on the socket wait so long."""
        self.sock.settimeout(seconds)
        self._waits = True

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file to read from, as http.client wants one."""
        return io.BufferedReader(_Reader(self))

    def gettimeout(self) -> float:
        """Return the seconds that are left."""
        return self._left()

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: ``allow`` says how long everything may take."""

    def fileno(self) -> int:
        """The descriptor to select on; ask ``pending`` first."""
        return self.sock.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection, not the socket. Raises OSError.

        Below TLS: ``SSLSocket.shutdown`` takes TLS off, and what is sent behind it would go out in plain text.
        """
        socket.socket.shutdown(self.sock, how)

    def close(self) -> None:
        """Do nothing: whoever dialled frees the socket, and an answer may be read after its connection was closed."""


class _Reader(io.RawIOBase):
    """A line as a file that is read. Closing it leaves the line open."""

    def __init__(self, line: DeadlineStream) -> None:
        super().__init__()
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed wants any buffer
        data = self._line.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)
