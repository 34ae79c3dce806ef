"""Network weather: a TCP proxy between the agent and a service, whose hands hold bytes back or break connections."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque


class Weather:
    """Carries bytes to *port* on this machine and back. ``hold_after(n)`` lets *n* more bytes come down, then none;
    ``dial_s`` is how long a new connection takes to reach the other side."""

    dial_s = 0.0

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._allowed: int | None = None
        self._held = threading.Event()
        self._stopping = threading.Event()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._ups: set[socket.socket] = set()
        self._arriving: deque[tuple[float, socket.socket]] = deque()
        self._thread = threading.Thread(target=self._run, name="weather", daemon=True)

    def __enter__(self) -> Weather:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._thread.join(5)
        for sock in [self._listener, *self._pairs, *(sock for _, sock in self._arriving)]:
            sock.close()

    def hold_after(self, count: int) -> None:
        self._held.clear()
        self._allowed = count

    def wait_until_held(self, timeout: float) -> bool:
        """Wait until the last byte that may come down has come."""
        return self._held.wait(timeout)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.005 if self._arriving else 0.05):
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is self._listener:
                        self._arriving.append((time.monotonic() + self.dial_s, self._listener.accept()[0]))
                    else:
                        self._carry(selector, sock)
                while self._arriving and self._arriving[0][0] <= time.monotonic():
                    self._connect(selector, self._arriving.popleft()[1])

    def _connect(self, selector: selectors.BaseSelector, down: socket.socket) -> None:
        up = socket.create_connection(self._target)
        self._pairs.update({down: up, up: down})
        self._ups.add(up)
        for sock in (down, up):
            selector.register(sock, selectors.EVENT_READ)

    def _carry(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        comes_down = sock in self._ups
        limit = 65536
        if comes_down and self._allowed is not None:
            limit = min(limit, self._allowed)
            if not limit:
                self._held.set()
                selector.unregister(sock)
                return
        data = sock.recv(limit)
        if comes_down and self._allowed is not None:
            self._allowed -= len(data)
        other = self._pairs[sock]
        try:
            if data:
                other.sendall(data)
                return
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        selector.unregister(sock)
