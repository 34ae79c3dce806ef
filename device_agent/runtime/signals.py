"""Signals: SIGTERM, SIGINT and SIGHUP as callbacks."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asked_by_hangup(ask: Callable[[], None]) -> Iterator[None]:
    """Call *ask* on SIGHUP, which asks a daemon to read its configuration again. For the main thread.

    At a terminal SIGHUP says that the terminal is gone, and ends the process as usual.
    """
    at_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    with handled(lambda *_: ask(), *(() if at_terminal else (signal.SIGHUP,))):
        yield


@contextmanager
def stopped_by_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Call *stop* with the name of each signal that asks the process to end. For the main thread.

    *stop* runs inside a signal handler: it may put into a SimpleQueue and hardly more.
    """
    with handled(lambda number, _frame: stop(signal.Signals(number).name), signal.SIGTERM, signal.SIGINT):
        yield


@contextmanager
def handled(handler: Callable[[int, Any], object] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Handle the signals *numbers* by *handler*, and as before afterwards. For the main thread."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
