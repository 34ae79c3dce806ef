"""Command ``device-agent simulate``."""

from __future__ import annotations

import functools
import queue
from collections.abc import Collection, Mapping
from typing import Any

from ..core.printable import printable
from ..runtime.signals import stopped_by_signals
from .engine.behaviour import VARIANTS, Variant
from .faults import FAULTS
from .simulator import Simulator

MAX_WAITING_LINES = 1000
"""Lines that may wait for a slow terminal; more are dropped."""


def serve(
    service: str = "xai",
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    manner: Collection[str] = (),
    faults: Collection[str] = (),
    **options: Any,
) -> None:
    """Run a simulator until SIGINT or SIGTERM, and print a line for each thing that happens. Main thread only.

    *options* are those of ``Simulator``.
    """
    show = functools.partial(print, flush=True)  # a pipe sees a line at once
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # a signal handler may put into this kind of queue

    def say(line: str) -> None:
        if lines.qsize() < MAX_WAITING_LINES:
            lines.put(printable(line))

    simulator = Simulator(service, host, port, manner=manner, faults=faults, say=say, **options)
    with stopped_by_signals(lambda _by: lines.put(None)), simulator:
        show(f"listening on {simulator.url}")
        for name in manner:
            show(f"manner {name}: {VARIANTS[name].says}")
        for name in faults:
            show(f"fault {name}: {FAULTS[name].says}")
        while (line := lines.get()) is not None:
            show(line)


def listed(table: Mapping[str, Variant]) -> str:
    """Return a line for each entry of *table*: its name, what it is, and with which services it makes sense."""
    width = max(map(len, table))
    lines = []
    for name, entry in table.items():
        only = f" ({', '.join(entry.services)})" if entry.services else ""
        lines.append(f"{name:{width}}  {entry.says}{only}")
    return "\n".join(lines)
