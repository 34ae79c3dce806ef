"""Network weather: a TCP proxy between the agent and a service, whose hands hold bytes back or break connections."""

from __future__ import annotations

import queue
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

DROP_S = 0.2
"""How long a byte takes that trickles."""


class Weather:
    """Carries bytes to *port* on this machine and back. ``hold_after(n)`` lets *n* more bytes come down, then none;
    ``dial_s`` is how long a new connection takes to reach the other side. Any thread may use the hands."""

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
        self._black = self._hanging = False
        self._slow = False
        self._next_drop = 0.0
        self._selector = selectors.DefaultSelector()
        self._wishes: queue.SimpleQueue[tuple[Callable[[], object], threading.Event]] = queue.SimpleQueue()
        self._bell, self._rope = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="weather", daemon=True)

    def __enter__(self) -> Weather:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._rope.send(b".")
        self._thread.join(5)
        for sock in [self._listener, *self._pairs, *(sock for _, sock in self._arriving), self._bell, self._rope]:
            sock.close()
        self._selector.close()

    # The hands --------------------------------------------------------------------------------------------------------

    def hold_after(self, count: int) -> None:
        self._held.clear()
        self._allowed = count

    def wait_until_held(self, timeout: float) -> bool:
        """Wait until the last byte that may come down has come."""
        return self._held.wait(timeout)

    def black_hole(self) -> None:
        """Carry no byte either way, and no new connection through, until ``heal``."""
        self._do(lambda: self._set(black=True))

    def hang(self) -> None:
        """Take new connections and carry none of them through, until ``heal``."""
        self._do(lambda: self._set(hanging=True))

    def trickle(self) -> None:
        """Let one byte come down every DROP_S, until ``heal``."""
        self._do(lambda: self._set(slow=True))

    def refuse(self) -> None:
        """Take no new connections, until ``heal``."""
        self._do(self._close_listener)

    def reset(self) -> None:
        """Break all connections, as a machine does that knows nothing of them."""
        self._do(lambda: self._break(rudely=True))

    def drop(self) -> None:
        """End all connections."""
        self._do(lambda: self._break(rudely=False))

    def heal(self) -> None:
        """Be fine again. What was broken stays broken."""
        self._do(self._heal)

    def _do(self, wish: Callable[[], object]) -> None:
        done = threading.Event()
        self._wishes.put((wish, done))
        self._rope.send(b".")
        assert done.wait(5), "the weather does not change"

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.005 if self._arriving or self._slow else 1.0):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._bell:
                    self._bell.recv(64)
                elif sock is self._listener:
                    self._arriving.append((time.monotonic() + self.dial_s, self._listener.accept()[0]))
                elif sock in self._pairs:
                    self._carry(sock)
            while not self._wishes.empty():
                wish, done = self._wishes.get()
                wish()
                done.set()
            while self._arriving and not self._hanging and self._arriving[0][0] <= time.monotonic():
                self._connect(self._arriving.popleft()[1])

    def _set(self, *, black: bool = False, hanging: bool = False, slow: bool = False) -> None:
        self._black, self._hanging, self._slow = black, hanging or black, slow
        if black:
            for sock in self._pairs:
                self._forget(sock)

    def _heal(self) -> None:
        self._set()
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._selector.register(self._listener, selectors.EVENT_READ)
        for sock in list(self._pairs):
            if sock in self._pairs and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end(sock, self._pairs[sock])  # it was given up: what it had said is lost on the way
        for sock in self._pairs:
            with suppress(KeyError):  # it is carried all the time
                self._selector.register(sock, selectors.EVENT_READ)

    def _close_listener(self) -> None:
        self._forget(self._listener)
        self._listener.close()

    def _break(self, *, rudely: bool) -> None:
        for sock in [*self._pairs, *(sock for _, sock in self._arriving)]:
            self._forget(sock)
            if rudely:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self._pairs.clear()
        self._ups.clear()
        self._arriving.clear()

    def _end(self, *pair: socket.socket) -> None:
        for sock in pair:
            self._forget(sock)
            del self._pairs[sock]
            self._ups.discard(sock)
            sock.close()

    def _forget(self, sock: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(sock)

    def _connect(self, down: socket.socket) -> None:
        try:
            up = socket.create_connection(self._target)
        except OSError:
            down.close()
            return
        self._pairs.update({down: up, up: down})
        self._ups.add(up)
        for sock in (down, up):
            self._selector.register(sock, selectors.EVENT_READ)

    def _carry(self, sock: socket.socket) -> None:
        comes_down = sock in self._ups
        limit = 65536
        if comes_down and self._allowed is not None:
            limit = min(limit, self._allowed)
            if not limit:
                self._held.set()
                self._selector.unregister(sock)
                return
        if comes_down and self._slow:
            if time.monotonic() < self._next_drop:
                self._stopping.wait(0.005)
                return
            self._next_drop, limit = time.monotonic() + DROP_S, 1
        try:
            data = sock.recv(limit)
            if comes_down and self._allowed is not None:
                self._allowed -= len(data)
            if data:
                self._pairs[sock].sendall(data)
                return
            self._pairs[sock].shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self._forget(sock)
