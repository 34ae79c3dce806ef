"""Link manager: the thread that owns the connection; it connects, runs, renews and closes.

``LinkPolicy`` decides when, and to which service; here are the thread, the sockets and the log. LinkLost and
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
from ..net.transport import Transport
from ..runtime.heartbeat import Heartbeat
from ..services.base import Service
from ..services.response_timeout import SLOW_START_PART, ResponseTimedOut
from .connection import Connection, DeviceSide
from .connector import Connector
from .history import History
from .outbox import Outbox
from .policy import ConnectPlan, Decision, LinkPolicy, Prepare, Wait, renew_in

log = logging.getLogger(__name__)


class _Call(NamedTuple):
    """One connection, with its plan and the connector that made it."""

    connector: Connector
    plan: ConnectPlan
    connection: Connection


class LinkManager:
    """Keeps a connection while one is needed. ``run`` is the link's thread; all else may be called from any thread."""

    def __init__(
        self,
        services: Sequence[Service],
        outbox: Outbox,
        playback: PlaybackBuffer,
        tell: Callable[[Event], None],
        transport: Transport,
        *,
        always: bool = False,
        crowded: Callable[[], bool] = lambda: False,
        history: History | None = None,
    ) -> None:
        """*services* are in the order of preference; the device's audio has the rate of the first.

        While *crowded* says that the inbox holds too much, nothing is received. *history* is what was said before.
        """
        self._outbox, self._playback, self._tell = outbox, playback, tell
        self._services = tuple(services)
        self._lock = threading.Lock()  # of the policy, and of which connector there is; held for no wait
        self._policy = LinkPolicy(_greeting_times(services), always=always)
        self.transport = transport
        rate = services[0].rate
        self.history = history or History(rate)
        """What was said lately. History and transport are for the next manager, when this one has ended."""
        self.history.rate = rate
        device = DeviceSide(rate, outbox, playback, self.history, self._note, self._confirm, crowded)
        self._connector = Connector(self._services, device, transport)
        self._connection: Connection | None = None
        self.pulse = Heartbeat()

    # Any thread -------------------------------------------------------------------------------------------------------

    def dial(self, *, asked: bool = True) -> None:
        """A connection is needed: for a request (*asked*), which ends a pause early, or for speech alone."""
        now = time.monotonic()
        with self._lock:
            refused = self._policy.ask(now) if asked else self._policy.notice(now)
            if self._policy.renewing:
                self._connector.abort()  # the old connection is there
        if refused is not None:
            log.info("%s; not tried again for %.0f s", refused.reason, refused.retry_in)
        self._changed(refused)

    def linger(self) -> None:
        """Do not replace the connection if it breaks now."""
        self._update(self._policy.linger)

    def hang_up(self) -> None:
        """Close the connection: it is not needed any more."""
        self._update(self._policy.hang_up)

    def allow(self, allowed: bool) -> None:
        """Set whether there may be a connection at all."""
        if allowed is not self._policy.allowed:
            self._update(lambda: self._policy.allow(allowed, time.monotonic()))

    def use(self, services: Sequence[Service], *, always: bool) -> None:
        """Use *services*, of the same audio rate, from the next connection on; an open one is renewed when quiet."""
        with self._lock:
            others = self._services != tuple(services)
            if others:
                self._services = tuple(services)
            event = self._policy.use(_greeting_times(services) if others else None, time.monotonic(), always=always)
        self._changed(event)

    def wake(self) -> None:
        """End the wait of the link's thread."""
        self._outbox.wake()

    def abort(self) -> None:
        """Break a call that does not end."""
        self._connector.abort()
        if self._connection is not None:
            self._connection.abort()

    def _update(self, change: Callable[[], Event | None]) -> None:
        with self._lock:
            event = change()
        self._changed(event)

    def _changed(self, event: Event | None) -> None:
        """Tell the *event* of the policy, and let the thread ask the policy again."""
        if event is not None:
            self._tell(event)
        self._outbox.wake()

    # The link's thread ------------------------------------------------------------------------------------------------

    def run(self, stopping: threading.Event) -> None:
        """Follow the policy until *stopping*."""
        while not stopping.is_set():
            match self._decide():
                case ConnectPlan() as plan:
                    self._connect(plan, stopping)
                case Prepare(service):
                    self._connector.prepare(service)
                case Wait(until):
                    self._wait(until, stopping)

    def _decide(self) -> Decision:
        with self._lock:
            self._switch_services()
            return self._policy.decide(time.monotonic())

    def _switch_services(self) -> None:
        """Take the services of ``use``. The lock is held."""
        if self._connector.services is not self._services:
            self._connector = self._connector.followed_by(self._services)

    def _wait(self, until: float, stopping: threading.Event) -> None:
        """Wait *until* then, or for ``wake``."""
        self.pulse.rest()
        poll = select.poll()
        poll.register(self._outbox, select.POLLIN)
        if not stopping.is_set():
            left = until - time.monotonic()
            poll.poll(None if left == math.inf else max(0, math.ceil(1000 * left)))
        self._outbox.clear_wakeup()
        for item in self._outbox.take_cancels():  # no reply is left to cancel, but the conversation waits for an answer
            self.history.cut(item.reply, item.heard_ms)
            self._confirm()

    def _connect(self, plan: ConnectPlan, stopping: threading.Event) -> None:
        """Run one connection from the connect to its end, and tell what became of it."""
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
        """Run one connection until it is not needed any more. Raises LinkLost and LinkRefused."""
        call = self._call(plan)
        self._connection = call.connection
        try:
            call.connection.greet(lambda: self._wanted(stopping))
            if call.connection.ready:
                with self._lock:
                    self._policy.ready(time.monotonic(), renew_in(call.connection.expires_at, time.time()))
            while call.connection.run(
                lambda: self._wanted(stopping), lambda: self._policy.renew_at, lambda: self._policy.awaited
            ):
                call = self._renewed(call, stopping)
                self._connection = call.connection
            call.connection.farewell()
        finally:
            self._connection = None
            call.connection.close()
            call.connector.ended(call.plan.service, call.connection, self._outbox.rewind())

    def _call(self, plan: ConnectPlan) -> _Call:
        connector, now = self._connector, time.monotonic()
        connection = connector.connect(plan.service, connect_s=plan.dial_s, greeting_s=plan.greeting_s, now=now)
        return _Call(connector, plan, connection)

    def _wanted(self, stopping: threading.Event) -> bool:
        self.pulse.beat()
        return self._policy.wanted and not stopping.is_set()

    def _failed(self, error: LinkLost | LinkRefused) -> None:
        """Log and tell what follows from *error*."""
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

        The old one stays open until the new one is ready. A turn that begins meanwhile breaks the renewal off
        (``dial``) and goes to the old one. That a conversation can be resumed while it is open is inferred; where it
        cannot, the new connection is told what was said.
        """
        with self._lock:
            self._switch_services()
            self._connector.reset()
            plan = self._policy.renew(time.monotonic())
        if plan is None:
            return old
        log.info("the session is old; renewing it")
        old.connector.ended(old.plan.service, old.connection)
        try:
            new = self._renewal(plan, stopping)
        except (LinkLost, LinkRefused) as error:
            with self._lock:
                edited = plan.generation != old.plan.generation and not self._policy.awaited
                self._policy.not_renewed(error, time.monotonic())
                self._connector.reset()  # the abort of this connect must not break another
            log.log(logging.WARNING if edited else logging.INFO, "%s; continuing with the old session", error)
            self._outbox.rewind()
            old.connection.keep()
            return old
        old.connection.farewell()
        old.connection.close()
        if new.connection.name != old.connection.name:
            self._tell(LinkUp(new.connection.name))
        return new

    def _renewal(self, plan: ConnectPlan, stopping: threading.Event) -> _Call:
        """Return a connection that is ready and takes the place of the old one. Raises LinkLost and LinkRefused."""
        new = self._call(plan)
        try:
            new.connection.greet(lambda: self._wanted(stopping) and not self._policy.awaited)
            with self._lock:
                after = renew_in(new.connection.expires_at, time.time())
                taken = new.connection.ready and self._policy.renewed(time.monotonic(), after)
            if not taken:
                raise LinkLost("a turn has begun, or no connection is needed any more")
        except BaseException:
            new.connection.close()
            raise
        return new

    def _note(self, event: Event) -> None:
        """Tell *event* of a connection."""
        if not isinstance(event, LinkUp):
            self._tell(event)
        elif self._connection is not None and not self._policy.renewing:  # a renewal changes nothing outside
            self._tell(LinkUp(self._connection.name))

    def _confirm(self) -> None:
        self._playback.accept()
        self._tell(InterruptConfirmed())


def _greeting_times(services: Sequence[Service]) -> tuple[float, ...]:
    """Return how many seconds each service may take to become ready: less than a turn waits for an answer."""
    return tuple(SLOW_START_PART * service.patience_s for service in services)
