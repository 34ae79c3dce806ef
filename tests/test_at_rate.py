"""A session at another rate than the device's."""

from __future__ import annotations

import base64
import json

import numpy as np

from device_agent.at_rate import AtRate
from device_agent.audio import likeness, resample
from device_agent.credentials import Secret
from device_agent.events import LinkUp, ReplyAudio, ReplyEnded, TalkEnded, TalkStarted
from device_agent.services.openai import OpenAI
from device_agent.services.xai import Xai


def noise(rate: int) -> bytes:
    """Half a second that has nothing above 4 kHz, so that both rates can hold it."""
    slow = np.random.default_rng(1).integers(-9000, 9000, 4000).astype(np.int16).tobytes()
    return resample(slow, 8000, rate)


def test_sound_goes_up_and_comes_down_whole_at_the_other_rate():
    session = AtRate(Xai(Secret("k"), rate=16000).session(), 16000, 24000)
    session.tick(1.0)
    session.greet()
    assert list(session.receive('{"type": "session.updated"}')) == [LinkUp()]
    assert session.ready
    session.outgoing()

    said = noise(24000)
    session.send(TalkStarted())
    for at in range(0, len(said), 960):
        session.send(said[at : at + 960])
    session.send(TalkEnded())
    frames = [json.loads(message) for message in session.outgoing()]
    up = b"".join(base64.b64decode(frame["audio"]) for frame in frames if "audio" in frame)
    assert abs(len(up) - len(noise(16000))) < 8
    assert likeness(noise(16000)[1000:-1000], up)[0] > 0.99

    list(session.receive(json.dumps({"type": "response.created", "response": {"id": "r"}})))
    events = []
    for at in range(0, len(up), 5000):
        delta = base64.b64encode(up[at : at + 5000]).decode()
        events += session.receive(json.dumps({"type": "response.audio.delta", "response_id": "r", "delta": delta}))
    events += session.receive(json.dumps({"type": "response.done", "response": {"id": "r"}}))
    down = b"".join(event.pcm for event in events if isinstance(event, ReplyAudio))
    assert isinstance(events[-1], ReplyEnded)
    assert abs(len(down) - len(said)) < 8
    assert likeness(said[1000:-1000], down)[0] > 0.99


def test_it_listens_as_soon_as_the_session_does():
    session = AtRate(OpenAI().session(), 24000, 16000)
    session.greet()
    assert not session.listens
    list(session.receive('{"type": "session.created"}'))
    assert (session.listens, session.ready) == (True, False)
