"""Link policy: when there is a connection, and to which service. Events and ``now`` go in, decisions come out.

A connection is *asked for* by a press, a typed or recorded turn, or an announcement. *Noticed* is speech that opened
the gate by itself, which may be a television. Only a request ends a pause early, and nothing ends the pause that a
service asked for. After a refusal, speech alone connects no more for REFUSED_S.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ..core.conversation import REFUSED_S, SENDING, state_timeouts
from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..core.events import LinkDown, LinkIdle, Refused
from .backoff import BACKOFF_FIRST_S, MAX_DOUBLINGS, backoff, idle_backoff
from .failover import FAILED_SERVICE_AWAY_S, Failover

DIAL_TIMEOUT_S = 10.0
"""For a connect, from the look-up of the name to the answer of the handshake."""
ALTERNATIVE_TIMEOUT_S = 4.0
"""For a connect, and then for the greeting, where another service or the old connection can be used instead."""
TURN_CONNECT_TIMEOUT_S = state_timeouts()[SENDING]
"""How long a turn waits for a connection. Where no service may be connected to for longer, it is refused at once."""
MAX_REQUESTED_PAUSE_S = 1.0
"""For a request, which is given up after TURN_CONNECT_TIMEOUT_S: so there are few pauses."""
STABLE_AFTER_S = 60.0
"""After a connection that lasted so long, the pauses begin short again."""
CLOSED_AT_ONCE_S = 1.0
"""A session that is closed sooner after it was ready has done no work."""
PREPARE_AFTER_S = 2.0
"""Without a need, the first connection is prepared after so long: a start has other things to do."""

MAX_SESSION_AGE_S = 25 * 60.0
"""Age for renewal where the service does not say when it ends the session: the shortest limit known is 30 minutes."""
MIN_SESSION_AGE_S = 60.0
"""Least age for renewal, whatever the service says."""
RENEW_MARGIN_S = 120.0
"""A session is renewed so long before its end, or a tenth of what is left of it, to find a quiet moment."""
MAX_SESSION_LEFT_S = 24 * 3600.0
"""A session that would last longer has a wrong end, or this machine's clock is wrong."""
RENEW_RETRY_S = 60.0
"""Until the next try to renew. The pause doubles up to MAX_SESSION_AGE_S: a service with a single slot never accepts a
second session."""
RENEW_AFTER_TURN_S = 10.0
"""The same, where a turn broke the renewal off."""


def renew_in(expires_at: float, wall: float) -> float:
    """Return in how many seconds to renew a session that ends at *expires_at*; *wall* is now, both in Unix time."""
    left = expires_at - wall
    return left - min(RENEW_MARGIN_S, left / 10) if 0 < left <= MAX_SESSION_LEFT_S else MAX_SESSION_AGE_S


class Need(IntEnum):
    """What a connection is needed for; a larger number is a greater need."""

    NOTHING = 0
    LATER = 1
    """It may stay while it lasts."""
    NOTICED = 2
    """For speech alone: connect in due time."""
    ASKED = 3
    """For a request: connect now."""


@dataclass(frozen=True)
class ConnectPlan:
    """Connect to *service*, by its number in the *generation* of services that ``use`` counts. The connect may take
    *dial_s* seconds, and then the greeting *greeting_s*."""

    service: int
    dial_s: float
    greeting_s: float
    generation: int


@dataclass(frozen=True)
class Prepare:
    """Shorten a later connect to *service*, without sending it anything."""

    service: int


@dataclass(frozen=True)
class Wait:
    """Do nothing before *until*, or before an event."""

    until: float = math.inf


Decision = ConnectPlan | Prepare | Wait


class Verdict(NamedTuple):
    """What follows from a failure: an *event* to tell, None where another service is tried at once. *known*: the same
    refusal was told before."""

    event: LinkDown | LinkIdle | Refused | None
    known: bool = False


class _Phase(IntEnum):
    IDLE = 0
    DIALLING = 1
    CONNECTED = 2
    DOWN = 3
    """Not connected although there is a need: connecting again soon, or after a pause."""
    REFUSED = 4
    """No service accepts us, and that was told."""


class LinkPolicy:
    """Decides about connections. Times are in seconds of any monotonic clock; one lock of the caller guards it all.

    *greeting_s* holds, for each service in the order of the configuration, how many seconds its greeting may take.
    *always* asks for a connection without a need. An event that a method returns is to be told.
    """

    def __init__(self, greeting_s: Sequence[float], *, always: bool = False, rng: random.Random | None = None) -> None:
        self._greeting_s, self._always, self._rng = tuple(greeting_s), always, rng or random.Random()
        self._failover = Failover(len(self._greeting_s))
        self.generation = 0
        """How often ``use`` has named other services."""
        self.need = Need.NOTHING
        self.allowed = True
        """Whether there may be a connection at all."""
        self.renew_at = math.inf
        """When the connection is to be renewed, as soon as it is quiet."""
        self._phase = _Phase.IDLE
        self._plan: ConnectPlan | None = None  # what is dialled or connected
        self._renewal: ConnectPlan | None = None  # what is dialled to take the place of the connection
        self._ready_at = math.inf
        self._renewals = 0  # that failed in a row
        self._pause = self._calm = -math.inf  # no connect before: for a need, and for none
        self._failures = self._unattended = 0  # pauses of each kind, in a row
        self._failed_at = -math.inf
        self._closed_at_once = 0  # times in a row that a session was closed as soon as it was there
        self._reason = self._said = ""  # of the latest failure; the refusal that was told last
        self._prepare_at: float | None = None  # known at the first rest, infinite when there is nothing to prepare

    @property
    def wanted(self) -> bool:
        """Whether a connection may stay."""
        return self.allowed and (self._always or self.need is not Need.NOTHING)

    @property
    def awaited(self) -> bool:
        """Whether the user speaks, or waits for an answer."""
        return self.need >= Need.NOTICED

    @property
    def renewing(self) -> bool:
        """Whether a connection is made to take the place of another one."""
        return self._renewal is not None

    @property
    def _makes(self) -> bool:
        """Whether a connection is to be made."""
        return self.allowed and (self._always or self.awaited)

    def decide(self, now: float) -> Decision:
        """Return what to do while there is no connection."""
        if not self._makes:
            return self._rest(now)
        at, number = self._failover.next(self._pause if self.awaited else self._calm, now)
        if at > now:
            return Wait(at)
        dial_s, greeting_s = DIAL_TIMEOUT_S, self._greeting_s[number]
        if self._failover.alternative(number, now):
            dial_s = greeting_s = ALTERNATIVE_TIMEOUT_S
        self._phase, self._prepare_at = _Phase.DIALLING, math.inf
        self._plan = ConnectPlan(number, dial_s, greeting_s, self.generation)
        return self._plan

    def _rest(self, now: float) -> Decision:
        """Return what to do where no connection is to be made."""
        if not self.allowed:
            return Wait()
        self._prepare_at = now + PREPARE_AFTER_S if self._prepare_at is None else self._prepare_at
        if now < self._prepare_at:
            return Wait(self._prepare_at)
        self._prepare_at = math.inf
        return Prepare(0)

    # What is needed ---------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> Refused | None:
        """A request needs a connection: no pause but one that the service asked for delays it."""
        self.need = Need.ASKED
        self._failures, self._pause, self._calm = 0, -math.inf, -math.inf
        self._failover.forgive()
        self._failover.begin_round()
        return self._hopeless(now)

    def notice(self, now: float) -> Refused | None:
        """Speech alone needs a connection."""
        self.need = max(self.need, Need.NOTICED)
        return self._hopeless(now)

    def linger(self) -> LinkIdle | None:
        """Do not replace the connection if it breaks now."""
        self.need = min(self.need, Need.LATER)
        return self._at_rest()

    def hang_up(self) -> LinkIdle | None:
        """Close the connection: it is not needed any more."""
        self.need = Need.NOTHING
        return self._at_rest()

    def allow(self, allowed: bool, now: float) -> LinkIdle | Refused | None:
        """Set whether there may be a connection."""
        if allowed is self.allowed:
            return None
        self.allowed = allowed
        if not allowed:
            self.need = Need.NOTHING
            return self._at_rest()
        if self.awaited:
            return self._hopeless(now)
        # Why there was none has been told as a refusal: it is over.
        return None if self._makes or self._phase is not _Phase.IDLE else LinkIdle()

    def use(self, greeting_s: Sequence[float] | None, now: float, *, always: bool) -> LinkIdle | None:
        """Use other services from now on, with *greeting_s* as in the constructor; None: the same services."""
        self._always = always
        if greeting_s is not None:
            self.generation += 1
            self._greeting_s, self._failover = tuple(greeting_s), Failover(len(greeting_s))
            self._pause = self._calm = -math.inf
            self._failures = self._unattended = self._renewals = 0
            self._said, self._prepare_at, self.renew_at = "", None, now
            if self._phase is _Phase.REFUSED:
                self._phase = _Phase.DOWN  # the services that refused are replaced
        return self._at_rest()

    def _at_rest(self) -> LinkIdle | None:
        """End a pause that no need waits for."""
        if self._phase is not _Phase.DOWN or self._makes:
            return None
        self._phase = _Phase.IDLE
        return LinkIdle()

    def _hopeless(self, now: float) -> Refused | None:
        """Refuse a turn that would wait in vain, because no service may be connected to in time."""
        waits = self.allowed and self._phase not in {_Phase.DIALLING, _Phase.CONNECTED}
        if not waits or self._failover.possible_at(now) <= now + TURN_CONNECT_TIMEOUT_S:
            return None
        return self._refused(now)

    def _refused(self, now: float) -> Refused:
        self.need, self._phase = Need.NOTHING, _Phase.REFUSED
        return Refused(self._reason, self._failover.possible_at(now) - now)

    # What becomes of a connection -------------------------------------------------------------------------------------

    def ready(self, now: float, renew_after: float) -> None:
        """The session is ready, and due for renewal after *renew_after* seconds, MIN_SESSION_AGE_S at least."""
        plan = self._current
        self._phase, self._ready_at, self._renewals, self._said = _Phase.CONNECTED, now, 0, ""
        self.renew_at = now
        if plan.generation == self.generation:
            self.renew_at = now + max(MIN_SESSION_AGE_S, renew_after)
            self._failover.worked(plan.service)

    def ended(self, now: float) -> LinkIdle:
        """The connection was closed because it was not needed any more."""
        self._left(now)
        self._failures = self._unattended = 0
        self._phase = _Phase.IDLE
        return LinkIdle()

    def lost(self, error: LinkLost | LinkRefused, now: float, *, mute: bool = False) -> Verdict:
        """The connection was not made, or ended with *error*. *mute*: the service was connected and did not answer."""
        plan, reached = self._current, self._phase is _Phase.CONNECTED
        error = self._judged_again(error, now)
        self._left(now)
        self._reason = str(error)
        if plan.generation == self.generation:
            self._note(plan.service, error, now, reached=reached and not mute)
        return self._verdict(now, refused=isinstance(error, LinkRefused))

    def _judged_again(self, error: LinkLost | LinkRefused, now: float) -> LinkLost | LinkRefused:
        """Return *error*, as a refusal where the service has closed two sessions in a row as soon as they were ready:
        once may have been a passing reason."""
        at_once = isinstance(error, LinkClosed) and now - self._ready_at < CLOSED_AT_ONCE_S
        self._closed_at_once = self._closed_at_once + 1 if at_once else 0
        return LinkRefused(str(error)) if self._closed_at_once > 1 else error

    @property
    def _current(self) -> ConnectPlan:
        assert self._plan is not None  # noqa: S101
        return self._plan

    def _left(self, now: float) -> None:
        if now - self._ready_at >= STABLE_AFTER_S:
            self._failures = self._unattended = 0
        self._plan, self._ready_at, self.renew_at = None, math.inf, math.inf

    def _note(self, number: int, error: LinkLost | LinkRefused, now: float, *, reached: bool) -> None:
        """Note what *error* says of service *number*, and how long to pause.

        A service that was *reached* and lost is tried again, because it knows the conversation; one that was not, or
        asked for time, or refused, is passed over.
        """
        if isinstance(error, LinkRefused):
            self._failover.refused(number, now + REFUSED_S)
        elif error.retry_after:
            jitter = self._rng.uniform(BACKOFF_FIRST_S / 2, BACKOFF_FIRST_S)
            self._failover.busy(number, now + error.retry_after + jitter)
        elif reached:
            self._pause_from(now, now)
            return
        self._failover.failed(number, now)
        if not self._failover.more(now):
            self._pause_from(self._failover.possible_at(now), now)

    def _pause_from(self, begin: float, now: float) -> None:
        """End the round with a pause from *begin* on."""
        if now - self._failed_at > FAILED_SERVICE_AWAY_S:
            self._failures = self._unattended = 0  # that was another outage
        self._failed_at = now
        limit = MAX_REQUESTED_PAUSE_S if self.need is Need.ASKED else math.inf
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
            self.need, self._phase = Need.NOTHING, _Phase.IDLE
            return Verdict(LinkIdle())
        at, _ = self._failover.next(self._pause if self.awaited else self._calm, now)
        self._phase = _Phase.DOWN
        return Verdict(LinkDown(self._reason, at - now) if at > now else None)

    # Renewing ---------------------------------------------------------------------------------------------------------

    def renew(self, now: float) -> ConnectPlan | None:
        """It is quiet: return what to connect to in place of the present connection; None: not now."""
        if self.awaited or now < self.renew_at:
            return None
        at, number = self._failover.next(-math.inf, now)
        if self._current.generation == self.generation:
            number = self._current.service
            at = self._failover.closed_until(number)
        if at > now:
            self.renew_at = at
            return None
        self._renewal = ConnectPlan(number, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, self.generation)
        return self._renewal

    def renewed(self, now: float, renew_after: float) -> bool:
        """The new connection is ready: return whether it takes the place of the old one, which it does unless a turn
        has begun meanwhile."""
        if self._renewal is None or self.awaited:
            return False
        self._plan, self._renewal = self._renewal, None
        self.ready(now, renew_after)
        return True

    def not_renewed(self, error: LinkLost | LinkRefused, now: float) -> None:
        """The new connection failed: the old one goes on.

        A refusal does not count: a service without room for a second connection may say so in any way.
        """
        plan, self._renewal = self._renewal, None
        if plan is None or plan.generation != self.generation:
            return  # there are other services by now, and ``use`` has said when to try them
        if self.awaited:
            self.renew_at = now + RENEW_AFTER_TURN_S
            return
        if isinstance(error, LinkLost):
            self._failover.busy(plan.service, now + error.retry_after)
        if self._current.generation != self.generation:
            self._failover.failed(plan.service, now)
            if not self._failover.more(now):
                self._failover.begin_round()
        self.renew_at = now + min(RENEW_RETRY_S * 2**self._renewals, MAX_SESSION_AGE_S)
        self._renewals = min(self._renewals + 1, MAX_DOUBLINGS)
