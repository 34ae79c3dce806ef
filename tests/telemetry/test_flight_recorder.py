"""What is kept about the time before something went wrong."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from device_agent.config.model import Config, ServiceConfig
from device_agent.core.actions import Cue, Play
from device_agent.core.conversation import READY
from device_agent.core.events import (
    AlarmDue,
    Event,
    LinkDown,
    Pressed,
    ReplyText,
    TextTurn,
    ToolCall,
    UserText,
    WorkerCrashed,
)
from device_agent.core.transition import Transition
from device_agent.telemetry.flight_recorder import MAX_EVENTS, MAX_FILES, FlightRecorder, described


@pytest.fixture
def recorder(tmp_path: Path) -> FlightRecorder:
    return FlightRecorder(Config(), tmp_path / "state")


def seen(event: Event) -> Transition:
    return Transition(event, (), READY, READY, 1.0)


def written(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state").iterdir())


@pytest.mark.parametrize(
    "word",
    [
        UserText("i", "my doctor said", True),
        ReplyText("r", "my doctor said"),
        TextTurn("my doctor said"),
        ToolCall("c", "lamp", '{"where": "my doctor said"}'),
        AlarmDue("my doctor said"),
    ],
)
def test_what_was_said_is_not_in_it(recorder, word):
    recorder(seen(word))
    text = recorder.text("x").partition("== threads")[0]  # where this line stands
    assert "doctor" not in text
    assert type(word).__name__ in text


def test_what_happened_is():
    assert described(LinkDown("cable", 1.5)) == "LinkDown(reason='cable', retry_in=1.5)"
    assert described(Play(Cue.DONE)) == "Play(cue=done)"
    assert described(UserText("i", "four", True)) == "UserText(item=<1>, text=<4>, final=True)"
    assert "cable" in described(WorkerCrashed("microphone", OSError("cable")))


def test_it_tells_the_last_events_all_threads_versions_and_settings(recorder):
    for number in range(MAX_EVENTS + 100):
        recorder(seen(LinkDown(f"number {number}.", 0.0)))
    text = recorder.text("the cat")
    assert "the cat" in text
    assert "number 99." not in text
    assert f"number {MAX_EVENTS + 99}." in text
    assert f"{MAX_EVENTS + 100} LinkDown" in text
    assert "MainThread:" in text
    assert "websocket-client" in text
    assert "'silence_ms': 700" in text


def test_a_few_are_kept_and_only_their_owner_reads_them(recorder, tmp_path, monkeypatch):
    for number in range(MAX_FILES + 3):
        monkeypatch.setattr("time.strftime", lambda _form, number=number: f"2026010{number}-000000")
        recorder.write("x")
    names = [path.name for path in written(tmp_path)]
    assert names == [f"postmortem-2026010{number}-000000.txt" for number in range(3, MAX_FILES + 3)]
    assert {path.stat().st_mode & 0o777 for path in written(tmp_path)} == {0o600}


def test_a_disk_that_does_not_take_it_is_told(recorder, tmp_path, caplog):
    (tmp_path / "state").write_text("in the way")
    recorder.write("x")
    assert "cannot be written" in caplog.text


def test_a_signal_asks_for_one(recorder, tmp_path):
    recorder(seen(Pressed()))
    nudged = threading.Event()
    with recorder.on_signal(nudged.set):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert nudged.is_set()
    (path,) = written(tmp_path)
    assert "SIGUSR2" in path.read_text()


def test_what_is_called_like_a_key_is_not_in_it(tmp_path):
    tool = {"type": "mcp", "server_label": "home", "authorization": "the-key-of-my-home"}
    text = FlightRecorder(Config(service=ServiceConfig(tools=(tool,))), tmp_path).text("x")
    assert "'authorization': '***'" in text
    assert "'server_label': 'home'" in text
    assert "the-key-of-my-home" not in text.partition("== threads")[0] + text.partition("== configuration")[2]
