"""Speech from the package, and the turns that a gate finds in a sound."""

from __future__ import annotations

import math
import wave
from importlib.resources import as_file

import numpy as np

from device_agent.audio.gate import Gate, GatePolicy
from device_agent.core.actions import GateMode
from device_agent.core.events import NoSpeech, TalkEnded, TalkStarted
from device_agent.dsp.pcm import frame_bytes
from device_agent.dsp.resampling import resample
from device_agent.dsp.vad import VoiceDetector
from device_agent.simulator import QUESTION

RATE = 24000


def question() -> np.ndarray:
    with as_file(QUESTION) as path, wave.open(str(path)) as wav:
        return np.frombuffer(wav.readframes(wav.getnframes()), np.int16).astype(float)


def turns(sound: np.ndarray, rate: int = RATE) -> list[tuple[float, float]]:
    """Return begin and end of each turn that a gate which listens finds in *sound*, in seconds; a turn that is still
    open when the sound is over has no end."""
    pcm = resample(np.clip(sound, -32768, 32767).astype(np.int16).tobytes(), RATE, rate)
    gate = Gate(VoiceDetector(rate, 2), GatePolicy(35, 15))
    gate.set_mode(GateMode.VOICE)
    size, found = frame_bytes(rate), []
    for number in range(len(pcm) // size):
        for item in gate.feed(pcm[number * size : (number + 1) * size]):
            if isinstance(item, TalkStarted):
                found.append((number * 0.02, math.inf))
            elif isinstance(item, (TalkEnded, NoSpeech)):
                found[-1] = (found[-1][0], number * 0.02)
    return found
