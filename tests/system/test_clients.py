"""Clients that others wrote hold a turn, a tool round and an interruption against the simulated services.

``make test-clients`` installs them, each in an environment of its own, and runs these; one that cannot be installed is
left out. What they send is what the live services are known to take, so the simulator may not refuse any of it.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import pytest

from device_agent.dsp.correlation import likeness
from device_agent.simulator import QUESTION, Simulator, Turn
from tests.support.paths import ROOT
from tests.support.room import speech

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".clients"
KEY = "sk-right"
PATIENCE_S = 90.0
SECOND = 48_000
"""Bytes of a second of sound."""
HEARD = "(2.5 seconds of speech)"
ANSWER = f"You said: {HEARD}."
RESULT = "The lamp is on."


@dataclass(frozen=True)
class Client:
    """A program in ``tests/clients`` that talks to a *service*."""

    name: str
    service: str

    def __str__(self) -> str:
        return f"{self.name}-{self.service}"

    @property
    def _command(self) -> list[str]:
        program = HERE / "clients" / f"client_{self.name}"
        if (HERE / "clients" / f"{self.name}.json").exists():
            return ["node", f"{program}.mjs"]
        return [str(ENVIRONMENTS / self.name / "bin" / "python"), f"{program}.py"]

    def play(self, scene: str, simulator: Simulator) -> dict[str, Any]:
        """Let the client play *scene*; return what it saw."""
        place = ENVIRONMENTS / self.name
        if (place / ".missing").exists():
            pytest.skip(f"{self.name} could not be installed")
        assert (place / ".tried").exists(), f"{self.name} is not installed: make test-clients does that"
        with as_file(QUESTION) as question:
            told = {
                "SERVICE": self.service,
                "SERVICE_URL": simulator.url,
                "SERVICE_KEY": KEY,
                "QUESTION": str(question),
            }
            env = {**os.environ, **told, "NODE_MODULES": str(place / "node_modules")}
            command = [*self._command, scene]
            run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert run.returncode == 0, run.stderr[-2000:]
        seen: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return seen


CLIENTS = [
    Client("livekit", "openai"),
    Client("livekit", "xai"),
    Client("openai_agents", "openai"),
    Client("agents_js", "openai"),
    Client("pydantic_ai", "openai"),
    Client("pydantic_ai", "xai"),
]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=str)


@pytest.fixture
def simulator(client: Client) -> Any:
    lines: list[str] = []
    with Simulator(client.service, key=KEY, think_s=0.05, say=lines.append) as running:
        yield running
    assert [line for line in lines if "refused" in line] == []


def heard(seen: dict[str, Any]) -> int:
    """How much sound came, in bytes."""
    return sum(seen["heard"]) if isinstance(seen["heard"], list) else int(seen["heard"])


def is_the_question(turn: Turn) -> bool:
    return likeness(speech(), turn.pcm)[0] > 0.99


@every_client
def test_a_turn(client: Client, simulator: Simulator) -> None:
    seen = client.play("turn", simulator)
    (turn,) = simulator.turns
    assert is_the_question(turn)
    assert seen["errors"] == []
    assert heard(seen) == pytest.approx(len(turn.pcm), abs=0.02 * SECOND)
    assert seen["said"][-1] == ANSWER
    assert HEARD in seen.get("transcripts", seen["said"])


@every_client
def test_a_tool_round(client: Client, simulator: Simulator) -> None:
    seen = client.play("tool", simulator)
    (connection,) = simulator.connections
    items = [event["item"] for event in connection.events if event["type"] == "conversation.item.create"]
    assert [item["output"] for item in items if item["type"] == "function_call_output"] == [RESULT]
    assert connection.replies == 2
    assert seen["errors"] == []
    assert seen["said"][-1] == f"The tool said: {RESULT}"
    assert seen.get("tools", [RESULT]) == [RESULT]


@every_client
def test_an_interruption(client: Client, simulator: Simulator) -> None:
    seen = client.play("interruption", simulator)
    first, second = simulator.turns
    assert is_the_question(first)
    assert is_the_question(second)
    assert seen["errors"] == []
    assert seen["said"][-1] == ANSWER
    assert len(second.pcm) < heard(seen) < len(first.pcm) + len(second.pcm) - SECOND
    assert seen.get("cut", 1) == 1


@pytest.mark.parametrize("client", [Client("livekit", "xai")], ids=str)
def test_an_announcement_word_for_word(client: Client, simulator: Simulator) -> None:
    seen = client.play("announcement", simulator)
    assert (seen["said"], seen["errors"]) == (["The tea is ready."], [])
