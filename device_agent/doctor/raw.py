"""A microphone that keeps all that its card delivers, and not only the one channel that is heard."""

from __future__ import annotations

from ..config.model import MicrophoneConfig
from ..hardware.portaudio import PortAudioMicrophone


class RawMicrophone(PortAudioMicrophone):
    """The card that is described, at *rate* Hz; in ``raw`` is what it delivered since ``open``. For one thread."""

    def __init__(self, microphone: MicrophoneConfig, rate: int) -> None:
        super().__init__(rate, microphone.device, microphone.channel)
        self._kept: list[bytes] = []

    @property
    def raw(self) -> bytes:
        """All of it, its channels interleaved."""
        return b"".join(self._kept)

    @property
    def form(self) -> tuple[int, int]:
        """How many channels the card was opened with, and its rate in Hz."""
        return self._card.channels, self._card.rate

    @property
    def heard(self) -> int:
        """The channel that is heard, from 1."""
        return self._channels.heard

    def open(self) -> None:
        """Begin to record. Raises DeviceFailed."""
        self._kept.clear()
        super().open()

    def _record(self) -> bytes:
        pcm = super()._record()
        self._kept.append(pcm)
        return pcm
