"""Outbox: bounded uplink queue that a selector can wait on, and that replays unanswered turns after a reconnect."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from enum import Enum

from ..core.actions import Action, CancelReply, ToolResult
from ..core.events import AudioTurn, NoSpeech, Speech, TalkEnded, TalkStarted, TextTurn
from ..net.dialer import WAKE_COUNT

log = logging.getLogger(__name__)

Item = Speech | Action

TURN_ENDS = (TalkEnded, TextTurn, AudioTurn)
MAX_AUDIO_CHUNK_BYTES = 4800
"""Frames that waited together are joined up to this size: a tenth of a second at 24 kHz. In base64 that is half of what
TCP sends before the first acknowledgement, so the first chunk goes out at once."""
STALE_SPEECH_S = 10.0
"""Speech and results that no answer is awaited for are dropped after this time."""


class Resend(Enum):
    """What the service of a lost connection may know of what will be sent again."""

    NOTHING = "nothing"
    HALF = "half"
    """The beginning of a turn."""
    WHOLE = "whole"
    """A turn with its end."""


class Outbox:
    """Queue of what goes up. A turn is kept until its reply begins, and so is the result of a tool: a connection
    that is lost in between costs the user nothing.

    ``put``, ``wake`` and ``forget`` may be called from any thread, ``look`` belongs to the main thread, and the other
    methods to the link's. *limit* is in bytes of audio; beyond it the newest audio is dropped, but never a marker.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._unsent: deque[Item] = deque()
        self._sent: list[Speech | ToolResult] = []  # what no reply has answered yet
        self._kept = 0  # bytes of audio in both
        self._talking = False  # the last marker that came was TalkStarted
        self._skipping = False  # the turn that comes in now was forgotten
        self._full = False
        self._stale_since: float | None = None
        self._wakeup = open(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115  see close

    # Any thread -------------------------------------------------------------------------------------------------------

    def put(self, *items: Item) -> None:
        """Append *items* at once: what waits together goes up together."""
        with self._lock:
            for item in items:
                if self._admit(item):
                    self._unsent.append(item)
                if isinstance(item, NoSpeech):
                    self._drop_unsent_last()
        self.wake()

    def forget(self) -> None:
        """Drop all speech, also what is still to come of the current turn."""
        with self._lock:
            self._forget_speech()
        self.wake()

    def wake(self) -> None:
        """End the wait of the link's thread. Nothing after ``close``."""
        with suppress(ValueError):
            self._wakeup.write(WAKE_COUNT)

    def look(self, now: float, *, awaited: bool) -> None:
        """Drop speech and results that no answer is *awaited* for, STALE_SPEECH_S after the first look at them.

        Otherwise the audio of a room could go up with a turn of another day. To be called about once a second; *now* is
        in seconds of one clock.
        """
        with self._lock:
            left = bool(self._sent) or any(not isinstance(item, CancelReply) for item in self._unsent)
            if awaited or not left:
                self._stale_since = None
                return
            if self._stale_since is None:
                self._stale_since = now
            if now - self._stale_since < STALE_SPEECH_S:
                return
            self._stale_since = None
            self._unsent = deque(item for item in self._unsent if isinstance(item, CancelReply))
            self._forget_speech()
        log.warning("speech from %.0f s ago is dropped: no answer to it is expected any more", STALE_SPEECH_S)
        self.wake()

    # The link's thread ------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable after ``wake``, until ``clear_wakeup``."""
        return self._wakeup.fileno()

    def clear_wakeup(self) -> None:
        """Make the descriptor unreadable."""
        self._wakeup.read(len(WAKE_COUNT))

    def take(self) -> list[Item]:
        """Return what was not sent yet, in order, with audio joined to larger chunks."""
        with self._lock:
            items, self._unsent = self._unsent, deque()
            for item in items:
                if isinstance(item, CancelReply):  # no reply is waited for any more
                    self._sent = [each for each in self._sent if not isinstance(each, ToolResult)]
                elif not isinstance(item, Action) or (isinstance(item, ToolResult) and not item.quiet):
                    self._sent.append(item)
                if isinstance(item, NoSpeech):
                    self._settle_last()
        return _joined(items)

    def take_cancels(self) -> list[CancelReply]:
        """Return the cancels that were not sent yet, and leave the rest: there is no connection."""
        with self._lock:
            cancels = [item for item in self._unsent if isinstance(item, CancelReply)]
            self._unsent = deque(item for item in self._unsent if not isinstance(item, CancelReply))
        return cancels

    def rewind(self) -> Resend:
        """The connection is lost: send again what was not answered, from the beginning of its turn."""
        with self._lock:
            speech = [item for item in self._sent if not isinstance(item, ToolResult)]
            whole = any(isinstance(item, TURN_ENDS) for item in speech)
            again = Resend.WHOLE if whole else Resend.HALF if speech else Resend.NOTHING
            first = next((n for n, item in enumerate(self._unsent) if not isinstance(item, Action)), None)
            markers = [item for item in speech if not isinstance(item, bytes)]
            begun = bool(markers) and isinstance(markers[-1], TalkStarted)
            if first is not None and isinstance(self._unsent[first], NoSpeech) and not begun:
                del self._unsent[first]  # it was to take back a beginning that the next connection never has
            self._unsent.extendleft(reversed(self._sent))
            self._sent.clear()
        return again

    @property
    def quiet(self) -> bool:
        """Whether there is no turn now, and nothing waits to be sent or answered."""
        with self._lock:
            return not (self._unsent or self._sent or self._talking)

    def settle(self, *, begun: bool = True) -> None:
        """A reply has *begun*, or ended, or calls a tool: forget the turns that were sent whole, and when it has begun
        the results that led to it."""
        answered = (*TURN_ENDS, ToolResult) if begun else TURN_ENDS
        with self._lock:
            ends = [n for n, item in enumerate(self._sent) if isinstance(item, answered)]
            if ends:
                self._drop(0, ends[-1] + 1)

    def close(self) -> None:
        """Free the descriptor."""
        self._wakeup.close()

    def _forget_speech(self) -> None:
        markers = [item for item in self._sent if not isinstance(item, (bytes, ToolResult))]
        self._sent.clear()
        self._unsent = deque(item for item in self._unsent if isinstance(item, Action))
        if markers and isinstance(markers[-1], TalkStarted):
            self._unsent.append(NoSpeech())  # the service has the beginning, and would put it before the next
        self._kept, self._skipping = 0, self._talking

    def _admit(self, item: Item) -> bool:
        if isinstance(item, TalkStarted):
            self._talking, self._skipping, self._full = True, False, False
            self._stale_since = None  # the main thread has yet to hear of this turn
        elif isinstance(item, (TalkEnded, NoSpeech)):
            skipped, self._talking, self._skipping = self._skipping, False, False
            return not skipped
        elif isinstance(item, bytes):
            return not self._skipping and self._admit_audio(item)
        return True

    def _admit_audio(self, frame: bytes) -> bool:
        if self._kept + len(frame) <= self._limit:
            self._kept += len(frame)
            return True
        if not self._full:
            log.warning("too much speech is waiting for an answer: the rest of this turn is lost")
        self._full = True
        return False

    def _drop_unsent_last(self) -> None:
        """Drop the last turn, in which nothing was said, unless a part of it was sent."""
        turn = []
        while self._unsent and not isinstance(self._unsent[-1], (Action, TalkEnded, TextTurn, AudioTurn)):
            turn.append(self._unsent.pop())
            if isinstance(turn[-1], TalkStarted):
                self._kept -= sum(len(item) for item in turn if isinstance(item, bytes))
                return
        self._unsent.extend(reversed(turn))

    def _settle_last(self) -> None:
        """Forget the turn that was sent last, in which nothing was said."""
        begin = max((n for n, item in enumerate(self._sent) if isinstance(item, TalkStarted)), default=0)
        self._drop(begin, len(self._sent))

    def _drop(self, begin: int, end: int) -> None:
        self._kept -= sum(len(item) for item in self._sent[begin:end] if isinstance(item, bytes))
        del self._sent[begin:end]


def _joined(items: deque[Item]) -> list[Item]:
    joined: list[Item] = []
    for item in items:
        last = joined[-1] if joined else None
        if isinstance(item, bytes) and isinstance(last, bytes) and len(last) + len(item) <= MAX_AUDIO_CHUNK_BYTES:
            joined[-1] = last + item
        else:
            joined.append(item)
    return joined
