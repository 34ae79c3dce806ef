"""A house for a whole daemon: microphones and speakers that its configuration names, pins, and time that goes faster.

The daemon lives in the main thread, as it always does; the user presses, speaks and edits in another thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gpiozero
from gpiozero.pins.mock import MockFactory

from device_agent.app import agent, assembly
from device_agent.app.daemon import Daemon
from device_agent.audio import device_supervisor, echo_control
from device_agent.config import watcher
from device_agent.config.model import ButtonConfig, MicrophoneConfig
from device_agent.core.errors import DeviceFailed
from device_agent.dsp.resampling import resample
from device_agent.hardware import debounce, front_panel
from tests.support import room
from tests.support.room import RATE, RoomMicrophone, RoomSpeaker

log = logging.getLogger("house")

TICK_S = 0.25
"""How often the agent of this house looks at its file; time goes faster here."""
KEY = "key-of-the-bench"
PATIENCE_S = 20.0
"""How long a turn, or an edit, may take; longer, and it is lost."""


class Lost(Exception):
    """Something that had to happen did not."""


class Ear(RoomMicrophone):
    """The microphone of one device; where several were, people speak into the one that is open."""

    def __init__(self, house: House, rate: int, name: str) -> None:
        super().__init__(rate)
        self._house, self._name, self.rate = house, name, rate

    def open(self) -> None:
        if self._name == "gone":
            raise DeviceFailed("microphone gone: there is no such device; choose another microphone.device")
        super().open()
        self._house.ear = self


class House:
    """The world around the device."""

    def __init__(self) -> None:
        self.ear: Ear | None = None
        self.mouth: RoomSpeaker | None = None
        gpiozero.Device.pin_factory = MockFactory()

    def microphone(self, microphone: MicrophoneConfig, rate: int) -> Ear:
        return Ear(self, rate, microphone.device)

    def speaker(self, _device: str, rate: int) -> RoomSpeaker:
        self.mouth = RoomSpeaker(rate)
        self.mouth.rate = rate  # type: ignore[attr-defined]
        return self.mouth

    def say(self, pcm: bytes) -> None:
        assert self.ear is not None
        self.ear.say(resample(pcm, RATE, self.ear.rate))

    def heard(self) -> bytes:
        """Return what has come out of the loudspeaker, at RATE, and forget it."""
        assert self.mouth is not None
        with self.mouth._lock:
            pcm = bytes(self.mouth._heard)
            self.mouth._heard.clear()
        return resample(pcm, self.mouth.rate, RATE)  # type: ignore[attr-defined]

    @classmethod
    def tap(cls, button: ButtonConfig) -> None:
        cls.press(button.pin, inverted=button.inverted)
        cls.release(button.pin, inverted=button.inverted)

    @staticmethod
    def press(pin: int, *, inverted: bool = False) -> None:
        contact = gpiozero.Device.pin_factory.pin(pin)
        (contact.drive_high if inverted else contact.drive_low)()

    @staticmethod
    def release(pin: int, *, inverted: bool = False) -> None:
        contact = gpiozero.Device.pin_factory.pin(pin)
        (contact.drive_low if inverted else contact.drive_high)()


@contextmanager
def lived_in(house: House, folder: Path, *, tap_s: float, proven_s: float = watcher.PROVEN_S) -> Iterator[None]:
    """Let a daemon find *house* around it, and *folder* for what it keeps; put everything back at the end.

    A press of less than *tap_s* seconds is a tap; an edit that has worked for *proven_s* is good.
    """
    for name, mode in (("good.key", 0o600), ("other.key", 0o600), ("readable.key", 0o644)):
        (folder / name).write_text(KEY)
        (folder / name).chmod(mode)
    os.environ.update(
        STATE_DIRECTORY=str(folder / "state"), RUNTIME_DIRECTORY=str(folder), XAI_API_KEY=KEY, OPENAI_API_KEY=KEY
    )
    with ExitStack() as owned:
        for module, name, here in (
            (agent, "CHECK_INTERVAL_S", TICK_S),
            (watcher, "PARTIAL_FILE_TIMEOUT_S", TICK_S),
            (watcher, "PROVEN_S", proven_s),
            (echo_control, "ECHO_TAIL_S", echo_control.ECHO_TAIL_S / room.PACE),  # here sound dies away sooner, too
            (echo_control, "CUE_ECHO_TAIL_S", echo_control.CUE_ECHO_TAIL_S / room.PACE),
            (debounce, "BOUNCE_S", debounce.BOUNCE_S / room.PACE),  # and a finger is quicker
            (front_panel, "MAX_TAP_S", tap_s),
            (
                device_supervisor,
                "DEVICE_RETRY_DELAYS_S",
                tuple(seconds / room.PACE for seconds in device_supervisor.DEVICE_RETRY_DELAYS_S),
            ),
            (assembly, "open_microphone", house.microphone),
            (assembly, "open_speaker", house.speaker),
        ):
            owned.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, here)
        yield


def live(daemon: Daemon, drive: Callable[[], None]) -> int:
    """Be *daemon* until *drive*, in a thread of its own, has returned; return its exit status. For the main thread."""

    def driven() -> None:
        try:
            until(lambda: daemon._agent is not None, lambda: "it did not start")
            drive()
        finally:
            daemon.stop("the bench")

    driver = threading.Thread(target=driven, name="driver", daemon=True)
    driver.start()
    status = daemon.run()
    driver.join(PATIENCE_S)
    return status


def until(done: Callable[[], object], why: Callable[[], str], patience: float = PATIENCE_S) -> None:
    """Wait until *done*. Raises Lost, and says *why*, where that takes too long."""
    ends = time.monotonic() + patience
    while not done():
        if time.monotonic() > ends:
            raise Lost(why())
        time.sleep(0.005)


def settled(daemon: Daemon) -> bool:
    """Whether the device stands, and nothing waits for it."""
    reconfigurer, running = daemon._reconfigurer, daemon._agent
    return reconfigurer is not None and reconfigurer.pending is None and running is not None and rests(running)


def rests(running: Any) -> bool:
    """Whether no turn is under way."""
    return running.device.conversation.state in agent.RESTING and running.device.playback.quiet
