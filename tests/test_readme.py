"""What README says is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from diagram import drawn_into

from device_agent.cli import main
from device_agent.config import Config

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_diagram_is_that_of_the_table():
    assert drawn_into(README) == README, "run: make diagram"


def test_every_key_stands_in_the_table_with_its_default():
    told = dict(re.findall(r"^\| `(\w+\.\w+)` \|(.*?)\|", README, re.MULTILINE))
    for section in fields(Config):
        values = getattr(Config(), section.name)
        if isinstance(values, tuple):  # a list: the text tells of it
            assert f"`{section.name}`" in README
            continue
        for key in fields(values):
            default = getattr(values, key.name)
            shown = told.pop(f"{section.name}.{key.name}").strip(" `")
            words = f"[{', '.join(default)}]" if isinstance(default, tuple) else str(default)
            assert shown.startswith(words[:20]) or (not default and not shown), key.name
    assert told == {}


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^\| `device-agent (\w+)", README, re.MULTILINE))))
def test_every_command_is_one(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    for option in re.findall(rf"device-agent {command}[^`]*?(--\w+)", README):
        assert option in capsys.readouterr().out or option == "--fault"


def test_every_target_is_one():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)`?", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE) or target in {"shows", "and"}, target
