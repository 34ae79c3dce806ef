"""A status socket with something to show."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from device_agent.core.events import Event
from device_agent.core.status_snapshot import Counts
from device_agent.runtime.worker import Worker
from device_agent.status import server
from device_agent.status.server import StatusServer
from device_agent.telemetry.statistics import latency

PATIENCE_S = 10.0
"""How long to wait for what must happen; no test needs it."""


class Statue:
    """Something to look at, of a certain size, which knows whether it is looked at."""

    def __init__(self, size: int = 10) -> None:
        self._size = size
        self.shown = 0
        self.listening = False
        self.changed = threading.Condition()

    def snapshot(self, now: float) -> dict[str, Any]:
        with self.changed:
            self.shown += 1
            self.changed.notify_all()
        return {"now": now, "number": self.shown, "levels": None, "weight": "x" * self._size}

    def levels(self) -> dict[str, float] | None:
        return {"microphone": -20.0, "speaker": -96.0}

    def measure_levels(self, wanted: bool) -> None:
        with self.changed:
            self.listening = wanted
            self.changed.notify_all()

    def until(self, true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(true, PATIENCE_S)


@contextmanager
def opened(path: Path, statue: Statue | None = None) -> Iterator[Statue]:
    """Open a window in a thread of its own, and wait until one can look through it."""
    statue = statue or Statue()
    made = StatusServer(statue, path)
    crashed: list[Event] = []
    with Worker("status", made.run, crashed.append, wake=made.wake):
        for _ in range(1000):
            if path.exists() and stat.S_IMODE(path.stat().st_mode) == server.SOCKET_MODE:
                break
            threading.Event().wait(PATIENCE_S / 1000)
        yield statue
    assert crashed == []


class Talker(Statue):
    """Shows one snapshot."""

    def __init__(self, **snapshot: Any) -> None:
        super().__init__()
        self._snapshot = snapshot

    def snapshot(self, now: float) -> dict[str, Any]:
        return {**super().snapshot(now), **self._snapshot}


QUIET: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_s": 11700.0,
    "mood": "ready",
    "mood_s": 12.3,
    "ringing": False,
    "service": "",
    "volume": 80,
    "muted": False,
    "prefill_ms": 20,
    "config": {"file": "/etc/device-agent/config.yaml", "state": "in use", "mistakes": []},
    "connected": {
        "now": False,
        "for_s": 0.0,
        "today_s": 0.0,
        "total_s": 0.0,
        "cap_s": 0.0,
        "spent": False,
        "price_per_minute": 0.0,
        "cost_today": 0.0,
        "cost_total": 0.0,
    },
    "counts": dict.fromkeys(Counts.__annotations__, 0),
    "latency": latency([]),
    "lost": [],
    "last_error": None,
    "turns": [],
    "levels": None,
}
