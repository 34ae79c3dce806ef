"""Runs inside the sandbox of the unit and tries what is forbidden, and what must be possible; writes JSON."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library; raise OSError where it fails."""
    if getattr(LIBC, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write(path: str) -> None:
    """Change nothing of a file but that it is opened for writing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


def open_device(path: str) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def set_user_id() -> None:
    path = Path(os.environ["STATE_DIRECTORY"], "set-user-id")
    path.touch()
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


FORBIDDEN: dict[str, Callable[[], object]] = {
    "write to /etc": lambda: write("/etc/device-agent/config.yaml"),
    "write to the program": lambda: write("/opt/device-agent/bin/device-agent"),
    "put the board to sleep": lambda: write("/sys/power/state"),
    "read the key's own file": lambda: Path("/etc/credstore/device-agent.api_key").read_text(),
    "see a home": lambda: os.stat("/home/owner/diary"),
    "see process 1": lambda: os.stat("/proc/1/status"),
    "signal process 1": lambda: os.kill(1, 0),
    "open the disk": lambda: open_device("/dev/vda"),
    "open the serial port": lambda: open_device("/dev/ttyS1"),
    "read the kernel's log": lambda: os.open("/dev/kmsg", os.O_RDONLY),
    "set a kernel's knob": lambda: Path("/proc/sys/kernel/panic").write_text("0"),
    "memory to write and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a user namespace": lambda: call("unshare", CLONE_NEWUSER),
    "a mount namespace": lambda: call("unshare", CLONE_NEWNS),
    "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "become root": lambda: os.setuid(0),
    "set-user-id files": set_user_id,
    "real-time scheduling": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "set the clock": lambda: call("settimeofday", bytes(16), None),
    "rename the host": lambda: socket.sethostname("mine"),
    "trace a process": lambda: call("ptrace", 0, 0, 0, 0),
    "swap off": lambda: call("swapoff", b"/none"),
}
NEEDED: dict[str, Callable[[], object]] = {
    "sound": lambda: open_device("/dev/snd/controlC0"),
    "pins": lambda: open_device("/dev/gpiochip0"),
    "network": lambda: socket.create_connection(("127.0.0.1", 9100), 5).close(),
    "IPv6": lambda: socket.socket(socket.AF_INET6).close(),
    "what it remembers": lambda: os.listdir(os.environ["STATE_DIRECTORY"]),
    "a pipe where it works": lambda: os.mkfifo("pipe"),
    "temporary files": lambda: write("/tmp/walls"),  # noqa: S108  it is private
    "which board this is": lambda: Path("/proc/cpuinfo").read_text(),
    "its key": lambda: Path(os.environ["CREDENTIALS_DIRECTORY"], "api_key").read_text(),
    "a library's callback": lambda: ctypes.CFUNCTYPE(None)(lambda: None)(),
}


def outcome(attempt: Callable[[], object]) -> str:
    """Return why *attempt* failed, or an empty string."""
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  whatever the wall says
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    """Try everything, and tell why what failed did."""
    kinds = {"forbidden": FORBIDDEN, "needed": NEEDED}
    tried = {kind: {name: outcome(attempt) for name, attempt in attempts.items()} for kind, attempts in kinds.items()}
    print(json.dumps(tried))


if __name__ == "__main__":
    main()
