"""The things a speaker is made of.

Each port has a real and a simulated implementation of the same rank: PortAudio or a WAV file, GPIO or a terminal. A
microphone and a loudspeaker are opened, used and closed by **one thread**, their owner (PortAudio crashes otherwise);
``close`` is harmless on a port that never opened. Buttons, controls and lights belong to the main thread; their
callbacks run in a thread of a library and must do nothing but tell the inbox.
"""
