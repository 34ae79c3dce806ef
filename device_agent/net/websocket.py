"""WebSocket client over websocket-client: one connection that carries messages."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from contextlib import suppress
from types import SimpleNamespace

import websocket
from websocket import _handshake
from websocket._abnf import frame_buffer

from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.redaction import quoted, secrets
from .deadline_stream import DISCONNECTED_ERRORS, DeadlineStream
from .dialer import CONNECT_TIMEOUT_S, Dialer
from .happy_eyeballs import TCP_USER_TIMEOUT_MS
from .http_errors import rejection
from .models import Endpoint, Message, Trace
from .transport import Transport

MESSAGE_TIMEOUT_S = 10.0
"""For any one message, in either direction."""
CLOSE_TIMEOUT_S = 0.3
"""How long to wait for the service's half of the closing handshake."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset, and discard what was not sent."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_HANDSHAKE_BYTES = 1024 * 1024
"""The answer to a handshake may be the whole of a login page."""

NO_CLOSE_CODE = 1005
"""The close code of a close frame that holds none (RFC 6455, 7.1.5)."""


# No cookies: websocket-client has one jar for the whole process, without a bound, whose cookies go to other hosts, too.
_handshake.CookieJar = SimpleNamespace(add=lambda _set_cookie: None, get=lambda _host: "")


class WebSocket:
    """One WebSocket. All methods belong to one thread, except ``abort``; they raise LinkLost and LinkRefused.

    *timeout_s* covers the connection and its handshake; afterwards each message may take MESSAGE_TIMEOUT_S. *ca_file*,
    *transport* and *trace* are those of ``Dialer``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeout_s: float = CONNECT_TIMEOUT_S,
        ca_file: str = "",
        transport: Transport | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.name = endpoint.name
        self._endpoint, self._timeout_s, self._trace = endpoint, timeout_s, trace
        self._hide = secrets(endpoint.url, endpoint.headers)
        self._dialer = Dialer(endpoint.name, timeout_s, ca_file=ca_file, transport=transport, trace=trace)
        self._stream: DeadlineStream  # from ``open`` on
        self._pinged = 0
        self.ponged = 0
        """Number of the latest answered ping: the peer has received all that was sent before it."""
        self._upgraded = self._closed_by_peer = False
        self._broken = False  # no closing handshake: the protocol was violated, or the peer is gone
        self._ws = _Socket(enable_multithread=False, skip_utf8_validation=True)
        self._ws.frame_buffer = _LimitedFrames(self._ws)

    def open(self) -> None:
        """Connect, and perform the handshake."""
        self._stream = self._dialer.connect(self._endpoint.url)
        self._stream.limit(MAX_HANDSHAKE_BYTES)
        try:
            self._ws.connect(
                self._endpoint.url,
                header=self._endpoint.headers,
                socket=self._stream,
                suppress_origin=True,
                redirect_limit=0,  # the key would go to another server
            )
        except websocket.WebSocketBadStatusException as error:
            # An answer of empty lines has no status.
            status, headers = error.status_code or 0, error.resp_headers or {}
            raise rejection(self.name, status, headers, error.resp_body, self._hide, time.time()) from error
        except websocket.WebSocketTimeoutException as error:
            raise LinkLost(
                f"{self.name} did not answer the handshake within {self._timeout_s:g} s; try again"
            ) from error
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self._refuse_redirect()
            what = f"{self.name} did not answer as a WebSocket does ({quoted(str(error), self._hide)})"
            raise LinkLost(f"{what}; is service.url right, and is there no login page in between?") from error
        self._refuse_redirect()
        if extensions := (self._ws.getheaders() or {}).get("sec-websocket-extensions"):
            text = quoted(extensions, self._hide)
            raise LinkRefused(f"{self.name} wants to use {text}, which we did not offer; switch it off there")
        self._stream.limit(None)
        self._upgraded = True
        if self._trace is not None:
            self._trace("handshake", self.name)

    def _refuse_redirect(self) -> None:
        """Raise for a redirect: not all releases of websocket-client do."""
        status = self._ws.getstatus()
        if status and status != 101:
            headers = self._ws.getheaders() or {}
            raise rejection(self.name, status, headers, None, self._hide, time.time())

    def fileno(self) -> int:
        """The descriptor to select on; ask ``pending`` first."""
        return self._stream.fileno()

    def pending(self) -> bool:
        """Whether data was read already that no selector reports."""
        return self._stream.pending()

    def send(self, message: Message) -> None:
        """Send a text or binary frame, within MESSAGE_TIMEOUT_S. After a failure the stream is corrupt: close.

        Where the service has disconnected nothing is sent and nothing raised: ``receive`` first returns what it had
        sent before, such as its refusal, and then raises.
        """
        if isinstance(message, bytes):
            self._send(encode_frame(websocket.ABNF.OPCODE_BINARY, message))
        else:
            self._send(encode_frame(websocket.ABNF.OPCODE_TEXT, message.encode()))

    def ping(self) -> int:
        """Send a ping, as ``send`` does. Return the number that ``ponged`` has once it was answered."""
        self._pinged += 1
        self._send(encode_frame(websocket.ABNF.OPCODE_PING, self._pinged.to_bytes(4, "big")))
        return self._pinged

    def _send(self, frame: bytes) -> None:
        self._stream.allow(MESSAGE_TIMEOUT_S)
        try:
            self._stream.sendall(frame)
        except DISCONNECTED_ERRORS:
            self._broken = True
        except OSError as error:
            raise self._failed("sending to", error) from error

    def receive(self) -> Message | None:
        """Read one frame, within MESSAGE_TIMEOUT_S once it has begun; None for a control frame, or for no data.

        Pings are answered.
        """
        self._stream.allow(MESSAGE_TIMEOUT_S)
        try:
            if not self._stream.fill():
                return None
            opcode, data = self._ws.recv_data(control_frame=True)
        except (OSError, websocket.WebSocketException) as error:
            raise self._failed("receiving from", error) from error
        match opcode:
            case websocket.ABNF.OPCODE_TEXT:
                return bytes(data).decode(errors="replace")
            case websocket.ABNF.OPCODE_BINARY:
                return bytes(data)
            case websocket.ABNF.OPCODE_PONG if len(data) == 4:
                self.ponged = max(self.ponged, int.from_bytes(data, "big"))
            case websocket.ABNF.OPCODE_CLOSE:
                self._closed_by_peer = True
                raise _closed(self.name, bytes(data), self._hide)
        return None

    def _failed(self, doing: str, error: Exception) -> LinkLost:
        if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
            why = f"sent data was not acknowledged within {TCP_USER_TIMEOUT_MS / 1000:g} s"
        elif isinstance(error, (TimeoutError, websocket.WebSocketTimeoutException)):
            why = f"a message took more than {MESSAGE_TIMEOUT_S:g} s"
        else:
            why = quoted(str(error), self._hide)
        self._broken = True
        return LinkLost(f"the connection broke while {doing} {self.name}: {why}")

    def abort(self) -> None:
        """Break the call that the owner is blocked in, now or later. Safe from any thread, at any time."""
        self._dialer.abort()

    def close(self) -> None:
        """Close in good order if that is possible, and free the socket in any case.

        Where the closing handshake is not answered, data in flight is discarded: the next connection sends all of it
        again, and the service must not get it twice when the network returns.
        """
        if self._upgraded and not self._closed_by_peer and (self._broken or not self._close_answered()):
            with suppress(OSError):
                self._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._ws.shutdown()
        self._dialer.close()

    def _close_answered(self) -> bool:
        self._stream.allow(CLOSE_TIMEOUT_S)
        try:
            self._ws.send_close()
            while self._ws.recv_frame().opcode != websocket.ABNF.OPCODE_CLOSE:
                pass
        except (OSError, websocket.WebSocketException):
            return False
        return True


class _Socket(websocket.WebSocket):  # type: ignore[misc]  # its base is untyped
    """websocket-client answers a ping or a close frame before it returns it. Where the peer has disconnected right
    behind it, the failure of the answer must not hide the frame."""

    def pong(self, payload: bytes = b"") -> None:
        self._answer(websocket.ABNF.OPCODE_PONG, payload)

    def send_close(self, status: int = websocket.STATUS_NORMAL) -> None:
        self._answer(websocket.ABNF.OPCODE_CLOSE, struct.pack("!H", status))

    def _answer(self, opcode: int, payload: bytes) -> None:
        with suppress(*DISCONNECTED_ERRORS):
            self.sock.sendall(encode_frame(opcode, payload))


class _LimitedFrames(frame_buffer):  # type: ignore[misc]  # its base is untyped
    """Refuses a large message before it is read: websocket-client has no limit."""

    def __init__(self, ws: websocket.WebSocket) -> None:
        super().__init__(ws._recv, skip_utf8_validation=True)  # noqa: SLF001  its one way to read
        self._continued = 0

    def recv_length(self) -> None:
        super().recv_length()
        final, opcode = self.header[0], self.header[4]
        if opcode < websocket.ABNF.OPCODE_CLOSE:  # control frames may come between the parts of a message
            total = self.length + (self._continued if opcode == websocket.ABNF.OPCODE_CONT else 0)
            self._continued = 0 if final else total
            if total > MAX_MESSAGE_BYTES:
                text = f"a message of {total} bytes; {MAX_MESSAGE_BYTES} is the limit"
                raise websocket.WebSocketPayloadException(text)


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole message as one masked frame of a client (RFC 6455, 5.2).

    websocket-client takes twice as long for this, fifty times in each second of speech.
    """
    size, key = len(payload), os.urandom(4)
    first, masked = 0x80 | opcode, 0x80
    if size < 126:
        head = struct.pack("!BB4s", first, masked | size, key)
    elif size < 1 << 16:
        head = struct.pack("!BBH4s", first, masked | 126, size, key)
    else:
        head = struct.pack("!BBQ4s", first, masked | 127, size, key)
    mask = (key * (size // 4 + 1))[:size]
    return head + (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


def _closed(name: str, payload: bytes, hide: list[str]) -> LinkClosed:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_CLOSE_CODE
    reason = quoted(payload[2:].decode(errors="replace"), hide)
    text = f"{name} closed the connection with {code}" + (f": {reason}" if reason else "")
    return LinkClosed(text, code=code, reason=reason)
