"""Device users: processes that have a sound card open; PortAudio only says that it is busy, or leaves it out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SOUND_DEVICES = "/dev/snd/pcm"  # how the device files of sound cards begin
MAX_NAMED_USERS = 3


def device_users(files: str = SOUND_DEVICES) -> list[str]:
    """Return "name (process id)" of the other processes that have open what begins with *files*, as far as this user
    may see them."""
    holders = (each for each in other_processes() if _holds(each, files))
    return [f"{_name(process)} ({process.name})" for process in holders][:MAX_NAMED_USERS]


def other_processes() -> Iterator[Path]:
    """Yield the folder in /proc of each process but this one."""
    with suppress(OSError):
        yield from (each for each in Path("/proc").iterdir() if each.name.isdigit() and each.name != str(os.getpid()))


def _holds(process: Path, files: str) -> bool:
    with suppress(OSError):  # it has ended, or belongs to another user
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
