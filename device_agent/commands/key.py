"""``device-agent key``: stores the key of a voice service for the installed speaker.

The key comes from the terminal, a file or a pipe; never from an argument, which any process on the machine can read. No
message shows it.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..config import credentials
from ..config.credentials import CREDENTIAL_FILE, credential_names
from ..config.key_form import MAX_KEY_BYTES, issuer, key_flaw, text_of, too_short, wrong_company
from ..config.load import load
from ..config.model import ServiceConfig
from ..core.errors import AgentError, ConfigError
from ..runtime import systemd
from ..runtime.atomic_file import read_stream, replace_whole
from ..runtime.paths import INSTALLED_CONFIG

NONE_YET = "There is no key yet. When you have one: sudo device-agent key"
RUNNING = {"active", "activating", "reloading"}
"""States of the unit in which it needs a restart to use another key."""


def put_key(
    service: str = "", file: str = "", *, if_none: bool = False, restart: bool = True, settings: Path = INSTALLED_CONFIG
) -> int:
    """Store a key for *service*, or for the first one in *settings*; return the exit status.

    The key is read from *file* (``-`` is standard input), or typed. *if_none*: do nothing if a usable one is stored.
    *restart*: restart a running speaker, which reads its key when it starts. Raises AgentError.
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
    """The file for the key of a service."""

    path: Path
    service: str
    chosen: bool
    """Whether an argument or the settings name the service; at the first installation there are no settings."""
    direct: bool
    """Whether the service is at the address of its company, whose keys have a known form."""
    wanted: bool = True
    """Whether the service reads its key from this file."""

    def flaw(self, raw: bytes) -> str:
        """Return why *raw* cannot be the key, as the end of a sentence; "" if it can."""
        if (wrong := key_flaw(raw)) or not (self.chosen and self.direct):
            return wrong
        return wrong_company(text_of(raw), self.service) or too_short(text_of(raw), self.service)

    def kept(self) -> bytes:
        """Return the stored key; b"" if it cannot be read."""
        with suppress(OSError):
            return read_stream(self.path, MAX_KEY_BYTES)
        return b""


def _place(service: str, settings: Path) -> Place:
    """Return the place for the key of *service*, or, if that is "", of the first service in *settings*."""
    services: tuple[ServiceConfig, ...] = ()
    with suppress(ConfigError):  # there are no settings, or wrong ones, which ``device-agent check`` reports
        config = load(settings)
        services = (config.service, *config.fallback)
    first = services[0] if services else ServiceConfig()
    meant = next((each for each in services if each.name == service), ServiceConfig(service)) if service else first
    named, unnamed = (
        credentials.CREDENTIAL_STORE / CREDENTIAL_FILE.format(name) for name in credential_names(meant.name)
    )
    return Place(
        named if service or named.exists() else unnamed,  # of the two, the unit prefers the one with the name
        meant.name,
        chosen=bool(service or services),
        direct=meant.url is None,
        wanted=not (meant.api_key_file or meant.token_url),
    )


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read(MAX_KEY_BYTES + 1) if file == "-" else read_stream(Path(file), MAX_KEY_BYTES)
    except (OSError, ValueError) as error:
        raise AgentError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _typed(place: Place) -> bytes | None:
    """Ask until a possible key is typed; return it, or None for an empty line: there is no key yet."""
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


def _notes(text: str, place: Place) -> Iterator[str]:
    """Yield what remains to be done before the key is used."""
    if not place.chosen and (whose := issuer(text)) and wrong_company(text, place.service):
        yield f"It looks like a key of {whose}. If it is, set service.name in {INSTALLED_CONFIG} to that service."
    if not place.wanted:
        other = "another place for this key (api_key_file or token_url)"
        yield f"{INSTALLED_CONFIG} names {other}, which is used instead of it."


def _use() -> int:
    """Restart a running speaker, so that it reads the key; return the exit status."""
    told = systemd.unit_properties("LoadState", "ActiveState")
    if told.get("ActiveState") not in RUNNING:
        ready = told.get("LoadState") == "loaded"
        print("It is used from the next start on" + (": sudo systemctl start device-agent" if ready else "."))
        return 0
    if systemd.restart_unit():
        print("device-agent was restarted and now uses it.")
        return 0
    raise AgentError("device-agent does not start. To see why: sudo device-agent check")
