"""A processor made of software that counts: QEMU's user emulation with ``count.c`` in it.

It counts the same for the same work on every machine. Where it cannot count, valgrind does: the same to a fifth of a
percent, and many times slower.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.paths import ROOT

SOURCE = Path(__file__).with_name("count.c")
BUILD = ROOT / "build"
NEW_API = 9
"""From this QEMU on plugins have to know a newer interface."""
LONGEST_S = 900.0
"""One run may take so long."""


class Unusable(Exception):
    """There is no emulator here, or it does not count; says what to do."""


class Emulator:
    """Runs programs of one kind of processor (as ``uname -m`` calls it) on another, or on the same, and counts."""

    def __init__(self, machine: str, *options: str, build: Path = BUILD) -> None:
        """*options* are those of QEMU, such as the model of the processor. Raises Unusable."""
        self._program = shutil.which(f"qemu-{machine}")
        if self._program is None:
            raise Unusable(f"there is no qemu-{machine}: apt install qemu-user")
        if "-plugin" not in self._said("-h"):
            raise Unusable(
                f"this {self._program} cannot count, as that of Debian 13 cannot: it is built without plugins"
            )
        self._command = [self._program, *options, "-plugin", str(self._plugin(build))]

    @property
    def name(self) -> str:
        """Return what counts, and its version."""
        return f"QEMU {self._version}"

    @property
    def _version(self) -> str:
        return re.search(r"version (\S+)", self._said("--version"))[1]  # type: ignore[index]

    def _said(self, option: str) -> str:
        return subprocess.run([str(self._program), option], capture_output=True, text=True).stdout

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, int]:
        """Run *command*; return its exit status, what it wrote, and how many instructions it took."""
        return _counted([*self._command, *command], environment, r"^([\d,]+) instructions$")

    def _plugin(self, build: Path) -> Path:
        """Compile the plugin, and return it. Raises Unusable."""
        api = 2 if int(self._version.partition(".")[0]) >= NEW_API else 1
        plugin = build / f"count-{api}.so"
        if not plugin.exists() or plugin.stat().st_mtime < SOURCE.stat().st_mtime:
            build.mkdir(exist_ok=True)
            done = subprocess.run(
                ["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", f"-DAPI={api}", "-o", plugin, SOURCE],
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                raise Unusable(f"gcc does not compile {SOURCE.name}:\n{done.stderr}")
        return plugin


class Valgrind:
    """The same for this machine's own kind of processor, where QEMU cannot: much slower."""

    def __init__(self) -> None:
        """Raises Unusable."""
        if shutil.which("valgrind") is None:
            raise Unusable("there is no valgrind: apt install valgrind")
        self._command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]

    @property
    def name(self) -> str:
        """Return what counts, and its version."""
        return subprocess.run(["valgrind", "--version"], capture_output=True, text=True).stdout.strip()

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, int]:
        """Run *command*; return its exit status, what it wrote, and how many instructions it took."""
        return _counted([*self._command, *command], environment, r"I +refs: +([\d,]+)$")


def _counted(command: Sequence[str], environment: Mapping[str, str], pattern: str) -> tuple[int, str, int]:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=LONGEST_S)
    counts = re.findall(pattern, done.stderr, re.MULTILINE)
    if not counts:
        raise Unusable(f"{' '.join(command)} ended with {done.returncode} and no count:\n{done.stderr[-2000:]}")
    return done.returncode, done.stdout + done.stderr, int(counts[-1].replace(",", ""))
