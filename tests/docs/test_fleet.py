"""The token server of docs/fleet.md between the whole agent and the simulator."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from werkzeug.serving import make_server

from device_agent.config.model import ServiceConfig
from device_agent.core.events import PlaybackEnded, Refused
from device_agent.simulator import Simulator
from tests.support.paths import ROOT
from tests.support.room import Room

FILE = ROOT / "docs" / "fleet" / "token_server.py"


@pytest.fixture
def server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("token_server", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(key="the-key", think_s=0.05) as simulator:
        yield simulator


@pytest.fixture
def address(server, simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "key").write_text("the-key\n")
    (tmp_path / "devices").write_text(json.dumps({"kitchen": hashlib.sha256(b"open-sesame").hexdigest()}))
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("DEVICES_FILE", str(tmp_path / "devices"))
    monkeypatch.setenv("MINT_URL", f"{simulator.origin}/v1/realtime/client_secrets")
    http = make_server("127.0.0.1", 0, server.app, threaded=True)
    thread = threading.Thread(target=http.serve_forever, name="token-server")
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/token"
    http.shutdown()
    thread.join(10)
    http.server_close()


def device(simulator: Simulator, token_url: str, password: str, folder: Path) -> Room:
    file = folder / "password"
    file.write_text(password)
    file.chmod(0o600)
    wanted = ServiceConfig("xai", url=simulator.url, token_url=token_url, token_key_file=str(file))
    return Room(simulator, service=wanted, key="")


def test_a_device_without_the_key_holds_a_turn(simulator, address, tmp_path):
    with device(simulator, f"{address}/kitchen", "open-sesame", tmp_path) as room:
        room.ask()
        room.happened(PlaybackEnded)
        assert room.all(Refused) == []


@pytest.mark.parametrize(("name", "password"), [("kitchen", "wrong-sesame"), ("stranger", "open-sesame")])
def test_an_unknown_device_is_refused(simulator, address, name, password, tmp_path):
    with device(simulator, f"{address}/{name}", password, tmp_path) as room:
        room.ask()
        reason = room.happened(Refused).reason
        assert "403" in reason
        assert "sesame" not in reason
    assert not simulator.connections


def test_a_device_has_its_share_of_each_minute_and_no_more(server, monkeypatch):
    monkeypatch.setenv("PER_MINUTE", "2")
    asked = [("a", 0.0), ("a", 1.0), ("a", 59.9), ("b", 59.9), ("a", 60.0), ("a", 60.5)]
    assert [server.may_have_one(*each) for each in asked] == [True, True, False, True, True, False]
