"""One record per event: what happened, the actions that follow, and the state before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .actions import Action
from .conversation import State
from .events import Event


@dataclass(frozen=True, slots=True)
class Transition:
    """The conversation's answer to *event*. An event that it does not know has no actions and changes no state."""

    event: Event
    actions: tuple[Action, ...]
    """In the order in which they are done."""
    before: State
    after: State
    now: float
    """Seconds of the monotonic clock."""

    @property
    def words(self) -> tuple[Event | Action, ...]:
        """The event and the actions, in order."""
        return self.event, *self.actions


Observer = Callable[[Transition], None]
"""Called in the main thread, once per event, before the actions are done."""
