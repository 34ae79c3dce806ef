"""A WebSocket server whose every byte a test chooses."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from device_agent.net.models import Endpoint
from device_agent.net.websocket import WebSocket

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Peer:
    """A listening socket whose first caller is answered by *act* in a thread."""

    def __init__(self, act: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._act, self._context = act, context
        self.first = True  # read the request before anything else
        self.port = self._listener.getsockname()[1]
        self.request = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # for the thread that waits for a caller
        self._listener.close()
        self._thread.join(5)

    def wire(self, scheme: str = "ws") -> WebSocket:
        return WebSocket(
            Endpoint("the peer", f"{scheme}://127.0.0.1:{self.port}/v1?secret=1", {"Authorization": "Bearer k"})
        )

    def _run(self) -> None:
        try:
            sock, _ = self._listener.accept()
            with sock if self._context is None else self._context.wrap_socket(sock, server_side=True) as sock:
                while self.first and b"\r\n\r\n" not in self.request:
                    if not (data := sock.recv(4096)):
                        return
                    self.request += data
                self._act(sock)
        except OSError:
            pass

    def upgrade(self, sock: socket.socket) -> None:
        key = self.request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    size = len(payload)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2, "big")
        if size < 65536
        else b"\x7f" + size.to_bytes(8, "big")
    )
    return bytes([opcode | (0x80 if final else 0)]) + length + payload


def trickles(beginning: bytes) -> Callable[[socket.socket], None]:
    """Say *beginning*, then a byte now and then for as long as the client listens."""

    def act(sock: socket.socket) -> None:
        sock.sendall(beginning)
        while not threading.Event().wait(0.02):
            sock.sendall(b"x")

    return act
