"""The thread that owns the connection: it dials when one is needed, lets it carry, and dials again.

LinkLost and LinkRefused never leave this file: they become LinkDown and Refused in the inbox.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from typing import Any

from .at_rate import AtRate
from .carrier import GREETING_S, Carrier
from .dial import PATIENCE_S
from .errors import LinkLost, LinkRefused
from .events import CancelReply, CutConfirmed, Event, LinkDown, LinkIdle, LinkUp, Refused
from .outbox import Outbox
from .playback import Playback
from .post import Post
from .roster import Roster
from .services import Endpoint, Service, Session
from .wire import Wire

log = logging.getLogger(__name__)

REFUSED_S = 300.0
"""Seconds between tries when nobody wants us: a new key may come, but not soon."""
NEXT_S = 4.0
"""How long each step of a dial may take where there is another service to try."""


class Need(Enum):
    """What a connection is needed for."""

    NOTHING = "nothing"
    LATER = "later"
    """It may stay while it lasts."""
    NOW = "now"
    """Somebody speaks or waits for an answer: make another one if it breaks."""


class Link:
    """Keeps a wire while one is needed. ``run`` is the link's thread; everything else may be called from any thread."""

    def __init__(
        self,
        services: Sequence[Service],
        outbox: Outbox,
        playback: Playback,
        tell: Callable[[Event], None],
        *,
        always: bool = False,
    ) -> None:
        """*services* are tried in their order; the sound of the device has the rate of the first."""
        self._services, self._outbox, self._playback, self._tell = services, outbox, playback, tell
        self._always, self._allowed = always, True
        self._need = Need.NOW if always else Need.NOTHING
        self._hurry = threading.Event()
        self._dialling: Wire | Post | None = None
        self._roster = Roster(len(services))
        self._resume: dict[int, str] = {}  # by the number of the service
        self._refusals: list[LinkRefused] = []  # of this round
        self._name = ""  # of the service that was dialled last
        self._said = ""  # the refusal that is in the log already

    # Any thread -------------------------------------------------------------------------------------------------------

    def dial(self) -> None:
        """A connection is needed: make one now, whatever the backoff says."""
        if not self._allowed:
            return
        self._need = Need.NOW
        self._hurry.set()
        self._outbox.wake()

    def linger(self) -> None:
        """If the connection breaks now, nobody needs another one."""
        if self._need is Need.NOW:
            self._relax(Need.LATER)

    def hang_up(self) -> None:
        """No connection is needed any more."""
        self._relax(Need.NOTHING)

    def allow(self, allowed: bool) -> None:
        """Whether there may be a connection at all."""
        if allowed is not self._allowed:
            self._allowed = allowed
            self._need = Need.NOW if allowed and self._always else Need.NOTHING
            self._outbox.wake()

    def _relax(self, need: Need) -> None:
        if not self._always:
            self._need = need
            self._outbox.wake()

    def wake(self) -> None:
        """Look at the world: somebody wants us to stop."""
        self._hurry.set()
        self._outbox.wake()

    def abort(self) -> None:
        """Break out of a call that does not end."""
        if self._dialling is not None:
            self._dialling.abort()

    # The link's thread ------------------------------------------------------------------------------------------------

    def run(self, stopping: threading.Event) -> None:
        """Live until *stopping*."""
        while not stopping.is_set():
            if self._need is Need.NOTHING:
                self._rest(stopping)
                continue
            try:
                self._connect(stopping)
            except (LinkLost, LinkRefused) as error:
                self._playback.finish()
                if not stopping.is_set():
                    self._failed(error, stopping)

    def _connect(self, stopping: threading.Event) -> None:
        """Hold one connection from dial to goodbye. Raises LinkLost and LinkRefused."""
        number = self._roster.choose(time.monotonic())
        service = self._services[number]
        resume = self._resume.get(number, "")
        try:
            wire = self._open(service, resume)
        except LinkRefused:
            if not (resume or service.invitation(resume)):
                raise
            self._resume[number] = ""  # what was refused may be a conversation, or a token, that is too old
            wire = self._open(service, "")
        with closing(wire):
            if stopping.is_set():
                return
            self._hurry.clear()
            self._carry(number, wire, stopping)
        log.info("hung up")
        self._roster.relent()
        self._tell(LinkIdle())

    def _open(self, service: Service, resume: str) -> Wire:
        invitation = service.invitation(resume)
        answer: Any = None
        if invitation is not None:
            self._dialling = post = Post(invitation, self._patience(PATIENCE_S))
            answer = post.send()
        endpoint = service.endpoint(answer, resume)
        log.info("dialling %s", endpoint.name)
        self._name = endpoint.name
        return self._opened(endpoint)

    def _opened(self, endpoint: Endpoint) -> Wire:
        self._dialling = wire = Wire(endpoint, self._patience(PATIENCE_S))
        try:
            wire.open()
        except BaseException:
            wire.close()
            raise
        return wire

    def _patience(self, usual: float) -> float:
        return NEXT_S if self._roster.others else usual

    def _carry(self, number: int, wire: Wire, stopping: threading.Event) -> None:
        """Converse until nobody needs it any more. Raises LinkLost and LinkRefused."""
        self._outbox.rewind()
        session = self._session(self._services[number])
        patience = self._patience(GREETING_S)
        carrier = Carrier(wire, session, self._outbox, self._playback, self._note, self._confirm, patience=patience)
        began = time.monotonic()
        try:
            carrier.run(lambda: self._need is not Need.NOTHING and not stopping.is_set())
        finally:
            if carrier.ready:
                self._resume[number] = carrier.resume
                self._roster.worked(time.monotonic() - began)

    def _session(self, service: Service) -> Session:
        rate = self._services[0].rate
        return service.session() if service.rate == rate else AtRate(service.session(), service.rate, rate)

    def _note(self, event: Event) -> None:
        if isinstance(event, LinkUp):
            self._refusals, self._said = [], ""
            event = LinkUp(self._name)
        self._tell(event)

    def _rest(self, stopping: threading.Event) -> None:
        """No connection is needed: wait until one is."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._outbox, selectors.EVENT_READ)
            while self._need is Need.NOTHING and not stopping.is_set():
                selector.select()
                self._outbox.hush()
                self._confirm_cuts()

    def _confirm_cuts(self) -> None:
        """Without a connection there is no reply to cancel, but the conversation waits for an answer."""
        for item in self._outbox.take_actions():
            if isinstance(item, CancelReply):
                self._confirm()

    def _confirm(self) -> None:
        self._playback.accept()
        self._tell(CutConfirmed())

    def _failed(self, error: LinkLost | LinkRefused, stopping: threading.Event) -> None:
        """Decide what follows from *error*: nothing, another service, or a pause."""
        if self._need is not Need.NOW:
            log.info("%s; nobody needs it now", error)
            self._go_idle()
            return
        if isinstance(error, LinkRefused):
            self._refusals.append(error)
        retry_after = error.retry_after if isinstance(error, LinkLost) else 0.0
        delay = self._roster.failed(time.monotonic(), retry_after)
        if not delay:
            log.warning("%s; trying another service", error)
        elif len(self._refusals) == len(self._services):
            self._refused(error, stopping)
        else:
            self._refusals.clear()
            log.warning("%s; next try in %.1f s", error, delay)
            self._tell(LinkDown(str(error), delay))
            self._pause(delay, stopping)

    def _refused(self, error: LinkLost | LinkRefused, stopping: threading.Event) -> None:
        """Nobody wants us: say so once, and try seldom."""
        self._refusals.clear()
        if str(error) != self._said:
            log.error("%s", error)
        self._said = str(error)
        self._relax(Need.NOTHING)
        self._tell(Refused(str(error), REFUSED_S if self._always else 0.0))
        if self._always:
            self._pause(REFUSED_S, stopping)

    def _pause(self, seconds: float, stopping: threading.Event) -> None:
        """Wait, unless somebody speaks, nobody needs us any more, or we are to stop."""
        ends = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._outbox, selectors.EVENT_READ)
            while self._need is Need.NOW and not (stopping.is_set() or self._hurry.is_set()):
                left = ends - time.monotonic()
                if left <= 0:
                    return
                selector.select(left)
                self._outbox.hush()
                self._confirm_cuts()
        if self._hurry.is_set():
            self._hurry.clear()
            self._roster.relent()
        if self._need is not Need.NOW:
            self._go_idle()

    def _go_idle(self) -> None:
        self._relax(Need.NOTHING)
        self._tell(LinkIdle())
