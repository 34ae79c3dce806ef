"""Session trace: what a service says first, and what follows from its messages."""

from __future__ import annotations

import time
from typing import Any

from ..core.events import Event, ReplyEnded, ReplyStarted, ReplyText, ServiceError
from ..core.printable import printable
from ..services.json_fields import Fields, event_of, part, text

MAX_WORD_CHARS = 40
"""Of a word, or of an answer."""
SETTINGS_ACCEPTED = "session.updated"
"""The event with which services of the OpenAI family accept the settings."""


class SessionTrace:
    """Observes one connection: ``trace`` its messages, ``tell`` its events."""

    def __init__(self) -> None:
        self.connected_at = time.monotonic()  # when the WebSocket was open
        self.first = ""  # type of the first message
        self.dialect = ""  # type of the message with the first audio
        self.accepted = False  # the settings
        self.settings: dict[str, str] = {}  # model and voice, as the service repeated them
        self.complaint = ""  # the first error of the service
        self.first_sound: float | None = None  # when the reply began, by the monotonic clock
        self.ended = False  # the reply, and with a *problem* where it is not whole
        self.problem = ""
        self.said = ""  # beginning of the text of the reply
        self._latest = ""

    def trace(self, step: str, result: Any) -> None:
        """Note a step of the connection, see ``Trace``."""
        if step == "handshake":
            self.connected_at = time.monotonic()
        elif step == "message":
            event = event_of(result)
            self._latest = _word("binary sound" if isinstance(event, str) else event["type"])
            self.first = self.first or self._latest
            self.accepted |= self._latest == SETTINGS_ACCEPTED
            if not isinstance(event, str):
                self._repeated(part(event, "session"))

    def tell(self, event: Event) -> None:
        """Note an event of the session."""
        match event:
            case ServiceError(message):
                self.complaint = self.complaint or message
            case ReplyStarted() if self.first_sound is None:
                self.first_sound, self.dialect = time.monotonic(), self._latest
            case ReplyText(_, words):
                self.said = (self.said + words)[:MAX_WORD_CHARS]
            case ReplyEnded(_, problem):
                self.ended, self.problem = True, problem

    def take_complaint(self) -> str:
        """Return the first error, and begin anew."""
        complaint, self.complaint = self.complaint, ""
        return complaint

    def _repeated(self, session: Fields) -> None:
        voice = text(session, "voice") or text(part(part(session, "audio"), "output"), "voice")
        for name, value in (("model", text(session, "model")), ("voice", voice)):
            if value:
                self.settings[name] = _word(value)


def _word(text: str) -> str:
    """Return the beginning of an untrusted text, printable."""
    return printable(text[:MAX_WORD_CHARS])[:MAX_WORD_CHARS]
