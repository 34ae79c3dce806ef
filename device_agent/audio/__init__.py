"""The two audio threads, and what lies between them: gate, echo control, cues and playback buffer."""
