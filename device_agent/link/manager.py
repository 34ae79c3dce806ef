"""The thread that owns the connection: it dials, lets the connection carry, and renews it.

When, and to which service, is decided by ``LinkPolicy``; here are the thread, the sockets and the log. LinkLost and
LinkRefused never leave this file: they become LinkDown and Refused in the inbox.
"""

from __future__ import annotations

import logging
import math
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..audio.playback_buffer import PlaybackBuffer
from ..core.errors import LinkLost, LinkRefused
from ..core.events import Event, InterruptConfirmed, LinkDown, LinkIdle, LinkUp, Refused
from ..runtime.heartbeat import Heartbeat
from ..services.base import Service
from ..services.response_timeout import SLOW_START_PART, ResponseTimedOut
from .connection import Connection
from .connector import Connector
from .history import History
from .outbox import Outbox
from .policy import ConnectPlan, Decision, LinkPolicy, Prepare, Wait, renew_in

log = logging.getLogger(__name__)


class _Call(NamedTuple):
    """One connection, and what made it."""

    switchboard: Connector
    plan: ConnectPlan
    name: str
    carrier: Connection


class LinkManager:
    """Keeps a wire while one is needed. ``run`` is the link's thread; everything else may be called from any thread."""

    def __init__(
        self,
        services: Sequence[Service],
        outbox: Outbox,
        playback: PlaybackBuffer,
        tell: Callable[[Event], None],
        *,
        always: bool = False,
        crowded: Callable[[], bool] = lambda: False,
        recall: History | None = None,
    ) -> None:
        """*services* are tried in their order; the sound of the device has the rate of the first. While *crowded* says
        that the inbox holds too much, nothing is read. *recall* is what was said before."""
        self._outbox, self._playback, self._tell = outbox, playback, tell
        self._services = tuple(services)
        self._lock = threading.Lock()  # of the policy, and of which switchboard there is; held for no wait
        self._policy = LinkPolicy(_patience(services), always=always)
        self._switchboard = Connector(self._services, outbox, playback, self._note, self._confirm, crowded, recall)
        self._carrier: Connection | None = None
        self.pulse = Heartbeat()

    # Any thread -------------------------------------------------------------------------------------------------------

    def dial(self, *, asked: bool = True) -> None:
        """A connection is needed: *asked* for, which ends a pause before its time; or speech alone needs it."""
        now = time.monotonic()
        with self._lock:
            refused = self._policy.ask(now) if asked else self._policy.notice(now)
            if self._policy.renewing:
                self._switchboard.abort()  # the old connection is there
        if refused is not None:
            log.info("%s; not tried again for %.0f s", refused.reason, refused.retry_in)
        self._changed(refused)

    def linger(self) -> None:
        """If the connection breaks now, nothing needs another one."""
        with self._lock:
            event = self._policy.linger()
        self._changed(event)

    def hang_up(self) -> None:
        """No connection is needed any more."""
        with self._lock:
            event = self._policy.hang_up()
        self._changed(event)

    def allow(self, allowed: bool) -> None:
        """Whether there may be a connection at all."""
        with self._lock:
            if allowed is self._policy.allowed:
                return
            event = self._policy.allow(allowed, time.monotonic())
        self._changed(event)

    def use(self, services: Sequence[Service], *, always: bool) -> None:
        """From the next connection on, use these; one that is there is renewed when it is quiet.

        Their sound has the rate of those before.
        """
        with self._lock:
            others = self._services != tuple(services)
            if others:
                self._services = tuple(services)
            event = self._policy.use(_patience(services) if others else None, time.monotonic(), always=always)
        self._changed(event)

    @property
    def recall(self) -> History:
        """What was said lately: for the next link, when this one has ended."""
        return self._switchboard.recall

    def wake(self) -> None:
        """Look at the world: the worker is to stop."""
        self._outbox.wake()

    def abort(self) -> None:
        """Break out of a call that does not end."""
        self._switchboard.abort()
        if self._carrier is not None:
            self._carrier.abort()

    def _changed(self, event: Event | None) -> None:
        """The policy knows something new, and wants *event* told."""
        if event is not None:
            self._tell(event)
        self._outbox.wake()

    # The link's thread ------------------------------------------------------------------------------------------------

    def run(self, stopping: threading.Event) -> None:
        """Live until *stopping*."""
        while not stopping.is_set():
            match self._decide():
                case ConnectPlan() as plan:
                    self._connect(plan, stopping)
                case Prepare(service):
                    self._switchboard.prepare(service)
                case Wait(until):
                    self._wait(until, stopping)

    def _decide(self) -> Decision:
        """Ask the policy what to do, and have the services that it speaks of."""
        with self._lock:
            self._go_over()
            return self._policy.decide(time.monotonic())

    def _go_over(self) -> None:
        """Go over to the services of ``use``. The lock is held."""
        if self._switchboard.services is not self._services:
            self._switchboard = self._switchboard.followed_by(self._services)

    def _wait(self, until: float, stopping: threading.Event) -> None:
        """Wait until then, or until something has changed."""
        self.pulse.rest()
        bell = select.poll()
        bell.register(self._outbox, select.POLLIN)
        if not stopping.is_set():
            left = until - time.monotonic()
            bell.poll(None if left == math.inf else max(0, math.ceil(1000 * left)))
        self._outbox.hush()
        self._confirm_cuts()

    def _connect(self, plan: ConnectPlan, stopping: threading.Event) -> None:
        """Hold one connection, from the dial to its end."""
        self.pulse.beat()
        try:
            self._hold(plan, stopping)
        except (LinkLost, LinkRefused) as error:
            self._playback.finish()
            if not stopping.is_set():
                self._failed(error)
            return
        log.info("hung up")
        with self._lock:
            event = self._policy.ended(time.monotonic())
        self._tell(event)

    def _hold(self, plan: ConnectPlan, stopping: threading.Event) -> None:
        """Hold one connection until it is not needed any more. Raises LinkLost and LinkRefused."""
        call = self._dial(plan)
        self._carrier = call.carrier
        try:
            call.carrier.greet(lambda: self._wanted(stopping))
            if call.carrier.ready:
                with self._lock:
                    self._policy.ready(time.monotonic(), renew_in(call.carrier.expires_at, time.time()))
            while call.carrier.run(
                lambda: self._wanted(stopping), lambda: self._policy.renew_at, lambda: self._policy.awaited
            ):
                call = self._renewed(call, stopping)
                self._carrier = call.carrier
            call.carrier.farewell()
        finally:
            self._carrier = None
            call.carrier.close()
            call.switchboard.left(call.plan.service, call.carrier, self._outbox.rewind())

    def _dial(self, plan: ConnectPlan) -> _Call:
        board = self._switchboard
        carrier = board.dial(plan.service, patience=plan.dial_s, greeting=plan.greeting_s, now=time.monotonic())
        return _Call(board, plan, board.name, carrier)

    def _wanted(self, stopping: threading.Event) -> bool:
        self.pulse.beat()
        return self._policy.wanted and not stopping.is_set()

    def _failed(self, error: LinkLost | LinkRefused) -> None:
        """Tell what follows from *error*."""
        with self._lock:
            event, known = self._policy.lost(error, time.monotonic(), mute=isinstance(error, ResponseTimedOut))
        match event:
            case None:
                log.warning("%s; connecting again at once", error)
            case LinkIdle():
                log.info("%s; no connection is needed now", error)
            case LinkDown(_, delay):
                log.warning("%s; next try in %.1f s", error, delay)
            case Refused() if not known:
                log.error("%s", error)
        if event is not None:
            self._tell(event)

    def _renewed(self, old: _Call, stopping: threading.Event) -> _Call:
        """Return another connection that goes on with the conversation of *old*, which is closed; or *old*.

        The old one stays open until the new one is ready. A turn that begins meanwhile breaks this off (``dial``), and
        is heard by the old one. That a conversation can be gone on with while it is open is inferred; where it cannot,
        the new one is told what was said.
        """
        with self._lock:
            self._go_over()
            self._switchboard.forget()
            plan = self._policy.renew(time.monotonic())
        if plan is None:
            return old
        log.info("the session is old; renewing it")
        old.switchboard.left(old.plan.service, old.carrier)
        try:
            new = self._renewal(plan, stopping)
        except (LinkLost, LinkRefused) as error:
            with self._lock:
                edited = plan.generation != old.plan.generation and not self._policy.awaited
                self._policy.not_renewed(error, time.monotonic())
                self._switchboard.forget()  # a press that broke this dial off breaks no other
            log.log(logging.WARNING if edited else logging.INFO, "%s; continuing with the old session", error)
            self._outbox.rewind()
            old.carrier.keep()
            return old
        old.carrier.farewell()
        old.carrier.close()
        if new.name != old.name:
            self._tell(LinkUp(new.name))
        return new

    def _renewal(self, plan: ConnectPlan, stopping: threading.Event) -> _Call:
        """Return a connection that is ready and takes the place of the old one. Raises LinkLost and LinkRefused."""
        new = self._dial(plan)
        try:
            new.carrier.greet(lambda: self._wanted(stopping) and not self._policy.awaited)
            with self._lock:
                after = renew_in(new.carrier.expires_at, time.time())
                taken = new.carrier.ready and self._policy.renewed(time.monotonic(), after)
            if not taken:
                raise LinkLost("a turn has begun, or no connection is needed any more")
        except BaseException:
            new.carrier.close()
            raise
        return new

    def _note(self, event: Event) -> None:
        """A connection told *event*."""
        if not isinstance(event, LinkUp):
            self._tell(event)
        elif not self._policy.renewing:  # otherwise nothing has changed for anything outside
            self._tell(LinkUp(self._switchboard.name))

    def _confirm_cuts(self) -> None:
        """Without a connection there is no reply to cancel, but the conversation waits for an answer."""
        for item in self._outbox.take_cancels():
            self._switchboard.recall.cut(item.reply, item.heard_ms)
            self._confirm()

    def _confirm(self) -> None:
        self._playback.accept()
        self._tell(InterruptConfirmed())


def _patience(services: Sequence[Service]) -> tuple[float, ...]:
    """Return how many seconds the greeting of each may take: another one has to be possible within its patience."""
    return tuple(SLOW_START_PART * service.patience_s for service in services)
