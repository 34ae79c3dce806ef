"""What config.yaml says, and since when: its edits, noticed; its mistakes, told once; and the last good one, kept.

A save is noticed by looking at the file once a second: that needs no library and no thread, works on every file system
and whatever way an editor saves, and costs microseconds. A change is believed when it was the same for two looks, so
that a file which is being written is not read half.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from .assembly import key_of
from .config import Config, ServiceConfig, read, understand
from .errors import AgentError, ConfigError
from .files import read_whole, replace_whole
from .schema import LARGEST, Places

log = logging.getLogger(__name__)

KEPT = "last-good.yaml"
"""The name of the copy in the state directory."""

Stamp = tuple[int, ...] | None
"""What shows that a file is another one than before; None where there is none."""


@dataclass(frozen=True)
class Reading:
    """What a file said once, and all of it was right."""

    config: Config
    text: str = field(repr=False)
    places: Places = field(repr=False)


class Edits:
    """The configuration in use, and what has become of its file. Belongs to the main thread; ``ask`` to any.

    *kept* is where the last good one is kept.
    """

    def __init__(self, path: Path, kept: Path) -> None:
        self.path = path
        self.changed: Callable[[], None] = lambda: None
        """Is called after what is in use, or what is wrong with the file, has changed."""
        self.mistakes: list[str] = []
        """Why what the file says is not in use, a line for each; empty when it is."""
        self._kept = kept
        self._reading: Reading | None = None  # in use
        self._before: Reading | None = None  # what was in use before, until this one has proved itself
        self._old = False  # what is in use is the copy
        self._written = False  # the copy is what is in use
        self._files: tuple[Path, ...] = (path,)
        self._seen = self._believed = self._stamps()
        self._asked = False

    @property
    def config(self) -> Config:
        """The configuration in use. Only after ``begin``."""
        return self.reading.config

    @property
    def reading(self) -> Reading:
        """The same, and where it says so."""
        assert self._reading is not None, "nothing was read yet"  # noqa: S101
        return self._reading

    @property
    def state(self) -> str:
        """The state of the configuration in use, in words for people."""
        return "in use" if not self.mistakes else "last good" if self._old else "wrong edit"

    def on_trial(self, key: str) -> bool:
        """Whether it has to show itself yet that what is in use can be used, and *key* was changed for it."""
        return self._before is not None and key in differences(self._before.config, self.config)

    def ask(self) -> None:
        """Read the file with the next look, changed or not. For a signal handler."""
        self._asked = True

    def begin(self) -> None:
        """Read the file, or in place of a wrong one the last good one. Raises ConfigError where there is none."""
        try:
            self._reading = self._read()
        except ConfigError as error:
            self.go_back(error)
        else:
            self.changed()

    def look(self) -> Reading | ConfigError | None:
        """Return what the file says now, if it was changed since the last time, right or wrong; else None."""
        stamps = self._stamps()
        settled, self._seen = stamps == self._seen, stamps
        if not self._asked and not (settled and stamps != self._believed):
            return None
        self._asked = False
        self._believed = stamps
        try:
            return self._read()
        except ConfigError as error:
            return error

    def take(self, reading: Reading, *, tried: bool = True) -> None:
        """*reading* is in use from now on. One that was not *tried* yet may be gone back from."""
        names = ", ".join(differences(self.config, reading.config)) or "nothing that matters was changed"
        log.info("%s: %s: %s", self.path, "taken" if tried else "trying", names)
        self._before = None if tried else self._reading
        self._reading, self.mistakes = reading, []
        self._old = self._written = False
        self.changed()

    def refuse(self, error: AgentError) -> None:
        """What the file says cannot be used, and *error* is why: say so, unless that was said."""
        mistakes = str(error).splitlines()
        if mistakes != self.mistakes:
            for line in mistakes:
                log.error("%s", line)
            log.error("%s: the settings from before stay in use", self.path)
        self.mistakes = mistakes
        self.changed()

    def go_back(self, error: AgentError, key: str = "") -> None:
        """What is in use cannot be used, and *error* is why: use what was before it, else the last good one.

        *error* is about *key* or names it. It is raised where there is nothing to go back to.
        """
        before, self._before = self._before, None
        if before is None:
            before = self._last_good(error)
            self._old = True
        mistake = error if self._reading is None else located(error, self.path, self._reading, key)
        self._reading = before
        self.refuse(mistake)

    def keep(self) -> None:
        """The device runs well with what is in use: keep a copy for a day when the file is wrong.

        Waits for the disk, once for each configuration.
        """
        if self._before is not None:
            self._before = None
            log.info("%s: taken", self.path)
        if self._written:
            return
        self._written = True  # a disk that takes nothing is not tried again every second
        document = f"{_head(self.path)}{self.reading.text}".encode()
        try:
            if _content(self._kept) != document:
                replace_whole(self._kept, document)
        except OSError as error:
            log.warning("%s cannot be written: %s; it is for a start with mistakes", self._kept, error.strerror)

    def _read(self) -> Reading:
        """Return what the file says. Raises ConfigError."""
        text = read(self.path)
        config, places = understand(text, self.path)
        files = (self.path, *_files(config))
        if files != self._files:
            self._files = files
            self._seen = self._believed = (self._believed[0], *self._stamps()[1:])
        find_keys(config, self.path, places)
        return Reading(config, text, places)

    def _last_good(self, error: AgentError) -> Reading:
        """Return the kept copy of this very file. Raises *error* where there is none, or none that can be used."""
        head, text = _head(self.path), (_content(self._kept) or b"").decode(errors="replace")
        if not isinstance(error, ConfigError) or not text.startswith(head):
            raise error
        text = text.removeprefix(head)
        if self._reading is not None and text == self._reading.text:
            raise error  # it is the one that cannot be used
        try:
            config, places = understand(text, self._kept)
            find_keys(config, self._kept, places)
        except ConfigError:
            raise error from None
        log.warning("%s has mistakes: starting with the last good one, kept in %s", self.path, self._kept)
        return Reading(config, text, places)

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._files))


def find_keys(config: Config, path: Path, places: Places) -> None:
    """Look whether there is a key for each service. Raises ConfigError with the places of all that have none."""
    mistakes = []
    for section, service in services_of(config):
        try:
            key_of(service, config.service)
        except ConfigError as error:
            place = place_of(places, f"{section}.api_key_file", f"{section}.name", section, "service")
            mistakes.append(f"{path}:{place} {error}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def services_of(config: Config) -> Iterator[tuple[str, ServiceConfig]]:
    """Yield the services, first choice first, with what they are called in the file."""
    yield "service", config.service
    for index, service in enumerate(config.fallback):
        yield f"fallback[{index}]", service


def located(error: AgentError, path: Path, reading: Reading, key: str = "") -> ConfigError:
    """Return *error* with its place in the file: it is about *key*, or names a key, or the file that stands there."""
    text, places = str(error), reading.places
    named = [each for each in places if re.search(rf"(?<![\w.]){re.escape(each)}(?![\w.])", text)]
    files = [each for each, value in leaves(reading.config) if each.endswith("_file") and value and value in text]
    return ConfigError(f"{path}:{place_of(places, key, *sorted(named, key=len, reverse=True), *files)} {error}")


def place_of(places: Places, *keys: str) -> str:
    """Return line and column of the first of *keys* that stands in the file, as it stands before a mistake."""
    found = next((places[key] for key in keys if key in places), None)
    return f"{found[0]}:{found[1]}:" if found else ""


def leaves(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a configuration and its value; a list of plain values is one value, as is an empty one."""
    if is_dataclass(section):
        for each in fields(section):
            yield from leaves(getattr(section, each.name), f"{path}.{each.name}".strip("."))
    elif isinstance(section, tuple) and section and is_dataclass(section[0]):
        for index, item in enumerate(section):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, section


def differences(one: Config, other: Config) -> list[str]:
    """Return the keys in which two configurations differ."""
    before, after = dict(leaves(one)), dict(leaves(other))
    nothing = object()
    keys = dict.fromkeys((*before, *after))
    return [key for key in keys if before.get(key, nothing) != after.get(key, nothing)]


def _files(config: Config) -> list[Path]:
    """Return the files that the configuration names and that are a part of it: keys, and who is believed."""
    return [Path(value).expanduser() for key, value in leaves(config) if key.endswith("_file") and value]


def _stamp(path: Path) -> Stamp:
    """Follows links: where they lead may change as well."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _head(path: Path) -> str:
    """Return the first line of a copy, so that it is only taken for what it is a copy of."""
    return f"# {path.absolute()}, as it was when it was right last. To edit it changes nothing.\n"


def _content(path: Path) -> bytes | None:
    try:
        return read_whole(path, 2 * LARGEST)
    except (OSError, ValueError):
        return None
