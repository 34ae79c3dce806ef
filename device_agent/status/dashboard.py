"""Dashboard: ``device-agent status --watch`` on a terminal."""

from __future__ import annotations

import os
import selectors
import signal
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..runtime.signals import handled
from .client import ANSWER_TIMEOUT_S, StatusStream, StatusUnavailable
from .page import StatusPage

QUIT_KEYS = {b"q", b"Q", b"\x03", b""}
"""An empty read means that the terminal has gone."""
RETRY_S = 1.0
"""Pause between two attempts to reach an agent."""


def run_dashboard(out: TextIO, keys: TextIO, at: Sequence[Path]) -> None:
    """Show the agent at one of the sockets *at* on the terminal *out*, until q, Ctrl-C or SIGTERM; wait for an agent
    if there is none. For the main thread. Raises KeyboardInterrupt on Ctrl-C, with the terminal restored."""
    page = StatusPage(out)
    with _signals_raise_interrupt(), _cbreak(keys) as keyboard, page.live():
        dashboard = _Dashboard(page, keyboard, at)
        while dashboard.show_agent() and dashboard.pause():
            pass


class _Dashboard:
    """One page, and the keyboard that ends it. The methods return False once a key has."""

    def __init__(self, page: StatusPage, keyboard: int | None, at: Sequence[Path]) -> None:
        self._page, self._keyboard, self._at = page, keyboard, at

    def show_agent(self) -> bool:
        """Show one agent until it ends, or that there is none."""
        try:
            with StatusStream(self._at) as stream, self._selector() as selector:
                selector.register(stream, selectors.EVENT_READ)
                return self._show(stream, selector)
        except StatusUnavailable as error:
            self._page.wait(str(error))
        return True

    def _show(self, stream: StatusStream, selector: selectors.BaseSelector) -> bool:
        while True:
            ready = [key.fileobj for key, _ in selector.select(ANSWER_TIMEOUT_S)]
            if not ready:
                raise StatusUnavailable(
                    f"the device-agent has said nothing for {ANSWER_TIMEOUT_S:g} s: it hangs, or is stopped"
                )
            if self._keyboard in ready and self._quit():
                return False
            if stream in ready and (snapshot := stream.ready()):
                self._page.show(snapshot)

    def pause(self) -> bool:
        """Wait before the next attempt."""
        with self._selector() as selector:
            until = time.monotonic() + RETRY_S
            while (left := until - time.monotonic()) > 0:
                if selector.select(left) and self._quit():
                    return False
        return True

    def _selector(self) -> selectors.BaseSelector:
        selector = selectors.DefaultSelector()
        if self._keyboard is not None:
            selector.register(self._keyboard, selectors.EVENT_READ)
        return selector

    def _quit(self) -> bool:
        try:
            return self._keyboard is not None and os.read(self._keyboard, 1) in QUIT_KEYS
        except OSError:  # the terminal has gone
            return True


@contextmanager
def _cbreak(keys: TextIO) -> Iterator[int | None]:
    """Read single keys without echo, and restore the terminal afterwards. Yields None where *keys* is no terminal."""
    if not keys.isatty():
        yield None
        return
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys.fileno()
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


@contextmanager
def _signals_raise_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP act like Ctrl-C, and ignore Ctrl-Z, which would not restore the terminal."""
    interrupts = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a process in the background ignores SIGINT otherwise
    with handled(signal.default_int_handler, *interrupts), handled(signal.SIG_IGN, signal.SIGTSTP):
        yield
