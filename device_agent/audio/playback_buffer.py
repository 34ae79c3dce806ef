"""Playback buffer: ring buffer of the replies that were received and not heard yet, with cues mixed in."""

from __future__ import annotations

import mmap
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

from ..core.events import PlaybackEnded, PlaybackStarted
from ..dsp.pcm import FRAME_MS, Gain, frame_bytes, frame_samples, frames, mix, samples
from .jitter import ArrivalLog, JitterEstimator

PLAYBACK_CAPACITY_S = 660.0
"""30 MiB at 24 kHz. A full buffer stops the link from reading, and so from answering the pings of the service, which
hangs up after 40 s without."""
RETAINED_MEMORY_S = 60.0  # memory beyond this is given back once all of it was heard
REPLY_STARVED_S = 2.5
"""A reply that sends nothing for so long, and has nothing left to be heard, is over, so that the microphone does not
wait for a service that never ends its replies. What comes later is heard all the same."""
MAX_QUEUED_CUES_S = 2.0  # a cue that comes when so much of cues is waiting is not played
CUE_TAIL_MS = 200  # of silence behind the last cue: dropping it in the device loses nothing, and needs no wait


@dataclass(frozen=True, slots=True)
class OutputFrame:
    """A frame for the loudspeaker, s16le mono; the last of a reply may be shorter."""

    pcm: bytes
    voice: bytes = b""  # the part of it that is a reply
    cue: bool = False  # whether a cue is in it


class Marker(Enum):
    """What ``read`` returns besides sound and events."""

    FLUSH = "flush"  # an interruption, or the end of a cue: drop what the device has not played yet
    REOPEN = "reopen"  # close the device and open it again


Stops = TypeVar("Stops", Marker, PlaybackEnded)


class _Reply:
    """One reply in the buffer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting = 0  # samples in the buffer
        self.read = 0  # samples handed to the playout thread
        self.complete = False
        self.flowing = False  # past its prefill, and not fallen silent since
        self.since = 0.0  # when it would have begun if it had flown without a pause
        self.arrivals = ArrivalLog()

    def enough(self, frame: int) -> bool:
        """Whether there is a *frame* of it, or its shorter end."""
        return self.waiting >= frame or (self.complete and self.waiting > 0)


class _Cues:
    """What is mixed into the replies: cues one after the other, the ring of an alarm again and again."""

    def __init__(self, rate: int) -> None:
        self._frame, self._most = frame_bytes(rate), 2 * samples(MAX_QUEUED_CUES_S, rate)
        self._waiting = bytearray()
        self._ring = b""
        self._tail = 0  # frames

    @property
    def idle(self) -> bool:
        return not (self.sounding or self._tail)

    @property
    def sounding(self) -> bool:
        return bool(self._waiting or self._ring)

    def add(self, cue: bytes) -> None:
        if len(self._waiting) < self._most:
            self._waiting += cue

    def ring(self, cue: bytes) -> None:
        """Repeat *cue* from now on; b"" for silence."""
        self._waiting.clear()
        self._ring = cue

    def clear(self) -> None:
        self._waiting.clear()
        self._tail = 0

    def take(self) -> bytes:
        """Return the next frame of a cue, b"" where none sounds."""
        if not self._waiting:
            self._waiting += self._ring
        frame = bytes(self._waiting[: self._frame])
        del self._waiting[: self._frame]
        if frame:
            self._tail = frames(CUE_TAIL_MS)
        return frame and frame.ljust(self._frame, b"\0")

    def rest(self) -> OutputFrame | Marker | None:
        """Return what follows when nothing sounds any more: silence, at its end FLUSH, then None."""
        if not self._tail:
            return None
        self._tail -= 1
        return OutputFrame(bytes(self._frame)) if self._tail else Marker.FLUSH


class PlaybackBuffer:
    """Written by the link thread, read by the playout thread, cut by the main thread.

    Nothing of a reply is ever overwritten, lost, repeated or reordered. A cut lasts until the link has told the service
    (``accept``): what it writes before that belongs to the interrupted reply and is dropped. A reply waits for its
    *prefill* before it begins to sound, and before it goes on after it fell silent; *clock* measures that, in seconds.
    """

    def __init__(
        self,
        rate: int,
        *,
        volume: int = 100,
        wake: int = 0,
        capacity: float = PLAYBACK_CAPACITY_S,
        prefill: JitterEstimator | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._frame = frame_samples(rate)
        self._prefill, self._clock = prefill or JitterEstimator(), clock
        # Pages of its own: those never used take no memory, and used ones can be given back.
        self._memory = mmap.mmap(-1, 2 * samples(capacity, rate), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._buffer = np.frombuffer(self._memory, np.int16)
        self._used = 0  # samples from its beginning whose pages are used
        self._begin = 0  # where the oldest sample lies
        self._filled = 0
        self._replies: deque[_Reply] = deque()
        self._ending: _Reply | None = None  # all of it was read, and the reader waits until it was heard
        self._cuts = 0  # not yet accepted
        self._cues = _Cues(rate)
        self._volume, self._gain = volume, Gain(volume)
        self.wake = wake
        """Milliseconds of silence before a sound after a pause, for a loudspeaker that swallows what it gets first."""
        self._asleep = True
        self._waking = 0  # frames of that silence that are to be read yet
        self._awake_at = 0.0  # when all of it that was read will have been heard
        self._flush = self._closed = False
        self._reopen: bool | None = None  # asked for: at once, or when nothing sounds
        self._changed = threading.Condition()
        self._no_cut = threading.Lock()  # released while there is a cut to be read: acquiring it waits for a cut
        self._no_cut.acquire()
        self.underruns = 0
        """How often a reply fell silent in the middle, because its next piece came too late."""

    # The link's thread ------------------------------------------------------------------------------------------------

    def write(self, reply: str, pcm: bytes) -> int:
        """Append sound of *reply* as far as there is room; return how many bytes were taken (all, while cut)."""
        with self._changed:
            if self._cuts:
                return len(pcm)
            wave = np.frombuffer(pcm, np.int16)[: len(self._buffer) - self._filled]
            if len(wave):
                self._store(wave)
                self._arrived(self._writing(reply), len(wave))
                self._changed.notify_all()
            return 2 * len(wave)

    def finish(self, reply: str | None = None) -> None:
        """No more sound of *reply* comes; None: of any reply, because the connection is lost."""
        with self._changed:
            for waiting in self._replies:
                if reply in (None, waiting.name):
                    waiting.complete = True
            self._changed.notify_all()

    def accept(self) -> None:
        """The service knows of one cut: if that was the last one, what is written from now on is played again."""
        with self._changed:
            self._cuts = max(0, self._cuts - 1)

    # Any thread -------------------------------------------------------------------------------------------------------

    @property
    def volume(self) -> int:
        """The volume of replies, in percent. A change takes a frame, so that it does not click."""
        return self._volume

    @volume.setter
    def volume(self, percent: int) -> None:
        self._volume = percent
        self._gain.set(percent)

    def play(self, cue: bytes) -> None:
        """Let *cue* sound at once, or behind the one that sounds now."""
        with self._changed:
            self._cues.add(cue)
            self._changed.notify_all()

    def ring(self, cue: bytes) -> None:
        """Let *cue* sound again and again, until this is called with b""."""
        with self._changed:
            self._cues.ring(cue)
            self._changed.notify_all()

    @property
    def prefill(self) -> float:
        """Seconds that the beginning of a reply in real time waits, by what was learned."""
        with self._changed:
            return self._prefill.wait

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to be read."""
        return not self._replies and self._cues.idle

    def cut(self) -> tuple[str, int]:
        """Be silent at once and until ``accept``; return the current reply and how many ms of it were read."""
        with self._changed:
            reply = self._ending or (self._replies[0] if self._replies else None)
            name, read = (reply.name, reply.read) if reply else ("", 0)
            while self._replies:
                self._end_first()
            self._cues.clear()
            self._filled = 0
            self._give_back()
            self._cuts += 1
            self._flush = True
            if self._no_cut.locked():
                self._no_cut.release()
            self._changed.notify_all()
            return name, 1000 * read // self._rate

    def interrupted(self, seconds: float = 0.0) -> bool:
        """Whether there was a cut that ``read`` has not returned yet. Waits for one, *seconds* at most; for the playout
        thread."""
        if seconds > 0 and not self._flush:
            self._no_cut.acquire(timeout=seconds)
        return self._flush

    def request_reopen(self, *, at_once: bool) -> None:
        """Let ``read`` return REOPEN *at_once*, or when nothing else is left to be read."""
        with self._changed:
            self._reopen = at_once
            self._changed.notify_all()

    def close(self) -> None:
        """End the reader: its next ``read`` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # The playout thread -----------------------------------------------------------------------------------------------

    def read(self) -> OutputFrame | PlaybackStarted | PlaybackEnded | Marker | None:
        """Wait for what comes next: a frame, an event, a marker; None: the end."""
        with self._changed:
            self._ending = None
            while True:
                if self._closed:
                    return None
                if self._flush:
                    self._flush = False
                    self._no_cut.acquire(blocking=False)
                    return self._stopping(Marker.FLUSH)
                if self._reopen or (self._reopen is False and self.quiet):
                    self._reopen = None
                    return self._stopping(Marker.REOPEN)
                if (item := self._next()) is not None:
                    return item
                self._wait()

    def _stopping(self, item: Stops) -> Stops:
        """Return *item*, with which the loudspeaker stops: the next sound has to wake it."""
        self._asleep, self._waking = True, 0
        return item

    def _next(self) -> OutputFrame | PlaybackStarted | PlaybackEnded | Marker | None:
        if self.wake and self._wakes():
            return OutputFrame(bytes(2 * self._frame))
        item = self._next_of_reply()
        if isinstance(item, (PlaybackStarted, PlaybackEnded)):
            return item
        voice, cue = self._gain.apply(item or b""), self._cues.take()
        if voice or cue:
            return OutputFrame(mix(voice, cue), voice, cue=bool(cue))
        if self._replies and self._replies[0].flowing:
            return None  # no silence in the middle of a reply, and no FLUSH of what the device still has of it
        rest = self._cues.rest()
        return self._stopping(rest) if isinstance(rest, Marker) else rest

    def _wakes(self) -> bool:
        """Whether silence is next, to wake the loudspeaker before a sound, or to keep it awake during a prefill."""
        reply = self._replies[0] if self._replies else None
        ready = reply is not None and reply.enough(self._frame)
        if self._asleep:
            if not (ready or self._cues.sounding):
                return False
            self._asleep, self._waking, self._awake_at = False, frames(self.wake), self._clock()
        held = reply is not None and ready and not self._cues.sounding and self._held(reply) > 0
        if not self._waking and not held:
            return False
        self._waking = max(0, self._waking - 1)
        self._awake_at = max(self._awake_at, self._clock()) + FRAME_MS / 1000
        return True

    def _next_of_reply(self) -> bytes | PlaybackStarted | PlaybackEnded | None:
        if not self._replies:
            return None
        reply = self._replies[0]
        enough = reply.enough(self._frame)
        if enough and not reply.flowing and self._held(reply) <= 0:
            reply.flowing = True
            reply.since = max(self._clock(), self._awake_at) - reply.read / self._rate
            if not reply.read:
                return PlaybackStarted(reply.name)
        if enough and reply.flowing:
            return self._take(reply)
        if reply.complete and not reply.waiting:
            self._ending = self._replies[0]
            self._end_first()
            return self._stopping(PlaybackEnded(reply.name))
        return None

    def _held(self, reply: _Reply) -> float:
        """Return how many more seconds *reply* is held back for its prefill; 0 or less: none."""
        if reply.complete or reply.flowing:
            return 0.0
        due = reply.arrivals.due(reply.read / self._rate, self._prefill.wait, self._prefill.least)
        return due - self._clock()

    def _wait(self) -> None:
        """Wait for a change, or the end of a prefill; a reply without a change for too long is complete."""
        reply = self._replies[0] if self._replies else None
        if reply and reply.waiting >= self._frame:
            self._changed.wait(max(0.0, self._held(reply)))
        elif not self._changed.wait(REPLY_STARVED_S if reply else None) and self._replies:
            self._replies[0].complete = True

    # Under the lock ---------------------------------------------------------------------------------------------------

    def _writing(self, name: str) -> _Reply:
        if not self._replies or self._replies[-1].name != name:
            for earlier in self._replies:
                earlier.complete = True  # replies come one after the other
            self._replies.append(_Reply(name))
        return self._replies[-1]

    def _arrived(self, reply: _Reply, count: int) -> None:
        """Note when *count* samples of *reply* came: the prefill learns from late ones at once."""
        now = self._clock()
        silent = reply.flowing and reply.waiting < self._frame and now > reply.since + reply.read / self._rate
        if silent:
            reply.flowing, self._asleep = False, True
            self.underruns += 1
        reply.arrivals.came(count / self._rate, now, silent=silent)
        if reply.arrivals.late is not None:
            self._prefill.came(reply.arrivals.late)
        reply.waiting += count

    def _end_first(self) -> None:
        """Remove the first reply, which is over: the prefill may become shorter."""
        reply = self._replies.popleft()
        if reply.arrivals.late is not None:
            self._prefill.ended(reply.arrivals.late)

    def _store(self, wave: np.ndarray) -> None:
        if not self._filled:
            self._begin = 0
        at = (self._begin + self._filled) % len(self._buffer)
        first = min(len(wave), len(self._buffer) - at)
        self._buffer[at : at + first] = wave[:first]
        self._buffer[: len(wave) - first] = wave[first:]
        self._filled += len(wave)
        self._used = max(self._used, min(at + len(wave), len(self._buffer)))

    def _give_back(self) -> None:
        """Give the memory of a long answer back, which was heard."""
        if self._used > samples(RETAINED_MEMORY_S, self._rate):
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._used = 0

    def _take(self, reply: _Reply) -> bytes:
        count = min(self._frame, reply.waiting)
        first = min(count, len(self._buffer) - self._begin)
        pcm = self._buffer[self._begin : self._begin + first].tobytes() + self._buffer[: count - first].tobytes()
        self._begin = (self._begin + count) % len(self._buffer)
        self._filled -= count
        if not self._filled:
            self._give_back()
        reply.waiting -= count
        reply.read += count
        return pcm
