"""Where the key comes from, and how it stays secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NoReturn

from .errors import ConfigError
from .paths import expand_user

LONGEST = 4096
"""Bytes of a key file that we are willing to read; the keys of all services are far shorter."""
STORE = Path("/etc/credstore")
"""Where the unit takes its credentials from. Outside of it they are root's, for ``device-agent check`` and ``ask``."""
STORED = "device-agent.{}"
"""What a credential is called there."""
TOKEN_KEY, MQTT_PASSWORD = "token_key", "mqtt_password"
"""The systemd credentials that hold what the token server knows us by, and what the broker of the home does."""


class Secret:
    """A text that is shown by ``reveal`` alone: printing, formatting and logging say ``***``, pickling is refused."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text: to show it to the service, and for nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not to be stored or copied")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


def variable(service_name: str) -> str:
    """Return the environment variable that holds the key: one per company, so xai-live reads XAI_API_KEY."""
    return f"{service_name.partition('-')[0].upper()}_API_KEY"


def credential_names(service_name: str) -> tuple[str, str]:
    """Return the systemd credentials that may hold the key: that of the company, for who has several, then the key."""
    return variable(service_name).lower(), "api_key"


def find_key(service_name: str, api_key_file: str | None = None, *, unnamed: bool = True) -> tuple[Secret, str]:
    """Return the key of a service, from the first place that has one, and what people call that place.

    The places are *api_key_file*, the systemd credentials, such as ``xai_api_key`` and then, if *unnamed* may be it,
    ``api_key``, the environment, and outside of the unit the files that its credentials come from, where we may read
    them. The file comes first because the owner named it for this very service. A place that has something which is no
    key is an error, not a reason to look further: the owner meant it. Raises ConfigError, which never shows what it
    saw. Reads small files; for any thread.
    """
    if api_key_file:
        return _keyed(f"service.api_key_file: {api_key_file}", _read(expand_user(api_key_file), private=True))
    credentials = credential_names(service_name)[: 2 if unnamed else 1]
    if found := _of_the_unit(credentials):
        return found
    name = variable(service_name)
    if (value := os.environ.get(name)) is not None:
        return _keyed(f"environment variable {name}", value.encode(errors="surrogateescape"))
    if found := _stored(credentials):
        return found
    raise ConfigError(
        f"there is no key for {service_name}: name a file that holds it in service.api_key_file, "
        f"or give the systemd unit a credential api_key, or set the environment variable {name}{_locked()}"
    )


def find_password(file: str | None, credential: str) -> Secret | None:
    """Return the password in *file*, else in *credential*, inside or outside of the unit; None where there is none.

    Raises ConfigError as ``find_key`` does.
    """
    if file:
        return _key(_read(expand_user(file), private=True), f"the password file {file}")
    found = _of_the_unit((credential,)) or _stored((credential,))
    return found[0] if found else None


def _of_the_unit(names: tuple[str, ...]) -> tuple[Secret, str] | None:
    """Return the first of the systemd credentials *names* that we were given, and where it is."""
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        for credential in (Path(directory, name) for name in names):
            if _is_there(credential):
                # No look at its mode: systemd guards the folder, and shows its access list as rights of the group.
                return _keyed(f"systemd credential {credential}", _read(credential, private=False))
    return None


def _stored(names: tuple[str, ...]) -> tuple[Secret, str] | None:
    """Return, outside of the unit, the first of the files that its credentials come from, if this user may read it."""
    if not os.environ.get("CREDENTIALS_DIRECTORY"):
        for file in (STORE / STORED.format(name) for name in names):
            if os.access(file, os.R_OK):
                return _keyed(f"file {file}", _read(file, private=True))
    return None


def _is_there(path: Path) -> bool:
    """Raises ConfigError where one cannot even look."""
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(f"{path.parent} cannot be looked into: {error.strerror}; systemd made it for us") from error


def _locked() -> str:
    """What to say where the key may be and only root can see it."""
    locked = os.path.isdir(STORE) and not os.access(STORE, os.R_OK | os.X_OK)
    return f"; or is it in {STORE}? Only root may look there: sudo" if locked else ""


def _keyed(place: str, raw: bytes) -> tuple[Secret, str]:
    return _key(raw, place), place


def _read(path: Path, *, private: bool) -> bytes:
    """Return what is in *path*. Looks at the open file and not at its name, so that nobody can swap it in between."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe nobody writes to is no reason to wait
        try:
            mode = os.fstat(file).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"the key file {path} is no file")
            if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(f"others than its owner can use the key file {path}; run: chmod 600 {path}")
            return os.read(file, LONGEST + 1)
        finally:
            os.close(file)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the key file {path} cannot be read: {reason}") from error


def _key(raw: bytes, place: str) -> Secret:
    """Return the key in *raw*, where it is one: it travels in a header, which must not be torn apart."""
    text = raw.decode("latin-1").strip()
    if not text:
        raise ConfigError(f"{place} is empty; put the key there")
    if len(raw) > LONGEST or not all("!" <= character <= "~" for character in text):
        raise ConfigError(f"{place} holds more than a key; leave the key alone, on one line")
    return Secret(text)
