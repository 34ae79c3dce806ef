"""The microphone's thread: hears a frame, takes our own sound out of it, lets the gate decide, hands it to the link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing

from .echo import Echo
from .events import DeviceReady, Event, MicrophoneEnded, Speech
from .gate import Gate
from .hardware import Microphone
from .outbox import Outbox
from .worker import Pulse

MICROPHONE = "microphone"


class Ears:
    """``run`` is the microphone's thread; everything else may be called from any thread.

    Muted means that the microphone is closed; nothing of what it heard before is kept.
    """

    def __init__(
        self,
        microphone: Microphone,
        echo: Echo,
        gate: Gate,
        outbox: Outbox,
        tell: Callable[[Event], None],
        *,
        muted: bool = False,
    ) -> None:
        self._microphone, self._echo, self._gate, self._outbox, self._tell = microphone, echo, gate, outbox, tell
        self._listening = threading.Event()
        self.pulse = Pulse()
        self.mute(muted)

    @property
    def gaps(self) -> int:
        """How often the microphone had to drop sound."""
        return self._microphone.overflows

    def mute(self, muted: bool) -> None:
        """Close the microphone with the next frame, or open it again."""
        if muted:
            self._listening.clear()
        else:
            self._listening.set()

    def wake(self) -> None:
        """Look at the world: somebody wants us to stop."""
        self._listening.set()

    def run(self, stopping: threading.Event) -> None:
        """Listen until *stopping*, but for the time that we are muted."""
        if not self._listening.is_set():
            self._tell(DeviceReady(MICROPHONE))
        while self._listening.wait() and not stopping.is_set():
            ended = self._listen(stopping)
            self.pulse.rest()
            if not stopping.is_set():
                self._send(self._gate.finish())
            if ended:
                self._tell(MicrophoneEnded())
                return

    def _listen(self, stopping: threading.Event) -> bool:
        """Listen until muted; return whether the microphone has come to its end."""
        with closing(self._microphone) as microphone:
            microphone.open()
            self._tell(DeviceReady(MICROPHONE))
            gaps = None
            while self._listening.is_set() and not stopping.is_set():
                self.pulse.beat()
                frame = microphone.read()
                if not frame:
                    return not stopping.is_set()
                if gaps != microphone.overflows:
                    gaps = microphone.overflows
                    self._echo.missed()
                frame, own = self._echo.hear(frame, time.monotonic())
                self._send(self._gate.feed(frame, own=own))
        return False

    def _send(self, speech: Iterable[Speech]) -> None:
        for item in speech:
            self._outbox.put(item)
            if not isinstance(item, bytes):
                self._tell(item)
