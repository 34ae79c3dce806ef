"""One turn without a microphone, as a user asks for it."""

from __future__ import annotations

from importlib.resources import as_file
from pathlib import Path

import pytest

from device_agent.cli import main
from device_agent.dsp.correlation import likeness
from device_agent.dsp.resampling import resample
from device_agent.simulator import QUESTION, Simulator
from tests.support.agent_process import RATE, question, read_wav, running, write_wav


def config(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(f"service: {{url: '{url}'{more}}}\nconnection: {{idle_s: 5}}\n")
    return path


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05) as made:
        yield made


def test_a_typed_question_gets_a_printed_and_recorded_answer(tmp_path, simulator):
    saved = tmp_path / "answer.wav"
    with running("ask", "--config", config(tmp_path, simulator.url), "--save", saved, "What", "time?") as agent:
        assert agent.end() == 0, agent.log
        assert agent.output == "You wrote: What time?\n"
    assert any(read_wav(saved))
    assert simulator.turns[0].text == "What time?"


@pytest.mark.slow
def test_a_recorded_question_is_one_turn(tmp_path, simulator):
    clip = write_wav(tmp_path / "clip.wav", resample(question(), RATE, 16000), 16000)
    saved = tmp_path / "answer.wav"
    with running("ask", "--config", config(tmp_path, simulator.url), "--audio", clip, "--save", saved) as agent:
        assert agent.end() == 0, agent.log
        assert agent.output.startswith("You said: (2.")
    assert likeness(question()[40000:100000], read_wav(saved))[0] > 0.98
    assert "conversation.item.create" in simulator.connections[0].types


def test_text_alone_needs_no_loudspeaker(tmp_path):
    with Simulator("openai", think_s=0.05) as simulator:
        path = config(tmp_path, simulator.url, ", name: openai")
        with running("ask", "--config", path, "--text-only", "hello", env={"OPENAI_API_KEY": "k"}) as agent:
            assert agent.end() == 0, agent.log
            assert "hello" in agent.output
        assert simulator.connections[0].settings["output_modalities"] == ["text"]


def test_a_refusal_is_one_line_and_status_1(tmp_path):
    with Simulator(key="another") as simulator:
        with running("ask", "--config", config(tmp_path, simulator.url), "--text-only", "hello") as agent:
            assert agent.end() == 1
            assert agent.output == ""
    assert len([line for line in agent.log.splitlines() if "401" in line]) <= 2
    assert "a-key-that-is-secret" not in agent.log


def test_a_clip_that_is_no_recording_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAI_API_KEY", "k")
    (tmp_path / "x.wav").write_text("a letter")
    path = config(tmp_path, "ws://127.0.0.1:1")
    assert main(["ask", "--config", str(path), "--audio", str(tmp_path / "x.wav")]) == 1
    assert "x.wav" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["xai", "openai"])
def test_a_token_is_printed_and_opens_the_door(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setenv(f"{name.upper()}_API_KEY", "the-key")
    with Simulator(name, key="the-key") as simulator:
        path = config(tmp_path, simulator.url, f", name: {name}")
        assert main(["token", "--config", str(path)]) == 0
        token = capsys.readouterr().out.strip()
        assert token
        assert token != "the-key"  # noqa: S105  no password
        monkeypatch.setenv(f"{name.upper()}_API_KEY", token)
        assert main(["ask", "--config", str(path), "--text-only", "hello"]) == 0


@pytest.mark.slow
def test_the_question_is_a_file_that_can_be_asked(tmp_path, simulator):
    with (
        as_file(QUESTION) as clip,
        running("ask", "--config", config(tmp_path, simulator.url), "--audio", clip, "--text-only") as agent,
    ):
        assert agent.end() == 0, agent.log
