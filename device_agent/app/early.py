"""Input of the user while the device starts, kept until it works."""

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
"""Events that stay valid when the device is replaced."""
MAX_EARLY_TURNS = 8
"""How many turns of text or recorded sound are kept; the oldest is dropped."""


def take_user_events(inbox: queue.SimpleQueue[Event]) -> deque[Event]:
    """Empty *inbox*; return its events of the user, in order. Those of the parts of another device are dropped."""
    found: deque[Event] = deque()
    while not inbox.empty():
        if isinstance(event := inbox.get(), USER_EVENTS):
            found.append(event)
    return found


class EarlyInput:
    """Keeps the events that begin a turn while the device starts. Belongs to the main thread.

    Of several presses the last one counts: the user pressed again because nothing happened.
    """

    def __init__(self) -> None:
        self._press: list[Event] = []
        self._turns: deque[Event] = deque(maxlen=MAX_EARLY_TURNS)

    def keep(self, event: Event) -> bool:
        """Keep *event* if it begins a turn, or ends the press that is kept; return whether it was kept."""
        match event:
            case Pressed():
                self._press = [event]
            case Released() if self._press:
                # Nothing was heard while the button was held: silence is to end the turn.
                self._press = [self._press[0], Released(tapped=True)]
            case TextTurn() | AudioTurn():
                self._turns.append(event)
            case _:
                return False
        return True

    def take(self) -> list[Event]:
        """Return the events that were kept, the press last, because it interrupts."""
        events, self._press = [*self._turns, *self._press], []
        self._turns.clear()
        return events
