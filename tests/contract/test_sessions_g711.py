"""G.711 is the arithmetic of the standard, and fast enough for the smallest board."""

from __future__ import annotations

import base64
import json
import struct
import warnings

import pytest

from device_agent.core.events import ReplyAudio, TalkEnded, TalkStarted
from device_agent.dsp import g711
from tests.support.peers import Peer

EVERY = struct.pack("<65536h", *range(-32768, 32768))
CODES = bytes(range(256))
LAWS = {"pcmu": g711.pcmu, "pcma": g711.pcma}


def samples(pcm: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm)


def test_every_sample_and_every_code_is_what_the_old_standard_library_made_of_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="audioop is gone from Python 3.13")
    mu, a = g711.pcmu(), g711.pcma()
    assert mu.encode(EVERY) == audioop.lin2ulaw(EVERY, 2)
    assert a.encode(EVERY) == audioop.lin2alaw(EVERY, 2)
    assert mu.decode(CODES) == audioop.ulaw2lin(CODES, 2)
    assert a.decode(CODES) == audioop.alaw2lin(CODES, 2)


@pytest.mark.parametrize(
    ("law", "code", "sample"),
    [
        ("pcmu", 0x00, -32124), ("pcmu", 0x80, 32124), ("pcmu", 0xFF, 0), ("pcmu", 0x7F, 0), ("pcmu", 0xF0, 120),
        ("pcma", 0xD5, 8), ("pcma", 0x55, -8), ("pcma", 0xAA, 32256), ("pcma", 0x2A, -32256), ("pcma", 0x80, 5504),
    ],
)  # fmt: skip
def test_published_values(law, code, sample):
    assert samples(LAWS[law]().decode(bytes([code]))) == (sample,)


@pytest.mark.parametrize("law", LAWS)
def test_a_code_survives_the_way_there_and_back(law):
    codec = LAWS[law]()
    again = codec.encode(codec.decode(CODES))
    assert codec.decode(again) == codec.decode(CODES)  # mu-law has two zeros


@pytest.mark.parametrize("law", LAWS)
def test_a_session_speaks_it_both_ways(law):
    peer = Peer("xai", {"audio": law, "rate": 24000})
    codec = LAWS[law]()
    assert peer.service.rate == 8000
    audio = peer.frames()[0]["session"]["audio"]
    assert [audio[way]["format"] for way in ("input", "output")] == [{"type": f"audio/{law}"}] * 2
    peer.ready()
    peer.send(TalkStarted(), EVERY[:320], TalkEnded())
    assert peer.hears() == codec.encode(EVERY[:320])
    peer.say(*peer.begins("r1"))
    sound = base64.b64encode(CODES[:3]).decode()  # an odd number of bytes is no half sample here
    told = peer.say(json.dumps({"type": "response.output_audio.delta", "response_id": "r1", "delta": sound}))
    assert told[-1] == ReplyAudio("r1", codec.decode(CODES[:3]))
