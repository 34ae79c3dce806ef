"""Button, controls and light on the pins of a board that gpiozero plays, with a clock that has hands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory, MockPin
from gpiozero.pins.pi import PiPin

from device_agent.core.errors import DeviceFailed
from device_agent.hardware.debounce import BOUNCE_S, MAX_REPEATS, REPEAT_DELAY_S
from device_agent.hardware.gpio import GpioButton, GpioColourLight, GpioControls, GpioLight
from device_agent.hardware.light_patterns import COLOURS, PATTERNS
from device_agent.runtime.timer_thread import TIMER_STOP_TIMEOUT_S, TimerThread


class Pin(MockPin):
    """A pin whose edges carry the time of the board, and come late while the board is busy."""

    def _call_when_changed(self) -> None:
        state, ticks = self._state, self.factory.ticks()
        self.factory.deliver(lambda: self._when_changed and PiPin._call_when_changed(self, ticks, state))

    def _set_state(self, value: object) -> None:
        if self.factory.broken:
            raise OSError("'bad handle'")
        self.factory.writes[self.info.name] += 1
        super()._set_state(value)


class Board(MockFactory):
    """A board with hands: its pins can be driven, its clock be moved, and it can be too busy to tell of edges."""

    def __init__(self) -> None:
        super().__init__(pin_class=Pin)
        self.now = 100.0
        self.broken = False
        self.writes: Counter[str] = Counter()
        self.timers: list[HandTimer] = []
        self._late: list[Callable[[], None]] | None = None

    def ticks(self) -> float:
        return self.now

    def timer(self, name: str, work: Callable[[float], float | None]) -> HandTimer:
        self.timers.append(HandTimer(self, work))
        return self.timers[-1]

    def forward(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        end = self.now + seconds
        while due := [each for each in self.timers if each.due is not None and each.due <= end]:
            first = min(due, key=lambda each: each.due)
            self.now = max(self.now, first.due)
            first.wake()
        self.now = end

    def deliver(self, edge: Callable[[], None]) -> None:
        if self._late is None:
            edge()
        else:
            self._late.append(edge)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """What happens meanwhile is told afterwards."""
        self._late = late = []
        yield
        self._late = None
        for edge in late:
            edge()


class HandTimer(TimerThread):
    """Works when the board's clock is moved, in the thread that moves it."""

    def __init__(self, board: Board, work: Callable[[float], float | None]) -> None:
        self._board, self._work = board, work
        self.due: float | None = None

    def now(self) -> float:
        return self._board.now

    def wake(self) -> None:
        self.due = self._work(self._board.now)

    def close(self) -> None:
        self.due = None


@pytest.fixture
def board():
    before, gpiozero.Device.pin_factory = gpiozero.Device.pin_factory, Board()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.close()
    gpiozero.Device.pin_factory = before


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def button(board, heard):
    opened = GpioButton(17, timer=board.timer)
    opened.when_pressed = lambda: heard.append("pressed")
    opened.when_released = lambda: heard.append("released")
    yield opened
    opened.close()


@pytest.fixture
def light(board):
    opened = GpioLight(25, timer=board.timer)
    yield opened
    opened.close()


@pytest.fixture
def controls(board):
    """Return a maker of controls, and what they tell."""
    made: list[GpioControls] = []
    told: list[object] = []

    def make(**pins: object) -> tuple[GpioControls, list[object]]:
        made.append(GpioControls(**pins, timer=board.timer))
        made[-1].when_turned = told.append
        made[-1].when_muted = lambda muted: told.append(("muted", muted))
        return made[-1], told

    yield make
    for each in made:
        each.close()


# The button -----------------------------------------------------------------------------------------------------------


def test_a_button_connects_its_pin_to_ground(board, button, heard):
    assert board.pin(17).pull == "up"

    board.pin(17).drive_low()
    assert heard == ["pressed"]

    board.forward(1.0)
    board.pin(17).drive_high()
    assert heard == ["pressed", "released"]


def test_gpiozero_does_not_wait_for_a_contact_to_come_to_rest(board, button):
    assert not board.pin(17).bounce


def test_a_bouncing_contact_is_believed_once(board, button, heard):
    for state in ("low", "high"):
        for _ in range(10):
            getattr(board.pin(17), f"drive_{state}")()
            board.forward(0.0005)
            (board.pin(17).drive_high if state == "low" else board.pin(17).drive_low)()
            board.forward(0.0005)
        getattr(board.pin(17), f"drive_{state}")()
        board.forward(0.1)

    assert heard == ["pressed", "released"]


def test_the_shortest_tap_has_its_release(board, button, heard):
    board.pin(17).drive_low()
    board.forward(0.01)
    board.pin(17).drive_high()
    assert heard == ["pressed"]

    board.forward(BOUNCE_S)
    assert heard == ["pressed", "released"]


def test_a_tap_that_was_over_before_we_came_to_look_is_told(board, button, heard):
    with board.busy():
        board.pin(17).drive_low()
        board.forward(0.05)
        board.pin(17).drive_high()
        board.forward(0.3)

    assert heard == ["pressed", "released"]


def test_a_spike_on_the_wire_is_no_tap(board, button, heard):
    for _ in range(10):
        with board.busy():
            board.pin(17).drive_low()
            board.forward(0.0001)
            board.pin(17).drive_high()
        board.forward(0.2)

    assert heard == []


def test_a_button_that_is_held_while_the_program_starts_is_not_pressed(board, heard):
    board.pin(17)._pull = "up"
    board.pin(17)._state = False
    board.pin(17)._set_pull = lambda value: None
    button = GpioButton(17, timer=board.timer)
    button.when_pressed = lambda: heard.append("pressed")
    button.when_released = lambda: heard.append("released")
    board.forward(1.0)
    assert heard == []

    board.pin(17).drive_high()
    assert heard == ["released"]
    button.close()


def test_a_button_without_a_listener_may_be_pressed(board, caplog):
    button = GpioButton(17, timer=board.timer)
    board.pin(17).drive_low()
    board.forward(1.0)
    board.pin(17).drive_high()
    button.close()

    assert caplog.text == ""


def test_an_error_in_a_callback_does_not_reach_the_thread_of_the_pins(board, button, heard, caplog):
    def fail() -> None:
        raise RuntimeError("nobody at home")

    button.when_pressed = fail
    board.pin(17).drive_low()
    board.forward(1.0)
    board.pin(17).drive_high()

    assert heard == ["released"]
    assert "nobody at home" in caplog.text


def test_an_error_of_a_pin_does_not_reach_the_thread_of_the_pins(board, button, heard, caplog):
    read = Pin._get_state

    def fail(_: Pin) -> bool:
        raise OSError("'bad handle'")

    Pin._get_state = fail
    try:
        board.pin(17).drive_low()
    finally:
        Pin._get_state = read
    assert "a change of the button could not be passed on" in caplog.text

    board.pin(17).drive_high()
    board.forward(1.0)
    board.pin(17).drive_low()
    assert heard == ["pressed"]


def test_a_closed_button_is_silent_and_its_pin_is_free(board, button, heard):
    board.pin(17).drive_low()
    board.forward(1.0)
    board.timers[0].close = board.pin(17).drive_high  # the user lets go while it is being closed
    button.close()
    board.pin(17).drive_low()

    assert heard == ["pressed"]
    del board.timers[0].close
    button.close()
    GpioButton(17, timer=board.timer).close()


def test_the_release_in_the_bouncing_is_told_by_a_real_clock(board):
    """The rest of this file moves the clock by hand."""
    released = threading.Event()
    board.ticks = time.monotonic
    button = GpioButton(17)
    button.when_released = released.set
    board.pin(17).drive_low()
    board.pin(17).drive_high()

    assert released.wait(10)
    button.close()
    assert "button" not in {thread.name for thread in threading.enumerate()}


# What drives its pin high ---------------------------------------------------------------------------------------------


def touch_sensor(board: Board, number: int) -> Pin:
    """Return a pin that something else drives, low at rest: that is stronger than any pull inside the board."""
    pin = board.pin(number)
    pin._state = False
    pin._set_pull = lambda value: setattr(pin, "_pull", value)
    return pin


def test_an_inverted_button_connects_its_pin_to_the_voltage(board, heard):
    button = GpioButton(17, inverted=True, timer=board.timer)
    button.when_pressed = lambda: heard.append("pressed")
    button.when_released = lambda: heard.append("released")
    assert board.pin(17).pull == "down"
    assert not button.is_pressed

    board.pin(17).drive_high()
    assert heard == ["pressed"]
    assert button.is_pressed

    board.forward(1.0)
    board.pin(17).drive_low()
    assert heard == ["pressed", "released"]
    assert not button.is_pressed
    button.close()


@pytest.mark.parametrize(
    ("inverted", "told"), [(True, ["pressed", "released"] * 2), (False, ["released", "pressed"] * 2)]
)
def test_a_touch_sensor_is_pressed_while_it_is_touched_where_the_configuration_says_so(board, heard, inverted, told):
    sensor = touch_sensor(board, 17)
    button = GpioButton(17, inverted=inverted, timer=board.timer)
    button.when_pressed = lambda: heard.append("pressed")
    button.when_released = lambda: heard.append("released")
    assert button.is_pressed is not inverted
    for _ in range(2):
        board.forward(1.0)
        sensor.drive_high()
        board.forward(1.0)
        sensor.drive_low()

    assert heard == told
    button.close()


def test_inverted_controls_are_told_as_others_are(board, controls):
    made, told = controls(volume_up=5, volume_down=6, volume_inverted=True, mute=22, mute_inverted=True)
    for pin in (5, 6, 22):
        assert board.pin(pin).pull == "down"
        board.pin(pin).drive_high()
        assert len(made.held) == 1
        board.forward(0.1)
        board.pin(pin).drive_low()
        board.forward(0.1)

    assert told == [+1, -1, ("muted", None)]
    assert made.held == []


def test_an_inverted_button_for_the_volume_repeats_while_it_is_held(board, controls):
    _, told = controls(volume_up=5, volume_inverted=True)
    board.pin(5).drive_high()
    board.forward(1.0)

    assert told == [+1] * 4


@pytest.mark.parametrize("inverted", [False, True])
def test_a_switch_is_muted_where_it_is_closed_or_inverted_where_it_is_high(board, controls, inverted):
    close, part = ("drive_high", "drive_low") if inverted else ("drive_low", "drive_high")
    made, told = controls(mute=22, mute_is="switch", mute_inverted=inverted)
    assert made.muted is False

    getattr(board.pin(22), close)()
    assert made.muted is True
    board.forward(1.0)
    getattr(board.pin(22), part)()
    assert told == [("muted", True), ("muted", False)]
    assert made.held == [], "a switch is not held"


def test_what_is_held_is_told_by_its_key(board, controls):
    made, _ = controls(volume_up=5, volume_down=6, mute=22)
    for pin, key in ((5, "controls.volume_up"), (6, "controls.volume_down"), (22, "controls.mute")):
        board.pin(pin).drive_low()
        assert made.held == [key]
        board.forward(0.1)
        board.pin(pin).drive_high()
        board.forward(0.1)


# Volume and mute ------------------------------------------------------------------------------------------------------


def test_two_buttons_make_it_louder_and_quieter(board, controls):
    _, told = controls(volume_up=5, volume_down=6)
    for pin in (5, 6, 6):
        board.pin(pin).drive_low()
        board.forward(0.1)
        board.pin(pin).drive_high()
        board.forward(0.1)

    assert told == [+1, -1, -1]


def test_a_volume_button_repeats_while_it_is_held(board, controls):
    _, told = controls(volume_up=5)
    board.pin(5).drive_low()
    assert told == [+1]
    board.forward(0.49)
    assert told == [+1]
    board.forward(0.02)
    assert told == [+1] * 2
    board.forward(1.0)
    assert told == [+1] * 7

    board.pin(5).drive_high()
    board.forward(10.0)
    assert told == [+1] * 7


def test_a_volume_button_that_is_stuck_gives_in(board, controls):
    _, told = controls(volume_down=6)
    board.pin(6).drive_low()
    board.forward(3600.0)

    assert told == [-1] * (1 + MAX_REPEATS)


def turn(board: Board, *pins: int, pause: float = 0.01) -> None:
    """Turn an encoder by one detent; the first of *pins* closes first."""
    for drive in ("drive_low", "drive_high"):
        for pin in pins:
            getattr(board.pin(pin), drive)()
            board.forward(pause)


@pytest.mark.parametrize("pause", [0.05, 0.0])
def test_each_detent_of_an_encoder_is_a_step_however_fast(board, controls, pause):
    _, told = controls(encoder=(23, 24))
    for _ in range(30):
        turn(board, 23, 24, pause=pause)  # A before B: clockwise
    assert told == [+1] * 30

    for _ in range(30):
        turn(board, 24, 23, pause=pause)
    assert told == [+1] * 30 + [-1] * 30


def test_an_encoder_that_trembles_between_two_detents_is_not_turned(board, controls):
    _, told = controls(encoder=(23, 24))
    for _ in range(20):
        board.pin(23).drive_low()
        board.pin(23).drive_high()
    assert told == []

    board.pin(23).drive_low()
    for _ in range(20):
        board.pin(24).drive_low()
        board.pin(24).drive_high()
    board.pin(24).drive_low()
    board.pin(23).drive_high()
    board.pin(24).drive_high()
    assert told == [+1]


def test_a_mute_button_wants_the_other_way_round(board, controls):
    panel, told = controls(mute=22)
    assert panel.muted is None
    board.pin(22).drive_low()
    board.forward(5.0)
    board.pin(22).drive_high()

    assert told == [("muted", None)]
    assert panel.muted is None


def test_a_mute_switch_tells_its_position(board, controls):
    panel, told = controls(mute=22, mute_is="switch")
    assert panel.muted is False

    board.pin(22).drive_low()
    assert (panel.muted, told) == (True, [("muted", True)])

    board.forward(5.0)
    board.pin(22).drive_high()
    assert (panel.muted, told) == (False, [("muted", True), ("muted", False)])


def test_the_position_of_a_mute_switch_is_known_from_the_start(board, controls):
    board.pin(22)._set_pull = lambda value: None
    board.pin(22)._state = False

    panel, told = controls(mute=22, mute_is="switch")
    assert (panel.muted, told) == (True, [])


def test_controls_without_pins_are_silent(controls):
    panel, told = controls()
    panel.close()
    panel.close()

    assert (panel.muted, told) == (None, [])


def test_an_error_in_a_callback_does_not_end_the_controls(board, controls, caplog):
    panel, told = controls(volume_up=5, encoder=(23, 24), mute=22)

    def fail(_: object) -> None:
        raise RuntimeError("nobody at home")

    panel.when_turned = panel.when_muted = fail
    board.pin(5).drive_low()
    board.pin(22).drive_low()
    turn(board, 23, 24)
    assert caplog.text.count("RuntimeError: nobody at home") == 3

    panel.when_turned = told.append
    turn(board, 23, 24)
    board.forward(REPEAT_DELAY_S)
    assert told == [+1, +1]


def test_closed_controls_are_silent_and_their_pins_are_free(board, controls):
    panel, told = controls(volume_up=5, volume_down=6, encoder=(23, 24), mute=22)
    board.pin(5).drive_low()
    panel.close()
    panel.close()
    board.timers[0].wake()  # that it is closed has not come round to its thread
    board.forward(5.0)
    turn(board, 23, 24)

    assert told == [+1]
    controls(volume_up=5, volume_down=6, encoder=(23, 24), mute=22)


@pytest.mark.parametrize(
    ("pins", "sentence"),
    [
        ({"volume_up": 99}, "louder button on GPIO99: .*controls.volume_up"),
        ({"volume_down": 99}, "quieter button on GPIO99: .*controls.volume_down"),
        ({"encoder": (23, 99)}, "encoder on GPIO23 and GPIO99: .*controls.encoder"),
        ({"mute": 99}, "mute button on GPIO99: .*controls.mute"),
        ({"mute": 99, "mute_is": "switch"}, "mute switch on GPIO99: .*controls.mute"),
        ({"mute": 17}, "mute button on GPIO17: pin GPIO17 is already in use by .*; choose another controls.mute"),
    ],
)
def test_a_failure_names_the_key_to_change_and_gives_the_other_pins_back(board, button, pins, sentence):
    with pytest.raises(DeviceFailed, match=sentence) as refusal:
        GpioControls(**{"volume_up": 5, **pins}, timer=board.timer)

    GpioLight(5, timer=board.timer).close()
    del refusal  # which would have kept alive what was left open


# The light ------------------------------------------------------------------------------------------------------------


def watched(board: Board, pins: tuple[int, ...], seconds: float) -> list[tuple[tuple[int, ...], float]]:
    """Return what pins show, and for how long, by a look every 10 ms."""
    seen: list[tuple[tuple[int, ...], float]] = []
    for _ in range(round(seconds / 0.01)):
        board.forward(0.005)
        states = tuple(int(board.pin(pin).state) for pin in pins)
        board.forward(0.005)
        if seen and seen[-1][0] == states:
            seen[-1] = (states, seen[-1][1] + 0.01)
        else:
            seen.append((states, 0.01))
    return seen


@pytest.mark.parametrize("mood", PATTERNS)
@pytest.mark.parametrize(
    ("make", "pins", "patterns"), [(GpioLight, 25, PATTERNS), (GpioColourLight, (5, 6, 13), COLOURS)]
)
def test_a_mood_is_shown_by_its_pattern_again_and_again(board, mood, make, pins, patterns):
    light = make(pins, timer=board.timer)
    pattern = patterns[mood]
    light.show(mood)
    pins = (pins,) if isinstance(pins, int) else pins
    if len(pattern) == 1:
        assert watched(board, pins, 7.0) == [(pattern[0][0], pytest.approx(7.0))]
    else:
        cycle = sum(seconds for _, seconds in pattern)
        expected = [(colour, pytest.approx(seconds, abs=0.006)) for colour, seconds in pattern * 3]
        assert watched(board, pins, 3 * cycle) == expected
    light.close()


def test_a_light_is_dark_until_it_shows_a_mood(board, light):
    board.forward(10.0)

    assert not board.pin(25).state


@pytest.mark.parametrize(("inverted", "on"), [(False, 1), (True, 0)])
def test_an_inverted_light_is_lit_by_a_low_pin(board, inverted, on):
    one = GpioLight(25, inverted=inverted, timer=board.timer)
    three = GpioColourLight((5, 6, 13), inverted=inverted, timer=board.timer)
    states = [board.pin(pin) for pin in (25, 5, 6, 13)]
    assert [pin.state for pin in states] == [1 - on] * 4

    one.show("listening")
    three.show("muted")  # red
    assert [pin.state for pin in states] == [on, on, 1 - on, 1 - on]

    for each in states:
        each.clear_states()
    one.close()
    three.close()
    assert [pin.states[-1].state for pin in states[2:]] == [1 - on] * 2  # the others floated up or were dark before
    assert (states[0].states[1].state, states[1].states[1].state) == (1 - on, 1 - on)


def test_a_mood_is_shown_at_once_whatever_was_shown_before(board, light):
    light.show("ready")
    board.forward(2.0)
    assert not board.pin(25).state  # for three seconds more

    light.show("listening")
    assert board.pin(25).state
    board.forward(60.0)
    assert board.pin(25).state


def test_the_same_mood_again_does_not_begin_its_pattern_again(board, light):
    light.show("refused")
    for _ in range(20):
        board.forward(0.1)
        light.show("refused")

    assert not board.pin(25).state


def test_a_pin_is_only_written_when_it_changes(board):
    light = GpioColourLight((5, 6, 13), timer=board.timer)
    light.show("trouble")  # red, and red with green
    board.writes.clear()
    board.forward(5.1)
    light.close()

    assert board.writes == {"GPIO6": 20 + 1, "GPIO5": 1, "GPIO13": 1}  # and once each to be dark


def test_a_light_blinks_by_a_real_clock(board):
    """The rest of this file moves the clock by hand."""
    light = GpioLight(25)
    light.show("listening")
    light.show("starting")
    pin = board.pin(25)
    for _ in range(1000):
        if len(pin.states) >= 5 or threading.Event().wait(0.01):
            break
    light.close()

    (_, dark), (_, on), (flash, off), (pause, again), *_ = pin.states
    assert (dark, on, off, again) == (False, True, False, True)
    assert min(flash, pause) > 0.09
    assert "light" not in {thread.name for thread in threading.enumerate()}


def test_a_closed_light_is_dark_and_its_pin_is_free(board, light):
    pin = board.pin(25)
    light.show("listening")
    light.close()
    light.close()

    assert not pin.state
    GpioLight(25, timer=board.timer).close()


def test_a_light_that_fails_raises_to_the_caller_that_shows_a_mood(board, light):
    board.broken = True
    with pytest.raises(DeviceFailed, match="light on GPIO25: 'bad handle'; stop the program .*light.pin"):
        light.show("listening")

    board.broken = False
    light.show("listening")
    assert board.pin(25).state


def test_a_light_that_fails_does_not_stop_the_caller_that_closes_it(board, caplog):
    light = GpioColourLight((5, 6, 13), timer=board.timer)
    light.show("speaking")
    board.broken = True
    light.close()
    board.broken = False

    assert caplog.text.count("light on GPIO5, GPIO6, GPIO13: 'bad handle'; stop the program that uses it") == 3
    assert caplog.text.count("; it may stay lit") == 3


# The clockwork --------------------------------------------------------------------------------------------------------


def test_a_clockwork_works_when_it_is_time_and_when_it_is_woken():
    seen: list[float] = []
    enough = threading.Event()

    def work(now: float) -> float | None:
        seen.append(now)
        if len(seen) in (1, 2):
            return now + 0.02
        enough.set()
        return None

    clockwork = TimerThread("test", work)
    assert seen == []  # it was not woken
    clockwork.wake()
    assert enough.wait(10)
    clockwork.close()
    clockwork.close()

    assert len(seen) == 3
    assert seen[2] - seen[1] >= 0.019
    assert seen[1] - seen[0] >= 0.019


def test_an_error_does_not_end_a_clockwork(caplog):
    worked = threading.Event()

    def work(_: float) -> None:
        if not worked.is_set():
            worked.set()
            raise RuntimeError("a spring broke")
        again.set()

    again = threading.Event()
    clockwork = TimerThread("test", work)
    clockwork.wake()
    assert worked.wait(10)
    clockwork.wake()
    for _ in range(1000):  # the first may have been taken for the second
        if again.wait(0.01):
            break
        clockwork.wake()
    clockwork.close()

    assert again.is_set()
    assert "the test stands still until it is used again" in caplog.text


def test_a_clockwork_that_hangs_is_left_behind_and_said_so(monkeypatch, caplog):
    monkeypatch.setattr("device_agent.runtime.timer_thread.TIMER_STOP_TIMEOUT_S", TIMER_STOP_TIMEOUT_S / 100)
    hung, go_on = threading.Event(), threading.Event()

    def work(_: float) -> None:
        hung.set()
        go_on.wait(10)

    clockwork = TimerThread("test", work)
    clockwork.wake()
    assert hung.wait(10)
    clockwork.close()
    go_on.set()

    assert "the thread of the test did not stop" in caplog.text


# What is in the way ---------------------------------------------------------------------------------------------------


def test_a_pin_that_is_taken_names_the_device_that_uses_it(board, button):
    with pytest.raises(DeviceFailed) as refusal:
        GpioLight(17, timer=board.timer)

    assert str(refusal.value).startswith(
        "light on GPIO17: pin GPIO17 is already in use by <gpiozero.DigitalInputDevice"
    )
    assert str(refusal.value).endswith("choose another light.pin")
    assert isinstance(refusal.value.__cause__, gpiozero.GPIOPinInUse)


def test_a_colour_that_is_taken_gives_the_others_back(board, button):
    with pytest.raises(DeviceFailed, match="light on GPIO17: .*; choose another light.rgb") as refusal:
        GpioColourLight((5, 6, 17), timer=board.timer)

    GpioColourLight((5, 6, 13), timer=board.timer).close()
    del refusal  # which would have kept alive what was left open


def test_a_light_without_a_thread_gives_its_pins_back(board):
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.raises(RuntimeError) as refusal:
        GpioColourLight((5, 6, 13), timer=none_left)

    GpioColourLight((5, 6, 13), timer=board.timer).close()
    del refusal  # which would have kept alive what was left open


def test_a_pin_that_another_program_has_is_told_in_one_line(board, monkeypatch):
    class Busy(Exception):
        """As lgpio raises it."""

    def busy(*_: object, **__: object) -> None:
        raise Busy("'GPIO busy'")

    monkeypatch.setattr(board, "pin", busy)
    with pytest.raises(DeviceFailed, match=r"button on GPIO17: 'GPIO busy'; stop the program that uses it"):
        GpioButton(17)
    assert "button" not in {thread.name for thread in threading.enumerate()}


def test_a_pin_that_does_not_exist_is_told_in_one_line(board):
    with pytest.raises(DeviceFailed, match=r"light on GPIO99: .*99") as refusal:
        GpioLight(99)

    assert "\n" not in str(refusal.value)


def test_a_machine_without_pins_is_told_what_to_do_and_nothing_else_is_said():
    program = (
        "from device_agent.hardware.gpio import GpioButton, GpioColourLight, GpioControls\n"
        "makers = [(GpioButton, 17), (lambda pins: GpioControls(encoder=pins), (5, 6)), (GpioColourLight, (7, 8, 9))]\n"
        "for make, pins in makers:\n"
        "    try: make(pins)\n"
        "    except OSError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    if "there is no GPIO" not in done.stdout:
        pytest.skip("this machine has pins")

    advice = "(on a Raspberry Pi: apt install python3-lgpio)\n"
    assert done.stdout == (
        f"button on GPIO17: there is no GPIO on this machine; leave button.pin empty {advice}"
        f"encoder on GPIO5 and GPIO6: there is no GPIO on this machine; leave controls.encoder empty {advice}"
        f"light on GPIO7: there is no GPIO on this machine; leave light.rgb empty {advice}"
    )
    assert done.stderr == ""
