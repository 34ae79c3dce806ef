"""The same events, told as other servers of the same protocol tell them: rewriters between a voice and the wire.

A rewriter is made for one connection, is given each event of the service in turn, and yields what goes out in its
place. None of them changes what the service does. Pure.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Event = dict[str, Any]
Rewriter = Callable[[Event], Iterable[Event]]
NewId = Callable[[str], str]
"""A new id for an "event" or a "resp(onse)"."""

CREATED, DONE = "response.created", "response.done"
SOUND, SOUND_DONE = "response.output_audio.delta", "response.output_audio.done"
BUSY = "conversation_already_has_active_response"
HELD = 2
"""How many pieces of sound come late."""

BETA_NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
"""What general availability renamed in 2025: new name -> old name."""

PLACE = ("response_id", "item_id", "output_index", "content_index")
"""The fields that say where a piece of a reply belongs."""


def _is_piece(event: Event) -> bool:
    """Whether *event* belongs to a reply and is neither its beginning nor its end."""
    kind: str = event["type"]
    return kind.startswith("response.") and kind not in (CREATED, DONE)


def _without_places(_new_id: NewId) -> Rewriter:
    return lambda event: [
        {name: value for name, value in event.items() if name not in PLACE}
        if event["type"].startswith("response.")
        else event
    ]


def _with_ids(changes: bool, name: Callable[[NewId], str | None]) -> Callable[[NewId], Rewriter]:
    """The pieces of a reply name another reply than response.created did, all the same one unless it *changes*."""

    def factory(new_id: NewId) -> Rewriter:
        other: str | None = None

        def rewrite(event: Event) -> Iterator[Event]:
            nonlocal other
            if event["type"] == CREATED or changes:
                other = name(new_id)
            yield {**event, "response_id": other} if _is_piece(event) else event

        return rewrite

    return factory


def _twice(new_id: NewId) -> Rewriter:
    def rewrite(event: Event) -> Iterator[Event]:
        yield event
        if event["type"] == CREATED:
            yield {**event, "event_id": new_id("event")}

    return rewrite


def _replaced(new_id: NewId) -> Rewriter:
    def rewrite(event: Event) -> Iterator[Event]:
        if event["type"] == CREATED:
            never = {**event["response"], "id": new_id("resp")}
            yield {**event, "event_id": new_id("event"), "response": never}
        yield event

    return rewrite


def _busy_first(new_id: NewId) -> Rewriter:
    def rewrite(event: Event) -> Iterator[Event]:
        if event["type"] == CREATED:
            text = f"Conversation already has an active response in progress: {event['response']['id']}"
            error = {"type": "invalid_request_error", "code": BUSY, "message": text, "param": None, "event_id": None}
            yield {"type": "error", "event_id": new_id("event"), "error": error}
        yield event

    return rewrite


class _CreatedFirst:
    """A turn that the service has ended itself is told to be committed behind the beginning of the reply."""

    def __init__(self, _new_id: NewId) -> None:
        self._stopped = False
        self._held: Event | None = None

    def __call__(self, event: Event) -> Iterator[Event]:
        match event["type"]:
            case "input_audio_buffer.speech_stopped":
                self._stopped = True
            case "input_audio_buffer.committed" if self._stopped:
                self._stopped = False
                event, self._held = self._held or {}, event
        if event:
            yield event
        if event.get("type") == CREATED and self._held:
            yield self._held
            self._held = None


class _LateSound:
    """The last pieces of sound come behind the event called *behind*, which says that there are no more."""

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self._held: deque[Event] = deque()

    def __call__(self, event: Event) -> Iterator[Event]:
        kind = event["type"]
        if kind == SOUND:
            self._held.append(event)
            if len(self._held) > HELD:
                yield self._held.popleft()
            return
        yield event
        if kind == self._behind:
            yield from self._held
        if kind in (self._behind, DONE):
            self._held.clear()


def _without(*ends: str) -> Callable[[NewId], Rewriter]:
    """Events whose type ends so are not told."""
    return lambda _new_id: lambda event: [] if event["type"].endswith(ends) else [event]


def _calls_in_items(_new_id: NewId) -> Rewriter:
    """A call is told by the end of its item alone."""

    def rewrite(event: Event) -> Iterator[Event]:
        if event["type"] == DONE:
            yield {**event, "response": {**event["response"], "output": None}}
        elif not event["type"].startswith("response.function_call_arguments."):
            yield event

    return rewrite


def _flat_errors(_new_id: NewId) -> Rewriter:
    """As vLLM has them: the text in place of the object, the code beside it."""

    def rewrite(event: Event) -> Iterator[Event]:
        error = event.get("error")
        if event["type"] == "error" and isinstance(error, dict):
            event = {"type": "error", "error": error.get("message"), "code": error.get("code")}
        yield event

    return rewrite


def _beta_names(_new_id: NewId) -> Rewriter:
    return lambda event: [{**event, "type": BETA_NAMES.get(event["type"], event["type"])}]


REWRITERS: dict[str, Callable[[NewId], Rewriter]] = {
    "created-first": _CreatedFirst,
    "created-twice": _twice,
    "replaced": _replaced,
    "busy-first": _busy_first,
    "late-sound": lambda _new_id: _LateSound(SOUND_DONE),
    "later-sound": lambda _new_id: _LateSound(DONE),
    "never-done": _without(DONE),
    "words-at-end": _without("output_audio_transcript.delta", "output_text.delta"),
    "calls-in-items": _calls_in_items,
    "other-ids": _with_ids(False, lambda new_id: new_id("resp")),
    "random-ids": _with_ids(True, lambda new_id: new_id("resp")),
    "null-ids": _with_ids(False, lambda _new_id: None),
    "no-ids": _without_places,
    "flat-errors": _flat_errors,
    "beta-names": _beta_names,
}
"""Name -> what makes the rewriter of one connection, in the order in which events go through them."""


class Rewriting:
    """The rewriters of one connection. They may be switched on and off while it is open."""

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id
        self._made: dict[str, Rewriter] = {}

    def __call__(self, event: Event, names: Iterable[str]) -> Iterable[Event]:
        """Return what goes out in place of *event* with the rewriters of these *names*."""
        events: Iterable[Event] = [event]
        for name, make in REWRITERS.items():
            if name in names:
                rewrite = self._made.get(name) or self._made.setdefault(name, make(self._new_id))
                events = list(itertools.chain.from_iterable(map(rewrite, events)))
        return events
