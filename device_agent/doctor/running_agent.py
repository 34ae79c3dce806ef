"""Agents that run on this machine: they hold devices that the doctor cannot open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..core.errors import DeviceFailed
from ..hardware.device_users import device_users, other_processes
from .findings import Finding, Mark

GPIO_FILES = "/dev/gpiochip"
"""Prefix of the device files of pins."""
STOP_ADVICE = "to try it: sudo systemctl stop device-agent; check again; sudo systemctl start device-agent"


def open_failed(name: str, files: str, error: DeviceFailed) -> Finding:
    """Return the finding about a thing that does not open, which is no failure where a running agent holds it. *files*
    is the prefix of its device files."""
    running, names = running_agents(), device_users(files)
    for number in running:
        if any(each.endswith(f"({number})") for each in names):
            text = f"not tried: the agent that is running (process {number}) uses it"
            return Finding(name, text, Mark.NOTE, STOP_ADVICE, {"agent": number})
    return Finding(name, str(error), Mark.FAIL, _suspicion(running, names, str(error)), {"holders": names})


def running_agents() -> list[int]:
    """Return the process ids of other processes with the command ``run``, as far as this user may see them."""
    return sorted(int(process.name) for process in other_processes() if _is_agent(_words(process)))


def _suspicion(running: list[int], names: list[str], told: str) -> str:
    """Return which processes may hold the thing, where *told* does not say so."""
    unseen = [str(number) for number in running if not os.access(f"/proc/{number}/fd", os.R_OK)]
    if unseen:
        return f"or the agent that is running (process {', '.join(unseen)}) uses it: to know, repeat with sudo"
    untold = [each for each in names if each not in told]
    return f"it may be in use by {', '.join(untold)}" if untold else ""


def _words(process: Path) -> list[str]:
    """Return the command line of a process, [] where it has ended."""
    with suppress(OSError):
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def _is_agent(words: list[str]) -> bool:
    """Whether *words* are ``device-agent run``, by any Python, or ``python -m device_agent run``."""
    for at, word in enumerate(words):
        if os.path.basename(word) == "device-agent" or words[at - 1 : at + 1] == ["-m", "device_agent"]:
            return "run" in words[at + 1 :]
    return False
