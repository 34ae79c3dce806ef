"""The way to a service, step by step: the key, the name, the route, TLS, the session, a tiny turn.

The parts are those of the agent (``Dialer``, ``Connector``, ``Connection``), observed and timed.
"""

from __future__ import annotations

import queue
import time
from contextlib import closing
from dataclasses import replace
from datetime import date
from typing import cast
from urllib.parse import urlsplit

from ..app.factories import open_services, open_tools
from ..audio.playback_buffer import PlaybackBuffer
from ..config.credentials import key_and_place
from ..config.model import Config
from ..core.errors import AgentError, ConfigError, LinkLost, LinkRefused
from ..core.events import TextTurn
from ..link.connection import Connection
from ..link.connector import Connector
from ..link.outbox import Outbox
from ..net.deadline_stream import DeadlineStream
from ..net.dialer import CONNECT_TIMEOUT_S, unreachable
from ..services.auth import origin
from ..services.base import Service
from ..state.alarms import Alarms
from ..state.store import StateStore
from .connect_trace import ConnectTrace
from .findings import Finding, Mark, Now, Progress
from .session_trace import SessionTrace, Told
from .settings import notes

TEST_QUESTION = "Say: ok"
"""The shortest turn there is: it costs next to nothing."""
TEST_REPLY_TIMEOUT_S = 20.0
"""How long its answer may take, from first to last."""
STEP_ADVICE = {
    "name": "is there a network (ping -c 1 1.1.1.1), and does it find names (getent hosts example.com)?",
    "route": "does another device in the same network reach it? A firewall may be in between, or service.url wrong",
}
"""What to do, where the sentence of the agent leaves room for more."""


class ServiceCheck:
    """Steps about service *number* of *config*: 0 is the first choice, the others are greeted and not asked."""

    def __init__(self, config: Config, number: int) -> None:
        self._named = (config.service, *config.fallback)[number]
        self._first = config.service
        self._greeted_only = number > 0
        self._config = replace(config, fallback=(self._named,) if number else ())

    @property
    def name(self) -> str:
        """What it is called, for people."""
        return self._named.name

    def key(self) -> Progress:
        """Is there a key? It is never shown."""
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
        """Is there something about its settings that the owner had better know?"""
        yield Now("settings")
        yield from notes(self._named, date.today())

    def _services(self) -> list[Service]:
        """Return the first choice and, where that is another one, this one. Raises ConfigError."""
        config = self._config
        tools = open_tools(config, Alarms(StateStore(None)), PlaybackBuffer(8000, capacity=1.0), queue.SimpleQueue())
        return open_services(config, functions=tuple(tool.function for tool in tools))

    def _key_place(self) -> str:
        return key_and_place(self._named, self._first)[1]

    # The way there ----------------------------------------------------------------------------------------------------

    def way(self) -> Progress:
        """Name, route and TLS of each place that a connection begins with."""
        service = self._services()[-1]
        invitation = service.invitation("")
        urls = [*([invitation.url] if invitation else []), service.url]
        for url in {origin(url): url for url in urls}.values():
            yield from self._way_to(url, service.ca_file)

    def _way_to(self, url: str, ca_file: str) -> Progress:
        host = urlsplit(url).hostname or ""
        yield Now("name", f"looking for {host}")
        with closing(ConnectTrace(f"{self.name} at {host}", host, ca_file=ca_file)) as dial:
            line: DeadlineStream | None = None
            trouble: Exception | None = None
            try:
                line = dial.connect(url)
            except (OSError, ValueError) as error:  # and so is every AgentError that may come
                trouble = error
            yield from dial.findings(line)
            if trouble is not None:
                said = trouble if isinstance(trouble, AgentError) else unreachable(dial.name, trouble)
                yield Finding(dial.step, str(said), Mark.FAIL, STEP_ADVICE.get(dial.step, ""))

    # The session ------------------------------------------------------------------------------------------------------

    def session(self) -> Progress:
        """Does it take us, and our settings? And does the first choice answer?"""
        services = self._services()
        watched, told = SessionTrace(services[-1]), Told()
        services[-1] = cast("Service", watched)
        step = "handshake"
        with closing(Outbox(limit=2**16)) as outbox:
            board = Connector(
                services, outbox, PlaybackBuffer(services[0].rate), told, confirm=lambda: None, crowded=lambda: False
            )
            try:
                for item in self._converse(board, len(services) - 1, outbox, watched, told):
                    step = item.name
                    yield item
            except LinkRefused as error:
                yield Finding(step, str(error), Mark.FAIL, self._refused())
            except LinkLost as error:
                wait = f"it is busy: try again in {error.retry_after:.0f} s" if error.retry_after else ""
                yield Finding(step, str(error), Mark.FAIL, wait)

    def _refused(self) -> str:
        return (
            f"the key comes from the {self._key_place()}, all else from config.yaml, under service; "
            "another key: sudo device-agent key"
        )

    def _converse(self, board: Connector, number: int, outbox: Outbox, watched: SessionTrace, told: Told) -> Progress:
        """Hold the shortest conversation. Raises LinkLost and LinkRefused."""
        yield Now("handshake", "connecting")
        began = time.monotonic()
        limit = board.services[number].patience_s
        with closing(board.dial(number, patience=CONNECT_TIMEOUT_S, greeting=limit, now=began)) as carrier:
            ms = 1000 * (time.monotonic() - began)
            yield Finding(
                "handshake", f"{board.name} accepted the connection after {ms:.0f} ms", figures={"ms": round(ms, 1)}
            )
            yield Now("session", "waiting until it is ready")
            carrier.greet(lambda: True)
            yield (greeting := _greeting(time.monotonic() - began, watched, told.take_complaint()))
            if not self._greeted_only and greeting.mark is not Mark.FAIL:
                yield from self._ask(carrier, outbox, watched, told)
            carrier.farewell()

    def _ask(self, carrier: Connection, outbox: Outbox, watched: SessionTrace, told: Told) -> Progress:
        yield Now("turn", f"asking it: {TEST_QUESTION}")
        asked = time.monotonic()
        outbox.put(TextTurn(TEST_QUESTION))
        carrier.run(lambda: not told.ended and time.monotonic() < asked + TEST_REPLY_TIMEOUT_S)
        yield _answer(asked, watched, told)


def _greeting(took: float, watched: SessionTrace, complaint: str) -> Finding:
    """Return what to say of a session that is ready *took* seconds after it was dialled; *complaint* is what the
    service did not like before."""
    settings = " and ".join(f"{what} {value}" for what, value in watched.settings.items()) or "our settings"
    figures = {"ready_ms": round(1000 * took, 1), "first": watched.first, **watched.settings}
    first = f"its first event was {watched.first}" if watched.first else "it sends nothing first"
    text = f"ready {1000 * took:.0f} ms after the call, with our key, {settings}; {first}"
    if not complaint:
        return Finding("session", text, figures=figures)
    advice = "are model, voice and tools right? See config.yaml, under service"
    if watched.accepted:
        return Finding("session", f"{text}; it complains: {complaint}", Mark.NOTE, advice, figures)
    return Finding("session", f"it does not accept our settings: {complaint}", Mark.FAIL, advice, figures)


def _answer(asked: float, watched: SessionTrace, told: Told) -> Finding:
    """Return what to say of the answer to a question of the moment *asked*."""
    trouble = told.problem or told.complaint
    if told.first_sound is None:
        text = f"no sound was received in answer to {TEST_QUESTION!r}" + (f": {trouble}" if trouble else "")
        return Finding("turn", text, Mark.FAIL, "is the account in order, and can the model speak?")
    first_ms = 1000 * (told.first_sound - asked)
    said = " ".join(told.said.split())
    text = f"{TEST_QUESTION!r} was answered" + (f" with {said!r}" if said else "")
    text += f": first sound after {first_ms:.0f} ms, as {watched.sound}"
    figures = {"first_sound_ms": round(first_ms, 1), "dialect": watched.sound, "ended": told.ended}
    if not told.ended:
        trouble = f"it did not end within {TEST_REPLY_TIMEOUT_S:g} s"
    if not trouble:
        return Finding("turn", text, figures=figures)
    advice = "try again; if that happens every time, ask the operator of the service"
    return Finding("turn", f"{text}; but: {trouble}", Mark.NOTE, advice, figures)
