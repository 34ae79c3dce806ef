"""A thread that somebody owns."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from ..core.errors import AgentError
from ..core.events import Event, WorkerCrashed

log = logging.getLogger(__name__)

NUDGED_S, FORCED_S = 0.6, 0.4
"""How long a worker may take to stop when it was told to, and when it was broken out of its call."""


class Pulse:
    """Shows from outside whether a thread gets on with its work. The worker beats and rests; the owner checks."""

    def __init__(self) -> None:
        self._beats = self._seen = 0
        self._resting = True  # waiting for work is no standstill
        self._since = 0.0

    def beat(self) -> None:
        """The worker did a piece of work and begins the next."""
        self._beats += 1
        self._resting = False

    def rest(self) -> None:
        """The worker waits for work."""
        self._resting = True

    def standstill(self, now: float) -> float:
        """Return for how many seconds the worker has been busy without a beat, as far as calls of this method saw."""
        if self._resting or self._beats != self._seen or not self._since:
            self._seen, self._since = self._beats, now
        return now - self._since


class Meeting:
    """Where two threads wait for each other, for a moment at most: then each goes on alone."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._barrier, self._seconds = threading.Barrier(2), seconds

    def call(self) -> None:
        """Begin anew, whatever became of the last meeting."""
        self._barrier.reset()

    def meet(self) -> None:
        """Wait until the other is here."""
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(self._seconds)


class Worker:
    """Runs *work* in a named thread until told to stop.

    *nudge* wakes the work where it sleeps; *force* breaks it out of a call that does not end. An error that escapes
    from *work* reaches the owner as ``WorkerCrashed``. A thread that does not stop is left behind: whatever it holds
    may no longer be touched, and the process should end by ``os._exit``.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[threading.Event], None],
        tell: Callable[[Event], None],
        *,
        nudge: Callable[[], None] = lambda: None,
        force: Callable[[], None] = lambda: None,
    ) -> None:
        self._work, self._tell, self._nudge, self._force = work, tell, nudge, force
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._nudge()
        self._thread.join(NUDGED_S)
        if self._thread.is_alive():
            self._force()
            self._thread.join(FORCED_S)
        if self._thread.is_alive():
            log.error("%s did not stop", self._thread.name)

    @property
    def alive(self) -> bool:
        """Whether it runs, or was left behind."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work(self._stopping)
        except AgentError as error:
            self._tell(WorkerCrashed(self._thread.name, error))
        except BaseException as error:  # an error must not end with its thread
            log.exception("%s crashed", self._thread.name)
            self._tell(WorkerCrashed(self._thread.name, error))
