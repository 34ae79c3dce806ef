"""Short sounds, and how they are taken out of what the microphone hears."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.audio.cues import CUE_TONES_HZ, MELODIES, CuePolicy, Cues
from device_agent.config.model import CUES
from device_agent.core.actions import Cue
from device_agent.dsp.correlation import likeness
from device_agent.dsp.notch_filter import ToneFilter
from device_agent.dsp.pcm import frame_bytes, level, samples, seconds
from device_agent.dsp.resampling import resample
from tests.support.room import speech

RATE = 24000


def cues(rate: int = RATE, volume: int = 100, **settings: object) -> Cues:
    return Cues(rate, CuePolicy(volume, 70, **settings))


def in_a_room(pcm: bytes, rate: int, seed: int, delay_s: float = 0.07) -> bytes:
    """Return what a microphone hears of a loudspeaker across a room that echoes for 0.3 s."""
    rng = np.random.default_rng(seed)
    count = samples(0.3, rate)
    answer = rng.standard_normal(count) * np.exp(-6.9 * np.arange(count) / count)
    answer[0] = 4.0
    answer /= np.sqrt(answer @ answer)
    size = len(pcm) // 2 + count
    wave = np.fft.irfft(np.fft.rfft(np.frombuffer(pcm, np.int16), size) * np.fft.rfft(answer, size), size)
    return bytes(2 * samples(delay_s, rate)) + (0.3 * wave).astype(np.int16).tobytes()


def combed(pcm: bytes, rate: int) -> bytes:
    comb, size = ToneFilter(rate, CUE_TONES_HZ), frame_bytes(rate)
    return b"".join(comb.clean(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size))


def added(one: bytes, other: bytes) -> bytes:
    size = max(len(one), len(other))
    waves = [np.frombuffer(pcm.ljust(size, b"\0"), np.int16).astype(int) for pcm in (one, other)]
    return np.clip(waves[0] + waves[1], -32768, 32767).astype(np.int16).tobytes()


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("cue", Cue)
def test_every_cue_is_short_soft_at_its_edges_and_not_too_loud(cue, rate):
    pcm = cues(rate).sound(cue)
    wave = np.frombuffer(pcm, np.int16).astype(int)
    assert 0.05 < seconds(pcm, rate) <= 1.0
    assert 3000 < abs(wave).max() < 17000
    assert abs(wave[:5]).max() < 100
    assert abs(wave[-5:]).max() < 100


def test_no_two_cues_are_the_same():
    assert len(set(MELODIES.values())) == len(Cue)


def test_all_but_the_alarm_can_be_switched_off():
    silent, none = cues(volume=0), cues(wanted=())
    for cue in Cue:
        assert bool(silent.sound(cue)) == bool(none.sound(cue)) == (cue is Cue.ALARM)


def test_those_that_are_not_wanted_are_silent():
    some = cues(wanted=("listening",))
    assert some.sound(Cue.LISTENING)
    assert some.sound(Cue.DONE) == b""


def test_the_cue_of_the_volume_is_as_loud_as_the_volume_but_off_when_cues_are():
    assert level(cues().sound(Cue.VOLUME, 50)) < level(cues().sound(Cue.VOLUME, 100)) - 10
    assert cues(volume=0).sound(Cue.VOLUME, 100) == b""


def test_config_knows_every_cue():
    assert {*CUES, "alarm"} == {cue.value for cue in Cue}


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
@pytest.mark.parametrize("cue", Cue)
def test_thirty_decibels_of_every_cue_are_taken_out_whatever_the_room_does(cue, rate):
    for seed in range(3):
        heard = in_a_room(cues(rate).sound(cue), rate, seed)
        assert level(combed(heard, rate)) < level(heard) - 30


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_a_voice_that_begins_under_a_cue_stays_a_voice(rate):
    said = resample(speech(), RATE, rate)
    beep = in_a_room(cues(rate).sound(Cue.LISTENING), rate, 1)
    cleaned = combed(added(said, beep), rate)
    assert likeness(cleaned, said)[0] > 0.96  # what is lost are three narrow bands
    assert likeness(cues(rate).sound(Cue.LISTENING), cleaned)[0] < 0.15


def test_what_passes_by_is_untouched_and_remembered():
    beep = cues().sound(Cue.LISTENING).ljust(10 * frame_bytes(RATE), b"\0")
    comb, size = ToneFilter(RATE, CUE_TONES_HZ), frame_bytes(RATE)
    comb.pass_by(beep[:size])
    assert level(comb.clean(beep[size : 2 * size])) < level(beep[size : 2 * size]) - 25
