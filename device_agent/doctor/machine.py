"""Check of the machine: service unit, clock, disk, memory, temperature and power."""

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
from .findings import Finding, Mark, Now, Progress, noted

ROOT = Path("/")
EARLIEST_CLOCK = 1767225600.0
"""2026-01-01. A clock that shows an earlier time is wrong: this program is younger."""
LATEST_CLOCK = EARLIEST_CLOCK + 20 * 365 * 86400.0
TIME_ERROR = 5
"""What adjtimex(2) returns while the clock is not synchronised."""
INSTALLED_STATE = "var/lib/device-agent"
MIN_DISK_BYTES, MIN_MEMORY_BYTES = 50 * 2**20, 100 * 2**20
"""The state is a few KiB; the program needs 60 MiB of memory, and the system some room."""
HOT_CELSIUS = 80.0
"""A Raspberry Pi slows down from here on."""
UNDER_VOLTAGE_NOW, UNDER_VOLTAGE, SLOWED_NOW = 1 << 0, 1 << 16, 1 << 1 | 1 << 2 | 1 << 3
"""Bits of get_throttled, of the firmware of a Raspberry Pi."""


class MachineCheck:
    """Steps about this machine, whose files are below *root*."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def system(self) -> Progress:
        """Name the program, the system and the board, and look at the service unit."""
        yield Now("system")
        board = _text(self._root / "proc/device-tree/model").strip("\0 \n")
        names = [f"device-agent {__version__}", f"Python {platform.python_version()}", _system(), platform.machine()]
        yield Finding("system", ", ".join(filter(None, [*names, board])), figures={"agent": __version__})
        yield from self._unit()

    def clock(self) -> Progress:
        """Look at the clock: no certificate is valid at a wrong time."""
        yield Now("clock")
        yield judge_clock(time.time(), synchronised())

    def room(self) -> Progress:
        """Look for room on the disk and in memory."""
        yield Now("disk")
        yield _disk(self._state())
        yield from _memory(_text(self._root / "proc/meminfo"))

    def power(self) -> Progress:
        """Look at temperature and voltage, where the machine measures them."""
        yield Now("power")
        with suppress(ValueError):
            degrees = int(_text(self._root / "sys/class/thermal/thermal_zone0/temp")) / 1000
            slow = f"it slows down from {HOT_CELSIUS:g} on: give it air, or a heat sink"
            yield noted("heat", f"{degrees:.0f} degrees", slow if degrees >= HOT_CELSIUS else "", {"celsius": degrees})
        with suppress(ValueError):
            yield judge_power(int(_text(self._root / "sys/devices/platform/soc/soc:firmware/get_throttled"), 16))

    def _state(self) -> Path:
        """Return the state folder: that of the service unit, if it exists and can be written."""
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
    """Return the finding about a clock that shows *now* (Unix time); *synchronised*: None where that is not known."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    figures = {"time": round(now), "synchronised": synchronised}
    advice = "run: sudo timedatectl set-ntp true; setting the clock needs a network"
    if not EARLIEST_CLOCK <= now <= LATEST_CLOCK:
        text = f"it shows {shown}, which is wrong: no certificate is valid with it"
        return Finding("clock", text, Mark.FAIL, advice, figures)
    said = {True: ", set by the network", False: ", not set by the network", None: ""}[synchronised]
    return noted("clock", shown + said, advice if synchronised is False else "", figures)


def synchronised() -> bool | None:
    """Return whether the kernel's clock is set by the network; None where it does not tell."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.byref((ctypes.c_char * 512)()))  # a question that changes nothing
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != TIME_ERROR)


def judge_power(word: int) -> Finding:
    """Return the finding about *word*, the get_throttled of the firmware."""
    text, advice = "the voltage has not been too low", ""
    if word & (UNDER_VOLTAGE_NOW | UNDER_VOLTAGE):
        text = "the voltage is too low" if word & UNDER_VOLTAGE_NOW else "the voltage was too low since the start"
        advice = "use the power supply made for this board, and a short cable: otherwise the sound stumbles"
    elif word & SLOWED_NOW:
        text, advice = "it runs slower than it could", "give it air, or a heat sink"
    return noted("power", text, advice, {"throttled": word})


def judge_unit(said: dict[str, str]) -> Finding:
    """Return the finding about the service unit with these properties."""
    active, enabled = said.get("ActiveState", "unknown"), said.get("UnitFileState") or "not enabled"
    text, advice = f"{active}, {enabled}", ""
    if active == "failed" or said.get("SubState") == "auto-restart":
        text, advice = f"{text}; it fails", f"to see why: sudo journalctl -eu {systemd.UNIT_NAME}"
        if said.get("ExecMainStatus") == str(os.EX_CONFIG):
            text = f"{active}, {enabled}; it does not start"
            advice = (
                "its configuration or its key was wrong: if something below says FAIL, correct that; if nothing does, "
                f"sudo systemctl restart {systemd.UNIT_NAME}"
            )
    elif enabled != "enabled":
        advice = f"to start it with the machine: sudo systemctl enable --now {systemd.UNIT_NAME}"
    return noted("unit", text, advice, {"active": active, "enabled": enabled})


def _disk(folder: Path) -> Finding:
    """Return the finding about the room in *folder*, or where it would be made."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    text, advice = f"{_size(free)} free at {folder}", ""
    forgets = "volume, timers and alarms will not survive a restart"
    if not os.access(there, os.W_OK):
        text, advice = f"{folder} cannot be written: {forgets}", "allow this user to write there"
    elif free < MIN_DISK_BYTES:
        advice = f"free some space; otherwise {forgets}"
    return noted("disk", text, advice, {"folder": str(folder), "free_mib": free // 2**20})


def _memory(meminfo: str) -> Progress:
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            free = 1024 * int(rest.split()[0])
            advice = "stop what else runs here: the agent needs 60 MiB" if free < MIN_MEMORY_BYTES else ""
            yield noted("memory", f"{_size(free)} free", advice, {"free_mib": free // 2**20})


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
