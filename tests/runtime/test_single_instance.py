"""One agent on a machine: the second says so, and touches nothing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from device_agent.runtime.single_instance import LOCK_NAME, STATE_VARIABLES, Occupied, only_agent
from device_agent.simulator import Simulator
from tests.support.agent_process import ROOM, question, running, write_config


@pytest.fixture
def no_unit(tmp_path: Path) -> Path:
    return tmp_path / "no.sock"


def test_a_second_one_names_the_process_of_the_first_until_that_has_ended(tmp_path, no_unit):
    with (
        only_agent(tmp_path, no_unit),
        pytest.raises(Occupied, match=f"process {os.getpid()}. Stop it first: kill {os.getpid()}$"),
        only_agent(tmp_path, no_unit),
    ):
        pass
    with only_agent(tmp_path, no_unit):
        pass


def test_another_state_directory_is_another_agent(tmp_path, no_unit):
    with only_agent(tmp_path / "one", no_unit), only_agent(tmp_path / "two", no_unit):
        assert (tmp_path / "two" / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_what_an_older_process_wrote_is_no_lock(tmp_path, no_unit):
    (tmp_path / LOCK_NAME).write_text("123456789012345\n")
    with only_agent(tmp_path, no_unit):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_where_nothing_can_be_written_it_runs(tmp_path, no_unit):
    (tmp_path / "file").touch()
    with only_agent(tmp_path / "file" / "folder", no_unit):
        pass


def test_the_installed_speaker_is_another_one_unless_this_is_meant_to_be_one_more(tmp_path, monkeypatch):
    window = tmp_path / "status.sock"
    monkeypatch.delenv("XDG_STATE_HOME")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(window))
        door.listen()
        with (
            pytest.raises(Occupied, match=f"process {os.getpid()}.*: sudo systemctl stop device-agent"),
            only_agent(tmp_path, window),
        ):
            pass
        for name in STATE_VARIABLES:
            monkeypatch.setenv(name, str(tmp_path))
            with only_agent(tmp_path, window):
                pass
            monkeypatch.delenv(name)


def test_a_window_that_a_dead_speaker_left_keeps_nothing_from_running(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    window = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(window))
    with only_agent(tmp_path, window):
        pass


def test_a_second_run_ends_with_1_and_neither_hears_nor_plays(tmp_path):
    """The first one is killed, and nothing is in the way of the next."""
    (second := tmp_path / "second").mkdir()
    with Simulator(think_s=0.05) as simulator:
        first = write_config(tmp_path, simulator.url, sound=ROOM)
        other = write_config(second, simulator.url, sound=question())
        with running("run", "--config", first) as agent:
            agent.says("-> ready")
            with running("run", "--config", other) as late:
                assert late.end() == 1
            assert late.log == (
                f"Another device-agent is already running, as process {agent.process.pid}. "
                f"Stop it first: kill {agent.process.pid}\n"
            )
            assert not (second / "said.wav").exists()
            assert not simulator.connections
            with running("run", "--config", other, env={"STATE_DIRECTORY": str(second)}) as one_more:
                assert one_more.end() == 0, one_more.log
            agent.end(signal.SIGKILL)
        with running("run", "--config", other) as after:
            assert after.end() == 0, after.log


def test_a_question_is_asked_beside_an_agent_that_runs(tmp_path):
    with Simulator(think_s=0.05) as simulator:
        config = write_config(tmp_path, simulator.url, sound=ROOM)
        with running("run", "--config", config) as agent:
            agent.says("-> ready")
            with running("ask", "--config", config, "--save", tmp_path / "answer.wav", "hello") as asking:
                assert asking.end() == 0, asking.log
                assert "hello" in asking.output
