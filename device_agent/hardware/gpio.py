"""Button, controls and light on GPIO pins. The only file that imports gpiozero; imported only where it is needed.

``debounce`` and ``light_patterns`` decide; here they meet the pins and two kinds of threads: the one in which gpiozero
watches the pins, and ``TimerThread``.

An exception that escapes from a callback would end the thread of gpiozero, and no button would work any more. So every
callback here catches everything. Its ``bounce_time`` is never used: with lgpio it holds every edge back until the
contact has been quiet for so long, and with the other libraries a release within it is lost.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import gpiozero

from ..core.errors import DeviceFailed
from ..runtime.timer_thread import TimerThread, TimerThreadFactory
from .debounce import Debouncer, Repeat
from .light_patterns import COLOURS, PATTERNS, Colour, Pattern, lit

log = logging.getLogger(__name__)


# Button and controls --------------------------------------------------------------------------------------------------


class GpioButton:
    """A button between *pin* (BCM) and ground. A press is reported at once, see ``Debouncer``. Raises DeviceFailed.

    *inverted*: it is between the pin and 3.3 V, or is a sensor that drives the pin high while it is touched. Its
    callbacks run in a thread of gpiozero's or of its timer.
    """

    def __init__(self, pin: int, *, inverted: bool = False, timer: TimerThreadFactory = TimerThread) -> None:
        self.when_pressed: Callable[[], None] | None = None
        self.when_released: Callable[[], None] | None = None
        with ExitStack() as opened:
            self._pins = _PinWatcher("button", timer)
            opened.callback(self._pins.close)
            self._contact = self._pins.add("button", "button.pin", pin, self._moved, inverted=inverted)
            opened.pop_all()

    @property
    def is_pressed(self) -> bool:
        return self._contact.closed

    def close(self) -> None:
        self._pins.close()

    def _moved(self, closed: bool) -> None:
        _call(self.when_pressed if closed else self.when_released)


class GpioControls:
    """Volume and mute on pins (BCM), each of which may be missing. Raises DeviceFailed.

    *volume_up* and *volume_down* are buttons to ground that repeat while they are held; *encoder* is the pins A and B
    of a rotary encoder whose middle pin is grounded, one step for each detent, clockwise is louder; *mute* is a button
    or a switch to ground, as *mute_is* says: a closed switch is muted. *volume_inverted*, *mute_inverted*: those are
    between their pins and 3.3 V, or drive them high. Its callbacks run in a thread of gpiozero's or of its timer.
    """

    def __init__(
        self,
        volume_up: int | None = None,
        volume_down: int | None = None,
        encoder: Sequence[int] = (),
        mute: int | None = None,
        mute_is: str = "button",
        *,
        volume_inverted: bool = False,
        mute_inverted: bool = False,
        timer: TimerThreadFactory = TimerThread,
    ) -> None:
        self.when_turned: Callable[[int], None] | None = None
        self.when_muted: Callable[[bool | None], None] | None = None
        self._switch: Debouncer | None = None
        self._buttons: dict[str, Debouncer] = {}  # by their keys in the configuration
        with ExitStack() as opened:
            self._pins = _PinWatcher("controls", timer)
            opened.callback(self._pins.close)
            volume = {"inverted": volume_inverted, "repeats": True}
            if volume_up is not None:
                self._add_button("louder button", "controls.volume_up", volume_up, partial(self._turned, +1), **volume)
            if volume_down is not None:
                quieter = partial(self._turned, -1)
                self._add_button("quieter button", "controls.volume_down", volume_down, quieter, **volume)
            if mute is not None and mute_is == "switch":
                switch = ("mute switch", "controls.mute", mute, self._mute_changed)
                self._switch = self._pins.add(*switch, inverted=mute_inverted)
            elif mute is not None:
                toggle = partial(self._mute_changed, None)
                self._add_button("mute button", "controls.mute", mute, toggle, inverted=mute_inverted)
            if encoder:
                opened.callback(self._open_encoder(*encoder).close)
            self._opened = opened.pop_all()

    @property
    def muted(self) -> bool | None:
        return None if self._switch is None else self._switch.closed

    @property
    def held(self) -> list[str]:
        return [key for key, contact in self._buttons.items() if contact.closed]

    def close(self) -> None:
        self._opened.close()

    def _add_button(self, name: str, key: str, pin: int, pressed: Callable[[], None], **how: bool) -> None:
        self._buttons[key] = self._pins.add(name, key, pin, lambda closed: pressed() if closed else None, **how)

    def _open_encoder(self, a: int, b: int) -> Any:
        with _explained(f"encoder on GPIO{a} and GPIO{b}", "controls.encoder"), _warnings_logged():
            encoder = gpiozero.RotaryEncoder(a, b, max_steps=0)
            encoder.when_rotated_clockwise = partial(self._turned, +1)
            encoder.when_rotated_counter_clockwise = partial(self._turned, -1)
        return encoder

    def _turned(self, steps: int) -> None:
        _call(self.when_turned, steps)

    def _mute_changed(self, muted: bool | None) -> None:
        _call(self.when_muted, muted)


class _PinWatcher:
    """The contacts of one port, and the timer that looks at them when something is due.

    Callbacks run in the thread of gpiozero or in that of the timer, never in both at once.
    """

    def __init__(self, name: str, timer: TimerThreadFactory) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._watched: list[_WatchedPin] = []
        self._timer = timer(name, self._look)

    def add(
        self,
        name: str,
        key: str,
        pin: int,
        tell: Callable[[bool], None],
        *,
        inverted: bool = False,
        repeats: bool = False,
    ) -> Debouncer:
        """Watch *pin*, called *key* in the configuration and *name* in messages. Raises DeviceFailed.

        *tell* is given True when the contact closes and False when it opens; where it *repeats*, True again and again
        while the contact is held. Closed is low, and the pin is pulled up; *inverted*: high, and it is pulled down.
        """
        with _explained(f"{name} on GPIO{pin}", key), _warnings_logged():
            device = gpiozero.DigitalInputDevice(pin, pull_up=not inverted)
            watched = _WatchedPin(device, tell, Repeat() if repeats else None)
            with self._lock:
                self._watched.append(watched)
            device.when_activated = lambda: self._moved(watched, True)
            device.when_deactivated = lambda: self._moved(watched, False)
        return watched.contact

    def close(self) -> None:
        """End the callbacks and release the pins. May be called twice, but not from a callback."""
        with self._lock:
            self._closed = True
        self._timer.close()
        for watched in self._watched:
            watched.device.close()

    def _moved(self, watched: _WatchedPin, closed: bool) -> None:
        """Pass an edge on. Runs in the thread of gpiozero."""
        try:
            with self._lock:
                believed = not self._closed and watched.edge(closed, self._timer.now())
            if believed:
                self._timer.wake()  # there is a new deadline
        except Exception:  # which would end the thread of gpiozero
            log.exception("a change of the %s could not be passed on", self._name)

    def _look(self, now: float) -> float | None:
        """Do what is due, as the work of the timer."""
        with self._lock:
            return None if self._closed else _earliest(*[watched.look(now) for watched in self._watched])


class _WatchedPin:
    """A contact on a pin, and its callback. For one thread at a time: the watcher holds its lock."""

    def __init__(self, device: Any, tell: Callable[[bool], None], repeat: Repeat | None) -> None:
        self.device, self._tell, self._repeat = device, tell, repeat
        self.contact = Debouncer(device.is_active)

    def edge(self, closed: bool, now: float) -> bool:
        """An edge came; return whether it is believed."""
        late = (self.device.active_time if closed else self.device.inactive_time) or 0.0  # seconds since the edge
        still = self.device.is_active == closed
        return self._pass_on(self.contact.edge(closed, now - late, still), now)

    def look(self, now: float) -> float | None:
        """Do what is due; return when something is due again."""
        if self.contact.deadline is not None:
            self._pass_on(self.contact.settle(self.device.is_active, now), now)
        if self._repeat is not None and self._repeat.due(now):
            self._tell(True)
        return _earliest(self.contact.deadline, self._repeat.deadline if self._repeat else None)

    def _pass_on(self, believed: list[bool], now: float) -> bool:
        for closed in believed:
            self._tell(closed)
            if self._repeat is not None:
                self._repeat.hold(now) if closed else self._repeat.release()
        return bool(believed)


def _earliest(*deadlines: float | None) -> float | None:
    return min((each for each in deadlines if each is not None), default=None)


def _call(callback: Callable[..., None] | None, *arguments: object) -> None:
    """Call *callback*, if there is one. Never raises."""
    try:
        if callback is not None:
            callback(*arguments)
    except Exception:
        log.exception("a change of a pin could not be handled")


# Light ----------------------------------------------------------------------------------------------------------------


class _Leds:
    """LEDs on *pins* (BCM) that show *patterns*. All methods belong to one thread; none waits but ``close``.

    gpiozero's own blinking is not used: each change of its rhythm waits for a thread to end and begins another.
    """

    def __init__(
        self, pins: Sequence[int], key: str, patterns: dict[str, Pattern], inverted: bool, timer: TimerThreadFactory
    ) -> None:
        self._name, self._key = f"light on {', '.join(f'GPIO{pin}' for pin in pins)}", key
        self._patterns = patterns
        self._mood = ""
        self._lock = threading.Lock()
        self._colour: Colour = (0,) * len(pins)
        self._pattern: Pattern = ((self._colour, 1.0),)  # dark, until there is a mood
        self._began = 0.0
        with ExitStack() as opened:
            self._leds = [self._open(pin, inverted, opened) for pin in pins]
            self._timer = timer("light", self._step)
            opened.pop_all()

    def show(self, mood: str) -> None:
        if mood == self._mood:
            return  # else a pattern would begin again with each event
        with _explained(self._name, self._key), self._lock:
            self._pattern, self._began = self._patterns[mood], self._timer.now()
            self._light(self._pattern[0][0])
        self._mood = mood
        self._timer.wake()

    def close(self) -> None:
        self._timer.close()
        for led in self._leds:
            try:
                with _explained(self._name, self._key):
                    if not led.closed:
                        led.off()
                        led.close()
            except DeviceFailed as error:
                log.warning("%s; it may stay lit", error)

    def _open(self, pin: int, inverted: bool, opened: ExitStack) -> Any:
        with _explained(f"light on GPIO{pin}", self._key), _warnings_logged():
            led = gpiozero.LED(pin, active_high=not inverted)
        opened.callback(led.close)
        return led

    def _step(self, now: float) -> float | None:
        """Go on with the pattern, as the work of the timer."""
        with self._lock:
            colour, left = lit(self._pattern, now - self._began)
            self._light(colour)
        return None if left is None else now + left

    def _light(self, colour: Colour) -> None:
        """Write to the pins that change. The lock is held."""
        for led, before, after in zip(self._leds, self._colour, colour, strict=True):
            if after != before:
                led.value = after
        self._colour = colour


class GpioLight(_Leds):
    """An LED on *pin* (BCM) that shows moods by PATTERNS; *inverted*: it is between the pin and 3.3 V. Raises
    DeviceFailed."""

    def __init__(self, pin: int, *, inverted: bool = False, timer: TimerThreadFactory = TimerThread) -> None:
        super().__init__((pin,), "light.pin", PATTERNS, inverted, timer)


class GpioColourLight(_Leds):
    """An LED with colours on three *pins* (BCM), red, green and blue, that shows moods by COLOURS; *inverted*: it is
    between its pins and 3.3 V (a common anode). Raises DeviceFailed."""

    def __init__(self, pins: Sequence[int], *, inverted: bool = False, timer: TimerThreadFactory = TimerThread) -> None:
        super().__init__(pins, "light.rgb", COLOURS, inverted, timer)


# Errors ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _explained(name: str, key: str) -> Iterator[None]:
    """Turn what gpiozero and the library below it raise into DeviceFailed, with the cause kept."""
    try:
        yield
    except gpiozero.BadPinFactory as error:
        advice = f"leave {key} empty (on a Raspberry Pi: apt install python3-lgpio)"
        raise DeviceFailed(f"{name}: there is no GPIO on this machine; {advice}") from error
    except gpiozero.GPIOPinInUse as error:
        raise DeviceFailed(f"{name}: {_line(error)}; choose another {key}") from error
    except Exception as error:  # lgpio's errors have nothing in common
        advice = f"stop the program that uses it, or choose another {key}, or join the group gpio"
        raise DeviceFailed(f"{name}: {_line(error)}; {advice}") from error


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """Log what gpiozero would print about the pin libraries that it tries."""
    with warnings.catch_warnings(record=True) as said:
        yield
    for warning in said:
        log.warning("%s", warning.message)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
