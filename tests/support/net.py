"""A resolver, and a TLS server, under the control of a test."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from contextlib import suppress

from device_agent.net.resolver import Address

PATIENCE_S = 20.0


class Directory:
    """A resolver of names: answers what the test puts into it, and hangs where there is nothing."""

    def __init__(self, *answers: list[Address] | OSError) -> None:
        self.answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
        self.asked = threading.Semaphore(0)
        self.waiting = 0
        self._lock = threading.Lock()
        self.say(*answers)

    def say(self, *answers: list[Address] | OSError) -> None:
        for answer in answers:
            self.answers.put(answer)

    def ask(self, _host: str, _port: int) -> list[Address]:
        with self._lock:
            self.waiting += 1
        self.asked.release()
        try:
            answer = self.answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            answer = TimeoutError("the test is over")
        with self._lock:
            self.waiting -= 1
        if isinstance(answer, OSError):
            raise answer
        return answer


class Door:
    """Says a byte to each caller, over TLS; the next caller gets the next of *contexts*, the last is for the rest."""

    def __init__(self, *contexts: ssl.SSLContext, host: str = "127.0.0.1", port: int = 0) -> None:
        self._contexts = list(contexts)
        self._listener = socket.create_server((host, port))
        self.port = self._listener.getsockname()[1]
        self.calls = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Door:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE_S)
            self.calls += 1
            context = self._contexts.pop(0) if len(self._contexts) > 1 else self._contexts[0]
            with suppress(OSError), sock, context.wrap_socket(sock, server_side=True) as tls:
                tls.sendall(b"x")
                tls.recv(1)
