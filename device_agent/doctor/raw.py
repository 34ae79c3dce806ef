"""Microphone that keeps all channels of its card, and not only the one that is used."""

from __future__ import annotations

from ..config.model import MicrophoneConfig
from ..hardware.portaudio import PortAudioMicrophone


class RawMicrophone(PortAudioMicrophone):
    """A PortAudio microphone at *rate* Hz that also keeps what the card delivers. Belongs to one thread."""

    def __init__(self, microphone: MicrophoneConfig, rate: int) -> None:
        super().__init__(rate, microphone.device, microphone.channel)
        self._kept: list[bytes] = []

    @property
    def raw(self) -> bytes:
        """All audio since ``open``, its channels interleaved."""
        return b"".join(self._kept)

    @property
    def form(self) -> tuple[int, int]:
        """Number of channels of the card, and its rate in Hz."""
        return self._card.channels, self._card.rate

    @property
    def heard(self) -> int:
        """The channel in use, from 1."""
        return self._channels.heard

    def _record(self) -> bytes:
        pcm = super()._record()
        self._kept.append(pcm)
        return pcm
