"""A smart speaker for a realtime voice service: microphone, button, light and loudspeaker on a Raspberry Pi."""

__version__ = "1.0.0"
