"""Trial: counts how often the process has ended while a configuration was on trial.

A crash in a driver, the watchdog and a kill for want of memory leave no time to note anything, so the note is written
before a trial and removed after it.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ..runtime.atomic_file import read_whole, replace_whole

MAX_CRASHES = 3
"""A configuration is given up after so many; a power cut counts as well."""
MAX_NOTE_BYTES = 200


class Trial:
    """Keeps its note in *path*. All methods wait for the disk and never raise: where it fails, nothing is counted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, text: str) -> int:
        """Start a trial of the configuration *text*; return how often the process has ended during one."""
        digest = sha256(text.encode(errors="replace")).hexdigest()
        noted = self._noted(digest)
        with suppress(OSError):
            replace_whole(self._path, f"{digest} {noted + 1}\n".encode())
        return noted

    def over(self) -> None:
        """End the trial, with whatever result: the process lives."""
        with suppress(OSError):
            self._path.unlink()

    def _noted(self, digest: str) -> int:
        with suppress(OSError, ValueError):
            noted, count = read_whole(self._path, MAX_NOTE_BYTES).decode().split()
            if noted == digest and count.isascii() and count.isdigit():
                return min(int(count), MAX_CRASHES)
        return 0
