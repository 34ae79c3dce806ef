"""What config.yaml says, and since when: its edits, noticed; its mistakes, told once; and the last good one, kept.

A save is noticed by looking at the file once a second: that needs no library and no thread, works on every file system
and whatever way an editor saves, and costs microseconds. A change is believed when it was the same for two looks, so
that a file which is being written is not read half.

No configuration ends the speaker. What is new is on trial until it has worked for PROVEN_S: what fails before is gone
back from, while the process runs and at its next start. Only what was proven becomes the copy that a start falls back
on.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..core.errors import AgentError, ConfigError
from ..runtime.atomic_file import read_whole, replace_whole
from ..runtime.paths import expand_user
from .credentials import MQTT_PASSWORD, find_password, key_of, token_key_of
from .diff import differences, leaves, located, place_of
from .load import LoadedConfig, parse_config, read
from .model import Config, services_of
from .rules import absences, missing_extras
from .trial import MAX_CRASHES, Trial
from .yaml_schema import MAX_FILE_BYTES

log = logging.getLogger(__name__)

LAST_GOOD_NAME, TRIAL_NAME = "last-good.yaml", "on-trial"
"""The names of the copy, and of the note that something else is on trial, in the state directory."""
PROVEN_S = 60.0
"""A configuration that has worked for so long is good."""
PARTIAL_FILE_TIMEOUT_S = 10.0
"""How long a file that looks as if it were being written may stay so."""
RECHECK_S = 10.0
"""What a configuration names and the machine does not have is looked for again after so long."""

Stamp = tuple[int, ...] | None
"""What shows that a file is another one than before; None where there is none."""


class MissingResource(ConfigError):
    """The configuration is right, and this machine does not have what it names: a key, a CA, a program."""


class InternalError(ConfigError):
    """A mistake of this program, not of the file; but without what the file says the speaker works."""


class ConfigWatcher:
    """The configuration in use, and what has become of its file. Belongs to the main thread; ``ask`` to any.

    *kept* is where the last good one is kept. ``now`` is in seconds of one clock.
    """

    def __init__(self, path: Path, kept: Path) -> None:
        self.path = path
        self.changed: Callable[[], None] = lambda: None
        """Is called after what is in use, or what is wrong with the file, has changed."""
        self.mistakes: list[str] = []
        """Why what the file says is not in use, a line for each; empty when it is."""
        self._kept, self._trial = kept, Trial(kept.with_name(TRIAL_NAME))
        self._reading: LoadedConfig | None = None  # in use
        self._before: LoadedConfig | None = None  # what to go back to, while what is in use is on trial
        self._copy: LoadedConfig | None = None  # that a start would fall back on
        self._old: LoadedConfig | None = None  # the copy that was there when we began
        self._well_since: float | None = None
        self._trying = False  # nothing has worked yet with what is in use
        self._files: tuple[Path, ...] = (path,)
        self._seen = self._believed = self._stamps()
        self._doubted: float | None = None  # since when
        self._again: float | None = None  # when to read the file although it has not changed
        self._asked = False

    @property
    def config(self) -> Config:
        """The configuration in use. Only after ``begin``."""
        return self.reading.config

    @property
    def reading(self) -> LoadedConfig:
        """The same, and where it says so."""
        assert self._reading is not None, "nothing was read yet"  # noqa: S101
        return self._reading

    @property
    def state(self) -> str:
        """The state of the configuration in use, in words for people."""
        if not self.mistakes:
            return "in use"
        return "last good" if self._reading is self._old else "wrong edit"

    def on_trial(self, key: str = "") -> bool:
        """Whether what is in use has yet to show that it works, and *key* was changed for it; "": any key."""
        if self._before is None:
            return False
        changed = differences(self._before.config, self.config)
        return key in changed if key else bool(changed)

    def ask(self) -> None:
        """Read the file with the next look, changed or not. For a signal handler."""
        self._asked = True

    def begin(self) -> None:
        """Read the file, or in place of a wrong one the last good one. Raises ConfigError where there is none.

        What is not what the copy says is on trial, as an edit would be.
        """
        self._copy = self._old = old = self._read_copy()
        try:
            reading = self._understood(read(self.path))
        except ConfigError as error:
            if old is None:
                raise
            self._begin_with(old)
            self._again = 0.0 if isinstance(error, MissingResource) else None
            self.refuse(error)
            return
        if old is not None and (_is_cut(reading.text, old) or _is_lost(reading, old)):
            self._begin_with(old)
            self._believed = ()  # the file is an edit, yet to be judged
        else:
            self._reading = reading
            if old is not None and (names := differences(old.config, reading.config)):
                self._begin_trial(old, names)
        self.changed()

    def _begin_trial(self, old: LoadedConfig, names: list[str]) -> None:
        """What is in use is another one than what is known to work."""
        if self._trial.begin(self.reading.text) >= MAX_CRASHES:
            self._reading = old
            self.refuse(
                ConfigError(
                    f"{self.path}: crashed or hung the program {MAX_CRASHES} times. To try it again, save it again"
                )
            )
        else:
            log.info("%s: trying: %s", self.path, ", ".join(names))
            self._before, self._trying = old, True

    def _begin_with(self, old: LoadedConfig) -> None:
        log.warning("%s: starting with the last good configuration, kept in %s", self.path, self._kept)
        self._reading = old

    def look(self, now: float) -> LoadedConfig | ConfigError | None:
        """Return what the file says now, if it was changed since the last time, right or wrong; else None."""
        stamps = self._stamps()
        settled, self._seen = stamps == self._seen, stamps
        again = settled and self._again is not None and now >= self._again
        if not (self._asked or again or (settled and stamps != self._believed)):
            return None
        asked, self._asked, self._again = self._asked, False, None
        if not (asked or again):
            self._doubted = None
        self._believed = stamps
        try:
            return self._judge(now, asked=asked)
        except ConfigError as error:
            if isinstance(error, MissingResource):
                self._again = now + RECHECK_S
            told = again and str(error).splitlines() == self.mistakes
            return None if told else error

    def take(self, reading: LoadedConfig, *, tried: bool = True) -> None:
        """*reading* is in use from now on. One that was not *tried* yet may turn out to be of no use at once."""
        if self._before is None:
            self._before = self.reading
        names = ", ".join(differences(self.config, reading.config)) or "no setting was changed"
        log.info("%s: %s: %s", self.path, "in use now" if tried else "trying", names)
        if not differences(self._before.config, reading.config):
            self._before = None  # it is what has worked before
            self._trial.over()
        else:
            self._trial.begin(reading.text)
        self._reading, self.mistakes = reading, []
        self._trying, self._well_since = not tried, None
        self.changed()

    def refuse(self, error: AgentError) -> None:
        """What the file says cannot be used, and *error* is why: say so, unless that was said."""
        mistakes = str(error).splitlines()
        if mistakes != self.mistakes:
            for line in mistakes:
                log.error("%s", line)
            log.error("%s: the previous settings stay in use", self.path)
        self.mistakes = mistakes
        self.changed()

    def go_back(self, error: AgentError, key: str = "") -> None:
        """What is in use cannot be used, and *error* is why: use what has worked before.

        *error* is about *key* or names it. It is raised where there is nothing to go back to.
        """
        before, self._before = self._before, None
        if before is None:
            raise error
        mistake = located(error, self.path, self.reading, key)
        self._reading = before
        self._trying, self._well_since = False, None
        self.refuse(mistake)

    def keep(self, now: float, *, well: bool) -> None:
        """To be called about once a second when nobody speaks: *well* says that the device works.

        What has worked for PROVEN_S is no longer on trial, and is kept for a start with mistakes; the first that works
        at all is kept at once. Waits for the disk, once for each configuration.
        """
        if not well:
            self._well_since = None
            return
        if self._well_since is None:
            self._well_since = now
            if self._before is None:
                self.end()
        if self._trying:
            self._trying = False
            log.info("%s: in use now", self.path)
        if self._copy is self._reading or (self._copy and now - self._well_since < PROVEN_S):
            return
        self.end()
        self._before, self._copy = None, self.reading  # a disk that takes nothing is not tried again every second
        document = f"{_head(self.path)}{self.reading.text}".encode()
        try:
            if _content(self._kept) != document:
                replace_whole(self._kept, document)
        except OSError as error:
            log.warning(
                "%s cannot be written: %s; it is needed for a start with mistakes in the configuration",
                self._kept,
                error.strerror,
            )

    def end(self) -> None:
        """The process ends as it was asked to, or works with what was there before: nothing has ended it in a trial."""
        self._trial.over()

    # What the file says -----------------------------------------------------------------------------------------------

    def _judge(self, now: float, *, asked: bool) -> LoadedConfig | None:
        """Return what the file says; None where it may not be whole yet. Raises ConfigError."""
        text = read(self.path)
        if not asked and _is_cut(text, self.reading) and self._waits(now):
            return None
        reading = self._understood(text)
        if not _is_lost(reading, self.reading):
            return reading
        if not asked and self._waits(now):
            return None
        raise ConfigError(
            f"{self.path}: has lost its section service; is the file complete? For the defaults, write service: {{}}"
        )

    def _waits(self, now: float) -> bool:
        """Return whether to wait for the rest of the file, and do so."""
        if self._doubted is None:
            self._doubted = now
        if now - self._doubted >= PARTIAL_FILE_TIMEOUT_S:
            return False
        self._again = self._doubted + PARTIAL_FILE_TIMEOUT_S
        return True

    def _understood(self, text: str) -> LoadedConfig:
        """Return what *text* says, which stands in the file. Raises ConfigError."""
        with internal_errors_reported(self.path):
            try:
                config, places = parse_config(text, self.path, alone=True)
            except ConfigError:
                parse_config(text, self.path)  # what is missing besides is told at once
                raise
            self._watch(_files(config))
            reading = LoadedConfig(config, text, places)
            if missing := list(lacks(reading, self.path)):
                raise MissingResource("\n".join(missing))
            return reading

    def _watch(self, named: list[Path]) -> None:
        """Notice changes of the files that are *named*, too."""
        files = (self.path, *named)
        if files != self._files:
            self._files = files
            self._seen = self._believed = (*self._believed[:1], *self._stamps()[1:])

    def _read_copy(self) -> LoadedConfig | None:
        """Return the kept copy of this very file, whatever the machine lacks for it; None where there is none, or none
        that can be used."""
        head, text = _head(self.path), (_content(self._kept) or b"").decode(errors="replace")
        if not text.startswith(head):
            return None
        text = text.removeprefix(head)
        try:
            with internal_errors_reported(self._kept):
                config, places = parse_config(text, self._kept, alone=True)
        except ConfigError:
            return None
        return LoadedConfig(config, text, places)

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._files))


@contextmanager
def internal_errors_reported(path: Path) -> Iterator[None]:
    """An error that is not foreseen, in what is done with the file at *path*, becomes Unforeseen.

    The log shows where it is, and nothing of what it quotes, which may be a key.
    """
    try:
        yield
    except AgentError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s in %s, line %s", type(error).__name__, at.filename, at.lineno)
        text = f"cannot be used ({type(error).__name__}): that is a mistake in this program, please report it"
        raise InternalError(f"{path}: {text}") from error


def lacks(reading: LoadedConfig, path: Path) -> Iterator[str]:
    """Yield a sentence, with its place in *path*, for everything that is named and cannot be used: keys, authorities,
    programs, libraries."""
    config, places = reading.config, reading.places
    for (key, _), sentence in (*absences(config), *missing_extras(config)):
        yield f"{path}:{place_of(places, key)} {key} {sentence}"
    for keys, find in _secrets_of(config):
        try:
            find()
        except ConfigError as error:
            yield f"{path}:{place_of(places, *keys)} {error}"


def _secrets_of(config: Config) -> Iterator[tuple[tuple[str, ...], Callable[[], object]]]:
    """Yield where the file speaks of each secret, the best place first, and what finds it or raises ConfigError."""
    for section, service in services_of(config):
        where = f"{section}.name", section, "service"
        yield (f"{section}.api_key_file", *where), partial(key_of, service, config.service)
        yield (f"{section}.token_key_file", f"{section}.token_url", *where), partial(token_key_of, service)
    if config.mqtt.host:
        find = partial(find_password, config.mqtt.password_file, MQTT_PASSWORD)
        yield ("mqtt.password_file", "mqtt.host"), find


def _is_cut(text: str, before: LoadedConfig) -> bool:
    """Whether *text* may be the beginning of a file that is being written: of the one *before*, or of any that ended
    with its last line."""
    if text == before.text:
        return False
    return before.text.startswith(text) or (before.text.endswith("\n") and not text.endswith("\n"))


def _is_lost(reading: LoadedConfig, before: LoadedConfig) -> bool:
    """Whether it says nothing of the services any more, or nothing at all."""
    return ("service" in before.places and "service" not in reading.places) or (
        bool(before.places) and not reading.places
    )


def _files(config: Config) -> list[Path]:
    """Return the files that the configuration names and that are a part of it: keys, and who is believed."""
    named = []
    for key, value in leaves(config):
        if key.endswith("_file") and value:
            with suppress(ConfigError):  # who reads it will say so
                named.append(expand_user(value))
    return named


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
        return read_whole(path, 2 * MAX_FILE_BYTES)
    except (OSError, ValueError):
        return None
