"""``device-agent status``: shows how the running agent is.

Nothing here knows how that looks on a terminal; see ``screen`` and ``run_dashboard``.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ..runtime.paths import status_paths
from .client import Snapshot, StatusUnavailable, fetch_snapshot, watch_snapshots


def status(out: TextIO, *, as_json: bool = False, watch: bool = False, at: Sequence[Path] | None = None) -> int:
    """Show how the running agent is, once or until somebody has seen enough; return the exit status.

    Raises NotSeen where none can be seen. For the main thread.
    """
    at = at or status_paths()
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # a terminal that does not know a letter of a name is no reason to fail
    if watch:
        return _watch(out, at, as_json)
    snapshot = fetch_snapshot(at)
    if as_json:
        print(json.dumps(snapshot, indent=2), file=out)
    else:
        from .page import StatusPage

        StatusPage(out).print(snapshot)
    return 0


def _watch(out: TextIO, at: Sequence[Path], as_json: bool) -> int:
    with suppress(KeyboardInterrupt):
        if as_json:
            for snapshot in watch_snapshots(at):
                print(json.dumps(snapshot), file=out, flush=True)
        elif out.isatty():
            from .dashboard import run_dashboard

            run_dashboard(out, sys.stdin, at)
        else:
            print_changes(out, at)
    return 0


# Lines ----------------------------------------------------------------------------------------------------------------


def print_changes(out: TextIO, at: Sequence[Path], again_s: float = 1.0) -> None:
    """Print a line for each change, until somebody interrupts it: for who has no terminal."""
    lines = ChangeLines()
    while True:
        try:
            for snapshot in watch_snapshots(at):
                for line in lines.changes(snapshot):
                    print(line, file=out, flush=True)
        except StatusUnavailable as error:
            if line := lines.gone(str(error), time.time()):
                print(line, file=out, flush=True)
        threading.Event().wait(again_s)


class ChangeLines:
    """Knows what was told, and what is new."""

    def __init__(self) -> None:
        self._mood = self._gone = ""
        self._began: float | None = None  # of the latest turn that was told, in seconds since the agent began

    def changes(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield a line for each thing that is new: turns that are over, and the mood."""
        self._gone = ""
        at = snapshot["at"]
        known, self._began = self._began, self._began or 0.0
        for turn in snapshot["turns"]:
            began = snapshot["uptime_s"] - turn["ago_s"]
            if turn["outcome"] == "open" or began <= self._began + 0.3:  # both are rounded
                continue
            self._began = began
            if known is not None:  # what was before we came is no news
                yield _stamped(at, f"a turn of {sum(length for _, length in turn['segments']):.1f} s: {_told(turn)}")
        if snapshot["mood"] != self._mood:
            self._mood = snapshot["mood"]
            yield _stamped(at, self._mood + (f", {snapshot['service']}" if snapshot["service"] else ""))

    def gone(self, why: str, now: float) -> str:
        """Return the line that says so, once."""
        if self._gone == why:
            return ""
        self._gone, self._mood, self._began = why, "", None
        return _stamped(now, why.replace("\n", ". "))


def _told(turn: Snapshot) -> str:
    wait = f", the answer came after {turn['wait_ms']:.0f} ms" if turn["wait_ms"] is not None else ""
    return f"{turn['outcome']}{wait}"


def _stamped(at: float, text: str) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}  {text}"
