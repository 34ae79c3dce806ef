"""Writes what the documents show of the code: ``python -m tests.docs.make_docs`` puts it between its marks.

The states come from the conversation's table, the services from what each of them declares, the keys from the schema
and the comments of config.yaml, the map of the code from the first sentence of each file, the measurements from
docs/bench.json, and the pictures from what is recorded in docs/pictures.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from device_agent.app.reconfigure import REBUILD_KEYS
from device_agent.config.model import Config, ServiceConfig, ToolConfig
from device_agent.config.yaml_schema import key_type, to_yaml
from device_agent.core.conversation import REST, RESTING, STARTING, TRANSITIONS, State
from device_agent.core.events import Event
from device_agent.services.base import Capabilities
from device_agent.services.registry import SERVICES, load, options
from device_agent.simulator import FAULTS, VARIANTS, Variant
from tests.bench.beside.figures import cells, described, markdown, read
from tests.bench.faults import CUED
from tests.docs.pictures import PICTURES
from tests.support.layers import MAY_IMPORT, PACKAGE
from tests.support.paths import ROOT

COMMAND = "make docs"


# The states -----------------------------------------------------------------------------------------------------------


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


# The services ---------------------------------------------------------------------------------------------------------


FEATURES = {
    "push_to_talk": "turns by button",
    "cancel": "stop an answer",
    "shorten": "forget what you did not hear",
    "typed": "typed questions",
    "clips": "recorded questions",
    "tools": "tools on the device",
    "server_tools": "tools at the service",
    "resume": "resume a lost session",
    "recall": "told what was said before",
    "text_only": "answers as text only",
    "token": "short-lived tokens",
    "thin": "G.711, a sixth of the data",
    "language": "`service.language`",
    "reasoning": "`service.reasoning`",
    "speed": "`service.speed`",
    "announcements": "announcements",
}
"""How the table names what a service can do."""


def matrix() -> str:
    """Return what works with which service, as a table: a row for each feature, a column for each service."""
    names = list(SERVICES)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for each in fields(Capabilities):
        said = [getattr(load(name).can, each.name) or "no" for name in names]
        lines.append(f"| {FEATURES[each.name]} | " + " | ".join(said) + " |")
    rates = [", ".join(f"{rate // 1000}" for rate in load(name).rates) for name in names]
    lines.append("| sample rates, kHz | " + " | ".join(rates) + " |")
    return "\n".join(lines) + "\n"


def usual() -> str:
    """Return what each service takes where a setting is empty, as a table."""
    lines = ["| | address | model | voice |", "|---|---|---|---|"]
    for name in SERVICES:
        cls = load(name)
        told = [f"`{value}`" if (value := getattr(cls, key, "")) else "" for key in ("url", "model", "voice")]
        lines.append(f"| {name} | " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


# The keys -------------------------------------------------------------------------------------------------------------


def keys() -> str:
    """Return every key of config.yaml: what it means, its values, its default, and when a change takes effect."""
    said, page = comments((ROOT / "config.yaml").read_text()), []
    for section in fields(Config):
        default = getattr(Config(), section.name)
        page.append(f"## {section.name}\n")
        if is_dataclass(default):
            page += [_key(f"{section.name}.{each.name}", type(default), each.name, said) for each in fields(default)]
        else:
            page.append(_key(section.name, Config, section.name, said))
        if section.name == "tools":
            page += [_entry(each.name) for each in fields(ToolConfig)]
    return "\n".join(page)


def comments(text: str) -> dict[str, str]:
    """Return what *text*, a config.yaml, says above each key."""
    said: dict[str, str] = {}
    section, words = "", []
    for line in text.splitlines():
        if comment := re.fullmatch(r"\s*#( ?.*)", line):
            words.append(comment[1])
        elif key := re.match(r"(\s*)(\w+):", line):
            name = f"{section}.{key[2]}" if key[1] else key[2]
            section = section if key[1] else key[2]
            said[name], words = "\n".join(words), []
        elif not line.strip():
            words = []
    return said


def _key(key: str, cls: Any, name: str, said: dict[str, str]) -> str:
    text, example = _prose(said[key])
    default = to_yaml(_plain(getattr(cls(), name))).strip("'")  # the shipped file needs no quotes
    facts = [f"Value: {_may_be(get_type_hints(cls, include_extras=True)[name])}"]
    facts += [f"Default: `{default}`" if default else "", _only_for(key), f"A change takes effect {_when(key)}"]
    line = _wrapped(f"{'. '.join(filter(None, facts))}.")
    return f"### `{key}`\n\n{_wrapped(text)}\n\n{example}{line}\n"


def _prose(comment: str) -> tuple[str, str]:
    """Return what a comment says, and the example in it, if there is one."""
    lines = comment.splitlines()
    code = [line[1:] if line else "" for line in lines if line.startswith("   ")]
    text = " ".join(line.strip() for line in lines if not line.startswith("   ") and line.strip())
    example = textwrap.dedent("\n".join(code))
    return text, f"```yaml\ntools:\n{textwrap.indent(example, '  ')}\n```\n\n" if code else ""


def _entry(name: str) -> str:
    hints = get_type_hints(ToolConfig, include_extras=True)
    default = next(each for each in fields(ToolConfig) if each.name == name)
    has = default.default is not MISSING or default.default_factory is not MISSING
    must = "" if has else "; required"
    return f"- `{name}`: {_may_be(hints[name])}{must}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _may_be(hint: Any) -> str:
    """Return what a hint of the schema allows, in words."""
    wanted = key_type(hint)
    if get_origin(wanted.kind) is tuple:
        item = get_args(wanted.kind)[0]
        return "a list of services like the one above" if item is ServiceConfig else f"a list of {_item(item)}"
    return wanted.wish + (", or empty" if wanted.optional else "")


def _item(hint: Any) -> str:
    """Return what each entry of a list may be, in words that follow "a list of"."""
    if hint is ToolConfig:
        return "entries with the keys below"
    words = _may_be(hint)
    if hint is str:
        return "texts"
    return f"entries, each {words}"


def _only_for(key: str) -> str:
    section, _, name = key.partition(".")
    name = "token_url" if name == "token_key_file" else name  # which means nothing without it
    known = [service for service in SERVICES if name in options(service)]
    elsewhere = {"name", "api_key_file", "rate"}  # which every service has, in its own way
    if section != "service" or name in elsewhere or len(known) == len(SERVICES):
        return ""
    return f"Only for {', '.join(known)}"


def _when(key: str) -> str:
    if key in REBUILD_KEYS:
        return "in the next quiet moment"
    return "with the next connection" if key.partition(".")[0] in {"service", "fallback"} else "at once"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


# The rooms ------------------------------------------------------------------------------------------------------------


def rooms() -> str:
    """Return the map: each package and each of its files in one phrase, from the ground up."""
    page = []
    for name in MAY_IMPORT:
        folder = PACKAGE / name
        page += [_wrapped(f"**[`{name}`](device_agent/{name})**: {phrase(folder / '__init__.py')}"), ""]
        page += [_room(path) for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py"]
        page.append("")
    page += ["**Above all packages**", ""]
    page += [_room(path) for path in sorted(PACKAGE.glob("*.py")) if path.name != "__init__.py"]
    return "\n".join([*page, ""])


def _room(path: Path) -> str:
    name = path.relative_to(PACKAGE)
    return textwrap.fill(
        f"- [`{name}`](device_agent/{name}): {phrase(path)}",
        120,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def phrase(path: Path) -> str:
    """Return the first sentence of a file, without its capital letter unless that belongs to a name."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    sentence = re.match(r"(.+?[.?!])( |$)", text)
    found = (sentence[1] if sentence else text).rstrip(".").replace("``", "`")
    word = re.split(r"[\s,:;]", found)[0]
    is_name = len(word) > 1 and not word[1:].islower()  # PortAudio, G.711, JSON
    return found if is_name else found[:1].lower() + found[1:]


# The simulator --------------------------------------------------------------------------------------------------------


def manners() -> str:
    """Return the manners of the simulator, as a table."""
    return _entries(VARIANTS, lambda _name: "")


def faults() -> str:
    """Return the faults of the simulator and what a speaker does about each, as a table."""
    return _entries(FAULTS, lambda name: "a cue" if name in CUED else "an answer")


def _entries(table: Mapping[str, Variant], outcome: Callable[[str], str]) -> str:
    heads = ["name", "the service", "with", *(["ends in"] if outcome(next(iter(table))) else [])]
    rows = []
    for name, entry in table.items():
        services = ", ".join(entry.services) or "all"
        rows.append([f"`{name}`", entry.says, services, *filter(None, [outcome(name)])])
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# What was measured ----------------------------------------------------------------------------------------------------

BENCH = ROOT / "docs" / "bench.json"
HEADLINES = {
    "press to silence, 99 %": "a press stops the answer within, ms",
    "cold press to the first sound at the service, median": "a press without a connection until the service hears, ms",
    "silences in replies, jitter 60 ms": "gaps in answers each minute, with 60 ms of jitter",
    "CPU a minute, talking": "processor time for a minute of talk, s",
    "resident, after a minute of talk": "memory, MiB",
}
"""What the summary shows, and what it calls it."""
COMPARED = {"openai_push_to_talk": "OpenAI's example", "pipecat_local": "pipecat", "bare": "a minimal client"}
"""What the summary compares the speaker with."""


def measured() -> str:
    """Return all that ``make bench KEEP=1`` has found."""
    about, rows = read(BENCH)
    return f"{markdown(rows)}\n\n{described(about)}."


def summary() -> str:
    """Return the few rows of it that a reader of the README needs."""
    about, rows = read(BENCH)
    found = {row.figure: row for row in rows}
    chosen = [replace(found[figure], figure=words) for figure, words in HEADLINES.items()]
    for row in chosen:
        row.peers = {name: row.peers.get(name) for name in COMPARED}
    lines = [[line[0], *line[2:-2]] for line in cells(chosen)]
    lines[0] = ["", "device_agent", *COMPARED.values()]
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
    return f"{table}\n\n{described(about)}."


# The documents --------------------------------------------------------------------------------------------------------

DRAWN: dict[str, dict[str, Callable[[], str]]] = {
    "docs/how-it-works.md": {"states": diagram},
    "docs/services.md": {"services": matrix, "usual": usual},
    "docs/configuration.md": {"keys": keys},
    "docs/benches.md": {"bench": measured},
    "docs/faults.md": {"faults": faults, "manners": manners},
    "README.md": {"bench": summary},
    "CONTRIBUTING.md": {"rooms": rooms},
}


def drawn_into(document: str, text: str) -> str:
    """Return *text*, which stands in *document*, with each drawing between its marks."""
    for name, draw in DRAWN[document].items():
        begin, end = f"<!-- {name}: written by `{COMMAND}` -->\n", f"<!-- end of {name} -->\n"
        head, found, rest = text.partition(begin)
        _, ended, tail = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{document} has no place for {name}: {begin}{end}")
        text = f"{head}{begin}\n{draw().strip()}\n\n{end}{tail}"
    return text


if __name__ == "__main__":
    for each in sys.argv[1:] or DRAWN:
        place = ROOT / each
        place.write_text(drawn_into(each, place.read_text()))
    for each, draw_picture in PICTURES.items():
        (ROOT / each).write_text(draw_picture())
