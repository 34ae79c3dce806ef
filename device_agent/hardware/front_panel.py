"""Front panel: opens, wires and exchanges button, controls and light."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..core.errors import AgentError, DeviceFailed
from ..core.events import Event, MuteAsked, Pressed, Released, VolumeAsked
from .ports import Button, Controls

MAX_TAP_S = 0.4  # a button that is down for longer is held
VOLUME_STEP_PERCENT = 5  # one step of a knob


class Opener(NamedTuple):
    """Opens a port; ``open`` raises DeviceFailed. The same *wanted* means the same port."""

    wanted: object
    open: Callable[[], Any]


Openers = Mapping[str, Opener]  # of button, light and controls


class FrontPanel:
    """Button, light and controls of one device. All methods belong to the main thread."""

    def __init__(self, openers: Openers) -> None:
        """Open all three, or none. Raises DeviceFailed."""
        self._openers = dict(openers)
        self._ports: dict[str, Any] = {}
        self._tell: Callable[[Event], None] | None = None
        self._mood = ""
        with ExitStack() as opened:
            opened.callback(self.close)
            self._open(self._openers)
            opened.pop_all()

    def listen(self, tell: Callable[[Event], None]) -> None:
        """From now on *tell* what is pressed, turned and switched, and the position of the switch."""
        if tell == self._tell:
            return  # a button that is down just now goes on being timed
        self._tell = tell
        self._wire(self._ports)

    def show(self, mood: str) -> None:
        """Show *mood*. Raises DeviceFailed."""
        self._mood = mood
        self._ports["light"].show(mood)

    @property
    def muted(self) -> bool | None:
        """The position of the switch; None where there is none."""
        controls: Controls | None = self._ports.get("controls")
        return None if controls is None else controls.muted

    def exchange(self, openers: Openers) -> None:
        """Close and reopen those of *openers* that have changed.

        Raises DeviceFailed where one does not open: then they are as before. An AgentError says that not even that was
        possible, and this panel is of no use any more.
        """
        openers = {name: each for name, each in openers.items() if each.wanted != self._openers[name].wanted}
        before = {name: self._openers[name] for name in openers}
        self._close(openers)  # all of them first: the new light may use the pin of the old button
        try:
            self._open(openers)
        except DeviceFailed:
            self._close(openers)
            self._take_back(before)
            raise
        self._openers.update(openers)

    def close(self) -> None:
        """Close what is open."""
        self._close(self._openers)

    def _open(self, openers: Openers) -> None:
        """Open ports, and let each do what its predecessor did."""
        for name, opener in openers.items():
            self._ports[name] = opener.open()
        self._wire({name: self._ports[name] for name in openers})
        if "light" in openers and self._mood:
            self._ports["light"].show(self._mood)

    def _close(self, names: Openers) -> None:
        for name in names:
            if (port := self._ports.pop(name, None)) is not None:
                port.close()

    def _take_back(self, openers: Openers) -> None:
        try:
            self._open(openers)
        except DeviceFailed as error:
            text = f"{error}; it worked before an edit that failed: ending the program, so that it is restarted"
            raise AgentError(text) from error

    def _wire(self, ports: Mapping[str, Any]) -> None:
        if (tell := self._tell) is None:
            return
        button: Button | None = ports.get("button")
        if button is not None:
            wire_button(button, tell)
        controls: Controls | None = ports.get("controls")
        if controls is not None:
            controls.when_turned = lambda steps: tell(VolumeAsked(by=VOLUME_STEP_PERCENT * steps))
            controls.when_muted = lambda muted: tell(MuteAsked(muted))
            if controls.muted is not None:
                tell(MuteAsked(controls.muted))


def wire_button(button: Button, tell: Callable[[Event], None]) -> None:
    """Tell what happens to *button*. It is timed here, in the thread of the pin: the main thread may be busy."""
    down_at = 0.0

    def pressed() -> None:
        nonlocal down_at
        down_at = time.monotonic()
        tell(Pressed())

    def released() -> None:
        tell(Released(tapped=time.monotonic() - down_at < MAX_TAP_S))

    button.when_pressed, button.when_released = pressed, released
