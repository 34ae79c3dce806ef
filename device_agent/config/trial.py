"""Counts how often the process has ended while a configuration was on trial: one that crashes it is not tried for ever.

A crash inside a driver, a kill for want of memory and the watchdog leave no time to say anything, so that a trial is
noted before it begins, and struck out when it is over.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ..runtime.atomic_file import read_whole, replace_whole

MAX_CRASHES = 3
"""So many ends in the middle of its trial are enough for one configuration; a power cut is one, too."""
MAX_NOTE_BYTES = 200


class Trial:
    """The note is in *path*. All methods wait for the disk, and never raise: without a disk nothing is counted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, text: str) -> int:
        """The configuration *text* is on trial from now on. Return how often the process has ended in a trial of it."""
        digest = sha256(text.encode(errors="replace")).hexdigest()
        noted = self._noted(digest)
        with suppress(OSError):
            replace_whole(self._path, f"{digest} {noted + 1}\n".encode())
        return noted

    def over(self) -> None:
        """It is over, however it went: the process lives."""
        with suppress(OSError):
            self._path.unlink()

    def _noted(self, digest: str) -> int:
        with suppress(OSError, ValueError):
            noted, count = read_whole(self._path, MAX_NOTE_BYTES).decode().split()
            if noted == digest and count.isascii() and count.isdigit():
                return min(int(count), MAX_CRASHES)
        return 0
