"""One open connection that carries messages. The only file that knows websocket-client."""

from __future__ import annotations

import ssl
from contextlib import suppress

import websocket
from websocket._abnf import frame_buffer

from .dial import PATIENCE_S, Dial, unreachable
from .errors import AgentError, LinkLost, LinkRefused
from .rejections import BUSY_S, rejection
from .services import Endpoint, Message

GOODBYE_S = 0.3
"""How long to wait for the service's half of a clean close."""
LARGEST = 16 * 1024 * 1024
"""Bytes. A larger message is not from a service that works."""

REFUSING_CLOSE = {1008, 4000}
"""Close codes that another try will not change: policy (a proxy whose own key is refused), and OpenAI's refusal of the
beta protocol."""
BUSY_CLOSE = 1013


class Wire:
    """A WebSocket. All methods belong to one thread, except ``abort``.

    Everything that goes wrong is a LinkLost or a LinkRefused.
    """

    def __init__(self, endpoint: Endpoint, patience: float = PATIENCE_S) -> None:
        self._endpoint = endpoint
        self._dial = Dial(endpoint.name, patience)
        self._ws = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
        self._ws.frame_buffer = _LimitedFrames(self._ws)

    def open(self) -> None:
        """Dial. The socket is ours from the first packet on, so that ``abort`` always has something to break."""
        try:
            self._ws.connect(
                self._endpoint.url,
                header=self._endpoint.headers,
                socket=self._dial.connect(self._endpoint.url),
                suppress_origin=True,
                redirect_limit=0,  # a redirect would carry the key to somebody else
            )
        except AgentError:
            raise
        except websocket.WebSocketBadStatusException as error:
            headers = error.resp_headers or {}
            raise rejection(self._endpoint.name, error.status_code, headers, error.resp_body) from error
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self._refuse_redirect()
            raise unreachable(self._endpoint.name, error) from error
        self._refuse_redirect()

    def _refuse_redirect(self) -> None:
        """Some releases of websocket-client raise when they may not follow one, some do not."""
        status = self._ws.getstatus()
        if status and status != 101:
            raise rejection(self._endpoint.name, status, {}, None)

    def fileno(self) -> int:
        """The descriptor to select on; ask ``pending`` first."""
        return self._dial.sock.fileno()

    def pending(self) -> bool:
        """Whether TLS holds decrypted bytes back, that no select will ever see."""
        return isinstance(self._dial.sock, ssl.SSLSocket) and self._dial.sock.pending() > 0

    def send(self, message: Message) -> None:
        """Send a text or binary frame. After a failure the stream is corrupt: close."""
        try:
            if isinstance(message, bytes):
                self._ws.send_bytes(message)
            else:
                self._ws.send_text(message)
        except (OSError, websocket.WebSocketException) as error:
            raise LinkLost(f"sending to {self._endpoint.name} failed: {error}") from error

    def ping(self) -> None:
        """Ask for a sign of life."""
        try:
            self._ws.ping()
        except (OSError, websocket.WebSocketException) as error:
            raise LinkLost(f"sending to {self._endpoint.name} failed: {error}") from error

    def receive(self) -> Message | None:
        """Read one frame; None for one that only keeps the connection alive (pings are answered in here)."""
        try:
            opcode, data = self._ws.recv_data(control_frame=True)
        except (OSError, websocket.WebSocketException) as error:
            raise LinkLost(f"the connection to {self._endpoint.name} broke: {error}") from error
        match opcode:
            case websocket.ABNF.OPCODE_TEXT:
                return bytes(data).decode(errors="replace")
            case websocket.ABNF.OPCODE_BINARY:
                return bytes(data)
            case websocket.ABNF.OPCODE_CLOSE:
                raise _goodbye(self._endpoint.name, bytes(data))
        return None

    def abort(self) -> None:
        """Break whatever the owner is blocked in, now or later. Safe from any thread, at any time."""
        self._dial.abort()

    def close(self) -> None:
        """Say goodbye if that is possible, and free the socket in any case."""
        with suppress(OSError, websocket.WebSocketException, AttributeError):
            self._ws.close(timeout=GOODBYE_S)
        self._ws.shutdown()  # after the service's own goodbye close() leaves the socket open
        self._dial.close()


class _LimitedFrames(frame_buffer):  # type: ignore[misc]  # its base is untyped
    """websocket-client reads messages of any size; this one refuses a large frame before it reads it."""

    def __init__(self, ws: websocket.WebSocket) -> None:
        super().__init__(ws._recv, skip_utf8_validation=True)  # noqa: SLF001  its one way to read
        self._continued = 0

    def recv_length(self) -> None:
        super().recv_length()
        final, opcode = self.header[0], self.header[4]
        if opcode < websocket.ABNF.OPCODE_CLOSE:  # control frames may come between the parts of a message
            total = self.length + (self._continued if opcode == websocket.ABNF.OPCODE_CONT else 0)
            self._continued = 0 if final else total
            if total > LARGEST:
                raise websocket.WebSocketPayloadException(f"a message of {total} bytes; {LARGEST} is the limit")


def _goodbye(name: str, payload: bytes) -> LinkLost | LinkRefused:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    reason = payload[2:].decode(errors="replace")
    text = f"{name} closed the connection with {code}" + (f": {reason}" if reason else "")
    if code in REFUSING_CLOSE:
        return LinkRefused(text)
    return LinkLost(text, retry_after=BUSY_S if code == BUSY_CLOSE else 0.0)
