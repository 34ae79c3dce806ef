"""The unit, for real: a machine boots Debian and systemd, and the speaker that is installed proves itself in it.

    python tests/system/unit/machine.py [--keep FOLDER]

A virtual machine without network, clock or sound card; with pins that can be pressed and a card that can be plugged in.
``base.sh`` makes its disk, once, and this installs the program on it by systemd/install.sh, boots it and shows what
``proof.py`` says inside. Ends with 0 when all of it held.

Wants root, on Debian 12 on x86-64, and mmdebstrap and qemu-system-x86. The processor is made of software: KVM is not
everywhere, and where it is nested it may hang.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
LONGEST_S = 600.0
"""A machine that has said nothing more after so long is switched off."""
SHIPPED = ("device_agent", "systemd", "config.yaml", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
PINS = "/opt/device-agent/bin/python $(ls /usr/share/python-wheels/pip-*.whl)/pip install lgpio"
"""On a Raspberry Pi they come from the system; Debian 12 has none."""
DISK_MB = 2048
MACHINE = [
    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"),
    *("-M", "q35", "-cpu", "max", "-smp", "2", "-m", "1024", "-accel", "tcg,thread=multi"),
    *("-rtc", "base=2001-01-01T00:00:00", "-device", "virtio-rng-pci"),
]
KERNEL = "root=/dev/vda rw console=ttyS0 quiet loglevel=4 mitigations=off net.ifnames=0"


def main() -> int:
    """Make what is missing, install, boot, show; return the exit status."""
    parser = argparse.ArgumentParser(description="Prove the systemd unit in a virtual machine.")
    parser.add_argument("--keep", type=Path, default=PROJECT / "build" / "unit", help="where to build; it is kept")
    keep: Path = parser.parse_args().keep.resolve()
    if os.geteuid() != 0:
        print("this installs a Debian: run it as root", file=sys.stderr)
        return 2
    keep.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    make_base(keep)
    make_wheels(keep)
    disk = install(keep)
    print(f"the machine is built, {time.monotonic() - began:.0f} s", flush=True)
    return boot(keep, disk)


def make_base(keep: Path) -> None:
    """Have the disk of a machine without the program, made as base.sh says now."""
    with made_from(HERE / "base.sh", keep) as stale:
        if stale:
            with open(keep / "base.log", "wb") as log:
                subprocess.run([HERE / "base.sh", keep], check=True, stdout=log, stderr=subprocess.STDOUT)


def make_wheels(keep: Path) -> None:
    """Have all that the program depends on, built with Debian's own Python as it is in the machine."""
    with made_from(PROJECT / "setup.cfg", keep) as stale, tempfile.TemporaryDirectory(dir=keep) as scratch:
        if stale:
            subprocess.run(["/usr/bin/python3", "-m", "venv", scratch], check=True)
            ship(Path(scratch, "src"))
            wanted = [f"{scratch}/src[simulator]", "lgpio", "setuptools", "wheel"]
            subprocess.run([f"{scratch}/bin/pip", "wheel", "-qq", "-w", f"{scratch}/wheels", *wanted], check=True)
            for own in Path(scratch, "wheels").glob("device_agent-*"):
                own.unlink()
            shutil.rmtree(keep / "wheels", ignore_errors=True)
            shutil.move(f"{scratch}/wheels", keep / "wheels")


@contextmanager
def made_from(recipe: Path, keep: Path) -> Iterator[bool]:
    """Yield whether what *recipe* describes was made from another one, or never; a copy of it tells."""
    copy = keep / recipe.name
    stale = not copy.exists() or copy.read_bytes() != recipe.read_bytes()
    yield stale
    if stale:
        shutil.copy(recipe, copy)


def install(keep: Path) -> Path:
    """Return a disk with the program on it, installed as a user does it."""
    disk = keep / "disk.img"
    with tempfile.TemporaryDirectory(dir=keep) as root:
        subprocess.run(["tar", "-xf", keep / "base.tar", "-C", root], check=True)
        shutil.copytree(keep / "wheels", f"{root}/wheels")
        ship(Path(root, "src"))
        Path(root, "root", "xai.key").write_text(f"xai-{secrets.token_hex(16)}\n")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "KEY_FILE": "/root/xai.key", **OFFLINE}
        with open(keep / "install.log", "wb") as log:
            for command in ("/src/systemd/install.sh", PINS):
                inside = ["chroot", root, "sh", "-c", command]
                subprocess.run(inside, check=True, env=environment, stdout=log, stderr=log)
        shutil.copytree(HERE / "root", root, dirs_exist_ok=True)
        for name in ("proof.py", "walls.py"):
            shutil.copy(HERE / name, f"{root}/usr/local/lib/{name}")
        for name in ("proof.service", "board.service"):
            subprocess.run(["chroot", root, "systemctl", "-q", "enable", name], check=True)
        for folder in ("wheels", "src"):
            shutil.rmtree(f"{root}/{folder}")
        disk.unlink(missing_ok=True)
        with open(disk, "wb") as file:
            file.truncate(DISK_MB << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root, disk], check=True)
    return disk


def ship(target: Path) -> None:
    """Copy the project as a user downloads it."""
    target.mkdir()
    for name in SHIPPED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def boot(keep: Path, disk: Path) -> int:
    """Run the machine, and show what it says on its second serial port; return its verdict."""
    machine = subprocess.Popen(
        [
            *MACHINE,
            *("-kernel", f"{keep}/vmlinuz", "-initrd", f"{keep}/initrd.img", "-append", KERNEL),
            *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
            *("-serial", f"file:{keep}/console.log", "-serial", "stdio"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    clock = threading.Timer(LONGEST_S, machine.kill)
    clock.start()
    verdict = ""
    try:
        assert machine.stdout is not None
        for line in machine.stdout:
            print(line.rstrip(), flush=True)
            verdict = line.rstrip() or verdict
    finally:
        clock.cancel()
        machine.kill()
        machine.wait()
    if not verdict.startswith("all "):
        print(f"it did not hold; the console of the machine is in {keep}/console.log", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
