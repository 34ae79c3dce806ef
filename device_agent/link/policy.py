"""When there is a connection, and to which service. Pure: what happens and ``now`` go in, what to do comes out.

A connection is *asked for* by a press, a typed or recorded turn, or an announcement. *Noticed* is speech that opened
the gate by itself, which may be a television. Only a request ends a pause before its time, and nothing ends the pause
that a service asked for. After a refusal, speech alone dials no more for REFUSED_S.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ..core.conversation import REFUSED_S, SENDING, patience
from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import LinkDown, LinkIdle, Refused
from .backoff import BACKOFF_FIRST_S, MAX_DOUBLINGS, backoff, idle_backoff
from .failover import FAILED_SERVICE_AWAY_S, Failover

DIAL_TIMEOUT_S = 10.0
"""Seconds that a dial may take, from the look-up of the name to the answer of the handshake."""
ALTERNATIVE_TIMEOUT_S = 4.0
"""Seconds that a dial, and then the greeting, may take where there is something else to go on with."""
TURN_CONNECT_TIMEOUT_S = patience()[SENDING]
"""Seconds that a turn waits for a connection. Where no service may be dialled for longer, it is refused at once."""
MAX_REQUESTED_PAUSE_S = 1.0
"""The longest pause for what was asked for: it is given up after TURN_S, so there are few of them."""
STABLE_AFTER_S = 60.0
"""A connection that lasted so long was a good one: the pauses begin short again."""
CLOSED_AT_ONCE_S = 1.0
"""A session that is closed sooner than so many seconds after it was ready has done no work."""
PREPARE_AFTER_S = 2.0
"""Seconds without a need after which the first connection is prepared: a start has other things to do."""

MAX_SESSION_AGE_S = 25 * 60.0
"""How old a session may become, where the service does not say when it ends: the shortest limit known is 30 minutes."""
MIN_SESSION_AGE_S = 60.0
"""No session is renewed because of its age before it is so old, whatever the service says of its end."""
RENEW_MARGIN_S = 120.0
"""So long before its end, or a tenth of what is left of it, a session is old: there will be a quiet moment."""
MAX_SESSION_LEFT_S = 24 * 3600.0
"""A session that would last longer has an end that is wrong, or this machine's clock is."""
RENEW_RETRY_S = 60.0
"""Seconds until the next try to renew a session. The pause doubles up to RENEW_S: a service with a single slot never
takes the new one while the old one is there."""
RENEW_AFTER_TURN_S = 10.0
"""The same, where a turn broke the renewal off: nothing is wrong with the service."""


def renew_in(expires_at: float, wall: float) -> float:
    """Return in how many seconds a session is old that ends at *expires_at*, when it is *wall* (Unix time) now."""
    left = expires_at - wall
    return left - min(RENEW_MARGIN_S, left / 10) if 0 < left <= MAX_SESSION_LEFT_S else MAX_SESSION_AGE_S


class Need(IntEnum):
    """What a connection is needed for; a larger number is a greater need."""

    NOTHING = 0
    LATER = 1
    """It may stay while it lasts."""
    NOTICED = 2
    """Speech alone opened the gate: make one in due time."""
    ASKED = 3
    """A request: make one now."""


@dataclass(frozen=True)
class ConnectPlan:
    """Connect to *service*, by its number in the *generation* of services that ``use`` counts: the dial may take
    *dial_s* seconds, and then the greeting *greeting_s*."""

    service: int
    dial_s: float
    greeting_s: float
    generation: int


@dataclass(frozen=True)
class Prepare:
    """Do now what shortens a later dial to *service*, without a word to it."""

    service: int


@dataclass(frozen=True)
class Wait:
    """Do nothing before *until*, in seconds of the clock of ``now``, or before something happens."""

    until: float = math.inf


Decision = ConnectPlan | Prepare | Wait


class Verdict(NamedTuple):
    """What follows from a failure: *event* is to be told, None where another service is tried at once. *known* says
    that the same refusal has been told before."""

    event: LinkDown | LinkIdle | Refused | None
    known: bool = False


class _Phase(IntEnum):
    """Where we are between two connections, or on one."""

    IDLE = 0
    DIALLING = 1
    CONNECTED = 2
    DOWN = 3
    """Not connected although something needs it: the next dial is under way soon, or after a pause."""
    REFUSED = 4
    """No service takes us, and that was told."""


class LinkPolicy:
    """Decides about connections. Times are in seconds of any monotonic clock; one lock of the caller guards it all.

    *patience* holds, for each service in the order of the configuration, how many seconds its greeting may take.
    *always* says that there is a connection although nothing needs one. Methods that return an event want it told.
    """

    def __init__(self, patience: Sequence[float], *, always: bool = False, rng: random.Random | None = None) -> None:
        self._patience, self._always, self._rng = tuple(patience), always, rng or random.Random()
        self._failover = Failover(len(self._patience))
        self._generation = 0
        self._need, self._allowed = Need.NOTHING, True
        self._phase = _Phase.IDLE
        self._plan: ConnectPlan | None = None  # what is dialled or connected
        self._renewal: ConnectPlan | None = None  # what is dialled to take the place of the connection
        self._ready_at = self._renew_at = math.inf
        self._renewals = 0  # that failed in a row
        self._pause = self._calm = -math.inf  # no dial before: for a need, and for none
        self._failures = self._unattended = 0  # pauses of each kind, in a row
        self._failed_at = -math.inf
        self._closed_at_once = 0  # times in a row that a session was closed as soon as it was there
        self._reason = self._said = ""  # of the latest failure; the refusal that was told last
        self._prepare_at: float | None = None  # known at the first rest, infinite when there is nothing to prepare

    # What is asked of it ----------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """How often ``use`` has named other services."""
        return self._generation

    @property
    def need(self) -> Need:
        """What a connection is needed for."""
        return self._need

    @property
    def allowed(self) -> bool:
        """Whether there may be a connection at all."""
        return self._allowed

    @property
    def wanted(self) -> bool:
        """Whether a connection may stay."""
        return self._allowed and (self._always or self._need is not Need.NOTHING)

    @property
    def awaited(self) -> bool:
        """Whether the user speaks, or waits for an answer."""
        return self._need >= Need.NOTICED

    @property
    def renewing(self) -> bool:
        """Whether a connection is made to take the place of another one."""
        return self._renewal is not None

    @property
    def renew_at(self) -> float:
        """When the connection is to be renewed, as soon as it is quiet."""
        return self._renew_at

    @property
    def _makes(self) -> bool:
        """Whether a connection is to be made."""
        return self._allowed and (self._always or self.awaited)

    def decide(self, now: float) -> Decision:
        """There is no connection: return what to do."""
        if not self._makes:
            return self._rest(now)
        at, number = self._failover.next(self._pause if self.awaited else self._calm, now)
        if at > now:
            return Wait(at)
        dial_s, greeting_s = DIAL_TIMEOUT_S, self._patience[number]
        if self._failover.alternative(number, now):
            dial_s = greeting_s = ALTERNATIVE_TIMEOUT_S
        self._phase, self._prepare_at = _Phase.DIALLING, math.inf
        self._plan = ConnectPlan(number, dial_s, greeting_s, self._generation)
        return self._plan

    def _rest(self, now: float) -> Decision:
        """Return what to do where no connection is to be made."""
        if not self._allowed:
            return Wait()
        self._prepare_at = now + PREPARE_AFTER_S if self._prepare_at is None else self._prepare_at
        if now < self._prepare_at:
            return Wait(self._prepare_at)
        self._prepare_at = math.inf
        return Prepare(0)

    # What is needed ---------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> Refused | None:
        """A connection was asked for: no pause but that of the service itself keeps it waiting."""
        self._need = Need.ASKED
        self._failures, self._pause, self._calm = 0, -math.inf, -math.inf
        self._failover.forgive()
        self._failover.begin_round()
        return self._hopeless(now)

    def notice(self, now: float) -> Refused | None:
        """Speech alone needs a connection."""
        self._need = max(self._need, Need.NOTICED)
        return self._hopeless(now)

    def linger(self) -> LinkIdle | None:
        """If the connection breaks now, nothing needs another one."""
        self._need = min(self._need, Need.LATER)
        return self._at_rest()

    def hang_up(self) -> LinkIdle | None:
        """No connection is needed any more."""
        self._need = Need.NOTHING
        return self._at_rest()

    def allow(self, allowed: bool, now: float) -> LinkIdle | Refused | None:
        """From now on there may be a connection, or none."""
        if allowed is self._allowed:
            return None
        self._allowed = allowed
        if not allowed:
            self._need = Need.NOTHING
            return self._at_rest()
        if self.awaited:
            return self._hopeless(now)
        # Why there was none has been told as a refusal: it is over.
        return None if self._makes or self._phase is not _Phase.IDLE else LinkIdle()

    def use(self, patience: Sequence[float] | None, now: float, *, always: bool) -> LinkIdle | None:
        """From now on there are other services, as in the constructor; None: the same."""
        self._always = always
        if patience is not None:
            self._generation += 1
            self._patience, self._failover = tuple(patience), Failover(len(patience))
            self._pause = self._calm = -math.inf
            self._failures = self._unattended = self._renewals = 0
            self._said, self._prepare_at, self._renew_at = "", None, now
            if self._phase is _Phase.REFUSED:
                self._phase = _Phase.DOWN  # those that refused us are not asked any more
        return self._at_rest()

    def _at_rest(self) -> LinkIdle | None:
        """Return what to tell where a pause is over because nothing needs its end."""
        if self._phase is not _Phase.DOWN or self._makes:
            return None
        self._phase = _Phase.IDLE
        return LinkIdle()

    def _hopeless(self, now: float) -> Refused | None:
        """Return what to tell where a turn would wait in vain: no service may be dialled in time."""
        waits = self._allowed and self._phase not in {_Phase.DIALLING, _Phase.CONNECTED}
        if not waits or self._failover.possible_at(now) <= now + TURN_CONNECT_TIMEOUT_S:
            return None
        return self._refused(now)

    def _refused(self, now: float) -> Refused:
        self._need, self._phase = Need.NOTHING, _Phase.REFUSED
        return Refused(self._reason, self._failover.possible_at(now) - now)

    # What becomes of a connection -------------------------------------------------------------------------------------

    def ready(self, now: float, renew_after: float) -> None:
        """The service has taken us; the session is old after *renew_after* seconds, YOUNGEST_S at least."""
        plan = self._current
        self._phase, self._ready_at, self._renewals, self._said = _Phase.CONNECTED, now, 0, ""
        self._renew_at = now
        if plan.generation == self._generation:
            self._renew_at = now + max(MIN_SESSION_AGE_S, renew_after)
            self._failover.worked(plan.service)

    def ended(self, now: float) -> LinkIdle:
        """The connection was closed in good order: nothing needed it any more."""
        self._left(now)
        self._failures = self._unattended = 0
        self._phase = _Phase.IDLE
        return LinkIdle()

    def lost(self, error: LinkLost | LinkRefused, now: float, *, mute: bool = False) -> Verdict:
        """The connection was not made, or ended with *error*; *mute*: the service is connected and does not answer."""
        plan, reached = self._current, self._phase is _Phase.CONNECTED
        error = self._judged_again(error, now)
        self._left(now)
        self._reason = str(error)
        if plan.generation == self._generation:
            self._note(plan.service, error, now, reached=reached and not mute)
        return self._verdict(now, refused=isinstance(error, LinkRefused))

    def _judged_again(self, error: LinkLost | LinkRefused, now: float) -> LinkLost | LinkRefused:
        """A service that takes us and closes the session at once, with a code that refuses, may have had a reason of
        the moment; twice in a row it does not want us."""
        at_once = isinstance(error, LinkClosed) and now - self._ready_at < CLOSED_AT_ONCE_S
        self._closed_at_once = self._closed_at_once + 1 if at_once else 0
        return LinkRefused(str(error)) if self._closed_at_once > 1 else error

    @property
    def _current(self) -> ConnectPlan:
        """What is dialled or connected: the caller has got it from ``decide``."""
        assert self._plan is not None  # noqa: S101
        return self._plan

    def _left(self, now: float) -> None:
        if now - self._ready_at >= STABLE_AFTER_S:
            self._failures = self._unattended = 0
        self._plan, self._ready_at, self._renew_at = None, math.inf, math.inf

    def _note(self, number: int, error: LinkLost | LinkRefused, now: float, *, reached: bool) -> None:
        """Remember what *error* says of service *number*, and how long to wait before anything is dialled again.

        A service that was reached and lost is tried again, because it knows the conversation; one that was not, or asks
        for time, or refuses us, is passed over.
        """
        if isinstance(error, LinkRefused):
            self._failover.refused(number, now + REFUSED_S)
        elif error.retry_after:
            self._failover.busy(
                number, now + error.retry_after + self._rng.uniform(BACKOFF_FIRST_S / 2, BACKOFF_FIRST_S)
            )
        elif reached:
            self._pause_from(now, now)
            return
        self._failover.failed(number, now)
        if not self._failover.more(now):
            self._pause_from(self._failover.possible_at(now), now)

    def _pause_from(self, begin: float, now: float) -> None:
        """The round is over: wait for a while from *begin* on."""
        if now - self._failed_at > FAILED_SERVICE_AWAY_S:
            self._failures = self._unattended = 0  # the last trouble was another one
        self._failed_at = now
        limit = MAX_REQUESTED_PAUSE_S if self._need is Need.ASKED else math.inf
        self._pause = begin + backoff(self._failures, self._rng, limit)
        self._calm = begin + idle_backoff(self._unattended, self._rng)
        if self.awaited:
            self._failures += 1
        else:
            self._unattended += 1
        self._failover.begin_round()

    def _verdict(self, now: float, *, refused: bool) -> Verdict:
        possible = self._failover.possible_at(now)
        if (refused or self.awaited) and possible > now + TURN_CONNECT_TIMEOUT_S:
            known, self._said = self._said == self._reason, self._reason
            return Verdict(self._refused(now), known)
        if not self._makes:
            self._need, self._phase = Need.NOTHING, _Phase.IDLE
            return Verdict(LinkIdle())
        at, _ = self._failover.next(self._pause if self.awaited else self._calm, now)
        self._phase = _Phase.DOWN
        return Verdict(LinkDown(self._reason, at - now) if at > now else None)

    # Renewing ---------------------------------------------------------------------------------------------------------

    def renew(self, now: float) -> ConnectPlan | None:
        """It is quiet: return what to connect to in place of the connection that there is; None: not now."""
        if self.awaited or now < self._renew_at:
            return None
        at, number = self._failover.next(-math.inf, now)
        if self._current.generation == self._generation:
            number = self._current.service
            at = self._failover.closed_until(number)
        if at > now:
            self._renew_at = at
            return None
        self._renewal = ConnectPlan(number, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, self._generation)
        return self._renewal

    def renewed(self, now: float, renew_after: float) -> bool:
        """The new connection is ready: return whether it takes the place of the old one. It does not where a turn has
        begun meanwhile: the old one has it."""
        if self._renewal is None or self.awaited:
            return False
        self._plan, self._renewal = self._renewal, None
        self.ready(now, renew_after)
        return True

    def not_renewed(self, error: LinkLost | LinkRefused, now: float) -> None:
        """The new connection did not come about: the old one goes on.

        A refusal is not kept: a service may have no room for the second connection, and says so in any way.
        """
        plan, self._renewal = self._renewal, None
        if plan is None or plan.generation != self._generation:
            return  # there are other services by now, and ``use`` has said when to try them
        if self.awaited:
            self._renew_at = now + RENEW_AFTER_TURN_S
            return
        if isinstance(error, LinkLost):
            self._failover.busy(plan.service, now + error.retry_after)
        if self._current.generation != self._generation:
            self._failover.failed(plan.service, now)
            if not self._failover.more(now):
                self._failover.begin_round()
        self._renew_at = now + min(RENEW_RETRY_S * 2**self._renewals, MAX_SESSION_AGE_S)
        self._renewals = min(self._renewals + 1, MAX_DOUBLINGS)
