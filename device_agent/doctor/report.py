"""Report of the findings: lines of text as they come, or one JSON document at the end."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from dataclasses import dataclass
from typing import Any, TextIO

from .. import __version__
from ..core.printable import printable
from .findings import Finding, Mark, Now

DEFAULT_COLUMNS, REPORT_MAX_COLUMNS = 80, 100
INDENT_COLUMNS = 21
"""Width of mark and name."""
NEXT_LINE = "\n" + " " * INDENT_COLUMNS
MIN_TEXT_COLUMNS = 20
METER_LOWEST_DB = -60.0
"""Shown as an empty meter."""
METER_COLUMNS = 24
MARK_COLOURS = {Mark.OK: "32", Mark.SKIP: "2", Mark.NOTE: "33", Mark.FAIL: "1;31"}
BOLD, DIM = "1", "2"


class Report:
    """Output of the doctor. Belongs to the main thread."""

    live = False
    """Whether ``now`` is shown."""

    def group(self, title: str) -> None:
        """Begin a group of findings."""

    def now(self, doing: Now) -> None:
        """Show what is being tried."""

    def show(self, finding: Finding) -> None:
        """Add a finding."""

    def end(self, verdict: str, *, ok: bool) -> None:
        """Add the verdict, and complete the report."""


@dataclass
class TextReport(Report):
    """Text of *width* columns on *out*. Where it is *live*, the last line shows what is being tried."""

    out: TextIO
    width: int = DEFAULT_COLUMNS
    coloured: bool = False
    live: bool = False
    _passing: bool = False  # the last line will be overwritten
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
        mark = self._paint(f"{finding.mark.value:4}", MARK_COLOURS[finding.mark])
        lines = [*self._lines(finding.text, ""), *self._lines(finding.advice, "-> ")]
        self._write(f"{mark}  {printable(finding.name):13}  {NEXT_LINE.join(lines)}")

    def end(self, verdict: str, *, ok: bool) -> None:
        text = textwrap.fill(printable(verdict), self.width)
        self._write("")
        self._write(self._paint(text, MARK_COLOURS[Mark.OK if ok else Mark.FAIL]))

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


class JsonReport(Report):
    """One JSON document on *out*."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._group = ""
        self._checks: list[dict[str, Any]] = []

    def group(self, title: str) -> None:
        self._group = title

    def show(self, finding: Finding) -> None:
        known = {"name": finding.name, "group": self._group, "mark": finding.mark.value, "text": finding.text}
        self._checks.append({**finding.figures, **known, "advice": finding.advice})

    def end(self, verdict: str, *, ok: bool) -> None:
        document = {"ok": ok, "verdict": verdict, "version": __version__, "checks": self._checks}
        print(json.dumps(document, indent=1), file=self._out, flush=True)


def open_report(out: TextIO, *, as_json: bool) -> Report:
    """Return a report on *out*: live on a capable terminal, and coloured there unless NO_COLOR is set."""
    if as_json:
        return JsonReport(out)
    live = out.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
    width = shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns if live else DEFAULT_COLUMNS
    return TextReport(out, min(width, REPORT_MAX_COLUMNS), coloured=live and not os.environ.get("NO_COLOR"), live=live)


def _passing(doing: Now) -> str:
    if doing.level is None:
        return doing.text
    filled = round(METER_COLUMNS * max(0.0, min(1.0, 1 - doing.level / METER_LOWEST_DB)))
    return f"{doing.text} [{'#' * filled:.<{METER_COLUMNS}}] {doing.level:3.0f} dBFS"
