"""The ports of the device: protocols that real and simulated hardware follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Cut(Protocol):
    """Says whether nobody wants to hear any more what was given to a loudspeaker. For the owner of that."""

    def __call__(self, seconds: float = 0.0, /) -> bool:
        """Wait so many *seconds* for a cut, and no longer than until there is one; return whether there is."""


def never(seconds: float = 0.0, /) -> bool:
    """Say that it is wanted to its end."""
    time.sleep(seconds)
    return False


class Microphone(Protocol):
    """Sound in, one frame at a time: 20 ms of s16le mono at the rate it was made for."""

    overflows: int
    """How often the device had to drop sound because nobody read it in time."""

    def open(self) -> None:
        """Raises DeviceFailed with the name of the device and what to do."""

    def read(self) -> bytes:
        """Wait for one frame; b"" when there will never be another. Raises DeviceFailed."""

    def close(self) -> None:
        """Give the device back. For its owner; harmless where it never opened."""


class Speaker(Protocol):
    """Sound out. What is written may wait in the device for ``latency`` seconds before it is heard."""

    underruns: int
    """How often the device ran dry in the middle of a reply."""

    @property
    def latency(self) -> float:
        """Seconds from ``write`` to the ear."""

    def open(self) -> None:
        """Raises DeviceFailed with the name of the device and what to do."""

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        """Play s16le mono; blocks while the device's buffer is full, until *cut* at most. Raises DeviceFailed."""

    def drain(self, cut: Cut = never) -> None:
        """Wait until everything written has been heard, or until *cut*. Raises DeviceFailed."""

    def drop(self) -> None:
        """Be silent now; forget what was written and not heard."""

    def close(self) -> None:
        """Give the device back; what was not heard is lost. For its owner; harmless where it never opened."""


class Button(Protocol):
    """Press and release. The names are gpiozero's, so its Button is an implementation."""

    when_pressed: Callable[[], None] | None
    when_released: Callable[[], None] | None

    @property
    def is_pressed(self) -> bool:
        """Whether it is held down at this moment."""

    def close(self) -> None:
        """Give the pin back. May be called twice."""


class Controls(Protocol):
    """Volume and mute, by hand."""

    when_turned: Callable[[int], None] | None
    """Is told of a step: +1 is louder, -1 is quieter."""
    when_muted: Callable[[bool | None], None] | None
    """Is told of the position of a switch: True is muted; or None when a button wants it the other way round."""

    @property
    def muted(self) -> bool | None:
        """The position of the switch; None where there is none."""

    @property
    def held(self) -> list[str]:
        """Keys of config.yaml of the buttons that are held down at this moment."""

    def close(self) -> None:
        """Give the pins back. May be called twice."""


class Light(Protocol):
    """Shows a mood, one of ``conversation.MOODS``."""

    def show(self, mood: str) -> None:
        """Show *mood* from now on. Raises DeviceFailed."""

    def close(self) -> None:
        """Be dark, and give the pins back. May be called twice."""
