"""What the documents say is so."""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from xml.dom import minidom

import pytest
import yaml

from device_agent import cli
from device_agent.config.load import parse_config
from device_agent.config.model import Config
from device_agent.config.rules import contradictions
from device_agent.config.yaml_schema import NO_SECRETS
from device_agent.core.conversation import MOODS
from device_agent.core.errors import ConfigError
from device_agent.hardware.light_patterns import PATTERNS
from device_agent.integrations.home_assistant import HomeAssistant
from device_agent.net.http_errors import rejection
from device_agent.services.registry import SERVICES
from device_agent.services.response_timeout import ResponseTimedOut, ResponseTimeout
from device_agent.simulator import FAULTS, VARIANTS
from device_agent.telemetry.statistics import Statistics
from tests.docs.documents import (
    ROOT,
    anchors,
    blocks,
    commands,
    documents,
    links,
    prose,
    spans,
    text_of,
    written_by_hand,
)
from tests.docs.make_docs import COMMAND, DRAWN, drawn_into
from tests.docs.pictures import FOLDER, PICTURES, shown
from tests.support.layers import MAY_IMPORT, PACKAGE

every_document = pytest.mark.parametrize("document", documents())
LANGUAGES = {"sh", "yaml", "python", "json", "text", "mermaid"}
ELSEWHERE = {
    *("apt", "git", "cd", "install", "nano", "echo", "ls", "rm", "kill", "curl", "ssh", "timedatectl"),
    *("/usr/local/bin/dice", "/usr/local/bin/lamp"),
    *("python3", "litellm/bin/pip", "litellm/bin/litellm"),
    *("systemctl", "journalctl", "alsamixer", "alsactl", "mosquitto_pub", "mosquitto_sub"),
}
"""Programs of the system, and those of examples: they need root, hardware or a network."""
UNWANTED = re.compile(
    r"\b(nobody|somebody|whoever|saved is done|(for|to|of|by|with) who|is no such end|thin links?|anew)\b",
    re.IGNORECASE,
)
"""Words that the documents do not use: a part of the program is called by its name."""
OTHER_YAML = {"proxy", "inventory"}
"""YAML that is no configuration of the speaker."""
SUFFIXES = {"json", "md", "py", "service", "yaml"}
"""A span such as `metrics.py` is a file and no key."""


@pytest.mark.parametrize("document", DRAWN)
def test_what_is_shown_of_the_code_is_up_to_date(document):
    assert drawn_into(document, text_of(document)) == text_of(document), f"run: {COMMAND}"


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_shows_what_the_program_shows(picture):
    assert shown((ROOT / picture).read_text()) == shown(PICTURES[picture]()), f"run: {COMMAND}"


def test_the_recorded_status_has_what_a_status_has():
    recorded = json.loads((FOLDER / "status.json").read_text())
    snapshot = Statistics(Path("config.yaml"), 0.0, began=0.0).snapshot(time.monotonic())
    assert set(recorded) == set(snapshot)
    assert set(recorded["counts"]) == set(snapshot["counts"])


@pytest.mark.slow
def test_the_recorded_demo_is_what_the_demo_prints(tmp_path, capsys):
    assert cli.main(["demo", "--save", str(tmp_path / "demo-reply.wav")]) == 0
    printed = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    assert without_figures(printed) == without_figures((FOLDER / "demo.txt").read_text())


def without_figures(text: str) -> list[str]:
    return [" ".join(re.sub(r"-?\d+(\.\d+)?", "0", line).split()) for line in text.splitlines()]


@every_document
def test_every_link_leads_somewhere(document):
    for link in links(document):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


@every_document
def test_no_line_is_longer_than_a_screen(document):
    """Rows of a table, and addresses, cannot be broken."""
    lines = [line for line in text_of(document).splitlines() if not line.startswith("|") and "://" not in line]
    assert [line for line in lines if len(line) > 120] == []


@every_document
def test_the_words_are_plain(document):
    text = " ".join(written_by_hand(document).split())
    assert [text[max(0, found.start() - 30) : found.end() + 30] for found in UNWANTED.finditer(text)] == []


def test_the_comments_of_the_configuration_are_plain():
    assert UNWANTED.findall((ROOT / "config.yaml").read_text()) == []


def test_the_readme_stays_short():
    assert len(text_of("README.md").splitlines()) <= 140  # with a table that is written by make docs


@every_document
def test_every_block_says_what_it_is(document):
    assert prose(document).count("```") == 0
    assert {block.language for block in blocks(document)} <= LANGUAGES


@every_document
def test_every_key_that_is_mentioned_is_one(document):
    sections = {each.name: getattr(Config(), each.name) for each in fields(Config)}
    for span in spans(document):
        for section, key in re.findall(r"(?<![\w./])([a-z]+)\.([a-z_]+)\b", span):
            if is_dataclass(sections.get(section)) and key not in SUFFIXES:
                assert key in {each.name for each in fields(sections[section])}, span


@every_document
def test_every_piece_of_configuration_is_one(document, monkeypatch):
    monkeypatch.setattr("device_agent.config.rules.shutil.which", lambda program: program)  # an example's own
    for block in blocks(document):
        if block.language == "yaml" and block.about not in OTHER_YAML:
            loaded = parse_config(block.text, Path("config.yaml"))
            assert loaded.places, block.text
            assert not list(contradictions(loaded.config))
        elif block.language == "json":
            json.loads(block.text)
        elif block.about == "proxy":
            assert all(each["model_info"] == {"mode": "realtime"} for each in yaml.safe_load(block.text)["model_list"])


# Commands -------------------------------------------------------------------------------------------------------------


@every_document
def test_every_command_is_one(document, capsys):
    for words in commands(document):
        program, *arguments = words
        if program.endswith("device-agent"):
            assert cli._parser().parse_args(arguments).command, words
        elif program == "make":
            made = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
            assert made.returncode == 0, f"{words}: {made.stderr}"
        elif program.startswith(".venv/bin/"):
            check_script(arguments)
        else:
            assert program in ELSEWHERE, words
            check_the_unit(words)


def check_script(arguments: list[str]) -> None:
    """pytest and python run files of the project, with options that those have."""
    module = arguments[1].replace(".", "/") + ".py" if arguments[0] == "-m" else ""
    (script,) = (each for each in (*arguments, module) if each.endswith(".py"))
    source = (ROOT / script).read_text()
    assert all(each in source for each in arguments if each.startswith("--"))


def check_the_unit(words: list[str]) -> None:
    if words[0] in {"systemctl", "journalctl"} and "device-agent" in words:
        assert (ROOT / "systemd/device-agent.service").exists()


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (each for each in cli._parser()._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


@every_document
def test_every_command_in_the_text_is_one(document):
    parsers = subcommands()
    makefile = (ROOT / "Makefile").read_text()
    for span in spans(document):
        program, *words = span.removeprefix("sudo ").split()
        if program == "device-agent" and words:
            name = next((word for word in words if not word.startswith("-")), "")
            assert not name or name in parsers, span
            known = parsers[name].format_help() if name else cli._parser().format_help()
            assert all(word.strip("[],") in known for word in words if word.startswith("--")), span
        elif program == "make" and words:
            assert re.search(rf"^{re.escape(words[0])}:", makefile, re.MULTILINE), span


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (["config", "--config", str(ROOT / "config.yaml")], {0}),
        (["config", "--json", "--config", str(ROOT / "config.yaml")], {0}),
        (["check", "--offline", "--quiet", "--config", str(ROOT / "config.yaml")], {0, 1}),
        (["devices"], {0, 1}),
        (["status"], {0, 1}),
        (["simulate", "--fault", "list"], {0}),
        (["simulate", "--manner", "list"], {0}),
    ],
)
def test_a_command_that_needs_nothing_does_what_it_says(line, statuses, capsys):
    assert cli.main(line) in statuses
    told = capsys.readouterr()
    assert told.out or told.err


def test_every_command_fault_and_manner_is_documented():
    everything = " ".join(map(text_of, documents()))
    assert [name for name in subcommands() if not re.search(rf"device-agent {name}\b", everything)] == []
    assert [name for name in {**FAULTS, **VARIANTS} if f"`{name}`" not in everything] == []


def test_the_tests_of_the_inner_loop_are_there():
    makefile = (ROOT / "Makefile").read_text()
    (names,) = re.findall(r"^QUICK := (.*)$", makefile, re.MULTILINE)
    for name in names.split():
        assert list((ROOT / "tests" / name).glob("test_*.py")), name


# Messages -------------------------------------------------------------------------------------------------------------


def messages() -> list[str]:
    """Return what troubleshooting.md quotes: code that is neither a command, nor a key, nor a name."""
    told = spans("docs/troubleshooting.md")
    no_message = r"(sudo|device-agent|journalctl|systemctl|make) .*|[a-z_]+\.[a-z_]+(: .*)?|\S+"
    return sorted({span for span in told if not re.fullmatch(no_message, span)})


def literals() -> Iterator[str]:
    """Yield every text in the program; what is put into it when it runs is a …"""
    for path in sorted((ROOT / "device_agent").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                pieces = [each.value if isinstance(each, ast.Constant) else "…" for each in node.values]
                yield "".join(map(str, pieces))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.\d]*[dfgs]", "…", node.value)


def produced() -> Iterator[str]:
    """Yield sentences that are put together from more than one place."""
    for wrong in ("talk: {vad: 9}", "service: {nmae: xai}", "tools: [{name: a, description: b, command: [/no/such]}]"):
        yield complaint(wrong)
    yield complaint("service: {voice: xai-0123456789abcdef0123}")
    yield complaint("button: {pin: 4}\nlight: {pin: 4}")
    yield complaint("talk: [")
    for status in (401, 403, 404, 429, 503):
        yield str(rejection("xai at api.x.ai", status, {}, b'{"error": "why"}'))
    timeout = ResponseTimeout("the service")
    timeout.ask()
    timeout.check(0.0)
    with pytest.raises(ResponseTimedOut) as unanswered:
        timeout.check(99.0)
    yield str(unanswered.value)


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as wrong:
        parse_config(text, Path("config.yaml"))
    return str(wrong.value)


TEXTS = tuple(literals())
SENTENCES = tuple(produced())


@pytest.mark.parametrize("message", messages())
def test_every_message_is_one_that_the_program_writes(message):
    pieces = [piece.strip() for piece in message.split("…") if piece.strip(" :;,.")]
    pattern = ".*".join(map(re.escape, pieces))
    whole = any(re.search(pattern, text, re.DOTALL) for text in (*TEXTS, *SENTENCES))
    parts = [part for part in re.split(r"…|[:;] ", message) if part.strip(" :;,.")]
    in_parts = all(any(part.strip() in text for text in TEXTS) for part in parts)
    assert whole or in_parts


def test_what_is_never_in_the_configuration_is_said_in_the_words_of_the_program():
    assert NO_SECRETS.partition(":")[0] in text_of("docs/troubleshooting.md")


# Costs ----------------------------------------------------------------------------------------------------------------


def test_the_arithmetic_of_the_costs_is_right():
    told = [row for row in rows("docs/costs.md", "service | settings | arithmetic") if row[2]]
    assert len(told) > 5
    for service, settings, arithmetic, result in told:
        assert re.fullmatch(r"`[\d .*/+()]+`", arithmetic), service
        assert f"{eval(arithmetic.strip('`')):.2f}" == result, settings  # noqa: S307  digits and signs alone


# Facts ----------------------------------------------------------------------------------------------------------------


def rows(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first line begins with *heading*."""
    _, _, rest = text_of(document).partition(f"| {heading} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_room_is_on_the_map():
    files = (path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    there = {str(path.relative_to(ROOT)) for path in files} | {f"device_agent/{name}" for name in MAY_IMPORT}
    assert there - set(links("CONTRIBUTING.md")) == set()


def test_every_mood_of_the_light_is_explained():
    told = {row[0] for row in rows("docs/wiring.md", "mood")}
    assert told == set(PATTERNS) == set(MOODS.values())


def test_every_service_is_explained():
    assert {row[0].strip("`") for row in rows("docs/services.md", "`service.name`")} == set(SERVICES)


def test_the_picture_shows_the_pins_of_the_shipped_configuration():
    picture = minidom.parse(str(ROOT / "docs/wiring.svg"))  # noqa: S318  our own
    words = " ".join(each.firstChild.data for each in picture.getElementsByTagName("text"))
    assert f"button: {{pin: {Config().button.pin}}}" in words
    assert f"light: {{pin: {Config().light.pin}}}" in words


def test_the_topics_of_a_home_are_those_of_the_table():
    told = [row[0].strip("`") for row in rows("docs/home.md", "topic")]
    home = HomeAssistant("Kitchen", machine="…")
    assert sorted(told) == sorted([home.state, home.available, home.discovery, *home.commands])
    state = json.loads(home.state_message(Statistics(Path("config.yaml"), 0.0, began=0.0).snapshot(time.monotonic())))
    (about,) = (row[2] for row in rows("docs/home.md", "topic") if "/state" in row[0])
    assert set(re.findall(r"`(\w+)`", about)) == set(state)


def test_the_figures_for_prometheus_are_those_of_the_table():
    metrics = pytest.importorskip("device_agent.integrations.prometheus", exc_type=ConfigError)
    snapshot = Statistics(Path("config.yaml"), 0.0, began=0.0).snapshot(time.monotonic())
    families = list(metrics.families(snapshot))
    known = {f"{each.name}_total" if each.type == "counter" else each.name for each in families}
    told = [name for row in rows("docs/home.md", "figure") for name in re.findall(r"`(\w+)`", row[0])]
    assert told
    assert [name for name in told if name not in known] == []
