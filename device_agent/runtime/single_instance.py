"""Single instance: a second agent on one machine names the first one and ends before it opens anything.

The kernel's lock on a file in the state directory shows an agent of the same user, and ends with its process. An agent
with a state directory of its own is another one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.errors import AgentError
from . import systemd
from .paths import UNIT_SOCKET

LOCK_NAME = "running.lock"  # in the state directory; holds the process id of the agent
STATE_VARIABLES = ("STATE_DIRECTORY", "XDG_STATE_HOME")  # give an agent a state directory of its own
UNIT_CONNECT_TIMEOUT_S = 1.0


class Occupied(AgentError):
    """Another agent runs."""


@contextmanager
def only_agent(state: Path, unit: Path = UNIT_SOCKET) -> Iterator[None]:
    """Be the only agent of the state directory *state*. Raises Occupied where another one runs, also where that is the
    installed speaker, whose status socket is *unit*, and none of STATE_VARIABLES is set. Without the file there is no
    lock and no error: the log reports the directory anyway."""
    lock = _opened(state / LOCK_NAME)
    try:
        if lock is not None:
            _take(lock)
        if not any(map(os.environ.get, STATE_VARIABLES)) and unit.exists():
            _ask_unit(unit)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _opened(path: Path) -> int | None:
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return None


def _take(lock: int) -> None:
    """Lock the file, and write this process id into it. Raises Occupied."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _occupied(os.pread(lock, 20, 0).decode(errors="replace").strip()) from None
    except OSError:  # a file system without locks
        return
    with suppress(OSError):  # a full disk
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _ask_unit(path: Path) -> None:
    """Raises Occupied where the installed speaker runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(UNIT_CONNECT_TIMEOUT_S)
        try:
            sock.connect(str(path))
        except PermissionError:  # the socket is for root and its group, the service manager for every user
            number = systemd.unit_properties("MainPID").get("MainPID", "")
        except OSError:  # left behind by an agent that has ended
            return
        else:
            number = str(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    raise _occupied(number, "sudo systemctl stop device-agent")


def _occupied(number: str, stop: str = "") -> Occupied:
    known = number.isdigit() and number != "0"
    stop = stop or (f"kill {number}" if known else "end that one")
    named = f", as process {number}" if known else ""
    return Occupied(f"Another device-agent is already running{named}. Stop it first: {stop}")
