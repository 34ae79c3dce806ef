"""Draws what README shows of the code: ``python tests/diagram.py README.md`` puts it between its marks.

The states come from the conversation's table, the matrix of services from what each says that it can.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from device_agent.conversation import REST, RESTING, STARTING, TRANSITIONS, State
from device_agent.events import Event
from device_agent.services import SERVICES, Can, load


def diagram() -> str:
    """Return the states as Mermaid source. States of rest are one box: what moves between them is said in words."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, rows in TRANSITIONS.items():
        for event, (target, _actions) in rows.items():
            begin, end = _box(state), _box(target)
            if begin != end:
                names = arrows.setdefault((begin, end), [])
                if _words(event) not in names:
                    names.append(_words(event))
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", f"    [*] --> {_box(STARTING)}"]
    lines += [f"    {begin} --> {end}: {', '.join(names)}" for (begin, end), names in arrows.items()]
    lines.append(f"    note left of rest: {', '.join(state.value for state in State if state in RESTING)}")
    return "\n".join([*lines, "```"]) + "\n"


def _box(state: State) -> str:
    return "rest" if state in RESTING or state is REST else state.value


def _words(event: type[Event]) -> str:
    """TalkStarted -> talk started"""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in event.__name__).strip()


def matrix() -> str:
    """Return what works with which service, as a table: a row for each thing, a column for each service."""
    names = list(SERVICES)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for each in fields(Can):
        said = [getattr(load(name).can, each.name) or "no" for name in names]
        lines.append(f"| {each.name.replace('_', ' ')} | " + " | ".join(said) + " |")
    rates = [", ".join(f"{rate // 1000}" for rate in load(name).rates) for name in names]
    lines.append("| kHz | " + " | ".join(rates) + " |")
    return "\n".join(lines) + "\n"


DRAWN = {"states": diagram, "services": matrix}


def drawn_into(text: str) -> str:
    """Return *text* with each drawing between its marks."""
    for name, draw in DRAWN.items():
        begin, end = f"<!-- {name}: drawn by `make diagram` -->\n", f"<!-- end of {name} -->\n"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}{draw()}{end}{tail}"
    return text


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(drawn_into(path.read_text()))
