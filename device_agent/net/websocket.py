"""One open connection that carries messages. The only file that knows websocket-client."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from contextlib import suppress

import websocket
from websocket import _handshake
from websocket._abnf import frame_buffer

from ..core.errors import AgentError, LinkClosed, LinkLost, LinkRefused
from ..core.redaction import quoted, secrets
from .deadline_stream import DISCONNECTED_ERRORS, DeadlineStream
from .dialer import CONNECT_TIMEOUT_S, Dialer, unreachable
from .happy_eyeballs import TCP_USER_TIMEOUT_MS
from .http_errors import rejection
from .models import Endpoint, Message

CLOSE_TIMEOUT_S = 0.3
"""How long to wait for the service's half of a clean close."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""The option of a socket that ends with a reset, and forgets what was not sent."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Bytes. A larger message is not from a service that works."""
MAX_HANDSHAKE_BYTES = 1024 * 1024
"""Bytes of an answer to a handshake, which may be the whole of a login page."""

NO_CLOSE_CODE = 1005
"""The close code of a close frame that holds none (RFC 6455, 7.1.5)."""


class _NoCookies:
    """A cookie jar that keeps nothing. websocket-client has one jar for the whole process, which has no bound and is
    shown to other companies, too; no service of ours needs one."""

    def add(self, _set_cookie: str | None) -> None:
        """Do nothing."""

    def get(self, _host: str | None) -> str:
        """Return no cookie."""
        return ""


_handshake.CookieJar = _NoCookies()  # there is no option for it


class WebSocket:
    """A WebSocket. All methods belong to one thread, except ``abort``.

    Everything that goes wrong is a LinkLost or a LinkRefused. *patience*, in seconds, is for all of the dial;
    afterwards each message may take PATIENCE_S. *ca_file* names a CA of the owner's, "" for those of the system.
    """

    def __init__(self, endpoint: Endpoint, patience: float = CONNECT_TIMEOUT_S, ca_file: str = "") -> None:
        self._endpoint, self._patience = endpoint, patience
        self._hide = secrets(endpoint.url, endpoint.headers)
        self._dial = Dialer(endpoint.name, patience, ca_file=ca_file)
        self._line: DeadlineStream | None = None
        self._pinged = 0
        self.ponged = 0
        """The latest ping that was answered: the other side has received all that was sent before it."""
        self._upgraded = self._over = False  # we may talk; the service has said goodbye
        self._broken = False  # there is no use in a goodbye: the rules were broken, or the other side is gone
        self._ws = _Socket(enable_multithread=False, skip_utf8_validation=True)
        self._ws.frame_buffer = _LimitedFrames(self._ws)

    def open(self) -> None:
        """Dial. The socket is ours from the first packet on, so that ``abort`` always has something to break."""
        try:
            self._line = self._dial.connect(self._endpoint.url)
        except AgentError:
            raise
        except (OSError, ValueError) as error:
            raise unreachable(self._endpoint.name, error) from error
        self._upgrade(self._line)

    def _upgrade(self, line: DeadlineStream) -> None:
        """Turn the connection into a WebSocket, within what is left of the patience."""
        name = self._endpoint.name
        line.limit(MAX_HANDSHAKE_BYTES)
        try:
            self._ws.connect(
                self._endpoint.url,
                header=self._endpoint.headers,
                socket=line,
                suppress_origin=True,
                redirect_limit=0,  # a redirect would carry the key to somebody else
            )
        except websocket.WebSocketBadStatusException as error:
            # There is none in an answer of empty lines.
            status, headers = error.status_code or 0, error.resp_headers or {}
            raise rejection(name, status, headers, error.resp_body, self._hide, time.time()) from error
        except websocket.WebSocketTimeoutException as error:
            raise LinkLost(f"{name} did not answer the handshake within {self._patience:g} s; try again") from error
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self._refuse_redirect()
            text = quoted(str(error), self._hide)
            what = f"{name} did not answer as a WebSocket does ({text})"
            raise LinkLost(f"{what}; is service.url right, and is there no login page in between?") from error
        self._refuse_redirect()
        if extensions := (self._ws.getheaders() or {}).get("sec-websocket-extensions"):
            text = quoted(extensions, self._hide)
            raise LinkRefused(f"{name} wants to use {text}, which we did not offer; switch it off there")
        line.limit(None)
        self._upgraded = True

    def _refuse_redirect(self) -> None:
        """Some releases of websocket-client raise when they may not follow one, some do not."""
        status = self._ws.getstatus()
        if status and status != 101:
            headers = self._ws.getheaders() or {}
            raise rejection(self._endpoint.name, status, headers, None, self._hide, time.time())

    @property
    def _open(self) -> DeadlineStream:
        """The line. ``open`` came first."""
        assert self._line is not None  # noqa: S101
        return self._line

    def fileno(self) -> int:
        """The descriptor to select on; ask ``pending`` first."""
        return self._open.fileno()

    def pending(self) -> bool:
        """Whether something was read already, that no select will ever see."""
        return self._open.pending()

    def send(self, message: Message) -> None:
        """Send a text or binary frame, within PATIENCE_S. After a failure the stream is corrupt: close.

        To a service that has gone nothing is sent, and no error raised: ``receive`` first returns what it had still
        said, its refusal perhaps, and then tells that it has gone.
        """
        if isinstance(message, bytes):
            self._send(_framed(websocket.ABNF.OPCODE_BINARY, message))
        else:
            self._send(_framed(websocket.ABNF.OPCODE_TEXT, message.encode()))

    def ping(self) -> int:
        """Ask for a sign of life. As ``send``. Return the number that ``ponged`` has once it was answered."""
        self._pinged += 1
        self._send(_framed(websocket.ABNF.OPCODE_PING, self._pinged.to_bytes(4, "big")))
        return self._pinged

    def _send(self, frame: bytes) -> None:
        self._open.allow(CONNECT_TIMEOUT_S)
        try:
            self._open.sendall(frame)
        except DISCONNECTED_ERRORS:
            self._broken = True
        except OSError as error:
            raise self._broke("sending to", error) from error

    def receive(self) -> Message | None:
        """Read one frame; None for one that only keeps the connection alive (pings are answered in here), or where
        there was nothing after all. Who begins a message has PATIENCE_S to end it."""
        self._open.allow(CONNECT_TIMEOUT_S)
        try:
            if not self._open.fill():
                return None
            opcode, data = self._ws.recv_data(control_frame=True)
        except (OSError, websocket.WebSocketException) as error:
            raise self._broke("receiving from", error) from error
        match opcode:
            case websocket.ABNF.OPCODE_TEXT:
                return bytes(data).decode(errors="replace")
            case websocket.ABNF.OPCODE_BINARY:
                return bytes(data)
            case websocket.ABNF.OPCODE_PONG if len(data) == 4:
                self.ponged = max(self.ponged, int.from_bytes(data, "big"))
            case websocket.ABNF.OPCODE_CLOSE:
                self._over = True
                raise _closed(self._endpoint.name, bytes(data), self._hide)
        return None

    def _broke(self, doing: str, error: Exception) -> LinkLost:
        if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
            why = f"sent data was not acknowledged within {TCP_USER_TIMEOUT_MS / 1000:g} s"
        elif isinstance(error, (TimeoutError, websocket.WebSocketTimeoutException)):
            why = f"a message took more than {CONNECT_TIMEOUT_S:g} s"
        else:
            why = quoted(str(error), self._hide)
        self._broken = True
        return LinkLost(f"the connection broke while {doing} {self._endpoint.name}: {why}")

    def abort(self) -> None:
        """Break whatever the owner is blocked in, now or later. Safe from any thread, at any time."""
        self._dial.abort()

    def close(self) -> None:
        """Say goodbye if that is possible, and free the socket in any case.

        Where the goodbye is not answered, what is still under way is taken back: whoever gives a connection up says
        everything again over the next one, and must not be heard twice when the network comes back.
        """
        if self._upgraded and not self._over and (self._broken or not self._goodbye_answered()):
            with suppress(OSError):
                self._open.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._ws.shutdown()
        self._dial.close()

    def _goodbye_answered(self) -> bool:
        self._open.allow(CLOSE_TIMEOUT_S)
        try:
            self._ws.send_close()
            while self._ws.recv_frame().opcode != websocket.ABNF.OPCODE_CLOSE:
                pass
        except (OSError, websocket.WebSocketException):
            return False
        return True


class _Socket(websocket.WebSocket):  # type: ignore[misc]  # its base is untyped
    """websocket-client answers a ping or a close frame before it returns it. Where the other side has gone right behind
    it, the answer fails, and must not take the place of what was said."""

    def pong(self, payload: bytes = b"") -> None:
        self._answer(websocket.ABNF.OPCODE_PONG, payload)

    def send_close(self, status: int = websocket.STATUS_NORMAL) -> None:
        self._answer(websocket.ABNF.OPCODE_CLOSE, struct.pack("!H", status))

    def _answer(self, opcode: int, payload: bytes) -> None:
        with suppress(*DISCONNECTED_ERRORS):
            self.sock.sendall(_framed(opcode, payload))


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
            if total > MAX_MESSAGE_BYTES:
                raise websocket.WebSocketPayloadException(
                    f"a message of {total} bytes; {MAX_MESSAGE_BYTES} is the limit"
                )


def _framed(opcode: int, payload: bytes) -> bytes:
    """Return a whole message as a client sends it (RFC 6455, 5.2), under a mask of its own.

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
