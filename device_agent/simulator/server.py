"""The shell around a simulated service: sockets, threads and the clock. The only file that knows h11 and wsproto.

One thread accepts; each connection has one thread that owns its socket and its voice, and sleeps in ``poll`` until the
client speaks, the voice is due or somebody wakes it. Nothing blocks: what a client does not read waits in a buffer,
and a voice with a full buffer waits too. Everybody else only puts an act into a connection's queue and wakes it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
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

MAX_MESSAGE = 16 << 20  # as the live services' proxies have it
MAX_BODY = 1 << 20
MAX_CONNECTIONS = 64
MAX_REMEMBERED = 100
"""How many connections are remembered after their end."""

READ_AT_ONCE = 1 << 16
CHOKED = 1 << 20
"""With so many bytes unsent, a voice waits until the client has read some."""
DROWNED = 64 << 20
"""With so many bytes unsent, the connection is given up."""

HTTP_PATIENCE_S = 30.0
"""How long a connection may be silent before it is a WebSocket."""
PING_S = 20.0
WEBSOCKET_PATIENCE_S = 65.0
"""How long a WebSocket may be silent although we ping it."""
GOODBYE_S = 2.0
"""How long a client may take to answer a goodbye, or to read an answer."""
LAST_GOODBYE_S = 0.3
"""The same when the simulator ends: who waits for that should not wait for a client that has gone to sleep."""
STOP_S = 2.0
"""How long a thread of ours may take to end."""


class Stream:
    """A socket that never blocks, and what waits to be written to it. Belongs to one thread, except ``wake``."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._unsent = bytearray()
        self._tls_writes_first = False
        self.ended = ""
        """Why nothing more can be read or written."""

    @property
    def unsent(self) -> int:
        """How many bytes the client has not read yet."""
        return len(self._unsent)

    def wake(self) -> None:
        """End the wait of ``turn``, now or next time. Any thread may call it."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it needs no waking
            self._wake_out.send(b"\0")

    def write(self, data: bytes) -> None:
        """Write *data* when the client is ready for it."""
        self._unsent += data

    def turn(self, timeout: float, *, mute: bool) -> bytes:
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
        write = select.POLLOUT if (self._unsent and not mute) or self._tls_writes_first else 0
        poll.register(self._sock, select.POLLIN | write)
        poll.register(self._wake_in, select.POLLIN)
        held_back = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        poll.poll(0 if held_back else max(0.0, timeout) * 1000)
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent[:READ_AT_ONCE])]

    def _read(self) -> bytes:
        self._tls_writes_first = False
        try:
            data = self._sock.recv(READ_AT_ONCE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except ssl.SSLWantWriteError:
            self._tls_writes_first = True
            return b""
        if not data:
            self.ended = "client hung up"
        return data

    def reset(self) -> None:
        """Kill the connection: the client sees a reset."""
        with contextlib.suppress(OSError):
            self._flush()
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ended = "dropped"

    def close(self) -> None:
        """Close everything. ``wake`` may still be called."""
        for each in (self._sock, self._wake_in, self._wake_out):
            each.close()


class Connection:
    """One client: first HTTP, then perhaps a WebSocket with a voice behind it."""

    def __init__(self, server: Server, sock: socket.socket, name: str) -> None:
        self._server = server
        self._stream = Stream(sock)
        self._acts: queue.SimpleQueue[Act] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._websocket: WebSocket | None = None
        self._voice: ServiceSession | None = None
        self._parts: list[Message] = []  # of a message that comes in several frames
        self._size = 0
        self._hung = self._stalled = False
        self._leave_by: float | None = None
        self._heard_at = self._pinged_at = time.monotonic()

    # For everybody ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve the client in a thread of its own."""
        self._thread.start()

    def do(self, act: Act) -> None:
        """Let *act* happen to this connection. Any thread may call it."""
        self._acts.put(act)
        self._stream.wake()

    def wake(self) -> None:
        """Look at the weather again. Any thread may call it."""
        self._stream.wake()

    def ask_to_stop(self) -> None:
        """Say goodbye and end. Any thread may call it; ``join`` waits."""
        self._stopping.set()
        self._stream.wake()

    def join(self, timeout: float) -> bool:
        """Wait for the end; return whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stream.ended:
                self._round()
        except Exception:
            log.exception("%s crashed", self._thread.name)
            self._stream.ended = "the simulator has a bug"
        finally:
            self._stream.close()
            if self._voice:
                self._voice.heard.ended = self._voice.heard.ended or self._stream.ended
                self._voice.hung_up(time.monotonic())
                self._voice.heard.open = False
                self._server.tell(self._voice.heard.number, f"over: {self._voice.heard.ended}")
            self._server.gone(self)

    def _round(self) -> None:
        """Do what was asked, say what is due, and hear what comes."""
        now = time.monotonic()
        mute = self._stalled or self._server.weather.stalling
        if self._stopping.is_set():
            self._goodbye(1001, "the simulator ends", 0.0 if mute else LAST_GOODBYE_S)
        self._obey()
        self._advance(now)
        self._check_limits(now)
        if self._stream.ended:
            return
        data = self._stream.turn(self._timeout(now), mute=mute)
        if data:
            self._heard_at = time.monotonic()
            self._take(data)

    def _obey(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self._stream.ended:
                self._do(self._acts.get_nowait())

    def _do(self, act: Act) -> None:
        match act:
            case Drop():
                self._stream.reset()
            case Goodbye(code, reason):
                self._goodbye(code, reason)
            case Stall(on):
                self._stalled = on
            case Say(message):
                self._say(message)

    def _advance(self, now: float) -> None:
        """Let the voice speak if it is due and the client keeps up."""
        if self._voice is None:
            return
        if self._voice.deadline is not None and now >= self._voice.deadline and self._stream.unsent < CHOKED:
            self._voice.manners = self._server.weather.manners
            self._voice.tick(now)
            self._pass_on()
        if now >= self._pinged_at + PING_S:
            self._pinged_at = now
            self._send(Ping())

    def _timeout(self, now: float) -> float:
        """How long there is nothing to do."""
        due = [self._heard_at + (WEBSOCKET_PATIENCE_S if self._voice else HTTP_PATIENCE_S)]
        if self._voice:
            due.append(self._pinged_at + PING_S)
            if self._voice.deadline is not None and self._stream.unsent < CHOKED:
                due.append(self._voice.deadline)
        if self._leave_by is not None:
            due.append(self._leave_by)
        return min(due) - now

    def _check_limits(self, now: float) -> None:
        """End the connection that is over, silent or does not read."""
        patience = WEBSOCKET_PATIENCE_S if self._voice else HTTP_PATIENCE_S
        if self._stream.ended:
            return
        if self._leave_by is not None and (now >= self._leave_by or self._said_all()):
            self._stream.ended = "over"
        elif now >= self._heard_at + patience:
            self._stream.ended = "client fell silent"
        elif self._stream.unsent > DROWNED:
            self._stream.ended = "client does not read"

    def _said_all(self) -> bool:
        closed = self._websocket is None or self._websocket.state is ConnectionState.CLOSED
        return closed and not self._stream.unsent

    def _take(self, data: bytes) -> None:
        if self._hung or (self._voice is None and self._server.weather.hangs):
            self._hung = True  # for good: this handshake is lost
        elif self._websocket:
            self._take_frames(data)
        else:
            self._take_http(data)

    # HTTP -------------------------------------------------------------------------------------------------------------

    def _take_http(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while self._leave_by is None and self._websocket is None:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return
                self._take_event(event)
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._answer(Answer(error.error_status_hint, {"code": "bad_request", "error": "That was not HTTP."}))
            self._leave_soon()

    def _take_event(self, event: object) -> None:
        match event:
            case h11.Request():
                self._request, self._body = event, bytearray()
            case h11.Data(data):
                self._body += data
                if len(self._body) > MAX_BODY:
                    self._answer(Answer(413, {"code": "too_large", "error": f"More than {MAX_BODY} bytes."}))
                    self._leave_soon()
            case h11.EndOfMessage() if self._request:
                self._take_request(self._request)

    def _take_request(self, request: h11.Request) -> None:
        if strange := self._server.weather.answer:
            self._stream.write(strange)
            self._leave_soon()
            return
        try:
            asked = asked_for(request, bytes(self._body), self._server.scheme)
            handshake = opened(request) if asked.upgrade else None
        except (RemoteProtocolError, ValueError) as error:  # ValueError: a host or an address that cannot be read
            self._answer(Answer(400, {"code": "bad_request", "error": str(error)[:200]}))
            return
        answer = self._server.answer(asked)
        if isinstance(answer, Answer):
            self._answer(answer)
        elif handshake:
            self._welcome(handshake, answer)

    def _answer(self, answer: Answer) -> None:
        body = b"" if answer.body is None else dumps(answer.body).encode()
        kind = {} if answer.body is None else {"Content-Type": "application/json"}
        length = {} if answer.status == HTTPStatus.NO_CONTENT else {"Content-Length": str(len(body))}
        headers = {**kind, **length, **answer.headers}
        reason = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus.__members__.values() else "Refused"
        response = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason.encode())
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self._stream.write(self._http.send(event) or b"")
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._leave_soon()

    def _leave_soon(self, patience: float = GOODBYE_S) -> None:
        leave_by = time.monotonic() + patience
        self._leave_by = leave_by if self._leave_by is None else min(leave_by, self._leave_by)

    def _welcome(self, handshake: H11Handshake, voice: ServiceSession) -> None:
        # Compression is offered by nobody here: the live services do not, and it would cost 15 % of the CPU.
        self._stream.write(handshake.send(AcceptConnection()))
        self._websocket = handshake.connection
        self._voice = voice
        self._pinged_at = time.monotonic()
        voice.greet(time.monotonic())
        self._pass_on()
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
                if self._voice and not self._voice.heard.ended:
                    self._voice.heard.ended = f"client said {int(code)} {reason or ''}".strip()
                self._send(event.response())
                self._leave_soon()

    def _take_part(self, event: TextMessage | BytesMessage) -> None:
        data = event.data if isinstance(event.data, str) else bytes(event.data)
        self._size += len(data)
        if self._size > MAX_MESSAGE:
            self._parts.clear()
            self._goodbye(1009, f"more than {MAX_MESSAGE} bytes")
            return
        self._parts.append(data)
        if event.message_finished:
            parts, self._parts, self._size = self._parts, [], 0
            whole = "".join(map(str, parts)) if isinstance(data, str) else b"".join(map(bytes, parts))  # type: ignore[arg-type]
            self._hear(whole)

    def _hear(self, message: Message) -> None:
        if self._voice is None or self._leave_by is not None:
            return
        self._voice.manners = self._server.weather.manners
        self._voice.receive(message, time.monotonic())
        self._pass_on()

    def _pass_on(self) -> None:
        """Send what the voice says; at the moments between, let the faults act."""
        assert self._voice is not None, "somebody must have spoken"  # noqa: S101
        for item in self._voice.outgoing():
            if self._stream.ended:
                break
            if isinstance(item, Happening):
                self._happened(item, self._voice.heard)
            elif isinstance(item, (Drop, Goodbye)):
                self._do(item)
            else:
                self._say(item)
        self._server.notify()

    def _happened(self, happening: Happening, heard: ConnectionLog) -> None:
        if happening.text:
            self._server.tell(heard.number, happening.text)
        for act in self._server.weather.acts(happening.moment, heard.number):
            self._do(act)

    def _say(self, message: Message) -> None:
        self._send(TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message))

    def _goodbye(self, code: int, reason: str, patience: float = GOODBYE_S) -> None:
        """Say goodbye, and leave when the client has answered, or after a while."""
        if self._voice and not self._voice.heard.ended:
            self._voice.heard.ended = f"we said {code} {reason}".strip()
        self._send(CloseConnection(code=code, reason=reason))
        self._leave_soon(patience)

    def _send(self, event: Event) -> None:
        """Write a frame, unless the conversation is over."""
        open_states = [ConnectionState.OPEN]
        if isinstance(event, CloseConnection):
            open_states.append(ConnectionState.REMOTE_CLOSING)
        if self._websocket and self._websocket.state in open_states:
            self._stream.write(self._websocket.send(event))


def asked_for(request: h11.Request, body: bytes, scheme: str = "ws") -> Asked:
    """Return an HTTP request in the words of the services; raise ValueError where it cannot be read.

    *scheme* is ws or wss: how a WebSocket to us begins.
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


def opened(request: h11.Request) -> H11Handshake:
    """Return the handshake that *request* begins; raise RemoteProtocolError where it is wrong."""
    handshake = H11Handshake(ConnectionType.SERVER)
    handshake.initiate_upgrade_connection(list(request.headers), request.target)
    return handshake


class Server:
    """Listens, and owns the threads of all connections."""

    def __init__(
        self,
        service: Service,
        weather: FaultSwitches,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.weather = weather
        self.news = threading.Condition()
        """Notified whenever a connection heard or said something."""
        self.heard: list[ConnectionLog] = []
        self._service, self._tls, self._say = service, tls, say
        self._count = 0
        self._open: set[Connection] = set()
        self._stopping = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="simulator", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    @property
    def scheme(self) -> str:
        """How a WebSocket to us begins."""
        return "wss" if self._tls else "ws"

    def stop(self) -> None:
        """Say goodbye to everybody and end all threads, within a few seconds."""
        self._stopping.set()
        self._wake_out.send(b"\0")
        self._thread.join(STOP_S)
        for connection in (connections := self.connections()):
            connection.ask_to_stop()
        until = time.monotonic() + STOP_S
        for connection in connections:
            if not connection.join(max(0.0, until - time.monotonic())):
                log.error("a connection of the simulator did not stop")
        for each in (self._listener, self._wake_in, self._wake_out):
            each.close()

    def connections(self) -> list[Connection]:
        """Return the connections that are open now, WebSockets or not."""
        with self.news:
            return list(self._open)

    # For the connections' threads -------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Answer | ServiceSession:
        """Find out who answers *asked*, and let them."""
        if status := self.weather.status:
            reason = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Refused"
            return Answer(status, {"code": reason.lower().replace(" ", "_"), "error": f"{reason}, on request."})
        route = find_route(self._service.routes, asked.method, asked.path)
        if isinstance(route, int):
            return Answer(route, {"code": "not_found", "error": f"No {asked.method} {asked.path} here."})
        with self.news:
            heard = ConnectionLog(number=self._count + 1)
            answer = route(asked, self.weather.manners, heard)
            if isinstance(answer, ServiceSession):
                self._count += 1
                self.heard.append(heard)
                del self.heard[:-MAX_REMEMBERED]
                self.news.notify_all()
            return answer

    def notify(self) -> None:
        """Wake those who wait for news."""
        with self.news:
            self.news.notify_all()

    def tell(self, number: int, text: str) -> None:
        """Say in one line what happened on connection *number*."""
        self._say(f"[{number}] {text}")

    def gone(self, connection: Connection) -> None:
        """A connection is over; it calls this itself, last."""
        with self.news:
            self._open.discard(connection)
            self.news.notify_all()

    # The accepting thread ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_in, select.POLLIN)
        count = 0
        while not self._stopping.is_set():
            poll.poll(60_000)
            with contextlib.suppress(
                OSError
            ):  # nobody there any more, or too many files open: the next may fare better
                sock, _ = self._listener.accept()
                count += 1
                self._take(sock, f"simulator-{count}")

    def _take(self, sock: socket.socket, name: str) -> None:
        if len(self.connections()) >= MAX_CONNECTIONS:
            log.warning("more than %d connections: one is turned away", MAX_CONNECTIONS)
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        connection = Connection(self, sock, name)
        with self.news:
            self._open.add(connection)
        connection.start()
