"""The real command against a server that others wrote: aimock speaks OpenAI Realtime as its makers understand it.

``make test-aimock`` installs it. There is no model in it: for each question it is told beforehand what to answer, with
words and never with sound. What it was asked is in its journal.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import ROOT
from tests.support.agent_process import RATE, Agent, question, running, write_wav

pytestmark = pytest.mark.aimock

RELEASE = "1.43.0"
"""As in the Makefile."""
PROGRAM = ROOT / f".aimock-{RELEASE}/node_modules/@copilotkit/aimock/dist/cli.js"
KEY = "sk-of-the-test"
STARTING_S = 30.0
CALL = "call_dice"
DICE = "import json, sys; asked = json.load(sys.stdin); print(json.dumps({'thrown': [4] * asked['count']}))"
FIXTURES = [
    {"match": {"userMessage": "What time is it?"}, "response": {"content": "Half past nine, and the sun is up."}},
    {"match": {"toolCallId": CALL}, "response": {"content": "Two fours."}},
    {
        "match": {"userMessage": "Roll two dice."},
        "response": {"toolCalls": [{"id": CALL, "name": "roll_dice", "arguments": {"count": 2}}]},
    },
    {"match": {"userMessage": "[audio input]"}, "response": {"content": "I heard you."}},
    {
        "match": {"userMessage": "Fail."},
        "response": {"error": {"message": "This is not allowed.", "type": "invalid_request_error"}, "status": 400},
    },
]
"""The first that matches answers."""


class Aimock:
    """A running server that knows FIXTURES and KEY."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM.exists(), f"aimock {RELEASE} is not installed: make test-aimock does that"
        (folder / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
        self._process = subprocess.Popen(
            ["node", PROGRAM, "--port", "0", "--fixtures", folder / "fixtures.json"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "AIMOCK_API_KEYS": KEY},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._listens = threading.Event()
        self.origin = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._said.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                self.origin = found[1]
                self._listens.set()

    def wait_until_it_listens(self) -> None:
        assert self._listens.wait(STARTING_S), "".join(self._said)

    def forget(self) -> None:
        self._call("POST", "/__aimock/reset/journal")

    def asked(self) -> list[dict[str, Any]]:
        """Return what it was asked, in the words of its journal."""
        asked = json.loads(self._call("GET", "/__aimock/journal"))
        return [entry["body"] for entry in asked if entry["path"] == "/v1/realtime" and entry["method"] == "WS"]

    def _call(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(self.origin + path, method=method, headers=headers)  # noqa: S310  our own
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return bytes(answer.read())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Aimock]:
    with closing(Aimock(tmp_path_factory.mktemp("aimock"))) as made:
        made.wait_until_it_listens()
        yield made


@pytest.fixture
def aimock(server) -> Aimock:
    """The server, with an empty journal."""
    server.forget()
    return server


def asking(aimock: Aimock, folder: Path, *words: str | Path, key: str = KEY) -> Any:
    """Ask with the settings that an owner of a server would write."""
    tool = {
        "name": "roll_dice",
        "description": "Rolls dice.",
        "parameters": {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]},
        "command": [sys.executable, "-c", DICE],
    }
    url = f"{aimock.origin.replace('http', 'ws', 1)}/v1/realtime"
    path = folder / "config.yaml"
    path.write_text(json.dumps({"service": {"name": "openai", "url": url}, "tools": [tool]}))  # JSON is YAML
    return running("ask", "--config", path, *words, env={"OPENAI_API_KEY": key})


def ended(agent: Agent) -> tuple[int, str]:
    """Return the exit status and what was printed."""
    return agent.end(), agent.output


@pytest.mark.parametrize("how", [["--text-only"], ["--save", "answer.wav"]], ids=["written", "spoken"])
def test_a_typed_question_is_answered(aimock, tmp_path, monkeypatch, how):
    """Sound that was asked for does not come; what comes is printed all the same."""
    monkeypatch.chdir(tmp_path)
    with asking(aimock, tmp_path, *how, "What", "time", "is", "it?") as agent:
        assert ended(agent) == (0, "Half past nine, and the sun is up.\n"), agent.log
    (asked,) = aimock.asked()
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]


def test_a_recorded_question_is_answered(aimock, tmp_path):
    clip = write_wav(tmp_path / "clip.wav", question(), RATE)
    with asking(aimock, tmp_path, "--text-only", "--audio", clip) as agent:
        assert ended(agent) == (0, "I heard you.\n"), agent.log


def test_a_tool_of_the_device_is_used_and_its_result_answered(aimock, tmp_path):
    with asking(aimock, tmp_path, "--text-only", "Roll", "two", "dice.") as agent:
        assert ended(agent) == (0, "Two fours.\n"), agent.log
    *_, last = aimock.asked()
    (result,) = (message for message in last["messages"] if message["role"] == "tool")
    assert result["tool_call_id"] == CALL
    assert json.loads(result["content"]) == {"thrown": [4, 4]}


def test_a_reply_that_failed_is_said_and_status_1(aimock, tmp_path):
    with asking(aimock, tmp_path, "--text-only", "Fail.") as agent:
        assert ended(agent) == (1, ""), agent.log
        assert "This is not allowed." in agent.log


def test_a_wrong_key_is_said_and_status_1(aimock, tmp_path):
    with asking(aimock, tmp_path, "--text-only", "What time is it?", key="sk-wrong") as agent:
        assert ended(agent) == (1, ""), agent.log
        assert "401" in agent.log
        assert "sk-wrong" not in agent.log
