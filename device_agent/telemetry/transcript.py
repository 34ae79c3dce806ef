"""What both sides said, as plain text."""

from __future__ import annotations

import logging

from ..core.actions import Action, InterruptReply
from ..core.events import Event, LinkDown, LinkIdle, Refused, ReplyEnded, ReplyText, UserText

log = logging.getLogger(__name__)

MAX_REPLY_CHARS = 10_000
"""Characters of one reply that are kept: twenty minutes of speech."""


class Transcript:
    """Watches an agent: writes a line into the log, at *level*, for each thing that was said. For the main thread."""

    def __init__(self, level: str) -> None:
        """*level* is off, debug or info."""
        self._reply, self._text = "", ""
        self.tune(level)

    def tune(self, level: str) -> None:
        """Write at this *level* from now on; when it is off, what was said since the last line is forgotten."""
        self._level = None if level == "off" else logging.getLevelNamesMapping()[level.upper()]
        if self._level is None:
            self._reply, self._text = "", ""

    def __call__(self, word: Event | Action, _now: float) -> None:
        if self._level is None:
            return
        match word:
            case UserText(_, text, True):
                log.log(self._level, "user: %s", text.strip())
            case ReplyText(reply, text):
                if reply != self._reply:
                    self._flush()
                self._reply = reply
                self._text = (self._text + text)[:MAX_REPLY_CHARS]
            case ReplyEnded() | InterruptReply() | LinkDown() | LinkIdle() | Refused():
                self._flush()

    def _flush(self) -> None:
        if self._text.strip() and self._level is not None:
            log.log(self._level, "assistant: %s", self._text.strip())
        self._text = ""
