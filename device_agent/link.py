"""The thread that owns the connection: it dials when one is needed, carries messages both ways, and dials again.

LinkLost and LinkRefused never leave this file: they become LinkDown and Refused in the inbox.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from enum import Enum

from .backoff import backoff
from .errors import LinkLost, LinkRefused
from .events import (
    CancelReply,
    CutConfirmed,
    Event,
    LinkDown,
    LinkIdle,
    LinkUp,
    Refused,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
)
from .outbox import Outbox
from .playback import Playback
from .services import Endpoint, Service, Session
from .wire import Wire

log = logging.getLogger(__name__)

GOOD_S = 60.0
"""A connection that lasted so long was a good one: the next failure is the first again."""
REFUSED_S = 300.0
"""Seconds between tries when the service does not want us: a new key may come, but not soon."""
QUIET_S, SILENT_S = 5.0, 15.0
"""Without a sign of life for QUIET_S we ask for one; without one for SILENT_S the peer is dead."""
GREETING_S = 15.0
"""How long a session may take to become ready."""
FULL_S = 0.05
"""How often to look whether a full playback has room again."""

_OF_A_REPLY = (ReplyStarted, ReplyAudio, ReplyText, ReplyEnded)


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
        service: Service,
        outbox: Outbox,
        playback: Playback,
        tell: Callable[[Event], None],
        *,
        always: bool = False,
        wire_to: Callable[[Endpoint], Wire] = Wire,
    ) -> None:
        self._service, self._outbox, self._playback, self._tell = service, outbox, playback, tell
        self._always, self._wire_to = always, wire_to
        self._need = Need.NOW if always else Need.NOTHING
        self._hurry = threading.Event()
        self._wire: Wire | None = None
        self._delays = backoff()

    # Any thread -------------------------------------------------------------------------------------------------------

    def dial(self) -> None:
        """A connection is needed: make one now, whatever the backoff says."""
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
        if self._wire is not None:
            self._wire.abort()

    # The link's thread ------------------------------------------------------------------------------------------------

    def run(self, stopping: threading.Event) -> None:
        """Live until *stopping*."""
        while not stopping.is_set():
            if self._need is Need.NOTHING:
                self._rest(stopping)
                continue
            self._hurry.clear()
            began = time.monotonic()
            try:
                self._hold_a_wire(stopping)
            except LinkRefused as error:
                self._refused(error, stopping)
            except LinkLost as error:
                if time.monotonic() - began >= GOOD_S:
                    self._delays = backoff()
                self._lost(error, stopping)

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

    def _refused(self, error: LinkRefused, stopping: threading.Event) -> None:
        log.error("%s", error)
        self._playback.finish()
        self._relax(Need.NOTHING)
        self._tell(Refused(str(error), REFUSED_S if self._always else 0.0))
        if self._always:
            self._pause(REFUSED_S, stopping)

    def _lost(self, error: LinkLost, stopping: threading.Event) -> None:
        self._playback.finish()
        if stopping.is_set():
            return
        if self._need is not Need.NOW:
            log.info("%s; nobody needs it now", error)
            self._relax(Need.NOTHING)
            self._tell(LinkIdle())
            return
        delay = max(next(self._delays), error.retry_after)
        log.warning("%s; next try in %.1f s", error, delay)
        self._tell(LinkDown(str(error), delay))
        self._pause(delay, stopping)

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
        if self._need is not Need.NOW:
            self._relax(Need.NOTHING)
            self._tell(LinkIdle())

    def _hold_a_wire(self, stopping: threading.Event) -> None:
        """Dial, converse, hang up."""
        endpoint = self._service.endpoint(None, "")
        log.info("dialling %s", endpoint.name)
        with closing(self._wire_to(endpoint)) as wire:
            self._wire = wire
            if stopping.is_set():
                return
            wire.open()
            self._hurry.clear()
            self._outbox.rewind()
            _Carrier(wire, self._service.session(), self._outbox, self._playback, self._tell, self._confirm).run(
                lambda: self._need is not Need.NOTHING and not stopping.is_set()
            )
        log.info("hung up")
        self._delays = backoff()
        self._tell(LinkIdle())


class _Carrier:
    """Carries messages both ways over one wire until it breaks or is not needed any more."""

    def __init__(
        self,
        wire: Wire,
        session: Session,
        outbox: Outbox,
        playback: Playback,
        tell: Callable[[Event], None],
        confirm: Callable[[], None],
    ) -> None:
        self._wire, self._session, self._outbox, self._playback = wire, session, outbox, playback
        self._tell, self._confirm = tell, confirm
        self._arrived: deque[Event] = deque()  # what waits for room in the playback, and what came behind it
        self._began = self._heard = self._asked = time.monotonic()

    def run(self, needed: Callable[[], bool]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wire, selectors.EVENT_READ)
            selector.register(self._outbox, selectors.EVENT_READ)
            self._session.tick(self._began)
            self._session.greet()
            while needed():
                self._send_all()
                readable = self._wait(selector)
                now = time.monotonic()
                self._arrived.extend(self._session.tick(now))
                if readable and not self._arrived:
                    self._receive(now)
                self._deliver_all()
                self._check(now)
                if self._session.ready:
                    self._take_outbox()

    def _wait(self, selector: selectors.BaseSelector) -> bool:
        """Sleep until something happens; return whether the service said something."""
        full = bool(self._arrived)
        if self._wire.pending() and not full:
            return True
        ready = {key.fileobj for key, _ in selector.select(FULL_S if full else self._timeout())}
        self._outbox.hush()
        return self._wire in ready

    def _timeout(self) -> float:
        now = time.monotonic()
        times = [max(self._heard, self._asked) + QUIET_S, self._heard + SILENT_S]
        if self._session.deadline is not None:
            times.append(self._session.deadline)
        return max(0.0, min(times) - now)

    def _receive(self, now: float) -> None:
        message = self._wire.receive()
        self._heard = now
        if message is not None:
            self._arrived.extend(self._session.receive(message))

    def _check(self, now: float) -> None:
        """Is anybody there? While the playback is full we do not read, so we cannot tell."""
        if self._arrived:
            self._heard = now
        if not self._session.ready and now - self._began > GREETING_S:
            raise LinkLost(f"the session was not ready within {GREETING_S:g} s")
        if now - self._heard > SILENT_S:
            raise LinkLost(f"nothing was received for {SILENT_S:g} s")
        if now - max(self._heard, self._asked) >= QUIET_S:
            self._asked = now
            self._wire.ping()

    def _take_outbox(self) -> None:
        for item in self._outbox.take():
            self._session.send(item)
            if isinstance(item, CancelReply):
                self._arrived = deque(event for event in self._arrived if not isinstance(event, _OF_A_REPLY))
                self._confirm()

    def _send_all(self) -> None:
        for message in self._session.outgoing():
            self._wire.send(message)

    def _deliver_all(self) -> None:
        """Sound goes to the playback as far as there is room, everything else to the inbox, in the order it came."""
        while self._arrived:
            event = self._arrived[0]
            if isinstance(event, ReplyAudio):
                taken = self._playback.write(event.reply, event.pcm)
                if taken < len(event.pcm):
                    self._arrived[0] = ReplyAudio(event.reply, event.pcm[taken:])
                    return
            else:
                self._note(event)
                self._tell(event)
            self._arrived.popleft()

    def _note(self, event: Event) -> None:
        match event:
            case LinkUp():
                log.info("the session is ready after %.0f ms", 1000 * (time.monotonic() - self._began))
            case ReplyStarted():
                self._outbox.settle()
            case ReplyEnded():
                self._outbox.settle()
                self._playback.finish(event.reply)
