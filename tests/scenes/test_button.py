"""The button on a pin, with gpiozero's own simulated board, and the real agent behind it."""

from __future__ import annotations

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory

from device_agent.core.events import InterruptConfirmed, LinkDown, NoSpeech, PlaybackEnded, PlaybackStarted, TalkStarted
from device_agent.hardware.gpio import GpioButton, GpioLight
from device_agent.simulator import Simulator
from tests.support.room import Room, speech


@pytest.fixture
def pin():
    """The wire from the button to the board: low is pressed."""
    before, Device.pin_factory = Device.pin_factory, MockFactory()
    yield Device.pin_factory.pin(17)
    Device.pin_factory.reset()
    Device.pin_factory = before


@pytest.fixture
def simulator():
    with Simulator(think_s=0.05, pace=16) as made:
        yield made


def room(simulator: Simulator, **connection: object) -> Room:
    return Room(simulator, button=GpioButton(17), **connection)


def test_hold_speak_let_go(pin, simulator):
    with room(simulator) as kitchen:
        pin.drive_low()
        kitchen.happened(TalkStarted)
        kitchen.microphone.say(speech())
        kitchen.microphone.wait_until_said()
        pin.drive_high()
        kitchen.happened(PlaybackEnded)
        assert speech() in simulator.turns[0].pcm
        assert kitchen.hears(simulator.turns[0].pcm) > 0.999


def test_a_contact_that_bounces_is_one_press_and_one_release(pin, simulator):
    with room(simulator) as kitchen:
        for _ in range(5):
            pin.drive_low()
            pin.drive_high()
        pin.drive_low()
        kitchen.happened(TalkStarted)
        kitchen.microphone.say(speech())
        kitchen.microphone.wait_until_said()
        for _ in range(5):
            pin.drive_high()
            pin.drive_low()
        pin.drive_high()
        kitchen.happened(PlaybackEnded)
        assert len(simulator.turns) == 1
        assert speech() in simulator.turns[0].pcm


def test_tap_and_speak(pin, simulator):
    with room(simulator) as kitchen:
        pin.drive_low()
        pin.drive_high()
        kitchen.microphone.say(speech())
        kitchen.happened(PlaybackEnded)
        assert speech() in simulator.turns[0].pcm


def test_the_shortest_press_opens_the_gate_and_no_word_asks_nothing(pin, simulator):
    with room(simulator) as kitchen:
        pin.drive_low()
        pin.drive_high()
        kitchen.happened(NoSpeech)
        assert simulator.turns == []


def test_tap_speak_tap(pin, simulator):
    with room(simulator) as kitchen:
        for _ in range(2):
            pin.drive_low()
            pin.drive_high()
            kitchen.happened(TalkStarted)
            kitchen.microphone.say(speech())
            kitchen.microphone.wait_until_said()
        kitchen.happened(PlaybackEnded)
        assert len(simulator.turns) == 1  # the second tap ended the turn, and what came after was not heard
        assert speech() in simulator.turns[0].pcm


def test_a_press_during_a_reply_is_a_new_turn(pin, simulator):
    with room(simulator) as kitchen:
        pin.drive_low()
        pin.drive_high()
        kitchen.microphone.say(speech() * 3)
        kitchen.happened(PlaybackStarted)
        pin.drive_low()
        kitchen.happened(InterruptConfirmed)
        kitchen.microphone.say(speech())
        kitchen.microphone.wait_until_said()
        pin.drive_high()
        kitchen.happened(PlaybackEnded)
        assert kitchen.hears(simulator.heard(turns=2)[1].pcm) > 0.999


def test_a_press_while_offline_is_answered_later(pin, simulator):
    simulator.refuse(503)
    with room(simulator) as kitchen:
        pin.drive_low()
        pin.drive_high()
        kitchen.microphone.say(speech())
        kitchen.happened(LinkDown)
        simulator.refuse(None)
        kitchen.happened(PlaybackEnded)
        assert speech() in simulator.turns[0].pcm


def test_a_light_on_a_pin_goes_with_the_mood(pin, simulator):
    light = GpioLight(25)
    with Room(simulator, button=GpioButton(17), light=light) as kitchen:
        pin.drive_low()
        kitchen.happened(TalkStarted)
        assert Device.pin_factory.pin(25).state == 1  # listening: on
        pin.drive_high()
    assert Device.pin_factory.pin(25).function == "input"  # given back
