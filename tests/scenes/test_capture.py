"""Scenes in a room that echoes: the speaker neither answers itself nor sends its own cues."""

from __future__ import annotations

import pytest

from device_agent.audio.cues import CuePolicy, Cues
from device_agent.config.model import TalkConfig
from device_agent.core.actions import Cue
from device_agent.core.events import PlaybackEnded, TalkStarted
from device_agent.dsp.correlation import likeness
from device_agent.simulator import Simulator
from tests.support.room import RATE, Room, speech

BEEP = Cues(RATE, CuePolicy(100, 70)).sound(Cue.LISTENING)


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05, pace=16) as running:
        yield running


def test_it_does_not_answer_itself(simulator):
    with Room(simulator, talk=TalkConfig(start="voice", silence_ms=400), echo=0.5) as room:
        room.microphone.say(bytes(RATE) + speech())
        room.happened(PlaybackEnded)  # of a reply that says the same words, loud enough to be heard as speech
        room.microphone.say(bytes(4 * RATE))
        room.microphone.wait_until_said()
        assert len(room.all(TalkStarted)) == 1


def test_where_speech_may_interrupt_and_nothing_cancels_the_echo_it_would(simulator):
    with Room(simulator, talk=TalkConfig(start="voice", interrupt="voice", silence_ms=400), echo=0.5) as room:
        room.microphone.say(bytes(RATE) + speech())
        room.happened(TalkStarted, times=2)


def test_the_first_word_goes_up_and_the_beep_under_it_does_not(simulator):
    with Room(simulator, cues=100, echo=0.3) as room:
        room.finger.tap()
        room.happened(TalkStarted)
        room.microphone.say(speech())
        room.happened(PlaybackEnded)
        (turn,) = simulator.heard()
        assert room.hears(BEEP) > 0.99
        assert likeness(speech(), turn.pcm)[0] > 0.95
        assert likeness(speech()[: 2 * RATE // 5], turn.pcm)[0] > 0.9
        assert likeness(BEEP, turn.pcm)[0] < 0.2


def test_a_beep_is_not_taken_for_speech(simulator):
    for _ in range(3):  # where the machine is so busy that frames are heard late, a beep may not be known for one
        before = len(simulator.turns)
        with Room(simulator, cues=100, echo=0.5) as room:
            room.finger.tap()
            room.see("ready", times=2)
        if len(simulator.turns) == before:
            return
    pytest.fail("a beep was taken for speech")
