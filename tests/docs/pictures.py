"""The pictures of the README: what the demo prints and what ``status --watch`` shows, drawn by rich as SVG.

Both are recorded, so that drawing them again changes nothing: ``docs/pictures/demo.txt`` is the output of
``device-agent demo``, ``docs/pictures/status.json`` one line of ``device-agent status --watch --json``.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any
from xml.dom import minidom

from rich.console import Console
from rich.text import Text

from device_agent.status import page
from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "pictures"
COLUMNS, LINES = 90, 20


def demo() -> str:
    """Return the recorded output of the demo as SVG."""
    console = _console()
    for line in (FOLDER / "demo.txt").read_text().splitlines():
        console.print(Text(line))
    return _svg(console, "device-agent demo")


def status() -> str:
    """Return what ``device-agent status --watch`` shows of the recorded snapshot, as SVG."""
    snapshot: dict[str, Any] = json.loads((FOLDER / "status.json").read_text())
    console = _console()
    drawing = page.StatusPage(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    console.print(drawing.view(snapshot, COLUMNS, LINES))
    return _svg(console, "device-agent status --watch")


PICTURES = {"docs/pictures/demo.svg": demo, "docs/pictures/status.svg": status}


def shown(svg: str) -> list[str]:
    """Return the text that *svg* shows: releases of rich draw the same text with other coordinates."""
    found = (each.firstChild.data for each in minidom.parseString(svg).getElementsByTagName("text"))  # noqa: S318
    return [text.replace("\u00a0", " ").strip() for text in found if text.strip()]


def _console() -> Console:
    return Console(
        record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor", highlight=False
    )


def _svg(console: Console, title: str) -> str:
    drawn = console.export_svg(title=title, unique_id="picture")
    without_fonts = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # a picture loads nothing
    return re.sub(r"[ \t]+$", "", without_fonts, flags=re.MULTILINE)
