"""Step runner: runs a step in a thread, which is left behind if it hangs.

A call into a dead card cannot be ended, so the process has to end by ``os._exit``, as ``cli.entry`` does.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from ..core.errors import AgentError
from .findings import Finding, Now, Progress


class StepTimedOut(AgentError, TimeoutError):
    """A step yielded nothing for too long."""


def run_step(work: Callable[[], Progress], seconds: float) -> Progress:
    """Yield what *work* yields in its thread. Raises what it raises, and StepTimedOut after *seconds* without any."""
    said: queue.SimpleQueue[Finding | Now | BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            for item in work():
                said.put(item)
            said.put(None)
        except BaseException as error:  # noqa: BLE001  it is raised again below
            said.put(error)

    threading.Thread(target=run, name="check", daemon=True).start()
    while True:
        try:
            item = said.get(timeout=seconds)
        except queue.Empty:
            raise StepTimedOut(f"it has not answered for {seconds:g} s") from None
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item
