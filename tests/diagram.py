"""Draws the conversation's table as a Mermaid diagram: ``python tests/diagram.py README.md`` puts it into a file."""

from __future__ import annotations

import sys
from pathlib import Path

from device_agent.conversation import REST, RESTING, STARTING, TRANSITIONS, State
from device_agent.events import Event

BEGIN, END = "<!-- states: drawn by `make diagram` -->\n", "<!-- end of states -->\n"


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
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {_box(STARTING)}"]
    lines += [f"    {begin} --> {end}: {', '.join(names)}" for (begin, end), names in arrows.items()]
    lines.append(f"    note left of rest: {', '.join(state.value for state in State if state in RESTING)}")
    return "\n".join(lines) + "\n"


def _box(state: State) -> str:
    return "rest" if state in RESTING or state is REST else state.value


def _words(event: type[Event]) -> str:
    """TalkStarted -> talk started"""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in event.__name__).strip()


def drawn_into(text: str) -> str:
    """Return *text* with the diagram between its marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}```mermaid\n{diagram()}```\n{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(drawn_into(path.read_text()))
