"""The examples of the documents are real code: they are taken out, held against the contracts, and used."""

from __future__ import annotations

import inspect
import json
import os
import socket
import subprocess
import sys
import threading
import types
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest

from device_agent.app.factories import open_service
from device_agent.config.load import parse_config
from device_agent.config.model import ServiceConfig, TalkConfig
from device_agent.core.conversation import MOODS
from device_agent.core.errors import DeviceFailed
from device_agent.core.events import PlaybackEnded, ToolCall
from device_agent.core.redaction import Secret
from device_agent.services.realtime_settings import RealtimeSettings
from device_agent.services.registry import SERVICES
from device_agent.simulator import Simulator
from device_agent.tools.base import ToolFailed
from device_agent.tools.command import Command
from tests.contract import test_sessions
from tests.docs.documents import ROOT, block
from tests.support.peers import Peer
from tests.support.room import Room, speech

EXTENDING = "docs/extending.md"


def module(name: str, about: str) -> types.ModuleType:
    """Return the example *about*, as a module called *name*."""
    made = types.ModuleType(name)
    made.__file__ = EXTENDING
    sys.modules[name] = made
    exec(compile(block(EXTENDING, about), f"{EXTENDING}: {about}", "exec"), made.__dict__)  # noqa: S102  our own
    return made


# A tool ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dice(tmp_path, monkeypatch):
    """The tool of the example, where it can be run, with its configuration."""
    program = tmp_path / "dice"
    program.write_text(block(EXTENDING, "tool").replace("/usr/bin/env python3", sys.executable))
    program.chmod(0o755)
    told = block(EXTENDING, "tool", "yaml").replace("/usr/local/bin/dice", str(program))
    (tool,) = parse_config(told, Path("config.yaml")).config.tools
    return tool


def test_the_tool_answers_and_explains_what_is_wrong(dice):
    command = Command(None, dice.command, dice.timeout_s)
    thrown = json.loads(command.run({"count": 3}, threading.Event()))
    assert thrown["sum"] == sum(thrown["thrown"])
    assert len(thrown["thrown"]) == 3
    with pytest.raises(ToolFailed, match="between 1 and 20 dice, please"):
        command.run({"count": 99}, threading.Event())


def test_the_assistant_uses_the_tool(dice):
    manners = {"think_s": 0.05, "tool": "roll_dice", "tool_arguments": '{"count": 2}'}
    with Simulator(**manners) as simulator, Room(simulator, tools=(dice,)) as room:
        room.ask()
        room.happened(ToolCall)
        room.see("ready", times=2)
        assert '\\"sum\\"' in json.dumps(simulator.connections[0].events)


# A piece of hardware --------------------------------------------------------------------------------------------------


@pytest.fixture
def led(tmp_path):
    """A folder like those below /sys/class/leds."""
    (tmp_path / "trigger").write_text("mmc0")
    (tmp_path / "brightness").write_text("0")
    return tmp_path


@pytest.fixture(scope="module")
def board_light():
    return module("board_light", "light").BoardLight


class Hand:
    """A clockwork that is moved by hand: *work* is done when it is woken, and now is always the beginning."""

    def __init__(self, _name, work):
        self._work = work

    def now(self):
        return 0.0

    def wake(self):
        self.due = self._work(0.0)

    def close(self):
        pass


def test_the_light_shows_every_mood_and_is_dark_at_the_end(board_light, led):
    light = board_light(led, Hand)
    assert (led / "trigger").read_text() == "none"
    for mood in sorted(set(MOODS.values())):
        light.show(mood)
        assert (led / "brightness").read_text() == "1"
    assert light._timer.due
    light.show("listening")
    assert light._timer.due is None  # steady
    light.close()
    assert (led / "brightness").read_text() == "0"


def test_a_light_that_is_missing_says_what_to_do(board_light, led):
    with pytest.raises(DeviceFailed, match=r"light nowhere: No such file or directory; run as root"):
        board_light(led / "nowhere")


def test_the_agent_holds_a_turn_with_the_light(board_light, led):
    with Simulator(think_s=0.05) as simulator, Room(simulator, light=board_light(led)) as room:
        room.ask()
        room.happened(PlaybackEnded)
    assert (led / "brightness").read_text() == "0"


# A service ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cellar(monkeypatch):
    """The service of the example, entered where services are entered."""
    made = module("device_agent.services.cellar", "service")
    monkeypatch.setitem(SERVICES, "cellar", "cellar:Cellar")
    return made.Cellar


CONTRACT = {
    name: test
    for name, test in vars(test_sessions).items()
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["peer"]
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_service_keeps_the_contract(cellar, name):
    peer = Peer("cellar")
    peer.ready()
    CONTRACT[name](peer)


def test_the_contract_is_a_whole_one():
    assert len(CONTRACT) > 15


def test_the_service_takes_its_settings_from_the_configuration(cellar):
    config = ServiceConfig(name="cellar", voice="bert")
    service = open_service(config, TalkConfig(), {"key": Secret("k")})
    assert (service.voice, service.model) == ("bert", "small-voice")
    assert {each.name for each in fields(cellar)} == {each.name for each in fields(RealtimeSettings)}
    (update,) = (json.loads(message) for message in greeting(service))
    assert "noise_reduction" not in json.dumps(update)


def greeting(service):
    session = service.session()
    session.tick(0.0)
    session.greet()
    return session.outgoing()


def test_the_agent_holds_a_turn_with_the_service(cellar):
    with Simulator("openai", think_s=0.05) as simulator:
        service = replace(ServiceConfig(name="cellar"), url=simulator.url, model="gpt-realtime", voice="marin")
        with Room(simulator, service=service) as room:
            room.ask()
            room.happened(PlaybackEnded)
            (turn,) = simulator.heard()
            assert speech() in turn.pcm


# Trying it out --------------------------------------------------------------------------------------------------------


def test_a_room_is_as_contributing_shows_it():
    exec(compile(block("CONTRIBUTING.md", "room"), "CONTRIBUTING.md", "exec"), {})  # noqa: S102  our own


@pytest.mark.slow
def test_a_rehearsal_is_one_command(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    (tmp_path / "device_agent").symlink_to(ROOT / "device_agent")
    (tmp_path / "rehearsal.yaml").write_text(block("docs/sound.md", "rehearsal", "yaml").replace("9100", str(port)))
    script = block("docs/sound.md", "rehearsal", "sh").replace("agent simulate", f"agent simulate --port {port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answer.wav").stat().st_size > 100_000
