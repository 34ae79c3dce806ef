"""Watching of config.yaml: its edits, its mistakes, and the last good version.

A save is noticed by ``stat`` once a second, which needs no library and no thread, and works on every file system with
every editor. It is read after two equal looks, so that no half-written file is.

No configuration ends the speaker. A new one is on trial until it has worked for PROVEN_S: if it fails before, the one
from before is used again, at once or at the next start. Only a proven one becomes the copy that a start falls back on.
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
from .load import LoadedConfig, parse_config
from .model import Config, services_of
from .rules import absences, missing_extras
from .trial import MAX_CRASHES, Trial
from .yaml_schema import MAX_FILE_BYTES, read_file

log = logging.getLogger(__name__)

LAST_GOOD_NAME, TRIAL_NAME = "last-good.yaml", "on-trial"
"""Names in the state directory: the copy of the last good configuration, and the note of a trial."""
PROVEN_S = 60.0
"""A configuration that has worked for so long is good."""
PARTIAL_FILE_TIMEOUT_S = 10.0
"""How long a file may look as if it were still being written."""
RECHECK_S = 10.0
"""How often the machine is checked again for what it lacks."""

Stamp = tuple[int, ...] | None
"""What differs when a file was changed; None where there is none."""


class MissingResource(ConfigError):
    """The configuration is right, but names a key, a CA, a program or a library that this machine lacks."""


class InternalError(ConfigError):
    """A mistake of this program, not of the file; but the speaker works without this configuration."""


class ConfigWatcher:
    """The configuration in use, and the state of its file. Belongs to the main thread; ``request_reload`` to any.

    *last_good_path* is where the last good configuration is kept. ``now`` is in seconds of one clock.
    """

    def __init__(self, path: Path, last_good_path: Path) -> None:
        self.path = path
        self.on_change: Callable[[], None] = lambda: None
        """Called after the configuration in use or its mistakes have changed."""
        self.mistakes: list[str] = []
        """Why the file is not in use, a line for each mistake; empty when it is."""
        self._last_good_path, self._trial = last_good_path, Trial(last_good_path.with_name(TRIAL_NAME))
        self._loaded: LoadedConfig | None = None  # in use
        self._previous: LoadedConfig | None = None  # to roll back to, while the one in use is on trial
        self._last_good: LoadedConfig | None = None  # in the file of that name
        self._fallback: LoadedConfig | None = None  # the last good one at the start
        self._well_since: float | None = None
        self._unproven = False  # the one in use has not worked yet
        self._files: tuple[Path, ...] = (path,)
        self._stamps = self._judged_stamps = self._stat_files()
        self._partial_since: float | None = None
        self._recheck_at: float | None = None  # when to read the file although it has not changed
        self._reload_requested = False

    @property
    def config(self) -> Config:
        """The configuration in use. Only after ``start``."""
        return self.loaded.config

    @property
    def loaded(self) -> LoadedConfig:
        """The same, with its text and places."""
        assert self._loaded is not None, "nothing was read yet"  # noqa: S101
        return self._loaded

    @property
    def state(self) -> str:
        """The state of the configuration in use, to be shown."""
        if not self.mistakes:
            return "in use"
        return "last good" if self._loaded is self._fallback else "wrong edit"

    def on_trial(self, key: str = "") -> bool:
        """Return whether the configuration in use is not proven yet, and has changed *key*; "": any key."""
        if self._previous is None:
            return False
        changed = differences(self._previous.config, self.config)
        return key in changed if key else bool(changed)

    def request_reload(self) -> None:
        """Read the file with the next ``poll``, changed or not. For a signal handler."""
        self._reload_requested = True

    def start(self) -> None:
        """Read the file, or in place of a wrong one the last good one. Raises ConfigError where there is none.

        A file that differs from the last good one is on trial, as an edit would be.
        """
        self._last_good = self._fallback = fallback = self._read_last_good()
        try:
            loaded = self._parse(read_file(self.path))
        except ConfigError as error:
            if fallback is None:
                raise
            self._fall_back(fallback)
            self._recheck_at = 0.0 if isinstance(error, MissingResource) else None
            self.reject(error)
            return
        if fallback is not None and (_is_cut(loaded.text, fallback) or _is_lost(loaded, fallback)):
            self._fall_back(fallback)
            self._judged_stamps = ()  # the file is an edit, yet to be judged
        else:
            self._loaded = loaded
            if fallback is not None and (keys := differences(fallback.config, loaded.config)):
                self._begin_trial(fallback, keys)
        self.on_change()

    def _begin_trial(self, fallback: LoadedConfig, keys: list[str]) -> None:
        """Put the configuration in use on trial, unless it has ended the process too often."""
        if self._trial.begin(self.loaded.text) >= MAX_CRASHES:
            self._loaded = fallback
            crashed = f"crashed or hung the program {MAX_CRASHES} times. To try it again, save it again"
            self.reject(ConfigError(f"{self.path}: {crashed}"))
        else:
            log.info("%s: trying: %s", self.path, ", ".join(keys))
            self._previous, self._unproven = fallback, True

    def _fall_back(self, fallback: LoadedConfig) -> None:
        log.warning("%s: starting with the last good configuration, kept in %s", self.path, self._last_good_path)
        self._loaded = fallback

    def poll(self, now: float) -> LoadedConfig | ConfigError | None:
        """Return the content of the file, right or wrong, if it has changed since the last time; else None."""
        stamps = self._stat_files()
        settled, self._stamps = stamps == self._stamps, stamps
        recheck = settled and self._recheck_at is not None and now >= self._recheck_at
        if not (self._reload_requested or recheck or (settled and stamps != self._judged_stamps)):
            return None
        requested, self._reload_requested, self._recheck_at = self._reload_requested, False, None
        if not (requested or recheck):
            self._partial_since = None
        self._judged_stamps = stamps
        try:
            return self._read_edit(now, requested=requested)
        except ConfigError as error:
            if isinstance(error, MissingResource):
                self._recheck_at = now + RECHECK_S
            told = recheck and str(error).splitlines() == self.mistakes
            return None if told else error

    def accept(self, loaded: LoadedConfig, *, tried: bool = True) -> None:
        """Put *loaded* into use. *tried* is whether it was applied; if not, that may fail soon."""
        if self._previous is None:
            self._previous = self.loaded
        keys = ", ".join(differences(self.config, loaded.config)) or "no setting was changed"
        log.info("%s: %s: %s", self.path, "in use now" if tried else "trying", keys)
        if not differences(self._previous.config, loaded.config):
            self._previous = None  # it is the one that has worked before
            self._trial.over()
        else:
            self._trial.begin(loaded.text)
        self._loaded, self.mistakes = loaded, []
        self._unproven, self._well_since = not tried, None
        self.on_change()

    def reject(self, error: AgentError) -> None:
        """Note that the file cannot be used because of *error*; log it, unless that was done."""
        mistakes = str(error).splitlines()
        if mistakes != self.mistakes:
            for line in mistakes:
                log.error("%s", line)
            log.error("%s: the previous settings stay in use", self.path)
        self.mistakes = mistakes
        self.on_change()

    def roll_back(self, error: AgentError, key: str = "") -> None:
        """Use the previous configuration again because of *error*, which is about *key* or names it. Raises it where
        there is none."""
        previous, self._previous = self._previous, None
        if previous is None:
            raise error
        mistake = located(error, self.path, self.loaded, key)
        self._loaded = previous
        self._unproven, self._well_since = False, None
        self.reject(mistake)

    def confirm(self, now: float, *, well: bool) -> None:
        """Note, about once a second at rest, whether the device works *well* with the configuration in use.

        After PROVEN_S it is no longer on trial, and becomes the last good one; the first that works at all does so at
        once. Waits for the disk, once for each configuration.
        """
        if not well:
            self._well_since = None
            return
        if self._well_since is None:
            self._well_since = now
            if self._previous is None:
                self.end_trial()
        if self._unproven:
            self._unproven = False
            log.info("%s: in use now", self.path)
        if self._last_good is self._loaded or (self._last_good and now - self._well_since < PROVEN_S):
            return
        self.end_trial()
        self._previous, self._last_good = None, self.loaded  # a full disk is not tried again every second
        self._write_last_good()

    def end_trial(self) -> None:
        """Note that the trial did not end the process: the device works, or ends as it was asked to."""
        self._trial.over()

    # The file ---------------------------------------------------------------------------------------------------------

    def _read_edit(self, now: float, *, requested: bool) -> LoadedConfig | None:
        """Return the content of the file; None where it may be incomplete yet. Raises ConfigError."""
        text = read_file(self.path)
        if not requested and _is_cut(text, self.loaded) and self._waits(now):
            return None
        loaded = self._parse(text)
        if not _is_lost(loaded, self.loaded):
            return loaded
        if not requested and self._waits(now):
            return None
        raise ConfigError(
            f"{self.path}: has lost its section service; is the file complete? For the defaults, write service: {{}}"
        )

    def _waits(self, now: float) -> bool:
        """Return whether to wait for the rest of the file; if so, set when to read it again."""
        if self._partial_since is None:
            self._partial_since = now
        if now - self._partial_since >= PARTIAL_FILE_TIMEOUT_S:
            return False
        self._recheck_at = self._partial_since + PARTIAL_FILE_TIMEOUT_S
        return True

    def _parse(self, text: str) -> LoadedConfig:
        """Return the configuration in *text*, and watch the files that it names. Raises ConfigError."""
        with internal_errors_reported(self.path):
            try:
                loaded = parse_config(text, self.path, alone=True)
            except ConfigError:
                parse_config(text, self.path)  # what the machine lacks is told at once
                raise
            self._watch(_named_files(loaded.config))
            if lacking := list(lacks(loaded, self.path)):
                raise MissingResource("\n".join(lacking))
            return loaded

    def _watch(self, named: list[Path]) -> None:
        files = (self.path, *named)
        if files != self._files:
            self._files = files
            self._stamps = self._judged_stamps = (*self._judged_stamps[:1], *self._stat_files()[1:])

    def _stat_files(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._files))

    # The last good version --------------------------------------------------------------------------------------------

    def _read_last_good(self) -> LoadedConfig | None:
        """Return the last good version of this very file, whatever the machine lacks for it; None where there is none,
        or none that can be used."""
        head, text = self._head(), (_content(self._last_good_path) or b"").decode(errors="replace")
        if not text.startswith(head):
            return None
        with suppress(ConfigError), internal_errors_reported(self._last_good_path):
            return parse_config(text.removeprefix(head), self._last_good_path, alone=True)
        return None

    def _write_last_good(self) -> None:
        document = f"{self._head()}{self.loaded.text}".encode()
        try:
            if _content(self._last_good_path) != document:
                replace_whole(self._last_good_path, document)
        except OSError as error:
            log.warning(
                "%s cannot be written: %s; it is needed for a start with mistakes in the configuration",
                self._last_good_path,
                error.strerror,
            )

    def _head(self) -> str:
        """Return the first line of the copy, which names its original."""
        return f"# {self.path.absolute()}, as it was when it was right last. To edit it changes nothing.\n"


@contextmanager
def internal_errors_reported(path: Path) -> Iterator[None]:
    """Turn an unexpected exception about the file at *path* into an InternalError. The log shows where it was raised,
    but not its text, which may quote a key."""
    try:
        yield
    except AgentError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s in %s, line %s", type(error).__name__, at.filename, at.lineno)
        text = f"cannot be used ({type(error).__name__}): that is a mistake in this program, please report it"
        raise InternalError(f"{path}: {text}") from error


def lacks(loaded: LoadedConfig, path: Path) -> Iterator[str]:
    """Yield a sentence, with its place in *path*, for each key, CA, program and library that is named and unusable."""
    config, places = loaded.config, loaded.places
    for (key,), sentence in (*absences(config), *missing_extras(config)):
        yield f"{path}:{place_of(places, key)} {key} {sentence}"
    for keys, find in _secrets_of(config):
        try:
            find()
        except ConfigError as error:
            yield f"{path}:{place_of(places, *keys)} {error}"


def _secrets_of(config: Config) -> Iterator[tuple[tuple[str, ...], Callable[[], object]]]:
    """Yield the keys that tell of each secret, best first, and what finds it or raises ConfigError."""
    for section, service in services_of(config):
        where = f"{section}.name", section, "service"
        yield (f"{section}.api_key_file", *where), partial(key_of, service, config.service)
        yield (f"{section}.token_key_file", f"{section}.token_url", *where), partial(token_key_of, service)
    if config.mqtt.host:
        find = partial(find_password, config.mqtt.password_file, MQTT_PASSWORD)
        yield ("mqtt.password_file", "mqtt.host"), find


def _is_cut(text: str, before: LoadedConfig) -> bool:
    """Return whether *text* may be the beginning of a file that is being written: of the one *before*, or of any that
    ended with its last line."""
    if text == before.text:
        return False
    return before.text.startswith(text) or (before.text.endswith("\n") and not text.endswith("\n"))


def _is_lost(loaded: LoadedConfig, before: LoadedConfig) -> bool:
    """Return whether *loaded* has no key any more, or no section service."""
    lost = before.places.keys() - loaded.places.keys()
    return "service" in lost or (bool(lost) and not loaded.places)


def _named_files(config: Config) -> list[Path]:
    """Return the files of keys and authorities that the configuration names."""
    named = []
    for key, value in leaves(config):
        if key.endswith("_file") and value:
            with suppress(ConfigError):  # told when the file is read
                named.append(expand_user(value))
    return named


def _stamp(path: Path) -> Stamp:
    """Follows links: their targets may change as well."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path) -> bytes | None:
    try:
        return read_whole(path, 2 * MAX_FILE_BYTES)
    except (OSError, ValueError):
        return None
