"""What the service manager is told, and the unit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest

from device_agent.config.credentials import MQTT_PASSWORD, TOKEN_KEY, credential_names
from device_agent.runtime.systemd import notify
from device_agent.services.registry import SERVICES
from device_agent.simulator import Simulator
from tests.support.agent_process import PATIENCE_S, ROOM, running, write_config
from tests.support.paths import ROOT

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
UNIT = ROOT / "systemd" / "device-agent.service"


@pytest.fixture
def manager(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_fields_are_lines(manager):
    notify(READY=1, STATUS="all is well")
    assert manager.recv(4096) == b"READY=1\nSTATUS=all is well"


def test_only_what_the_manager_must_not_miss_is_waited_for(manager, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(socket.socket, "settimeout", lambda _sock, seconds: waits.append(seconds))
    notify(STATUS="ready", WATCHDOG=1)
    notify(READY=1)
    assert manager.recv(4096) == b"STATUS=ready\nWATCHDOG=1"
    assert waits == [0.0, 1.0]


def test_an_abstract_address_begins_with_an_at_sign(monkeypatch):
    name = f"device-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify(WATCHDOG=1)
        assert sock.recv(4096) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    notify(READY=1)


def test_the_agent_says_ready_once_then_feeds_the_watchdog_and_says_goodbye(tmp_path, manager):
    with (
        Simulator() as simulator,
        running("run", "--config", write_config(tmp_path, simulator.url, sound=ROOM)) as agent,
    ):
        told = [manager.recv(4096) for _ in range(4)]
        assert told.count(b"READY=1") == 1
        assert b"STATUS=ready" in told
        assert b"WATCHDOG=1" in told
        agent.end(15)
        while (last := manager.recv(4096)) == b"WATCHDOG=1":
            pass
        assert last == b"STOPPING=1"


# The unit; tests/unit proves it in a machine --------------------------------------------------------------------------


@needs_systemd
def test_the_unit_is_well_formed(tmp_path):
    unit = tmp_path / UNIT.name  # systemd-analyze wants the program to be there
    unit.write_text(UNIT.read_text().replace("/opt/device-agent/bin/device-agent", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    ours = [line for line in (verified.stdout + verified.stderr).splitlines() if UNIT.name in line]
    assert (verified.returncode, ours) == (0, [])


@needs_systemd
def test_the_unit_is_exposed_no_more_than_it_must_be():
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", UNIT],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout


def test_nothing_that_may_be_missing_keeps_the_unit_from_starting():
    """A group that is not there would, and so would a credential with a path, or a wait for what may never come."""
    said = settings()
    assert "SupplementaryGroups" not in said
    assert not [loaded for loaded in said["LoadCredential"] if "/" in loaded]
    assert said["After"] == ["network.target sound.target"]  # neither waits for anything
    assert not said.keys() & {"Requires", "Wants", "BindsTo", "Requisite", "ConditionPathExists", "EnvironmentFile"}
    assert (said["Restart"], said["StartLimitIntervalSec"]) == (["always"], ["0"])


def test_each_service_may_have_a_credential_of_its_own():
    loaded = dict(credential.split(":") for credential in settings()["LoadCredential"])
    keys = {name for service in SERVICES for name in credential_names(service)}
    assert loaded == {name: f"device-agent.{name}" for name in keys | {TOKEN_KEY, MQTT_PASSWORD}}


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="there is no systemd-sysusers here")
def test_the_user_of_the_unit_is_made_with_the_groups_that_own_cards_and_pins(tmp_path):
    (tmp_path / "etc").mkdir()
    made = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", UNIT.with_name("device-agent.sysusers.conf")],
        capture_output=True,
        text=True,
    )
    if made.returncode and os.geteuid() != 0:
        pytest.skip(f"only root can try this: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr

    groups = [line.split(":") for line in (tmp_path / "etc" / "group").read_text().splitlines()]
    assert settings()["User"] == ["device-agent"]
    assert {name for name, *_, members in groups if "device-agent" in members.split(",")} == {"audio", "gpio"}


def settings() -> dict[str, list[str]]:
    """Return what the unit says: each name with all that it is set to."""
    said: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            said.setdefault(name, []).append(value)
    return said
