"""Learns how long our own sound takes from the loudspeaker to the microphone. Pure; the clock is an argument.

A sound server or a Bluetooth box holds sound back for longer than anybody says. But speech is loud and soft in a
pattern of its own, and what comes back into the microphone has the same pattern, some time later. Only the levels of
frames are compared, and only their steps up and down: those are sharp in time, and a room or a distance leaves them as
they are.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from .pcm import FRAME_MS, SILENCE_DB

Levels = npt.NDArray[np.floating[Any]]

SLOT_S = FRAME_MS / 1000
"""The resolution, in time: one piece that is played, one frame that is heard."""
LAG_SLOTS = 31
"""Slots. Delays of 0 to 0.6 s are found."""
WINDOW_SLOTS = 120
"""Slots, 2.4 s, in which the patterns are compared: long enough to be like no other, and shorter than most replies."""
COMPARE_INTERVAL_SLOTS = 60
"""Slots from one comparison to the next."""
MIN_SPEECH_SLOTS = 40
"""Slots of a window in which our voice must have been above QUIET_DB, or there is nothing to compare."""
SPEECH_DB = -50.0
ENVELOPE_FLOOR_DB = -70.0
"""Below this, a step up or down says nothing."""
MIN_LIKENESS, MIN_DISTINCTNESS = 0.35, 1.6
"""How much alike (1 is the same) the patterns must be, and how much more so than at any delay that is not next to it.
An echo alone is at 0.38 to 0.61; voices that have nothing to do with each other hardly ever reach 0.31."""
AGREEING_ESTIMATES = 4
"""So many clear answers in a row, not more than a slot apart, are believed: 6 s of our voice in all."""
TRACK_SLOTS = 256
"""Slots that are remembered: a window, the lags, and what lies in a loudspeaker's buffer and was not heard yet."""
FRAME_GAP_S = 0.3
"""A frame that is so much later than the one before belongs to another time: frames were lost, or nobody asked."""
CLOCK_CORRECTION = 0.002
"""How much of a frame's lateness is believed to be the clock of the microphone, and not that of a busy thread."""


class DelayEstimator:
    """``played`` and ``dropped`` belong to the speaker's thread, ``heard`` to the microphone's, ``seconds`` to any.

    All times are in seconds of one clock, that of ``time.monotonic``. Needs 0.2 ms of CPU in a second of sound.
    """

    def __init__(self) -> None:
        self._news: deque[tuple[float, float | None]] = deque(maxlen=TRACK_SLOTS)
        self._played, self._heard = _Track(SILENCE_DB), _Track(math.nan)
        self._clock = -math.inf  # when the last frame was complete
        self._compared = 0  # the slot
        self._answers: deque[int] = deque(maxlen=AGREEING_ESTIMATES)
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long after it began to sound a piece is in a frame that was heard; None while that is not known.

        A piece is taken to begin to sound when it was handed over, or when the piece before it has sounded. So what
        lies in the loudspeaker's own buffer is no part of this: only what comes on top of it.
        """
        return self._seconds

    def played(self, level_db: float, now: float) -> None:
        """A piece of 20 ms was handed to the loudspeaker."""
        self._news.append((now, level_db))

    def dropped(self, now: float) -> None:
        """The loudspeaker forgot what it had not played yet."""
        self._news.append((now, None))

    def heard(self, level_db: float, now: float) -> None:
        """A frame came from the microphone. Frames that cannot hold our sound need not be told."""
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
        """Frames are made evenly, and may be delivered late, but never early."""
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
            self._answers.append(lag)
            if len(self._answers) == AGREEING_ESTIMATES and max(self._answers) - min(self._answers) <= 1:
                self._seconds = sorted(self._answers)[AGREEING_ESTIMATES // 2] * SLOT_S


class _Track:
    """The levels of the last KEPT slots; *missing* stands where there is none."""

    def __init__(self, missing: float) -> None:
        self.last = 0
        self._missing = missing
        self._levels = np.full(TRACK_SLOTS, missing)

    def put(self, slot: int, level_db: float) -> None:
        """Slots come in order; one that had its level keeps it."""
        if slot <= self.last:
            return
        if slot > self.last + 1:
            skipped = np.arange(max(self.last + 1, slot - TRACK_SLOTS), slot)
            self._levels[skipped % TRACK_SLOTS] = self._missing
        self._levels[slot % TRACK_SLOTS] = level_db
        self.last = slot

    def cut(self, slot: int) -> None:
        """What is in *slot* and later did not happen."""
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

    *played* begins LAGS - 1 slots earlier than *heard*.
    """
    energy = np.cumsum(np.concatenate(([0.0], played * played)))
    norm = np.sqrt((energy[len(heard) :] - energy[: -len(heard)]) * np.dot(heard, heard))
    products = np.correlate(played, heard, "valid")
    likeness: Levels = np.divide(products, norm, out=np.zeros_like(products), where=norm > 0)
    return likeness[::-1]
