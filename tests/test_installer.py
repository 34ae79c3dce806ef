"""What the installer's files say to each other. That it installs is proved in clean Debians: make test-install."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

SYSTEMD = Path(__file__).parent.parent / "systemd"


def place(name: str) -> str:
    """Return where places.sh says that something is."""
    return re.search(rf"^{name}=(\S+)", (SYSTEMD / "places.sh").read_text(), re.MULTILINE)[1]  # type: ignore[index]


def test_the_unit_starts_what_is_installed() -> None:
    """The service is the program in its place, with the settings in theirs, as its own user."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SYSTEMD / "device-agent.service")

    assert unit["Service"]["ExecStart"] == f"{place('program')}/bin/device-agent run --config {place('config')}"
    assert unit["Service"]["User"] == place("user")
    assert (SYSTEMD / "device-agent.sysusers.conf").read_text().count(f"u {place('user')} ") == 1


def test_the_package_is_built_with_what_the_installer_takes_of_the_system() -> None:
    """Both make the same tree, so both want the same packages of Debian, but for the tools that do it."""
    installer = re.search(r'^PACKAGES="(.*)"', (SYSTEMD / "install.sh").read_text(), re.MULTILINE)
    control = (SYSTEMD / "debian/control").read_text()
    build = re.search(r"^Build-Depends:\n((?: .*\n?)+)", control, re.MULTILINE)

    assert installer
    assert build
    everywhere = {line.strip(" ,") for line in build[1].splitlines() if "[" not in line}
    assert everywhere - {"debhelper-compat (= 13)"} == set(installer[1].split()) - {"systemd"}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own are closed to all but one."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_nobody_but_root_installs(script: str, open_folder: Path) -> None:
    """Who may not change the system is told so, before anything is changed."""
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    copy = shutil.copytree(SYSTEMD, open_folder / "systemd")  # a checkout may be where only root can look
    done = subprocess.run([*nobody, copy / script], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "This changes the system: run it with sudo.\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can see who is locked out")
def test_nobody_but_root_can_hold_up_an_installation(open_folder: Path) -> None:
    """The lock is where only root can make it, and only root can open it: to open a file is enough to lock it."""
    lock = Path(place("lock"))
    assert lock.parent == Path("/run")
    places = (SYSTEMD / "places.sh").read_text().replace(str(lock), str(open_folder / "lock"))
    (open_folder / "places.sh").write_text(places)
    installer = subprocess.Popen(
        ["bash", "-c", f". {open_folder}/places.sh; dpkg-query() {{ :; }}; begin; echo begun; read -r"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert installer.stdout
    assert installer.stdout.readline() == "begun\n"
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
    for how in ("9<", "9>"):
        tried = subprocess.run([*nobody, "sh", "-c", f"exec {how}{open_folder}/lock"], capture_output=True, text=True)
        assert "ermission denied" in tried.stderr
    second = subprocess.run(
        ["bash", "-c", f". {open_folder}/places.sh; begin"], capture_output=True, text=True, check=False
    )
    assert second.stderr == "Another installation is under way.\n"
    installer.communicate("\n")


def test_whatever_the_unit_is_shown_a_purge_takes_away() -> None:
    unit = (SYSTEMD / "device-agent.service").read_text()
    shown = re.findall(r"^LoadCredential=\w+:(.*)$", unit, re.MULTILINE)
    assert shown
    for script in ("uninstall.sh", "debian/device-agent.postrm"):
        removed = re.search(r'(?:\$keys"|/etc/credstore)/(device-agent\S*\*\S*)', (SYSTEMD / script).read_text())
        assert removed
        assert all(fnmatch(name, removed[1]) for name in shown), script
