"""A button and a light on the pins of a Raspberry Pi. The only file that knows gpiozero; import it when it is needed.

gpiozero runs callbacks in the thread in which its library watches the pins, and an exception that escapes from one ends
that thread: from then on no button works. So ours catch everything.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gpiozero

from ..errors import DeviceFailed

log = logging.getLogger(__name__)

BOUNCE_S = 0.03
"""For how long the contacts of a button bounce: after a change, others are not believed."""

PATTERNS = {
    "starting": (0.1, 0.1),
    "ready": (0.05, 4.95),  # not dark: dark means that nobody is at home
    "listening": (1.0, 0.0),
    "thinking": (0.3, 0.3),
    "speaking": (0.9, 0.1),
    "offline": (0.1, 1.9),
    "refused": (1.5, 1.5),
}
"""Mood -> seconds on and seconds off, again and again."""


class GpioButton:
    """A button between *pin* (BCM) and ground. Its callbacks run in a thread of gpiozero's."""

    def __init__(self, pin: int) -> None:
        """Raises DeviceFailed."""
        self.when_pressed: Callable[[], None] | None = None
        self.when_released: Callable[[], None] | None = None
        with _said_of(f"button on GPIO{pin}", "button"), _quietly():
            self._button = gpiozero.Button(pin, pull_up=True, bounce_time=BOUNCE_S)
            self._button.when_pressed = self._pressed
            self._button.when_released = self._released

    def close(self) -> None:
        """Give the pin back. May be called twice."""
        self._button.close()

    def _pressed(self) -> None:
        _call(self.when_pressed)

    def _released(self) -> None:
        _call(self.when_released)


class GpioLight:
    """An LED on a pin (BCM) that shows moods by PATTERNS. All methods belong to one thread; none of them waits."""

    def __init__(self, pin: int) -> None:
        """Raises DeviceFailed."""
        self._name = f"light on GPIO{pin}"
        self._mood = ""
        with _said_of(self._name, "light"), _quietly():
            self._led = gpiozero.LED(pin)

    def show(self, mood: str) -> None:
        """Show *mood* from now on. Raises DeviceFailed."""
        if mood == self._mood:
            return  # a pattern that began again with each event would never be seen
        on, off = PATTERNS[mood]
        with _said_of(self._name, "light"):
            if off:
                self._led.blink(on, off)
            else:
                self._led.on()
        self._mood = mood

    def close(self) -> None:
        """Be dark and give the pin back. May be called twice."""
        if self._led.closed:
            return
        try:
            self._led.off()
        finally:
            self._led.close()


def _call(callback: Callable[[], None] | None) -> None:
    try:
        if callback is not None:
            callback()
    except Exception:
        log.exception("the button told somebody who could not take it")


@contextmanager
def _said_of(name: str, section: str) -> Iterator[None]:
    """Turn whatever gpiozero and the library below it raise into DeviceFailed, with the cause kept."""
    try:
        yield
    except gpiozero.BadPinFactory as error:
        advice = f"leave {section}.pin empty (on a Raspberry Pi: apt install python3-lgpio)"
        raise DeviceFailed(f"{name}: there is no GPIO on this machine; {advice}") from error
    except gpiozero.GPIOPinInUse as error:
        raise DeviceFailed(f"{name}: {_line(error)}; choose another {section}.pin") from error
    except Exception as error:  # lgpio's errors have nothing in common
        advice = f"stop the program that uses it, or choose another {section}.pin, or join the group gpio"
        raise DeviceFailed(f"{name}: {_line(error)}; {advice}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Log what gpiozero would print about the libraries that it tries before it finds one."""
    with warnings.catch_warnings(record=True) as said:
        yield
    for warning in said:
        log.warning("%s", warning.message)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
