"""``device-agent status``: asking the running agent, and what is said when there is none."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from device_agent.cli import main
from device_agent.core.events import PlaybackEnded
from device_agent.runtime import paths
from device_agent.simulator import Simulator
from device_agent.state.store import StateStore
from device_agent.status import client as guest
from device_agent.status import command
from device_agent.status.client import StatusUnavailable, fetch_snapshot
from device_agent.status.command import ChangeLines
from device_agent.status.server import MAX_VIEWERS, WATCH
from device_agent.telemetry.statistics import Statistics
from tests.support.agent_process import ROOM, running, write_config
from tests.support.room import Room
from tests.support.status import Talker, opened


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the status socket of this test's agent, and of no other."""
    for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(paths, "UNIT_SOCKET", tmp_path / "unit.sock")
    return tmp_path / "device-agent" / "status.sock"


def test_for_machines_it_is_one_snapshot(path, capsys):
    with opened(path):
        assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["number"] == 1


def test_without_an_agent_it_says_so(path, capsys):
    assert main(["status"]) == 1
    assert main(["status", "--json"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("no device-agent is running here\n")


def test_what_a_crashed_agent_left_is_no_agent(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    with pytest.raises(StatusUnavailable, match="no device-agent is running here"):
        fetch_snapshot(paths.status_paths())


def test_the_agent_of_the_unit_is_seen_where_there_is_none_of_ours(path, tmp_path):
    with opened(tmp_path / "unit.sock"):
        assert fetch_snapshot(paths.status_paths())["number"] == 1
        with opened(path, Talker(number="ours")):
            assert fetch_snapshot(paths.status_paths())["number"] == "ours"


def test_a_user_without_access_is_told_how_to_get_it(path):
    with opened(path), unprivileged(path):
        with pytest.raises(StatusUnavailable) as told:
            fetch_snapshot([path])
    assert str(told.value).startswith("You are not root. Repeat with sudo: sudo device-agent status ")
    assert "\n" not in str(told.value)
    assert "usermod -aG" in str(told.value)


@contextmanager
def unprivileged(path: Path) -> Iterator[None]:
    """Be a user without access to *path*; root always has access, so be no root."""
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        for parent in path.parents[:4]:
            parent.chmod(0o755)
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_too_many_hear_why_they_see_nothing(path):
    with opened(path) as statue:
        streams = [guest.StatusStream([path], WATCH) for _ in range(MAX_VIEWERS)]
        for stream in streams:
            stream.next()
        with pytest.raises(StatusUnavailable, match=f"{MAX_VIEWERS} others are reading the status already"):
            fetch_snapshot([path])
        for stream in streams:
            with stream:
                pass
        statue.until(lambda: not statue.listening)


@contextmanager
def stranger(path: Path, says: bytes, *, leaves: bool = True) -> Iterator[None]:
    """Something else sits where the window should be."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()

        def answer() -> None:
            guest, _ = door.accept()
            with guest:
                guest.sendall(says)
                if not leaves:
                    guest.recv(1000)
                    guest.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"", "has ended|broke"),
        (b'{"half": ', "has ended|broke"),
        (b"nonsense\n", "cannot be understood"),
        (b"[1, 2]\n", "cannot be understood"),
        (b"[" * 100_000 + b"\n", "cannot be understood"),
    ],
)
def test_a_stranger_is_not_believed(path, says, told):
    with stranger(path, says), pytest.raises(StatusUnavailable, match=told):
        fetch_snapshot([path])


def test_an_agent_that_hangs_is_not_waited_for(path, monkeypatch):
    monkeypatch.setattr(guest, "ANSWER_TIMEOUT_S", 0.05)
    with stranger(path, b"", leaves=False), pytest.raises(StatusUnavailable, match="does not answer within 0.05 s"):
        fetch_snapshot([path])


def test_an_agent_that_accepts_no_connection_hangs(path):
    path.parent.mkdir()
    with ExitStack() as owned:
        door = owned.enter_context(socket.socket(socket.AF_UNIX))
        door.bind(str(path))
        door.listen(0)
        with pytest.raises(StatusUnavailable, match="accepts no connection"):
            for _ in range(5):
                owned.enter_context(guest.StatusStream([path]))


def test_an_answer_without_end_is_not_read(path, monkeypatch):
    monkeypatch.setattr(guest, "MAX_STATUS_BYTES", 10_000)
    with stranger(path, b"x" * 10_001, leaves=False), pytest.raises(StatusUnavailable, match="does not end"):
        fetch_snapshot([path])


def test_no_terminal_is_given_orders(path):
    with opened(path, Talker(service="\x1b[2Jxai", turns=[{"outcome": "a\x07b"}])):
        snapshot = fetch_snapshot([path])
    assert snapshot["service"] == r"\x1b[2Jxai"
    assert snapshot["turns"] == [{"outcome": r"a\x07b"}]


@pytest.mark.parametrize(
    ("told", "sentences"),
    [
        (
            {"ActiveState": "inactive", "SubState": "dead", "ExecMainStatus": "0"},
            ["is inactive (dead)", "Start it: sudo systemctl start device-agent"],
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "78"},
            ["is activating (auto-restart)", "What is wrong, and what to do: sudo device-agent check"],
        ),
        (
            {"ActiveState": "active", "SubState": "running", "ExecMainStatus": "0", "StatusText": "starting"},
            ['is active (running), it says "starting"', "journalctl -u device-agent"],
        ),
    ],
)
def test_what_systemd_says_of_the_unit_is_explained(told, sentences):
    for line, sentence in zip(guest._explained(told), sentences, strict=True):
        assert sentence in line


# Lines ----------------------------------------------------------------------------------------------------------------


def seen(uptime: float, mood: str = "ready", *turns: tuple[float, str], service: str = "") -> dict[str, Any]:
    """Return a snapshot in which turns began at some second."""
    return {
        "at": 1_800_000_000.0 + uptime,
        "uptime_s": uptime,
        "mood": mood,
        "service": service,
        "turns": [
            {"ago_s": round(uptime - began, 1), "segments": [["listening", 1.5]], "outcome": outcome, "wait_ms": 812.4}
            for began, outcome in turns
        ],
    }


def told(lines: ChangeLines, snapshot: dict[str, Any]) -> list[str]:
    return [line[10:] for line in lines.changes(snapshot)]


def test_each_change_is_a_line():
    lines = ChangeLines()
    assert told(lines, seen(10.0, "ready", (5.0, "answered"))) == ["ready"]  # what was before is no news
    assert told(lines, seen(11.0, "ready", (5.0, "answered"))) == []
    assert told(lines, seen(12.0, "listening", (5.0, "answered"), (11.9, "open"), service="xai")) == ["listening, xai"]
    assert told(lines, seen(15.04, "ready", (5.0, "answered"), (11.9, "interrupted"))) == [
        "a turn of 1.5 s: interrupted, the answer came after 812 ms",
        "ready",
    ]
    assert told(lines, seen(15.08, "ready", (5.0, "answered"), (11.9, "interrupted"))) == []


def test_another_agent_is_news():
    lines = ChangeLines()
    assert told(lines, seen(1000.0, "ready", (900.0, "answered"))) == ["ready"]
    assert lines.gone("the device-agent has ended", 0.0)[10:] == "the device-agent has ended"
    assert lines.gone("the device-agent has ended", 1.0) == ""
    assert told(lines, seen(2.0)) == ["ready"]
    assert told(lines, seen(9.0, "ready", (5.0, "given up"))) == [
        "a turn of 1.5 s: given up, the answer came after 812 ms"
    ]


# All of it ------------------------------------------------------------------------------------------------------------


def test_the_running_agent_is_seen(path):
    """The whole way: what happens in a room, through the window, onto a page."""
    memory = StateStore(None)
    with Simulator(key="k", think_s=0.05) as simulator:
        room = Room(simulator, memory=memory)
        statistics = Statistics(Path("config.yaml"), 0.06, began=0.0)
        statistics.attach(room.agent)
        room.agent._observers = (*room.agent._observers, statistics)
        began = time.monotonic()
        with room, opened(path, statistics):  # type: ignore[arg-type]
            with guest.StatusStream([path]) as stream:
                room.ask()
                loudest = {"microphone": -96.0, "speaker": -96.0}
                while (snapshot := stream.next())["counts"]["replies"] < 1 or snapshot["mood"] == "speaking":
                    loudest = {name: max(level, loudest[name]) for name, level in snapshot["levels"].items()}
                room.happened(PlaybackEnded)
            assert loudest["microphone"] > -30
            assert loudest["speaker"] > -40
            out = io.StringIO()
            assert command.status(out) == 0
            assert fetch_snapshot([path])["counts"]["turns"] == 1
    noted = memory.get("connected")["total"]  # the agent has ended in the middle of a connection
    assert 1 <= noted <= time.monotonic() - began + 1
    page = out.getvalue()
    assert "1 turn, 1 answer" in page
    assert "connected to xai at 127.0.0.1" in page
    assert "first sound arrives" in page


def wait_until_seen(at: list[Path]) -> None:
    """Wait until there is an agent that answers."""
    for _ in range(500):
        with suppress(StatusUnavailable):
            fetch_snapshot(at)
            return
        threading.Event().wait(0.02)


def test_the_daemon_has_a_window(tmp_path):
    (tmp_path / "run").mkdir()
    env = {"RUNTIME_DIRECTORY": str(tmp_path / "run"), "STATE_DIRECTORY": str(tmp_path / "state")}
    with Simulator() as simulator:
        price = "connection: {price_per_minute: 0.06, daily_minutes: 30}\n"
        config = write_config(tmp_path, simulator.url, sound=ROOM, extra=price)
        with running("run", "--config", config, env=env) as agent:
            agent.says("-> ready")
            at = [tmp_path / "run" / "status.sock"]
            wait_until_seen(at)
            assert stat.S_IMODE(at[0].stat().st_mode) == 0o660
            with guest.StatusStream(at) as stream:
                snapshot = next(each for each in (stream.next() for _ in range(100)) if each["mood"] == "ready")
            assert (snapshot["pid"], snapshot["state"], snapshot["volume"]) == (agent.process.pid, "ready", 100)
            assert snapshot["config"] == {"file": str(config), "state": "in use", "mistakes": []}
            assert snapshot["connected"]["price_per_minute"] == 0.06
            assert snapshot["connected"]["cap_s"] == 1800.0
            with guest.StatusStream(at) as stream:
                assert stream.next()["levels"] == {"microphone": -96.0, "speaker": -96.0}
                assert agent.end(signal.SIGTERM) == 0
                with pytest.raises(StatusUnavailable):
                    for _ in range(100):
                        stream.next()
        assert not at[0].exists()
    assert "a-key-that-is-secret" not in json.dumps(snapshot)


def test_the_daemon_imports_nothing_of_how_it_looks():
    code = "import sys, device_agent.app.daemon; print({'rich', 'device_agent.status.page'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_it_looks_where_the_agent_is(path):
    assert paths.status_path() == path
    assert paths.status_paths()[0] == path
