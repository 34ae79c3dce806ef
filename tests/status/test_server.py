"""Looking at the running agent, through a real socket."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from device_agent.runtime import paths
from device_agent.status import server
from device_agent.status.server import MAX_VIEWERS, SNAPSHOT, WATCH, StatusServer
from tests.support.status import PATIENCE_S, Statue, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "status.sock"


class Viewer:
    """A viewer: a client of the status socket."""

    def __init__(self, path: Path, says: bytes = b"") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(path))
        self._lines = self.sock.makefile("rb")
        with suppress(BrokenPipeError):  # disconnected already, as ``device-agent status`` may be
            self.sock.sendall(says)

    def hears(self) -> dict[str, Any] | None:
        """Return the next line; None when the server has closed the connection."""
        try:
            line = self._lines.readline()
        except ConnectionError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def leaves(self) -> None:
        self._lines.close()
        self.sock.close()


def test_a_viewer_that_asks_is_shown_one_snapshot(path):
    with opened(path) as statue:
        viewer = Viewer(path, SNAPSHOT)
        answer = viewer.hears()
        assert answer is not None
        assert (answer["number"], answer["levels"]) == (1, None)
        assert viewer.hears() is None
        assert not statue.listening


def test_a_viewer_that_watches_is_shown_one_after_the_other(path):
    with opened(path) as statue:
        viewer = Viewer(path, WATCH)
        numbers = [answer["number"] for answer in (viewer.hears() for _ in range(4)) if answer is not None]
        assert numbers == [1, 2, 3, 4]
        assert statue.listening
        viewer.leaves()
        statue.until(lambda: not statue.listening)


def test_levels_are_for_viewers_that_watch(path):
    with opened(path):
        answer = Viewer(path, WATCH).hears()
        assert answer is not None
        assert answer["levels"] == {"microphone": -20.0, "speaker": -96.0}


def test_all_viewers_that_watch_are_shown_the_same(path):
    with opened(path) as statue:
        viewers = [Viewer(path, WATCH) for _ in range(MAX_VIEWERS)]
        for viewer in viewers:
            assert viewer.hears()
        viewers[0].leaves()
        assert viewers[1].hears()
        assert statue.listening
        assert statue.shown < 20


def test_no_snapshot_is_made_while_no_viewer_watches(path):
    with opened(path) as statue:
        viewer = Viewer(path)  # sends nothing
        Viewer(path, SNAPSHOT).hears()
        assert (statue.shown, statue.listening) == (1, False)
        viewer.leaves()


def test_only_a_few_may_look(path):
    with opened(path):
        viewers = [Viewer(path, WATCH) for _ in range(MAX_VIEWERS)]
        for viewer in viewers:
            viewer.hears()
        late = Viewer(path)
        assert late.hears() == {"error": f"{MAX_VIEWERS} others are reading the status already"}
        assert late.hears() is None
        viewers[0].leaves()
        answers = (Viewer(path, SNAPSHOT).hears() for _ in range(100))  # soon the server has seen that it left
        assert any("number" in answer for answer in answers if answer is not None)


@pytest.mark.parametrize(
    "garbage", [b"mute\n", b"\n", b"{}\n", b"snapshot", b"x" * 64, b"watch\nwatch\n", os.urandom(60) + b"\n"]
)
def test_nothing_else_can_be_said(path, garbage, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.05)
    with opened(path) as statue:
        viewer = Viewer(path, garbage)
        assert viewer.hears() in (None, {"error": "ask for snapshot or watch"})
        assert viewer.hears() is None
        assert statue.shown == 0
        assert Viewer(path, SNAPSHOT).hears()


def test_a_viewer_that_watches_and_sends_more_is_disconnected(path):
    with opened(path) as statue:
        viewer = Viewer(path, WATCH)
        assert viewer.hears()
        viewer.sock.sendall(b"mute\n")
        while viewer.hears():
            pass
        statue.until(lambda: not statue.listening)


def test_a_request_may_come_in_pieces(path):
    with opened(path):
        viewer = Viewer(path, SNAPSHOT[:3])
        viewer.sock.sendall(SNAPSHOT[3:])
        assert viewer.hears()


def test_a_viewer_that_reads_nothing_holds_up_no_other(path, monkeypatch):
    """The snapshot is larger than what a socket holds; the slow viewer is left behind, the other sees all."""
    monkeypatch.setattr(server, "SEND_TIMEOUT_S", 0.5)
    with opened(path, Statue(size=1_000_000)) as statue:
        slow = Viewer(path, WATCH)
        statue.until(lambda: statue.shown > 0)
        quick = Viewer(path, WATCH)
        numbers = [answer["number"] for answer in (quick.hears() for _ in range(10)) if answer is not None]
        assert numbers == list(range(numbers[0], numbers[0] + 10))
        taken = b"".join(iter(lambda: slow.sock.recv(1 << 16), b""))
        assert len(taken) < 1_000_000  # a part of the first, and then the end


def test_a_busy_viewer_misses_some_and_gets_the_rest_whole(path):
    with opened(path, Statue(size=1_000_000)) as statue:
        viewer = Viewer(path, WATCH)
        statue.until(lambda: statue.shown > 3)
        first, second = viewer.hears(), viewer.hears()
        assert first is not None
        assert second is not None
        assert second["number"] > first["number"] + 1


def test_what_a_crashed_process_left_is_replaced(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        Viewer(path)
    path.chmod(server.SOCKET_MODE - 0o200)
    with opened(path):
        assert Viewer(path, SNAPSHOT).hears()


def test_an_agent_that_runs_is_not_robbed(path, caplog):
    with opened(path) as first:
        with opened(path) as second:
            assert Viewer(path, SNAPSHOT).hears()
            assert (first.shown, second.shown) == (1, 0)
        assert Viewer(path, SNAPSHOT).hears()
    assert "another running device-agent" in caplog.text
    with opened(path):
        assert Viewer(path, SNAPSHOT).hears()


def test_a_lock_on_the_folder_does_not_keep_it_closed(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with opened(path):
        assert Viewer(path, SNAPSHOT).hears()
    os.close(folder)


def test_only_the_group_may_look_whatever_the_umask(path):
    for mask in (0o077, 0o000):
        before = os.umask(mask)
        try:
            with opened(path):
                assert stat.S_IMODE(path.stat().st_mode) == 0o660
                assert stat.S_IMODE(path.with_suffix(".lock").stat().st_mode) == 0o600, "who opens it can lock it"
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        finally:
            os.umask(before)


def test_a_closed_window_leaves_nothing(path):
    with opened(path):
        viewer = Viewer(path, WATCH)
        assert viewer.hears()
    while viewer.hears():
        pass
    assert [each.name for each in path.parent.iterdir()] == ["status.lock"]


def test_where_there_can_be_no_window_there_is_none(tmp_path, caplog):
    (tmp_path / "file").touch()
    long = tmp_path / ("x" * 120) / "status.sock"
    for path in (tmp_path / "file" / "status.sock", long):
        made = StatusServer(Statue(), path)
        made.run(threading.Event())
        made.wake()
    assert caplog.text.count("device-agent status will show nothing") == 2


def test_it_is_where_the_unit_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/device-agent:/run/other")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/device-agent")
    assert str(paths.status_path()) == "/run/device-agent/status.sock"
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert str(paths.status_path()) == "/run/user/1000/device-agent/status.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(paths.status_path()) == "/var/lib/device-agent/status.sock"
