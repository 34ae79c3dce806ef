"""What people ask of a device that is being assembled: kept until it works."""

from __future__ import annotations

import queue
from collections import deque

from ..core.events import (
    AudioTurn,
    Event,
    MuteAsked,
    Pressed,
    Released,
    ShutdownRequested,
    StopAsked,
    TextTurn,
    VolumeAsked,
    WakeUp,
)

USER_EVENTS = (
    Pressed, Released, VolumeAsked, MuteAsked, StopAsked, TextTurn, AudioTurn, ShutdownRequested, WakeUp,
)  # fmt: skip
"""Events that are still meant after the parts of the device that was there when they came are gone."""
MAX_EARLY_TURNS = 8
"""Turns without a voice that are kept; beyond it the oldest is dropped."""


def take_user_events(inbox: queue.SimpleQueue[Event]) -> deque[Event]:
    """Empty *inbox*; return what people asked for, in order. What the parts of another device told is of no use."""
    found: deque[Event] = deque()
    while not inbox.empty():
        if isinstance(event := inbox.get(), USER_EVENTS):
            found.append(event)
    return found


class EarlyInput:
    """Keeps what begins a turn while the device starts. Belongs to the main thread.

    Of several presses the last one counts: the person pressed again because nothing happened yet.
    """

    def __init__(self) -> None:
        self._press: list[Event] = []
        self._turns: deque[Event] = deque(maxlen=MAX_EARLY_TURNS)

    def keep(self, event: Event) -> bool:
        """Keep *event* if it begins a turn, or ends the press that is kept; return whether it did."""
        match event:
            case Pressed():
                self._press = [event]
            case Released() if self._press:
                # Nothing was heard while the button was held: from now on it is silence that ends the turn.
                self._press = [self._press[0], Released(tapped=True)]
            case TextTurn() | AudioTurn():
                self._turns.append(event)
            case _:
                return False
        return True

    def take(self) -> list[Event]:
        """Return what was kept, in the order in which to do it: a person at the button goes last, and interrupts."""
        events = [*self._turns, *self._press]
        self._press = []
        self._turns.clear()
        return events
