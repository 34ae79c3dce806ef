"""What the assistant may do on this device, with real commands."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from device_agent.core.actions import ToolResult
from device_agent.core.events import ToolCall
from device_agent.services.base import Function
from device_agent.tools.command import MAX_OUTPUT_BYTES, Command
from device_agent.tools.toolbox import MAX_PENDING_CALLS, Toolbox
from tests.support.samples import MORE_THAN_A_PIPE_HOLDS

PATIENCE_S = 20.0


def command(name: str, script: str, timeout: float = 10.0) -> Command:
    return Command(Function(name, "", {"type": "object"}), (sys.executable, "-c", script), timeout)


class Bench:
    """A toolbox, and what it answered."""

    def __init__(self, *tools: Command) -> None:
        self.toolbox = Toolbox(tools)
        self.answers: queue.SimpleQueue[ToolResult] = queue.SimpleQueue()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.toolbox.close()

    def call(self, name: str, arguments: str = "{}", call: str = "c1") -> None:
        self.toolbox.run(ToolCall(call, name, arguments), self.answers.put)

    def answer(self, name: str, arguments: str = "{}") -> ToolResult:
        self.call(name, arguments)
        return self.answers.get(timeout=PATIENCE_S)


def test_a_command_gets_its_arguments_as_json_and_its_output_is_the_answer():
    add = command("add", "import json, sys; a = json.load(sys.stdin); print(json.dumps({'sum': a['x'] + a['y']}))")
    with Bench(add) as bench:
        assert bench.answer("add", '{"x": 2, "y": 3}') == ToolResult(
            "c1", '{"sum": 5}', name="add", arguments='{"x": 2, "y": 3}'
        )


def test_an_output_that_is_not_json_is_a_string():
    with Bench(command("hello", "print('good day')")) as bench:
        assert bench.answer("hello").output == '"good day"'


@pytest.mark.parametrize(
    ("script", "timeout", "words"),
    [
        ("import sys; sys.exit('no lamp')", 10.0, "no lamp"),
        ("import sys; sys.exit(3)", 10.0, "status 3"),
        ("import time; time.sleep(60)", 0.5, "longer than 0.5 s"),
        ("while True: print('x' * 1000)", 10.0, f"more than {MAX_OUTPUT_BYTES}"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 10.0, "status -11"),
    ],
)
def test_a_command_that_fails_is_told_of(script, timeout, words):
    with Bench(command("t", script, timeout)) as bench:
        result = bench.answer("t")
        assert result.failed
        assert words in json.loads(result.output)["error"]


@pytest.mark.parametrize(("name", "arguments"), [("dance", "{}"), ("t", "{"), ("t", "[]"), ("t", "[" * 9999)])
def test_a_call_that_makes_no_sense_is_told_of(name, arguments):
    with Bench(command("t", "print(1)")) as bench:
        assert bench.answer(name, arguments).failed


def test_a_command_that_does_not_listen_is_no_error():
    with Bench(command("deaf", "import os; os.close(0); print(1)")) as bench:
        assert bench.answer("deaf", MORE_THAN_A_PIPE_HOLDS).output == "1"


def test_a_program_that_is_not_there_is_told_of():
    missing = Command(Function("m", "", {}), ("/nowhere/program",), 1.0)
    with Bench(missing) as bench:
        assert "does not start" in bench.answer("m").output


def test_a_command_sees_no_key(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", "secret")
    with Bench(command("env", "import os; print(dict(os.environ))")) as bench:
        assert "secret" not in bench.answer("env").output


def test_what_a_command_leaves_behind_is_ended_with_it(tmp_path):
    left = tmp_path / "pid"
    script = f"import subprocess; p = subprocess.Popen(['sleep', '60']); open({str(left)!r}, 'w').write(str(p.pid))"
    with Bench(command("parent", script)) as bench:
        bench.answer("parent")
    ends = time.monotonic() + PATIENCE_S
    while _lives(int(left.read_text())):
        assert time.monotonic() < ends


@pytest.mark.parametrize("session", ["same", "own"])
@pytest.mark.parametrize("last", ["", "no lamp"])
def test_a_command_is_answered_although_a_child_that_it_left_holds_its_output(tmp_path, session, last):
    """It would take an hour otherwise: the timeout of the command is that long."""
    left, script = tmp_path / "pid", tmp_path / "tool.sh"
    ends = f"echo {last} >&2; exit 1" if last else "exit 0"
    script.write_text(f"{'setsid ' if session == 'own' else ''}sleep 60 &\necho $! > {left}\necho '[1, 2]'\n{ends}\n")
    with Bench(Command(Function("t", "", {"type": "object"}), ("/bin/sh", str(script)), 3600.0)) as bench:
        result = bench.answer("t")
    assert result.failed is bool(last)
    assert result.output == (json.dumps({"error": last}) if last else "[1, 2]")
    pid = int(left.read_text())
    if session == "own":  # beyond our reach, and of no interest to us
        os.kill(pid, signal.SIGKILL)
    ends = time.monotonic() + PATIENCE_S
    while _lives(pid):
        assert time.monotonic() < ends


def test_what_a_command_said_last_is_heard_although_a_child_holds_its_output():
    most = f"import subprocess, sys; subprocess.Popen(['sleep', '60']); print('x' * {MAX_OUTPUT_BYTES - 1})"
    with Bench(command("t", most, 3600.0)) as bench:
        assert len(json.loads(bench.answer("t").output)) == MAX_OUTPUT_BYTES - 1


def test_a_child_that_is_left_behind_and_goes_on_writing_does_not_delay_the_answer():
    talk = "while sleep 0.05; do echo 8; done"
    script = f"import subprocess; print(7, flush=True); subprocess.Popen(['sh', '-c', {talk!r}])"
    with Bench(command("t", script, 3600.0)) as bench:
        assert bench.answer("t").output.startswith('"7')


def test_a_command_that_closes_everything_and_stays_has_its_time_once():
    script = "import os, time; time.sleep(0.4); os.close(0); os.close(1); os.close(2); time.sleep(60)"
    with Bench(command("t", script, 0.8)) as bench:
        assert "longer than 0.8 s" in bench.answer("t").output


def test_several_run_at_once(tmp_path):
    meet = f"""
import pathlib, time
here = pathlib.Path({str(tmp_path)!r})
(here / str(time.monotonic_ns())).touch()
while len(list(here.iterdir())) < 3: time.sleep(0.01)
print(1)
"""
    with Bench(command("meet", meet)) as bench:
        for number in range(3):
            bench.call("meet", call=str(number))
        assert {bench.answers.get(timeout=PATIENCE_S).call for _ in range(3)} == {"0", "1", "2"}


def test_too_many_calls_are_told_of_at_once():
    with Bench(command("slow", "import time; time.sleep(60)")) as bench:
        for _ in range(MAX_PENDING_CALLS + 1):
            bench.call("slow")
        assert "under way already" in bench.answers.get(timeout=PATIENCE_S).output


def test_closing_ends_what_runs():
    bench = Bench(command("slow", "import time; time.sleep(60)"))
    bench.call("slow")
    with bench:
        pass
    assert bench.answers.empty()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tool")]


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() and os.path.exists(f"/proc/{pid}")
    except OSError:
        return False
