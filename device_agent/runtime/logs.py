"""Log: one line format on standard error, and a limit on repeated lines, so that the log cannot fill a disk."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TextIO

from ..core.printable import printable

LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_MESSAGE_CHARS = 4000  # a message may quote text from outside
MAX_TRACEBACK_CHARS = 16000  # its end is kept, which says the most
REPEAT_WINDOW_S = 60.0
MAX_ALIKE_LINES = 60  # written in a window; more are counted
MAX_LINE_KINDS = 256  # told apart at a time


def start_log(level: str) -> None:
    """Send everything at *level* and above to standard error, in the form of the journal or for a terminal."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(_ForJournal() if "JOURNAL_STREAM" in os.environ else _ForPerson())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


# Which lines are written ----------------------------------------------------------------------------------------------


@dataclass
class _Kind:
    """Lines that are alike, in one window."""

    last: logging.LogRecord
    ends: float
    written: int = 0
    held: int = 0


class RepeatLimit:
    """Lets MAX_ALIKE_LINES alike lines pass in each window, and says afterwards how many it held back.

    Alike are lines with the same pattern from the same place, whatever values they quote: a service may send nonsense a
    hundred thousand times a second, each time with another number. Errors are alike only when their whole text is the
    same, as long as there are not too many kinds. Time is in seconds of a clock that never jumps. For one thread.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()  # the oldest first

    def take(self, record: logging.LogRecord, now: float) -> list[logging.LogRecord]:
        """Return what to write now that there is *record*, in order."""
        lines = self._over(now)
        kind = self._kind(record, now)
        kind.last = record
        if kind.written < MAX_ALIKE_LINES:
            kind.written += 1
            lines.append(record)
            return lines
        if not kind.held:
            text = f"{MAX_ALIKE_LINES} lines like the last in a minute: more of them are only counted"
            lines.append(_about(record, text))
        kind.held += 1
        return lines

    def end(self) -> list[logging.LogRecord]:
        """Return what is still to be written when no more lines come."""
        return self._over(float("inf"))

    def _kind(self, record: logging.LogRecord, now: float) -> _Kind:
        key = (record.name, str(record.msg))
        if record.levelno >= logging.ERROR and len(self._kinds) < MAX_LINE_KINDS:
            key = (record.name, _text(record))
        if key not in self._kinds:
            self._kinds[key] = _Kind(record, now + REPEAT_WINDOW_S)
        return self._kinds[key]

    def _over(self, now: float) -> list[logging.LogRecord]:
        """Forget windows that are over, and the oldest where there are too many; return the lines about them."""
        lines = []
        while self._kinds and (next(iter(self._kinds.values())).ends <= now or len(self._kinds) >= 2 * MAX_LINE_KINDS):
            _, kind = self._kinds.popitem(last=False)
            if kind.held:
                lines.append(_about(kind.last, f"{kind.held} lines were held back, the last: {_text(kind.last)}"))
        return lines


def _about(record: logging.LogRecord, text: str) -> logging.LogRecord:
    """Return a line about lines like *record*."""
    return logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)


def _text(record: logging.LogRecord) -> str:
    """Return the bounded message of *record*; its pattern alone where that does not fit its values."""
    try:
        return record.getMessage()[:MAX_MESSAGE_CHARS]
    except (TypeError, ValueError):
        return str(record.msg)[:MAX_MESSAGE_CHARS]


class _Handler(logging.StreamHandler[TextIO]):
    """Writes what ``RepeatLimit`` lets pass. May be called from any thread: ``logging`` holds its lock."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._repeats = RepeatLimit()

    def emit(self, record: logging.LogRecord) -> None:
        for line in self._repeats.take(record, time.monotonic()):
            super().emit(line)

    def close(self) -> None:
        for line in self._repeats.end():
            super().emit(line)
        super().close()


# What a line looks like -----------------------------------------------------------------------------------------------


class _ForPerson(logging.Formatter):
    """Time, level, thread and message. All of it is printable, and bounded."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(threadName)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is given
        record.message = _bounded(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  the name is given
        text = super().formatException(ei)
        return printable(text if len(text) <= MAX_TRACEBACK_CHARS else f"[...]{text[-MAX_TRACEBACK_CHARS:]}", keep="\n")


_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _ForJournal(_ForPerson):
    """The journal has its own clock, and reads the priority from the front of each line (sd-daemon(3))."""

    def __init__(self) -> None:
        logging.Formatter.__init__(self, "%(threadName)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITY.get(record.levelname, 5)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def _bounded(text: str) -> str:
    """Return *text* bounded, and so that it can neither move a cursor nor pass for another line of the log."""
    if len(text) > MAX_MESSAGE_CHARS:
        text = f"{text[:MAX_MESSAGE_CHARS]}[... {len(text)} characters]"
    return printable(text, keep="\n").replace("\n", "\n    ")
