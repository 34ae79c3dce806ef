"""Server of a simulated service: sockets, threads and the clock, with h11 and wsproto.

One thread accepts; each connection has one thread that owns its socket and its session, and sleeps in ``poll`` until
the client sends, a step of the session is due or another thread wakes it. Nothing blocks: what a client does not read
waits in a buffer, and a session with a full buffer waits too. Other threads only put an act into a connection's queue.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from http.client import responses
from json import dumps
from urllib.parse import parse_qsl, urlsplit

import h11
from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from .contract import (
    Answer,
    Asked,
    ConnectionLog,
    Drop,
    Goodbye,
    Happening,
    Message,
    Service,
    ServiceSession,
    find_route,
)
from .faults import Act, FaultSwitches, Say, Stall

log = logging.getLogger(__name__)

MAX_MESSAGE = 16 << 20
"""Length of a message, as the live services' proxies have it."""
MAX_BODY = 1 << 20
MAX_CONNECTIONS = 64
MAX_LOGS = 100
"""Connections whose logs are kept after their end."""
READ_SIZE = 1 << 16
PAUSE_UNSENT = 1 << 20
"""With so many bytes unsent, a session waits until the client has read some."""
MAX_UNSENT = 64 << 20
"""With so many bytes unsent, the connection is given up."""

SERVER_CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to answer a close, or to read an answer."""
LAST_CLOSE_TIMEOUT_S = 0.3
"""The same when the simulator ends, which should not wait for a client that has gone to sleep."""
STOP_S = 2.0
"""How long the threads may take to end."""


class Stream:
    """A socket that never blocks, and what waits to be written to it. Belongs to one thread, except ``wake``."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.unsent = bytearray()
        """What the client has not read yet."""
        self._tls_writes_first = False
        self.ended = ""
        """Why nothing more can be read or written."""

    def wake(self) -> None:
        """End the wait of ``exchange``, now or next time. Any thread may call it."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it needs no waking
            self._wake_out.send(b"\0")

    def write(self, data: bytes) -> None:
        """Write *data* when the client is ready for it."""
        self.unsent += data

    def exchange(self, timeout: float, *, mute: bool) -> bytes:
        """Wait at most *timeout* seconds for something to do; return what was read. *mute*: write nothing."""
        self._wait(timeout, mute)
        try:
            if not mute:
                self._flush()
            return self._read()
        except OSError as error:
            self.ended = f"connection lost: {error.strerror or error}"
            return b""

    def _wait(self, timeout: float, mute: bool) -> None:
        poll = select.poll()
        write = select.POLLOUT if (self.unsent and not mute) or self._tls_writes_first else 0
        poll.register(self._sock, select.POLLIN | write)
        poll.register(self._wake_in, select.POLLIN)
        held_back = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        poll.poll(0 if held_back else None if timeout == math.inf else max(0.0, timeout) * 1000)
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self.unsent:
                del self.unsent[: self._sock.send(self.unsent[:READ_SIZE])]

    def _read(self) -> bytes:
        self._tls_writes_first = False
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except ssl.SSLWantWriteError:
            self._tls_writes_first = True
            return b""
        if not data:
            self.ended = "client hung up"
        return data

    def reset(self) -> None:
        """Reset the connection."""
        with contextlib.suppress(OSError):
            self._flush()
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ended = "dropped"

    def close(self) -> None:
        """Close everything. ``wake`` may still be called."""
        for each in (self._sock, self._wake_in, self._wake_out):
            each.close()


class Connection(threading.Thread):
    """The thread of one client: first HTTP, then perhaps a WebSocket with a session behind it."""

    def __init__(self, server: Server, sock: socket.socket, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._server = server
        self._stream = Stream(sock)
        self._acts: queue.SimpleQueue[Act] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._websocket: WebSocket | None = None
        self._session: ServiceSession | None = None
        self._parts: list[Message] = []  # of a message that comes in several frames
        self._hangs = self._stalled = False
        self._close_by = math.inf

    def do(self, act: Act) -> None:
        """Let *act* happen to this connection. Any thread may call it."""
        self._acts.put(act)
        self._stream.wake()

    def ask_to_stop(self) -> None:
        """Begin to close; ``join`` waits for the end. Any thread may call it."""
        self._stopping.set()
        self._stream.wake()

    def run(self) -> None:
        try:
            while not self._stream.ended:
                self._step()
        except Exception:
            log.exception("%s crashed", self.name)
            self._stream.ended = "the simulator has a bug"
        finally:
            self._stream.close()
            if self._session:
                record = self._session.log
                record.ended = record.ended or self._stream.ended
                self._session.disconnected(time.monotonic())
                record.open = False
                self._server.report(record.number, f"over: {record.ended}")
            self._server.remove(self)

    def _step(self) -> None:
        """Do what was asked, send what is due, and receive what comes."""
        now = time.monotonic()
        mute = self._stalled or self._server.switches.stalling
        if self._stopping.is_set():
            self._close(1001, "the simulator ends", 0.0 if mute else LAST_CLOSE_TIMEOUT_S)
        with contextlib.suppress(queue.Empty):
            while not self._stream.ended:
                self._do(self._acts.get_nowait())
        self._tick(now)
        self._check_limits(now)
        if self._stream.ended:
            return
        if data := self._stream.exchange(min(self._due(), self._close_by) - now, mute=mute):
            self._take(data)

    def _do(self, act: Act) -> None:
        match act:
            case Drop():
                self._stream.reset()
            case Goodbye(code, reason):
                self._close(code, reason)
            case Stall(on):
                self._stalled = on
            case Say(message):
                self._send_message(message)

    def _tick(self, now: float) -> None:
        """Run the session if a step is due and the client keeps up."""
        if self._session and now >= self._due():
            self._session.behaviour = self._server.switches.behaviour
            self._session.tick(now)
            self._send_outgoing()

    def _due(self) -> float:
        """Return when a step of the session is due; with a full buffer, and without a session, it is never."""
        deadline = self._session.deadline if self._session else None
        return math.inf if deadline is None or len(self._stream.unsent) >= PAUSE_UNSENT else deadline

    def _check_limits(self, now: float) -> None:
        """End the connection that is over or does not read."""
        if self._stream.ended:
            return
        closed = self._websocket is None or self._websocket.state is ConnectionState.CLOSED
        if now >= self._close_by or (self._close_by < math.inf and closed and not self._stream.unsent):
            self._stream.ended = "over"
        elif len(self._stream.unsent) > MAX_UNSENT:
            self._stream.ended = "client does not read"

    def _take(self, data: bytes) -> None:
        if self._hangs or (self._session is None and self._server.switches.hangs):
            self._hangs = True  # for good: this handshake is lost
        elif self._websocket:
            self._take_frames(data)
        else:
            self._take_http(data)

    # HTTP -------------------------------------------------------------------------------------------------------------

    def _take_http(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while self._close_by == math.inf and self._websocket is None:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return
                self._take_event(event)
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._answer(Answer(error.error_status_hint, {"code": "bad_request", "error": "That was not HTTP."}))
            self._close_soon()

    def _take_event(self, event: object) -> None:
        match event:
            case h11.Request():
                self._request, self._body = event, bytearray()
            case h11.Data(data):
                self._body += data
                if len(self._body) > MAX_BODY:
                    self._answer(Answer(413, {"code": "too_large", "error": f"More than {MAX_BODY} bytes."}))
                    self._close_soon()
            case h11.EndOfMessage() if self._request:
                self._take_request(self._request)

    def _take_request(self, request: h11.Request) -> None:
        if strange := self._server.switches.answer:
            self._stream.write(strange)
            self._close_soon()
            return
        try:
            asked = asked_for(request, bytes(self._body), self._server.scheme)
            handshake = H11Handshake(ConnectionType.SERVER)
            if asked.upgrade:
                handshake.initiate_upgrade_connection(list(request.headers), request.target)
        except (RemoteProtocolError, ValueError) as error:  # ValueError: a host or an address that cannot be read
            self._answer(Answer(400, {"code": "bad_request", "error": str(error)[:200]}))
            return
        answer = self._server.answer(asked)
        if isinstance(answer, Answer):
            self._answer(answer)
        else:
            self._begin_session(handshake, answer)

    def _answer(self, answer: Answer) -> None:
        body = b"" if answer.body is None else dumps(answer.body).encode()
        kind = {} if answer.body is None else {"Content-Type": "application/json"}
        headers = {**kind, "Content-Length": str(len(body)), **answer.headers}
        reason = responses.get(answer.status, "Refused").encode()
        response = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self._stream.write(self._http.send(event) or b"")
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._close_soon()

    def _close_soon(self, timeout_s: float = SERVER_CLOSE_TIMEOUT_S) -> None:
        self._close_by = min(self._close_by, time.monotonic() + timeout_s)

    def _begin_session(self, handshake: H11Handshake, session: ServiceSession) -> None:
        # Without compression: the live services have none, and it would cost 15 % of the CPU.
        self._stream.write(handshake.send(AcceptConnection()))
        self._websocket = handshake.connection
        self._session = session
        session.connected(time.monotonic())
        self._send_outgoing()
        early, _ = self._http.trailing_data
        if early and not self._stream.ended:
            self._take_frames(early)

    # The WebSocket ----------------------------------------------------------------------------------------------------

    def _take_frames(self, data: bytes) -> None:
        assert self._websocket is not None, "frames come after the handshake"  # noqa: S101
        if self._websocket.state is ConnectionState.CLOSED:
            return
        self._websocket.receive_data(data)
        for event in self._websocket.events():
            self._take_frame(event)
            if self._stream.ended:
                return

    def _take_frame(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._take_part(event)
            case Ping():
                self._send(event.response())
            case CloseConnection(code, reason):
                self._note_end(f"client said {int(code)} {reason or ''}")
                self._send(event.response())
                self._close_soon()

    def _take_part(self, event: TextMessage | BytesMessage) -> None:
        self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if sum(map(len, self._parts)) > MAX_MESSAGE:
            self._parts.clear()
            self._close(1009, f"more than {MAX_MESSAGE} bytes")
        elif event.message_finished:
            empty: Message = "" if isinstance(event, TextMessage) else b""
            whole = empty.join(self._parts)  # type: ignore[arg-type]
            self._parts.clear()
            self._take_message(whole)

    def _take_message(self, message: Message) -> None:
        if self._session is None or self._close_by < math.inf:
            return
        self._session.behaviour = self._server.switches.behaviour
        self._session.receive(message, time.monotonic())
        self._send_outgoing()

    def _send_outgoing(self) -> None:
        """Send what the session has to send; at the moments between, let the faults act."""
        assert self._session is not None, "a session was called"  # noqa: S101
        for item in self._session.outgoing():
            if self._stream.ended:
                break
            if isinstance(item, Happening):
                self._happened(item, self._session.log)
            elif isinstance(item, (Drop, Goodbye)):
                self._do(item)
            else:
                self._send_message(item)
        with self._server.changed:
            self._server.changed.notify_all()

    def _happened(self, happening: Happening, record: ConnectionLog) -> None:
        if happening.text:
            self._server.report(record.number, happening.text)
        for act in self._server.switches.acts(happening.moment, record.number):
            self._do(act)

    def _send_message(self, message: Message) -> None:
        self._send(TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message))

    def _close(self, code: int, reason: str, timeout_s: float = SERVER_CLOSE_TIMEOUT_S) -> None:
        """Begin the closing handshake, and end when the client has answered, or after a while."""
        self._note_end(f"we said {code} {reason}")
        self._send(CloseConnection(code=code, reason=reason))
        self._close_soon(timeout_s)

    def _note_end(self, how: str) -> None:
        if self._session and not self._session.log.ended:
            self._session.log.ended = how.strip()

    def _send(self, event: Event) -> None:
        """Write a frame, unless the WebSocket is closing."""
        open_states = [ConnectionState.OPEN]
        if isinstance(event, CloseConnection):
            open_states.append(ConnectionState.REMOTE_CLOSING)
        if self._websocket and self._websocket.state in open_states:
            self._stream.write(self._websocket.send(event))


def asked_for(request: h11.Request, body: bytes, scheme: str) -> Asked:
    """Return an HTTP request for the services; raise ValueError where it cannot be read.

    *scheme* is ws or wss: the beginning of a WebSocket's address here.
    """
    target = urlsplit(request.target.decode("latin-1"))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    return Asked(
        method=request.method.decode("latin-1"),
        path=target.path,
        query=dict(parse_qsl(target.query, keep_blank_values=True)),
        headers=headers,
        body=body,
        upgrade="websocket" in headers.get("upgrade", "").lower(),
        at=time.monotonic(),
        origin=f"{scheme}://{headers.get('host', '')}",
    )


class Server:
    """Listens, and owns the threads of all connections. *report* is called with a line for what happens."""

    def __init__(
        self,
        service: Service,
        switches: FaultSwitches,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        report: Callable[[str], None],
    ) -> None:
        self.switches = switches
        self.changed = threading.Condition()
        """Notified whenever a connection received or sent something."""
        self.logs: list[ConnectionLog] = []
        self.scheme = "wss" if tls else "ws"
        """The beginning of a WebSocket's address here."""
        self._service, self._tls, self._report = service, tls, report
        self._count = 0
        self._open: set[Connection] = set()
        self._stopping = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="simulator", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and end all threads, within a few seconds."""
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # it ends the wait for a connection
        self._thread.join(STOP_S)
        self._listener.close()
        for connection in (connections := self.connections()):
            connection.ask_to_stop()
        until = time.monotonic() + STOP_S
        for connection in connections:
            connection.join(max(0.0, until - time.monotonic()))
            if connection.is_alive():
                log.error("a connection of the simulator did not stop")

    def connections(self) -> list[Connection]:
        """Return the connections that are open now, WebSockets or not."""
        with self.changed:
            return list(self._open)

    # For the connections' threads -------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Answer | ServiceSession:
        """Return the answer of the service to *asked*."""
        if status := self.switches.status:
            reason = responses.get(status, "Refused")
            return Answer(status, {"code": reason.lower().replace(" ", "_"), "error": f"{reason}, on request."})
        route = find_route(self._service.routes, asked.method, asked.path)
        if isinstance(route, int):
            return Answer(route, {"code": "not_found", "error": f"No {asked.method} {asked.path} here."})
        with self.changed:
            record = ConnectionLog(number=self._count + 1)
            answer = route(asked, self.switches.behaviour, record)
            if isinstance(answer, ServiceSession):
                self._count += 1
                self.logs.append(record)
                del self.logs[:-MAX_LOGS]
                self.changed.notify_all()
            return answer

    def report(self, number: int, text: str) -> None:
        """Report in one line what happened on connection *number*."""
        self._report(f"[{number}] {text}")

    def remove(self, connection: Connection) -> None:
        """Remove a connection that is over; its thread calls this last."""
        with self.changed:
            self._open.discard(connection)
            self.changed.notify_all()

    # The accepting thread ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        count = 0
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):  # the client has left, or too many files are open: try the next
                sock, _ = self._listener.accept()
                count += 1
                self._take(sock, f"simulator-{count}")

    def _take(self, sock: socket.socket, name: str) -> None:
        if len(self.connections()) >= MAX_CONNECTIONS:
            log.warning("more than %d connections: one is turned away", MAX_CONNECTIONS)
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._tls:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        connection = Connection(self, sock, name)
        with self.changed:
            self._open.add(connection)
        connection.start()
