"""Where the key comes from, and how it stays secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..core.errors import ConfigError
from ..core.redaction import Secret
from ..runtime.paths import expand_user
from .key_form import MAX_KEY_BYTES, key_flaw, text_of, wrong_company
from .model import ServiceConfig

CREDENTIAL_STORE = Path("/etc/credstore")
"""Where the unit takes its credentials from. Outside of it they are root's, for ``device-agent check`` and ``ask``."""
CREDENTIAL_FILE = "device-agent.{}"
"""What a credential is called there."""
TOKEN_KEY, MQTT_PASSWORD = "token_key", "mqtt_password"
"""The systemd credentials that hold what the token server knows us by, and what the broker of the home does."""


def key_variable(service_name: str) -> str:
    """Return the environment variable that holds the key: one per company, so xai-live reads XAI_API_KEY."""
    return f"{service_name.partition('-')[0].upper()}_API_KEY"


def credential_names(service_name: str) -> tuple[str, str]:
    """Return the systemd credentials that may hold the key: that of the company, for who has several, then the key."""
    return key_variable(service_name).lower(), "api_key"


def find_key(
    service_name: str, api_key_file: str | None = None, *, unnamed: bool = True, direct: bool = False
) -> tuple[Secret, str]:
    """Return the key of a service, from the first place that has one, and what people call that place.

    The places are *api_key_file*, the systemd credentials, such as ``xai_api_key`` and then, if *unnamed* may be it,
    ``api_key``, the environment, and outside of the unit the files that its credentials come from, where we may read
    them. The file comes first because the owner named it for this very service. A place that has something which is no
    key is an error, not a reason to look further: the owner meant it. So is the key of another company where the
    service is *direct*, at its company's own address. Raises ConfigError, which never shows what it saw. Reads small
    files; for any thread.
    """
    found = _found(service_name, api_key_file, unnamed=unnamed)
    if found is None:
        raise ConfigError(_no_key(service_name, unnamed=unnamed))
    raw, place = found
    if wrong := key_flaw(raw) or (wrong_company(text_of(raw), service_name) if direct else ""):
        raise ConfigError(f"{place} {wrong}")
    return Secret(text_of(raw)), place


def _found(service_name: str, api_key_file: str | None, *, unnamed: bool) -> tuple[bytes, str] | None:
    """Return what stands in the first place that has a key, and what people call that place. Raises ConfigError."""
    if api_key_file:
        return _read(expand_user(api_key_file), private=True), f"service.api_key_file: {api_key_file}"
    credentials = credential_names(service_name)[: 2 if unnamed else 1]
    if found := _of_the_unit(credentials):
        return found
    name = key_variable(service_name)
    if (value := os.environ.get(name)) is not None:
        return value.encode(errors="surrogateescape"), f"environment variable {name}"
    return _stored(credentials)


def _no_key(service_name: str, *, unnamed: bool) -> str:
    """Return what to do where there is no key, or none that this user may see."""
    name = key_variable(service_name)
    if not _inside() and os.path.isdir(CREDENTIAL_STORE) and not os.access(CREDENTIAL_STORE, os.R_OK | os.X_OK):
        return (
            f"you are not root, and no key for {service_name} can be read without sudo; repeat with sudo, "
            f"or set the environment variable {name}"
        )
    command = "sudo device-agent key" + ("" if unnamed else f" {service_name}")
    return (
        f"there is no key for {service_name} yet; store one: {command} "
        f"(where no speaker is installed: set the environment variable {name}, or name a file in service.api_key_file)"
    )


def find_password(file: str | None, credential: str) -> Secret | None:
    """Return the password in *file*, else in *credential*, inside or outside of the unit; None where there is none.

    Raises ConfigError as ``find_key`` does.
    """
    if file:
        return _password(_read(expand_user(file), private=True), f"the password file {file}")
    found = _of_the_unit((credential,)) or _stored((credential,))
    return _password(*found) if found else None


def _of_the_unit(names: tuple[str, ...]) -> tuple[bytes, str] | None:
    """Return what stands in the first of the systemd credentials *names* that we were given, and where that is."""
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        for credential in (Path(directory, name) for name in names):
            if _is_there(credential):
                # No look at its mode: systemd guards the folder, and shows its access list as rights of the group.
                return _read(credential, private=False), f"systemd credential {credential}"
    return None


def _stored(names: tuple[str, ...]) -> tuple[bytes, str] | None:
    """Return, outside of the unit, what stands in the first of the files that its credentials come from, if this user
    may read it."""
    if not _inside():
        for file in (CREDENTIAL_STORE / CREDENTIAL_FILE.format(name) for name in names):
            if os.access(file, os.R_OK):
                return _read(file, private=True), f"file {file}"
    return None


def _inside() -> bool:
    """Whether this is the unit. It is not root, and is shown what it may see."""
    return bool(os.environ.get("CREDENTIALS_DIRECTORY"))


def _is_there(path: Path) -> bool:
    """Raises ConfigError where one cannot even look."""
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(
            f"the folder {path.parent}, made by systemd for this program, cannot be read: {error.strerror}"
        ) from error


def _read(path: Path, *, private: bool) -> bytes:
    """Return what is in *path*. Looks at the open file and not at its name, so that nobody can swap it in between."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe nobody writes to is no reason to wait
        try:
            mode = os.fstat(file).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"the key file {path} is not a file")
            if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(f"the key file {path} can be read by other users; run: chmod 600 {path}")
            return os.read(file, MAX_KEY_BYTES + 1)
        finally:
            os.close(file)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        sudo = "; repeat with sudo" if isinstance(error, PermissionError) and not _inside() else ""
        raise ConfigError(f"the key file {path} cannot be read: {reason}{sudo}") from error


def _password(raw: bytes, place: str) -> Secret:
    """Return the password in *raw*, where it is one: any visible characters, quotes too. It may travel in a header."""
    text = text_of(raw)
    if not text:
        raise ConfigError(f"{place} is empty; write the password there")
    if len(raw) > MAX_KEY_BYTES or not all("!" <= character <= "~" for character in text):
        raise ConfigError(f"{place} holds more than a password; keep only the password, on one line")
    return Secret(text)


def token_key_of(config: ServiceConfig) -> Secret | None:
    """Return what the token server knows this device by; None where it asks for none. Raises ConfigError."""
    return find_password(config.token_key_file, TOKEN_KEY) if config.token_url else None


def key_of(config: ServiceConfig, first: ServiceConfig) -> Secret | None:
    """Return the key of a service; None where a token server knows us by other means. Raises ConfigError."""
    return key_and_place(config, first)[0]


def key_and_place(config: ServiceConfig, first: ServiceConfig) -> tuple[Secret | None, str]:
    """Return the key of a service, and where it comes from. Raises ConfigError.

    A key without a name is that of the *first*; no other company is to see it.
    """
    unnamed = key_variable(config.name) == key_variable(first.name)
    try:
        return find_key(config.name, config.api_key_file, unnamed=unnamed, direct=config.url is None)
    except ConfigError:
        if config.token_url and not config.api_key_file:
            return None, "token server of service.token_url"
        raise
