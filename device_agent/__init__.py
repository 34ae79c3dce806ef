"""A smart speaker for a realtime voice service: microphone, button, light and loudspeaker on a Raspberry Pi."""

__version__ = "0.1.0"
