"""Faults on request: one table, by name, and which of them are on.

A fault changes the behaviour of the service or the answer to a handshake, or acts on a connection at a moment of its
life. Pure but for one lock: any thread switches faults, and the threads of the connections read them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .contract import Behaviour, Drop, Goodbye, Message, Moment
from .engine.behaviour import BY_OPENAI, FAMILY, JSON, VARIANTS, Variant


@dataclass(frozen=True)
class Stall:
    """Whether from now on nothing is sent on this connection, not even a pong."""

    on: bool = True


@dataclass(frozen=True)
class Say:
    """Message that the service sends, whether it makes sense or not."""

    message: Message = field(repr=False)


Act = Drop | Goodbye | Stall | Say


@dataclass(frozen=True)
class Fault(Variant):
    """One fault, with what happens to handshakes or at a moment of a connection."""

    status: int = 0  # HTTP status that answers handshakes
    answer: bytes = b""  # what answers handshakes, whatever it is
    hang: bool = False  # handshakes are not answered
    moment: Moment | None = None
    acts: tuple[Act, ...] = ()  # what happens at that moment
    first_only: bool = False  # on the first connection alone


def _at(moment: Moment, says: str, *acts: Act, services: tuple[str, ...] = (), first_only: bool = False) -> Fault:
    """Return a fault in which *acts* happen at a moment of a connection."""
    return Fault(says, services=services, moment=moment, acts=acts, first_only=first_only)


def _event(kind: str, **fields: Any) -> Say:
    return Say(json.dumps({"type": kind, **fields}))


def _http(status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


FAULTS: dict[str, Fault] = {
    "refuse-401": Fault("answers handshakes with 401 Unauthorized", status=401),
    "refuse-429": Fault("answers handshakes with 429 Too Many Requests", status=429),
    "refuse-503": Fault("answers handshakes with 503 Service Unavailable", status=503),
    "portal-200": Fault(
        "answers handshakes with a login page, as the Wi-Fi of a hotel does",
        answer=_http("200 OK", "Content-Type: text/html", body="<html><h1>Room number?</h1></html>"),
    ),
    "portal-302": Fault(
        "answers handshakes with a redirect to a login page",
        answer=_http("302 Found", "Location: http://login.example/"),
    ),
    "portal-511": Fault("answers handshakes with 511 Network Authentication Required", status=511),
    "wrong-accept": Fault(
        "accepts handshakes with the checksum of another one",
        answer=_http(
            "101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ),
    ),
    "not-http": Fault("answers handshakes with something that is not HTTP", answer=b"220 mail.example ESMTP\r\n\r\n"),
    "hang-handshake": Fault("takes TCP connections and never answers", hang=True),
    "drop-mid-turn": _at(
        "turn-1s", "the first connection breaks when one second of a turn has arrived", Drop(), first_only=True
    ),
    "drop-mid-reply": _at("replying", "the first connection breaks after a third of a reply", Drop(), first_only=True),
    "stall": _at(
        "turn-1s",
        "the first connection falls silent when one second of a turn has arrived, and stays open",
        Stall(),
        first_only=True,
    ),
    "junk": _at(
        "replying",
        "sends messages that are not JSON, or not events, in the middle of each reply",
        *map(Say, ("{", "plain words", "[]", "null", '{"type": 7}', "{}", "")),
    ),
    "half-base64": _at(
        "replying",
        "sends a piece of sound whose base64 is cut short in the middle of each reply",
        _event("response.output_audio.delta", delta="AAECA"),
        services=JSON,
    ),
    "binary": _at(
        "replying",
        "sends unexpected binary frames in the middle of each reply",
        *map(Say, (b"", b"\x00\xff\x01", bytes(960))),
        services=JSON,
    ),
    "huge": _at(
        "replying",
        "sends a message of 20 MB in the middle of each reply",
        _event("response.output_audio.delta", delta="A" * 20_000_000),
    ),
    "unknown-events": _at(
        "replying",
        "sends events of unknown types in the middle of each reply",
        _event("response.hologram.delta", delta="?", response_id=None),
        _event("rate_limits.updated", rate_limits=[{"name": "moons", "remaining": None}]),
        _event("conversation.item.done", item=None),
    ),
    "slow": Fault("sends a reply no faster than it is spoken", {"pace": 1.0}),
    "silent": Fault("receives everything and never replies", {"silent": True}),
    "rate-limited": Fault(
        "fails the first reply of each connection with rate_limit_exceeded, try again in 166ms",
        {"fails": "rate_limit_exceeded"},
        FAMILY,
    ),
    "server-error": Fault(
        "fails the first reply of each connection with server_error", {"fails": "server_error"}, FAMILY
    ),
    "no-quota": Fault("fails every reply with insufficient_quota", {"fails": "insufficient_quota"}, FAMILY),
    "cut-by-filter": Fault(
        "ends each reply after a third: incomplete, content_filter", {"cut_by": "content_filter"}, BY_OPENAI
    ),
    "cut-by-length": Fault(
        "ends each reply after a third: incomplete, max_output_tokens", {"cut_by": "max_output_tokens"}, BY_OPENAI
    ),
    "text-only": Fault("answers with text and no sound", {"reply": "text"}, BY_OPENAI),
    "empty-reply": Fault("completes each reply without any content", {"reply": "empty"}, FAMILY),
    "refused-settings": Fault("refuses every session.update", {"refuses": "settings"}, FAMILY),
    "refused-transcription": Fault(
        "refuses a session.update that names a model for transcripts", {"refuses": "transcription"}, FAMILY
    ),
    "no-transcripts": Fault("fails to transcribe what the user says", {"transcribes": False}, BY_OPENAI),
    "slow-session": Fault("sends and reads nothing for 20 s after the handshake", {"greet_s": 20.0}, FAMILY),
    "slow-reply": Fault("takes 20 s to announce a reply", {"announce_s": 20.0}, FAMILY),
    "late-voice": Fault("sends the words of a reply, and 37 s later its sound", {"voice_s": 37.0}, FAMILY),
    "expires-soon": Fault("says in session.created that the session ends in 0.3 s", {"expires_s": 0.3}, BY_OPENAI),
    "drop-after-call": Fault(
        "calls a tool in each spoken turn; the first connection breaks just after the call",
        {"tool": "*"},
        FAMILY,
        moment="called",
        acts=(Drop(),),
        first_only=True,
    ),
    "close-1008-idle": _at(
        "idle", "closes the connection with 1008 when nothing was said for 3 s", Goodbye(1008, "idle"), services=FAMILY
    ),
    "close-1008-mid-turn": _at(
        "turn-1s",
        "the first connection loses the service behind it in the middle of a turn: it sends an error and closes (1008)",
        _event(
            "error",
            error={
                "type": "server_error",
                "code": "realtime_upstream_closed",
                "message": "Upstream realtime connection closed with code 1008",
                "param": None,
            },
        ),
        Goodbye(1008, "upstream closed"),
        services=FAMILY,
        first_only=True,
    ),
    "close-1001": _at(
        "replying", "closes the connection with 1001 in the middle of each reply", Goodbye(1001, "going away")
    ),
    "close-4000": _at(
        "configured", "closes the connection with 4000 as soon as the settings arrive", Goodbye(4000, "invalid request")
    ),
    "close-4000-reset": _at(
        "configured",
        "closes the connection with 4000 as soon as the settings arrive, and resets the connection",
        Goodbye(4000, "invalid request"),
        Drop(),
    ),
}
"""Name for the command line -> fault."""


class FaultSwitches:
    """Which faults are on. Any thread may call anything here."""

    def __init__(self, behaviour: Behaviour, service: str, variants: Iterable[str] = ()) -> None:
        """*service* is the name of the simulated service, *variants* are names of ``VARIANTS``. Raises ValueError."""
        self._service = service
        self._lock = threading.Lock()
        self._usual = self.behaviour = behaviour.changed([self._find(name, VARIANTS).changes for name in variants])
        self.on: Mapping[str, Variant] = {}
        """What is switched on, by name."""
        self.refused: int | None = None
        """The HTTP status that answers handshakes, whatever the faults say."""
        self.stalling = False

    def switch(self, name: str, on: bool) -> None:
        """Turn the fault or variant called *name* on or off. Raises ValueError."""
        found = self._find(name, {**VARIANTS, **FAULTS})
        with self._lock:
            others = {other: entry for other, entry in self.on.items() if other != name}
            self.on = {**others, name: found} if on else others
            self.behaviour = self._usual.changed([each.changes for each in self.on.values()])

    def _find(self, name: str, table: Mapping[str, Variant]) -> Variant:
        if name not in table:
            raise ValueError(f"{name!r} is unknown; choose from: {', '.join(table)}")
        services = table[name].services
        if services and self._service not in services:
            raise ValueError(f"{name} does not exist for {self._service}, only for {', '.join(services)}")
        return table[name]

    @property
    def _faults(self) -> list[Fault]:
        return [each for each in self.on.values() if isinstance(each, Fault)]

    @property
    def status(self) -> int:
        """The HTTP status that answers handshakes; 0: they are accepted."""
        return self.refused or next((fault.status for fault in self._faults if fault.status), 0)

    @property
    def answer(self) -> bytes:
        """What answers handshakes in place of proper HTTP; nothing: they are accepted."""
        return next((fault.answer for fault in self._faults if fault.answer), b"")

    @property
    def hangs(self) -> bool:
        """Whether handshakes are left without an answer; those stay lost."""
        return any(fault.hang for fault in self._faults)

    def acts(self, moment: Moment, connection: int) -> list[Act]:
        """Return what happens to a *connection*, counted from 1, at this *moment*."""
        due = [fault for fault in self._faults if fault.moment == moment]
        return [act for fault in due if connection == 1 or not fault.first_only for act in fault.acts]
