"""Audio payloads inside JSON: base64 of PCM, or of G.711 to save bandwidth."""

from __future__ import annotations

import base64

from ..dsp.g711 import Codec
from .json_fields import Samples


class AudioPayload:
    """Encoder and decoder of one connection. *codec* is None for PCM."""

    def __init__(self, codec: Codec | None) -> None:
        self._codec = codec
        self.begin()

    @property
    def is_pcm(self) -> bool:
        """Whether the audio is PCM and not G.711."""
        return self._codec is None

    def begin(self) -> None:
        """Begin another reply: half a sample of the previous one is dropped."""
        self._samples = Samples()

    def pack(self, pcm: bytes) -> str:
        """Return *pcm* as the service takes it, in base64."""
        return base64.b64encode(self._codec.encode(pcm) if self._codec else pcm).decode()

    def unpack(self, delta: str) -> bytes:
        """Return the whole samples in one piece of a reply. Raises ValueError if it is damaged."""
        sound = base64.b64decode(delta)
        return self._codec.decode(sound) if self._codec else self._samples.whole(sound)
