"""One open connection that carries messages. The only file that knows websocket-client."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import websocket
from websocket._abnf import frame_buffer

from .errors import AgentError, LinkLost, LinkRefused
from .services import Endpoint, Message

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long to wait for any one step: an address, TLS, the upgrade, room to send, the rest of a message."""
GOODBYE_S = 0.3
"""How long to wait for the service's half of a clean close."""
LARGEST = 16 * 1024 * 1024
"""Bytes. A larger message is not from a service that works."""
BUSY_S = 30.0
"""How long to stay away from a service that says it is busy and not for how long."""

REFUSING = {400, 401, 403, 404}
"""HTTP answers to the handshake that another try will not change: wrong address, key or model."""
REFUSING_CLOSE = {1008, 4000}
"""Close codes of the same meaning: policy (a proxy whose own key is refused), and OpenAI's refusal of the protocol."""
BUSY_CLOSE = 1013


class Wire:
    """A WebSocket. All methods belong to one thread, except ``abort``.

    Everything that goes wrong is a LinkLost or a LinkRefused.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._sock: socket.socket | None = None
        self._aborted = False
        self._ws = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
        self._ws.frame_buffer = _LimitedFrames(self._ws)

    def open(self) -> None:
        """Dial. The socket is ours from the first packet on, so that ``abort`` always has something to break."""
        name = self._endpoint.name
        try:
            self._connect()
            self._ws.connect(
                self._endpoint.url,
                header=self._endpoint.headers,
                socket=self._sock,
                suppress_origin=True,
                redirect_limit=0,  # a redirect would carry the key to somebody else
            )
        except websocket.WebSocketBadStatusException as error:
            raise _rejection(name, error.status_code, error.resp_headers or {}, error.resp_body) from error
        except ssl.SSLCertVerificationError as error:
            text = f"{name}: its certificate is not valid ({error.verify_message}); is this machine's clock right?"
            raise LinkLost(text) from error
        except AgentError:
            raise
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self._refuse_redirect()
            raise LinkLost(f"cannot reach {name}: {error}") from error
        self._refuse_redirect()

    def _refuse_redirect(self) -> None:
        """Some releases of websocket-client raise when they may not follow one, some do not."""
        status = self._ws.getstatus()
        if status and status != 101:
            raise LinkLost(f"{self._endpoint.name} answered {status}, a redirect; is there a login page in between?")

    def _connect(self) -> None:
        url = urlsplit(self._endpoint.url)
        secure = url.scheme == "wss"
        host, port = url.hostname or "", url.port or (443 if secure else 80)
        failure: OSError = ConnectionError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if not secure and not _is_near(str(address[0])):
                raise LinkRefused(f"{self._endpoint.name} is not in a private network: use wss:// instead of ws://")
            try:
                self._take(socket.socket(family, kind, protocol))
                self._own().connect(address)
                self._own().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                break
            except OSError as error:
                failure = error
                self._own().close()
        else:
            raise failure
        if secure:
            context = ssl.create_default_context()
            tls = context.wrap_socket(self._own(), server_hostname=host, do_handshake_on_connect=False)
            self._take(tls)
            tls.do_handshake()

    def _take(self, sock: socket.socket) -> None:
        """Own *sock* before anything can block in it."""
        sock.settimeout(PATIENCE_S)
        self._sock = sock
        if self._aborted:
            raise LinkLost("aborted")

    def _own(self) -> socket.socket:
        assert self._sock is not None  # noqa: S101  _take came first
        return self._sock

    def fileno(self) -> int:
        """The descriptor to select on; ask ``pending`` first."""
        return self._own().fileno()

    def pending(self) -> bool:
        """Whether TLS holds decrypted bytes back, that no select will ever see."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

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
        self._aborted = True
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Say goodbye if that is possible, and free the socket in any case."""
        with suppress(OSError, websocket.WebSocketException, AttributeError):
            self._ws.close(timeout=GOODBYE_S)
        self._ws.shutdown()  # after the service's own goodbye close() leaves the socket open
        if self._sock is not None:
            self._sock.close()


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


def _is_near(address: str) -> bool:
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def _rejection(name: str, status: int, headers: dict[str, str], body: bytes | None) -> LinkLost | LinkRefused:
    text = f"{name} answered {status}{_reason(body)}"
    if status in REFUSING:
        return LinkRefused(text)
    if status == 429:
        wait = headers.get("retry-after", "")
        return LinkLost(text, retry_after=max(1.0, min(float(wait), 3600.0)) if wait.isdigit() else BUSY_S)
    return LinkLost(text)


def _reason(body: bytes | None) -> str:
    """Return what a service says in the body of a rejection: {"error": "..."} or {"error": {"message": "..."}}."""
    try:
        answer: Any = json.loads(body or b"")
        error = answer["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, TypeError, LookupError):
        return ""
    return f": {text[:200]}" if isinstance(text, str) else ""


def _goodbye(name: str, payload: bytes) -> LinkLost | LinkRefused:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    reason = payload[2:].decode(errors="replace")
    text = f"{name} closed the connection with {code}" + (f": {reason}" if reason else "")
    if code in REFUSING_CLOSE:
        return LinkRefused(text)
    return LinkLost(text, retry_after=BUSY_S if code == BUSY_CLOSE else 0.0)
