"""The doctor as a whole: what it prints, when it is content, and that nothing stops it."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading

import pytest

from device_agent.cli import main
from device_agent.core.errors import DeviceFailed
from device_agent.doctor.doctor import Doctor, StepTimeout
from device_agent.doctor.findings import USUAL_ADVICE, Finding, Mark, Now, advised
from device_agent.doctor.report import JsonReport, TextReport, open_report
from device_agent.doctor.stderr_filter import filter_stderr
from device_agent.doctor.step_runner import StepTimedOut, run_step
from device_agent.simulator import Simulator
from tests.support.doctor import KEY, marks, printed, told, write_config


@pytest.fixture(autouse=True)
def _the_key(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", KEY)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture(scope="module")
def simulator():
    with Simulator(think_s=0.02) as made:
        yield made


# As a whole -----------------------------------------------------------------------------------------------------------


def test_all_that_is_well_is_told_in_80_columns(tmp_path, simulator):
    status, text = printed(write_config(tmp_path, simulator.url))
    lines = text.splitlines()
    assert status == 0, text
    assert all(len(line) <= 80 or str(tmp_path) in line for line in lines)
    assert "ok    configuration" in text
    assert any(line.startswith(" " * 21 + "xai; a press begins a turn") for line in lines)
    assert [line for line in lines if line.startswith("Service")] == ["Service: xai"]
    assert lines[-1].startswith("A turn would work.")
    assert "\x1b" not in text
    assert "\r" not in text
    assert KEY not in text


def test_the_same_is_told_to_programs_and_nothing_else(tmp_path, simulator, capsys):
    assert main(["check", "--json", "--config", str(write_config(tmp_path, simulator.url))]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["ok"] is True
    assert output.err == ""
    assert KEY not in output.out
    found = {each["name"]: each for each in document["checks"]}
    assert {"microphone", "level", "loudspeaker", "name", "route", "TLS", "handshake", "session", "turn"} <= set(found)
    assert all(set(each) >= {"name", "group", "mark", "text", "advice"} for each in document["checks"])
    assert found["turn"]["first_sound_ms"] > 0
    assert found["level"]["floor_dbfs"] < -50


def test_a_tiny_turn_is_one_turn_and_no_more(tmp_path):
    with Simulator(think_s=0.02) as simulator:
        assert told(write_config(tmp_path, simulator.url))[0] == 0
        assert [turn.text for turn in simulator.turns] == ["Say: ok"]
        assert len(simulator.connections) == 1


def test_a_recording_that_exists_is_not_written_over(tmp_path, simulator):
    (tmp_path / "said.wav").write_text("dear to me")
    assert printed(write_config(tmp_path, simulator.url))[0] == 0
    assert (tmp_path / "said.wav").read_text() == "dear to me"


def test_offline_leaves_the_network_out_and_says_so(tmp_path):
    status, text = printed(write_config(tmp_path, "ws://127.0.0.1:1"), offline=True)
    assert status == 0
    assert "ok    key" in text
    assert "route" not in text
    assert "without the network" in " ".join(text.splitlines()[-2:])


def test_without_a_key_no_service_is_called(tmp_path, monkeypatch, simulator):
    monkeypatch.delenv("XAI_API_KEY")
    before = len(simulator.connections)
    status, document = told(write_config(tmp_path, simulator.url))
    assert status == 1
    assert marks(document)["key"] == "FAIL"
    assert "route" not in marks(document)
    assert "xai (key)" in document["verdict"]
    assert len(simulator.connections) == before


def test_one_thing_that_fails_is_told_with_all_others(tmp_path, simulator):
    path = write_config(tmp_path, simulator.url)
    (tmp_path / "heard.wav").unlink()
    status, document = told(path)
    assert status == 1
    assert document["ok"] is False
    assert marks(document)["microphone"] == "FAIL"
    assert marks(document)["turn"] == "ok"
    assert document["verdict"].startswith("A turn would not work: microphone.")


def test_a_folder_that_is_not_there_is_told(tmp_path, simulator):
    path = write_config(tmp_path, simulator.url)
    path.write_text(path.read_text().replace("said.wav", "nowhere/said.wav"))
    status, document = told(path, offline=True)
    assert status == 1
    assert marks(document)["loudspeaker"] == "FAIL"


def test_a_missing_canceller_is_told(tmp_path, monkeypatch, simulator):
    for name in ("livekit", "livekit.rtc"):  # another test may have found it
        monkeypatch.setitem(sys.modules, name, None)
    status, document = told(write_config(tmp_path, simulator.url, "echo: {mode: cancel}\n"), offline=True)
    assert status == 1
    assert marks(document)["canceller"] == "FAIL"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_file_is_told_with_all_mistakes_and_ends_with_78(tmp_path, as_json):
    path = tmp_path / "config.yaml"
    path.write_text("service: {nmae: xai}\ntalk:\n  vad: 9\n  start: buton\n")
    status, text = printed(path, as_json=as_json)
    assert status == 78
    if as_json:
        (only,) = json.loads(text)["checks"]
        assert [mistake.split(": ")[0] for mistake in only["mistakes"]] == [
            f"{path}:{at}" for at in ("1:11", "3:8", "4:10")
        ]
    else:
        flat = " ".join(text.split())
        assert all(f"{path}:{at}" in flat for at in ("1:11", "3:8", "4:10"))
        assert flat.startswith("Configuration FAIL configuration")


def test_a_file_that_is_not_there_is_a_wrong_file(tmp_path):
    assert printed(tmp_path / "nothing.yaml")[0] == 78


# Nothing stops it -----------------------------------------------------------------------------------------------------


class Page(JsonReport):
    """Remembers what was shown."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.found: list[Finding] = []

    def show(self, finding: Finding) -> None:
        self.found.append(finding)


def test_a_step_that_hangs_fails_and_is_left_behind():
    hanging, page = threading.Event(), Page()

    def step():
        yield Finding("first", "was there")
        yield Now("second")
        hanging.wait()

    doctor = Doctor(page)
    doctor._run(step, StepTimeout(0.05, "pull it out"))
    doctor._run(lambda: iter([Finding("third", "came as well")]), StepTimeout(5.0))
    assert [(each.name, each.mark) for each in page.found] == [
        ("first", Mark.OK),
        ("second", Mark.FAIL),
        ("third", Mark.OK),
    ]
    assert "not answered" in page.found[1].text
    assert page.found[1].advice == "pull it out"
    hanging.set()


def test_an_error_of_ours_is_told_in_its_own_words_and_an_unexpected_one_as_a_mistake(caplog):
    page = Page()
    doctor = Doctor(page)

    def fails(error: Exception):
        def step():
            yield Now("thing")
            raise error

        return step

    doctor._run(fails(DeviceFailed("it is broken: mend it")), StepTimeout(5.0))
    with caplog.at_level(logging.CRITICAL):
        doctor._run(fails(ZeroDivisionError("by nothing")), StepTimeout(5.0))
    ours, unexpected = page.found
    assert (ours.text, ours.mark) == ("it is broken: mend it", Mark.FAIL)
    assert "ZeroDivisionError" in unexpected.text
    assert "report" in unexpected.advice


@pytest.mark.parametrize(
    ("text", "seen", "advice"),
    [
        ("no microphone was found; check its cable", "no microphone was found", "check its cable"),
        ("it stumbled", "it stumbled", USUAL_ADVICE["microphone"]),
    ],
)
def test_whatever_is_wrong_comes_with_what_to_do(text, seen, advice):
    page = Page()
    Doctor(page)._note(Finding("microphone", text, Mark.FAIL))
    assert (page.found[0].text, page.found[0].advice) == (seen, advice)


def test_what_is_well_or_was_not_asked_for_needs_no_advice():
    for mark in (Mark.OK, Mark.SKIP):
        assert advised(Finding("microphone", "as it is; so be it", mark)) == Finding(
            "microphone", "as it is; so be it", mark
        )
    assert advised(Finding("what", "it broke", Mark.FAIL)).advice
    assert advised(Finding("unit", "it broke", Mark.NOTE, "mend it")).advice == "mend it"


def test_an_echo_that_was_not_measured_is_not_called_well(tmp_path, simulator):
    _, document = told(write_config(tmp_path, simulator.url), offline=True, quiet=True)
    assert marks(document)["echo"] == "skip"


def test_a_wrong_file_names_an_example_that_is_there(tmp_path, monkeypatch):
    (path := tmp_path / "config.yaml").write_text("talk: {vad: 9}\n")
    assert "the config.yaml that came with this program shows every key" in " ".join(printed(path)[1].split())
    shipped = tmp_path / "share/device-agent/config.yaml"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert str(shipped) in printed(path)[1]


def test_a_step_that_says_something_now_and_then_does_not_hang():
    beats, said = threading.Semaphore(3), []

    def step():
        while beats.acquire(blocking=False):
            yield Now("beat")

    for item in run_step(step, 5.0):
        said.append(item.name)
    assert said == ["beat"] * 3


def test_a_step_that_takes_too_long_is_told_with_its_time_limit():
    never = threading.Event()

    def step():
        never.wait()
        yield Now("")

    with pytest.raises(StepTimedOut, match=r"0\.01 s"):
        list(run_step(step, 0.01))
    never.set()


def test_the_noise_of_portaudio_is_left_out_and_nothing_else(capfd):
    with filter_stderr():
        os.write(2, b"Expression 'paInvalidSampleRate' failed in 'pa_linux_alsa.c', line: 2048\n")
        print("something worth reading", file=sys.stderr)
    print("and so is this", file=sys.stderr)
    assert capfd.readouterr().err == "something worth reading\nand so is this\n"


def test_an_interrupted_doctor_still_gives_a_verdict(tmp_path, monkeypatch):
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Doctor, "_try", interrupt)
    status, document = told(write_config(tmp_path, "ws://127.0.0.1:1"))
    assert status == 1
    assert document["ok"] is False
    assert "Stopped" in document["verdict"]


# What it looks like ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def show_something(out: io.StringIO) -> str:
    page = open_report(out, as_json=False)
    page.group("Sound")
    page.now(Now("level", "speak now, 2 s", -30.0))
    page.show(Finding("level", "quiet " * 20, Mark.NOTE, "speak up " * 10))
    page.end("A turn would work.", ok=True)
    return out.getvalue()


def test_a_terminal_sees_colours_and_a_meter_that_is_written_over(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = show_something(terminal)
    assert "\x1b[33mnote" in text
    assert "[############............] -30 dBFS" in text
    assert text.count("\r") == 2
    assert text.split("\r\x1b[K")[1].startswith("\x1b[33mnote")


def test_no_color_leaves_the_meter(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = show_something(terminal)
    assert "\x1b[33m" not in text
    assert "[####" in text


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_can_nothing_sees_plain_lines(terminal, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    text = show_something(terminal)
    assert "\x1b" not in text
    assert "[####" not in text


def test_a_pipe_sees_neither():
    text = show_something(io.StringIO())
    assert "\x1b" not in text
    assert "\r" not in text
    assert "[####" not in text


def test_long_texts_hang_beside_their_names():
    out = io.StringIO()
    TextReport(out, width=60).show(Finding("level", "quiet " * 20, Mark.NOTE, "speak up " * 10))
    first, *others = out.getvalue().splitlines()
    assert first.startswith("note  level          quiet")
    assert all(line.startswith(" " * 21) and len(line) <= 60 for line in others)
    assert sum("-> " in line for line in others) == 1


def test_a_text_of_several_lines_keeps_them():
    out = io.StringIO()
    TextReport(out).show(Finding("configuration", "one\ntwo"))
    assert out.getvalue() == f"ok    configuration  one\n{' ' * 21}two\n"


@pytest.mark.parametrize("level", [-200.0, 0.0, 12.0])
def test_the_meter_stays_in_its_frame(terminal, level):
    page = open_report(terminal, as_json=False)
    page.now(Now("level", "", level))
    assert len(terminal.getvalue().split("[")[2].split("]")[0]) == 24
