"""The ring buffer on the way down: what has arrived of the replies and was not heard yet."""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum

import numpy as np

from .audio import frame_samples, samples
from .events import PlaybackEnded, PlaybackStarted

CAPACITY_S = 60.0
"""How much of a reply may lie here. When it is full the link reads no more until there is room again."""
PREFILL_MS = 100
"""How much of a reply must have arrived before it begins to sound, and before it goes on after it ran dry."""
STARVED_S = 10.0
"""A reply that sends nothing for so long is over, whatever the service says."""


class Marker(Enum):
    """What ``read`` returns besides sound and events."""

    DROP = "drop"
    """A cut: the device is to forget what it has not played yet."""


class _Reply:
    """One reply in the ring."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting = 0  # samples in the ring
        self.read = 0  # samples handed to the speaker thread
        self.complete = False
        self.flowing = False  # past its prefill


class Playback:
    """The link writes, the speaker thread reads, the main thread cuts.

    Nothing is ever overwritten, lost, repeated or reordered. A cut lasts until the link has told the service
    (``accept``): what it writes before that belongs to the dead reply and is dropped.
    """

    def __init__(self, rate: int, *, capacity: float = CAPACITY_S, prefill_ms: int = PREFILL_MS) -> None:
        self._rate = rate
        self._frame = frame_samples(rate)
        self._prefill = samples(prefill_ms / 1000, rate)
        self._ring = np.zeros(samples(capacity, rate), np.int16)
        self._begin = 0  # where the oldest sample lies
        self._filled = 0
        self._replies: deque[_Reply] = deque()
        self._cuts = 0  # not yet accepted
        self._drop = self._closed = False
        self._changed = threading.Condition()
        self.underruns = 0
        """How often a reply ran dry before it was complete."""

    # The link's thread ------------------------------------------------------------------------------------------------

    def write(self, reply: str, pcm: bytes) -> int:
        """Append sound of *reply* as far as there is room; return how many bytes were taken (all, while cut)."""
        with self._changed:
            if self._cuts:
                return len(pcm)
            wave = np.frombuffer(pcm, np.int16)[: len(self._ring) - self._filled]
            if len(wave):
                self._store(wave)
                self._writing(reply).waiting += len(wave)
                self._changed.notify()
            return 2 * len(wave)

    def finish(self, reply: str | None = None) -> None:
        """No more sound of *reply* comes; None: of no reply, for the connection is gone."""
        with self._changed:
            for waiting in self._replies:
                if reply in (None, waiting.name):
                    waiting.complete = True
            self._changed.notify()

    def accept(self) -> None:
        """The service knows of one cut: what is written from now on is wanted again, if that was the last."""
        with self._changed:
            self._cuts = max(0, self._cuts - 1)

    # Any thread -------------------------------------------------------------------------------------------------------

    def cut(self) -> tuple[str, int]:
        """Be silent at once and stay so until ``accept``; return the current reply and how many ms of it were read."""
        with self._changed:
            name, read = (self._replies[0].name, self._replies[0].read) if self._replies else ("", 0)
            self._replies.clear()
            self._filled = 0
            self._cuts += 1
            self._drop = True
            self._changed.notify()
            return name, 1000 * read // self._rate

    def silenced(self) -> bool:
        """Whether there was a cut that the reader has not heard of yet."""
        return self._drop

    def close(self) -> None:
        """End the reader: its next ``read`` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    # The speaker thread -----------------------------------------------------------------------------------------------

    def read(self) -> bytes | PlaybackStarted | PlaybackEnded | Marker | None:
        """Wait for what comes next: a frame (the last of a reply may be shorter), an event, a marker, None: the end."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                if self._drop:
                    self._drop = False
                    return Marker.DROP
                if (item := self._next()) is not None:
                    return item
                self._wait()

    def _next(self) -> bytes | PlaybackStarted | PlaybackEnded | None:
        if not self._replies:
            return None
        reply = self._replies[0]
        if not reply.flowing and (reply.waiting >= self._prefill or (reply.complete and reply.waiting)):
            reply.flowing = True
            if not reply.read:
                return PlaybackStarted(reply.name)
        if reply.flowing and (reply.waiting >= self._frame or (reply.complete and reply.waiting)):
            return self._take(reply)
        if reply.complete and not reply.waiting:
            self._replies.popleft()
            return PlaybackEnded(reply.name)
        if reply.flowing:
            reply.flowing = False
            self.underruns += 1
        return None

    def _wait(self) -> None:
        """Wait for a change; a reply that has begun and gets none for too long is complete."""
        changed = self._changed.wait(STARVED_S if self._replies else None)
        if not changed and self._replies:
            self._replies[0].complete = True

    # Under the lock ---------------------------------------------------------------------------------------------------

    def _writing(self, name: str) -> _Reply:
        if not self._replies or self._replies[-1].name != name:
            for earlier in self._replies:
                earlier.complete = True  # replies come one after the other
            self._replies.append(_Reply(name))
        return self._replies[-1]

    def _store(self, wave: np.ndarray) -> None:
        at = (self._begin + self._filled) % len(self._ring)
        first = min(len(wave), len(self._ring) - at)
        self._ring[at : at + first] = wave[:first]
        self._ring[: len(wave) - first] = wave[first:]
        self._filled += len(wave)

    def _take(self, reply: _Reply) -> bytes:
        count = min(self._frame, reply.waiting)
        first = min(count, len(self._ring) - self._begin)
        pcm = self._ring[self._begin : self._begin + first].tobytes() + self._ring[: count - first].tobytes()
        self._begin = (self._begin + count) % len(self._ring)
        self._filled -= count
        reply.waiting -= count
        reply.read += count
        return pcm
