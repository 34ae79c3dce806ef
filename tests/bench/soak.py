"""Years in minutes: one daemon lives through turns of all kinds, a fault every few, and a hardship: `python
tests/bench/soak.py`.

The daemon lives in a process of its own, in the environment that its unit gives it; service, diary and report are in
this one, so that what is measured is the daemon's alone (and its house's, which is emptied after each turn). Hardships
are presses while the device is assembled anew or the connection renewed, right and wrong edits of config.yaml, cards
that are gone for a while, and a clock that jumps.

Prints what was done and what came of it, memory, threads, descriptors and latencies after a warm-up and at the end, and
how fast memory grows in the second half (least squares over blocks of turns, with the limits that hold the truth 95
times in 100). Exit status 1 where a turn was lost, doubled or left without an answer, a press was without effect, a
hardship was never met, where threads or descriptors grew, or memory did beyond BOUNDS.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import multiprocessing
import os
import random
import re
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.simulator import Simulator
from tests.bench.life import HARDSHIPS, Life, Service, course, live_through
from tests.support.paths import ROOT

log = logging.getLogger("soak")

UNIT = ROOT / "systemd" / "device-agent.service"
STATE = ("resident KiB", "heap KiB", "objects", "threads", "descriptors")
"""Resident memory; what was allocated in C and not freed; what was in Python; threads; descriptors."""
LEAST_TURNS = 60
"""With fewer nothing can be said: where a machine is too slow for them, it takes longer."""
MOST_LOST = 3
"""After so many lost turns it is over."""
WARM_UP = 0.25
"""This part of the turns is not looked at."""
BLOCKS = 10
"""How many points the regression sees: turns next to each other are no independent witnesses."""
STUDENT = 2.31
"""So many standard errors to each side hold the truth 95 times in 100, with eight degrees of freedom."""
PRESSED = {"assembling": "the device is assembled anew", "renewing": "the connection is renewed"}
"""When the user presses on purpose; inside is while it lasts, the others are just before or after."""
HUNG_S = 300.0
"""After so long without a word the agent's process is ended: each wait in it has less patience."""
SAY_EVERY = 250
"""Turns between two lines that say how far it is."""
REMEMBERED = 8
"""So many connections the service remembers, to see what it heard twice."""


@dataclass(frozen=True)
class Bound:
    """Growth that is too much: *per_turn*, and *least* in all, for a process that warms up and keeps 100 turns."""

    per_turn: float
    least: float


BOUNDS = {"resident KiB": Bound(1.0, 1024.0), "heap KiB": Bound(1.0, 256.0), "objects": Bound(10.0, 3000.0)}
"""A kitchen where people speak a hundred times a day, for a year without a restart: 1 KiB a turn would be 36 MiB, and
with what the agent has it would still be far from the 192 MiB at which its unit begins to slow it down. Ten objects are
less than that. Where it is really 0, chance and caches that fill up stay far below."""


# The agent's process --------------------------------------------------------------------------------------------------


def live(pipe: Connection, options: argparse.Namespace) -> None:
    """Be the daemon, and the hands in its house; tell everything through *pipe*."""
    logging.basicConfig(level=options.log.upper(), format="%(relativeCreated)6d %(message)s")

    def note(name: str, value: float) -> None:
        pipe.send(("note", name, value))

    with tempfile.TemporaryDirectory() as folder:
        drive = partial(spend, pipe=pipe, options=options)
        status = live_through(options.pace, options.seed, Service(pipe), Path(folder), note, drive)
    sys.exit(status)


def spend(life: Life, pipe: Connection, options: argparse.Namespace) -> None:
    """Live through one turn after the other, until it was long enough and every hardship was met."""
    began, first, unmet = time.monotonic(), None, set(HARDSHIPS)
    for kind, is_fault in course(random.Random(options.seed)):
        trouble = life.turn(kind, is_fault=is_fault)
        unmet.discard(kind)
        state, seconds = look(), time.monotonic() - began
        pipe.send(("tally", dict(life.tally)))
        pipe.send(("turn", kind, is_fault, trouble, (seconds, *state)))
        log.info("turn %d, %s: %s", life.turns, kind, dict(zip(STATE, state, strict=True)))
        gone = max(seconds / (60 * options.minutes), life.turns / options.turns)
        if (gone >= 1 and life.turns >= LEAST_TURNS and not unmet) or life.lost >= MOST_LOST:
            break
        if options.trace and gone >= 0.5 and first is None:
            tracemalloc.start(8)
            first = tracemalloc.take_snapshot()
    _tell_growth(first)
    pipe.send(("over",))


def look() -> tuple[float, ...]:
    """Return the state of the process between two turns, as in STATE.

    What Python keeps for speed goes first: rubbish, and up to 4096 strings that Python 3.11 leaves in the cache of its
    types wherever a ``match`` looks into a class.
    """
    if sys.version_info < (3, 12):
        sys._clear_type_cache()
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    open_ = len(os.listdir("/proc/self/fd")) - 1
    threads = sum(not thread.name.startswith("tool") for thread in threading.enumerate())  # that pool grows to 4
    return resident, allocated() / 1024, sys.getallocatedblocks(), threads, open_


class _Mallinfo(ctypes.Structure):
    """What glibc says of its heap; see mallinfo2(3)."""

    _fields_ = [(f"before{number}", ctypes.c_size_t) for number in range(4)] + [
        (name, ctypes.c_size_t) for name in ("hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


_mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo is not None:
    _mallinfo.restype = _Mallinfo


def allocated() -> int:
    """Return the bytes that are allocated from the heap of C, holes not counted; 0 where that is unknown."""
    if _mallinfo is None:
        return 0
    info = _mallinfo()
    return int(info.uordblks + info.hblkhd)


def _tell_growth(first: tracemalloc.Snapshot | None) -> None:
    if first is not None:
        gc.collect()
        for line in tracemalloc.take_snapshot().compare_to(first, "lineno")[:25]:
            print(line)


# This process ---------------------------------------------------------------------------------------------------------


@dataclass
class Diary:
    """What was seen: of each turn the seconds since the begin, and STATE; how long things took, and in which turn."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    took: defaultdict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    faults: Counter[str] = field(default_factory=Counter)
    hardships: Counter[str] = field(default_factory=Counter)
    tally: Counter[str] = field(default_factory=Counter)
    """What was done, and what came of it: ``life.TALLY``."""
    troubles: list[str] = field(default_factory=list)

    def watch(self, pipe: Connection, simulator: Simulator) -> None:
        """Write down what comes through *pipe*, and be the service's hands, until the life is over."""
        while True:
            try:
                if not pipe.poll(HUNG_S):
                    self.troubles.append(f"the agent's process hangs in turn {len(self.rows) + 1}")
                    return
                match pipe.recv():
                    case ("service", name, args):
                        pipe.send(serve(simulator, name, args))
                    case ("note", name, value):
                        self.took[name].append((len(self.rows), value))
                    case ("tally", tally):
                        self.tally = Counter(tally)
                    case ("turn", kind, is_fault, trouble, row):
                        self.rows.append(row)
                        if trouble:
                            self.troubles.append(trouble)
                            print(f"LOST: {trouble}", flush=True)
                        self.faults.update([kind] if is_fault else [])
                        self.hardships.update({kind} & set(HARDSHIPS))
                        self._say_how_far()
                    case ("over",):
                        return
            except (EOFError, ConnectionError):
                self.troubles.append(f"the agent's process ended in turn {len(self.rows) + 1}")
                return

    def _say_how_far(self) -> None:
        if len(self.rows) % SAY_EVERY == 0:
            state = ", ".join(f"{value:.0f} {name}" for name, value in zip(STATE, self.rows[-1][1:], strict=True))
            print(f"{len(self.rows)} turns, {len(self.troubles)} lost: {state}", flush=True)


def serve(simulator: Simulator, name: str, args: Sequence[Any]) -> Any:
    """Do what the agent's process asks of the service. It forgets what it heard long ago, to stay as quick as it is."""
    if name == "url":
        return simulator.url
    if name == "found":
        with simulator._server.changed:
            del simulator._server.logs[:-REMEMBERED]
        return sum(args[0] in turn.pcm for turn in simulator.turns)
    return getattr(simulator, name)(*args)


def unit_environment() -> dict[str, str]:
    """Return what the unit puts into the agent's environment, but for paths that only systemd knows."""
    found = re.findall(r"^Environment=(\w+)=(\S+)$", UNIT.read_text(), re.MULTILINE)
    return {name: value for name, value in found if "%" not in value}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to live (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=10**9, help="how many turns to live for, if that is sooner")
    parser.add_argument("--pace", type=float, default=8.0, help="how much faster than the world (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="without the environment of the unit")
    parser.add_argument("--trace", action="store_true", help="show where what grew in the second half was allocated")
    parser.add_argument("--log", default="critical", help="what the agent logs")
    options = parser.parse_args()
    if not options.bare:
        os.environ.update(unit_environment())  # read by the C library when a process begins
    spawn, diary = multiprocessing.get_context("spawn"), Diary()
    with Simulator(think_s=0.02, pace=32.0) as simulator:
        pipe, theirs = spawn.Pipe()
        process = spawn.Process(target=live, args=(theirs, options))
        process.start()
        theirs.close()
        diary.watch(pipe, simulator)
        process.join(HUNG_S if not diary.troubles else 60.0)
        if process.is_alive():
            process.kill()
            process.join()
    if process.exitcode:
        diary.troubles.append(f"the agent's process ended with status {process.exitcode}")
    return report(diary)


# What it means --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trend:
    """Means after the warm-up and at the end; growth with each turn and hour of the second half, give or take."""

    start: float
    end: float
    per_turn: float
    margin: float
    per_hour: float
    hour_margin: float


def fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return how much *y* grows with *x*, and how far that may be from the truth on either side."""
    blocks = [block.mean(axis=0) for block in np.array_split(np.column_stack([x, y]), BLOCKS)]
    at, values = np.array(blocks).T
    at = at - at.mean()
    slope = float(at @ values / (at @ at))
    rest = values - values.mean() - slope * at
    return slope, STUDENT * float(np.sqrt(rest @ rest / (BLOCKS - 2) / (at @ at)))


def trend(seconds: np.ndarray, values: np.ndarray) -> Trend:
    """Return how *values*, one of each turn, change."""
    count = len(values)
    warm, half, tenth = round(WARM_UP * count), count // 2, max(1, count // 10)
    turns = np.arange(count, dtype=float)
    return Trend(
        float(values[warm : warm + tenth].mean()),
        float(values[-tenth:].mean()),
        *fit(turns[half:], values[half:]),
        *fit(seconds[half:] / 3600, values[half:]),
    )


def grew(values: np.ndarray) -> bool:
    """Whether there are usually more than there were: connections come and go, what leaks stays."""
    quarter = len(values) // 4
    return bool(np.median(values[-quarter:]) >= np.median(values[quarter : 2 * quarter]) + 1)


def too_much(each: Trend, turns: int, bound: Bound) -> bool:
    """Whether memory surely grows beyond *bound*, in a life of so many *turns*."""
    return each.per_turn - each.margin > bound.per_turn and each.per_turn * (turns / 2) > bound.least


def failures(trends: Mapping[str, Trend], diary: Diary) -> list[str]:
    """Return what must not be."""
    rows = np.array(diary.rows)
    found = list(diary.troubles)
    for when in PRESSED:
        if lost := diary.tally[f"{when}: lost"]:
            found.append(f"{lost} of {diary.tally[f'{when}: presses']} presses while {when} were without effect")
    if unmet := sorted(set(HARDSHIPS) - set(diary.hardships)):
        found.append(f"never met: {', '.join(unmet)}")
    if not trends:
        return [*found, f"{len(rows)} turns are too few to say anything"]
    for name, bound in BOUNDS.items():
        if too_much(trends[name], len(rows), bound):
            found.append(f"{name}: grows by more than {bound.per_turn:g} a turn; --trace shows where")
    for name in ("threads", "descriptors"):
        if grew(rows[:, 1 + STATE.index(name)]):
            found.append(f"{name}: there are more than there were")
    return found


def latency(took: Sequence[tuple[int, float]], turns: int) -> dict[str, float]:
    """Return median and 99th percentile, in ms, of what came first after the warm-up, and of what came last."""
    measured = [value for turn, value in took if turn >= WARM_UP * turns]
    third = max(1, len(measured) // 3)
    parts = {"start": measured[:third], "end": measured[-third:]} if measured else {}
    return {
        f"{when} {name}": round(float(np.percentile(values, percent)), 2)
        for when, values in parts.items()
        for name, percent in (("median", 50), ("p99", 99))
    }


def report(diary: Diary) -> int:
    """Print what was seen; return the exit status."""
    rows = np.array(diary.rows)
    enough = len(rows) >= LEAST_TURNS
    trends = {name: trend(rows[:, 0], rows[:, n]) for n, name in enumerate(STATE, 1)} if enough else {}
    took = {name: latency(values, len(rows)) for name, values in diary.took.items()}
    bad = failures(trends, diary)
    summary = {
        "turns": len(rows),
        "seconds": round(rows[-1, 0]) if len(rows) else 0,
        "lost": len(diary.troubles),
        "tally": dict(diary.tally),
        "hardships": dict(sorted(diary.hardships.items())),
        "faults": dict(sorted(diary.faults.items())),
        "trends": {name: {key: round(value, 4) for key, value in vars(each).items()} for name, each in trends.items()},
        "latency_ms": took,
        "failures": bad,
    }
    _print_table(summary)
    for line in bad:
        print(f"FAILED: {line}")
    print(json.dumps(summary))
    return 1 if bad else 0


def _print_table(summary: Mapping[str, Any]) -> None:
    turns, seconds = summary["turns"], summary["seconds"]
    print(f"{turns} turns in {seconds} s, {summary['lost']} lost, doubled or without an answer")
    tally = Counter(summary["tally"])
    print(f"{tally['asked']} turns asked, {tally['answered']} answered")
    for when, what in PRESSED.items():
        presses, inside, lost = (tally[f"{when}: {name}"] for name in ("presses", "inside", "lost"))
        print(f"{presses} presses around the time when {what}, {inside} inside, {lost} lost")
    print(
        ", ".join(
            f"{tally[name]} {name}" for name in ("wrong edits", "right edits", "cards lost", "clock jumps", "caps")
        )
    )
    print(f"{tally['late']} interruptions were too late to be one")
    faults = ", ".join(f"{count} {name}" for name, count in summary["faults"].items())
    print(f"{sum(summary['faults'].values())} with a fault: {faults}")
    print(f"{'':14}{'start':>11}{'end':>11}{'more a turn':>24}{'more an hour':>28}   (second half, 95 %)")
    for name, each in summary["trends"].items():
        print(
            f"{name:14}{each['start']:11.1f}{each['end']:11.1f}"
            f"{each['per_turn']:14.3f} +- {each['margin']:<7.3f}{each['per_hour']:16.1f} +- {each['hour_margin']:<8.1f}"
        )
    for name, each in summary["latency_ms"].items():
        print(f"{name + ' ms':19}" + ", ".join(f"{key} {value:.1f}" for key, value in each.items()))


if __name__ == "__main__":
    sys.exit(main())
