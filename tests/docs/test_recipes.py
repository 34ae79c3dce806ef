"""The recipes of the documents run as printed, against servers on this machine; only addresses are replaced."""

from __future__ import annotations

import ast
import json
import re
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from device_agent.config.load import parse_config
from device_agent.core.events import ToolCall
from device_agent.simulator import Simulator
from device_agent.tools.base import ToolFailed
from device_agent.tools.command import Command
from tests.docs.documents import block, blocks
from tests.support.room import Room

RECIPES = "docs/recipes.md"
NAMES = sorted(each.about for each in blocks(RECIPES) if each.language == "python")
CLOSED = "127.0.0.1:9"
"""Nothing listens there."""


class Web:
    """A web server on this machine: it remembers what it was asked, and answers with *answer*."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply("")

            def do_POST(self) -> None:
                self._reply(self.rfile.read(int(self.headers["Content-Length"])).decode())

            def _reply(self, body: str) -> None:
                web.asked.append((self.path, self.headers["Authorization"], body))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(web.answer).encode())

            def log_message(self, *_args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Web:
        threading.Thread(target=self._server.serve_forever, name="web").start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def player(heard: list[str], reply: str = "OK") -> Iterator[int]:
    """A Music Player Daemon that plays nothing."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"OK MPD 0.23.5\n")
            for line in self.rfile:
                heard.append(line.decode().strip())
                self.wfile.write(f"{reply}\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, name="player").start()
        yield server.server_address[1]
        server.shutdown()


def tool(folder: Path, name: str, **replaced: str) -> Any:
    """Return the settings of the recipe *name*, its program with other constants."""
    program = folder / name
    source = block(RECIPES, name).replace("/usr/bin/env python3", sys.executable)
    for constant, value in replaced.items():
        source, count = re.subn(rf"^{constant} = (\(\n.*?^\)|.*?)$", f"{constant} = {value}", source, flags=re.M | re.S)
        assert count == 1, constant
    program.write_text(source)
    program.chmod(0o755)
    told = block(RECIPES, name, "yaml").replace(f"/usr/local/bin/{name}", str(program))
    return parse_config(told, Path("config.yaml")).config.tools[0]


def run(recipe: Any, **arguments: object) -> Any:
    return json.loads(Command(None, recipe.command, recipe.timeout_s).run(arguments, threading.Event()))


def test_a_lamp_is_switched(tmp_path):
    with Web({"POWER": "ON"}) as plug:
        lamp = tool(tmp_path, "lamp", ON=f'"http://{plug.origin}/on"', OFF=f'"http://{plug.origin}/off"')
        assert run(lamp, on=True) == {"lamp": "on"}
        assert run(lamp, on=False) == {"lamp": "off"}
    assert [path for path, _, _ in plug.asked] == ["/on", "/off"]


def test_the_assistant_switches_the_lamp(tmp_path):
    with Web({"POWER": "ON"}) as plug:
        lamp = tool(tmp_path, "lamp", ON=f'"http://{plug.origin}/on"')
        with (
            Simulator(think_s=0.05, tool="lamp", tool_arguments='{"on": true}') as simulator,
            Room(simulator, tools=(lamp,)) as room,
        ):
            room.ask()
            room.happened(ToolCall)
            room.see("ready", times=2)
    assert [path for path, _, _ in plug.asked] == ["/on"]


def test_the_radio_plays_and_stops(tmp_path):
    heard: list[str] = []
    with player(heard) as port:
        radio = tool(tmp_path, "radio", MPD=f'("127.0.0.1", {port})')
        assert run(radio, station="jazz") == {"radio": "jazz"}
        assert heard == ["clear", 'add "https://radio.example/jazz.mp3"', "play"]
        assert run(radio, station="off") == {"radio": "off"}
        assert heard[3:] == ["stop"]
        with pytest.raises(ToolFailed, match="station folk is unknown; choose from: jazz, news"):
            run(radio, station="folk")


def test_the_radio_tells_what_the_player_complains_of(tmp_path):
    with player([], "ACK [50@0] {add} No such directory") as port:
        radio = tool(tmp_path, "radio", MPD=f'("127.0.0.1", {port})')
        with pytest.raises(ToolFailed, match="the player says: ACK .* No such directory"):
            run(radio, station="news")


def test_every_station_that_the_assistant_may_name_is_one():
    (stations,) = re.findall(r"^STATIONS = (\{.*?^\})$", block(RECIPES, "radio"), re.M | re.S)
    (radio,) = yaml.safe_load(block(RECIPES, "radio", "yaml"))["tools"]
    assert radio["parameters"]["properties"]["station"]["enum"] == [*ast.literal_eval(stations), "off"]


FORECAST = {
    "current": {"time": "2026-11-30T12:00", "interval": 900, "temperature_2m": 4.2, "wind_speed_10m": 11.5},
    "daily": {
        "time": ["2026-11-30"],
        "temperature_2m_max": [6.1],
        "temperature_2m_min": [-1.0],
        "precipitation_probability_max": [35],
    },
}


def test_the_weather_is_told(tmp_path):
    with Web(FORECAST) as service:
        weather = tool(tmp_path, "weather", URL=f'"http://{service.origin}/v1/forecast"')
        assert run(weather) == {
            "degrees Celsius now": 4.2,
            "wind in km/h": 11.5,
            "highest today": 6.1,
            "lowest today": -1.0,
            "chance of rain in percent": 35,
        }
        service.answer = {"error": True, "reason": "busy"}
        with pytest.raises(ToolFailed, match="the weather service does not answer"):
            run(weather)


def test_a_sentence_reaches_home_assistant(tmp_path):
    (tmp_path / "token").write_text("a-token\n")
    said = {"response": {"response_type": "action_done", "speech": {"plain": {"speech": "Turned on the light"}}}}
    with Web(said) as assist:
        house = tool(tmp_path, "house", URL=f'"http://{assist.origin}/api"', TOKEN_FILE=f'"{tmp_path}/token"')
        assert run(house, sentence="turn on the light") == {"result": "action_done", "says": "Turned on the light"}
    ((_, authorization, body),) = assist.asked
    assert authorization == "Bearer a-token"
    assert json.loads(body) == {"text": "turn on the light", "language": "en"}


@pytest.mark.parametrize(
    ("name", "replaced", "arguments"),
    [
        ("lamp", {"ON": f'"http://{CLOSED}/on"'}, {"on": True}),
        ("radio", {"MPD": '("127.0.0.1", 9)'}, {"station": "jazz"}),
        ("weather", {"URL": f'"http://{CLOSED}/"'}, {}),
        ("house", {"URL": f'"http://{CLOSED}/"', "TOKEN_FILE": '"/dev/null"'}, {"sentence": "turn on the light"}),
    ],
)
def test_what_does_not_answer_is_told(tmp_path, name, replaced, arguments):
    with pytest.raises(ToolFailed, match="does not answer"):
        run(tool(tmp_path, name, **replaced), **arguments)


def test_every_recipe_is_tried():
    assert NAMES == ["house", "lamp", "radio", "weather"]
