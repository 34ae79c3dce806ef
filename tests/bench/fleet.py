"""What a hundred thousand speakers do to a service that goes away for a while: `python -m tests.bench.fleet`.

A fake clock and the real rules of when to dial, ``LinkPolicy``: for connections that are always there, and for those on
demand also that a speaker dials when a user asks, and that the user waits for no longer than ``patience``. The service
loses all connections in one moment, refuses every dial while it is away, and when it is back
takes as many dials a second as it can; the others it answers with 503, or with 429.

Dials are counted by the second, from the moment of the loss. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from device_agent.core.conversation import State, state_timeouts
from device_agent.core.errors import LinkLost
from device_agent.link.policy import MAX_SESSION_AGE_S, STABLE_AFTER_S, ConnectPlan, LinkPolicy
from device_agent.net.http_errors import rejection

ROUND_TRIP_S = 0.05
"""How long an answer takes, and by how much the news of the loss differs."""
TURNS_A_DAY, BUSY_HOUR = 20, 3.0
"""How often a speaker is spoken to, and how much more often in the evening."""
TURN_S = 3.0
"""How long a user speaks; the speaker dials from the first word on."""
LONGEST_S = 7200.0
"""No simulation lasts longer."""


CHANCE = random.Random()
"""For all of them: one each would be 250 MB."""


class _Even(random.Random):
    """The upper bound is as good a number as any."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Speaker:
    """One speaker by the rules of the agent; its connection has lasted, where it had one."""

    def __init__(self, *, always: bool, asks: bool, notices: bool = False, rng: random.Random | None = None) -> None:
        self._policy = LinkPolicy([30.0], always=always, rng=rng or CHANCE)
        self._asks, self._notices = asks, notices
        if always:
            self._policy.decide(-STABLE_AFTER_S)
            self._policy.ready(-STABLE_AFTER_S, MAX_SESSION_AGE_S)

    def begins(self, now: float) -> float:
        """It loses its connection, or is asked: return when it dials."""
        if self._asks:
            self._policy.ask(now)
            return self._next(now)
        if self._notices:
            self._policy.notice(now)
        return self.failed(now, 0.0)

    def failed(self, now: float, retry_after: float) -> float:
        """A dial has failed: return when it dials again."""
        self._policy.lost(LinkLost("away", retry_after=retry_after), now)
        return self._next(now)

    def _next(self, now: float) -> float:
        decision = self._policy.decide(now)
        if isinstance(decision, ConnectPlan):
            return now
        self._policy.decide(decision.until)  # it dials then
        return decision.until


def waited_for() -> Speaker:
    """Return one that makes a connection when it is asked."""
    return Speaker(always=False, asks=True)


def unattended() -> Speaker:
    """Return one that is always connected, and that no user speaks to now."""
    return Speaker(always=True, asks=False)


def hasty() -> Speaker:
    """Return one like it that hurries with a connection that no user waits for."""
    return Speaker(always=True, asks=False, notices=True)


def even() -> Speaker:
    """Return the same without chance."""
    return Speaker(always=True, asks=False, notices=True, rng=_Even())


@dataclass(frozen=True)
class Service:
    """How long it is away, how many dials a second it takes then, and what it answers to the others."""

    away: float
    capacity: float = float("inf")
    busy: int = 503

    @property
    def retry_after(self) -> float:
        return getattr(rejection("it", self.busy, {}, None), "retry_after", 0.0)


@dataclass
class Load:
    """What the service saw, in dials a second, and how many seconds after the return the last
    of those was back that had waited for it."""

    at_loss: int = 0
    away: float = 0.0
    at_return: int = 0
    dials: int = 0
    back_s: float = 0.0
    gave_up: int = 0


@dataclass(frozen=True)
class Call:
    """A connection is wanted *at*, by a user or by the speaker alone, and for how long."""

    at: float
    patience: float = LONGEST_S


def always(speakers: int, _service: Service) -> Iterator[Call]:
    """All of them lose their connection, and want it back."""
    for _ in range(speakers):
        yield Call(random.uniform(0.0, ROUND_TRIP_S))


def on_demand(speakers: int, service: Service) -> Iterator[Call]:
    """None of them dials but those that are spoken to, in the evening."""
    rate = speakers * TURNS_A_DAY * BUSY_HOUR / 86400
    at = random.expovariate(rate)
    while at < service.away + 60:
        yield Call(at, TURN_S + state_timeouts()[State.SENDING])
        at += random.expovariate(rate)


def simulate(calls: Iterator[Call], service: Service, make: Callable[[], Speaker]) -> Load:
    """Let them dial until each is back or has given up."""
    waiting: list[tuple[float, int, Call, Speaker]] = []
    for number, call in enumerate(calls):
        speaker = make()
        waiting.append((speaker.begins(call.at), number, call, speaker))
    heapq.heapify(waiting)
    dials: Counter[int] = Counter()
    served: Counter[int] = Counter()
    load = Load()
    while waiting:
        now, number, call, speaker = heapq.heappop(waiting)
        if now - call.at > call.patience:
            load.gave_up += 1
            continue
        second = int(now)
        dials[second] += 1
        if now >= service.away and served[second] < service.capacity:
            served[second] += 1
            if call.at < service.away:
                load.back_s = max(load.back_s, now - service.away)
            continue
        again = speaker.failed(now + ROUND_TRIP_S, service.retry_after if now >= service.away else 0.0)
        heapq.heappush(waiting, (again, number, call, speaker))
    back = int(service.away)
    load.at_loss = max((dials[second] for second in range(min(10, back))), default=0)
    load.away = sum(dials[second] for second in range(back // 2, back)) / max(1, back - back // 2)
    load.at_return = max((count for second, count in dials.items() if second >= back), default=0)
    load.dials = dials.total()
    return load


SCENES = [
    ("on demand, 10 min", on_demand, waited_for, Service(600)),
    ("always, 10 min", always, unattended, Service(600)),
    ("  takes 1000/s, then 503", always, unattended, Service(600, 1000)),
    ("  takes 1000/s, then 429", always, unattended, Service(600, 1000, 429)),
    ("  if it hurried", always, hasty, Service(600)),
    ("  and without jitter", always, even, Service(600)),
    ("always, 5 s", always, unattended, Service(5)),
    ("  takes 1000/s, then 503", always, unattended, Service(5, 1000)),
    ("  takes 1000/s, then 429", always, unattended, Service(5, 1000, 429)),
    ("  if it hurried", always, hasty, Service(5)),
    ("  and without jitter", always, even, Service(5)),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speakers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.speakers} speakers; dials a second, by the second")
    head = f"{'most at the loss':>17}{'while away':>12}{'most on return':>16}{'dials each':>12}{'all back after s':>18}"
    print(f"{'':28}{head}{'gave up':>9}")
    figures = {}
    scene = ""
    for name, calls, make, service in SCENES:
        random.seed(options.seed)
        CHANCE.seed(options.seed)
        load = simulate(calls(options.speakers, service), service, make)
        row = f"{load.at_loss:17}{load.away:12.0f}{load.at_return:16}{load.dials / options.speakers:12.1f}"
        print(f"{name:28}{row}{load.back_s:18.1f}{load.gave_up:9}", flush=True)
        scene = name if not name.startswith(" ") else scene
        figures[scene if name == scene else f"{scene},{name[1:]}"] = asdict(load)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
