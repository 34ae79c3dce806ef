"""The speaker's thread: plays what arrived, says when a reply begins to be heard, and when it has been."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

from .echo import Echo
from .events import DeviceReady, Event, PlaybackEnded, PlaybackStarted
from .hardware import Speaker
from .playback import Marker, Playback, Sound
from .worker import Pulse

SPEAKER = "speaker"


class Mouth:
    """``run`` is the speaker's thread; everything else may be called from any thread."""

    def __init__(self, playback: Playback, speaker: Speaker, echo: Echo, tell: Callable[[Event], None]) -> None:
        self._playback, self._speaker, self._echo, self._tell = playback, speaker, echo, tell
        self._begun: PlaybackStarted | None = None  # to be told when its first sample was handed over
        self.pulse = Pulse()

    @property
    def gaps(self) -> tuple[int, int]:
        """How often the loudspeaker ran dry, and how often what came of replies did."""
        return self._speaker.underruns, self._playback.underruns

    def wake(self) -> None:
        """Look at the world: somebody wants us to stop."""
        self._playback.close()

    def run(self, stopping: threading.Event) -> None:
        """Play until *stopping*."""
        with closing(self._speaker) as speaker:
            speaker.open()
            self._tell(DeviceReady(SPEAKER))
            while not stopping.is_set():
                self.pulse.rest()
                item = self._playback.read()
                self.pulse.beat()
                if item is None:
                    return
                self._take(speaker, item)

    def _take(self, speaker: Speaker, item: Sound | PlaybackStarted | PlaybackEnded | Marker) -> None:
        match item:
            case Marker.DROP:
                speaker.drop()
                self._echo.dropped(time.monotonic())
                self._begun = None
            case PlaybackStarted():
                self._begun = item
            case PlaybackEnded():
                speaker.drain(self._playback.silenced)
                self._tell(item)
            case Sound():
                self._echo.sounds(item, speaker.latency, time.monotonic())
                speaker.write(item.pcm, self._playback.silenced)
                if self._begun is not None:
                    self._tell(self._begun)
                    self._begun = None
