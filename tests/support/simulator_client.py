"""The other end of a simulated voice, without a socket, a thread or a clock: for the tests of every dialect."""

from __future__ import annotations

import base64
import json
import wave
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
from hypothesis import strategies as st

from device_agent.simulator import QUESTION
from device_agent.simulator.contract import Behaviour, ConnectionLog, Drop, Goodbye, Happening, ServiceSession

Make = Callable[[Behaviour, ConnectionLog], ServiceSession]

RATE = 24000


def tone(seconds: float, rate: int = RATE, loudness: float = 0.2) -> bytes:
    time = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 300 * time) * loudness * 32767).astype(np.int16).tobytes()


def silence(seconds: float, rate: int = RATE) -> bytes:
    return bytes(2 * round(seconds * rate))


def question() -> bytes:
    with QUESTION.open("rb") as file, wave.open(file) as sound:
        return sound.readframes(sound.getnframes())


class Client:
    """The other end: speaks to a voice, moves the clock, and keeps what came back."""

    def __init__(
        self, make: Make, *, model: str = "a-model", number: int = 1, greet: bool = True, **behaviour: Any
    ) -> None:
        """*make* makes the session, from a behaviour and a log."""
        self.heard = ConnectionLog(number, model)
        self.voice = make(Behaviour(**{"ping_s": 0, **behaviour}), self.heard)
        self.now = 100.0
        self.ended: Goodbye | Drop | None = None
        self.events: list[dict[str, Any]] = []
        self.binary: list[bytes] = []
        self.moments: list[str] = []
        if greet:
            self.voice.connected(self.now)
            self.listen()

    def listen(self) -> list[dict[str, Any]]:
        """Take what the voice says now."""
        news: list[dict[str, Any]] = []
        for item in self.voice.outgoing():
            assert self.ended is None or isinstance(item, Happening), item
            if isinstance(item, Happening):
                self.moments.append(item.moment)
            elif isinstance(item, (Goodbye, Drop)):
                self.ended = item
            elif isinstance(item, bytes):
                self.binary.append(item)
            else:
                news.append(json.loads(item))
        self.events += news
        return news

    def raw(self, message: str | bytes) -> list[dict[str, Any]]:
        self.voice.receive(message, self.now)
        return self.listen()

    def say(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        return self.raw(json.dumps({"type": kind, **fields}))

    def append(self, pcm: bytes, piece: int = 4800) -> list[dict[str, Any]]:
        news = []
        for start in range(0, len(pcm), piece):
            audio = base64.b64encode(pcm[start : start + piece]).decode()
            news += self.say("input_audio_buffer.append", audio=audio)
        return news

    def text(self, text: str) -> list[dict[str, Any]]:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        return self.say("conversation.item.create", item=item)

    def wait(self, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Let time pass, waking the voice when it wants to be woken."""
        end, news = self.now + seconds, []
        while self.voice.deadline is not None and self.voice.deadline <= end:
            self.now = max(self.now, self.voice.deadline)
            self.voice.tick(self.now)
            news += self.listen()
        self.now = end
        return news

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Let time pass until the voice says *kind*."""
        news: list[dict[str, Any]] = []
        while kind not in types(news):
            assert self.voice.deadline is not None, types(news)
            self.now = self.voice.deadline
            self.voice.tick(self.now)
            news += self.listen()
        return news


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def order(events: list[dict[str, Any]]) -> list[str]:
    """The types with repetitions, and sound mixed with words, taken together."""
    pieces = ("response.output_audio.delta", "response.output_audio_transcript.delta")
    return [kind for kind, _ in groupby("pieces" if kind in pieces else kind for kind in types(events))]


def only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [event for event in events if event["type"] == kind]
    return found


def sound(events: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")


def refusal(events: list[dict[str, Any]]) -> str:
    return str(only(events, "error")["error"]["code"])


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SOUNDS = st.sampled_from([tone(0.05), tone(0.4), silence(0.3), silence(0.7), b"odd", b""])
