"""Layers: which package of the program may import which. Siblings on one floor never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

PACKAGE = ROOT / "device_agent"
PROGRAM = "device_agent"

BELOW_APP = (
    "core", "runtime", "dsp", "net", "state", "services", "hardware", "status", "audio", "tools", "config", "link",
    "telemetry", "integrations",
)  # fmt: skip
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "core": (),
    "runtime": ("core",),
    "dsp": ("core",),
    "net": ("core", "runtime"),
    "state": ("core", "runtime"),
    "services": ("core", "net.models", "net.http_errors", "dsp.g711"),
    "hardware": ("core", "runtime", "dsp"),
    "status": ("core", "runtime"),
    "simulator": ("core", "runtime.signals", "dsp"),
    "audio": ("core", "runtime", "dsp", "hardware.ports", "hardware.null_speaker"),
    "tools": ("core", "state", "services.base"),
    "config": ("core", "runtime", "net.tls", "services.registry"),
    "link": ("core", "runtime", "dsp", "net", "services", "audio.playback_buffer"),
    "telemetry": ("core", "runtime.signals", "dsp", "config"),
    "integrations": ("core", "runtime", "net.tls", "config", "state"),
    "app": BELOW_APP,
    "commands": (*BELOW_APP, "app", "simulator"),
    "doctor": (*BELOW_APP, "app"),
}
"""Each package, from the ground up, and the packages or modules that it may import."""


def modules() -> list[Path]:
    """Return the files of the program."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the name of the module at *path*, below the program."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").removesuffix(".")


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the modules of the program that the one at *path* imports, by their names below the program, and whether
    it does so when it is loaded itself."""
    tree = ast.parse(path.read_text())
    known = {name_of(each) for each in modules()}
    at_once = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        here = path.relative_to(PACKAGE).parent.parts
        base = here[: len(here) - (node.level - 1)]
        base += tuple((node.module or "").split(".")) if node.module else ()
        for alias in node.names:
            inner = ".".join((*base, alias.name))
            yield inner if inner in known else ".".join(base), id(node) in at_once
