"""Check of one service: key, settings, name, route, TLS, handshake, session, and a short turn.

It runs the parts of the agent (``Dialer``, ``Connector``, ``Connection``) with a trace.
"""

from __future__ import annotations

import queue
import ssl
import time
from contextlib import closing
from dataclasses import replace
from datetime import date
from urllib.parse import urlsplit

from ..app.factories import open_services, open_tools
from ..audio.playback_buffer import PlaybackBuffer
from ..config.credentials import key_and_place
from ..config.model import Config
from ..core.errors import ConfigError, LinkLost, LinkRefused
from ..core.events import TextTurn
from ..link.connection import Connection, DeviceSide
from ..link.connector import Connector
from ..link.history import History
from ..link.outbox import Outbox
from ..net.dialer import CONNECT_TIMEOUT_S, Dialer
from ..net.transport import Transport
from ..services.auth import origin
from ..services.base import Service
from ..state.alarms import Alarms
from ..state.store import StateStore
from .connect_trace import ConnectTrace, plain
from .findings import Finding, Mark, Now, Progress, noted
from .session_trace import SessionTrace
from .settings import notes

TEST_QUESTION = "Say: ok"
"""The shortest turn there is: it costs next to nothing."""
TEST_REPLY_TIMEOUT_S = 20.0
STEP_ADVICE = {
    "name": "is there a network (ping -c 1 1.1.1.1), and does it find names (getent hosts example.com)?",
    "route": "does another device in the same network reach it? A firewall may be in between, or service.url wrong",
}
"""Advice for a step whose error has none of its own."""


class ServiceCheck:
    """Steps about service *number* of *config*: 0 is the first choice; the others are greeted, and asked nothing."""

    def __init__(self, config: Config, number: int) -> None:
        self._named = (config.service, *config.fallback)[number]
        self.name = self._named.name
        self._first = config.service
        self._greeted_only = number > 0
        self._config = replace(config, fallback=(self._named,) if number else ())

    def key(self) -> Progress:
        """Find the key; it is never shown."""
        yield Now("key")
        try:
            place = self._key_place()
        except ConfigError as error:
            advice = "" if "sudo" in str(error) else f"store another one: sudo device-agent key {self.name}"
            yield Finding("key", str(error), Mark.FAIL, advice)
            return
        self._services()
        yield Finding("key", f"{place}; the key is never shown")

    def settings(self) -> Progress:
        """Yield what the owner should know about the settings."""
        yield Now("settings")
        yield from notes(self._named, date.today())

    def _services(self) -> list[Service]:
        """Return the first choice and, where that is another one, this one. Raises ConfigError."""
        config = self._config
        tools = open_tools(config, Alarms(StateStore(None)), PlaybackBuffer(8000, capacity=1.0), queue.SimpleQueue())
        return open_services(config, functions=tuple(tool.function for tool in tools))

    def _key_place(self) -> str:
        return key_and_place(self._named, self._first)[1]

    def way(self) -> Progress:
        """Try name, route and TLS of each host that a connection begins with."""
        service = self._services()[-1]
        invitation = service.invitation("")
        urls = [*([invitation.url] if invitation else []), service.url]
        for url in {origin(url): url for url in urls}.values():
            yield from self._way_to(url, service.ca_file)

    def _way_to(self, url: str, ca_file: str) -> Progress:
        host = urlsplit(url).hostname or ""
        yield Now("name", f"looking for {host}")
        trace = ConnectTrace(host)
        with closing(Dialer(f"{self.name} at {host}", ca_file=ca_file, trace=trace)) as dialer:
            try:
                encrypted = isinstance(dialer.connect(url).sock, ssl.SSLSocket)
            except (LinkLost, LinkRefused) as error:
                yield from trace.findings
                yield Finding(trace.step, str(error), Mark.FAIL, STEP_ADVICE.get(trace.step, ""))
            else:
                yield from trace.findings if encrypted else (*trace.findings, plain())

    def session(self) -> Progress:
        """Try whether the service accepts key and settings, and whether the first choice answers."""
        services, trace = self._services(), SessionTrace()
        rate, step = services[0].rate, "handshake"
        with closing(Outbox(limit=2**16)) as outbox:
            playback, history = PlaybackBuffer(rate), History(rate)
            device = DeviceSide(rate, outbox, playback, history, trace.tell, lambda: None, lambda: False)
            connector = Connector(services, device, Transport(), trace.trace)
            try:
                for item in self._converse(connector, len(services) - 1, outbox, trace):
                    step = item.name
                    yield item
            except LinkRefused as error:
                yield Finding(step, str(error), Mark.FAIL, self._refused())
            except LinkLost as error:
                wait = f"it is busy: try again in {error.retry_after:.0f} s" if error.retry_after else ""
                yield Finding(step, str(error), Mark.FAIL, wait)

    def _refused(self) -> str:
        place = f"the key comes from the {self._key_place()}, all else from config.yaml, under service"
        return f"{place}; another key: sudo device-agent key"

    def _converse(self, connector: Connector, number: int, outbox: Outbox, trace: SessionTrace) -> Progress:
        """Hold the shortest conversation. Raises LinkLost and LinkRefused."""
        yield Now("handshake", "connecting")
        began, greeting_s = time.monotonic(), connector.services[number].patience_s
        made = connector.connect(number, connect_s=CONNECT_TIMEOUT_S, greeting_s=greeting_s, now=began)
        with closing(made) as connection:
            ms = 1000 * (trace.connected_at - began)
            text = f"{connection.name} accepted the connection after {ms:.0f} ms"
            yield Finding("handshake", text, figures={"ms": round(ms, 1)})
            yield Now("session", "waiting until it is ready")
            connection.greet(lambda: True)
            yield (greeting := _greeting(time.monotonic() - began, trace, trace.take_complaint()))
            if not self._greeted_only and greeting.mark is not Mark.FAIL:
                yield from self._ask(connection, outbox, trace)
            connection.farewell()

    def _ask(self, connection: Connection, outbox: Outbox, trace: SessionTrace) -> Progress:
        yield Now("turn", f"asking it: {TEST_QUESTION}")
        asked = time.monotonic()
        outbox.put(TextTurn(TEST_QUESTION))
        connection.run(lambda: not trace.ended and time.monotonic() < asked + TEST_REPLY_TIMEOUT_S)
        yield _answer(asked, trace)


def _greeting(took: float, trace: SessionTrace, complaint: str) -> Finding:
    """Return the finding about a session that is ready *took* seconds after the connect began; *complaint* is the error
    that the service sent before."""
    settings = " and ".join(f"{what} {value}" for what, value in trace.settings.items()) or "our settings"
    figures = {"ready_ms": round(1000 * took, 1), "first": trace.first, **trace.settings}
    first = f"its first event was {trace.first}" if trace.first else "it sends nothing first"
    text = f"ready {1000 * took:.0f} ms after the call, with our key, {settings}; {first}"
    if not complaint:
        return Finding("session", text, figures=figures)
    advice = "are model, voice and tools right? See config.yaml, under service"
    if trace.accepted:
        return Finding("session", f"{text}; it complains: {complaint}", Mark.NOTE, advice, figures)
    return Finding("session", f"it does not accept our settings: {complaint}", Mark.FAIL, advice, figures)


def _answer(asked: float, trace: SessionTrace) -> Finding:
    """Return the finding about the answer to a question that was asked at *asked*."""
    trouble = trace.problem or trace.complaint
    if trace.first_sound is None:
        text = f"no sound was received in answer to {TEST_QUESTION!r}" + (f": {trouble}" if trouble else "")
        return Finding("turn", text, Mark.FAIL, "is the account in order, and can the model speak?")
    first_ms = 1000 * (trace.first_sound - asked)
    said = " ".join(trace.said.split())
    text = f"{TEST_QUESTION!r} was answered" + (f" with {said!r}" if said else "")
    text += f": first sound after {first_ms:.0f} ms, as {trace.dialect}"
    figures = {"first_sound_ms": round(first_ms, 1), "dialect": trace.dialect, "ended": trace.ended}
    if not trace.ended:
        trouble = f"it did not end within {TEST_REPLY_TIMEOUT_S:g} s"
    advice = "try again; if that happens every time, ask the operator of the service"
    return noted("turn", f"{text}; but: {trouble}" if trouble else text, advice if trouble else "", figures)
