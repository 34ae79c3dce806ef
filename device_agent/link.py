"""The thread that owns the connection: it dials when one is needed, lets it carry, and dials again.

LinkLost and LinkRefused never leave this file: they become LinkDown and Refused in the inbox.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from .carrier import GREETING_S, Carrier
from .dial import PATIENCE_S
from .errors import LinkLost, LinkRefused
from .events import CutConfirmed, Event, LinkDown, LinkIdle, LinkUp, Refused
from .outbox import Outbox
from .playback import Playback
from .recall import Recall
from .roster import Roster
from .services import Service
from .services.response_timeout import ResponseTimedOut
from .switchboard import Switchboard
from .worker import Pulse

log = logging.getLogger(__name__)

REFUSED_S = 300.0
"""Seconds between tries when nobody wants us: a new key may come, but not soon."""
NEXT_S = 4.0
"""How long a dial, and then the greeting, may take where there is something else to go on with."""
PREPARE_S = 2.0
"""How long nobody needs a connection before the first one is prepared: a start has other things to do."""
WAITED_FOR_S = 1.0
"""The longest pause while a turn waits: it is given up after 15 s, so there are few of them."""


class Need(Enum):
    """What a connection is needed for."""

    NOTHING = "nothing"
    LATER = "later"
    """It may stay while it lasts."""
    NOW = "now"
    """Somebody speaks or waits for an answer: make another one if it breaks."""


class _Call(NamedTuple):
    """One connection, and who made it."""

    switchboard: Switchboard
    number: int
    name: str
    carrier: Carrier


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
        crowded: Callable[[], bool] = lambda: False,
        recall: Recall | None = None,
    ) -> None:
        """*services* are tried in their order; the sound of the device has the rate of the first. While *crowded* says
        that more was told than anybody listened to, nothing is read. *recall* is what was said before."""
        self._count, self._outbox, self._playback, self._tell = len(services), outbox, playback, tell
        self._always, self._allowed = always, True
        self._asked = Need.NOTHING
        self._changing = threading.Lock()  # of the need: who speaks while a connection ends wants another one
        self._hurry = threading.Event()
        self._renewing = self._prepared = False
        self._carrier: Carrier | None = None
        self._roster = Roster(len(services))
        self._switchboard = Switchboard(services, outbox, playback, self._note, self._confirm, crowded, recall)
        self._services = tuple(services)  # that we are to use
        self._others: tuple[Service, ...] | None = None  # the same, as long as we use those before
        self._refusals: list[LinkRefused] = []  # of this round
        self._said = ""  # the refusal that is in the log already
        self.pulse = Pulse()

    # Any thread -------------------------------------------------------------------------------------------------------

    def dial(self) -> None:
        """A connection is needed: make one now, whatever the backoff says."""
        if not self._allowed:
            return
        with self._changing:
            self._asked = Need.NOW
            self._hurry.set()
        if self._renewing:  # read after the other is set: see _greeted
            self._switchboard.abort()
        self._outbox.wake()

    def linger(self) -> None:
        """If the connection breaks now, nobody needs another one."""
        self._relax(Need.LATER, {Need.NOW})

    def hang_up(self) -> None:
        """No connection is needed any more."""
        self._relax(Need.NOTHING, set(Need))

    def use(self, services: Sequence[Service], *, always: bool) -> None:
        """From the next connection on, use these; one that is there is renewed when nobody speaks.

        Their sound has the rate of those before.
        """
        with self._changing:
            self._always = always
            if self._services != tuple(services):
                self._services = self._others = tuple(services)
        self._outbox.wake()

    @property
    def recall(self) -> Recall:
        """What was said lately: for the next link, when this one has ended."""
        return self._switchboard.recall

    def allow(self, allowed: bool) -> None:
        """Whether there may be a connection at all."""
        if allowed is not self._allowed:
            with self._changing:
                self._allowed = allowed
                self._asked = Need.NOTHING
            self._outbox.wake()

    def _relax(self, need: Need, before: set[Need]) -> None:
        """Need no more than *need*, where it is one of *before* that we need now."""
        with self._changing:
            if self._asked in before:
                self._asked = need
        self._outbox.wake()

    @property
    def _need(self) -> Need:
        """How much a connection is needed: by who asked for one, or always."""
        return Need.NOW if self._always and self._allowed else self._asked

    def _awaited(self) -> bool:
        """Whether somebody speaks, or waits for an answer."""
        return self._asked is Need.NOW

    def wake(self) -> None:
        """Look at the world: somebody wants us to stop."""
        self._hurry.set()
        self._outbox.wake()

    def abort(self) -> None:
        """Break out of a call that does not end."""
        self._switchboard.abort()
        if self._carrier is not None:
            self._carrier.abort()

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
        self.pulse.beat()
        self._adopt()
        number = self._roster.choose(time.monotonic())
        call = self._dial(number, self._patience(PATIENCE_S), self._patience(GREETING_S))
        self._carrier = call.carrier
        self._hurry.clear()
        began = time.monotonic()
        try:
            call.carrier.greet(lambda: self._wanted(stopping))
            while call.carrier.run(lambda: self._wanted(stopping), lambda: self._others is not None, self._awaited):
                call = self._renewed(call, stopping)
                self._carrier = call.carrier
            call.carrier.farewell()
        finally:
            self._carrier = None
            call.carrier.close()
            call.switchboard.left(call.number, call.carrier, self._outbox.rewind())
            if call.carrier.ready:
                self._roster.worked(time.monotonic() - began)
        log.info("hung up")
        self._roster.relent()
        self._tell(LinkIdle())

    def _dial(self, number: int, patience: float, greeting: float) -> _Call:
        carrier = self._switchboard.dial(number, patience=patience, greeting=greeting, now=time.monotonic())
        return _Call(self._switchboard, number, self._switchboard.name, carrier)

    def _adopt(self) -> bool:
        """Go over to the services of ``use``; return whether they are others than before."""
        with self._changing:
            services, self._others = self._others, None
        if services is None:
            return False
        self._count, self._roster = len(services), Roster(len(services))
        self._switchboard = self._switchboard.followed_by(services)
        self._refusals, self._said, self._prepared = [], "", False
        return True

    def _wanted(self, stopping: threading.Event) -> bool:
        self.pulse.beat()
        return self._need is not Need.NOTHING and not stopping.is_set()

    def _patience(self, usual: float) -> float:
        return NEXT_S if self._roster.others else usual

    def _renewed(self, old: _Call, stopping: threading.Event) -> _Call:
        """The session is old, or others are to be used, and nobody speaks: return another one that goes on with it, or
        the old one.

        The old one stays open until the new one is ready. Who speaks meanwhile breaks this off (``dial``), and is heard
        by the old one. That a conversation can be gone on with while it is open is inferred; where it cannot, the new
        one is told what was said.
        """
        log.info("the session is old; renewing it")
        old.switchboard.left(old.number, old.carrier)
        changed = self._adopt()
        try:
            new = self._renew(self._roster.choose(time.monotonic()) if changed else old.number, stopping)
        except (LinkLost, LinkRefused) as error:
            soon = self._awaited()
            log.log(logging.WARNING if changed and not soon else logging.INFO, "%s; the old session goes on", error)
            self._outbox.rewind()
            old.carrier.keep(soon=soon)
            return old
        old.carrier.farewell()
        old.carrier.close()
        if new.name != old.name:
            self._tell(LinkUp(new.name))
        return new

    def _renew(self, number: int, stopping: threading.Event) -> _Call:
        """Return a connection that is ready, and that nobody has broken. Raises LinkLost and LinkRefused."""
        self._switchboard.forget()
        self._renewing = True
        try:
            return self._greeted(self._dial(number, NEXT_S, NEXT_S), stopping)
        finally:
            self._renewing = False

    def _greeted(self, new: _Call, stopping: threading.Event) -> _Call:
        try:
            new.carrier.greet(lambda: self._wanted(stopping) and not self._awaited())
            self._renewing = False
            if self._awaited():  # read after the other is cleared: either nobody broke it, or we know
                raise LinkLost("somebody speaks")
        except BaseException:
            new.carrier.close()
            raise
        return new

    def _note(self, event: Event) -> None:
        if isinstance(event, LinkUp):
            self._refusals, self._said = [], ""
            event = LinkUp(self._switchboard.name)
            if self._renewing:
                return  # nothing has changed for anybody
        self._tell(event)

    def _rest(self, stopping: threading.Event) -> None:
        """No connection is needed: wait until one is."""
        self.pulse.rest()
        with selectors.DefaultSelector() as selector:
            selector.register(self._outbox, selectors.EVENT_READ)
            while self._need is Need.NOTHING and not stopping.is_set():
                if not selector.select(None if self._prepared else PREPARE_S):
                    self._prepared = True
                    self._switchboard.prepare(0)
                self._outbox.hush()
                self._confirm_cuts()
                refused = bool(self._said)
                if self._adopt() and refused:
                    self._tell(LinkIdle())  # who refused us is not asked any more

    def _confirm_cuts(self) -> None:
        """Without a connection there is no reply to cancel, but the conversation waits for an answer."""
        for item in self._outbox.take_cancels():
            self._switchboard.recall.cut(item.reply, item.heard_ms)
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
        mute, awaited = isinstance(error, ResponseTimedOut), not (self._always and self._outbox.quiet)
        delay = self._roster.failed(time.monotonic(), retry_after, mute=mute, awaited=awaited)
        if not retry_after and not self._outbox.quiet:
            delay = min(delay, WAITED_FOR_S)
        if not delay:
            log.warning("%s; trying another service", error)
        elif len(self._refusals) == self._count:
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
        self._relax(Need.NOTHING, set(Need))
        self._tell(Refused(str(error), REFUSED_S if self._always else 0.0))
        if self._always:
            self._pause(REFUSED_S, stopping)

    def _pause(self, seconds: float, stopping: threading.Event) -> None:
        """Wait, unless somebody speaks, nobody needs us any more, or we are to stop."""
        self.pulse.rest()
        ends = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._outbox, selectors.EVENT_READ)
            while self._need is Need.NOW and not (stopping.is_set() or self._hurry.is_set() or self._others):
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
        """Nobody needs a connection; unless somebody has begun to speak just now."""
        self._relax(Need.NOTHING, {Need.LATER, Need.NOTHING})
        if self._need is Need.NOTHING:
            self._tell(LinkIdle())
