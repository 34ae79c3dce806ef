"""What the service manager wants to know, READY, STATUS, WATCHDOG, STOPPING, and what it knows about our unit. Silent
where there is none."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from ..core.printable import printable

UNIT_NAME = "device-agent"
SYSTEMCTL_TIMEOUT_S = 3.0
"""How long it may take to answer."""
RESTART_TIMEOUT_S = 90.0
"""How long a start may take: longer than TimeoutStartSec of the unit."""
RELIABLE_FIELDS = {"READY", "STOPPING"}
"""With these it waits for room in the manager's mailbox, a second at most. WATCHDOG comes again, STATUS when it
changes."""


def notify(**fields: object) -> None:
    """Send *fields*, for example ``READY=1, STATUS="ready"``, as sd_notify(3) does. A manager that does not read costs
    the calling thread nothing: it has turns to look after."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = "\n".join(f"{name}={printable(str(value))}" for name, value in fields.items())  # a line for each
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(1.0 if RELIABLE_FIELDS & fields.keys() else 0.0)
        sock.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def unit_properties(*names: str) -> dict[str, str]:
    """Return what it says of these properties of the unit; nothing where nobody answers. May take PATIENCE_S."""
    import subprocess  # only who looks from outside asks; the daemon itself does not

    command = ["systemctl", "show", UNIT_NAME, f"--property={','.join(names)}"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=True)  # noqa: S603
        return dict(line.split("=", 1) for line in said.stdout.splitlines() if "=" in line)
    return {}


def restart_unit() -> bool:
    """Restart the unit; return whether it runs. May take START_S, and wants root."""
    import subprocess

    with suppress(OSError, subprocess.SubprocessError):
        command = ["systemctl", "restart", UNIT_NAME]
        subprocess.run(command, capture_output=True, timeout=RESTART_TIMEOUT_S, check=True)  # noqa: S603
        return True
    return False
