"""Playout thread: writes the playback buffer to the loudspeaker, and reports when a reply begins and ends to sound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

from ..core.errors import DeviceFailed
from ..core.events import DeviceReady, Event, PlaybackEnded, PlaybackStarted, Port, SpeakerLost
from ..dsp.level_meter import LevelMeter
from ..hardware.null_speaker import SilentSpeaker
from ..hardware.ports import Speaker
from ..runtime.heartbeat import Heartbeat
from ..runtime.rendezvous import Rendezvous
from .echo_control import EchoControl
from .playback_buffer import Marker, OutputFrame, PlaybackBuffer


class PlayoutThread:
    """``run`` is the speaker's thread; everything else may be called from any thread.

    A loudspeaker that fails is closed until ``reopen``. Meanwhile a ``SilentSpeaker`` takes its place.
    """

    def __init__(
        self,
        playback: PlaybackBuffer,
        speaker: Speaker,
        echo: EchoControl,
        tell: Callable[[Event], None],
        closed: Rendezvous,
        *,
        patient: bool = False,
    ) -> None:
        """At *closed* both ports meet while they are closed for a moment. *patient*: a loudspeaker that fails is
        expected back; otherwise its failure ends ``run``."""
        self._playback, self._speaker, self._echo, self._tell = playback, speaker, echo, tell
        self._closed, self._patient = closed, patient
        self._lost = False
        self._begun: PlaybackStarted | None = None  # to be told when its first sample was handed over
        self.pulse, self.level = Heartbeat(), LevelMeter()

    @property
    def gaps(self) -> tuple[int, int]:
        """How often the loudspeaker ran dry, and how often the replies did."""
        return self._speaker.underruns, self._playback.underruns

    def reopen(self) -> None:
        """Close the loudspeaker for a moment as soon as nothing sounds, or try again to open it."""
        self._playback.request_reopen(at_once=self._lost)

    def wake(self) -> None:
        """Look whether it is time to stop."""
        self._playback.close()

    def run(self, stopping: threading.Event) -> None:
        """Play until *stopping*."""
        speaker: Speaker = self._speaker
        while not stopping.is_set():
            try:
                if not self._play(speaker):
                    return
                self._closed.meet()
                speaker, self._lost = self._speaker, False
            except DeviceFailed as error:
                if not self._patient:
                    raise
                speaker, self._lost = SilentSpeaker(), True
                self._begun = None
                self._tell(SpeakerLost(str(error)))

    def _play(self, speaker: Speaker) -> bool:
        """Play until the loudspeaker is to be opened again (True), or the end (False)."""
        with closing(speaker):
            speaker.open()
            if speaker is self._speaker:
                self._tell(DeviceReady(Port.SPEAKER))
            while True:
                self.pulse.rest()
                item = self._playback.read()
                self.pulse.beat()
                if item is None or item is Marker.REOPEN:
                    return item is Marker.REOPEN
                self._take(speaker, item)

    def _take(self, speaker: Speaker, item: OutputFrame | PlaybackStarted | PlaybackEnded | Marker) -> None:
        match item:
            case Marker.FLUSH:
                speaker.drop()
                self._echo.dropped(time.monotonic())
                self._begun = None
            case PlaybackStarted():
                self._begun = item
            case PlaybackEnded():
                speaker.drain(self._playback.interrupted)
                self._tell(item)
            case OutputFrame():
                self.level.measure(item.pcm)
                self._echo.played(item, speaker.latency, time.monotonic())
                speaker.write(item.pcm, self._playback.interrupted)
                if self._begun is not None:
                    self._tell(self._begun)
                    self._begun = None
