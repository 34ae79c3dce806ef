"""What the installer's files say to each other. That it installs is proved in clean Debians: make test-install."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from device_agent.config.rules import EXTRAS
from tests.support.paths import ROOT

SYSTEMD = ROOT / "systemd"
ADVICE = {True: "run it with sudo", False: "become root first (su -), and try again"}
"""Whether there is sudo -> how to become root."""


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
def test_only_root_installs(script: str, open_folder: Path) -> None:
    """A user who may not change the system is told so before anything is changed."""
    as_user = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    copy = shutil.copytree(SYSTEMD, open_folder / "systemd")  # a checkout may be where only root can look
    done = subprocess.run([*as_user, copy / script], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"This changes the system: {ADVICE[bool(shutil.which('sudo'))]}.\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can see who is locked out")
def test_only_root_can_hold_up_an_installation(open_folder: Path) -> None:
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
    as_user = ["setpriv", "--reuid=65534", "--clear-groups"]
    for how in ("9<", "9>"):
        tried = subprocess.run([*as_user, "sh", "-c", f"exec {how}{open_folder}/lock"], capture_output=True, text=True)
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


# Extras ---------------------------------------------------------------------------------------------------------------


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-euc", script], capture_output=True, text=True, env={**os.environ, **env})


def with_extras(have: str, changes: str) -> subprocess.CompletedProcess[str]:
    return shell(f". {SYSTEMD}/extras.sh; source={ROOT}; add_extras '{have}' '{changes}'")


@pytest.mark.parametrize(
    ("have", "changes", "expected"),
    [
        ("simulator", "", "simulator"),
        ("simulator,metrics", "mqtt", "simulator,metrics,mqtt"),
        ("simulator", "simulator,echo", "simulator,echo"),
        ("simulator,mqtt,echo", "-mqtt", "simulator,echo"),
        ("simulator", "-mqtt", "simulator"),
        ("simulator", "-simulator", ""),
        ("", "echo,-echo,mqtt", "mqtt"),
    ],
)
def test_extras_add_up(have: str, changes: str, expected: str) -> None:
    done = with_extras(have, changes)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")


@pytest.mark.parametrize("wrong", ["mqt", "test", "-mqt", "echo,mqt"])
def test_an_extra_that_there_is_not_is_refused_with_those_that_there_are(wrong: str) -> None:
    done = with_extras("simulator", wrong)
    assert done.returncode == 1
    assert "There are: simulator echo metrics mqtt" in done.stderr


def test_what_a_setting_may_need_is_an_extra() -> None:
    known = shell(f". {SYSTEMD}/extras.sh; source={ROOT}; known_extras").stdout.split()
    assert {extra for extra, _, _ in EXTRAS.values()} < set(known)


def test_the_installer_reads_from_the_settings_which_extras_they_need(tmp_path: Path) -> None:
    """With the system's own Python, before anything is built, and leaving nothing in the source."""
    config = tmp_path / "config.yaml"
    config.write_text("metrics: {port: 9105}\nmqtt: {host: broker}\necho: {mode: cancel}\n")
    asked = f"source={ROOT} config={config} EXTRAS=simulator,mqtt; add_what_the_settings_need; echo =$EXTRAS="
    script = (SYSTEMD / "install.sh").read_text().replace("\nmain\n", f"\n{asked}\n")
    (tmp_path / "install.sh").write_text(script.replace("/usr/bin/python3", sys.executable))
    for name in ("places.sh", "apt.sh", "extras.sh"):
        shutil.copy(SYSTEMD / name, tmp_path)
    done = shell(f"bash {tmp_path}/install.sh")
    assert done.stderr == ""
    assert "=simulator,mqtt,echo,metrics=" in done.stdout
    assert f"added the extra metrics, which metrics.port in {config} needs" in done.stdout
    assert "the extra mqtt" not in done.stdout
    config.write_text("metrics: {prot: 9105}\n")
    assert shell(f"bash {tmp_path}/install.sh").stdout == "=simulator,mqtt=\n"


# System packages ------------------------------------------------------------------------------------------------------


def tools(folder: Path, **scripts: str) -> str:
    """Make programs of that name in *folder*; return a PATH that has these and what a shell needs."""
    for name in ("bash", "env", "id", "cat"):
        (folder / name).symlink_to(shutil.which(name) or "")
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_packages_that_are_there_are_no_word_and_no_apt(tmp_path: Path) -> None:
    path = tools(tmp_path, **{"dpkg-query": "echo installed", "apt-get": "exit 9"})
    done = shell(f"{SYSTEMD}/apt.sh gcc make", PATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_line_says_what_is_installed_and_apt_is_heard_only_where_it_fails(tmp_path: Path) -> None:
    path = tools(tmp_path, **{"dpkg-query": "exit 1", "apt-get": "echo noise; echo debconf >&2", "sudo": '"$@"'})
    done = shell(f"{SYSTEMD}/apt.sh gcc make", PATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Installing system packages: gcc make ...\n", "")
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho no room on the disk >&2\nexit 100\n")
    failed = shell(f"{SYSTEMD}/apt.sh gcc", PATH=path)
    assert failed.returncode == 1
    assert "no room on the disk" in failed.stderr
    assert "System packages could not be installed" in failed.stderr


def test_without_sudo_it_is_said_how_to_become_root(tmp_path: Path) -> None:
    path = tools(tmp_path, **{"dpkg-query": "exit 1", "apt-get": "exit 9"})
    (tmp_path / "id").unlink()
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = shell(f"{SYSTEMD}/apt.sh gcc", PATH=path)
    assert done.returncode == 1
    assert "You are not root, and sudo is not installed. Become root first (su -), and try again." in done.stderr
    assert "not found" not in done.stderr
