"""Makes connections: to which address, with which key, and with what the other side is to remember."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..audio.playback_buffer import PlaybackBuffer
from ..core.errors import LinkRefused
from ..core.events import Event
from ..net.dialer import prepare
from ..net.http_post import Post
from ..net.models import Endpoint
from ..net.websocket import WebSocket
from ..services.base import Service
from .connection import Connection
from .history import History
from .outbox import Outbox, Resend

log = logging.getLogger(__name__)


class Connector:
    """Connects to services by their number. All methods belong to the link's thread, except ``abort``.

    *tell* is told what happens on a connection, *confirm* is called when one took a ``CancelReply``.
    """

    def __init__(
        self,
        services: Sequence[Service],
        outbox: Outbox,
        playback: PlaybackBuffer,
        tell: Callable[[Event], None],
        confirm: Callable[[], None],
        crowded: Callable[[], bool],
        recall: History | None = None,
    ) -> None:
        """The sound of the device has the rate of the first of *services*. *recall* is what was said before."""
        self.services = services
        """Those it connects to, by their number."""
        self._outbox, self._playback = outbox, playback
        self._tell, self._confirm, self._crowded = tell, confirm, crowded
        self._rate = services[0].rate
        self._resume: dict[int, str] = {}  # by the number of the service
        self._dialling: WebSocket | Post | None = None
        self._aborted = False  # since the last ``forget``
        self.recall = recall.at(self._rate) if recall else History(self._rate)
        self.name = ""
        """Who was dialled last, for people."""

    def followed_by(self, services: Sequence[Service]) -> Connector:
        """Return one for other *services*. They begin conversations of their own, and are told what was said."""
        tools = self._outbox, self._playback, self._tell, self._confirm, self._crowded
        return Connector(services, *tools, self.recall)

    def dial(self, number: int, *, patience: float, greeting: float, now: float) -> Connection:
        """Return a connection to service *number*, open and not greeted yet. Raises LinkLost and LinkRefused.

        *patience* is how many seconds the dial may take, *greeting* how many the service may take to become ready.
        """
        service, resume = self.services[number], self._resume.get(number, "")
        try:
            wire = self._open(service, resume, patience, now)
        except LinkRefused:
            if not (resume or service.invitation(resume)):
                raise
            resume = self._resume[number] = ""  # what was refused may be a conversation, or a token, that is too old
            wire = self._open(service, resume, patience, now)
        return Connection(
            wire,
            service.session(),
            self._outbox,
            self._playback,
            self.recall,
            self._tell,
            self._confirm,
            self._crowded,
            patience=greeting,
            resume=resume,
            rates=(self._rate, service.rate),
            spare=len(self.services) > 1,
        )

    def prepare(self, number: int) -> None:
        """Shorten the first dial to service *number*. Does not wait for anybody."""
        service = self.services[number]
        with suppress(ValueError):  # an address that is none: who dials will say so
            prepare(service.url, service.ca_file)

    def left(self, number: int, carrier: Connection, again: Resend = Resend.NOTHING) -> None:
        """Note how to go on with the conversation that *carrier* had, or does not need any more.

        It is not gone on with where it may hold what will be sent *again*: the service would hear that twice. Then a
        new one begins, and is told what was said before.
        """
        if carrier.ready:
            known = again is Resend.WHOLE or (again is Resend.HALF and self.services[number].takes_halves)
            self._resume[number] = "" if known else carrier.resume

    def abort(self) -> None:
        """Break out of the dial under way or the next one, or break what came of it. Safe from any thread."""
        self._aborted = True
        if self._dialling is not None:
            self._dialling.abort()

    def forget(self) -> None:
        """From now on ``abort`` is about the next dial, not the latest."""
        self._aborted, self._dialling = False, None

    def _open(self, service: Service, resume: str, patience: float, now: float) -> WebSocket:
        invitation = service.invitation(resume, () if resume else self.recall.said(now))
        answer: Any = None
        if invitation is not None:
            post = Post(invitation, patience, service.ca_file)
            self._begin(post)
            answer = post.send()
        endpoint = service.endpoint(answer, resume)
        log.info("dialling %s", endpoint.name)
        self.name = endpoint.name
        return self._opened(endpoint, patience, service.ca_file)

    def _opened(self, endpoint: Endpoint, patience: float, ca_file: str) -> WebSocket:
        wire = WebSocket(endpoint, patience, ca_file)
        self._begin(wire)
        try:
            wire.open()
        except BaseException:
            wire.close()
            raise
        return wire

    def _begin(self, dialling: WebSocket | Post) -> None:
        """Let ``abort`` break *dialling* from now on, and do so if it was called before."""
        self._dialling = dialling
        if self._aborted:
            dialling.abort()
