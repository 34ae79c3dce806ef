"""State store: values by name in one JSON file that survives restarts and power cuts.

A state file that cannot be read or written does not stop the speaker: the log reports it once.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from ..runtime.atomic_file import read_whole
from ..runtime.atomic_file import replace_whole as _replace

log = logging.getLogger(__name__)

MAX_STATE_BYTES = 64 * 1024
MAX_LOADED_BYTES = MAX_STATE_BYTES // 2  # leaves room for what is put next, which is a quarter of that at most
WRITE_DELAY_S = 1.0  # the keeper waits for more of the same: a knob that is turned is one write, not thirty
WRITE_RETRY_S = 60.0  # a disk that was full may have room again


class StateStore:
    """Values by name, any that JSON knows. With a *path* of None they are forgotten at the end.

    All methods are for any thread. Only ``flush`` waits for the disk, unless it is left to the keeper: ``keep`` is the
    work of a thread of its own.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()  # of the values
        self._disk = threading.Lock()  # one writes at a time; taken before the other lock, never after it
        self._values = {} if path is None else _read(path)  # as JSON, so that callers cannot change them
        self._dirty = self._failed = self._kept = False
        self._changed, self._soon = threading.Event(), threading.Event()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a copy of the value called *name*, or *default*."""
        with self._lock:
            text = self._values.get(name)
        return default if text is None else json.loads(text)

    def put(self, name: str, value: Any) -> None:
        """Set *value*; it is on the disk after the next ``flush``.

        Raises TypeError or ValueError for what JSON does not know, and ValueError beyond MAX_STATE_BYTES; then the
        earlier value stays.
        """
        text = json.dumps(value, allow_nan=False)
        with self._lock:
            if self._values.get(name) == text:
                return
            values = {**self._values, name: text}
            if len(_document(values)) > MAX_STATE_BYTES:
                raise ValueError(
                    f"{name} is too long to be stored: the limit for everything is {MAX_STATE_BYTES} bytes"
                )
            self._values, self._dirty = values, True
        self._changed.set()

    def flush(self) -> None:
        """Write what is not written yet. Waits for the disk: milliseconds, or seconds on a slow SD card."""
        with self._disk:
            with self._lock:
                if not self._dirty or self._path is None:
                    return
                document, self._dirty = _document(self._values), False
            try:
                _replace(self._path, document)
            except OSError as error:
                with self._lock:
                    self._dirty = True
                self._complain(self._path, error)
            else:
                self._failed = False

    def flush_soon(self) -> None:
        """Let the keeper write without WRITE_DELAY_S; without a keeper, write now."""
        if not self._kept:
            self.flush()
        elif self._dirty:
            self._soon.set()

    def keep(self, stopping: threading.Event) -> None:
        """Write what is put, until *stopping* is set and ``wake`` is called."""
        self._kept = True
        try:
            while not stopping.is_set():
                self._changed.wait(WRITE_RETRY_S)
                self._soon.wait(WRITE_DELAY_S)
                self._changed.clear()
                self._soon.clear()
                self.flush()
        finally:
            self._kept = False
            self.flush()

    def wake(self) -> None:
        """Wake the keeper."""
        self._changed.set()
        self._soon.set()

    def _complain(self, path: Path, error: OSError) -> None:
        """Log *error*, once for as long as it lasts."""
        if not self._failed:
            log.warning(
                "%s cannot be written: %s; volume, timers and alarms will not survive a restart. "
                "Make room on the disk, or let this user write there",
                path,
                error.strerror or error,
            )
        self._failed = True


def _document(values: dict[str, str]) -> bytes:
    """Return the file: the values are JSON already, in ASCII."""
    lines = ",\n ".join(f"{json.dumps(name)}: {text}" for name, text in values.items())
    return f"{{{lines}}}\n".encode()


def _read(path: Path) -> dict[str, str]:
    """Return the values of the file; an invalid file is moved aside."""
    try:
        values = json.loads(read_whole(path, MAX_STATE_BYTES))
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
        known = {name: json.dumps(value, allow_nan=False) for name, value in values.items()}
        if len(_document(known)) > MAX_LOADED_BYTES:
            raise ValueError(f"it has more than {MAX_LOADED_BYTES} bytes")
        return known
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read: %s; starting with an empty memory%s", path, error, _keep_aside(path))
        return {}


def _keep_aside(path: Path) -> str:
    """Keep the latest invalid file for a later look. Return a sentence about it."""
    aside = path.with_name(f"{path.name}.broken")
    try:
        os.replace(path, aside)
    except OSError as error:
        return f" (and it cannot be kept as {aside.name}: {error.strerror or error})"
    return f"; the file is kept as {aside.name}"
