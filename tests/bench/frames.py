"""What 20 ms of each state of the device cost: instructions, exactly, and CPU time, as far as a busy machine can tell.

    python -m tests.bench.frames [--short] [--json FILE] [--keep] [--python PROGRAM] [--tree FOLDER]

``frames.py`` does the work, an emulator counts (``arm/emulator.py``), and the same work done twice as often tells a
frame's share from that of the start. The counts are held against those in ``frames.json``: ends with 1 where one has
grown by more than a quarter. A Python that was built in another way takes more or fewer instructions for everything;
so both are divided by what it takes for code that never changes, the yardstick. Run by ``make frames``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.arm.emulator import Emulator, Unusable, Valgrind
from tests.bench.beside.figures import NOTHING, Row, described, machine, write
from tests.bench.frame_kinds import KINDS, UNAVAILABLE

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
FRAMES, KEPT = HERE / "frame_kinds.py", HERE / "frames.json"
YARDSTICK = "yardstick"
COUNTED, TIMED = 200, 1000
"""Frames of the shorter run where instructions are counted, and where CPU time is; the longer has twice as many."""
GROWN, SHRUNK = 1.25, 0.8
"""More than the first is a mistake; less than the second is worth to be kept."""
LONGEST_S = 120.0

MODELS = {"x86_64": ("-cpu", "max")}
"""Which processor QEMU is, where its usual one is too old."""


@dataclass
class Count:
    """Instructions of a frame, the middle of all tries, and how far the tries lie apart, as a part of it."""

    instructions: float
    spread: float | None


@dataclass
class Subject:
    """The Python that does the work, and what it finds around itself."""

    program: str
    environment: dict[str, str]

    def command(self, kind: str, frames: int) -> list[str]:
        return [self.program, str(FRAMES), kind, str(frames)]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *words], env=self.environment, capture_output=True, text=True, timeout=LONGEST_S
        )

    @property
    def version(self) -> str:
        """Return what its counts are kept under, such as "3.11 x86_64"."""
        done = self.run("-c", "import platform as p; print(p.python_version().rpartition('.')[0], p.machine())")
        return done.stdout.strip()


def surroundings(*packages: Path) -> dict[str, str]:
    """Return the environment of all the work, the same everywhere. *packages* are the folders to find some in."""
    path = os.pathsep.join(str(one.resolve()) for one in packages)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}


def timed(subject: Subject, tries: int) -> dict[str, float]:
    """Return the CPU microseconds of a frame of each kind that can be here."""
    costs = {}
    for kind in KINDS:
        pairs = [(_cpu_s(subject, kind, TIMED), _cpu_s(subject, kind, 2 * TIMED)) for _ in range(tries)]
        shares = [1e6 * (long - short) / TIMED for short, long in pairs if short is not None and long is not None]
        if shares:
            costs[kind] = max(0.0, statistics.median(shares))
    return costs


def _cpu_s(subject: Subject, kind: str, frames: int) -> float | None:
    done = subject.run(*subject.command(kind, frames)[1:])
    if done.returncode == UNAVAILABLE:
        return None
    if done.returncode:
        raise Unusable(f"frames.py {kind} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["cpu_s"])


def counter() -> Emulator | Valgrind:
    """Return what counts on this machine. Raises Unusable."""
    try:
        return Emulator(platform.machine(), *MODELS.get(platform.machine(), ()))
    except Unusable as error:
        print(f"{error}; valgrind counts instead, which takes several minutes", file=sys.stderr)
        return Valgrind()


def counted(emulator: Emulator | Valgrind, subject: Subject, kinds: Iterable[str], tries: int) -> dict[str, Count]:
    """Return the instructions of a frame of each of *kinds* that can be there."""

    def run(kind: str, frames: int) -> int | None:
        status, said, instructions = emulator.run(subject.command(kind, frames), subject.environment)
        if status not in (0, UNAVAILABLE):
            raise Unusable(f"frames.py {kind} ended with {status} in the emulator:\n{said[-2000:]}")
        return None if status else instructions

    counts = {}
    with ThreadPoolExecutor(os.cpu_count()) as several:  # other load on this machine changes no count
        runs = {kind: [several.submit(run, kind, n * COUNTED) for _ in range(tries) for n in (1, 2)] for kind in kinds}
        for kind, pending in runs.items():
            found = [one.result() for one in pending]
            shares = [
                (long - short) / COUNTED for short, long in zip(found[::2], found[1::2], strict=True) if short and long
            ]
            if shares:
                middle = statistics.median(shares)
                counts[kind] = Count(middle, (max(shares) - min(shares)) / middle if len(shares) > 1 else None)
    return counts


# Against what was kept ------------------------------------------------------------------------------------------------


def compared(counts: dict[str, Count], kept: dict[str, float]) -> dict[str, float]:
    """Return by how much each kind has grown, 1 is not at all, in yardsticks of each; the yardstick itself is left."""
    yard = counts[YARDSTICK].instructions / kept[YARDSTICK]
    return {
        kind: count.instructions / kept[kind] / yard
        for kind, count in counts.items()
        if kind in kept and kind != YARDSTICK
    }


def judged(ratios: dict[str, float]) -> list[str]:
    """Return what there is to say of the ratios, mistakes first."""
    grown = [
        f"GROWN: {kind} takes {ratio:.2f} times the instructions that are kept; {GROWN:g} is the limit"
        for kind, ratio in ratios.items()
        if ratio > GROWN
    ]
    shrunk = [
        f"better: {kind} takes {ratio:.2f} of the instructions that are kept; keep it by --keep"
        for kind, ratio in ratios.items()
        if ratio < SHRUNK
    ]
    return grown + shrunk


def kept_counts() -> dict[str, dict[str, float]]:
    """Return what is kept: instructions by kind, by Python and processor."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(version: str, counts: dict[str, Count]) -> None:
    """Keep *counts* in the place of what was kept for this Python."""
    kept = kept_counts()
    kept[version] = {kind: round(count.instructions) for kind, count in counts.items()}
    KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n")


def rows(counts: dict[str, Count], costs: dict[str, float], version: str, tries: int) -> list[Row]:
    """Return the table for the others."""
    found = []
    for kind in (kind for kind in counts if kind != YARDSTICK):
        about = f"Python {version}, emulated; user space without PortAudio and TLS"
        found.append(
            Row(f"20 ms {kind}, instructions", "thousands", counts[kind].instructions / 1000, n=tries, note=about)
        )
        if kind in costs:
            found.append(Row(f"20 ms {kind}, CPU time", "µs", costs[kind], n=tries, note="user and system"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one try of each: a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows of the table there")
    parser.add_argument("--keep", action="store_true", help=f"keep the counts in {KEPT.name}")
    parser.add_argument("--python", default=sys.executable, help="who does the work; default: this Python")
    parser.add_argument("--tree", type=Path, default=PROJECT, help="where the package is; default: here")
    options = parser.parse_args()
    tries = 1 if options.short else 3
    subject = Subject(options.python, surroundings(options.tree))
    try:
        emulator = counter()
        version, costs = subject.version, timed(subject, tries)  # first: it also compiles what has to be
        counts = counted(emulator, subject, costs, tries)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Python {version} counted by {emulator.name}; CPU time on {described(machine())}\n")
    if options.json:
        write(options.json, rows(counts, costs, version, tries))
    return report(counts, costs, version, keep_them=options.keep)


def report(counts: dict[str, Count], costs: dict[str, float], version: str, *, keep_them: bool) -> int:
    """Print what was found, and keep it or hold it against what was kept; return the exit status."""
    kept = {} if keep_them else kept_counts().get(version, {})
    ratios = compared(counts, kept) if kept else {}
    print(table(counts, costs, kept, ratios))
    if keep_them:
        keep(version, counts)
        print(f"kept in {KEPT.name}")
    elif not kept:
        print(f"nothing is kept for Python {version}, so nothing is compared; --keep would keep this")
    for line in judged(ratios):
        print(line)
    return 1 if any(ratio > GROWN for ratio in ratios.values()) else 0


def table(counts: dict[str, Count], costs: dict[str, float], kept: dict[str, float], ratios: dict[str, float]) -> str:
    """Return what was found, for a terminal."""
    lines = [f"{'20 ms':12} {'instructions':>14} {'apart':>7} {'kept':>12} {'ratio':>6} {'CPU time':>12}"]
    for kind, count in counts.items():
        before = f"{kept[kind]:,.0f}" if kind in kept else NOTHING
        ratio = f"{ratios[kind]:.2f}" if kind in ratios else NOTHING
        apart = NOTHING if count.spread is None else f"{100 * count.spread:.2f} %"
        time = f"{costs[kind]:.1f} µs" if kind in costs else NOTHING
        lines.append(f"{kind:12} {count.instructions:14,.0f} {apart:>7} {before:>12} {ratio:>6} {time:>12}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
