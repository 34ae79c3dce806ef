"""SIGTERM and SIGINT are events like any other."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Call *stop* with the name of each signal that asks the process to end. For the main thread.

    *stop* runs inside a signal handler: it may put into a SimpleQueue and hardly more.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _frame: stop(signal.Signals(n).name)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
