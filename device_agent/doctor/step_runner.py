"""A step that hangs costs its own time and no more: it runs in a thread that is left behind when nobody waits longer.

A card that never answers can be stopped by nobody. So the process has to end by ``os._exit``, as ``cli.entry`` does.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from ..core.errors import AgentError
from .findings import Finding, Now, Progress


class StepTimedOut(AgentError, TimeoutError):
    """A step said nothing for too long."""


def run_step(work: Callable[[], Progress], seconds: float) -> Progress:
    """Yield what *work* yields in a thread of its own. Raises what it raises, and Hangs where it says nothing for so
    many *seconds*."""
    said: queue.SimpleQueue[Finding | Now | BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            for item in work():
                said.put(item)
            said.put(None)
        except BaseException as error:  # noqa: BLE001  who waits raises it again
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
