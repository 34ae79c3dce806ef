"""How the findings are told: to people line by line as they come, to machines as one JSON document at the end."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from .. import __version__
from ..core.printable import printable
from .findings import Finding, Mark, Now

DEFAULT_COLUMNS, MAX_COLUMNS = 80, 100
"""Columns: where nobody says how many there are, and of the widest text that is pleasant to read."""
INDENT_COLUMNS = 21
"""Columns that mark and name take."""
NEXT_LINE = "\n" + " " * INDENT_COLUMNS
MIN_TEXT_COLUMNS = 20
"""Columns that a text gets on the narrowest terminal."""
METER_LOWEST_DB = -60.0
"""What the meter shows as nothing."""
METER_COLUMNS = 24
"""Columns of the meter."""
COLOURS = {Mark.OK: "32", Mark.SKIP: "2", Mark.NOTE: "33", Mark.FAIL: "1;31"}
BOLD, DIM = "1", "2"


class Report(Protocol):
    """Where the findings are written down. Belongs to the main thread."""

    @property
    def live(self) -> bool:
        """Whether somebody sees what is being tried just now."""

    def group(self, title: str) -> None:
        """What follows belongs together."""

    def now(self, doing: Now) -> None:
        """This is being tried."""

    def show(self, finding: Finding) -> None:
        """This was found."""

    def end(self, verdict: str, *, ok: bool) -> None:
        """That was all."""


@dataclass
class TextReport:
    """A report of *width* columns on *out*, *coloured* or not; where it is *live*, what is being tried is shown until
    it is known."""

    out: TextIO
    width: int = DEFAULT_COLUMNS
    coloured: bool = False
    live: bool = False
    _passing: bool = False  # the line on the screen is one that will be written over
    _begun: bool = False

    def group(self, title: str) -> None:
        if self._begun:
            self._write("")
        self._write(self._paint(printable(title), BOLD))
        self._begun = True

    def now(self, doing: Now) -> None:
        if self.live:
            line = printable(f"{'..':4}  {doing.name:13}  {_passing(doing)}")[: self.width - 1]
            self._passing = True
            self.out.write(f"\r{self._paint(line, DIM)}\x1b[K")
            self.out.flush()

    def show(self, finding: Finding) -> None:
        mark = self._paint(f"{finding.mark.value:4}", COLOURS[finding.mark])
        lines = [*self._lines(finding.text, ""), *self._lines(finding.advice, "-> ")]
        self._write(f"{mark}  {printable(finding.name):13}  {NEXT_LINE.join(lines)}")

    def end(self, verdict: str, *, ok: bool) -> None:
        text = textwrap.fill(printable(verdict), self.width)
        self._write("")
        self._write(self._paint(text, COLOURS[Mark.OK if ok else Mark.FAIL]))

    def _lines(self, text: str, sign: str) -> list[str]:
        """Return *text* in lines that fit beside the name; the first of a paragraph begins with *sign*."""
        wrapper = textwrap.TextWrapper(
            max(MIN_TEXT_COLUMNS, self.width - INDENT_COLUMNS),
            initial_indent=sign,
            subsequent_indent=" " * len(sign),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [line for paragraph in printable(text, keep="\n").split("\n") for line in wrapper.wrap(paragraph)]

    def _write(self, text: str) -> None:
        if self._passing:
            self.out.write("\r\x1b[K")
            self._passing = False
        print(text, file=self.out, flush=True)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.coloured else text


class JsonReport:
    """One JSON document on *out*, and nothing else."""

    live = False

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._group = ""
        self._checks: list[dict[str, Any]] = []

    def group(self, title: str) -> None:
        self._group = title

    def now(self, doing: Now) -> None: ...

    def show(self, finding: Finding) -> None:
        known = {"name": finding.name, "group": self._group, "mark": finding.mark.value, "text": finding.text}
        self._checks.append({**finding.figures, **known, "advice": finding.advice})

    def end(self, verdict: str, *, ok: bool) -> None:
        document = {"ok": ok, "verdict": verdict, "version": __version__, "checks": self._checks}
        print(json.dumps(document, indent=1), file=self._out, flush=True)


def open_report(out: TextIO, *, as_json: bool) -> Report:
    """Return how to write on *out*: live on a terminal that can, and in colour unless somebody minds (NO_COLOR)."""
    if as_json:
        return JsonReport(out)
    live = out.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
    width = shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns if live else DEFAULT_COLUMNS
    return TextReport(out, min(width, MAX_COLUMNS), coloured=live and not os.environ.get("NO_COLOR"), live=live)


def _passing(doing: Now) -> str:
    return doing.text if doing.level is None else f"{doing.text} [{_bar(doing.level)}] {doing.level:3.0f} dBFS"


def _bar(level: float) -> str:
    filled = round(METER_COLUMNS * max(0.0, min(1.0, 1 - level / METER_LOWEST_DB)))
    return "#" * filled + "." * (METER_COLUMNS - filled)
