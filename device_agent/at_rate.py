"""A session whose service wants another rate than the device has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .audio import Resampler, resample
from .errors import LinkLost, LinkRefused
from .events import Action, Clip, Event, ReplyAudio, ReplyEnded, Speech, TalkEnded, TalkStarted
from .services import Message, Said, Session


class AtRate(Session):
    """Wraps *session*, whose sound is at *inner* Hz, so that its sound is at *outer* Hz both ways.

    Used where a fallback has another rate than the service that the device was built for.
    """

    def __init__(self, session: Session, inner: int, outer: int) -> None:
        super().__init__()
        self._session = session
        self._inner, self._outer = inner, outer
        self._up, self._down = Resampler(outer, inner), Resampler(inner, outer)
        self._reply = ""

    @property
    def ready(self) -> bool:  # type: ignore[override]  # a window into the other session
        return self._session.ready

    @property
    def listens(self) -> bool:  # type: ignore[override]
        return self._session.listens

    @property
    def deadline(self) -> float | None:  # type: ignore[override]
        """When to call ``tick``: the time is that of the session."""
        return self._session.deadline

    @property
    def resume(self) -> str:  # type: ignore[override]
        return self._session.resume

    @property
    def expires_at(self) -> float:  # type: ignore[override]
        return self._session.expires_at

    @property
    def busy(self) -> bool:  # type: ignore[override]
        return self._session.busy

    def goes_on(self, resume: str) -> bool:
        return self._session.goes_on(resume)

    def recall(self, said: Sequence[Said]) -> None:
        self._session.recall(said)

    def outgoing(self) -> list[Message]:
        return self._session.outgoing()

    def farewell(self) -> None:
        self._session.farewell()

    def lost(self, error: LinkLost | LinkRefused) -> LinkLost | LinkRefused:
        return self._session.lost(error)

    def tick(self, now: float) -> Iterable[Event]:
        return self._heard(self._session.tick(now))

    def greet(self) -> None:
        self._session.greet()

    def send(self, item: Speech | Action) -> None:
        match item:
            case bytes():
                item = self._up.feed(item)
            case Clip(pcm):
                item = Clip(resample(pcm, self._outer, self._inner))
            case TalkStarted():
                self._up.clear()
            case TalkEnded():
                self._session.send(self._up.flush())
        self._session.send(item)

    def receive(self, message: Message) -> Iterable[Event]:
        return self._heard(self._session.receive(message))

    def _heard(self, events: Iterable[Event]) -> Iterable[Event]:
        for event in events:
            if isinstance(event, ReplyAudio):
                if event.reply != self._reply:
                    self._down.clear()
                self._reply = event.reply
                yield ReplyAudio(event.reply, self._down.feed(event.pcm))
                continue
            if isinstance(event, ReplyEnded):
                yield ReplyAudio(event.reply, self._down.flush())
            yield event
