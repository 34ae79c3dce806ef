"""Check of button, light and controls: whether their GPIO pins exist, are free and readable."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from ..app.factories import open_button, open_controls, open_light
from ..config.model import Config, ControlsConfig
from ..core.errors import DeviceFailed
from .findings import Finding, Mark, Now, Progress, noted
from .running_agent import GPIO_FILES, open_failed

BLINK_S = 0.3
BLINK_MOOD = "listening"
"""A mood that is steady light."""
PRESSED_AFTER_S, PRESSED_POLL_S = 1.0, 0.05
"""How long a button has to look pressed, so that a finger may come up; and how often it is read."""


@contextmanager
def lgpio_folder() -> Iterator[None]:
    """Let lgpio make its pipe in a temporary folder (LG_WD), unless the environment names one.

    By default it uses the working directory, and fails where that cannot be written.
    """
    if "LG_WD" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["LG_WD"] = folder
        try:
            yield
        finally:
            del os.environ["LG_WD"]


class PinCheck:
    """Steps about what is connected to the pins of *config*."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def button(self) -> Progress:
        """Open the button, and look whether it is released."""
        yield Now("button")
        pin, inverted = self._config.button.pin, self._config.button.inverted
        if pin is None:
            yield Finding("button", "none: the return key of the terminal is used")
            return
        text, advice = f"GPIO{pin} is free and readable", ""
        try:
            with closing(open_button(self._config.button)) as button:
                if _stays(lambda: button.is_pressed):
                    advice = _unpressed(f"button.inverted: {str(not inverted).lower()}", inverted)
                    text = f"{text}, and looks pressed"
                yield noted("button", text, advice, {"pins": [pin]})
        except DeviceFailed as error:
            yield open_failed("button", GPIO_FILES, error)

    def light(self) -> Progress:
        """Let the light blink."""
        yield Now("light")
        light = self._config.light
        pins = light.rgb or (() if light.pin is None else (light.pin,))
        if not pins:
            yield Finding("light", "none: a line of text on the terminal is shown")
            return
        try:
            with closing(open_light(light)) as opened:
                opened.show(BLINK_MOOD)
                time.sleep(BLINK_S)
        except DeviceFailed as error:
            yield open_failed("light", GPIO_FILES, error)
            return
        named = ", ".join(f"GPIO{pin}" for pin in pins)
        yield Finding("light", f"{named} blinked once, for {BLINK_S:g} s", figures={"pins": list(pins)})

    def controls(self) -> Progress:
        """Open the controls, and look whether their buttons are released."""
        yield Now("controls")
        try:
            controls = open_controls(self._config.controls)
        except DeviceFailed as error:
            yield open_failed("controls", GPIO_FILES, error)
            return
        if controls is None:
            yield Finding("controls", "none but words")
            return
        with closing(controls):
            if _stays(lambda: bool(controls.held)):
                yield _held(controls.held, self._config.controls)
            else:
                yield _position(controls.muted, self._config.controls)


def _stays(pressed: Callable[[], bool]) -> bool:
    """Return whether a button is *pressed* for PRESSED_AFTER_S."""
    until = time.monotonic() + PRESSED_AFTER_S
    while pressed():
        if time.monotonic() >= until:
            return True
        time.sleep(PRESSED_POLL_S)
    return False


def _unpressed(line: str, inverted: bool) -> str:
    """Return the advice for a button that looks pressed at rest: perhaps to write *line*."""
    if inverted:
        return f"if nothing presses it, it is wired between its pin and ground: write {line}. Or it is stuck"
    return (
        f"if nothing presses it, it is a touch sensor, or is wired between its pin and 3.3 V: write {line}. Or it is "
        "stuck, or its wire touches ground"
    )


def _held(keys: list[str], controls: ControlsConfig) -> Finding:
    """Return the finding about controls whose buttons *keys* look pressed."""
    mute = keys[0] == "controls.mute"
    name, inverted = ("mute", controls.mute_inverted) if mute else ("volume", controls.volume_inverted)
    advice = _unpressed(f"controls.{name}_inverted: {str(not inverted).lower()}", inverted)
    verb = "looks" if len(keys) == 1 else "look"
    return Finding("controls", f"{' and '.join(keys)} {verb} pressed", Mark.NOTE, advice, {"held": keys})


def _position(muted: bool | None, controls: ControlsConfig) -> Finding:
    """Return the finding about controls that work, and the position of their switch."""
    text = "their pins are free and readable"
    if muted is None:
        return Finding("controls", text)
    line = f"controls.mute_inverted: {str(not controls.mute_inverted).lower()}"
    advice = f"it hears nothing until the switch is moved; if it is the wrong way round, write {line}"
    text += f"; the switch says {'muted' if muted else 'not muted'}"
    return noted("controls", text, advice if muted else "", {"muted": muted})
