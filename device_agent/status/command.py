"""``device-agent status``: shows the status of the running agent as a page, a dashboard, lines or JSON."""

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

from ..core.status_snapshot import StatusSnapshot
from ..runtime.paths import status_paths
from .client import StatusUnavailable, fetch_snapshot, watch_snapshots


def status(out: TextIO, *, as_json: bool = False, watch: bool = False, at: Sequence[Path] | None = None) -> int:
    """Show the status once, or with *watch* until the user ends it; return the exit status.

    Raises StatusUnavailable. For the main thread.
    """
    at = at or status_paths()
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # a letter that the terminal does not know is no reason to fail
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(out, at, as_json)
    elif as_json:
        print(json.dumps(fetch_snapshot(at), indent=2), file=out)
    else:
        snapshot = fetch_snapshot(at)
        from .page import StatusPage

        StatusPage(out).print(snapshot)
    return 0


def _watch(out: TextIO, at: Sequence[Path], as_json: bool) -> None:
    if as_json:
        for snapshot in watch_snapshots(at):
            print(json.dumps(snapshot), file=out, flush=True)
    elif out.isatty():
        from .dashboard import run_dashboard

        run_dashboard(out, sys.stdin, at)
    else:
        print_changes(out, at)


# Lines ----------------------------------------------------------------------------------------------------------------


def print_changes(out: TextIO, at: Sequence[Path], retry_s: float = 1.0) -> None:
    """Print a line for each change until KeyboardInterrupt, where the output is no terminal."""
    lines = ChangeLines()
    while True:
        try:
            for snapshot in watch_snapshots(at):
                for line in lines.changes(snapshot):
                    print(line, file=out, flush=True)
        except StatusUnavailable as error:
            if line := lines.gone(str(error), time.time()):
                print(line, file=out, flush=True)
        threading.Event().wait(retry_s)


class ChangeLines:
    """Lines about what is new since the last snapshot."""

    def __init__(self) -> None:
        self._mood = self._gone = ""
        self._began: float | None = None  # of the latest turn that was printed, in seconds since the agent began

    def changes(self, snapshot: StatusSnapshot) -> Iterator[str]:
        """Yield a line for each turn that has ended, and for another mood."""
        self._gone = ""
        at = snapshot["at"]
        known, self._began = self._began, self._began or 0.0
        for turn in snapshot["turns"]:
            began = snapshot["uptime_s"] - turn["ago_s"]
            if turn["outcome"] == "open" or began <= self._began + 0.3:  # both are rounded
                continue
            self._began = began
            if known is not None:  # turns before the first snapshot are not new
                seconds = sum(length for _, length in turn["segments"])
                wait = "" if turn["wait_ms"] is None else f", the answer came after {turn['wait_ms']:.0f} ms"
                yield _stamped(at, f"a turn of {seconds:.1f} s: {turn['outcome']}{wait}")
        if snapshot["mood"] != self._mood:
            self._mood = snapshot["mood"]
            yield _stamped(at, self._mood + (f", {snapshot['service']}" if snapshot["service"] else ""))

    def gone(self, why: str, now: float) -> str:
        """Return a line that says *why* there is no status, or "" if the last line said so."""
        if self._gone == why:
            return ""
        self._gone, self._mood, self._began = why, "", None
        return _stamped(now, why.replace("\n", ". "))


def _stamped(at: float, text: str) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}  {text}"
