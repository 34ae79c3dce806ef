"""``device-agent status --watch`` on a terminal: shows the agent until somebody presses q."""

from __future__ import annotations

import os
import selectors
import signal
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from .client import ANSWER_TIMEOUT_S, StatusStream, StatusUnavailable
from .page import StatusPage

QUIT_KEYS = {b"q", b"Q", b"\x03", b""}
"""Keys that end it; b"" is a terminal that has gone."""
RETRY_S = 1.0
"""An agent that is not there is looked for so often."""


def run_dashboard(out: TextIO, keys: TextIO, at: Sequence[Path]) -> None:
    """Show the agent whose window is one of *at* on the terminal *out*, until q, Ctrl-C or SIGTERM; wait for it where
    there is none. For the main thread. Raises KeyboardInterrupt on Ctrl-C, with the terminal as it was before."""
    screen = StatusPage(out)
    with _ended_by_signals(), _keyboard(keys) as keyboard, screen.live():
        watcher = _Watcher(screen, keyboard, at)
        while watcher.goes_on():
            pass


class _Watcher:
    """What is looked at, and what is shown of it."""

    def __init__(self, screen: StatusPage, keyboard: int | None, at: Sequence[Path]) -> None:
        self._screen, self._keyboard, self._at = screen, keyboard, at

    def goes_on(self) -> bool:
        """Show one agent until it ends, or that there is none; return False when somebody has seen enough."""
        try:
            with StatusStream(self._at) as stream:
                return self._show(stream)
        except StatusUnavailable as error:
            self._screen.wait(str(error))
        return self._wait()

    def _show(self, stream: StatusStream) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            self._listen(selector)
            while True:
                ready = [key.fileobj for key, _ in selector.select(ANSWER_TIMEOUT_S)]
                if not ready:
                    raise StatusUnavailable(
                        f"the device-agent has said nothing for {ANSWER_TIMEOUT_S:g} s: it hangs, or is stopped"
                    )
                if self._keyboard in ready and self._enough():
                    return False
                if stream in ready and (snapshot := stream.ready()):
                    self._screen.show(snapshot)

    def _wait(self) -> bool:
        """Wait a moment; return False when somebody has seen enough."""
        with selectors.DefaultSelector() as selector:
            self._listen(selector)
            until = time.monotonic() + RETRY_S
            while (left := until - time.monotonic()) > 0:
                if selector.select(left) and self._enough():
                    return False
        return True

    def _listen(self, selector: selectors.BaseSelector) -> None:
        if self._keyboard is not None:
            selector.register(self._keyboard, selectors.EVENT_READ)

    def _enough(self) -> bool:
        try:
            return self._keyboard is not None and os.read(self._keyboard, 1) in QUIT_KEYS
        except OSError:  # the terminal has gone
            return True


@contextmanager
def _keyboard(keys: TextIO) -> Iterator[int | None]:
    """Read single keys, without showing them; afterwards the terminal is as it was. None where there is no terminal."""
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
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end it like Ctrl-C; Ctrl-Z would leave the terminal as it is now, and does nothing."""
    with ExitStack() as restored:
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),  # who begins in the background begins without
            (signal.SIGTERM, signal.default_int_handler),
            (signal.SIGHUP, signal.default_int_handler),
            (signal.SIGTSTP, signal.SIG_IGN),
        ):
            restored.callback(signal.signal, number, signal.signal(number, handler))
        yield
