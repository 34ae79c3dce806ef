"""Which reply is wanted. Replies are matched to what was asked for, not to what arrives.

A reply that nobody asked for, or that was cancelled before it had a name, is cancelled as soon as it has one and never
heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

REMEMBERED = 32
"""So many replies that are over or cancelled are remembered by name."""


class Owed(Enum):
    """A reply that was asked for and has no name yet."""

    NOTHING = "nothing"
    WANTED = "wanted"
    UNWANTED = "unwanted"


class Replies:
    """The replies of one connection. *say* sends an event that has a type and nothing else."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._owed = Owed.NOTHING
        self._postponed = False  # a reply to ask for as soon as the one under way is over
        self._under_way = ""  # the reply under way at the service, wanted or not
        self._count = 0
        self._past: deque[str] = deque(maxlen=REMEMBERED)  # cancelled or over

    @property
    def blocked(self) -> bool:
        """Whether one is to be asked for as soon as another is over."""
        return self._postponed

    @property
    def under_way(self) -> bool:
        """Whether the service is replying, wanted or not."""
        return bool(self._under_way)

    @property
    def idle(self) -> bool:
        """Whether none is under way and none was asked for."""
        return not self._under_way and self._owed is Owed.NOTHING and not self._postponed

    @property
    def owed(self) -> bool:
        """Whether one was asked for that has not begun."""
        return self._owed is not Owed.NOTHING

    # What we do -------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask for a reply, as soon as no other is under way: a service runs one at a time."""
        self._postponed = True
        self.ask_if_free()

    def ask_if_free(self) -> None:
        """Ask for what ``ask`` had to postpone, if nothing is in the way any more."""
        if self._postponed and not self._under_way and self._owed is Owed.NOTHING:
            self._postponed, self._owed = False, Owed.WANTED
            self._say("response.create")

    def ask_anyway(self) -> None:
        """What was under way went without a word: do not wait for its end."""
        self._owed, self._under_way = Owed.NOTHING, ""
        self.ask_if_free()

    def expect(self) -> None:
        """The service will reply without being asked."""
        self._owed = Owed.WANTED

    def cancel(self) -> None:
        """Nobody wants the replies any more that were asked for so far."""
        self._postponed = False
        if self._owed is Owed.WANTED:
            self._owed = Owed.UNWANTED
        if self._under_way and self._under_way not in self._past:
            self._kill()

    def _kill(self) -> None:
        self._past.append(self._under_way)
        self._say("response.cancel")

    # What the service does --------------------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """A reply has a name now: is it one that somebody wants?"""
        owed, self._owed = self._owed, Owed.NOTHING
        self._count += 1
        self._under_way = name or f"reply {self._count}"
        if self._under_way in self._past:
            self._past.remove(self._under_way)
        if owed is not Owed.WANTED:
            self._kill()

    def announced(self, name: str) -> bool:
        """Whether what belongs to the reply *name* needs no ``begin`` before it: some servers do not announce them."""
        return self._owed is Owed.NOTHING or (name or self._under_way) in self._past

    def wanted(self, name: str) -> str:
        """Return the wanted reply that *name* means, or "". Old servers give no name: then it is the one under way."""
        name = name or self._under_way
        return name if name == self._under_way and name not in self._past else ""

    def end(self, name: str) -> str:
        """The reply is over: return its name if somebody wanted it, else ""."""
        wanted = self.wanted(name)
        if not name or name == self._under_way:
            self._under_way = ""
        if wanted:
            self._past.append(wanted)
        return wanted

    def busy(self) -> None:
        """Our request came while another reply runs: ask again after it, unless that one answers us already."""
        if self._owed is Owed.WANTED and self._under_way in self._past:
            self._postponed = True
        self._owed = Owed.NOTHING
