"""What a hundred thousand speakers do to a service that goes away for a while: `python tests/bench_fleet.py`.

A fake clock and the real rules of when to dial: ``Roster`` and ``backoff`` for connections that are always there, and
for those on demand also that a speaker dials when somebody speaks, and that nobody waits for an answer for longer than
``PATIENCE``. The service loses all connections in one moment, refuses every dial while it is away, and when it is back
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

from device_agent.backoff import backoff
from device_agent.conversation import PATIENCE, State
from device_agent.rejections import rejection
from device_agent.roster import GOOD_S, Roster

ROUND_TRIP_S = 0.05
"""How long an answer takes, and by how much the news of the loss differs."""
TURNS_A_DAY, BUSY_HOUR = 20, 3.0
"""How often a speaker is spoken to, and how much more often in the evening."""
TURN_S = 3.0
"""How long somebody speaks, dialling from the first word on."""
LONGEST_S = 7200.0
"""No simulation lasts longer."""


class _Even(random.Random):
    """The upper bound is as good a number as any."""

    def uniform(self, a: float, b: float) -> float:
        return b


def waited_for() -> Roster:
    """Return the rule of the agent for a connection that somebody waits for."""
    return Roster(1)


class _Calm(Roster):
    """The rule of the agent for a connection that has lasted, and that nobody waits for now."""

    def failed(self, now: float, retry_after: float = 0.0) -> float:
        return super().failed(now, retry_after, awaited=False)


def unattended() -> Roster:
    roster = _Calm(1)
    roster.worked(GOOD_S)
    return roster


def hasty() -> Roster:
    """Return what it would be if a connection that nobody waits for hurried as well."""
    roster = Roster(1)
    roster.worked(GOOD_S)
    return roster


def even() -> Roster:
    """Return the same without chance."""
    roster = hasty()
    roster._delays = backoff(_Even())
    return roster


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
    """Somebody, or nobody, wants a connection *at*, and for how long."""

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
        yield Call(at, TURN_S + PATIENCE[State.SENDING])
        at += random.expovariate(rate)


def simulate(calls: Iterator[Call], service: Service, make: Callable[[], Roster], *, at_once: bool) -> Load:
    """Let them dial until each is back or has given up. *at_once*: the first dial has nothing to wait for."""
    waiting: list[tuple[float, int, Call, Roster]] = []
    for number, call in enumerate(calls):
        roster = make()
        first = call.at if at_once else call.at + roster.failed(call.at)
        waiting.append((first, number, call, roster))
    heapq.heapify(waiting)
    dials: Counter[int] = Counter()
    served: Counter[int] = Counter()
    load = Load()
    while waiting:
        now, number, call, roster = heapq.heappop(waiting)
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
        delay = roster.failed(now, service.retry_after if now >= service.away else 0.0)
        heapq.heappush(waiting, (now + ROUND_TRIP_S + delay, number, call, roster))
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
        load = simulate(calls(options.speakers, service), service, make, at_once=calls is on_demand)
        row = f"{load.at_loss:17}{load.away:12.0f}{load.at_return:16}{load.dials / options.speakers:12.1f}"
        print(f"{name:28}{row}{load.back_s:18.1f}{load.gave_up:9}", flush=True)
        scene = name if not name.startswith(" ") else scene
        figures[scene if name == scene else f"{scene},{name[1:]}"] = asdict(load)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
