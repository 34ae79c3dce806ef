"""Findings: what a check found, as one line with a mark and an advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


class Mark(Enum):
    """State of a thing; the value is shown."""

    OK = "ok"
    NOTE = "note"
    """A turn would work, and something could be better, or could not be tried."""
    SKIP = "skip"
    """Not tried, because that was asked for or makes no sense here."""
    FAIL = "FAIL"
    """No turn would work."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. *text* says what was seen, *advice* what to do; *figures* are for the JSON report."""

    name: str
    text: str
    mark: Mark = Mark.OK
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def noted(name: str, text: str, advice: str, figures: Mapping[str, Any]) -> Finding:
    """Return a finding that is a note if there is an *advice*."""
    return Finding(name, text, Mark.NOTE if advice else Mark.OK, advice, figures)


@dataclass(frozen=True)
class Now:
    """What is being tried, for the terminal: with a *text*, and the *level* of a sound in dBFS."""

    name: str
    text: str = ""
    level: float | None = None


Progress = Iterator[Finding | Now]
"""What a step yields. It may raise AgentError: that is a FAIL of what was tried last."""

_SOUND = "check its cable, and choose another one with: device-agent devices"
_PIN = "check its wires, and its pin in config.yaml"
_FAR = "try again in a minute; if that does not help, check the network, and the section service of config.yaml"
USUAL_ADVICE = {
    **dict.fromkeys(("microphone", "loudspeaker", "level", "echo"), _SOUND),
    "canceller": "write echo.mode: off into config.yaml, which works without it",
    **dict.fromkeys(("button", "light", "controls"), _PIN),
    "key": "store another one: sudo device-agent key",
    **dict.fromkeys(("name", "route", "TLS", "handshake", "session", "turn"), _FAR),
}
"""Name of a finding -> what helps most often."""
OTHER_ADVICE = "the log of the speaker may say more: sudo journalctl -u device-agent -n 50"


def advised(finding: Finding) -> Finding:
    """Return *finding* with an advice, if it needs one and has none: what follows the last semicolon of its text, as in
    the text of an error, or else the usual advice."""
    if finding.advice or finding.mark in (Mark.OK, Mark.SKIP):
        return finding
    seen, found, advice = finding.text.rpartition("; ")
    if found and "\n" not in advice:
        return replace(finding, text=seen, advice=advice)
    return replace(finding, advice=USUAL_ADVICE.get(finding.name, OTHER_ADVICE))
