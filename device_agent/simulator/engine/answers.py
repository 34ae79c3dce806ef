"""What the service answers. It cannot understand or think, and is honest about that: a spoken turn is answered with the
sound of that very turn, a text with a tune, and the words say what was measured. Pure."""

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
"""How much of a text is repeated in an answer."""


@dataclass(frozen=True)
class Thought:
    """What there is to answer: sound, its transcript, and perhaps a function to call with arguments as JSON."""

    pcm: bytes = field(repr=False)
    text: str
    calls: tuple[str, str] | None = None


def measured(pcm: bytes, rate: int, threshold_db: float) -> str:
    """Return what can be said of the words in *pcm*."""
    if spoken := speech_seconds(pcm, rate, threshold_db):
        return f"({spoken:.1f} seconds of speech)"
    return f"({seconds(pcm, rate):.1f} seconds without speech)"


def think(
    asked: Item | None, functions: Sequence[str], manners: Behaviour, rate: int, *, aloud: bool = True
) -> Thought:
    """Return the answer to what was *asked*, at this *rate*. Not *aloud*: without sound."""
    if asked is None:
        return sung("", rate, "Hello, I am a simulator.", aloud=aloud)
    calls = call_for(asked, functions, manners)
    if calls:
        text = f"I will use {calls[0]}."
        return sung(text, rate, text, aloud=aloud, calls=calls)
    if asked.sound:
        pcm = resample(asked.sound, asked.rate, rate) if aloud else b""
        return Thought(pcm, f"You said: {asked.text}.")
    who = "The tool said" if asked.type == "function_call_output" else "You wrote"
    return sung(asked.text, rate, f"{who}: {asked.text[:MAX_QUOTE]}", aloud=aloud)


def sung(tune: str, rate: int, text: str, *, aloud: bool = True, calls: tuple[str, str] | None = None) -> Thought:
    """Return *text* with the melody of *tune*."""
    return Thought(melody(tune, rate) if aloud else b"", text, calls)


def call_for(asked: Item, functions: Sequence[str], manners: Behaviour) -> tuple[str, str] | None:
    """Return which of *functions* to call: the one a text names, with the JSON object in it; or the one *manners* name,
    because words are beyond us."""
    if asked.role != "user" or not functions:
        return None
    if asked.sound:
        wanted = functions[0] if manners.tool == "*" else manners.tool
        return (wanted, manners.tool_arguments) if wanted in functions else None
    named = next((name for name in functions if re.search(rf"\b{re.escape(name)}\b", asked.text)), None)
    if named is None:
        return None
    found = re.search(r"\{.*\}", asked.text, re.DOTALL)
    return named, found.group() if found else "{}"
