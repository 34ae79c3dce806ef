"""What the service manager wants to know: READY, STATUS, WATCHDOG, STOPPING. Silent where there is none."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(**fields: object) -> None:
    """Send *fields*, for example ``READY=1, STATUS="ready"``, as sd_notify(3) does."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = "\n".join(f"{name}={value}" for name, value in fields.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(1.0)
        sock.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
