"""Transcript: what the user and the assistant said, as lines of the log."""

from __future__ import annotations

import logging

from ..core.actions import InterruptReply
from ..core.events import LinkDown, LinkIdle, Refused, ReplyEnded, ReplyText, UserText
from ..core.transition import Transition

log = logging.getLogger(__name__)

MAX_REPLY_CHARS = 10_000
"""Characters of one reply that are kept: twenty minutes of speech."""


class Transcript:
    """Observer that logs each utterance at *level*: off, debug or info. For the main thread."""

    def __init__(self, level: str) -> None:
        self._reply, self._text = "", ""
        self.tune(level)

    def tune(self, level: str) -> None:
        """Log at *level* from now on; "off" also discards the text that is not logged yet."""
        self._level = None if level == "off" else logging.getLevelNamesMapping()[level.upper()]
        if self._level is None:
            self._reply, self._text = "", ""

    def __call__(self, step: Transition) -> None:
        if self._level is None:
            return
        match step.event:
            case UserText(_, text, True):
                log.log(self._level, "user: %s", text.strip())
            case ReplyText(reply, text):
                if reply != self._reply:
                    self._flush()
                self._reply = reply
                self._text = (self._text + text)[:MAX_REPLY_CHARS]
            case ReplyEnded() | LinkDown() | LinkIdle() | Refused():
                self._flush()
        if InterruptReply() in step.actions:
            self._flush()

    def _flush(self) -> None:
        if self._text.strip() and self._level is not None:
            log.log(self._level, "assistant: %s", self._text.strip())
        self._text = ""
