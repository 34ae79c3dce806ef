"""The other end of the wire: an OpenAI Realtime service that stamps what comes and answers, and does nothing else.

    python -m beside.service [--cert FILE] [--names ga|beta]

A process of its own, so that nothing of it counts for the client. On its way in a message is not parsed, unless it is
too small for sound; it is kept with its time (``time.monotonic``, which all processes of a machine share) and looked at
afterwards. Each ``response.create`` is answered by a reply of noise that is like no other, in pieces, and the moment at
which each piece was handed to the kernel is kept too.

It writes a JSON object a line on standard output: first its port, then what happens (``Happening``). It reads one a
line: ``{"reply": {...}}``, how replies are from now on (``Shape``); ``{"dump": FILE}``, write what came and went since
the last time, and forget it. At the end of its input it ends.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import hashlib
import json
import random
import re
import select
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RATE = 24000
PATIENCE_S = 10.0
"""A client that takes or says nothing of what it began for so long is given up."""
LOOK_S = 1.0
"""How long the thread of a connection waits at most before it looks whether it is still wanted."""
LARGEST = 32 * 1024 * 1024
"""Bytes that a client may send in one message."""
MOST_HEADERS = 64 * 1024

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
SOUND = re.compile(rb'"audio"\s*:\s*"|input_audio_buffer\.append')
"""What the beginning of a message shows if it carries sound, in whatever order its fields are."""
HEAD = 96
PAUSE_S = 0.25
"""Sound after so long without any begins a turn: a client may send its last frame behind the end of the turn before."""


@dataclass(frozen=True)
class Shape:
    """How a reply comes: how long it is, in pieces of how many ms, how much faster than it sounds (0: all at once), and
    up to how many ms late each piece may be. *think_s* after it was asked for."""

    seconds: float = 2.0
    piece_ms: float = 100.0
    pace: float = 0.0
    jitter_ms: float = 0.0
    think_s: float = 0.1

    def schedule(self, chance: random.Random) -> list[float]:
        """Return when each piece is sent, in seconds after the reply was asked for; none overtakes another."""
        at, latest = [], 0.0
        for number in range(round(1000 * self.seconds / self.piece_ms)):
            due = self.think_s + (number * self.piece_ms / 1000 / self.pace if self.pace else 0.0)
            latest = max(latest, due + chance.uniform(0, self.jitter_ms / 1000))
            at.append(latest)
        return at


@dataclass(frozen=True)
class Happening:
    """What the service says while it goes on: *what* is session, heard (the first sound of a turn), committed, reply,
    sent (all of a reply), cancelled or closed."""

    what: str
    at: float
    connection: int
    reply: int = 0


@dataclass(frozen=True)
class Came:
    """A message of a client: when it could be read, and what it is; *audio* is the sound of an append, in base64."""

    at: float
    connection: int
    type: str
    size: int
    audio: str = ""


@dataclass(frozen=True)
class Went:
    """A piece of a reply: when it was handed to the kernel, and when that had it; which samples of the reply it has."""

    at: float
    done: float
    connection: int
    reply: int
    first: int
    count: int


def voice(number: int, seconds: float) -> bytes:
    """Return reply *number*: noise that is never 0, and unlike that of any other reply."""
    wave = np.random.default_rng(number).integers(-8000, 8000, round(seconds * RATE))
    return np.where(wave, wave, 8000).astype(np.int16).tobytes()


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """Return a whole WebSocket frame as a server sends it."""
    if len(payload) < 126:
        return bytes([0x80 | kind, len(payload)]) + payload
    if len(payload) < 65536:
        return bytes([0x80 | kind, 126]) + len(payload).to_bytes(2, "big") + payload
    return bytes([0x80 | kind, 127]) + len(payload).to_bytes(8, "big") + payload


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Take the mask of a client off."""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def header(buffer: bytearray) -> tuple[int, int, int] | None:
    """Return kind, size of the head and size of the payload of the frame that *buffer* begins with; None: not yet.

    Raises ValueError for what no client may send.
    """
    if len(buffer) < 2:
        return None
    kind, size, head = buffer[0], buffer[1] & 0x7F, 2
    if not buffer[1] & 0x80 or kind & 0x70:
        raise ValueError("a client masks what it sends, and compresses nothing that was not agreed on")
    if size >= 126:
        head += 2 if size == 126 else 8
        if len(buffer) < head:
            return None
        size = int.from_bytes(buffer[2:head], "big")
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes")
    return kind, head + 4, size


class Wire:
    """A WebSocket without its library: frames in, as they are, with the time; frames out."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def welcome(self) -> None:
        """Agree to the upgrade. Raises ValueError, OSError."""
        while b"\r\n\r\n" not in self._buffer:
            more = self._socket.recv(65536)
            if not more or len(self._buffer) > MOST_HEADERS:
                raise ValueError("no request")
            self._buffer += more
        request, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        found = re.search(rb"(?im)^sec-websocket-key:\s*(\S+)", request)
        if not found:
            raise ValueError("no WebSocket")
        accept = base64.b64encode(hashlib.sha1(found[1] + GUID).digest()).decode()  # noqa: S324  RFC 6455
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        self.send("\r\n".join([*head, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())
        self._buffer = bytearray(rest)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether there is more that ``select`` does not know of: TLS hands out what it has decrypted."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def read(self) -> bool:
        """Take what has come; return False at the end."""
        more = self._socket.recv(262144)
        self._buffer += more
        return bool(more)

    def frames(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield what is complete of it: kind, mask, masked payload. Raises ValueError."""
        while (found := header(self._buffer)) and len(self._buffer) >= found[1] + found[2]:
            kind, head, size = found
            mask, payload = bytes(self._buffer[head - 4 : head]), bytes(self._buffer[head : head + size])
            del self._buffer[: head + size]
            yield kind, mask, payload

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()


class Talk:
    """One connection, in a thread of its own: what it says, and when which piece of a reply is due."""

    def __init__(self, service: Service, wire: Wire, number: int) -> None:
        self._service, self._wire, self._number = service, wire, number
        self._due: deque[tuple[float, int, int, bytes]] = deque()  # when, first sample, how many, the frame
        self._reply = 0  # the one under way
        self._heard_at: float | None = None  # the last sound of the turn under way
        self._ids = 0

    def run(self) -> None:
        """Serve until the client goes, or the service ends."""
        try:
            self._wire.welcome()
            self._say("session.created", session={"id": f"sess_{self._number}", "object": "realtime.session"})
            while not self._service.leaving.is_set() and self._turn():
                pass
        except (OSError, ValueError) as error:
            print(f"connection {self._number}: {error}", file=sys.stderr)
        finally:
            self._wire.close()
            self._happened("closed")

    def _turn(self) -> bool:
        """Wait for the client or for the next piece, and see to it; return whether to go on."""
        now = time.monotonic()
        wait = min(LOOK_S, max(0.0, self._due[0][0] - now)) if self._due else LOOK_S
        if self._wire.pending or select.select([self._wire], [], [], wait)[0]:
            at = time.monotonic()
            if not self._wire.read():
                return False
            for kind, mask, payload in self._wire.frames():
                if not self._take(at, kind & 0x0F, mask, payload):
                    return False
        self._send_due()
        return True

    # What comes -------------------------------------------------------------------------------------------------------

    def _take(self, at: float, kind: int, mask: bytes, payload: bytes) -> bool:
        if kind == PING:
            self._wire.send(frame(unmasked(payload, mask), PONG))
        elif kind == CLOSE:
            self._wire.send(frame(unmasked(payload, mask)[:2], CLOSE))
            return False
        elif kind in (TEXT, BINARY):
            self._service.keep(at, self._number, mask, payload)
            if SOUND.search(unmasked(payload[:HEAD], mask)):
                self._hear(at)
            else:
                self._answer(at, json.loads(unmasked(payload, mask)))
        return True

    def _hear(self, at: float) -> None:
        if self._heard_at is None or at - self._heard_at > PAUSE_S:
            self._happened("heard", at)
        self._heard_at = at

    def _answer(self, at: float, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "session.update":
                self._say("session.updated", session=event.get("session", {}))
                self._happened("session", at)
            case "input_audio_buffer.commit":
                self._heard_at = None
                self._happened("committed", at)
                item = self._item("user", [{"type": "input_audio", "transcript": None}])
                self._say("input_audio_buffer.committed", item_id=item["id"], previous_item_id=None)
                self._say("conversation.item.added", item=item, previous_item_id=None)
            case "input_audio_buffer.clear":
                self._heard_at = None
                self._say("input_audio_buffer.cleared")
            case "response.create":
                self._begin_reply(at)
            case "response.cancel":
                self._cancel()
            case "conversation.item.create":
                self._say("conversation.item.added", item=event.get("item", {}), previous_item_id=None)
            case "conversation.item.truncate":
                told = {name: event.get(name) for name in ("item_id", "content_index", "audio_end_ms")}
                self._say("conversation.item.truncated", **told)

    # What goes --------------------------------------------------------------------------------------------------------

    def _begin_reply(self, at: float) -> None:
        if self._reply:
            error = {"type": "invalid_request_error", "code": "conversation_already_has_active_response"}
            self._say("error", error={**error, "message": "There is a reply under way.", "param": None})
            return
        self._reply, shape = self._service.next_reply()
        self._happened("reply", at)
        self._say("response.created", response=self._response("in_progress"))
        place = {"response_id": self._name("resp"), "output_index": 0}
        self._say("response.output_item.added", **place, item=self._item("assistant", []))
        place |= {"item_id": self._name("item"), "content_index": 0}
        self._say("response.content_part.added", **place, part={"type": "audio", "transcript": ""})
        pcm, count = voice(self._reply, shape.seconds), round(shape.piece_ms * RATE / 1000)
        for number, due in enumerate(shape.schedule(random.Random(self._reply))):
            piece = pcm[2 * number * count : 2 * (number + 1) * count]
            text = self._event(self._service.delta, **place, delta=binascii.b2a_base64(piece, newline=False).decode())
            self._due.append((at + due, number * count, len(piece) // 2, frame(text)))

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, first, count, data = self._due.popleft()
            at = time.monotonic()
            self._wire.send(data)
            self._service.went(Went(at, time.monotonic(), self._number, self._reply, first, count))
            if not self._due:
                self._happened("sent")
                self._end_reply("completed")
            elif select.select([self._wire], [], [], 0)[0]:
                return  # the client has something to say meanwhile

    def _cancel(self) -> None:
        if not self._reply:
            error = {"type": "invalid_request_error", "code": "response_cancel_not_active", "param": None}
            self._say("error", error={**error, "message": "There is no reply under way."})
            return
        self._due.clear()
        self._happened("cancelled")
        self._end_reply("cancelled")

    def _end_reply(self, status: str) -> None:
        place = {
            "response_id": self._name("resp"),
            "item_id": self._name("item"),
            "output_index": 0,
            "content_index": 0,
        }
        if status == "completed":
            self._say(self._service.delta.replace("delta", "done"), **place)
        self._say("response.done", response=self._response(status))
        self._reply = 0

    def _response(self, status: str) -> dict[str, Any]:
        named = {"object": "realtime.response", "id": self._name("resp"), "status": status, "status_details": None}
        return {**named, "output": [], "usage": None, "conversation_id": f"conv_{self._number}"}

    def _item(self, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        self._ids += 1
        name = self._name("item") if role == "assistant" else f"said_{self._number}_{self._ids}"
        named = {"id": name, "object": "realtime.item", "type": "message", "status": "completed"}
        return {**named, "role": role, "content": content}

    def _name(self, kind: str) -> str:
        return f"{kind}_{self._number}_{self._reply}"

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._ids += 1
        return json.dumps({"type": kind, "event_id": f"event_{self._number}_{self._ids}", **fields}).encode()

    def _say(self, kind: str, **fields: Any) -> None:
        self._wire.send(frame(self._event(kind, **fields)))

    def _happened(self, what: str, at: float | None = None) -> None:
        when = time.monotonic() if at is None else at
        self._service.tell(asdict(Happening(what, when, self._number, self._reply)))


@dataclass
class Service:
    """What the connections share. *delta* is what a piece of a reply is called."""

    delta: str = "response.output_audio.delta"
    shape: Shape = field(default_factory=Shape)
    leaving: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._replies = 0
        self._came: list[tuple[float, int, bytes, bytes]] = []
        self._went: list[Went] = []

    def keep(self, at: float, connection: int, mask: bytes, payload: bytes) -> None:
        self._came.append((at, connection, mask, payload))

    def went(self, piece: Went) -> None:
        self._went.append(piece)

    def next_reply(self) -> tuple[int, Shape]:
        with self._lock:
            self._replies += 1
            return self._replies, self.shape

    def tell(self, words: dict[str, Any]) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            print(json.dumps(words), flush=True)

    def listen(self, server: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Welcome clients until *server* is closed."""
        number = 0
        while not self.leaving.is_set():
            try:
                connected, _ = server.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=self._serve, args=[connected, tls, number], daemon=True).start()

    def _serve(self, connected: socket.socket, tls: ssl.SSLContext | None, number: int) -> None:
        connected.settimeout(PATIENCE_S)
        try:
            secured = tls.wrap_socket(connected, server_side=True) if tls else connected
        except OSError as error:
            print(f"connection {number}: {error}", file=sys.stderr)
            connected.close()
            return
        Talk(self, Wire(secured), number).run()

    def obey(self, order: dict[str, Any]) -> None:
        """Do what the bench wants."""
        if "reply" in order:
            self.shape = Shape(**order["reply"])
        if "dump" in order:
            self._dump(Path(order["dump"]))

    def _dump(self, path: Path) -> None:
        """Write down what came and went, in order, and forget it."""
        came, self._came = self._came, []
        went, self._went = self._went, []
        with path.open("w") as file:
            json.dump({"came": [asdict(parsed(*each)) for each in came], "went": [asdict(each) for each in went]}, file)
        self.tell({"what": "dumped", "at": time.monotonic(), "connection": 0})


def parsed(at: float, connection: int, mask: bytes, payload: bytes) -> Came:
    """Look at last at what a message says."""
    event = json.loads(unmasked(payload, mask))
    return Came(at, connection, str(event.get("type", "")), len(payload), event.get("audio") or "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cert", help="a PEM file with a certificate and its key: wss:// in place of ws://")
    parser.add_argument("--names", choices=["ga", "beta"], default="ga", help="how events are called")
    options = parser.parse_args()
    tls = None
    if options.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.cert)
    service = Service("response.output_audio.delta" if options.names == "ga" else "response.audio.delta")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        threading.Thread(target=service.listen, args=[server, tls], daemon=True).start()
        service.tell({"port": server.getsockname()[1]})
        for line in sys.stdin:
            service.obey(json.loads(line))
        service.leaving.set()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
