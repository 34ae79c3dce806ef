"""How fast sound comes in, where it has to come in real time: measured, judged, and dropped if it is too fast. Pure.

Real time is judged second by second over a window of two: 20 ms frames that come in bunches of five still are within
one or two percent. A service that drops what comes too fast needs a little room for a network that hiccups.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 2.0
"""Over how much time the pace is measured."""
EVERY_S = 1.0
"""How often it is judged."""
TOLERANCE = 0.1
"""How far from real time is still real time."""
ROOM_S = 0.5
"""How much sound may be ahead of real time. The live service's room is called small, and is not documented."""


class RateLimiter:
    """The pace of one stream of PCM."""

    def __init__(self, rate: int, now: float) -> None:
        self._bytes_per_s = 2 * rate
        self._ahead_s = 0.0
        self._filled_at = now
        self._came: deque[tuple[float, int]] = deque()
        self.judge_at = now + WINDOW_S
        """When to call ``judge``."""
        self.dropped_s = 0.0
        """How much was dropped in all."""

    def take(self, pcm: bytes, now: float) -> bytes:
        """Return what of *pcm*, which came *now*, there is room for."""
        self._came.append((now, len(pcm)))
        self._ahead_s = max(0.0, self._ahead_s - (now - self._filled_at))
        self._filled_at = now
        room = 2 * max(0, round((ROOM_S - self._ahead_s) * self._bytes_per_s / 2))
        kept = pcm[:room]
        self._ahead_s += len(kept) / self._bytes_per_s
        self.dropped_s += (len(pcm) - len(kept)) / self._bytes_per_s
        return kept

    def judge(self, now: float) -> float | None:
        """Return the pace in the last seconds, 1 being real time; None while it is too early to say."""
        if now < self.judge_at:
            return None
        self.judge_at = now + EVERY_S
        while self._came and self._came[0][0] <= now - WINDOW_S:
            self._came.popleft()
        return sum(size for _, size in self._came) / (self._bytes_per_s * WINDOW_S)


def verdict(pace: float) -> str:
    """Return what is wrong with a *pace*, "" where it is right."""
    if pace < 1 - TOLERANCE:
        return "underflow"
    return "overflow" if pace > 1 + TOLERANCE else ""
