"""Where files are: a path as an owner writes it, and the home directory of this user."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ConfigError

HOMELESS = Path("/nonexistent")
"""The home directory of a user without one, as Debian's policy writes it: nothing is there, and nothing can be made."""


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
