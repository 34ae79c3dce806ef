"""What an edit changes while the device runs: every key of config.yaml is either proved to, or assembles it anew.

The device is a whole one, on pins that are simulated; only its threads do not run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from device_agent.app.agent import Agent
from device_agent.app.assembly import Ports, build_device
from device_agent.app.daemon import Daemon
from device_agent.app.device import Device
from device_agent.app.factories import open_services
from device_agent.app.reconfigure import REBUILD_KEYS, needs_rebuild, retune
from device_agent.audio.cues import CuePolicy
from device_agent.config.diff import leaves
from device_agent.config.load import LoadedConfig
from device_agent.config.model import Config, MetricsConfig, MqttConfig, ServiceConfig, ToolConfig
from device_agent.core.actions import Cue, GateMode
from device_agent.core.errors import ConfigError, DeviceFailed, LinkRefused
from device_agent.core.events import AlarmDue, ConfigApplied, MuteAsked, Started, WakeUp
from device_agent.core.redaction import Secret
from device_agent.runtime.signals import asked_by_hangup
from tests.support.room import RoomMicrophone, RoomSpeaker

USUAL = Config()
KEYS = [name for name, _ in leaves(Config())]
LAMP = ToolConfig("lamp", "Switches the lamp.", ("true",))


@pytest.fixture(autouse=True)
def _pins_and_key(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "k2")
    before, gpiozero.Device.pin_factory = gpiozero.Device.pin_factory, MockFactory()
    yield
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


@pytest.fixture
def device(request):
    made: list[Device] = []

    def build(config: Config) -> Device:
        made.append(build_device(config, Ports(RoomMicrophone(), RoomSpeaker())))
        return made[-1]

    yield build
    for parts in made:
        parts.panel.close()
        parts.outbox.close()


def edited(config: Config, key: str, value: Any) -> Config:
    """Return *config* with another *value* of *key*."""
    section, _, name = key.rpartition(".")
    return replace(
        config, **{section: replace(getattr(config, section), **{name: value})} if section else {name: value}
    )


def with_service(**settings: Any) -> Config:
    return Config(service=replace(ServiceConfig(), **settings))


def service(name: str) -> Callable[[Device], Any]:
    return lambda parts: getattr(parts.link._services[0], name)


def patience(state: str) -> Callable[[Device], Any]:
    return lambda parts: {each.value: s for each, s in parts.conversation._timeouts.items()}[state]


def taken(parts: Device) -> Any:
    """Return which pins are taken, by number."""
    made = gpiozero.Device.pin_factory.pins
    return {pin.info.name for pin in made.values() if gpiozero.Device.pin_factory._reservations.get(pin.info)}


def pulled(pin: int) -> Callable[[Device], Any]:
    return lambda _parts: gpiozero.Device.pin_factory.pin(pin).pull


def gate(name: str) -> Callable[[Device], Any]:
    def look(parts: Device) -> Any:
        parts.gate._take_rules()
        return getattr(parts.gate._policy, name)

    return look


def vad_of(parts: Device) -> Any:
    parts.gate._take_rules()
    return parts.gate._is_speech


def loudness_of(cue: Cue) -> Callable[[Device], Any]:
    return lambda parts: parts.cues._volumes[cue]


@dataclass
class Proof:
    """An edit, and what shows that it has taken effect."""

    value: Any
    look: Callable[[Device], Any]
    shows: Any = None
    """What ``look`` then returns; None: the value itself."""
    before: Config = USUAL


OF_TOKENS = with_service(token_url="https://tokens.example")  # noqa: S106  no password

LIVE = {
    "service.name": Proof("openai", lambda parts: type(parts.link._services[0]).__name__, "OpenAI"),
    "service.url": Proof("wss://proxy.example/v1", service("url")),
    "service.model": Proof("m", service("model")),
    "service.voice": Proof("v", service("voice")),
    "service.instructions": Proof("Sing.", service("instructions")),
    "service.api_key_file": Proof("", service("key"), Secret("from-a-file")),
    "service.token_url": Proof("https://tokens.example", service("token_url")),
    "service.token_key_file": Proof("", service("token_key"), Secret("from-a-file"), before=OF_TOKENS),
    "service.ca_file": Proof("/etc/ca.pem", service("ca_file")),
    "service.tools": Proof(("web_search",), service("tools")),
    "service.language": Proof("de", service("language")),
    "service.reasoning": Proof("none", service("reasoning")),
    "service.speed": Proof(1.2, service("speed")),
    "service.patience_s": Proof(90.0, service("patience_s")),
    "service.dialect": Proof(
        "openai", service("dialect"), before=with_service(name="litellm", model="m", url="ws://a")
    ),
    "fallback": Proof((ServiceConfig("openai"),), lambda parts: len(parts.link._services), 2),
    "talk.start": Proof("voice", lambda parts: parts.conversation._gate_mode(), GateMode.VOICE),
    "talk.vad": Proof(3, lambda parts: vad_of(parts).aggressiveness),
    "talk.silence_ms": Proof(1000, gate("silence"), 50),
    "talk.preroll_ms": Proof(100, gate("preroll"), 5),
    "talk.follow_up_s": Proof(7.0, patience("follow-up")),
    "talk.interrupt": Proof(
        "voice", lambda parts: (parts.echo._half_duplex, parts.conversation._policy.voice_interrupts), (False, True)
    ),
    "connection.mode": Proof(
        "always", lambda parts: (parts.link._policy.wanted, patience("ready")(parts)), (True, None)
    ),
    "connection.idle_s": Proof(33.0, patience("ready")),
    "connection.daily_minutes": Proof(2, lambda parts: parts.meter.limit, 120.0),
    "speaker.volume": Proof(33, lambda parts: parts.playback.volume),
    "speaker.wake_ms": Proof(400, lambda parts: parts.playback.wake),
    "button.pin": Proof(4, taken, {"GPIO4", "GPIO25"}),
    "button.inverted": Proof(True, pulled(17), "down"),
    "light.pin": Proof(4, taken, {"GPIO17", "GPIO4"}),
    "light.rgb": Proof((4, 5, 6), taken, {"GPIO17", "GPIO4", "GPIO5", "GPIO6"}),
    "light.inverted": Proof(True, lambda parts: parts.panel._ports["light"]._leds[0].active_high, False),
    "controls.volume_up": Proof(4, taken, {"GPIO17", "GPIO25", "GPIO4"}),
    "controls.volume_down": Proof(4, taken, {"GPIO17", "GPIO25", "GPIO4"}),
    "controls.volume_inverted": Proof(True, pulled(4), "down", edited(Config(), "controls.volume_up", 4)),
    "controls.encoder": Proof((4, 5), taken, {"GPIO17", "GPIO25", "GPIO4", "GPIO5"}),
    "controls.mute": Proof(4, lambda parts: parts.conversation._policy.press_unmutes, False),
    "controls.mute_is": Proof(
        "switch", lambda parts: parts.panel.muted is not None, True, edited(Config(), "controls.mute", 4)
    ),
    "controls.mute_inverted": Proof(True, pulled(4), "down", edited(Config(), "controls.mute", 4)),
    "cues.volume": Proof(9, loudness_of(Cue.DONE)),
    "cues.play": Proof(("listening",), loudness_of(Cue.DONE), 0),
    "alarms.volume": Proof(90, loudness_of(Cue.ALARM)),
    "abilities": Proof(
        ("time",), lambda parts: (set(parts.toolbox._tools), len(service("functions")(parts))), ({"get_time"}, 1)
    ),
    "tools": Proof(
        (LAMP,), lambda parts: "lamp" in parts.toolbox._tools and service("functions")(parts)[0].name, "lamp"
    ),
}
"""Keys of what changes while the device runs."""

AROUND = {
    "connection.price_per_minute": (
        0.5,
        lambda daemon: daemon._statistics.snapshot(0.0)["connected"]["price_per_minute"],
    ),
    "log.transcript": ("info", lambda daemon: daemon._transcript._level is not None),
}
"""Keys of what stands around the device, and how to see them there."""

OF_THE_RATE = {"service.rate": 16000, "service.audio": "pcmu"}
"""Keys that assemble anew where they change the rate of sound, and an edit of them that does."""

BESIDE = frozenset({"metrics", "mqtt"})
"""Sections about the exporters; ``test_exporters`` shows that they take effect."""


@pytest.mark.parametrize("key", KEYS)
def test_no_key_is_forgotten(key):
    """A new key wants to be in one of these, and to take effect there."""
    places = [key in LIVE, key in AROUND, key in REBUILD_KEYS, key in OF_THE_RATE, key.partition(".")[0] in BESIDE]
    assert places.count(True) == 1, key


def test_no_key_is_made_up():
    assert {*LIVE, *AROUND, *REBUILD_KEYS, *OF_THE_RATE} <= set(KEYS)
    assert {each.name for each in fields(Config)} >= BESIDE


@pytest.mark.parametrize("key", LIVE)
def test_it_takes_effect_while_the_device_runs(key, device, tmp_path, monkeypatch):
    proof = LIVE[key]
    monkeypatch.setenv("LITELLM_API_KEY", "k3")
    if key in {"service.api_key_file", "service.token_key_file"}:
        file = tmp_path / "key"
        file.write_text("from-a-file")
        file.chmod(0o600)
        proof = replace(proof, value=str(file))
    old, new = proof.before, edited(proof.before, key, proof.value)
    parts = device(old)
    wanted = proof.value if proof.shows is None else proof.shows
    assert proof.look(parts) != wanted, "it was so before"
    assert not needs_rebuild(old, new)
    retune(parts, old, new)
    assert proof.look(parts) == wanted
    retune(parts, new, old)
    assert proof.look(parts) != wanted, "and back again"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("microphone.device", "hall"),
        ("speaker.device", "hall"),
        ("echo.mode", "cancel"),
        ("talk.end", "service"),
        *OF_THE_RATE.items(),
    ],
)
def test_what_changes_the_way_of_the_sound_assembles_anew(key, value):
    assert needs_rebuild(Config(), edited(Config(), key, value))


def test_a_rate_that_the_service_does_not_know_changes_nothing():
    openai = with_service(name="openai")
    assert not needs_rebuild(openai, edited(openai, "service.rate", 16000))


@pytest.mark.parametrize("key", AROUND)
def test_what_stands_around_the_device_hears_of_it(key, tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    value, look = AROUND[key]
    (tmp_path / "config.yaml").write_text("")
    daemon = Daemon(tmp_path / "config.yaml")
    assert not look(daemon)
    assert not needs_rebuild(Config(), edited(Config(), key, value))
    daemon._watcher.accept(LoadedConfig(edited(Config(), key, value), "", {}))
    assert look(daemon) == (value if isinstance(value, float) else True)


def test_exporters_are_told_of_a_changed_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "config.yaml").write_text("")
    daemon, settled = Daemon(tmp_path / "config.yaml"), []
    daemon._exporters = SimpleNamespace(apply=settled.append)
    new = replace(Config(), metrics=MetricsConfig(9101), mqtt=MqttConfig("broker"))
    assert not needs_rebuild(Config(), new)
    daemon._watcher.accept(LoadedConfig(new, "", {}))
    assert settled == [new]


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key_file": "/nowhere"},
        {"token_url": "https://127.0.0.1/", "token_key_file": "/nowhere"},
        {"name": "openai", "token_url": "https://127.0.0.1/", "token_key_file": "~nosuchuser/key"},
    ],
)
def test_what_the_rate_of_the_sound_is_takes_no_secret(settings):
    assert not needs_rebuild(Config(), with_service(**settings))


def test_a_service_without_its_key_refuses_and_the_others_serve(monkeypatch):
    found = Config(service=ServiceConfig(api_key_file="/nowhere"), fallback=(ServiceConfig("openai"),))
    with pytest.raises(ConfigError, match="/nowhere"):
        open_services(found)
    shut, open_ = open_services(found, patient=True)
    assert (shut.rate, shut.session().ready, open_.invitation("")) == (24000, False, None)
    with pytest.raises(LinkRefused, match="/nowhere cannot be read"):
        shut.invitation("")


def test_a_hangup_reads_the_file_again_and_wakes_the_main_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "config.yaml").write_text("")
    daemon, told = Daemon(tmp_path / "config.yaml"), []
    daemon._agent = SimpleNamespace(tell=told.append)
    with asked_by_hangup(daemon.reload):
        os.kill(os.getpid(), signal.SIGHUP)
    assert told == [WakeUp()]
    assert isinstance(daemon._watcher.poll(1.0), LoadedConfig)


# What goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (Config(service=ServiceConfig(voice="v", api_key_file="/nowhere")), ConfigError),
        (edited(edited(Config(service=ServiceConfig(voice="v")), "speaker.volume", 3), "button.pin", 99), DeviceFailed),
        (edited(edited(Config(), "talk.start", "voice"), "light.rgb", (4, 5, 99)), DeviceFailed),
    ],
)
def test_nothing_half_is_taken(wrong, error, device):
    parts = device(Config())
    services, before = parts.link._services, (taken(parts), parts.playback.volume, parts.conversation._gate_mode())
    with pytest.raises(error):
        retune(parts, Config(), wrong)
    assert (taken(parts), parts.playback.volume, parts.conversation._gate_mode()) == before
    assert parts.link._services == services
    assert parts.link._policy.generation == 0


def test_an_edit_that_does_not_concern_the_service_leaves_the_connection_alone(device):
    parts = device(Config())
    for key in ("speaker.volume", "talk.vad", "light.pin", "cues.volume", "connection.idle_s"):
        retune(parts, Config(), edited(Config(), key, LIVE[key].value))
    assert parts.link._policy.generation == 0


def test_button_and_light_may_swap_their_pins(device):
    parts = device(Config())
    retune(parts, Config(), edited(edited(Config(), "button.pin", 25), "light.pin", 17))
    gpiozero.Device.pin_factory.pin(25).drive_low()
    assert taken(parts) == {"GPIO17", "GPIO25"}


def test_a_volume_that_was_turned_by_hand_outlives_edits_of_other_keys(device):
    parts = device(Config())
    parts.playback.volume = 11
    parts.memory.put("volume", 11)
    retune(parts, Config(), edited(Config(), "talk.vad", 0))
    assert parts.playback.volume == 11


def test_an_edit_that_removes_the_last_way_to_unmute_unmutes_the_device(device):
    parts = device(Config())
    parts.conversation.muted = True
    retune(parts, Config(), edited(Config(), "button.pin", None))
    assert parts.inbox.get_nowait() == MuteAsked(False)
    assert "mute" not in parts.toolbox._tools


def test_an_alarm_that_rings_goes_on_as_loud_as_it_is_to_be_now(device):
    parts = device(Config())
    agent = Agent(build_device(Config(), Ports(RoomMicrophone(), RoomSpeaker(), button=parts.panel, light=parts.panel)))
    agent._handle(Started(), 0.0)
    agent.device.alarms.set_timer(1, "pasta", wall=0.0, steady=0.0)
    (due,) = agent.device.alarms.due(2.0, 2.0)
    assert due == AlarmDue("pasta")
    agent._handle(due, time.monotonic())
    before = agent.device.playback._cues._ring
    agent.device.cues.tune(CuePolicy(50, 10, ()))
    agent._handle(ConfigApplied(), time.monotonic())
    assert len(agent.device.playback._cues._ring) == len(before)
    assert agent.device.playback._cues._ring != before
    agent.device.outbox.close()
