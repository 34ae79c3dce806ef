"""``device-agent key``: puts the key of a voice service where the installed speaker takes it from.

The key comes from the terminal, a file or a pipe. It is never an argument, which every process on the machine may see,
and no message shows it.
"""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..config import credentials
from ..config.credentials import STORED, credential_names
from ..config.key_form import LONGEST, flaw, foreign, issuer, short, text_of
from ..config.load import load
from ..config.model import Config, ServiceConfig
from ..core.errors import AgentError, ConfigError
from ..runtime import systemd
from ..runtime.atomic_file import read_stream, replace_whole
from ..runtime.paths import INSTALLED_CONFIG

NONE_YET = "There is no key yet. When you have one: sudo device-agent key"
RUNNING = {"active", "activating", "reloading"}
"""States of the unit in which it would go on with the old key, or without one."""


def put_key(
    service: str = "", file: str = "", *, if_none: bool = False, restart: bool = True, settings: Path = INSTALLED_CONFIG
) -> int:
    """Store a key for *service*, or for the first one in *settings*; return the exit status.

    It is read from *file* (``-`` is standard input), or typed. *if_none*: do nothing where there is a usable one.
    *restart*: a speaker that runs is restarted, because it reads its key when it starts. Raises AgentError.
    """
    if os.geteuid() != 0:
        raise AgentError("You are not root. Repeat with sudo: sudo device-agent key")
    place = _place(service, settings)
    if if_none and not place.wanted:
        return 0
    if if_none and place.path.exists():
        if not (wrong := place.flaw(place.kept())):
            return 0
        print(f"The stored key cannot be used: {place.path} {wrong}.")
    raw = _read(file or "-") if file or not sys.stdin.isatty() else _typed(place)
    if raw is None:
        print(NONE_YET)
        return 0
    if wrong := place.flaw(raw):
        raise AgentError(f"The key was not stored: the content of {file or 'the input'} {wrong}")
    return _store(raw, place, restart=restart)


@dataclass(frozen=True)
class Place:
    """Where the key of a service is kept."""

    path: Path
    service: str
    chosen: bool
    """Whether the owner has said which service it is to be; at the first installation there are no settings yet."""
    direct: bool
    """Whether the service is at its company's own address, whose keys have a known form."""
    wanted: bool = True
    """Whether the service takes its key from here."""

    def flaw(self, raw: bytes) -> str:
        """Return why *raw* cannot be the key, as the end of a sentence; "" where it may be."""
        if (wrong := flaw(raw)) or not (self.chosen and self.direct):
            return wrong
        return foreign(text_of(raw), self.service) or short(text_of(raw), self.service)

    def kept(self) -> bytes:
        """Return what is stored; nothing where it cannot be read."""
        try:
            return read_stream(self.path, LONGEST)
        except OSError:
            return b""


def _place(service: str, settings: Path) -> Place:
    """Return where the key of *service* belongs; where none is named, that of the first one in *settings*."""
    config = _settings(settings)
    services = (config.service, *config.fallback) if config else ()
    first = services[0] if services else ServiceConfig()
    meant = next((each for each in services if each.name == service), ServiceConfig(service)) if service else first
    named, unnamed = (credentials.STORE / STORED.format(name) for name in credential_names(meant.name))
    return Place(
        named if service or named.exists() else unnamed,  # of the two, the unit takes that with the name first
        meant.name,
        chosen=bool(service or services),
        direct=meant.url is None,
        wanted=not (meant.api_key_file or meant.token_url),
    )


def _settings(path: Path) -> Config | None:
    """Return what the owner has written; None where that is nothing, or is wrong, which the doctor tells."""
    try:
        return load(path)
    except ConfigError:
        return None


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read(LONGEST + 1) if file == "-" else read_stream(Path(file), LONGEST)
    except (OSError, ValueError) as error:
        raise AgentError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _typed(place: Place) -> bytes | None:
    """Ask until what is typed may be a key; return it, or None after a mere return: there is no key yet."""
    while True:
        try:
            raw = getpass.getpass(
                f"The key for {place.service} (not shown while you type; press return if you have none yet): "
            ).encode(errors="replace")
        except EOFError:
            return None
        if not raw.strip():
            return None
        if not (wrong := place.flaw(raw)):
            return raw
        print(f"What you typed {wrong}.")


def _store(raw: bytes, place: Place, *, restart: bool) -> int:
    document = f"{text_of(raw)}\n".encode()
    if place.kept() == document:
        print(f"{place.path} holds this key already: nothing to do.")
        return 0
    try:
        replace_whole(place.path, document)
    except OSError as error:
        raise AgentError(f"The key was not stored: {place.path} cannot be written: {error.strerror}") from error
    print(f"Stored the key for {place.service} in {place.path}; only root can read it.")
    for note in _notes(text_of(raw), place):
        print(note)
    return _use() if restart else 0


def _notes(text: str, place: Place) -> list[str]:
    """Return what else has to be done before the key is used."""
    notes = []
    if not place.chosen and (whose := issuer(text)) and foreign(text, place.service):
        notes.append(
            f"It looks like a key of {whose}. If it is, set service.name in {INSTALLED_CONFIG} to that service."
        )
    if not place.wanted:
        notes.append(
            f"{INSTALLED_CONFIG} names another place for this key (api_key_file or token_url), "
            "which is used instead of it."
        )
    return notes


def _use() -> int:
    """Let the running speaker take the key, which it reads when it starts; return the exit status."""
    told = systemd.unit_properties("LoadState", "ActiveState")
    if told.get("ActiveState") not in RUNNING:
        ready = told.get("LoadState") == "loaded"
        print("It is used from the next start on" + (": sudo systemctl start device-agent" if ready else "."))
        return 0
    if systemd.restart_unit():
        print("device-agent was restarted and now uses it.")
        return 0
    raise AgentError("device-agent does not start. To see why: sudo device-agent check")
