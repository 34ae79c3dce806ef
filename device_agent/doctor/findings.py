"""What the doctor finds: one line for each thing, with a mark, and what to do where it is not well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


class Mark(Enum):
    """How a thing is. The value is what people see."""

    OK = "ok"
    NOTE = "note"
    """A turn would work, and something could be better, or could not be tried."""
    SKIP = "skip"
    """Not tried, because that is what was asked for, or it makes no sense here."""
    FAIL = "FAIL"
    """No turn would work with this."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. *text* says what was seen, *advice* what to do; *figures* are for machines."""

    name: str
    text: str
    mark: Mark = Mark.OK
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Now:
    """What is being tried just now, for who watches: with a *text*, and the *level* of a sound in dBFS."""

    name: str
    text: str = ""
    level: float | None = None


def advised(finding: Finding) -> Finding:
    """Return *finding* with an advice, where it needs one and has none: an error says what was seen and, behind its
    last semicolon, what to do; else what helps against most that happens to a thing of that name."""
    if finding.advice or finding.mark in (Mark.OK, Mark.SKIP):
        return finding
    seen, found, advice = finding.text.rpartition("; ")
    if found and "\n" not in advice:
        return replace(finding, text=seen, advice=advice)
    return replace(finding, advice=USUAL_ADVICE.get(finding.name, OTHER_ADVICE))


_SOUND = "check its cable, and choose another one with: device-agent devices"
_PIN = "check its wires, and its pin in config.yaml"
_FAR = "try again in a minute; if that does not help, check the network, and the section service of config.yaml"
USUAL_ADVICE = {
    "microphone": _SOUND,
    "loudspeaker": _SOUND,
    "level": _SOUND,
    "echo": _SOUND,
    "canceller": "write echo.mode: off into config.yaml, which works without it",
    "button": _PIN,
    "light": _PIN,
    "controls": _PIN,
    "key": "store another one: sudo device-agent key",
    "name": _FAR,
    "route": _FAR,
    "TLS": _FAR,
    "handshake": _FAR,
    "session": _FAR,
    "turn": _FAR,
}
"""Name of a finding -> what helps most often."""
OTHER_ADVICE = "the log of the speaker may say more: sudo journalctl -u device-agent -n 50"


Progress = Iterator[Finding | Now]
"""What a step yields. It may raise AgentError: that is a FAIL of what was tried last."""
