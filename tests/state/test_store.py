"""What survives a restart, with real files on a real disk."""

from __future__ import annotations

import json
import logging
import os
import queue
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.app.agent import Agent
from device_agent.app.assembly import Ports, build_device
from device_agent.config.model import ButtonConfig, Config, LightConfig
from device_agent.core.actions import Mute
from device_agent.core.redaction import Secret
from device_agent.runtime.paths import state_path
from device_agent.state import store as memory_module
from device_agent.state.alarms import MAX_ALARMS
from device_agent.state.store import MAX_STATE_BYTES, StateStore
from tests.support.room import RoomMicrophone, RoomSpeaker

PATIENCE_S = 20.0


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / "memory.json"


def complaints(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_was_put_is_there_after_a_restart(path):
    memory = StateStore(path)
    memory.put("volume", 60)
    memory.put("alarms", [{"name": "Müsli \udcff"}])
    memory.flush()
    again = StateStore(path)
    assert again.get("volume") == 60
    assert again.get("alarms") == [{"name": "Müsli \udcff"}]
    assert again.get("muted", False) is False


def test_without_a_path_it_remembers_until_the_end():
    memory = StateStore(None)
    memory.put("volume", 60)
    memory.flush()
    assert memory.get("volume") == 60


def test_only_its_owner_can_read_it(path):
    memory = StateStore(path)
    memory.put("volume", 60)
    path.parent.mkdir()
    path.with_name("memory.json.new").touch(mode=0o644)  # left behind by a power cut
    memory.flush()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["memory.json"]


def test_its_directory_is_made_when_it_is_needed_and_private(path):
    memory = StateStore(path)
    memory.flush()
    assert not path.parent.exists()
    memory.put("volume", 60)
    memory.flush()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_nothing_is_written_when_nothing_changed(path):
    memory = StateStore(path)
    memory.put("volume", 60)
    memory.flush()
    path.unlink()
    memory.put("volume", 60)
    memory.flush()
    assert not path.exists()
    memory.put("volume", 61)
    memory.flush()
    assert StateStore(path).get("volume") == 61


def test_a_value_is_copied_when_it_is_put_and_when_it_is_got():
    memory, given = StateStore(), {"names": ["tea"]}
    memory.put("x", given)
    given["names"].append("coffee")
    memory.get("x")["names"].append("milk")
    assert memory.get("x") == {"names": ["tea"]}


@pytest.mark.parametrize(
    "junk",
    [
        b"", b"{", b"[1]", b"3", b"null", b"\xff\xfe", b"\0" * 100, b'{"x": NaN}', b'{"x": 1e999}', b"[" * 9999,
        b'{"x": "' + b"y" * MAX_STATE_BYTES + b'"}', b'{"x": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda junk: repr(junk[:12]),
)  # fmt: skip
def test_a_broken_file_is_told_of_kept_aside_and_forgotten(path, junk, caplog):
    path.parent.mkdir()
    path.write_bytes(junk)
    memory = StateStore(path)
    assert memory.get("x") is None
    (complaint,) = complaints(caplog)
    assert str(path) in complaint
    assert path.with_name("memory.json.broken").read_bytes() == junk
    memory.put("volume", 60)
    memory.flush()
    assert StateStore(path).get("volume") == 60


def test_one_broken_file_is_kept(path):
    path.parent.mkdir()
    for junk in (b"first", b"second"):
        path.write_bytes(junk)
        StateStore(path)
    assert os.listdir(path.parent) == ["memory.json.broken"]
    assert path.with_name("memory.json.broken").read_bytes() == b"second"


@pytest.mark.parametrize("kind", ["directory", "pipe", "in a file"])
def test_what_is_no_file_is_told_of_and_no_reason_to_wait(path, kind, caplog):
    if kind == "directory":
        path.mkdir(parents=True)
    elif kind == "pipe":
        path.parent.mkdir()
        os.mkfifo(path)
    else:
        path.parent.write_text("")
    assert StateStore(path).get("x") is None
    assert len(complaints(caplog)) == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """A disk with room for the name of a file and no more. It is full for the whole process: keep it short."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_once_and_costs_nothing_else(path, caplog):
    memory = StateStore(path)
    with full_disk():
        for volume in range(10):
            memory.put("volume", volume)
            memory.flush()
    (complaint,) = complaints(caplog)
    assert "cannot be written: File too large" in complaint
    assert memory.get("volume") == 9
    assert os.listdir(path.parent) == []  # nothing half written
    memory.flush()
    assert StateStore(path).get("volume") == 9


def test_what_was_written_before_survives_a_disk_that_is_full(path):
    memory = StateStore(path)
    memory.put("volume", 60)
    memory.flush()
    memory.put("volume", 70)
    with full_disk():
        memory.flush()
    assert json.loads(path.read_bytes()) == {"volume": 60}


def test_a_new_trouble_is_told_again(path, caplog):
    memory = StateStore(path)
    for volume in (1, 2):
        path.parent.write_text("in the way")
        memory.put("volume", volume)
        memory.flush()
        path.parent.unlink()
        memory.flush()
        path.unlink()
        path.parent.rmdir()
    assert len(complaints(caplog)) == 2


def test_there_is_an_end_to_what_can_be_remembered():
    memory = StateStore()
    memory.put("x", "y" * (MAX_STATE_BYTES - 100))
    with pytest.raises(ValueError, match="too long to be stored"):
        memory.put("z", "y" * 200)
    assert memory.get("z") is None
    memory.put("x", 1)
    memory.put("z", "y" * 200)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", object()])
def test_what_is_no_json_is_refused_at_once(value):
    with pytest.raises((TypeError, ValueError)):
        StateStore().put("x", value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_whatever_is_put_comes_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("memory") / "m.json"
    memory = StateStore(path)
    for name, value in values.items():
        memory.put(name, value)
    memory.flush()
    again = StateStore(path)
    assert {name: again.get(name) for name in values} == values


@given(st.binary(max_size=60) | JSON.map(json.dumps).map(str.encode))
def test_whatever_is_in_the_file_it_begins(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("memory") / "m.json"
    path.write_bytes(raw)
    memory = StateStore(path)
    memory.put("x", 1)
    memory.flush()
    assert StateStore(path).get("x") == 1


WRITER = """
import sys
from pathlib import Path
from device_agent.state.store import StateStore
memory = StateStore(Path(sys.argv[1]))
for number in range(10**6):
    memory.put("numbers", [number] * 500)
    memory.flush()
    print(number, flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(path):
    for lines in (1, 7, 20, 33):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
            told = [int(process.stdout.readline()) for _ in range(lines)]
            process.kill()
        numbers = StateStore(path).get("numbers")
        assert len(numbers) == 500
        assert set(numbers) <= set(range(told[-1], told[-1] + 1000))
        assert not path.with_name("memory.json.broken").exists()


def test_many_threads_may_use_it(path):
    memory = StateStore(path)

    def work(name: str) -> None:
        for number in range(100):
            memory.put(name, number)
            memory.flush()

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    again = StateStore(path)
    assert [again.get(f"t{n}") for n in range(8)] == [99] * 8


class Disk:
    """Counts what reaches the disk, and says so."""

    def __init__(self, monkeypatch) -> None:
        self.writes: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self._replace = memory_module._replace
        monkeypatch.setattr(memory_module, "_replace", self.replace)

    def replace(self, path: Path, document: bytes) -> None:
        self._replace(path, document)
        self.writes.put(json.loads(document))

    def next(self) -> dict:
        return self.writes.get(timeout=PATIENCE_S)


class Keeper:
    """A keeper in its thread."""

    def __init__(self, memory: StateStore) -> None:
        self._memory, self._stopping = memory, threading.Event()
        self._thread = threading.Thread(target=memory.keep, args=(self._stopping,))

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._memory.wake()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


class Slowly(threading.Event):
    """What the keeper settles by, and the time that passes meanwhile: as long as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self.passed = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.put(timeout)
        assert self.passed.acquire(timeout=PATIENCE_S)
        return self.is_set()


def test_the_keeper_writes_what_is_put_and_a_knob_that_turns_is_one_write(path, monkeypatch):
    disk, memory, time, stopping = Disk(monkeypatch), StateStore(path), Slowly(), threading.Event()
    memory._soon = time
    keeper = threading.Thread(target=memory.keep, args=(stopping,), daemon=True)
    keeper.start()
    memory.put("volume", 1)
    assert time.waits.get(timeout=PATIENCE_S) == memory_module.WRITE_DELAY_S
    for volume in range(2, 30):
        memory.put("volume", volume)
    stopping.set()
    memory.wake()
    time.passed.release()
    keeper.join(PATIENCE_S)
    assert not keeper.is_alive()
    assert disk.next() == {"volume": 29}
    assert disk.writes.empty()


def test_what_cannot_wait_is_written_at_once_and_everything_else_with_it(path, monkeypatch):
    monkeypatch.setattr(memory_module, "WRITE_DELAY_S", 10 * PATIENCE_S)
    disk, memory = Disk(monkeypatch), StateStore(path)
    with Keeper(memory):
        while not memory._kept:
            threading.Event().wait(0.001)
        for ringing in ("tea", None):  # it rings, and is hushed
            memory.put("volume", 1)
            memory.put("ringing", ringing)
            memory.flush_soon()
            assert disk.next() == {"volume": 1, "ringing": ringing}


def test_the_keeper_ends_at_once_and_leaves_nothing_unwritten(path):
    memory = StateStore(path)
    with Keeper(memory):
        memory.put("volume", 1)
    assert StateStore(path).get("volume") == 1


def test_with_a_keeper_the_caller_does_not_wait_for_the_disk(path, monkeypatch):
    memory, disk_is_busy, done = StateStore(path), threading.Event(), threading.Event()
    waited: list[bool] = []

    def slow(*_: object) -> None:
        disk_is_busy.set()
        waited.append(done.wait(PATIENCE_S))

    monkeypatch.setattr(memory_module, "WRITE_DELAY_S", 0.0)
    monkeypatch.setattr(memory_module, "_replace", slow)
    with Keeper(memory):
        memory.put("volume", 1)
        assert disk_is_busy.wait(PATIENCE_S)
        memory.put("volume", 2)
        memory.flush_soon()
        assert memory.get("volume") == 2
        done.set()
    assert set(waited) == {True}


def test_what_is_in_place_is_on_the_disk_first(path, monkeypatch):
    """A power cut cannot be had here; so look at the order of what asks the disk for it."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("replace"), replace(old, new)))
    memory = StateStore(path)
    memory.put("volume", 1)
    memory.flush()
    assert done == [f"{path}.new", "replace", str(path.parent)]


def test_without_a_keeper_soon_is_now(path):
    memory = StateStore(path)
    memory.put("volume", 1)
    memory.flush_soon()
    assert StateStore(path).get("volume") == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/device-agent"}, "/var/lib/device-agent/memory.json"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x"}, "/var/lib/a/memory.json"),
        ({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/x"}, "/x/device-agent/memory.json"),
        ({"XDG_STATE_HOME": "not/absolute"}, "/home/u/.local/state/device-agent/memory.json"),
        ({}, "/home/u/.local/state/device-agent/memory.json"),
    ],
)
def test_where_it_is_by_default(environment, expected, monkeypatch):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/u", **environment}.items():
        monkeypatch.setenv(name, value)
    assert state_path() == Path(expected)


# A file that makes no sense -------------------------------------------------------------------------------------------

NUMBERS = st.integers() | st.sampled_from([10**400, -(10**400), 1e308, 2**63, 0, -1]) | st.floats(allow_nan=False)
LEAVES = (
    st.none()
    | st.booleans()
    | NUMBERS
    | st.text(max_size=50)
    | st.sampled_from(["\ud800", "\x1b[2J", "07:00", "timer"])
)
NONSENSE = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
ENTRY = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["timer", "alarm", "x"]) | NONSENSE,
        "number": st.integers(-1, 100) | NONSENSE,
        "name": st.just("tea") | NONSENSE,
    },
    optional={
        "seconds": st.integers(0, 90000) | NONSENSE,
        "ends": st.floats(0, 2e9) | NONSENSE,
        "time": st.sampled_from(["07:00", "24:00", "\u0660\u0667:00"]) | NONSENSE,
        "days": st.lists(st.sampled_from(["monday", "x"])) | NONSENSE,
        "once": st.booleans() | NONSENSE,
        "since": st.floats(0, 1e11) | NONSENSE,
    },
)
KNOWN = {
    "alarms": st.lists(ENTRY | NONSENSE, max_size=25) | NONSENSE,
    "ringing": st.fixed_dictionaries({"name": LEAVES, "at": NUMBERS, "rung": NUMBERS}) | NONSENSE,
    "connected": st.fixed_dictionaries({"day": LEAVES, "today": NUMBERS, "total": LEAVES}, optional={"days": NONSENSE})
    | NONSENSE,
    "volume": NONSENSE,
    "configured_volume": st.just(80) | NONSENSE,
    "muted": NONSENSE,
    "machine": NONSENSE,
}


def lives_with(document: bytes, folder: Path) -> None:
    """A speaker that finds this starts, uses all of it, and remembers what it is told."""
    path = folder / "memory.json"
    path.write_bytes(document)
    memory = StateStore(path)
    config = Config(button=ButtonConfig(pin=None), light=LightConfig(pin=None))
    parts = build_device(config, Ports(RoomMicrophone(), RoomSpeaker()), key=Secret("k"), memory=memory)
    agent = Agent(parts)
    try:
        for second in range(3):
            parts.meter.look("2026-11-30", float(second))
            parts.alarms.due(1.79e9 + second, float(second))
            parts.alarms.all(1.79e9 + second, float(second))
        parts.meter.connected(3.0)
        parts.meter.disconnected(4.0)
        agent.gauges()
        agent._actuator.execute(Mute(False), 0.0)
        agent._actuator.set_volume(7, 0)
        parts.alarms.cancel(range(100))
        for number in range(MAX_ALARMS):
            parts.alarms.set_timer(60 + number, "\U0001f468" * 40, wall=1.79e9, steady=5.0)
        memory.flush()
    finally:
        parts.outbox.close()
        parts.panel.close()
    again = StateStore(path)
    assert (again.get("volume"), again.get("muted"), len(again.get("alarms"))) == (7, False, MAX_ALARMS)
    assert not path.with_name("memory.json.broken").exists() or path.exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=KNOWN), st.dictionaries(st.text(), NONSENSE, max_size=3))
def test_whatever_the_file_says_the_speaker_starts_and_remembers(tmp_path, known, unknown):
    lives_with(json.dumps({**unknown, **known}, allow_nan=True).encode(), tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"null", b"[]", b"{", b"\xff\xfe", b"\0" * 100, b'{"volume": NaN}', b'{"volume": 1e999}',
        b'{"volume": ' + b"9" * 400 + b"}", b'{"volume": ' + b"9" * 9000 + b"}", b"[" * 60000, b'{"a":' * 10000,
        b'{"a": "' + b"x" * 60000 + b'"}', '{{"a": "{}"}}'.format("\u00e9" * 30000).encode(), b'{"a": 1}' * 9000,
        b'{"connected": {"days": {"' + b"x" * 9000 + b'": 1}}}',
    ],
    ids=lambda document: repr(document[:20]),
)  # fmt: skip
def test_a_file_that_is_torn_or_too_large_is_laid_aside(tmp_path, document):
    lives_with(document, tmp_path)
