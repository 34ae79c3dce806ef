"""Who listens to what goes over a connection: what the service says first, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ..core.events import Event, ReplyEnded, ReplyStarted, ReplyText, ServiceError
from ..core.printable import printable
from ..net.models import Message
from ..services.base import Service, Session
from ..services.json_fields import Fields, event_of, part, text

MAX_WORD_CHARS = 40
"""Characters of a word, or of an answer, that are kept."""
SETTINGS_ACCEPTED = "session.updated"
"""What a service of the family says when it took our settings."""


class Told:
    """Is told what happens, and notes when."""

    def __init__(self) -> None:
        self.complaint = ""
        """The first thing that the service did not like."""
        self.first_sound: float | None = None
        """Of a reply, by the monotonic clock."""
        self.ended = False
        self.problem = ""
        """Why the reply is not whole."""
        self.said = ""
        """The beginning of its text."""

    def __call__(self, event: Event) -> None:
        match event:
            case ServiceError(message):
                self.complaint = self.complaint or message
            case ReplyStarted() if self.first_sound is None:
                self.first_sound = time.monotonic()
            case ReplyText(_, words):
                self.said = (self.said + words)[:MAX_WORD_CHARS]
            case ReplyEnded(_, problem):
                self.ended, self.problem = True, problem

    def take_complaint(self) -> str:
        """Return it; what is complained of later is another one."""
        complaint, self.complaint = self.complaint, ""
        return complaint


class SessionTrace:
    """Stands before a *service* and notes what it says; everything else goes on to it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.first = ""
        """The kind of its first message."""
        self.sound = ""
        """The kind of message that the first sound came in: it tells the dialect."""
        self.accepted = False
        self.settings: dict[str, str] = {}
        """What it repeated of ours: model and voice."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def session(self) -> Any:
        """Return a session before which we listen."""
        return _Overheard(self._service.session(), self._note)

    def _note(self, message: Message, events: Iterable[Event]) -> None:
        event = event_of(message)
        kind = _word("binary sound" if isinstance(event, str) else event["type"])
        self.first = self.first or kind
        self.accepted |= kind == SETTINGS_ACCEPTED
        if not self.sound and any(isinstance(each, ReplyStarted) for each in events):
            self.sound = kind
        if not isinstance(event, str):
            self._repeated(part(event, "session"))

    def _repeated(self, session: Fields) -> None:
        voice = text(session, "voice") or text(part(part(session, "audio"), "output"), "voice")
        for name, value in (("model", text(session, "model")), ("voice", voice)):
            if value:
                self.settings[name] = _word(value)


class _Overheard:
    """A session that tells *note* of each message and of what it meant. Everything else goes on to it."""

    def __init__(self, session: Session, note: Callable[[Message, Iterable[Event]], None]) -> None:
        self._session, self._listener = session, note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def receive(self, message: Message) -> Iterable[Event]:
        events: list[Event] = []
        try:
            events.extend(self._session.receive(message))
        finally:
            self._listener(message, events)
        return events


def _word(text: str) -> str:
    """Return what a stranger said as one may print it."""
    return printable(text[:MAX_WORD_CHARS])[:MAX_WORD_CHARS]
