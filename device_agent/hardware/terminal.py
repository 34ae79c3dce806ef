"""Button and light on a terminal: the return key and a line of text."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import TextIO

log = logging.getLogger(__name__)

MIN_TAP_INTERVAL_S = 0.03  # whatever is piped in, no more than 33 taps come in a second
RETURN_KEY_STOP_TIMEOUT_S = 1.0


class TerminalButton:
    """The return key: each return on *stream* is a tap, a press and at once the release.

    A thread of its own watches the stream and runs the callbacks; it ends with its input. The stream should be the
    terminal or a pipe; without a file descriptor, or a stream, there are no taps.
    """

    is_pressed = False  # a return key comes up at once

    def __init__(self, stream: TextIO | None = None) -> None:
        self.when_pressed: Callable[[], None] | None = None
        self.when_released: Callable[[], None] | None = None
        self._waker, self._wake = os.pipe()
        self._stopping = threading.Event()
        watched = _descriptor(sys.stdin if stream is None else stream)
        self._thread = threading.Thread(target=self._watch, args=(watched,), name="button", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.write(self._wake, b"!")
        self._thread.join(RETURN_KEY_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("the thread of the return key did not stop")  # and still uses its pipe
            return
        os.close(self._wake)
        os.close(self._waker)

    def _watch(self, descriptor: int | None) -> None:
        if descriptor is None:
            return
        # Else reading from the terminal in the background would stop the whole process; so it is an error here.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        poll = select.poll()  # takes files, and descriptors of any number
        poll.register(self._waker, select.POLLIN)
        poll.register(descriptor, select.POLLIN)
        while True:
            ready = [number for number, _ in poll.poll()]
            if self._waker in ready:
                return
            try:
                typed = os.read(descriptor, 64)
            except OSError:  # the terminal went away
                typed = b""
            if not typed or not all(self._tap() for _ in range(typed.count(b"\n"))):
                return

    def _tap(self) -> bool:
        """Return whether to go on."""
        for callback in (self.when_pressed, self.when_released):
            try:
                if callback is not None:
                    callback()
            except Exception:
                log.exception("a press of the return key could not be handled")
        return not self._stopping.wait(MIN_TAP_INTERVAL_S)


class TerminalLight:
    """Writes a line on *stream*, standard error by default, for each change of mood. Belongs to one thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._mood = ""

    def show(self, mood: str) -> None:
        if mood == self._mood:
            return
        self._mood = mood
        with contextlib.suppress(OSError, ValueError, AttributeError):  # hung up; closed; there was none
            self._stream.write(f"light: {mood}\n")
            self._stream.flush()

    def close(self) -> None: ...


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):  # it has none; it is closed
        return None
