"""Time zone of this machine as it is now: it may be set, and get other rules, while the process runs.

The C library reads it once, and again when it is told to (tzset(3)): from TZ, where that is set, else /etc/localtime.
"""

from __future__ import annotations

import os
import threading
import time

LOCALTIME = "/etc/localtime"
ZONES = "/usr/share/zoneinfo"

_Zone = tuple[str | None, tuple[int, ...] | None]  # what TZ says, and the identity of the file with the rules


class _Follower:
    """Remembers the zone that the C library has read. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zone = _zone()

    def __call__(self) -> bool:
        with self._lock:
            zone, before = _zone(), self._zone
            if zone == before:
                return False
            if zone[0] and zone[0] == before[0]:
                os.environ["TZ"] = _spelled_anew(zone[0])  # tzset does not read the same name again
                zone = (os.environ["TZ"], zone[1])
            time.tzset()
            self._zone = zone
            return True


def _zone() -> _Zone:
    name = os.environ.get("TZ")
    path = LOCALTIME if name is None else os.path.join(os.environ.get("TZDIR", ZONES), name.lstrip(":"))
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return name, None  # TZ spells the rules out, or it is UTC
    return name, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _spelled_anew(name: str) -> str:
    """Return another name of the same zone."""
    name = name.lstrip(":")
    if name.startswith("/"):
        return name[1:] if name.startswith("//") else f"/{name}"
    return name[2:] if name.startswith("./") else f"./{name}"


follow_timezone = _Follower()
"""Adopts the zone of this machine, if it is another one than before, and returns whether it is. Costs one stat(2)."""
