"""Turn detection: what the service reports about the turn under way."""

from __future__ import annotations


class TurnDetection:
    """The reports of one connection. *by_service*: the service decides when a turn is over (server VAD)."""

    def __init__(self, *, by_service: bool) -> None:
        self.by_service = by_service
        self.noticed = False  # whether the service has noticed the turn under way, or its end
        self.speech = ""  # the item in which the service has noticed speech since the user began to speak
        self._ended = ""  # the latest turn that the service ended
        self._stopped = False  # the end of speech was reported, and not yet the commit that belongs to it

    def begin(self) -> None:
        """The user begins to speak."""
        self.noticed, self.speech = False, ""

    def speech_started(self, item: str) -> bool:
        """Return whether this continues a turn whose end was reported."""
        self.noticed, self._stopped, self.speech = True, False, item
        continues = self.by_service and bool(item) and item == self._ended
        if continues:
            self._ended = ""
        return continues

    def ended(self, item: str, *, stopped: bool) -> bool:
        """Return whether the service has ended a turn, at the first of its two reports: the end of speech (*stopped*)
        and the commit. The second must not end the turn after it, and a reply may have begun in between."""
        self.noticed = True
        if not self.by_service:
            return False
        before, self._stopped = self._stopped, stopped
        if item == self._ended if item else (before and not stopped):
            return False
        self._ended = item
        return True
