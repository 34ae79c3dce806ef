"""What the processes of a client use, as the kernel counts it: processor time, wake-ups, memory."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What the processes of a client have used since they began, and hold now. Seconds, counts, bytes."""

    at: float
    user: float
    system: float
    wakeups: int
    pushed: int
    """How often it had to let go of a processor that it still wanted."""
    rss: int
    pss: int
    tasks: frozenset[int]

    @property
    def cpu(self) -> float:
        return self.user + self.system


TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def family(session: int) -> list[int]:
    """Return the processes of a session: a client is started as the head of one, and its children stay in it."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == session:
                    found.append(int(entry))
    return found


def usage(session: int, *, memory: bool = True) -> Usage:
    """Look at all processes of a session. *memory*: that, too, which takes the kernel some time."""
    user = system = rss = pss = wakeups = pushed = 0
    tasks: set[int] = set()
    for process in family(session):
        with suppress(OSError):
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            # Its own, and that of children that ended and were waited for.
            user += int(stat[11]) + int(stat[13])
            system += int(stat[12]) + int(stat[14])
            for task in os.listdir(f"/proc/{process}/task"):
                words = _fields(Path(f"/proc/{process}/task/{task}/status"))
                wakeups += words.get("voluntary_ctxt_switches", 0)
                pushed += words.get("nonvoluntary_ctxt_switches", 0)
                tasks.add(int(task))
            if memory:
                rollup = _fields(Path(f"/proc/{process}/smaps_rollup"))
                rss += 1024 * rollup.get("Rss", 0)
                pss += 1024 * rollup.get("Pss", 0)
    now = time.monotonic()
    return Usage(now, user * TICK_S, system * TICK_S, wakeups, pushed, rss, pss, frozenset(tasks))


def _fields(path: Path) -> dict[str, int]:
    """Return what a file of the kernel says, where it is a number."""
    words = {}
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        with suppress(ValueError, IndexError):
            words[key] = int(value.split()[0])
    return words
