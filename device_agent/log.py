"""The log: one form for every line, on standard error."""

from __future__ import annotations

import logging
import os
import sys

LEVELS = ("debug", "info", "warning", "error")


def start_log(level: str) -> None:
    """Send everything at *level* and above to standard error, the way the journal or a person likes it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ForJournal() if "JOURNAL_STREAM" in os.environ else logging.Formatter(_PERSON, "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


_PERSON = "%(asctime)s.%(msecs)03d %(levelname)-7s %(threadName)s: %(message)s"


_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _ForJournal(logging.Formatter):
    """The journal has its own clock, and reads the priority from the front of each line (sd-daemon(3))."""

    def __init__(self) -> None:
        super().__init__("%(threadName)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITY.get(record.levelname, 5)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())
