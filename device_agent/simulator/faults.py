"""What can go wrong on request: one table, by name.

A fault changes the service's manners, the answer to a handshake, or acts on a connection at a moment of its life. Pure
but for one lock: faults are switched by any thread and read by the connections' threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .voice import Drop, Goodbye, Manners, Message, Moment


@dataclass(frozen=True)
class Stall:
    """From now on, or no longer, nothing comes back on this connection, not even a pong."""

    on: bool = True


@dataclass(frozen=True)
class Say:
    """The service says this, whether it makes sense or not."""

    message: Message = field(repr=False)


Act = Drop | Goodbye | Stall | Say


@dataclass(frozen=True)
class Fault:
    """One thing that can go wrong. *says* is for people."""

    says: str
    manners: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0
    """Answer handshakes with this HTTP status."""
    answer: bytes = b""
    """Answer handshakes with this, whatever it is."""
    hang: bool = False
    """Never answer handshakes."""
    moment: Moment | None = None
    acts: tuple[Act, ...] = ()
    """What happens at that moment."""
    first_only: bool = False
    """On the first connection alone."""
    services: tuple[str, ...] = ()
    """The services with which it makes sense; none: all."""


NAMED = ("xai", "openai", "litellm")
"""The services whose events have ids, and names that changed."""

JSON = (*NAMED, "xai-live")
"""The services whose sound is in JSON."""


def _event(kind: str, **fields: Any) -> Say:
    return Say(json.dumps({"type": kind, **fields}))


def _http(status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


FAULTS: dict[str, Fault] = {
    "no-greeting": Fault(
        "says nothing before the first session.update (not xai-live, ultravox)", {"greeting": "none"}, services=NAMED
    ),
    "early-greeting": Fault(
        "greets with conversation.created alone (not xai-live, ultravox)", {"greeting": "conversation"}, services=NAMED
    ),
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
        "accepts handshakes with the sum of another one",
        answer=_http(
            "101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ),
    ),
    "not-http": Fault("answers handshakes in another language", answer=b"220 mail.example ESMTP\r\n\r\n"),
    "hang-handshake": Fault("takes TCP connections and never answers", hang=True),
    "drop-mid-turn": Fault(
        "the first connection dies when one second of a turn has arrived",
        moment="turn-1s",
        acts=(Drop(),),
        first_only=True,
    ),
    "drop-mid-reply": Fault(
        "the first connection dies after a third of a reply", moment="replying", acts=(Drop(),), first_only=True
    ),
    "stall": Fault(
        "the first connection falls silent when one second of a turn has arrived, without dying",
        moment="turn-1s",
        acts=(Stall(),),
        first_only=True,
    ),
    "junk": Fault(
        "says things that are not JSON, or not events, in the middle of each reply",
        moment="replying",
        acts=(Say("{"), Say("plain words"), Say("[]"), Say("null"), Say('{"type": 7}'), Say("{}"), Say("")),
    ),
    "half-base64": Fault(
        "sends a piece of sound whose base64 is cut short in the middle of each reply (not ultravox)",
        moment="replying",
        acts=(_event("response.output_audio.delta", delta="AAECA"),),
        services=JSON,
    ),
    "binary": Fault(
        "sends binary frames that nobody asked for in the middle of each reply (not ultravox)",
        moment="replying",
        acts=(Say(b""), Say(b"\x00\xff\x01"), Say(bytes(960))),
        services=JSON,
    ),
    "huge": Fault(
        "sends a message of 20 MB in the middle of each reply",
        moment="replying",
        acts=(_event("response.output_audio.delta", delta="A" * 20_000_000),),
    ),
    "unknown-events": Fault(
        "sends events that nobody has heard of, in the middle of each reply",
        moment="replying",
        acts=(
            _event("response.hologram.delta", delta="?", response_id=None),
            _event("rate_limits.updated", rate_limits=[{"name": "moons", "remaining": None}]),
            _event("conversation.item.done", item=None),
        ),
    ),
    "no-ids": Fault(
        "leaves ids and indices out of the pieces of a reply (not xai-live, ultravox)", {"ids": False}, services=NAMED
    ),
    "beta-names": Fault(
        "calls the pieces of a reply by their old names (not xai-live, ultravox)", {"beta_names": True}, services=NAMED
    ),
    "slow": Fault("sends a reply no faster than it is spoken", {"pace": 1.0}),
    "silent": Fault("hears everything and never replies", {"silent": True}),
    "close-1001": Fault(
        "says goodbye with 1001 in the middle of each reply",
        moment="replying",
        acts=(Goodbye(1001, "going away"),),
    ),
    "close-4000": Fault(
        "says goodbye with 4000 as soon as the settings arrive",
        moment="configured",
        acts=(Goodbye(4000, "invalid request"),),
    ),
}
"""Name for the command line -> fault."""


class Weather:
    """Which faults are on. Any thread may call anything here."""

    def __init__(self, manners: Manners, service: str) -> None:
        """*service* is the name of the service that the weather is for."""
        self._service = service
        self._lock = threading.Lock()
        self._usual = self._manners = manners
        self._faults: dict[str, Fault] = {}
        self.refused: int | None = None
        """The HTTP status that answers handshakes, whatever the faults say."""
        self.hanging = False
        self.stalling = False

    def switch(self, name: str, on: bool) -> None:
        """Turn the fault called *name* on or off."""
        if name not in FAULTS:
            raise ValueError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
        services = FAULTS[name].services
        if services and self._service not in services:
            raise ValueError(f"the fault {name} makes no sense with {self._service}, only with {', '.join(services)}")
        with self._lock:
            self._faults.pop(name, None)
            if on:
                self._faults[name] = FAULTS[name]
            changes: dict[str, Any] = {}
            for fault in self._faults.values():
                changes |= fault.manners
            self._manners = replace(self._usual, **changes)

    @property
    def faults(self) -> dict[str, Fault]:
        """The faults that are on."""
        with self._lock:
            return dict(self._faults)

    @property
    def manners(self) -> Manners:
        """How the service behaves now."""
        with self._lock:
            return self._manners

    @property
    def status(self) -> int:
        """The HTTP status that answers handshakes; 0: they are welcome."""
        return self.refused or next((fault.status for fault in self.faults.values() if fault.status), 0)

    @property
    def answer(self) -> bytes:
        """What answers handshakes in place of HTTP as it should be; nothing: they are welcome."""
        return next((fault.answer for fault in self.faults.values() if fault.answer), b"")

    @property
    def hangs(self) -> bool:
        """Whether handshakes are left without an answer."""
        return self.hanging or any(fault.hang for fault in self.faults.values())

    def acts(self, moment: Moment, connection: int) -> list[Act]:
        """What happens to a *connection*, counted from 1, at this *moment*."""
        now = [fault for fault in self.faults.values() if fault.moment == moment]
        return [act for fault in now if connection == 1 or not fault.first_only for act in fault.acts]
