"""Service manager: sd_notify(3) and systemctl. Does nothing where there is no systemd."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from ..core.printable import printable

UNIT_NAME = "device-agent"
SYSTEMCTL_TIMEOUT_S = 3.0
RESTART_TIMEOUT_S = 90.0  # longer than TimeoutStartSec of the unit
RELIABLE_FIELDS = {"READY", "STOPPING"}
"""For these ``notify`` waits up to a second for room in the manager's socket: the other fields are sent again."""


def notify(**fields: object) -> None:
    """Send *fields*, for example ``READY=1, STATUS="ready"``, as sd_notify(3) does. Returns at once where the manager
    does not read, because the calling thread has turns to serve."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = "\n".join(f"{name}={printable(str(value))}" for name, value in fields.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(1.0 if RELIABLE_FIELDS & fields.keys() else 0.0)
        sock.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def unit_properties(*names: str) -> dict[str, str]:
    """Return these properties of the unit, {} without an answer within SYSTEMCTL_TIMEOUT_S."""
    shown = _systemctl(SYSTEMCTL_TIMEOUT_S, "show", UNIT_NAME, f"--property={','.join(names)}") or ""
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def restart_unit() -> bool:
    """Restart the unit; return whether it runs. May take RESTART_TIMEOUT_S, and wants root."""
    return _systemctl(RESTART_TIMEOUT_S, "restart", UNIT_NAME) is not None


def _systemctl(timeout: float, *arguments: str) -> str | None:
    """Return what systemctl prints, None where it fails."""
    import subprocess  # not loaded in the daemon, which calls only notify

    with suppress(OSError, subprocess.SubprocessError):
        command = ["systemctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout  # noqa: S603
    return None
