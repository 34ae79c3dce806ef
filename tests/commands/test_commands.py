"""The commands as a user runs them: each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent import cli
from device_agent.cli import main
from device_agent.dsp.correlation import likeness
from device_agent.runtime import paths
from device_agent.simulator import Simulator
from tests.support.agent_process import PATIENCE_S, RATE, ROOM, question, read_wav, running, write_config
from tests.support.weather import Weather


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05) as made:
        yield made


def test_a_recorded_question_is_answered_into_a_recording(tmp_path, simulator):
    config = write_config(tmp_path, simulator.url, sound=question())
    with running("run", "--config", config) as agent:
        assert agent.end() == 0, agent.log
    (turn,) = simulator.turns
    fit, at = likeness(turn.pcm, read_wav(tmp_path / "said.wav"))
    assert fit > 0.999
    assert at > 2 * RATE  # what was heard before the reply was silence, and is in the recording
    assert "user: (" in agent.log
    assert "assistant: You said:" in agent.log
    assert "a-key-that-is-secret" not in agent.log


NEEDLESS = {
    *("rich", "prometheus_client", "paho", "gpiozero", "livekit", "wsproto", "h11", "device_agent.simulator"),
    *("device_agent.commands.ask", "device_agent.doctor", "device_agent.commands.demo", "device_agent.status.page"),
    *(
        "device_agent.integrations.prometheus",
        "device_agent.integrations.mqtt",
        "device_agent.hardware.portaudio",
        "device_agent.tools.command",
    ),
    *("asyncio", "csv", "difflib", "email", "http.client", "http.server", "importlib.metadata", "multiprocessing"),
    *("pdb", "subprocess", "unittest", "xml", "zipfile"),
}
"""What extras, other commands and other configurations are made of, and what is large and loaded by accident."""


def test_a_turn_loads_nothing_that_the_configuration_does_not_ask_for(tmp_path, simulator):
    config = write_config(tmp_path, simulator.url, sound=question()[: 3 * RATE] + bytes(3 * RATE))
    with running("run", "--config", config, env={"PYTHONPROFILEIMPORTTIME": "1"}) as agent:
        assert agent.end() == 0, agent.log
    assert "speaking -> " in agent.log
    loaded = set(re.findall(r"^import time: .*\| +(\S+)$", agent.log, re.MULTILINE))
    assert {"numpy", "device_agent.link.connection"} < loaded
    assert not loaded & NEEDLESS


def test_the_collector_of_rubbish_looks_through_little(tmp_path, simulator):
    """While it runs, no sound is recorded or played."""
    config = write_config(tmp_path, simulator.url, sound=bytes(RATE // 10))
    code = (
        "import gc, sys; from device_agent.cli import main; main(); print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, "run", "--config", config],
        env={**os.environ, "XAI_API_KEY": "a-key-that-is-secret"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    frozen, left = map(int, said.stdout.split()[-2:])
    assert frozen > 10 * left


@pytest.mark.slow
def test_the_demo_asks_a_question_and_measures_the_answer(tmp_path):
    with running("demo", "--save", tmp_path / "reply.wav") as agent:
        assert agent.end() == 0, agent.log
        output = agent.output
    for word in ("listening", "thinking", "speaking", "ready", "you: ", "assistant: You said:"):
        assert word in output
    fit = re.search(r"likeness of (\d\.\d+)", output)
    assert fit, output
    assert float(fit[1]) > 0.9
    assert re.search(r"end of speech to first sound +\d+\.\d ms", output)
    assert likeness(question()[40000:110000], read_wav(tmp_path / "reply.wav"))[0] > 0.9
    assert f"To hear the answer: aplay {tmp_path / 'reply.wav'}" in output
    assert agent.log == ""


def test_a_signal_ends_it_while_it_is_idle(tmp_path, simulator):
    with running("run", "--config", write_config(tmp_path, simulator.url, sound=ROOM)) as agent:
        agent.says("-> ready")
        assert agent.end(signal.SIGTERM) == 0
        assert "stopping on SIGTERM" in agent.log


def test_libraries_start_no_threads(tmp_path, simulator, monkeypatch):
    """numpy would start one for each core."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with running("run", "--config", write_config(tmp_path, simulator.url, sound=ROOM)) as agent:
        agent.says("-> ready")
        tasks = os.listdir(f"/proc/{agent.process.pid}/task")
        agent.process.send_signal(signal.SIGUSR1)
        agent.says("Current thread")  # the main thread, which is shown last
        assert len(re.findall("hread 0x", agent.log)) == len(tasks)


def test_a_signal_ends_it_while_it_dials(tmp_path, simulator):
    simulator.fault("hang-handshake")
    config = write_config(tmp_path, simulator.url, sound=ROOM, extra="connection: {mode: always}\n")
    with running("run", "--config", config) as agent:
        agent.says("-> ready")
        agent.says("dialling")
        assert agent.end(signal.SIGTERM) == 0


def test_a_signal_ends_it_while_it_waits_to_dial_again(tmp_path, simulator):
    simulator.refuse(429)  # which is to be left alone for half a minute
    config = write_config(tmp_path, simulator.url, sound=ROOM, extra="connection: {mode: always}\n")
    with running("run", "--config", config) as agent:
        agent.says("next try in")
        assert agent.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_signal_ends_it_in_the_middle_of_a_message(tmp_path, simulator):
    with Weather(simulator.port) as weather:
        url = f"ws://127.0.0.1:{weather.port}/v1/realtime"
        config = write_config(tmp_path, url, sound=question() + ROOM)
        with running("run", "--config", config) as agent:
            agent.says("sending -> thinking")
            weather.hold_after(3000)  # the first piece of the reply is longer
            assert weather.wait_until_held(PATIENCE_S)
            assert agent.end(signal.SIGTERM) == 0


def test_a_signal_ends_it_while_it_speaks(tmp_path, simulator):
    with running("run", "--config", write_config(tmp_path, simulator.url, sound=question() + ROOM)) as agent:
        agent.says("-> speaking")
        assert agent.end(signal.SIGINT) == 0
    assert read_wav(tmp_path / "said.wav")  # the recording is whole


def test_a_wrong_configuration_is_told_at_once_and_ends_with_78(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("service: {nmae: xai}\ntalk:\n  vad: 9\n  start: buton\nspeaker: {volume: loud}\nligth: {}\n")
    with running("run", "--config", config) as agent:
        assert agent.end() == 78
    assert len(agent.log.strip().splitlines()) == 5
    for place in (":1:", ":3:", ":4:", ":5:", ":6:"):
        assert f"{config}{place}" in agent.log


def test_a_missing_key_is_a_wrong_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("XAI_API_KEY", raising=False)
    config = write_config(tmp_path, "ws://127.0.0.1:1", sound=b"")
    assert main(["run", "--config", str(config)]) == 78
    assert "XAI_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("sound", ["missing", "no sound"])
def test_a_microphone_that_is_no_recording_ends_it_with_one_clear_line(tmp_path, simulator, sound):
    config = write_config(tmp_path, simulator.url, sound=b"")
    heard = tmp_path / "heard.wav"
    heard.unlink() if sound == "missing" else heard.write_text("this is a letter")
    with running("run", "--config", config) as agent:
        assert agent.end() == 1
    (line,) = [line for line in agent.log.splitlines() if "ERROR" in line]
    assert "heard.wav" in line
    assert "Traceback" not in agent.log


def test_every_thread_shows_where_it_is_on_request(tmp_path, simulator):
    with running("run", "--config", write_config(tmp_path, simulator.url, sound=ROOM)) as agent:
        agent.says("-> ready")
        agent.process.send_signal(signal.SIGUSR1)
        agent.says("in _loop")
        assert agent.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_simulator_for_people_says_what_happens(tmp_path):
    with running("simulate", "--port", "0") as service:
        assert service.process.stdout
        url = service.process.stdout.readline().split()[-1]
        with running("run", "--config", write_config(tmp_path, url, sound=question())) as agent:
            assert agent.end() == 0, agent.log
        assert service.end(signal.SIGINT) == 0
        output = service.output
    assert re.search(r"turn.*2\.\d s", output), output


def test_check_tells_what_works_and_what_does_not(tmp_path, monkeypatch, capsys, simulator):
    monkeypatch.setenv("XAI_API_KEY", "k")
    config = write_config(tmp_path, simulator.url, sound=question())
    assert main(["check", "--config", str(config)]) == 0
    output = capsys.readouterr().out
    for name in ("configuration", "clock", "microphone", "loudspeaker", "button", "light", "key", "session", "turn"):
        assert re.search(rf"^(ok  |note)  {name} ", output, re.MULTILINE), output
    (tmp_path / "heard.wav").unlink()
    assert main(["check", "--offline", "--config", str(config)]) == 1
    assert "FAIL  microphone" in capsys.readouterr().out


def test_wrong_usage_ends_with_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["dance"])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_without_a_command_all_of_them_are_shown(capsys):
    assert main([]) == 2
    said = capsys.readouterr()
    assert "Store the key" in said.err
    assert said.out == ""


def test_help_is_a_command_too(capsys):
    assert main(["help"]) == 0
    assert "Store the key" in capsys.readouterr().out
    assert main(["help", "ask"]) == 0
    assert "--text-only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["check", "--ofline"], ["usage: device-agent check", "--ofline", "[--offline]"]),
        (["ask"], ["usage: device-agent ask", "give a text or a recording"]),
        (["ask", "a", "--audio", "b.wav"], ["usage: device-agent ask", "give a text or a recording"]),
        (["simulate", "--port", "80000"], ["usage: device-agent simulate", "from 0 to 65535, not '80000'"]),
        (["simulate", "--port", "-1"], ["usage: device-agent simulate", "from 0 to 65535"]),
        (["simulate", "--port", "http"], ["usage: device-agent simulate", "from 0 to 65535"]),
        (["help", "dance"], ["usage: device-agent help", "'dance'"]),
        (["--wat"], ["usage: device-agent [-h]", "--wat"]),
    ],
    ids=str,
)
def test_wrong_usage_shows_how_that_command_is_used(line, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []


@pytest.mark.slow
def test_a_demo_that_is_stopped_says_so_and_measures_nothing(tmp_path):
    with running("--log", "info", "demo", "--save", tmp_path / "reply.wav") as agent:
        agent.says("-> listening")
        assert agent.end(signal.SIGINT) == 130
        output = agent.output
    assert "Stopped: the demo was not finished" in output
    assert "likeness" not in output
    assert "dBFS" not in output


def test_the_demo_asks_for_no_speech_without_a_microphone(tmp_path):
    (tmp_path / "config.yaml").write_text(f"microphone: {{device: 'wav:{tmp_path / 'no.wav'}'}}\n")
    with running("demo", "--mic", "--config", tmp_path / "config.yaml") as agent:
        assert agent.end() == 1
        assert agent.output == ""
    assert "no.wav" in agent.log


@pytest.mark.parametrize(("option", "known"), [("--fault", "drop-mid-turn"), ("--manner", "answers-commits")])
def test_the_simulator_lists_its_faults_and_manners_and_knows_no_others(option, known, capsys):
    assert main(["simulate", option, "list"]) == 0
    assert known in capsys.readouterr().out
    assert main(["simulate", option, "earthquake"]) == 2
    assert "earthquake" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    assert known in capsys.readouterr().out


def test_a_manner_that_a_service_does_not_have_is_wrong_usage(capsys):
    assert main(["simulate", "--service", "ultravox", "--manner", "asks"]) == 2
    assert "asks does not exist for ultravox" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(simulator, capsys):
    assert main(["simulate", "--port", str(simulator.port)]) == 1
    assert f"port {simulator.port}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["check", "--offline", "--quiet"], ["config"], ["ask", "a"], ["token"]], ids=str)
def test_every_command_says_which_file_it_reads(tmp_path, monkeypatch, capsys, command):
    installed = tmp_path / "etc.yaml"
    for module in (paths, cli):
        monkeypatch.setattr(module, "INSTALLED_CONFIG", installed)
    monkeypatch.chdir(tmp_path)
    for path in (Path("config.yaml"), installed):
        path.write_text("talk: {vad: 9}\n")
        assert cli.main([command[0], *command[1:]]) == 78
        said = capsys.readouterr()
        assert said.err.startswith(f"configuration: {path}")
        assert f"{path}:1:13" in said.out + said.err
    assert "(for the one in this folder: --config config.yaml)" in said.err
