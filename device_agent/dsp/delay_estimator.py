"""Delay estimator: playback-to-capture delay by correlation of envelopes. Pure; the clock is an argument.

A sound server or a Bluetooth loudspeaker holds sound back for longer than it reports. But what comes back into the
microphone has the pattern of levels that was played, some time later. Only the steps of the levels, up and down, are
compared: they are sharp in time, and a room or a distance does not change them.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from .pcm import FRAME_MS, SILENCE_DB

Levels = npt.NDArray[np.floating[Any]]

SLOT_S = FRAME_MS / 1000  # the resolution: one piece that is played, one frame that is heard
LAG_SLOTS = 31  # delays of 0 to 0.6 s are found
WINDOW_SLOTS = 120  # 2.4 s of a pattern: long enough to be unique, and shorter than most replies
COMPARE_INTERVAL_SLOTS = 60
SPEECH_DB, MIN_SPEECH_SLOTS = -50.0, 40  # a window needs so many louder slots, or there is nothing to compare
ENVELOPE_FLOOR_DB = -70.0  # steps below this say nothing
MIN_LIKENESS, MIN_DISTINCTNESS = 0.35, 1.6
"""How alike (1 is the same) the patterns must be, and how much more so than at any delay that is not next to it. An
echo alone is at 0.38 to 0.61; independent voices hardly ever reach 0.31."""
AGREEING_ESTIMATES = 4  # clear ones in a row, at most a slot apart, are believed: 6 s of speech in all
TRACK_SLOTS = 256  # a window, the lags, and what lies in a loudspeaker's buffer and was not heard yet
FRAME_GAP_S = 0.3  # after a frame that is so much late the time begins again: frames were lost, or not needed
CLOCK_CORRECTION = 0.002  # share of a frame's lateness that counts as the microphone's clock, not a busy thread


class DelayEstimator:
    """``played`` and ``dropped`` belong to the playout thread, ``heard`` to the capture thread, ``seconds`` to any.

    All times are in seconds of ``time.monotonic``. Needs 0.2 ms of CPU in a second of sound.
    """

    def __init__(self) -> None:
        self._news: deque[tuple[float, float | None]] = deque(maxlen=TRACK_SLOTS)
        self._played, self._heard = Track(SILENCE_DB), Track(math.nan)
        self._clock = -math.inf  # when the last frame was complete
        self._compared = 0  # the slot
        self._estimates: deque[int] = deque(maxlen=AGREEING_ESTIMATES)
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long after it began to sound a piece is in a frame that was heard; None until that is known. It begins to
        sound when it was written, or when the piece before it has sounded, whatever the loudspeaker buffers."""
        return self._seconds

    def played(self, level_db: float, now: float) -> None:
        """A piece of 20 ms was written to the loudspeaker."""
        self._news.append((now, level_db))

    def dropped(self, now: float) -> None:
        """The loudspeaker dropped what it had not played yet."""
        self._news.append((now, None))

    def heard(self, level_db: float, now: float) -> None:
        """A frame came from the microphone. Frames that cannot hold an echo need not be given."""
        self._place_played()
        self._clock = self._frame_time(now)
        self._heard.put(round(self._clock / SLOT_S), level_db)
        if self._heard.last >= self._compared + COMPARE_INTERVAL_SLOTS:
            self._compared = self._heard.last
            self._compare()

    def _place_played(self) -> None:
        while self._news:
            now, level_db = self._news.popleft()
            slot = round(now / SLOT_S)
            if level_db is None:
                self._played.cut(slot)
            else:
                self._played.put(max(slot, self._played.last + 1), level_db)

    def _frame_time(self, now: float) -> float:
        """Return when the frame was complete: frames are made evenly, and delivered late, but never early."""
        due = self._clock + SLOT_S
        late = now - due
        return now if late > FRAME_GAP_S else min(now, due + CLOCK_CORRECTION * late)

    def _compare(self) -> None:
        end = self._heard.last + 1
        heard = self._heard.between(end - WINDOW_SLOTS - 1, end)
        played = self._played.between(end - WINDOW_SLOTS - LAG_SLOTS, end)
        if np.isnan(heard).any() or np.count_nonzero(played > SPEECH_DB) < MIN_SPEECH_SLOTS:
            return
        likeness = _likeness(_steps(played), _steps(heard))
        lag = int(np.argmax(likeness))
        elsewhere = np.delete(likeness, range(max(0, lag - 2), min(LAG_SLOTS, lag + 3)))
        if likeness[lag] >= max(MIN_LIKENESS, MIN_DISTINCTNESS * float(elsewhere.max())):
            self._estimates.append(lag)
            if len(self._estimates) == AGREEING_ESTIMATES and max(self._estimates) - min(self._estimates) <= 1:
                self._seconds = sorted(self._estimates)[AGREEING_ESTIMATES // 2] * SLOT_S


class Track:
    """The levels of the last TRACK_SLOTS slots; *missing* stands where there is none."""

    def __init__(self, missing: float) -> None:
        self.last = 0
        self._missing = missing
        self._levels = np.full(TRACK_SLOTS, missing)

    def put(self, slot: int, level_db: float) -> None:
        """Set the level of *slot*; slots come in order, and a level that was set stays."""
        if slot <= self.last:
            return
        if slot > self.last + 1:
            skipped = np.arange(max(self.last + 1, slot - TRACK_SLOTS), slot)
            self._levels[skipped % TRACK_SLOTS] = self._missing
        self._levels[slot % TRACK_SLOTS] = level_db
        self.last = slot

    def cut(self, slot: int) -> None:
        """Forget the levels from *slot* on."""
        self.last = min(self.last, max(slot - 1, 0))

    def between(self, begin: int, end: int) -> Levels:
        """Return the levels of the slots from *begin* up to *end*."""
        slots = np.arange(begin, end)
        return np.where(
            (slots <= self.last) & (slots > self.last - TRACK_SLOTS), self._levels[slots % TRACK_SLOTS], self._missing
        )


def _steps(levels: Levels) -> Levels:
    return np.diff(np.maximum(levels, ENVELOPE_FLOOR_DB))


def _likeness(played: Levels, heard: Levels) -> Levels:
    """Return for each lag how much *heard* is like what was *played* so many slots earlier: at most 1, 0 is not at all.

    *played* begins LAG_SLOTS - 1 slots earlier than *heard*.
    """
    energy = np.cumsum(np.concatenate(([0.0], played * played)))
    norm = np.sqrt((energy[len(heard) :] - energy[: -len(heard)]) * np.dot(heard, heard))
    products = np.correlate(played, heard, "valid")
    likeness: Levels = np.divide(products, norm, out=np.zeros_like(products), where=norm > 0)
    return likeness[::-1]
