"""Capture thread: reads the microphone, removes echo, lets the gate decide, and sends turns to the link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing

from ..core.errors import DeviceFailed
from ..core.events import DeviceReady, Event, MicrophoneEnded, MicrophoneLost, Port, Speech, TalkEnded
from ..dsp.level_meter import LevelMeter
from ..dsp.pcm import FRAME_MS, is_nothing
from ..hardware.ports import Microphone
from ..runtime.heartbeat import Heartbeat
from ..runtime.rendezvous import Rendezvous
from .echo_control import EchoControl
from .gate import Gate


class CaptureThread:
    """``run`` is the microphone's thread; everything else may be called from any thread.

    While muted the microphone is closed, and nothing that it recorded before is kept. A microphone that fails is
    closed, too, until ``reopen``.
    """

    def __init__(
        self,
        microphone: Microphone,
        echo: EchoControl,
        gate: Gate,
        send: Callable[..., None],
        tell: Callable[[Event], None],
        closed: Rendezvous,
        *,
        muted: bool = False,
        patient: bool = False,
    ) -> None:
        """*send* takes speech and its markers for the link, in order. At *closed* both ports meet while they are closed
        for a moment. *patient*: a microphone that fails is expected back; otherwise its failure ends ``run``."""
        self._microphone, self._echo, self._gate, self._put, self._tell = microphone, echo, gate, send, tell
        self._closed, self._patient = closed, patient
        self._muted, self._lost, self._reopening = muted, False, False
        self._woken = threading.Event()  # one of these has changed, or it is time to stop
        self._zero_frames = 0  # in a row
        self.pulse, self.level = Heartbeat(), LevelMeter()

    @property
    def gaps(self) -> int:
        """How often the microphone had to drop sound."""
        return self._microphone.overflows

    @property
    def silent_for(self) -> float:
        """Seconds of nothing but zeros: a working microphone always has some noise."""
        return self._zero_frames * FRAME_MS / 1000

    def mute(self, muted: bool) -> None:
        """Close the microphone with the next frame, or open it again."""
        self._muted, self._lost, self._zero_frames = muted, False, 0
        if muted:
            self._reopening = False
        self._woken.set()

    def reopen(self) -> None:
        """Close the microphone for a moment, or try again to open it; nothing if muted."""
        if not self._muted:
            self._reopening = True
            self._woken.set()

    def wake(self) -> None:
        """Look whether it is time to stop."""
        self._woken.set()

    def run(self, stopping: threading.Event) -> None:
        """Listen until *stopping*, except while muted or without a microphone."""
        if self._muted:
            self._tell(DeviceReady(Port.MICROPHONE))
        while self._wait(stopping):
            if self._reopening:
                self._reopening = False
                self._closed.meet()
            self._lost = False
            ended = self._try_to_listen(stopping)
            self.pulse.rest()
            if not stopping.is_set():
                self._send(self._gate.finish())
            if ended:
                self._tell(MicrophoneEnded())
                return

    def _wait(self, stopping: threading.Event) -> bool:
        """Wait while the microphone is to be closed; return whether to open it, False when it is time to stop.

        The event is cleared before anything is looked at, so that no change, and no stop, is missed.
        """
        while True:
            self._woken.clear()
            if stopping.is_set():
                return False
            if self._reopening or not (self._muted or self._lost):
                return True
            self._woken.wait()

    def _try_to_listen(self, stopping: threading.Event) -> bool:
        """Listen as long as possible; return whether the microphone has come to its end."""
        try:
            return self._listen(stopping)
        except DeviceFailed as error:
            if not self._patient:
                raise
            if self._muted:  # whether it is there shows when it is opened again
                self._tell(DeviceReady(Port.MICROPHONE))
            else:
                self._lost = True
                self._tell(MicrophoneLost(str(error)))
            return False

    def _listen(self, stopping: threading.Event) -> bool:
        with closing(self._microphone) as microphone:
            microphone.open()
            self._tell(DeviceReady(Port.MICROPHONE))
            gaps = None
            while not (self._muted or self._reopening or stopping.is_set()):
                self.pulse.beat()
                frame = microphone.read()
                if not frame:
                    return not stopping.is_set()
                self.level.measure(frame)
                self._zero_frames = self._zero_frames + 1 if is_nothing(frame) else 0
                if gaps != microphone.overflows:
                    gaps = microphone.overflows
                    self._echo.overflowed()
                frame, echo = self._echo.clean(frame, time.monotonic())
                self._send(self._gate.feed(frame, echo))
        return False

    def _send(self, speech: Iterable[Speech]) -> None:
        """Send, and report the markers: a beginning when it is sent, an end alone before the service can answer it."""
        items = tuple(speech)
        if not items:
            return
        markers = [item for item in items if not isinstance(item, bytes)]
        before = [type(item) for item in markers] == [TalkEnded]
        for item in markers if before else ():
            self._tell(item)
        self._put(*items)
        for item in () if before else markers:
            self._tell(item)
