"""Sound as it travels inside JSON: base64 of PCM, or of G.711 where the link is thin."""

from __future__ import annotations

import base64

from ..dsp.g711 import Codec
from .json_fields import Samples


class AudioPayload:
    """Packs what goes up and unpacks what comes down. *codec* is None for PCM."""

    def __init__(self, codec: Codec | None) -> None:
        self._codec = codec
        self._samples = Samples()

    @property
    def is_pcm(self) -> bool:
        """Whether it travels as plain samples."""
        return self._codec is None

    def begin(self) -> None:
        """Another reply begins: what is left of the one before belongs to nobody."""
        self._samples = Samples()

    def pack(self, pcm: bytes) -> str:
        """Return *pcm* as it goes up."""
        return base64.b64encode(self._codec.encode(pcm) if self._codec else pcm).decode()

    def unpack(self, delta: str) -> bytes:
        """Return the whole samples in one piece of a reply. Raises ValueError where it is damaged."""
        sound = base64.b64decode(delta)
        return self._codec.decode(sound) if self._codec else self._samples.whole(sound)
