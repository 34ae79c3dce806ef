"""Scenes: the whole agent on real threads and real sockets, with the simulator as its service."""

from __future__ import annotations

import json
import threading

import pytest

from device_agent.config.model import TalkConfig
from device_agent.core.actions import InterruptReply
from device_agent.core.errors import DeviceFailed
from device_agent.core.events import (
    InterruptConfirmed,
    LinkDown,
    LinkIdle,
    LinkUp,
    NoSpeech,
    PlaybackEnded,
    PlaybackStarted,
    Refused,
    ServiceError,
    TalkStarted,
    TurnAcknowledged,
)
from device_agent.simulator import Simulator
from tests.support.room import Room, speech


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05, pace=16) as running:
        yield running


def test_a_spoken_question_gets_a_spoken_answer(simulator):
    with Room(simulator) as room:
        assert simulator.connections == []  # without speech no service is called
        said = room.ask()
        room.happened(PlaybackEnded)
        (turn,) = simulator.heard()
        assert said in turn.pcm
        assert room.hears(turn.pcm) > 0.999
        room.see("ready", times=2)
        assert room.light.moods == ["starting", "ready", "listening", "thinking", "speaking", "ready"]


def test_held_the_button_frames_the_turn(simulator):
    with Room(simulator) as room:
        room.finger.press()
        room.happened(TalkStarted)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        room.finger.release()
        room.happened(PlaybackEnded)
        assert speech() in simulator.turns[0].pcm


def test_hands_free_speech_alone_opens_the_gate(simulator):
    with Room(simulator, talk=TalkConfig(start="voice", silence_ms=400)) as room:
        room.microphone.say(bytes(24000) + speech())
        room.happened(PlaybackEnded)
        assert speech() in simulator.turns[0].pcm  # the first syllable too


def test_the_service_may_decide_when_the_user_has_finished(simulator):
    with Room(simulator, talk=TalkConfig(end="service", silence_ms=400)) as room:
        room.ask()
        room.happened(PlaybackEnded)
        assert "input_audio_buffer.commit" not in types(simulator)
        assert room.hears(simulator.turns[0].pcm) > 0.99


def test_while_the_gate_is_closed_nothing_goes_up(simulator):
    with Room(simulator, mode="always") as room:
        room.happened(LinkUp)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        assert "input_audio_buffer.append" not in types(simulator)


def test_a_tap_without_a_word_asks_nothing(simulator):
    with Room(simulator) as room:
        room.finger.tap()
        room.happened(NoSpeech)
        room.see("ready", times=2)
        assert simulator.turns == []
        assert "input_audio_buffer.commit" not in types(simulator)


def test_the_shortest_press_counts(simulator):
    with Room(simulator) as room:
        room.finger.tap()
        room.happened(TalkStarted)


def test_a_press_during_a_reply_cuts_it_and_begins_a_turn(simulator):
    with Room(simulator) as room:
        room.ask(speech() * 3)
        room.happened(PlaybackStarted)
        first = simulator.heard()[0].pcm
        room.finger.press()
        room.happened(InterruptConfirmed)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        room.finger.release()
        room.happened(PlaybackEnded)
        second = simulator.heard(turns=2)[1].pcm
        heard = room.speaker.heard
        assert len(heard) < len(first) + len(second)  # the first reply was not heard to its end
        assert heard.endswith(second[-9600:])
        assert room.hears(second) > 0.999


def test_the_service_is_told_how_much_of_a_cut_reply_was_heard(simulator):
    with Room(simulator) as room:
        room.ask(speech() * 3)
        room.happened(PlaybackStarted)
        room.hears_for(1.0)
        room.finger.press()
        room.happened(InterruptConfirmed)
        assert simulator.wait_for(lambda: "conversation.item.truncate" in types(simulator))
        (truncate,) = [
            event for event in simulator.connections[0].events if event["type"] == "conversation.item.truncate"
        ]
        heard_ms = len(room.speaker.heard) / 48
        assert abs(truncate["audio_end_ms"] - heard_ms) < 200  # the room runs faster than the world


def test_a_reply_cut_before_it_has_a_name_is_never_heard():
    with Simulator(think_s=0.4) as simulator, Room(simulator) as room:
        room.ask()
        room.happened(TurnAcknowledged)
        room.finger.press()
        room.happened(InterruptReply)
        assert room.speaker.heard == b""
        room.microphone.say(speech()[::-1])  # another sound
        room.microphone.wait_until_said()
        room.finger.release()
        room.happened(PlaybackEnded)
        assert room.speaker.heard == simulator.heard(turns=2)[1].pcm


def test_it_hangs_up_after_some_quiet_with_a_clean_goodbye(simulator):
    with Room(simulator, idle_s=0.3) as room:
        room.ask()
        room.happened(LinkIdle)
        (connection,) = simulator.connections
        assert simulator.wait_for(lambda: connection.ended)
        assert connection.ended == "client said 1000"
        room.ask()
        room.happened(PlaybackEnded, times=2)


def test_a_turn_waits_for_a_service_that_is_away(simulator):
    simulator.refuse(503)
    with Room(simulator) as room:
        said = room.ask()
        room.happened(LinkDown)
        room.see("thinking")
        simulator.refuse(None)
        room.happened(PlaybackEnded)
        (turn,) = simulator.heard()
        assert said in turn.pcm


def test_a_press_while_offline_is_answered_when_the_service_is_back(simulator):
    simulator.refuse(503)
    with Room(simulator, mode="always") as room:
        room.see("offline")
        simulator.refuse(None)
        room.ask()
        room.happened(PlaybackEnded)


def test_a_turn_cut_in_half_is_sent_again_from_its_beginning(simulator):
    with Room(simulator) as room:
        room.finger.press()
        room.happened(LinkUp)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        simulator.drop()
        room.happened(LinkUp, times=2)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        room.finger.release()
        room.happened(PlaybackEnded)
        (turn,) = simulator.heard()
        assert speech() * 2 in turn.pcm.replace(bytes(960), b"")  # each word once, in order


def test_a_connection_lost_before_the_answer_costs_the_user_nothing(simulator):
    simulator.fault("silent")
    with Room(simulator) as room:
        room.ask()
        room.happened(TurnAcknowledged)
        simulator.heal()
        simulator.drop()
        room.happened(PlaybackEnded)
        assert simulator.heard(turns=2)[0].pcm == simulator.turns[1].pcm


def test_a_connection_lost_in_the_middle_of_a_reply_ends_the_reply(simulator):
    with Room(simulator) as room:
        simulator.fault("slow")
        room.ask()
        room.happened(PlaybackStarted)
        simulator.drop()
        room.happened(PlaybackEnded)
        room.see("ready", times=2)
        simulator.heal()
        room.ask()
        room.happened(PlaybackEnded, times=2)


def test_a_refusal_is_said_once_and_tried_again_when_the_user_speaks():
    with Simulator(key="another") as simulator, Room(simulator) as room:
        room.ask()
        refused = room.happened(Refused)
        assert "401" in refused.reason
        room.see("refused")
        assert room.all(LinkDown) == []
        room.ask()
        room.happened(Refused, times=2)


@pytest.mark.parametrize(
    ("words", "complaints"),
    [
        (["junk {", '{"no": "type"}', "[]"], 3),
        ([b"\x00\xff\x00"], 1),
        ([json.dumps({"type": "response.output_audio.delta", "delta": "AAA"})], 0),
        (['{"type": "something.new"}', '{"type": "response.output_audio.delta"}'], 0),
        (['{"type": "error", "error": "as a string"}'], 1),
    ],
)
def test_nonsense_is_one_line_each_and_the_agent_lives(simulator, words, complaints):
    with Room(simulator, mode="always") as room:
        room.happened(LinkUp)
        for word in words:
            simulator.inject(word)
        room.ask()
        room.happened(PlaybackEnded)
        assert len(room.all(ServiceError)) == complaints
        assert room.hears(simulator.turns[0].pcm) > 0.999


def test_a_message_of_twenty_megabytes_is_not_read_and_the_next_connection_works(simulator):
    with Room(simulator, mode="always") as room:
        room.happened(LinkUp)
        simulator.inject("x" * 20_000_000)
        down = room.happened(LinkDown)
        assert "20000000 bytes" in down.reason
        room.ask()
        room.happened(PlaybackEnded)


def test_a_crashing_microphone_ends_the_process(simulator):
    with Room(simulator) as room:
        room.microphone.fail(DeviceFailed("microphone 'default': unplugged"))
        assert room.ended() == 1


def test_a_crashing_loudspeaker_ends_the_process(simulator):
    with Room(simulator) as room:
        room.speaker.fault = DeviceFailed("loudspeaker 'default': unplugged")
        room.ask()
        assert room.ended() == 1


@pytest.mark.slow
def test_a_microphone_that_stands_still_ends_the_process(simulator):
    with Room(simulator) as room:
        room.microphone.freeze()
        assert room.ended() == 1
        assert "microphone" in [thread.name for thread in threading.enumerate()]  # it still hangs in its driver


def test_each_port_is_opened_used_and_closed_by_one_thread(simulator):
    with Room(simulator) as room:
        room.ask()
        room.happened(PlaybackEnded)
    assert len(room.microphone.owners) == 1


def types(simulator: Simulator) -> list[str]:
    return [kind for connection in simulator.connections for kind in connection.types]
