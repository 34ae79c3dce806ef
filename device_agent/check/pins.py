"""Button, light and controls: are their pins there, free and readable?"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..assembly import open_button, open_controls, open_light
from ..config import Config
from ..errors import DeviceFailed
from .findings import Finding, Mark, Now, Progress
from .running import PINS, failed

BLINK_S = 0.3
BLINK = "listening"
"""A mood that is steady light."""


@contextmanager
def elsewhere() -> Iterator[None]:
    """Let the library of the pins make its pipe in a folder of its own: it does so where it is started, and fails where
    nobody may write. The unit has said where, as this does (LG_WD)."""
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
    """Steps about what hangs on the pins of *config*."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def button(self) -> Progress:
        """Is it there?"""
        yield Now("button")
        pin = self._config.button.pin
        if pin is None:
            yield Finding("button", "none: the return key of the terminal")
            return
        try:
            with closing(open_button(pin)):
                yield Finding("button", f"GPIO{pin} is free and readable", figures={"pins": [pin]})
        except DeviceFailed as error:
            yield failed("button", PINS, error)

    def light(self) -> Progress:
        """Does it blink?"""
        yield Now("light")
        light = self._config.light
        pins = light.rgb or (() if light.pin is None else (light.pin,))
        if not pins:
            yield Finding("light", "none: a line of text on the terminal")
            return
        try:
            with closing(open_light(light)) as opened:
                opened.show(BLINK)
                time.sleep(BLINK_S)
        except DeviceFailed as error:
            yield failed("light", PINS, error)
            return
        named = ", ".join(f"GPIO{pin}" for pin in pins)
        yield Finding("light", f"{named} blinked once, for {BLINK_S:g} s", figures={"pins": list(pins)})

    def controls(self) -> Progress:
        """Are they there?"""
        yield Now("controls")
        try:
            controls = open_controls(self._config.controls)
        except DeviceFailed as error:
            yield failed("controls", PINS, error)
            return
        if controls is None:
            yield Finding("controls", "none but words")
            return
        with closing(controls):
            yield _position(controls.muted)


def _position(muted: bool | None) -> Finding:
    """Return what to say of controls that are there, and of the position of their switch."""
    text, figures = "their pins are free and readable", {} if muted is None else {"muted": muted}
    if muted:
        return Finding("controls", f"{text}; the switch says muted", Mark.NOTE, "it hears nothing until then", figures)
    return Finding("controls", text + ("" if muted is None else "; the switch says not muted"), figures=figures)
