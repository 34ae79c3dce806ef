"""What can go wrong, sorted by who can help. Every error is also the builtin that one would guess."""

from __future__ import annotations


class AgentError(Exception):
    """Base of every error this package raises on purpose. Its text says what was seen and what to do."""


class ConfigError(AgentError, ValueError):
    """The configuration is wrong: the owner can help. The text names file, line, column and key."""


class LinkLost(AgentError, ConnectionError):
    """The connection failed or ended: time can help.

    *retry_after* is how many seconds the service asked us to stay away, 0 where it did not say.
    """

    def __init__(self, text: str, *, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class LinkClosed(LinkLost):
    """The service ended the WebSocket with a close frame (RFC 6455, 5.5.1). What that means depends on what came before
    it: ``services.closing`` judges it.

    *code* is the close code, 1005 where the frame had none; *reason* is its text, in one line and without secrets.
    """

    def __init__(self, text: str, *, code: int, reason: str = "") -> None:
        super().__init__(text)
        self.code, self.reason = code, reason


class LinkRefused(AgentError, PermissionError):
    """The service does not want us: a new key, plan or address can help; trying again soon cannot."""


class DeviceFailed(AgentError, OSError):
    """A microphone, loudspeaker, button or light is missing or stopped: a cable can help."""


def missing(extra: str) -> str:
    """Return what to do about a library that only some configurations need."""
    return f"sudo make install EXTRAS={extra} adds it, or: pip install 'device-agent[{extra}]'"
