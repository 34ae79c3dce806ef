"""What the service manager is told, and the unit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_commands import PATIENCE_S, ROOM, running, write_config

from device_agent.simulator import Simulator
from device_agent.systemd import notify

UNIT = Path(__file__).parent.parent / "systemd" / "device-agent.service"


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


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_the_unit_is_well_formed(tmp_path):
    unit = tmp_path / UNIT.name  # systemd-analyze wants the program to be there
    unit.write_text(UNIT.read_text().replace("/opt/device-agent/bin/device-agent", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    ours = [line for line in (verified.stdout + verified.stderr).splitlines() if UNIT.name in line]
    assert (verified.returncode, ours) == (0, [])
