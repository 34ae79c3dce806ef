"""Socket with one deadline over many calls, in the form that websocket-client and http.client expect."""

from __future__ import annotations

import io
import math
import socket
import ssl
import time

READ_AHEAD_BYTES = 16384
TLS_EOF_ERRORS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What TLS raises when the peer has ended the connection: which of the two depends on the release of Python."""
DISCONNECTED_ERRORS = (ConnectionError, *TLS_EOF_ERRORS)
"""What a call raises when the peer has ended the connection. Data that it sent before may still be unread."""
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class DeadlineStream:
    """A socket whose calls share one deadline. All methods belong to one thread.

    A socket's own timeout covers a single read, so a peer that trickles bytes would never hit it; ``allow`` covers all
    calls until the next ``allow``.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._until = -math.inf
        self._seconds = 0.0
        self._bytes_left: float = math.inf
        self._ahead = b""
        self._blocking = True  # the mode of the socket, as far as it is known
        self._disconnected: OSError | None = None  # what a write has failed with

    def allow(self, seconds: float) -> None:
        """Set the deadline of all following calls to *seconds* from now."""
        self._seconds, self._until = seconds, time.monotonic() + seconds

    def limit(self, size: int | None) -> None:
        """Let all following reads return *size* bytes in sum at most; None: any number."""
        self._bytes_left = math.inf if size is None else size

    def gettimeout(self) -> float:
        """Return the seconds until the deadline. Raises TimeoutError when it has passed."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it took more than {self._seconds:g} s")
        return left

    def fill(self) -> bool:
        """Return whether ``recv`` would return at once. Raises OSError.

        Under TLS a descriptor may be readable without any data: for session tickets and key updates.
        """
        if not self._ahead:
            self._set_nonblocking()
            try:
                self._ahead = self.sock.recv(READ_AHEAD_BYTES)
            except WOULD_BLOCK:
                return False
        return True  # also at the end of the stream, which ``recv`` tells

    def pending(self) -> bool:
        """Whether data was read already that no selector reports."""
        return bool(self._ahead) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def recv(self, size: int) -> bytes:
        """Read at most *size* bytes. Raises OSError, TimeoutError at the deadline."""
        if not self._ahead:
            left = self.gettimeout()
            if not self.fill():
                self._set_timeout(left)
                self._ahead = self.sock.recv(max(size, READ_AHEAD_BYTES))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise ConnectionError("the answer has no end")
        return data

    def send(self, data: bytes) -> int:
        """Write some of *data*; return how many bytes. Raises OSError, TimeoutError at the deadline.

        After one of DISCONNECTED_ERRORS it raises ConnectionResetError for ever: what TLS raises for a write after a
        failed one is another error.
        """
        if self._disconnected is not None:
            raise ConnectionResetError(str(self._disconnected))
        left = self.gettimeout()
        self._set_nonblocking()
        try:
            return self._send(data, left)
        except DISCONNECTED_ERRORS as error:
            self._disconnected = error
            raise

    def _send(self, data: bytes, left: float) -> int:
        try:
            return self.sock.send(data)  # there is room nearly always, and to prepare for a wait costs as much again
        except WOULD_BLOCK:
            self._set_timeout(left)
            return self.sock.send(data)

    def sendall(self, data: bytes) -> None:
        """Write all of *data*. Raises OSError, TimeoutError at the deadline."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest) :]  # type: ignore[arg-type]  # any buffer will do

    def _set_nonblocking(self) -> None:
        if self._blocking:
            self.sock.settimeout(0)
            self._blocking = False

    def _set_timeout(self, seconds: float) -> None:
        self.sock.settimeout(seconds)
        self._blocking = True

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file to read from; closing it leaves the stream open."""
        return io.BufferedReader(_Reader(self))

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: ``allow`` sets the deadline."""

    def fileno(self) -> int:
        """The descriptor to select on; ask ``pending`` first."""
        return self.sock.fileno()

    def shutdown(self, how: int) -> None:
        """Shut the TCP connection down. Raises OSError.

        Below TLS: ``SSLSocket.shutdown`` would remove TLS, and later writes would go out in plain text.
        """
        socket.socket.shutdown(self.sock, how)

    def close(self) -> None:
        """Do nothing: the ``Dialer`` frees the socket, and http.client reads an answer after it has closed."""


class _Reader(io.RawIOBase):
    def __init__(self, stream: DeadlineStream) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed wants any buffer
        data = self._stream.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)
