"""A signal is an event like any other."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_by_hangup(ask: Callable[[], None]) -> Iterator[None]:
    """Call *ask* on SIGHUP, which asks a daemon to read its configuration again. For the main thread.

    At a terminal it says that the terminal is gone, and ends the process as usual.
    """
    if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda *_: ask())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


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
