"""What a bench finds: rows that say how ours does beside the others, on the terminal, in Markdown and in a file.

Less is better in every row. ``None`` stands for what could not be measured, and the row's note says why.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

NOTHING = "-"
"""What a table shows where nothing was measured."""


@dataclass
class Row:
    """One figure: ours, that of each peer by its name, and the least that is possible where that is known.

    *n* is how many measurements are behind it, *note* what one has to know to believe it.
    """

    figure: str
    unit: str
    ours: float | None
    peers: dict[str, float | None] = field(default_factory=dict)
    limit: float | None = None
    n: int = 1
    note: str = ""

    @property
    def best(self) -> float | None:
        """The best peer's figure; None where no peer has one."""
        return min((value for value in self.peers.values() if value is not None), default=None)

    @property
    def ratio(self) -> float | None:
        """Ours by the best peer's: below 1 we are ahead. None where one of them is missing, or theirs is nothing."""
        if self.ours is None or not self.best:
            return None
        return self.ours / self.best


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least of *values* that so many percent of them do not exceed: one that was measured, not made up.

    Raises ValueError where there are none.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(0, rank - 1)]


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what was measured; None where nothing was."""
    measured = [value for value in values if value is not None]
    return median(measured) if measured else None


def machine() -> dict[str, str | int]:
    """Say what the figures were measured on: what matters for them, and nothing that names the machine."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def described(about: Mapping[str, str | int]) -> str:
    """Return ``machine()`` as a sentence."""
    return "{processor}, {architecture}, {cores} cores, Python {python}, Linux {kernel}, {date}".format(**about)


def _processor() -> str:
    """Return what the kernel calls the processor; on a Pi, the board."""
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text().rstrip("\0")
    names = (
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    )
    return next((" ".join(name.split()) for name in names if name), "an unknown processor")


# Tables ---------------------------------------------------------------------------------------------------------------


def shown(value: float | None) -> str:
    """Return a number with three digits that count: 0.0412, 1.23, 45.6, 789, 12300."""
    if value is None:
        return NOTHING
    if not value:
        return "0"
    whole = math.floor(math.log10(abs(value)))
    return f"{round(value, 2 - whole):.{max(0, 2 - whole)}f}"


def names(rows: Iterable[Row]) -> list[str]:
    """Return the names of all peers, in the order in which they appear."""
    return list(dict.fromkeys(name for row in rows for name in row.peers))


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the table: a line of titles, then one for each row."""
    peers = names(rows)
    table = [["figure", "unit", "ours", *peers, "ours / best", "limit"]]
    for row in rows:
        others = [shown(row.peers.get(name)) for name in peers]
        table.append([row.figure, row.unit, shown(row.ours), *others, shown(row.ratio), shown(row.limit)])
    return table


def table(rows: Sequence[Row]) -> str:
    """Return the rows for a terminal: words to the left, numbers to the right, the notes below."""
    lines = cells(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line in lines:
        words = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        text.append("  ".join(words + numbers).rstrip())
    return "\n".join(text + _notes(rows, "  "))


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table for a document; the row's note is not in it."""
    lines = cells(rows)
    rule = ["---", "---", *["---:"] * (len(lines[0]) - 2)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _notes(rows: Sequence[Row], margin: str) -> list[str]:
    notes = [f"{margin}{row.figure}: {row.note}" for row in rows if row.note]
    return ["", *notes] if notes else []


# Files ----------------------------------------------------------------------------------------------------------------


def write(path: Path, rows: Sequence[Row], about: Mapping[str, str | int] | None = None) -> None:
    """Write the rows as JSON, with the machine that they were measured on: *about*, or this one."""
    text = json.dumps({"machine": about or machine(), "rows": [_rounded(asdict(row)) for row in rows]}, indent=1)
    path.write_text(text + "\n")


def read(path: Path) -> tuple[dict[str, str | int], list[Row]]:
    """Return the machine and the rows that are in a file. Raises ValueError, KeyError, TypeError where it has none."""
    found = json.loads(path.read_text())
    return found["machine"], [Row(**row) for row in found["rows"]]


def merge(*parts: Sequence[Row]) -> list[Row]:
    """Return the rows of all parts: where two have the same figure and unit, what the later one knows is taken.

    A peer that only one of them measured stays; what was measured is never replaced by None.
    """
    merged: dict[tuple[str, str], Row] = {}
    for row in (row for part in parts for row in part):
        key = row.figure, row.unit
        merged[key] = _later(merged[key], row) if key in merged else row
    return list(merged.values())


def _later(before: Row, after: Row) -> Row:
    peers = before.peers | {name: value for name, value in after.peers.items() if value is not None}
    missing = {name: None for name in after.peers if name not in peers}
    return Row(
        after.figure,
        after.unit,
        before.ours if after.ours is None else after.ours,
        peers | missing,
        before.limit if after.limit is None else after.limit,
        max(before.n, after.n),
        after.note or before.note,
    )


def _rounded(row: dict[str, object]) -> dict[str, object]:
    """Return *row* with six digits that count: no machine here measures more."""

    def short(value: object) -> object:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        return {name: short(one) for name, one in value.items()} if isinstance(value, dict) else value

    return {name: short(value) for name, value in row.items()}


def main() -> int:
    """Print what is in the files, merged, and write it into another one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="a table for a document")
    parser.add_argument("--into", type=Path, metavar="FILE", help="write all of it there")
    options = parser.parse_args()
    parts = [read(path) for path in options.files]
    rows, about = merge(*(rows for _, rows in parts)), parts[-1][0]
    print(markdown(rows) if options.markdown else table(rows))
    print(f"\n{described(about)}")
    if options.into:
        write(options.into, rows, about)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
