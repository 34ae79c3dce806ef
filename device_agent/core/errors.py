"""Exceptions, sorted by what can help. Each is also the builtin exception of its kind."""

from __future__ import annotations


class AgentError(Exception):
    """Base of the errors that this package raises. The text says what was seen and what to do."""


class ConfigError(AgentError, ValueError):
    """The configuration is wrong: an edit can help. The text names file, line, column and key."""


class LinkLost(AgentError, ConnectionError):
    """The connection failed or ended: time can help. *retry_after* is the pause that the service asked for, in s."""

    def __init__(self, text: str, *, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class LinkClosed(LinkLost):
    """The service sent a close frame (RFC 6455, 5.5.1) with *code*, or 1005 for none, and *reason*, in one line and
    without secrets; ``services.closing`` interprets it."""

    def __init__(self, text: str, *, code: int, reason: str = "") -> None:
        super().__init__(text)
        self.code, self.reason = code, reason


class LinkRefused(AgentError, PermissionError):
    """The service refuses the device: a new key, plan or address can help, trying again soon cannot."""


class DeviceFailed(AgentError, OSError):
    """A microphone, loudspeaker, button or light is missing or stopped: a cable can help."""


def install_hint(extra: str) -> str:
    """Return how to install the library of an *extra*."""
    return f"sudo make install EXTRAS={extra} adds it, or: pip install 'device-agent[{extra}]'"
