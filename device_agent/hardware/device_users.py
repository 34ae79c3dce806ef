"""Which other programs have a sound card open: PortAudio only says that it is busy, or leaves it out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SOUND_DEVICES = "/dev/snd/pcm"
"""How the files of sound cards begin."""
MAX_NAMED_USERS = 3
"""How many are named."""


def device_users(files: str = SOUND_DEVICES) -> list[str]:
    """Return "name (process id)" of those that have open what begins with *files*, as far as this user may see them."""
    ours = os.getpid()
    found = [f"{_name(process)} ({process.name})" for process in _processes() if _holds(process, files)]
    return [each for each in found if not each.endswith(f"({ours})")][:MAX_NAMED_USERS]


def _processes() -> Iterator[Path]:
    with suppress(OSError):
        yield from (each for each in Path("/proc").iterdir() if each.name.isdigit())


def _holds(process: Path, files: str) -> bool:
    with suppress(OSError):  # it has ended, or is somebody else's
        return any(_target(each).startswith(files) for each in (process / "fd").iterdir())
    return False


def _target(descriptor: Path) -> str:
    with suppress(OSError):
        return os.readlink(descriptor)
    return ""


def _name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text(errors="replace").strip()
    return "a program"
