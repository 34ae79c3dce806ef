"""A service whose sound has another rate than the device's."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.core.events import AudioTurn, ReplyAudio, ReplyEnded, TalkEnded, TalkStarted
from device_agent.dsp.correlation import likeness
from device_agent.dsp.resampling import resample
from device_agent.link.rate_adapter import RateAdapter


def noise(rate: int) -> bytes:
    """Half a second that has nothing above 4 kHz, so that all rates can hold it."""
    slow = np.random.default_rng(1).integers(-9000, 9000, 4000).astype(np.int16).tobytes()
    return resample(slow, 8000, rate)


def up(adapter: RateAdapter, rate: int, *items: object) -> list:
    return [each for item in items for each in adapter.up(item, rate)]


def pieces(pcm: bytes, size: int) -> list[bytes]:
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


@pytest.mark.parametrize(("device", "service"), [(24000, 16000), (16000, 24000), (24000, 48000), (24000, 22050)])
def test_sound_goes_up_and_comes_down_whole_at_the_other_rate(device, service):
    adapter = RateAdapter(device)
    said = noise(device)
    sent = up(adapter, service, TalkStarted(), *pieces(said, 960), TalkEnded())
    assert (sent[0], sent[-1]) == (TalkStarted(), TalkEnded())
    sound = b"".join(sent[1:-1])
    assert abs(len(sound) - len(noise(service))) < 8
    assert likeness(noise(service)[1000:-1000], sound)[0] > 0.98

    events = [ReplyAudio("r", piece) for piece in pieces(sound, 5000)] + [ReplyEnded("r")]
    heard = [each for event in events for each in adapter.down(event, service)]
    assert heard[-1] == ReplyEnded("r")
    down = b"".join(event.pcm for event in heard[:-1])
    assert abs(len(down) - len(said)) < 8
    assert likeness(said[1000:-1000], down)[0] > 0.98


def test_nothing_empty_goes_up():
    adapter = RateAdapter(24000)
    assert b"" not in up(adapter, 16000, TalkStarted(), bytes(2), bytes(2), TalkEnded(), TalkStarted(), TalkEnded())


def test_equal_rates_pass_untouched():
    adapter = RateAdapter(24000)
    items = [TalkStarted(), b"\1\0", TalkEnded(), AudioTurn(b"\1\0")]
    assert up(adapter, 24000, *items) == items
    assert list(adapter.down(ReplyAudio("r", b"\1\0"), 24000)) == [ReplyAudio("r", b"\1\0")]


def test_a_rate_that_the_service_tells_later_counts_from_then_on():
    adapter = RateAdapter(24000)
    assert len(next(iter(adapter.down(ReplyAudio("r", bytes(960)), 24000))).pcm) == 960
    told = [ReplyAudio("s", bytes(9600)), ReplyEnded("s")]
    sound = [each.pcm for event in told for each in adapter.down(event, 16000) if isinstance(each, ReplyAudio)]
    assert abs(len(b"".join(sound)) - 14400) < 8
