"""Worker: supervised thread with start, stop, forced stop and crash report."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..core.errors import AgentError
from ..core.events import Event, WorkerCrashed

log = logging.getLogger(__name__)

STOP_TIMEOUT_S, FORCED_STOP_TIMEOUT_S = 0.6, 0.4
"""How long a worker may take to stop after it was woken, and after its call was aborted."""


class Worker:
    """Runs *work* in a named thread until told to stop.

    *wake* wakes the work where it sleeps; *force* aborts a call that does not end. An error that escapes from *work* is
    reported as ``WorkerCrashed``. A thread that does not stop is left behind: what it holds may no longer be touched,
    and the process should end by ``os._exit``.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[threading.Event], None],
        tell: Callable[[Event], None],
        *,
        wake: Callable[[], None] = lambda: None,
        force: Callable[[], None] = lambda: None,
    ) -> None:
        self._work, self._tell, self._wake, self._force = work, tell, wake, force
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._wake()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            self._force()
            self._thread.join(FORCED_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("%s did not stop", self._thread.name)

    @property
    def alive(self) -> bool:
        """Whether the thread runs, or was left behind."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work(self._stopping)
        except BaseException as error:  # an error must not end with its thread
            if not isinstance(error, AgentError):
                log.exception("%s crashed", self._thread.name)
            self._tell(WorkerCrashed(self._thread.name, error))
