"""Scenes with what the device does by itself: cues, volume, mute, alarms, the cap of the day, trouble."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.audio.cues import CuePolicy, Cues
from device_agent.config.model import TalkConfig
from device_agent.core.actions import Cue, InterruptReply, Play, StopAlarm
from device_agent.core.errors import DeviceFailed
from device_agent.core.events import (
    AlarmDue,
    DailyLimitReached,
    LinkIdle,
    LinkUp,
    MicrophoneLost,
    MuteAsked,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Refused,
    ReplyStarted,
    SpeakerLost,
    StopAsked,
    TalkStarted,
    Unmuted,
    VolumeAsked,
)
from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import level
from device_agent.simulator import Simulator
from device_agent.state.alarms import Alarms
from device_agent.state.store import StateStore
from tests.support.room import RATE, Room, speech

CUES = Cues(RATE, CuePolicy(100, 70))


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05, pace=16) as running:
        yield running


class Knobs:
    """A volume knob and a mute button that one can turn and press; a *switch* has a position."""

    when_turned: Callable[[int], None] | None = None
    when_muted: Callable[[bool | None], None] | None = None

    def __init__(self, switch: bool | None = None) -> None:
        self.muted = switch

    def turn(self, steps: int) -> None:
        assert self.when_turned
        self.when_turned(steps)

    def press_mute(self) -> None:
        assert self.when_muted
        self.when_muted(None)

    def close(self) -> None:
        pass


def hears_cue(room: Room, cue: Cue) -> bool:
    """Return whether *cue* comes out of the loudspeaker, at once or soon."""
    return room.hears_soon(CUES.sound(cue))


def test_a_turn_sounds_like_one(simulator):
    with Room(simulator, cues=100) as room:
        room.ask()
        room.happened(PlaybackEnded)
        heard, reply = room.speaker.heard, simulator.heard()[0].pcm
        _, begun = likeness(CUES.sound(Cue.LISTENING), heard)
        _, done = likeness(CUES.sound(Cue.DONE), heard)
        _, answered = likeness(reply[-RATE:], heard)
        assert begun < done < answered
        assert [play.cue for play in room.all(Play)] == [Cue.LISTENING, Cue.DONE]


def test_a_refusal_is_heard(simulator):
    with Simulator(key="another") as stranger, Room(stranger, cues=100) as room:
        room.ask()
        room.happened(Refused)
        assert hears_cue(room, Cue.REFUSED)


def test_speech_alone_is_refused_once_and_a_press_each_time(caplog):
    caplog.set_level(logging.INFO)
    with Simulator(key="another") as stranger:
        with Room(stranger, cues=100, talk=TalkConfig(start="voice", silence_ms=400)) as room:
            room.microphone.say(bytes(24000) + speech() * 2)
            room.happened(Refused)
            room.see("refused")
            room.microphone.say(speech() * 4)
            room.microphone.wait_until_said()
            assert caplog.text.count("dialling") == 1
            assert room.light.moods[-1] == "refused"
            assert [play.cue for play in room.all(Play)] == [Cue.REFUSED]
            room.ask()
            room.see("refused", times=2)
            assert caplog.text.count("dialling") == 2
            assert [play.cue for play in room.all(Play)] == [Cue.REFUSED, Cue.LISTENING, Cue.REFUSED]


def test_speech_alone_is_told_once_that_the_minutes_are_used_up():
    memory = StateStore(None)
    memory.put("connected", {"day": time.strftime("%Y-%m-%d"), "today": 61, "total": 4711})
    talk = TalkConfig(start="voice", silence_ms=400)
    with Simulator() as simulator, Room(simulator, cues=100, memory=memory, daily_minutes=1, talk=talk) as room:
        room.microphone.say(bytes(24000) + speech() * 2)
        room.happened(DailyLimitReached)
        room.see("refused")
        room.microphone.say(speech() * 4)
        room.microphone.wait_until_said()
        assert len(room.all(DailyLimitReached)) == 1
        assert room.light.moods[-1] == "refused"
        assert [play.cue for play in room.all(Play)] == [Cue.CAP]
        assert simulator.connections == []


def test_the_assistant_changes_the_volume_and_a_restart_does_not(simulator, tmp_path: Path):
    memory = StateStore(tmp_path / "memory.json")
    manners = {"think_s": 0.05, "pace": 16, "tool": "set_volume", "tool_arguments": '{"percent": 30}'}
    with Simulator(**manners) as assistant, Room(assistant, abilities=("volume",), memory=memory) as room:
        room.ask()
        room.happened(VolumeAsked)
        room.happened(PlaybackEnded)
    with Room(simulator, memory=StateStore(tmp_path / "memory.json")) as room:
        room.ask()
        room.happened(PlaybackEnded)
        turn = simulator.heard()[0].pcm
        assert 20 < level(turn) - level(room.speaker.heard) < 22  # 30 %


def test_a_knob_turns_the_volume_and_one_hears_how_far(simulator):
    knobs = Knobs()
    with Room(simulator, cues=100, controls=knobs) as room:
        for _ in range(10):
            knobs.turn(-1)
        room.happened(VolumeAsked, times=10)
        assert hears_cue(room, Cue.VOLUME)
        room.ask()
        room.happened(PlaybackEnded)
        turn = simulator.heard()[0].pcm
        assert 11 < level(turn) - level(room.speaker.heard[-len(turn) :]) < 13  # 50 %


def test_muted_the_microphone_is_closed_and_nothing_of_before_is_kept(simulator):
    knobs = Knobs()
    with Room(simulator, cues=100, controls=knobs) as room:
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        knobs.press_mute()
        room.see("muted")
        assert hears_cue(room, Cue.MUTED)
        assert room.microphone.opened == 0
        knobs.press_mute()
        room.see("ready", times=2)
        room.ask(speech()[::-1])
        room.happened(PlaybackEnded)
        assert likeness(speech()[: RATE // 2], simulator.heard()[0].pcm)[0] < 0.4


def test_muted_in_the_middle_of_a_sentence_the_sentence_is_forgotten(simulator):
    knobs = Knobs()
    with Room(simulator, controls=knobs) as room:
        room.finger.press()
        room.happened(LinkUp)
        room.microphone.say(speech() * 2)
        knobs.press_mute()
        room.see("muted")
        room.happened(Play)
        assert "input_audio_buffer.commit" not in simulator.connections[0].types
        assert simulator.turns == []


def test_a_switch_that_is_closed_keeps_it_deaf_from_the_start(simulator):
    knobs = Knobs(switch=True)
    with Room(simulator, controls=knobs) as room:
        room.see("muted")
        assert room.microphone.opened == 0
        room.agent.stop("the end of the day")  # and it can end like this
        assert room.ended() == 0


def test_a_microphone_that_a_switch_has_muted_is_not_unmuted_remotely(simulator):
    knobs = Knobs(switch=True)
    with Room(simulator, controls=knobs) as room:
        room.see("muted")
        room.agent.tell(MuteAsked(False))
        room.agent.tell(VolumeAsked(percent=40))
        room.happened(VolumeAsked)  # so the other was heard, too
        assert room.all(Unmuted) == []
        knobs.muted = False
        knobs.when_muted(False)
        room.happened(Unmuted)


def test_muted_by_voice_the_button_makes_it_hear_again_also_after_a_restart(simulator, tmp_path: Path):
    memory = StateStore(tmp_path / "memory.json")
    with (
        Simulator(think_s=0.05, pace=16, tool="mute") as assistant,
        Room(assistant, abilities=("mute",), memory=memory) as room,
    ):
        room.ask()
        room.happened(PlaybackEnded)  # "I am muted": the answer is heard to its end
        room.see("muted")
    with Room(simulator, memory=StateStore(tmp_path / "memory.json")) as room:
        room.see("muted")
        room.ask()
        room.happened(PlaybackEnded)
        assert speech() in simulator.heard()[0].pcm


def test_asked_to_stop_it_says_nothing_more():
    with (
        Simulator(think_s=0.05, pace=16, tool="stop") as simulator,
        Room(simulator, abilities=("stop",), mode="always") as room,
    ):
        room.ask()
        room.happened(StopAsked)
        room.happened(InterruptReply)
        room.see("ready", times=2)
        assert simulator.wait_for(
            lambda: any("function_call_output" in str(e) for e in simulator.connections[0].events)
        )
        assert len(room.all(ReplyStarted)) <= 1  # "I will use stop", and no more
        assert "response.create" not in simulator.connections[0].types  # the turn was answered when it was committed


def test_a_timer_rings_until_the_user_presses_and_that_press_does_nothing_else():
    manners = {"think_s": 0.05, "pace": 16, "tool": "set_timer", "tool_arguments": '{"seconds": 1, "name": "tea"}'}
    with Simulator(**manners) as simulator, Room(simulator, abilities=("alarms",)) as room:
        room.ask()
        assert room.happened(AlarmDue) == AlarmDue("tea")
        room.hears_for(len(room.speaker.heard) / (2 * RATE) + 3)  # again and again
        alarm = CUES.sound(Cue.ALARM)
        assert likeness(alarm * 2, room.speaker.heard)[0] > 0.95
        room.happened(PlaybackEnded)
        before = len(room.all(TalkStarted))
        room.finger.tap()
        room.happened(StopAlarm)
        assert len(room.all(TalkStarted)) == before


def test_a_timer_rings_after_a_restart_and_without_a_network(tmp_path: Path):
    memory = StateStore(tmp_path / "memory.json")
    Alarms(memory).set_timer(1, "eggs", wall=time.time(), steady=time.monotonic())
    with Simulator() as simulator:
        simulator.refuse(503)
        with Room(simulator, memory=StateStore(tmp_path / "memory.json"), mode="always") as room:
            room.see("offline")
            assert room.happened(AlarmDue) == AlarmDue("eggs")
            assert hears_cue(room, Cue.ALARM)


def test_what_rings_when_the_process_ends_rings_on_in_the_next_one_until_the_user_presses(tmp_path: Path):
    path = tmp_path / "memory.json"
    memory = StateStore(path)
    Alarms(memory).set_timer(1, "eggs", wall=time.time(), steady=time.monotonic())
    with Simulator() as simulator:
        with Room(simulator, memory=StateStore(path)) as room:
            assert room.happened(AlarmDue) == AlarmDue("eggs")
        with Room(simulator, memory=StateStore(path)) as room:
            assert room.happened(AlarmDue) == AlarmDue("eggs")
            assert hears_cue(room, Cue.ALARM)
            room.finger.tap()
            room.happened(StopAlarm)
    assert not Alarms(StateStore(path)).ringing


def test_when_the_minutes_of_the_day_are_used_up_no_service_is_called(simulator):
    memory = StateStore(None)
    memory.put("connected", {"day": time.strftime("%Y-%m-%d"), "today": 61, "total": 4711})
    with Room(simulator, cues=100, memory=memory, daily_minutes=1) as room:
        room.ask()
        room.happened(DailyLimitReached)
        room.see("refused")
        assert hears_cue(room, Cue.CAP)
        assert simulator.connections == []


def test_a_connection_that_uses_up_the_minutes_ends_after_the_answer(simulator):
    memory = StateStore(None)
    memory.put("connected", {"day": time.strftime("%Y-%m-%d"), "today": 59, "total": 59})
    with Room(simulator, cues=100, memory=memory, daily_minutes=1, mode="always") as room:
        room.ask()
        room.happened(PlaybackStarted)
        room.happened(PlaybackEnded)
        room.happened(LinkIdle)
        room.finger.tap()
        room.happened(Pressed, times=2)
        room.happened(DailyLimitReached)


UNPLUGGED = DeviceFailed("'default': unplugged")


@pytest.mark.slow
def test_a_microphone_that_goes_away_is_told_and_comes_back(simulator):
    with Room(simulator, cues=100, patient=True) as room:
        room.microphone.fail(UNPLUGGED)
        room.see("trouble")
        assert hears_cue(room, Cue.TROUBLE)
        room.happened(MicrophoneLost, times=2)  # it is looked for
        assert len([play for play in room.all(Play) if play.cue is Cue.TROUBLE]) == 1
        room.microphone.fail(None)
        room.see("ready", times=2)
        room.ask()
        room.happened(PlaybackEnded)
        assert likeness(speech(), simulator.heard()[0].pcm)[0] > 0.95


def test_a_microphone_that_goes_in_the_middle_of_a_sentence_leaves_what_was_said(simulator):
    with Room(simulator, patient=True) as room:
        room.finger.press()
        room.happened(LinkUp)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        room.microphone.fail(UNPLUGGED)
        room.happened(PlaybackEnded)
        assert speech() in simulator.heard()[0].pcm
        room.see("trouble")


@pytest.mark.slow
def test_a_loudspeaker_that_goes_away_in_a_reply_takes_only_that_with_it(simulator):
    with Room(simulator, patient=True) as room:
        room.ask(speech() * 3)
        room.happened(PlaybackStarted)
        room.speaker.fault = UNPLUGGED
        room.see("trouble")
        room.happened(InterruptReply)
        room.speaker.fault = None
        room.see("ready", times=2)
        room.ask()
        room.happened(PlaybackEnded)
        assert room.hears(simulator.heard(turns=2)[1].pcm) > 0.99


@pytest.mark.slow
def test_without_any_card_it_starts_and_waits_for_one(simulator):
    room = Room(simulator, patient=True)
    room.microphone.fail(UNPLUGGED)
    room.speaker.fault = UNPLUGGED
    with room:
        room.see("trouble")
        room.finger.tap()
        room.happened(Pressed)
        room.microphone.fail(None)
        room.speaker.fault = None
        room.see("ready")
        room.ask()
        room.happened(PlaybackEnded)


@pytest.mark.slow
def test_an_alarm_without_a_loudspeaker_costs_nothing_and_is_heard_when_there_is_one_again(simulator):
    memory = StateStore(None)
    Alarms(memory).set_timer(1, "eggs", wall=time.time(), steady=time.monotonic())
    room = Room(simulator, patient=True, memory=memory)
    room.speaker.fault = UNPLUGGED
    with room:
        room.happened(AlarmDue)
        before = len(room.words)
        room.happened(SpeakerLost, times=3)
        assert len(room.words) - before < 30  # it does not spin
        room.speaker.fault = None
        assert hears_cue(room, Cue.ALARM)
