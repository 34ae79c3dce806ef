"""What 20 ms of each state of the device cost on a small ARM board: counted in an emulator, and the rest is arithmetic.

    python -m tests.bench.arm.bench [--suite bookworm] [--short] [--json FILE] [--keep] [--tree FOLDER]

The Python of a Debian for arm64 (that of Raspberry Pi OS), unpacked and not installed, and the packages that pip has
for it, run ``frames.py`` in QEMU. How many instructions that takes is exact. How long a Raspberry Pi Zero 2 W would
take for them is an ESTIMATE, from its clock and from how many instructions its processor is taken to finish in a cycle.
Run by ``make arm``; wants mmdebstrap and the network, once.
"""

from __future__ import annotations

import argparse
import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.arm.emulator import BUILD, Emulator, Unusable
from tests.bench.beside.figures import Row, write
from tests.bench.frame_kinds import KINDS
from tests.bench.frames import PROJECT, YARDSTICK, Count, Subject, counted, report, surroundings

PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""The releases of Debian, and of Raspberry Pi OS, and their Python."""
MODEL = "cortex-a53"
"""The processor of the Zero 2 W and the 3."""
WITHOUT = {"PyAudio", "gpiozero", "rich"}
"""Packages of ours that no frame passes through: a card, pins, and pages for people."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
HERTZ = 1.0e9
"""The clock of a Zero 2 W."""
PER_CYCLE = 0.5, 0.8
"""Instructions that an A53 finishes in a cycle, running an interpreter: an assumption. It could do two."""
A_SECOND = 50
"""Frames."""


def debian(suite: str) -> Path:
    """Return a folder with Debian's Python for arm64, unpacked; it is made once. Raises Unusable."""
    root = BUILD / "arm" / suite
    if root.exists():
        return root
    part = root.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    # Nothing of it runs while it is unpacked. The user _apt may not enter the folders of every user.
    options = ["--variant=extract", '--aptopt=APT::Sandbox::User "root"', "--architectures=arm64"]
    include = f"--include=python{PYTHONS[suite]},libstdc++6"
    _do("mmdebstrap", "--quiet", *options, include, suite, str(part))
    part.rename(root)
    return root


def packages(suite: str) -> Path:
    """Return a folder with the packages that we need; made anew when setup.cfg changes. Raises Unusable."""
    folder = BUILD / "arm" / f"{suite}-packages"
    settings = PROJECT / "setup.cfg"
    if folder.exists() and folder.stat().st_mtime >= settings.stat().st_mtime:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    said = configparser.ConfigParser()
    said.read(settings)
    wanted = said["options"]["install_requires"] + said["options.extras_require"]["echo"]
    names = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    needed = [name for name in names if re.split(r"\W", name)[0] not in WITHOUT]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    version = ["--implementation", "cp", "--python-version", PYTHONS[suite], "--only-binary", ":all:"]
    _do(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(part), *platforms, *version, *needed)
    part.rename(folder)
    folder.touch()
    return folder


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unusable(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def share(instructions: float, per_cycle: float) -> float:
    """Return how much of a core of a Zero 2 W a state takes, in percent: an estimate."""
    return 100 * A_SECOND * instructions / (HERTZ * per_cycle)


def estimates(counts: dict[str, Count]) -> str:
    """Return the estimates as a table."""
    low, high = PER_CYCLE
    lines = [f"{'ESTIMATE':12} {'of a core of a Zero 2 W':>26}"]
    for kind, count in counts.items():
        if kind != YARDSTICK:
            part = f"{share(count.instructions, high):.1f} to {share(count.instructions, low):.1f} %"
            lines.append(f"{kind:12} {part:>26}")
    lines.append(f"at {HERTZ / 1e9:g} GHz and {low:g} to {high:g} instructions per cycle, which is an assumption")
    return "\n".join(lines)


def rows(counts: dict[str, Count], version: str, tries: int) -> list[Row]:
    """Return the table for the others."""
    low, high = PER_CYCLE
    found = []
    for kind in (kind for kind in counts if kind != YARDSTICK):
        instructions = counts[kind].instructions
        about = f"Python {version}, emulated"
        found.append(Row(f"20 ms {kind} on arm64, instructions", "thousands", instructions / 1000, n=tries, note=about))
        guess = (
            f"an estimate: {low:g} instructions per cycle at {HERTZ / 1e9:g} GHz are assumed; "
            f"with {high:g} it would be {share(instructions, high):.1f} %"
        )
        found.append(
            Row(f"{kind}, of a core of a Zero 2 W", "% (estimate)", share(instructions, low), n=tries, note=guess)
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--suite", choices=PYTHONS, default="bookworm", help="a release of Debian; default: %(default)s"
    )
    parser.add_argument("--short", action="store_true", help="one try of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows of the table there")
    parser.add_argument("--keep", action="store_true", help="keep the counts in frames.json")
    parser.add_argument("--tree", type=Path, default=PROJECT, help="where the package is; default: here")
    options = parser.parse_args()
    tries = 1 if options.short else 3
    try:
        root, others = debian(options.suite), packages(options.suite)
        emulator = Emulator("aarch64", "-cpu", MODEL, "-L", str(root))
        program = root / "usr" / "bin" / f"python{PYTHONS[options.suite]}"
        subject = Subject(str(program), surroundings(options.tree, others))
        emulator.run(subject.command(YARDSTICK, 1), subject.environment)  # compiles what has to be
        counts = counted(emulator, subject, KINDS, tries)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    version = f"{PYTHONS[options.suite]} aarch64"
    print(f"Python {version} of Debian's {options.suite}, counted by {emulator.name} as a {MODEL}\n")
    status = report(counts, {}, version, keep_them=options.keep)
    print(f"\n{estimates(counts)}")
    if options.json:
        write(options.json, rows(counts, version, tries))
    return status


if __name__ == "__main__":
    sys.exit(main())
