"""Paths of configuration, state and status socket, and paths as a user writes them."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.errors import ConfigError

HOMELESS = Path("/nonexistent")  # the home directory of a user without one in Debian's policy
INSTALLED_CONFIG = Path("/etc/device-agent/config.yaml")  # that of the systemd unit
LOCAL_CONFIG = Path("config.yaml")  # that of a trial in the working directory
SOCKET_NAME = "status.sock"
UNIT_SOCKET = Path("/run/device-agent", SOCKET_NAME)  # the status socket of the systemd unit


def expand_user(text: str) -> Path:
    """Return the path *text*, with ``~`` or ``~user`` at its beginning replaced by a home directory.

    Raises ConfigError where there is no such user, or no home directory is known.
    """
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        user = text.partition("/")[0]
        advice = "write the whole path, beginning with /"
        if user == "~":
            raise ConfigError(f"{text}: this user has no home directory; {advice}") from error
        raise ConfigError(f"{text}: there is no user {user[1:]} on this machine; {advice}") from error


def home_directory() -> Path:
    """Return the home directory of this user; HOMELESS where HOME is not set and the user is not in passwd."""
    try:
        return Path.home()
    except RuntimeError:
        return HOMELESS


def config_path() -> Path:
    """Return the default path of the configuration: LOCAL_CONFIG only where there is that one alone."""
    return INSTALLED_CONFIG if INSTALLED_CONFIG.exists() or not LOCAL_CONFIG.exists() else LOCAL_CONFIG


def state_path() -> Path:
    """Return the path of the state file, in the state directory of the systemd unit or of this user."""
    if given := os.environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given, "memory.json")
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # to be ignored, says the XDG Base Directory Specification
        home = home_directory() / ".local" / "state"
    return home / "device-agent" / "memory.json"


def status_path() -> Path:
    """Return the path of the status socket: in the runtime directory of the unit or of this user, else beside the
    state file."""
    if given := os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return Path(given, SOCKET_NAME)
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    return runtime / "device-agent" / SOCKET_NAME if runtime.is_absolute() else state_path().with_name(SOCKET_NAME)


def status_paths() -> list[Path]:
    """Return the paths at which an agent may have its status socket: those of this user first, then the unit's."""
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere", "device-agent", SOCKET_NAME)
    return list(dict.fromkeys([status_path(), own, state_path().with_name(SOCKET_NAME), UNIT_SOCKET]))
