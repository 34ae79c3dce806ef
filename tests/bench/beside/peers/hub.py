"""The other end of a Wyoming satellite, as small as it can be: it listens, and speaks.

https://github.com/rhasspy/wyoming describes the protocol: a line of JSON, which tells how many bytes of JSON and how
many of sound follow. The satellite is the server of the connection.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Self

RATE = 22050
CHUNK = 2 * RATE // 10
PATIENCE_S = 20.0
MOST_BYTES = 32 << 20
"""How much of what it hears is kept: a quarter of an hour."""


class Hub:
    """A connection to the satellite that listens on *port*. A thread of its own reads."""

    def __init__(self, port: int) -> None:
        self._socket = connected(port)
        self._reader: BinaryIO = self._socket.makefile("rb")
        self._heard = bytearray()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._tell("run-satellite")
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def heard(self, seconds: float = 0.0) -> bytes:
        """Wait until so much was heard; return all of it: s16le at 16 kHz. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._heard) >= 32000 * seconds, PATIENCE_S):
                raise TimeoutError(f"heard {len(self._heard) / 32000:g} s in {PATIENCE_S:g} s")
            return bytes(self._heard)

    def say(self, pcm: bytes) -> None:
        """Let the satellite play *pcm*: s16le at RATE."""
        form = {"rate": RATE, "width": 2, "channels": 1}
        self._tell("audio-start", form)
        for start in range(0, len(pcm), CHUNK):
            self._tell("audio-chunk", form, pcm[start : start + CHUNK])
        self._tell("audio-stop", {})

    def _tell(self, kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        head: dict[str, Any] = {"type": kind, "data": data or {}}
        if payload:
            head["payload_length"] = len(payload)
        self._socket.sendall(json.dumps(head).encode() + b"\n" + payload)

    def _read(self) -> None:
        with suppress(OSError, ValueError):
            for kind, payload in events(self._reader):
                if kind == "audio-chunk" and len(self._heard) < MOST_BYTES:
                    with self._changed:
                        self._heard += payload
                        self._changed.notify_all()
                elif kind == "ping":
                    self._tell("pong")


def events(reader: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yield the type and the payload of each event until the connection ends. Raises ValueError."""
    while line := reader.readline():
        head = json.loads(line)
        reader.read(head.get("data_length") or 0)
        yield head["type"], reader.read(head.get("payload_length") or 0)


def connected(port: int) -> socket.socket:
    """Return a connection to *port*, where the satellite is about to listen. Raises OSError."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            threading.Event().wait(0.02)
