"""What the doctor finds: one line for each thing, with a mark, and what to do where it is not well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Mark(Enum):
    """How a thing is. The value is what people see."""

    OK = "ok"
    NOTE = "note"
    """A turn would work, and something could be better, or could not be tried."""
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


Progress = Iterator[Finding | Now]
"""What a step yields. It may raise AgentError: that is a FAIL of what was tried last."""
