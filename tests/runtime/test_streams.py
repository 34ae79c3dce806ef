"""The command without standard input, output or error, as a launcher may start it."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from device_agent.dsp.correlation import likeness
from device_agent.simulator import Simulator
from tests.support.agent_process import PATIENCE_S, question, read_wav, write_config
from tests.support.cards import wait_for

CLOSED = [" ".join(some) for n in (1, 2, 3) for some in combinations(("<&-", ">&-", "2>&-"), n)]
CALLED = {
    "module": "-m device_agent",
    "script": "-c 'import sys; sys.argv[0] = \"device-agent\"; from device_agent.cli import entry; entry()'",
}


def shell(command: str, closed: str, called: str = "module") -> subprocess.CompletedProcess[str]:
    """Run the command by a shell that closes some streams; what is left of them is returned."""
    line = f"exec {sys.executable} {CALLED[called]} {command} {closed}"
    return subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, "XAI_API_KEY": "a-key-that-is-secret"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("closed", CLOSED)
def test_a_command_works_without_a_stream_and_tells_what_it_can(closed, called):
    told = shell("--version", closed, called)

    assert told.returncode == 0
    assert told.stderr == ""
    assert told.stdout.startswith("device-agent ") is (" >&-" not in f" {closed}")


@pytest.mark.parametrize("closed", CLOSED)
def test_a_mistake_keeps_its_status_and_is_told_where_it_can_be(tmp_path, closed):
    wrong = tmp_path / "config.yaml"
    wrong.write_text("talk: {vad: 9}\n")
    told = shell(f"config --config {wrong}", closed)

    assert told.returncode == os.EX_CONFIG
    assert told.stdout == ""
    assert ("talk.vad" in told.stderr) is ("2>&-" not in closed)
    assert "Traceback" not in told.stderr


def test_the_daemon_holds_a_turn_without_any_and_no_socket_takes_their_numbers(tmp_path: Path):
    """Or what a library writes to standard error would be read by a service."""
    with Simulator(think_s=0.05) as simulator:
        config = write_config(tmp_path, simulator.url, sound=question() + bytes(2 * 24000))
        line = f"exec {sys.executable} -m device_agent run --config {config} <&- >&- 2>&-"
        agent = subprocess.Popen(["sh", "-c", line], env={**os.environ, "XAI_API_KEY": "a-key-that-is-secret"})
        try:
            wait_for(lambda: simulator.turns, "a turn")
            streams = {os.readlink(f"/proc/{agent.pid}/fd/{number}") for number in range(3)}
            assert agent.wait(PATIENCE_S) == 0
        finally:
            agent.kill()
            agent.wait()

    assert streams == {os.devnull}
    said = read_wav(tmp_path / "said.wav")
    pieces = [question()[at : at + 4800] for at in range(40000, 110000, 4800)]
    assert sum(likeness(piece, said)[0] > 0.9 for piece in pieces) > len(pieces) / 2  # a busy machine tears gaps
