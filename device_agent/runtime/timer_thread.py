"""Timer thread: calls a function when its next deadline comes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

TIMER_STOP_TIMEOUT_S = 1.0


class TimerThread:
    """Calls *work* when it is due, in a thread of its own.

    *work* is given the time, in seconds, and returns when it wants to be called again; None: not before ``wake``. An
    error of *work* is logged and counts as None. The methods are for any thread.
    """

    def __init__(self, name: str, work: Callable[[float], float | None]) -> None:
        self._work = work
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def now(self) -> float:
        """Return the time that *work* is given, in seconds."""
        return time.monotonic()

    def wake(self) -> None:
        """Call *work* soon. Never waits."""
        self._woken.set()

    def close(self) -> None:
        """End the thread, within TIMER_STOP_TIMEOUT_S. May be called twice, but not from *work*."""
        self._closing = True
        self._woken.set()
        self._thread.join(TIMER_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("the thread of the %s did not stop", self._thread.name)

    def _run(self) -> None:
        due: float | None = None
        while True:
            self._woken.wait(None if due is None else max(0.0, due - self.now()))
            self._woken.clear()
            if self._closing:
                return
            try:
                due = self._work(self.now())
            except Exception:
                due = None
                log.exception("the %s stands still until it is used again", self._thread.name)


TimerThreadFactory = Callable[[str, Callable[[float], float | None]], TimerThread]
"""Makes a timer of a name and its work: the class itself, or one whose clock a test moves."""
