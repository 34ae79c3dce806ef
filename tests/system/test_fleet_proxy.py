"""The LiteLLM proxy of docs/fleet.md, a recent release: a key for each speaker, and two services behind one alias."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from device_agent.core.events import LinkDown, LinkIdle, PlaybackEnded, Refused
from device_agent.simulator import Simulator
from tests.docs.documents import block
from tests.support.paths import ROOT
from tests.support.proxy import RELEASES, Proxy, ReservedPort
from tests.support.room import Room

pytestmark = pytest.mark.proxy

FILE = ROOT / "docs" / "fleet" / "devices.py"
KEY, ANOTHER = "sk-of-the-kitchen", "sk-of-the-hall"
QUICK = {"think_s": 0.05, "pace": 16}
TURNS = 12
"""That all of them go to the same of two services happens once in two thousand times."""


class FleetProxy(Proxy):
    """The settings of docs/fleet.md; both services are ports of this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(RELEASES[0], folder)
        self._folder = folder
        self._upstream["second"] = ReservedPort()
        self.ports = [self._upstream[name].number for name in ("xai", "second")]
        shutil.copy(FILE, folder)

    def admit(self, **keys: str) -> None:
        """From now on these speakers are known, and no others."""
        hashes = {device: hashlib.sha256(key.encode()).hexdigest() for device, key in keys.items()}
        (self._folder / "devices.json").write_text(json.dumps(hashes))

    def behind(self, which: int) -> Simulator:
        return Simulator("xai", port=self.ports[which], key=self._upstream_key, **QUICK)

    def _config(self) -> dict[str, Any]:
        config = yaml.safe_load(block("docs/fleet.md", "proxy", "yaml"))
        for each, port in zip(config["model_list"], self.ports, strict=True):
            each["litellm_params"] |= {"api_base": f"http://127.0.0.1:{port}/v1", "api_key": "os.environ/UPSTREAM_KEY"}
        return dict(config)


@pytest.fixture
def persistent(monkeypatch) -> None:
    """Let a speaker dial again every quarter of a second: half of its dials go to the one that is dead."""
    monkeypatch.setattr("device_agent.link.backoff.BACKOFF_LIMIT_S", 0.25)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[FleetProxy]:
    with FleetProxy(tmp_path_factory.mktemp("fleet")) as running:
        yield running


def device(proxy: FleetProxy, key: str, **settings: Any) -> Room:
    return Room(service=proxy.service("xai", model="grok-voice-agent"), key=key, **settings)


def test_a_speaker_is_known_by_its_own_key_until_it_is_struck_off(proxy):
    proxy.admit(kitchen=KEY, hall=ANOTHER)
    with proxy.behind(0), proxy.behind(1), device(proxy, KEY, idle_s=0.3) as kitchen:
        kitchen.ask()
        kitchen.happened(PlaybackEnded)
        kitchen.happened(LinkIdle)
        proxy.admit(hall=ANOTHER)
        kitchen.ask()
        assert "403" in kitchen.happened(Refused).reason
        kitchen.see("refused")
        with device(proxy, ANOTHER) as hall:
            hall.ask()
            hall.happened(PlaybackEnded)
            assert hall.all(Refused) == []


def test_an_unknown_key_is_refused_and_reaches_no_service(proxy, caplog):
    proxy.admit(kitchen=KEY)
    with proxy.behind(0) as first, proxy.behind(1) as second, device(proxy, "sk-of-nobody") as stranger:
        stranger.ask()
        assert "403" in stranger.happened(Refused).reason
        stranger.see("refused")
        assert first.connections + second.connections == []
    assert "sk-of-nobody" not in caplog.text


def test_two_services_share_the_turns_and_one_stands_in_for_the_other(proxy, persistent):
    proxy.admit(**{f"speaker-{n}": f"sk-{n}" for n in range(TURNS)})
    with ExitStack() as life_of_first, proxy.behind(1) as second:
        first = life_of_first.enter_context(proxy.behind(0))
        for n in range(TURNS):
            one_turn(proxy, f"sk-{n}")
        assert len(first.connections) + len(second.connections) == TURNS
        assert first.connections
        assert second.connections
        before = len(second.connections)
        life_of_first.close()
        for n in range(4):
            one_turn(proxy, f"sk-{n}")
        assert len(second.connections) == before + 4


def one_turn(proxy: FleetProxy, key: str) -> None:
    """Let a speaker connect, ask, and hear the answer."""
    with device(proxy, key) as speaker:
        speaker.ask()
        speaker.happened(PlaybackEnded)


def test_a_turn_waits_while_both_services_are_away(proxy, persistent):
    """A dial that failed leaves none of the connections taken that a speaker may have."""
    proxy.admit(kitchen="sk-patient")
    with device(proxy, "sk-patient") as kitchen:
        kitchen.ask()
        assert "1011" in kitchen.happened(LinkDown, 4).reason
        with proxy.behind(0), proxy.behind(1):
            kitchen.happened(PlaybackEnded)


def test_one_key_has_so_many_connections_at_once_and_no_more(proxy, persistent):
    """A third is a copy of the key, or a speaker gone mad. When one of them hangs up, it comes in."""
    proxy.admit(kitchen="sk-copied")
    with proxy.behind(0), proxy.behind(1), ExitStack() as lives, ExitStack() as life_of_second:
        for stack in (lives, life_of_second):
            speaker = stack.enter_context(device(proxy, "sk-copied"))
            speaker.ask()
            speaker.happened(PlaybackEnded)
        third = lives.enter_context(device(proxy, "sk-copied"))
        third.ask()
        reason = third.happened(LinkDown).reason
        assert "429" in reason
        assert "max_parallel_requests" in reason
        life_of_second.close()
        third.happened(PlaybackEnded)
