"""Sources of keys and passwords: key files, systemd credentials and the environment."""

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
"""The source of the credentials of the unit. Root reads them there for ``device-agent check`` and ``ask``."""
CREDENTIAL_FILE = "device-agent.{}"
"""The name of the file of a credential there."""
TOKEN_KEY, MQTT_PASSWORD = "token_key", "mqtt_password"
"""The systemd credentials with the key for the token server and the password for the MQTT broker."""


def key_variable(service_name: str) -> str:
    """Return the environment variable of the key: one per company, so xai-live reads XAI_API_KEY."""
    return f"{service_name.partition('-')[0].upper()}_API_KEY"


def credential_names(service_name: str) -> tuple[str, str]:
    """Return the systemd credentials that may hold the key: that of the company, then the one without a name."""
    return key_variable(service_name).lower(), "api_key"


def find_key(
    service_name: str, api_key_file: str | None = None, *, unnamed: bool = True, direct: bool = False
) -> tuple[Secret, str]:
    """Return the key of a service, and the name of the place where it was found, the first of:

    *api_key_file*, which the owner named for this service; the systemd credentials, such as ``xai_api_key``, then, if
    *unnamed* allows, ``api_key``; the environment; outside of the unit, the files of its credentials that this user may
    read. A place that holds no valid key is an error and no reason to go on. So is the key of another company where the
    service is *direct*, at the address of its company. Raises ConfigError, which never shows what was read. Reads small
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
    """Return the content and the name of the first place that has a key. Raises ConfigError."""
    if api_key_file:
        return _read(expand_user(api_key_file), private=True), f"service.api_key_file: {api_key_file}"
    credentials = credential_names(service_name)[: 2 if unnamed else 1]
    if found := _from_unit(credentials):
        return found
    name = key_variable(service_name)
    if (value := os.environ.get(name)) is not None:
        return value.encode(errors="surrogateescape"), f"environment variable {name}"
    return _from_store(credentials)


def _no_key(service_name: str, *, unnamed: bool) -> str:
    """Return what to do where there is no key, or none that this user may read."""
    name = key_variable(service_name)
    if not _in_unit() and os.path.isdir(CREDENTIAL_STORE) and not os.access(CREDENTIAL_STORE, os.R_OK | os.X_OK):
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
    """Return the password in *file*, else in *credential*; None where there is none. Raises ConfigError."""
    if file:
        return _password(_read(expand_user(file), private=True), f"the password file {file}")
    found = _from_unit((credential,)) or _from_store((credential,))
    return _password(*found) if found else None


def _from_unit(names: tuple[str, ...]) -> tuple[bytes, str] | None:
    """Return content and place of the first of *names* that systemd has given to the process as a credential."""
    if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
        for credential in (Path(directory, name) for name in names):
            if _is_there(credential):
                # Its mode is not checked: systemd guards the folder, and shows its access list as rights of the group.
                return _read(credential, private=False), f"systemd credential {credential}"
    return None


def _from_store(names: tuple[str, ...]) -> tuple[bytes, str] | None:
    """Return, outside of the unit, content and place of the first credential file that this user may read."""
    if not _in_unit():
        for file in (CREDENTIAL_STORE / CREDENTIAL_FILE.format(name) for name in names):
            if os.access(file, os.R_OK):
                return _read(file, private=True), f"file {file}"
    return None


def _in_unit() -> bool:
    """Return whether this process is the unit: it is not root, and gets its credentials from systemd."""
    return bool(os.environ.get("CREDENTIALS_DIRECTORY"))


def _is_there(path: Path) -> bool:
    """Return whether there is a credential. Raises ConfigError where its folder cannot be read."""
    try:
        return path.exists()
    except OSError as error:
        raise ConfigError(
            f"the folder {path.parent}, made by systemd for this program, cannot be read: {error.strerror}"
        ) from error


def _read(path: Path, *, private: bool) -> bytes:
    """Return the content of *path*. Checks the open file, which cannot be exchanged in between, not the name."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer is not waited for
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
        sudo = "; repeat with sudo" if isinstance(error, PermissionError) and not _in_unit() else ""
        raise ConfigError(f"the key file {path} cannot be read: {reason}{sudo}") from error


def _password(raw: bytes, place: str) -> Secret:
    """Return the password in *raw*: visible characters, quotes too, since it may travel in a header."""
    text = text_of(raw)
    if not text:
        raise ConfigError(f"{place} is empty; write the password there")
    if len(raw) > MAX_KEY_BYTES or not all("!" <= character <= "~" for character in text):
        raise ConfigError(f"{place} holds more than a password; keep only the password, on one line")
    return Secret(text)


def token_key_of(config: ServiceConfig) -> Secret | None:
    """Return the key for the token server, if there is one. Raises ConfigError."""
    return find_password(config.token_key_file, TOKEN_KEY) if config.token_url else None


def key_of(config: ServiceConfig, first: ServiceConfig) -> Secret | None:
    """Return the key of a service; None where a token server needs none. Raises ConfigError."""
    return key_and_place(config, first)[0]


def key_and_place(config: ServiceConfig, first: ServiceConfig) -> tuple[Secret | None, str]:
    """Return the key of a service, and its place. Raises ConfigError. A key without a name belongs to the company of
    the *first* service, and is not shown to another one."""
    unnamed = key_variable(config.name) == key_variable(first.name)
    try:
        return find_key(config.name, config.api_key_file, unnamed=unnamed, direct=config.url is None)
    except ConfigError:
        if config.token_url and not config.api_key_file:
            return None, "token server of service.token_url"
        raise
