"""The owner of a device: edits its config.yaml, rightly and wrongly, and saves it in every way an editor does."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agent.app.daemon import Daemon
from device_agent.config.load import load
from device_agent.config.yaml_schema import to_yaml
from device_agent.core.errors import ConfigError
from tests.bench.house import TICK_S, settled, until

VOICES = {"xai": [None, "ara", "rex"], "xai-live": [None, "alloy"], "openai": [None, "marin", "alloy"]}


@dataclass
class Owner:
    """The owner: knows what the file says, and what would be wrong."""

    chance: random.Random
    path: Path
    urls: dict[str, str]
    choices: dict[str, list[Any]]
    values: dict[str, Any] = field(default_factory=dict)
    """What the file says: key -> value."""
    edited: Counter[str] = field(default_factory=Counter)

    def text(self, values: dict[str, Any] | None = None, more: str = "") -> str:
        """Return the file, a line for each key."""
        sections: dict[str, list[str]] = {}
        for key, value in (self.values if values is None else values).items():
            section, _, name = key.rpartition(".")
            sections.setdefault(section, []).append(f"{'  ' if section else ''}{name}: {to_yaml(value)}".rstrip())
        plain = sections.pop("", [])
        lines = [line for name, each in sections.items() for line in (f"{name}:", *each)]
        return "\n".join([*lines, *plain]) + "\n" + more

    def line_of(self, text: str, key: str) -> int:
        """Return in which line of *text* a key stands."""
        section, _, name = key.rpartition(".")
        inside = not section
        for number, line in enumerate(text.splitlines(), 1):
            if not line.startswith(" ") and section:
                inside = line == f"{section}:"
            elif inside and line.strip().startswith(f"{name}:"):
                return number
        raise KeyError(key)

    def right(self) -> str:
        """Make an edit that is right; return the new text."""
        while True:
            key = self.chance.choice(list(self.choices))
            values = {**self.values, key: self.chance.choice(self.choices[key])}
            if key == "service.name":
                values |= {"service.url": self.urls[values[key]], "service.voice": None}
            if key == "service.voice":
                values[key] = self.chance.choice(VOICES[values["service.name"]])  # another one would be refused
            text = self.text(values)
            if values == self.values or not self._holds(text):
                continue
            self.values = values
            self.edited[key] += 1
            return text

    def one(self, key: str, value: Any) -> str:
        """Let *key* say *value*; return the new text."""
        self.values = {**self.values, key: value}
        self.edited[key] += 1
        return self.text()

    def _holds(self, text: str) -> bool:
        trial = self.path.with_name("trial.yaml")
        trial.write_text(text)
        try:
            load(trial)
        except ConfigError:
            return False
        return True

    def wrong(self, kind: str = "") -> tuple[str, str, int]:
        """Return the *kind* of a mistake, any where none is wanted, the text with it, and in which line it is."""
        kind = kind or self.chance.choice(list(WRONG))
        text, line = WRONG[kind](self)
        self.edited[f"wrong: {kind}"] += 1
        return kind, text, line

    def save(self, text: str) -> None:
        """Save *text* in one way or another; now and then by hand, with a word to the daemon."""
        self.chance.choice(SAVES)(self.path, text)
        if self.chance.random() < 0.2:
            os.kill(os.getpid(), signal.SIGHUP)

    def expect_taken(self, daemon: Daemon, name: str) -> None:
        """Wait until *daemon* runs by what the file says. Raises Lost."""
        trial = self.path.with_name("trial.yaml")
        trial.write_text(self.text())
        wanted, edits = load(trial), daemon._watcher
        until(
            lambda: edits.config == wanted and not edits.mistakes and settled(daemon),
            lambda: f"{name} was ignored; mistakes: {edits.mistakes}",
        )

    def expect_refused(self, daemon: Daemon, line: int) -> None:
        """Wait until *daemon* names a mistake in this *line*, and says what it runs by. Raises Lost."""
        place, edits = f"{self.path}:{line}:" if line else f"{self.path}: ", daemon._watcher
        until(
            lambda: any(mistake.startswith(place) for mistake in edits.mistakes) and settled(daemon),
            lambda: f"line {line} was not named: {edits.mistakes}",
        )
        until(
            lambda: "with the previous settings" in daemon._agent._actuator.complaint,
            lambda: "the status does not tell",
        )

    def with_value(self, key: str, value: Any) -> tuple[str, int]:
        text = self.text({**self.values, key: value})
        return text, self.line_of(text, key)

    def with_line(self, line: str, after: str) -> tuple[str, int]:
        lines = self.text().splitlines()
        at = lines.index(after) + 1
        return "\n".join([*lines[:at], line, *lines[at:]]) + "\n", at + 1


def _half(owner: Owner) -> tuple[str, int]:
    """The editor, or the power, gave up in the middle of a list: the end of the file is where that shows."""
    text = owner.text(more="abilities: [volume, mute")
    return text, len(text.splitlines())


def _bomb(owner: Owner) -> tuple[str, int]:
    """Each list holds the one before nine times: 60 million values in ten lines."""
    names = "abcdefgh"
    lines = [f"      {names[0]}: &{names[0]} [{', '.join('0' * 9)}]"]
    lines += [f"      {n}: &{n} [{', '.join(9 * [f'*{before}'])}]" for before, n in itertools.pairwise(names)]
    more = 'tools:\n  - name: lamp\n    description: A lamp.\n    command: ["true"]\n    parameters:\n'
    text = owner.text(_without_tools(owner), more + "\n".join(lines) + "\n")
    return text, len(text.splitlines()) - len(lines) + 1


def _without_tools(owner: Owner) -> dict[str, Any]:
    return {key: value for key, value in owner.values.items() if key != "tools"}


def _no_certificate(owner: Owner) -> tuple[str, int]:
    owner.path.with_name("no.pem").write_text("garbage")
    return owner.with_value("service.ca_file", str(owner.path.with_name("no.pem")))


WRONG: dict[str, Callable[[Owner], tuple[str, int]]] = {
    "unknown key": lambda owner: owner.with_line("  silenc_ms: 300", "talk:"),
    "unknown section": lambda owner: (owner.text(more="speakr: {volume: 3}\n"), len(owner.text().splitlines()) + 1),
    "wrong type": lambda owner: owner.with_value("talk.vad", "much"),
    "out of range": lambda owner: owner.with_value("speaker.volume", 101),
    "broken YAML": lambda owner: owner.with_line("   idle_s: [3, }", "connection:"),
    "twice": lambda owner: owner.with_line(f"  vad: {owner.values['talk.vad']}", "talk:")[:1] + _second(owner),
    "contradiction": lambda owner: (
        owner.with_value("controls.volume_up", owner.values["button.pin"])[:1] + _pins(owner)
    ),
    "half a file": _half,
    "an empty file": lambda _owner: ("", 0),
    "not UTF-8": lambda owner: owner.with_line("  # \udcff", "talk:"),
    "a tab": lambda owner: owner.with_line("\tvad: 1", "talk:"),
    "a YAML bomb": _bomb,
    "no such key file": lambda owner: owner.with_value("service.api_key_file", "/nowhere/key"),
    "a user that is not there": lambda owner: owner.with_value("service.api_key_file", "~nosuchuser/key"),
    "a disk that fails": lambda owner: owner.with_value("service.api_key_file", "/proc/self/mem"),
    "no such CA": lambda owner: owner.with_value("service.ca_file", "/nowhere/ca.pem"),
    "a CA that cannot be read": lambda owner: owner.with_value("service.ca_file", "/proc/self/mem"),
    "a CA that is none": _no_certificate,
    "key for all to read": lambda owner: owner.with_value(
        "service.api_key_file", str(owner.path.with_name("readable.key"))
    ),
    "no such program": lambda owner: _tool(owner),
    "no such microphone": lambda owner: owner.with_value("microphone.device", "gone"),
    "the pin of nobody": lambda owner: owner.with_value("button.pin", 44),
}
"""Mistakes, and how they are made: the text, and the line in which they are; 0 where it is about the whole file."""


def _second(owner: Owner) -> tuple[int]:
    text, at = owner.with_line(f"  vad: {owner.values['talk.vad']}", "talk:")
    return (next(n for n, line in enumerate(text.splitlines(), 1) if n > at and line.strip().startswith("vad:")),)


def _pins(owner: Owner) -> tuple[int]:
    text = owner.text({**owner.values, "controls.volume_up": owner.values["button.pin"]})
    return (owner.line_of(text, "controls.volume_up"),)


def _tool(owner: Owner) -> tuple[str, int]:
    more = "tools:\n  - name: lamp\n    description: A lamp.\n    command: [/nowhere/lamp]\n"
    text = owner.text(_without_tools(owner), more)
    return text, len(text.splitlines())


def saved_in_place(path: Path, text: str) -> None:
    path.write_bytes(written_as(text))


def saved_by_rename(path: Path, text: str) -> None:
    new = path.with_name("config.yaml~")
    new.write_bytes(written_as(text))
    new.replace(path)


def saved_in_two_halves(path: Path, text: str) -> None:
    """The second half comes before the device can accept the first alone."""
    path.write_bytes(written_as(text[: len(text) // 2]))
    time.sleep(TICK_S / 4)
    path.write_bytes(written_as(text))


def saved_by_a_new_link(path: Path, text: str) -> None:
    old = path.readlink() if path.is_symlink() else None
    version = path.with_name(f"version-{time.monotonic_ns()}.yaml")
    version.write_bytes(written_as(text))
    link = path.with_name("next")
    link.symlink_to(version)
    link.replace(path)
    if old is not None:
        old.unlink()


def written_as(text: str) -> bytes:
    """Return *text* as it stands in a file; a lone surrogate is a byte that is not UTF-8."""
    return text.encode(errors="surrogateescape")


SAVES = (saved_in_place, saved_by_rename, saved_in_two_halves, saved_by_a_new_link)
