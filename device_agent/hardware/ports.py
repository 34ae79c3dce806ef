"""Ports of the device: protocols that real and simulated hardware follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Cut(Protocol):
    """Tells the owner of a loudspeaker whether what was written is to be dropped."""

    def __call__(self, seconds: float = 0.0, /) -> bool:
        """Wait for a cut, *seconds* at most; return whether there is one."""


def never(seconds: float = 0.0, /) -> bool:
    """The ``Cut`` that never comes."""
    time.sleep(seconds)
    return False


class Microphone(Protocol):
    """Sound in, one frame at a time: 20 ms of s16le mono at the rate it was made for."""

    overflows: int  # how often the device had to drop sound because it was not read in time

    def open(self) -> None:
        """Open the device. The message of a DeviceFailed says which it is and what to do."""

    def read(self) -> bytes:
        """Wait for one frame; b"" when there will never be another. Raises DeviceFailed."""

    def close(self) -> None:
        """Release the device. For its owner; harmless where it never opened."""


class Speaker(Protocol):
    """Sound out. What is written may wait in the device for ``latency`` seconds before it is heard."""

    underruns: int  # how often the device ran dry in the middle of a reply

    @property
    def latency(self) -> float:
        """Seconds from ``write`` to the ear."""

    def open(self) -> None:
        """Open the device. The message of a DeviceFailed says which it is and what to do."""

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        """Play s16le mono; blocks while the device's buffer is full, until *cut*. Raises DeviceFailed."""

    def drain(self, cut: Cut = never) -> None:
        """Wait until everything written has been heard, or until *cut*. Raises DeviceFailed."""

    def drop(self) -> None:
        """Be silent now; drop what was written and not heard. Raises DeviceFailed."""

    def close(self) -> None:
        """Release the device; what was not heard is lost. For its owner; harmless where it never opened."""


class Button(Protocol):
    """Press and release. The names are gpiozero's, so its Button is an implementation."""

    when_pressed: Callable[[], None] | None
    when_released: Callable[[], None] | None

    @property
    def is_pressed(self) -> bool:
        """Whether it is held down now. For any thread."""

    def close(self) -> None:
        """Release the pin. May be called twice, but not from a callback."""


class Controls(Protocol):
    """Volume and mute, by hand."""

    when_turned: Callable[[int], None] | None  # +1: a step louder, -1: quieter
    when_muted: Callable[[bool | None], None] | None  # position of a switch, True: muted; None: a button toggles it

    @property
    def muted(self) -> bool | None:
        """The position of the switch; None where there is none. For any thread."""

    @property
    def held(self) -> list[str]:
        """Keys in the configuration of the buttons that are held down now. For any thread."""

    def close(self) -> None:
        """Release the pins. May be called twice, but not from a callback."""


class Light(Protocol):
    """Shows a mood, one of ``conversation.MOODS``."""

    def show(self, mood: str) -> None:
        """Show *mood* from now on. Raises DeviceFailed."""

    def close(self) -> None:
        """Be dark, and release the pins. May be called twice."""
