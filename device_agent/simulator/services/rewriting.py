"""Rewriters of events: the same reply in the events of other servers of the same protocol. Pure.

A rewriter is given each event of a connection in turn, with its memory of the connection, and yields what goes out in
its place. None of them changes what the service does.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Event = dict[str, Any]
NewId = Callable[[str], str]
"""A new id for an "event" or a "resp(onse)"."""

CREATED, DONE = "response.created", "response.done"
SOUND, SOUND_DONE = "response.output_audio.delta", "response.output_audio.done"
BUSY = "conversation_already_has_active_response"
LATE_PIECES = 2
"""Pieces of sound that come late."""

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


@dataclass
class Memory:
    """What one rewriter stores for one connection."""

    new_id: NewId
    held: deque[Event] = field(default_factory=deque)
    reply: str = ""
    stopped: bool = False

    def release(self) -> Iterable[Event]:
        """Return the held events, which are held no longer."""
        held, self.held = self.held, deque()
        return held


Rewriter = Callable[[Event, Memory], Iterable[Event]]


def _is_piece(event: Event) -> bool:
    """Return whether *event* belongs to a reply and is neither its beginning nor its end."""
    kind: str = event["type"]
    return kind.startswith("response.") and kind not in (CREATED, DONE)


def _created_first(event: Event, memory: Memory) -> Iterator[Event]:
    """The commit of a turn that server VAD has ended comes behind the beginning of the reply."""
    if event["type"] == "input_audio_buffer.speech_stopped":
        memory.stopped = True
    elif event["type"] == "input_audio_buffer.committed" and memory.stopped:
        memory.stopped = False
        yield from memory.release()
        memory.held.append(event)
        return
    yield event
    if event["type"] == CREATED:
        yield from memory.release()


def _created_twice(event: Event, memory: Memory) -> Iterator[Event]:
    yield event
    if event["type"] == CREATED:
        yield {**event, "event_id": memory.new_id("event")}


def _replaced(event: Event, memory: Memory) -> Iterator[Event]:
    if event["type"] == CREATED:
        never = {**event["response"], "id": memory.new_id("resp")}
        yield {**event, "event_id": memory.new_id("event"), "response": never}
    yield event


def _busy_first(event: Event, memory: Memory) -> Iterator[Event]:
    if event["type"] == CREATED:
        text = f"Conversation already has an active response in progress: {event['response']['id']}"
        error = {"type": "invalid_request_error", "code": BUSY, "message": text, "param": None, "event_id": None}
        yield {"type": "error", "event_id": memory.new_id("event"), "error": error}
    yield event


def _late_sound(behind: str, event: Event, memory: Memory) -> Iterator[Event]:
    """The last pieces of sound come behind the event called *behind*, which says that there are no more."""
    kind = event["type"]
    if kind == SOUND:
        memory.held.append(event)
        if len(memory.held) > LATE_PIECES:
            yield memory.held.popleft()
        return
    yield event
    if kind == behind:
        yield from memory.release()
    elif kind == DONE:
        memory.held.clear()


def _without(ends: tuple[str, ...], event: Event, _memory: Memory) -> Iterator[Event]:
    """Events whose type ends so are not sent."""
    if not event["type"].endswith(ends):
        yield event


def _calls_in_items(event: Event, _memory: Memory) -> Iterator[Event]:
    """A call is in the end of its item alone."""
    if event["type"] == DONE:
        yield {**event, "response": {**event["response"], "output": None}}
    elif not event["type"].startswith("response.function_call_arguments."):
        yield event


def _other_ids(event: Event, memory: Memory) -> Iterator[Event]:
    if event["type"] == CREATED:
        memory.reply = memory.new_id("resp")
    yield {**event, "response_id": memory.reply} if _is_piece(event) else event


def _random_ids(event: Event, memory: Memory) -> Iterator[Event]:
    yield {**event, "response_id": memory.new_id("resp")} if _is_piece(event) else event


def _null_ids(event: Event, _memory: Memory) -> Iterator[Event]:
    yield {**event, "response_id": None} if _is_piece(event) else event


def _no_ids(event: Event, _memory: Memory) -> Iterator[Event]:
    of_reply = event["type"].startswith("response.")
    yield {name: value for name, value in event.items() if name not in PLACE} if of_reply else event


def _flat_errors(event: Event, _memory: Memory) -> Iterator[Event]:
    """As vLLM has them: the text in place of the object, the code beside it."""
    error = event.get("error")
    if event["type"] == "error" and isinstance(error, dict):
        event = {"type": "error", "error": error.get("message"), "code": error.get("code")}
    yield event


def _beta_names(event: Event, _memory: Memory) -> Iterator[Event]:
    yield {**event, "type": BETA_NAMES.get(event["type"], event["type"])}


REWRITERS: dict[str, Rewriter] = {
    "created-first": _created_first,
    "created-twice": _created_twice,
    "replaced": _replaced,
    "busy-first": _busy_first,
    "late-sound": partial(_late_sound, SOUND_DONE),
    "later-sound": partial(_late_sound, DONE),
    "never-done": partial(_without, (DONE,)),
    "words-at-end": partial(_without, ("output_audio_transcript.delta", "output_text.delta")),
    "calls-in-items": _calls_in_items,
    "other-ids": _other_ids,
    "random-ids": _random_ids,
    "null-ids": _null_ids,
    "no-ids": _no_ids,
    "flat-errors": _flat_errors,
    "beta-names": _beta_names,
}
"""Name -> rewriter, in the order in which events go through them."""


class Rewriting:
    """The rewriters of one connection. They may be switched on and off while it is open."""

    def __init__(self, new_id: NewId) -> None:
        self._memories = {name: Memory(new_id) for name in REWRITERS}

    def __call__(self, event: Event, names: Iterable[str]) -> Iterable[Event]:
        """Return what goes out in place of *event* with the rewriters of these *names*."""
        events: Iterable[Event] = [event]
        for name, rewrite in REWRITERS.items():
            if name in names:
                memory = self._memories[name]
                events = list(itertools.chain.from_iterable(rewrite(each, memory) for each in events))
        return events
