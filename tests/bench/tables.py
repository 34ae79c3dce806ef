"""What a bench has measured, as a table for the documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. A row with one cell alone is a title between the others."""
    lines = [_line(head), _line(["---"] * len(head))]
    lines += [_line([f"**{row[0]}**", *[""] * (len(head) - 1)] if len(row) == 1 else row) for row in rows]
    return "\n".join(lines) + "\n"


def seconds(value: float | None) -> str:
    """Return *value* as people read it; nothing where there is none."""
    return "" if value is None else f"{value:.1f} s"


def _line(cells: Sequence[str]) -> str:
    safe = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(safe)} |"
