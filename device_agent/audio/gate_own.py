"""How much of the device's own voice is in a frame."""

from __future__ import annotations

from enum import Enum


class Own(Enum):
    """How much of our own voice may be in a frame of the microphone."""

    NONE = "none"
    FADING = "fading"
    """The loudspeaker is silent again, the room not yet: no speech in it counts, but a first syllable may be there."""
    LOUD = "loud"
    """No speech in it counts, and it is not kept as preroll."""
