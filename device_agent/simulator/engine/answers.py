"""Answers of the simulated services: a spoken turn is answered with its own sound, a text with a tune. Pure.

The simulator understands nothing: the words of an answer say what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...dsp.pcm import seconds
from ...dsp.resampling import resample
from ..contract import Behaviour
from .items import Item
from .reply_audio import melody
from .server_vad import speech_seconds

MAX_QUOTE = 1000
"""Characters of a text that are repeated in an answer."""


@dataclass(frozen=True)
class Thought:
    """An answer: sound, its transcript, and perhaps a function to call with arguments as JSON."""

    pcm: bytes = field(repr=False)
    text: str
    calls: tuple[str, str] | None = None


def measured(pcm: bytes, rate: int, threshold_db: float) -> str:
    """Return the transcript of *pcm*."""
    if spoken := speech_seconds(pcm, rate, threshold_db):
        return f"({spoken:.1f} seconds of speech)"
    return f"({seconds(pcm, rate):.1f} seconds without speech)"


def think(
    asked: Item | None, functions: Sequence[str], behaviour: Behaviour, rate: int, *, aloud: bool = True
) -> Thought:
    """Return the answer to *asked* with sound at *rate*, or without sound."""
    if asked is None:
        return sung("", rate, "Hello, I am a simulator.", aloud=aloud)
    if calls := call_for(asked, functions, behaviour):
        text = f"I will use {calls[0]}."
        return sung(text, rate, text, aloud=aloud, calls=calls)
    if asked.sound:
        return Thought(resample(asked.sound, asked.rate, rate) if aloud else b"", f"You said: {asked.text}.")
    source = "The tool said" if asked.type == "function_call_output" else "You wrote"
    return sung(asked.text, rate, f"{source}: {asked.text[:MAX_QUOTE]}", aloud=aloud)


def sung(tune: str, rate: int, text: str, *, aloud: bool = True, calls: tuple[str, str] | None = None) -> Thought:
    """Return *text* with the melody of *tune*."""
    return Thought(melody(tune, rate) if aloud else b"", text, calls)


def call_for(asked: Item, functions: Sequence[str], behaviour: Behaviour) -> tuple[str, str] | None:
    """Return which of *functions* to call, with arguments: for a text the one that it names, with the JSON object in
    it; for speech the one in *behaviour*."""
    if asked.role != "user" or not functions:
        return None
    if asked.sound:
        wanted = functions[0] if behaviour.tool == "*" else behaviour.tool
        return (wanted, behaviour.tool_arguments) if wanted in functions else None
    named = next((name for name in functions if re.search(rf"\b{re.escape(name)}\b", asked.text)), None)
    found = re.search(r"\{.*\}", asked.text, re.DOTALL)
    return (named, found.group() if found else "{}") if named else None
