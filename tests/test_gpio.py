"""A button and a light on the pins of a board that gpiozero plays."""

from __future__ import annotations

import subprocess
import sys
import threading

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from device_agent.conversation import MOODS
from device_agent.errors import DeviceFailed
from device_agent.hardware.gpio import PATTERNS, GpioButton, GpioLight


@pytest.fixture
def board():
    """A board whose pins have hands."""
    before, gpiozero.Device.pin_factory = gpiozero.Device.pin_factory, MockFactory()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.close()
    gpiozero.Device.pin_factory = before


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def button(board, heard):
    opened = GpioButton(17)
    opened.when_pressed = lambda: heard.append("pressed")
    opened.when_released = lambda: heard.append("released")
    yield opened
    opened.close()


@pytest.fixture
def light(board):
    opened = GpioLight(25)
    yield opened
    opened.close()


# The button -----------------------------------------------------------------------------------------------------------


def test_a_button_connects_its_pin_to_ground(board, button, heard):
    assert board.pin(17).pull == "up"

    board.pin(17).drive_low()
    assert heard == ["pressed"]

    board.pin(17).drive_high()
    assert heard == ["pressed", "released"]


def test_a_bouncing_contact_is_believed_once(board, button):
    assert board.pin(17).bounce == 0.03


def test_a_button_that_nobody_listens_to_may_be_pressed(board):
    button = GpioButton(17)
    board.pin(17).drive_low()
    board.pin(17).drive_high()
    button.close()


def test_an_error_in_a_callback_does_not_reach_the_thread_of_the_pins(board, button, heard, caplog):
    def fail() -> None:
        raise RuntimeError("nobody at home")

    button.when_pressed = fail
    board.pin(17).drive_low()
    board.pin(17).drive_high()

    assert heard == ["released"]
    assert "nobody at home" in caplog.text


def test_a_closed_button_is_silent_and_its_pin_is_free(board, button, heard):
    button.close()
    button.close()
    board.pin(17).drive_low()

    assert heard == []
    GpioButton(17).close()


# The light ------------------------------------------------------------------------------------------------------------


def test_every_mood_has_a_pattern_of_its_own():
    assert set(MOODS.values()) <= set(PATTERNS)
    assert len(set(PATTERNS.values())) == len(PATTERNS)
    assert all(on > 0 and off >= 0 for on, off in PATTERNS.values())


def test_listening_is_a_steady_light(board, light):
    light.show("listening")

    assert board.pin(25).state


@pytest.mark.parametrize("mood", [mood for mood, (_, off) in PATTERNS.items() if off and sum(PATTERNS[mood]) < 1])
def test_other_moods_blink(board, light, mood):
    pin = board.pin(25)
    pin.clear_states()
    light.show(mood)
    for _ in range(1000):
        light.show(mood)  # the same mood again does not begin the pattern again
        if len(pin.states) >= 4 or threading.Event().wait(0.01):
            break

    (_, dark), (_, on), (lit, off), (_, again) = pin.states[:4]
    assert (dark, on, off, again) == (False, True, False, True)
    assert lit > PATTERNS[mood][0] - 0.01


def test_a_mood_replaces_the_one_before(board, light):
    light.show("starting")
    light.show("listening")
    board.pin(25).clear_states()
    light.show("listening")

    assert [state for _, state in board.pin(25).states] == [True]


def test_a_closed_light_is_dark_and_its_pin_is_free(board, light):
    pin = board.pin(25)
    light.show("listening")
    light.close()
    light.close()

    assert not pin.state
    GpioLight(25).close()


# What is in the way ---------------------------------------------------------------------------------------------------


def test_a_pin_that_is_taken_names_who_has_it(board, button):
    with pytest.raises(DeviceFailed) as refusal:
        GpioLight(17)

    assert str(refusal.value).startswith("light on GPIO17: pin GPIO17 is already in use by <gpiozero.Button")
    assert str(refusal.value).endswith("choose another light.pin")
    assert isinstance(refusal.value.__cause__, gpiozero.GPIOPinInUse)


def test_a_pin_that_another_program_has_is_told_in_one_line(board, monkeypatch):
    class Busy(Exception):
        """As lgpio raises it."""

    def busy(*_: object, **__: object) -> None:
        raise Busy("'GPIO busy'")

    monkeypatch.setattr(board, "pin", busy)
    with pytest.raises(DeviceFailed, match=r"button on GPIO17: 'GPIO busy'; stop the program that uses it"):
        GpioButton(17)


def test_a_pin_that_does_not_exist_is_told_in_one_line(board):
    with pytest.raises(DeviceFailed, match=r"light on GPIO99: .*99") as refusal:
        GpioLight(99)

    assert "\n" not in str(refusal.value)


def test_a_machine_without_pins_is_told_what_to_do_and_nothing_else_is_said():
    program = (
        "from device_agent.hardware.gpio import GpioButton\n"
        "try: GpioButton(17)\n"
        "except OSError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    if "there is no GPIO" not in done.stdout:
        pytest.skip("this machine has pins")

    assert done.stdout == (
        "button on GPIO17: there is no GPIO on this machine; "
        "leave button.pin empty (on a Raspberry Pi: apt install python3-lgpio)\n"
    )
    assert done.stderr == ""
