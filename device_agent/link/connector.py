"""Connector: makes a connection to one of several services, with its invitation, key and resumption."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..core.errors import LinkRefused
from ..net.http_post import Post
from ..net.models import Trace
from ..net.transport import Transport
from ..net.websocket import WebSocket
from ..services.base import Service
from .connection import Connection, DeviceSide
from .outbox import Resend

log = logging.getLogger(__name__)


class Connector:
    """Connects to *services* by their number. All methods belong to the link's thread, except ``abort``.

    *trace* observes the WebSockets and their messages, not the request for an invitation.
    """

    def __init__(
        self, services: Sequence[Service], device: DeviceSide, transport: Transport, trace: Trace | None = None
    ) -> None:
        self.services = services
        self._device, self._transport, self._trace = device, transport, trace
        self._resume: dict[int, str] = {}  # by the number of the service
        self._connecting: WebSocket | Post | None = None
        self._aborted = False  # since the last ``reset``

    def followed_by(self, services: Sequence[Service]) -> Connector:
        """Return one for other *services*, which begin conversations of their own."""
        return Connector(services, self._device, self._transport, self._trace)

    def connect(self, number: int, *, connect_s: float, greeting_s: float, now: float) -> Connection:
        """Return a connection to service *number*, open and not greeted yet. Raises LinkLost and LinkRefused.

        Connecting may take *connect_s* seconds, and then the service *greeting_s* to become ready.
        """
        service, resume = self.services[number], self._resume.get(number, "")
        try:
            websocket = self._open(service, resume, connect_s, now)
        except LinkRefused:
            if not (resume or service.invitation(resume)):
                raise
            resume = self._resume[number] = ""  # what was refused may be a conversation, or a token, that is too old
            websocket = self._open(service, resume, connect_s, now)
        return Connection(
            websocket,
            service.session(),
            self._device,
            service.rate,
            greeting_s=greeting_s,
            resume=resume,
            spare=len(self.services) > 1,
            trace=self._trace,
        )

    def prepare(self, number: int) -> None:
        """Resolve the name of service *number* in the background, and load its CA certificates."""
        service = self.services[number]
        with suppress(ValueError):  # a malformed address: the connect will raise it
            self._transport.prepare(service.url, service.ca_file)

    def ended(self, number: int, connection: Connection, resend: Resend = Resend.NOTHING) -> None:
        """Note how to go on with the conversation of *connection*, which is over or to be renewed.

        A conversation is not resumed where it may hold what will be sent again, because the service would hear that
        twice. Then a new one begins, and is told what was said before.
        """
        if connection.ready:
            known = resend is Resend.WHOLE or (resend is Resend.HALF and self.services[number].takes_halves)
            self._resume[number] = "" if known else connection.resume

    def abort(self) -> None:
        """Break the connect under way or the next one, or the connection that came of it. Safe from any thread."""
        self._aborted = True
        if self._connecting is not None:
            self._connecting.abort()

    def reset(self) -> None:
        """Let ``abort`` break the next connect from now on, and not the latest."""
        self._aborted, self._connecting = False, None

    def _open(self, service: Service, resume: str, connect_s: float, now: float) -> WebSocket:
        invitation = service.invitation(resume, () if resume else self._device.history.said(now))
        answer: Any = None
        if invitation is not None:
            post = Post(invitation, connect_s, service.ca_file, self._transport)
            self._begin(post)
            answer = post.send()
        endpoint = service.endpoint(answer, resume)
        log.info("dialling %s", endpoint.name)
        websocket = WebSocket(endpoint, connect_s, service.ca_file, self._transport, self._trace)
        self._begin(websocket)
        try:
            websocket.open()
        except BaseException:
            websocket.close()
            raise
        return websocket

    def _begin(self, connecting: WebSocket | Post) -> None:
        """Let ``abort`` break *connecting* from now on, and do so if it was called before."""
        self._connecting = connecting
        if self._aborted:
            connecting.abort()
