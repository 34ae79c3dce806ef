"""What the speaker stands on: clock, disk, memory, heat, power, and the service manager. *root* is where files are."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import time
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..runtime import paths, systemd
from .findings import Finding, Mark, Now, Progress

ROOT = Path("/")
BUILT = 1767225600.0
"""2026-01-01. A clock that shows an earlier time is wrong: this program is younger."""
FAR = BUILT + 20 * 365 * 86400.0
UNSYNCHRONISED = 5
"""What adjtimex(2) answers while nobody has set the clock by the network."""
INSTALLED_STATE = "var/lib/device-agent"
LEAST_DISK, LEAST_MEMORY = 50 * 2**20, 100 * 2**20
"""Bytes. What it remembers is a few KiB; it needs 60 MiB of memory, and the system some room."""
HOT = 80.0
"""Degrees Celsius. A Raspberry Pi slows down from here on."""
UNDER_VOLTAGE_NOW, UNDER_VOLTAGE, SLOWED = 1 << 0, 1 << 16, 1 << 1 | 1 << 2 | 1 << 3
"""Bits of the firmware's word about power: now, since the start, and slower than it could be now."""


class MachineCheck:
    """Steps about this machine."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def system(self) -> Progress:
        """What runs where?"""
        yield Now("system")
        board = _text(self._root / "proc/device-tree/model").strip("\0 \n")
        names = [f"device-agent {__version__}", f"Python {platform.python_version()}", _system(), platform.machine()]
        yield Finding("system", ", ".join(filter(None, [*names, board])), figures={"agent": __version__})
        yield from self._unit()

    def clock(self) -> Progress:
        """Is it right? Nobody's certificate is valid at a wrong time."""
        yield Now("clock")
        yield judge_clock(time.time(), synchronised())

    def room(self) -> Progress:
        """Is there room on the disk and in memory?"""
        yield Now("disk")
        yield _disk(self._state())
        yield from _memory(_text(self._root / "proc/meminfo"))

    def power(self) -> Progress:
        """Is it too hot, or hungry? Where nobody tells, there is nothing to say."""
        yield Now("power")
        with suppress(ValueError):
            degrees = int(_text(self._root / "sys/class/thermal/thermal_zone0/temp")) / 1000
            advice = f"it slows down from {HOT:g} on: give it air, or a heat sink" if degrees >= HOT else ""
            mark = Mark.NOTE if advice else Mark.OK
            yield Finding("heat", f"{degrees:.0f} degrees", mark, advice, {"celsius": degrees})
        with suppress(ValueError):
            yield judge_power(int(_text(self._root / "sys/devices/platform/soc/soc:firmware/get_throttled"), 16))

    def _state(self) -> Path:
        """Return the folder where an agent here would write: the unit's own, where there is one and we may."""
        installed = self._root / INSTALLED_STATE
        ours = paths.state_path().parent
        return installed if not os.environ.get("STATE_DIRECTORY") and os.access(installed, os.W_OK) else ours

    def _unit(self) -> Progress:
        if not (self._root / "run/systemd/system").is_dir():
            return
        said = systemd.unit_properties("LoadState", "ActiveState", "SubState", "UnitFileState", "ExecMainStatus")
        if said.get("LoadState") == "not-found":
            yield Finding("unit", "not installed as a service: it runs when you start it", figures={"installed": False})
        elif said:
            yield judge_unit(said)


def judge_clock(now: float, synchronised: bool | None) -> Finding:
    """Return what to say of a clock that shows *now* (Unix time); *synchronised*: None where nobody knows."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    figures = {"time": round(now), "synchronised": synchronised}
    advice = "run: sudo timedatectl set-ntp true; setting the clock needs a network"
    if not BUILT <= now <= FAR:
        text = f"it shows {shown}, which is wrong: no certificate is valid with it"
        return Finding("clock", text, Mark.FAIL, advice, figures)
    if synchronised is False:
        return Finding("clock", f"{shown}, not set by the network", Mark.NOTE, advice, figures)
    return Finding("clock", shown + (", set by the network" if synchronised else ""), figures=figures)


def synchronised() -> bool | None:
    """Return whether the kernel's clock is set by the network; None where it does not tell."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.byref((ctypes.c_char * 512)()))  # a question that changes nothing
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != UNSYNCHRONISED)


def judge_power(word: int) -> Finding:
    """Return what to say of the firmware's *word* about power."""
    supply = "use the power supply made for this board, and a short cable: otherwise the sound stumbles"
    figures = {"throttled": word}
    if word & UNDER_VOLTAGE_NOW:
        return Finding("power", "the voltage is too low", Mark.NOTE, supply, figures)
    if word & UNDER_VOLTAGE:
        return Finding("power", "the voltage was too low since the start", Mark.NOTE, supply, figures)
    if word & SLOWED:
        return Finding("power", "it runs slower than it could", Mark.NOTE, "give it air, or a heat sink", figures)
    return Finding("power", "the voltage has not been too low", figures=figures)


def judge_unit(said: dict[str, str]) -> Finding:
    """Return what to say of the unit, given some of its properties."""
    active, enabled = said.get("ActiveState", "unknown"), said.get("UnitFileState") or "not enabled"
    text, figures = f"{active}, {enabled}", {"active": active, "enabled": enabled}
    if active == "failed" or said.get("SubState") == "auto-restart":
        if said.get("ExecMainStatus") == str(os.EX_CONFIG):
            advice = (
                "its configuration or its key was wrong: if something below says FAIL, correct that; if nothing does, "
            )
            advice += f"sudo systemctl restart {systemd.UNIT_NAME}"
            return Finding("unit", f"{text}; it does not start", Mark.NOTE, advice, figures)
        return Finding(
            "unit", f"{text}; it fails", Mark.NOTE, f"to see why: sudo journalctl -eu {systemd.UNIT_NAME}", figures
        )
    if enabled == "enabled":
        return Finding("unit", text, figures=figures)
    advice = f"to start it with the machine: sudo systemctl enable --now {systemd.UNIT_NAME}"
    return Finding("unit", text, Mark.NOTE, advice, figures)


def _disk(folder: Path) -> Finding:
    """Return how much room there is in *folder*, or where it would be made."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    figures = {"folder": str(folder), "free_mib": free // 2**20}
    forgets = "volume, timers and alarms will not survive a restart"
    if not os.access(there, os.W_OK):
        return Finding(
            "disk", f"{folder} cannot be written: {forgets}", Mark.NOTE, "allow this user to write there", figures
        )
    text = f"{_size(free)} free at {folder}"
    if free < LEAST_DISK:
        return Finding("disk", text, Mark.NOTE, f"free some space; otherwise {forgets}", figures)
    return Finding("disk", text, figures=figures)


def _memory(meminfo: str) -> Progress:
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            free = 1024 * int(rest.split()[0])
            advice = "stop what else runs here: the agent needs 60 MiB" if free < LEAST_MEMORY else ""
            mark = Mark.NOTE if advice else Mark.OK
            yield Finding("memory", f"{_size(free)} free", mark, advice, {"free_mib": free // 2**20})


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number // 2**20} MiB"


def _system() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.system()


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
