"""Ports of the device, each with a real and a simulated driver: PortAudio or a WAV file, GPIO or a terminal.

A microphone and a loudspeaker are opened, used and closed by **one thread**, their owner (PortAudio crashes otherwise).
Buttons, controls and lights belong to the main thread; their callbacks run in another one and only tell the inbox.
"""
