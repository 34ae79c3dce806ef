"""Scenes of edits: the whole agent on real threads and real sockets, with a file that the owner saves."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from device_agent.app import agent as agent_module
from device_agent.app.agent import RESTART, Agent
from device_agent.app.assembly import Ports, build_device
from device_agent.app.device import Device
from device_agent.app.reconfigure import Reconfigurer
from device_agent.audio import echo_control
from device_agent.config.load import LoadedConfig
from device_agent.config.watcher import LAST_GOOD_NAME, ConfigWatcher
from device_agent.core.events import (
    ConfigApplied,
    ConfigRejected,
    LinkDown,
    LinkIdle,
    LinkUp,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Refused,
    Started,
    TalkStarted,
    ToolCall,
)
from device_agent.hardware import front_panel
from device_agent.simulator import Simulator
from tests.bench.edits import edit
from tests.support.agent_process import ROOM, running, write_config
from tests.support.room import PATIENCE_S, Eye, Finger, Room, RoomMicrophone, RoomSpeaker, speech


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Time goes faster here."""
    monkeypatch.setattr(agent_module, "CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(echo_control, "ECHO_TAIL_S", echo_control.ECHO_TAIL_S / 4)
    monkeypatch.setenv("XAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture
def simulator():
    with Simulator(key="k", think_s=0.05, pace=16) as running:
        yield running


class Home(Room):
    """A room whose device does what a file says."""

    def __init__(self, folder: Path, **config: object) -> None:
        self.file = folder / "config.yaml"
        self.values: dict[str, object] = {"cues": "{volume: 0}", "talk": "{silence_ms: 400}", "abilities": "[]"}
        self.save(**config)
        self.microphone, self.speaker, self.finger, self.light = RoomMicrophone(), RoomSpeaker(), Finger(), Eye()
        self.words = []
        self.edits = ConfigWatcher(self.file, folder / LAST_GOOD_NAME)
        self.edits.start()
        self.parts: list[Device] = []  # of each device
        self._happened = threading.Condition()
        self._assemble()

    def _assemble(self) -> None:
        ports = Ports(self.microphone, self.speaker, self.finger, self.light)
        self.parts.append(build_device(self.edits.config, ports, before=self.parts[-1] if self.parts else None))
        self.reconfigurer = Reconfigurer(self.edits, self.parts[-1])
        self.agent = Agent(self.parts[-1], observers=[self._observe], reconfigurer=self.reconfigurer)
        self._thread = threading.Thread(target=self._run, name="main of the agent", daemon=True)
        self.status = None

    def assemble_anew(self) -> None:
        """Do what the daemon does when a device has ended with RESTART: the next one follows it."""
        assert isinstance(self.reconfigurer.pending, LoadedConfig)
        self.edits.accept(self.reconfigurer.pending, tried=False)
        self._assemble()
        self._thread.start()

    def save(self, **sections: object) -> None:
        """Save the file with these sections changed."""
        self.values |= sections
        self.file.write_text("".join(f"{name}: {value}\n" for name, value in self.values.items()))

    def edit(self, **sections: object) -> None:
        """Save, and wait until that is taken."""
        before = len(self.all(ConfigApplied))
        self.save(**sections)
        self.happened(ConfigApplied, before + 1)

    def answered(self, times: int) -> None:
        """Ask, and wait until the answer is over that is to be number *times*."""
        self.ask()
        self.happened(PlaybackEnded, times)


def test_the_next_turn_has_the_voice_that_was_just_saved_and_the_user_does_not_wait_for_it(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}', voice: ara}}") as home:
        home.answered(1)
        home.edit(service=f"{{url: '{simulator.url}', voice: rex, instructions: Sing.}}")
        assert simulator.wait_for(lambda: len(simulator.connections) == 2 and not simulator.connections[0].open)
        home.answered(2)
        first, second = simulator.connections
        assert (first.settings["voice"], second.settings["voice"]) == ("ara", "rex")
        assert "Sing." in second.settings["instructions"]
        assert [len(first.turns), len(second.turns)] == [1, 1]
        assert "conversation.item.create" in second.types, "it is told what was said before"
        assert home.all(LinkDown) == home.all(LinkIdle) == []
        assert "offline" not in home.light.moods


def test_an_edit_in_the_middle_of_a_turn_waits_for_its_end(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
        home.finger.press()
        home.happened(TalkStarted)
        home.edit(service=f"{{url: '{simulator.url}', voice: rex}}", talk="{silence_ms: 700, vad: 3}")
        home.microphone.say(speech())
        home.microphone.wait_until_said()
        home.finger.release()
        home.happened(PlaybackEnded)
        (turn,) = simulator.turns
        assert speech() in turn.pcm
        assert simulator.wait_for(lambda: len(simulator.connections) == 2)
        assert simulator.connections[0].turns == [turn]


def test_the_volume_changes_in_the_middle_of_a_word(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}", speaker="{volume: 100}") as home:
        home.ask()
        home.happened(PlaybackStarted)
        home.edit(speaker="{volume: 1}")
        home.happened(PlaybackEnded)
        assert simulator.turns
        assert home.hears(simulator.turns[0].pcm) < 0.99, "the end of it was as loud as the beginning"
        assert home.agent.device.playback.volume == 1


def test_a_right_key_ends_a_refusal_at_once(simulator, tmp_path, monkeypatch):
    monkeypatch.delenv("XAI_API_KEY")
    key = tmp_path / "key"
    key.write_text("wrong")
    key.chmod(0o600)
    with Home(tmp_path, service=f"{{url: '{simulator.url}', api_key_file: {key}}}") as home:
        home.ask()
        home.happened(Refused)
        home.see("refused")
        key.write_text("k")
        home.happened(ConfigApplied)
        home.see("ready", times=2)
        home.answered(1)
        assert len(simulator.turns) == 1


@pytest.mark.slow
def test_another_service_takes_over_when_the_user_does_not_speak(simulator, tmp_path):
    with Simulator("openai", key="k", think_s=0.05, pace=16) as other:
        with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
            home.answered(1)
            home.edit(service=f"{{name: openai, url: '{other.url}'}}")
            home.happened(LinkUp, 2)
            home.answered(2)
        assert [len(simulator.turns), len(other.turns)] == [1, 1]


@pytest.mark.slow
def test_a_service_that_cannot_be_reached_does_not_cost_the_connection_that_there_is(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
        home.answered(1)
        home.edit(service="{url: 'ws://127.0.0.1:1'}")
        home.answered(2)
        (connection,) = simulator.connections
        assert len(connection.turns) == 2


@pytest.mark.slow
def test_always_connects_at_once_and_on_demand_lets_go(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
        home.edit(connection="{mode: always}")
        home.happened(LinkUp)
        home.edit(connection="{mode: on-demand, idle_s: 5}")
        home.happened(LinkIdle)
        assert simulator.turns == []


@pytest.mark.slow
def test_a_tool_that_was_just_written_down_is_used(tmp_path):
    lamp = "[{name: lamp, description: Switches the lamp., command: [echo, it shines]}]"
    with Simulator(key="k", think_s=0.05, pace=16, tool="lamp") as simulator:
        with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
            home.answered(1)
            home.edit(tools=lamp)
            assert simulator.wait_for(lambda: len(simulator.connections) == 2 and not simulator.connections[0].open)
            home.ask()
            home.happened(ToolCall)
            home.happened(PlaybackEnded, 2)
            assert "it shines" in str(simulator.connections[1].events)


def test_a_wrong_edit_is_seen_and_told_until_it_is_right(simulator, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
            home.save(talk="{vad: 9}")
            refused = home.happened(ConfigRejected)
            assert isinstance(refused, ConfigRejected)
            assert refused.reason.startswith(f"{home.file}:2:13: talk.vad should be")
            home.see("mistake")
            status = f"STATUS=mistake, with the previous settings: {refused.reason}"
            assert status in iter(lambda: manager.recv(4096).decode(), "")
            home.answered(1)
            home.see("mistake", times=2)
            manager.settimeout(0)
            with suppress(BlockingIOError):  # the manager holds ten messages, and what is more is not sent
                while manager.recv(4096):
                    pass
            manager.settimeout(PATIENCE_S)
            home.edit(talk="{vad: 2}")
            home.see("ready", times=2)
            assert "STATUS=ready, xai at 127.0.0.1" in iter(lambda: manager.recv(4096).decode(), "")


def test_what_changes_the_way_of_the_sound_waits_until_the_answer_was_heard(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
        home.ask()
        home.happened(PlaybackStarted)
        home.save(speaker="{device: hall}")
        assert home.ended() == RESTART
        (turn,) = simulator.turns
        assert home.hears(turn.pcm) > 0.999
        assert home.words[-1] != home.happened(Started)


@pytest.mark.parametrize("press", ["tapped", "tapped twice", "held and let go", "held"])
def test_a_press_while_the_device_is_assembled_anew_is_done_when_it_works(simulator, tmp_path, press):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}") as home:
        home.save(microphone="{channel: 2}")
        assert home.ended() == RESTART
        home.finger.press()  # the panel outlives the device
        if press != "held":
            if press == "held and let go":
                time.sleep(front_panel.MAX_TAP_S)
            home.finger.release()
        if press == "tapped twice":
            home.finger.tap()
        home.assemble_anew()
        home.happened(TalkStarted)
        home.microphone.say(speech())
        if press == "held":
            home.microphone.wait_until_said()
            home.finger.release()
        home.happened(PlaybackEnded)
        (turn,) = simulator.turns
        assert speech() in turn.pcm
        assert len(home.all(Pressed)) == 1


@pytest.mark.slow
def test_follow_up_is_not_cut_short_by_it(simulator, tmp_path):
    with Home(tmp_path, service=f"{{url: '{simulator.url}'}}", talk="{silence_ms: 400, follow_up_s: 2}") as home:
        home.answered(1)
        home.save(speaker="{device: hall}")
        home.microphone.say(speech())
        home.happened(PlaybackEnded, 2)
        assert home.ended() == RESTART
        assert [len(turn.pcm) > len(speech()) for turn in simulator.turns] == [True, True]


@pytest.mark.slow
def test_thirty_edits_under_fire_cost_no_turn(tmp_path):
    found = edit(30, seed=3, folder=tmp_path)
    assert found["problems"] == []
    assert (found["right"], found["wrong"], found["status"]) == (15, 15, 0)


@pytest.mark.slow
def test_the_process_takes_edits_signals_and_the_last_good_file(tmp_path, monkeypatch):
    monkeypatch.undo()  # at the speed of the world
    env = {"STATE_DIRECTORY": str(tmp_path / "state"), "XAI_API_KEY": "a-key-that-is-secret"}
    with Simulator() as simulator:
        config = write_config(tmp_path, simulator.url, sound=ROOM)
        text = config.read_text()
        with running("run", "--config", config, env=env) as agent:
            agent.says("-> ready")
            config.write_text(text.replace("volume: 100", "volume: 101"))
            agent.says(f"{config}:4:")
            agent.says("light: mistake")
            agent.process.send_signal(signal.SIGHUP)
            config.write_text(text.replace("volume: 100", "volume: 99"))
            agent.says("in use now: speaker.volume")
            (tmp_path / "another.wav").write_bytes((tmp_path / "heard.wav").read_bytes())
            config.write_text(text.replace("heard.wav", "another.wav").replace("volume: 100", "volume: 98"))
            agent.says("trying: microphone.device, speaker.volume")
            agent.says(f"{config}: in use now\n")
            config.write_text(text.replace("heard.wav", "nothing.wav"))
            agent.says(f"{config}:3:")
            agent.says("nothing.wav: No such file")
            assert agent.end(signal.SIGTERM) == 0, agent.log
        with running("run", "--config", config, env=env) as agent:
            agent.says(f"{config}:3:")
            agent.says("nothing.wav: No such file")
            agent.says("light: mistake")
            assert agent.end(signal.SIGTERM) == 0, "what was refused while it ran is refused at a start"
        config.write_text("talk: {vad: 9}\n")
        with running("run", "--config", config, env=env) as agent:
            agent.says("starting with the last good configuration")
            agent.says("light: mistake")
            assert agent.end(signal.SIGTERM) == 0, agent.log
        key = tmp_path / "key"
        key.write_text("a-key-that-is-secret")
        key.chmod(0o600)
        config.write_text(text.replace("service: {", f"service: {{api_key_file: {key}, "))
        os.unlink(tmp_path / "state" / LAST_GOOD_NAME)
        with running("run", "--config", config, env=env) as agent:
            agent.says("-> ready")
            assert any(
                (tmp_path / "state" / LAST_GOOD_NAME).exists() or threading.Event().wait(0.1) for _ in range(200)
            )
        key.unlink()
        with running("run", "--config", config, env=env) as agent:
            agent.says(f"the key file {key} cannot be read")
            agent.says("light: mistake")
            key.write_text("a-key-that-is-secret")
            key.chmod(0o600)
            agent.says("light: ready")
            assert agent.end(signal.SIGTERM) == 0, agent.log
        os.unlink(tmp_path / "state" / LAST_GOOD_NAME)
        config.write_text("talk: {vad: 9}\n")
        with running("run", "--config", config, env=env) as agent:
            assert agent.end() == 78, agent.log
