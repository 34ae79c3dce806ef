"""Arithmetic of sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import (
    DITHER,
    SILENCE_DB,
    Gain,
    frame_bytes,
    frames,
    is_nothing,
    level,
    loudness,
    powers,
    unfold,
)
from device_agent.dsp.resampling import Framer, Resampler, resample


def tone(rate: int, hertz: float = 440.0, length: float = 1.0, amplitude: float = 8000.0) -> bytes:
    wave = amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * length)) / rate)
    return wave.round().astype(np.int16).tobytes()


def chirp(rate: int, length: float) -> bytes:
    """A tone that rises from 200 Hz by 2 kHz in a second: unlike itself anywhere else."""
    time = np.arange(round(rate * length)) / rate
    return (8000 * np.sin(2 * np.pi * (200 * time + 1000 * time**2))).round().astype(np.int16).tobytes()


def test_a_frame_is_twenty_milliseconds():
    assert [frame_bytes(rate) for rate in (16000, 24000, 48000)] == [640, 960, 1920]
    assert [frames(ms) for ms in (0, 20, 30, 700)] == [0, 1, 2, 35]


def test_levels_are_in_decibels_below_full_scale():
    assert level(np.full(100, -32768, np.int16).tobytes()) == pytest.approx(0.0)
    assert level(tone(24000, amplitude=32767)) == pytest.approx(-3.01, abs=0.01)
    assert level(bytes(960)) == level(b"") == SILENCE_DB


@pytest.mark.parametrize(
    ("there", "back"),
    [
        *[(24000, 16000), (24000, 48000), (24000, 44100), (16000, 24000)],
        *[(24000, 11025), (11025, 24000), (24000, 192000), (192000, 24000), (16000, 88200)],
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 960, 5000])
def test_a_stream_keeps_its_length_and_its_sound_at_another_rate(there, back, piece):
    sound, stream = chirp(there, 1.0), Resampler(there, back)
    out = b"".join(stream.feed(sound[n : n + 2 * piece]) for n in range(0, len(sound), 2 * piece)) + stream.flush()
    assert abs(len(out) - len(sound) * back // there) <= 2 * 2
    fit, at = likeness(chirp(back, 0.5), out)
    assert fit > 0.999
    assert at <= 1


def test_equal_rates_pass_bit_for_bit():
    assert resample(tone(24000), 24000, 24000) == tone(24000)


def test_what_was_cleared_is_not_heard_later():
    stream = Resampler(24000, 48000)
    stream.feed(tone(24000))
    stream.clear()
    assert level(stream.feed(bytes(9600)) + stream.flush()) == SILENCE_DB


def test_mono_is_unfolded_to_as_many_as_are_wanted():
    assert unfold(np.array([1, 2], np.int16).tobytes(), 3) == np.array([1, 1, 1, 2, 2, 2], np.int16).tobytes()
    assert unfold(tone(8000), 1) == tone(8000)


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 9))
def test_frames_are_the_stream_in_equal_pieces(pieces, size):
    framer, out = Framer(size), []
    for piece in pieces:
        framer.feed(piece)
        while frame := framer.take():
            out.append(frame)
    rest = framer.flush()
    stream = b"".join(pieces)
    assert all(len(frame) == size for frame in out)
    assert b"".join(out) + rest == stream.ljust(len(b"".join(out) + rest), b"\0")
    assert len(rest) in (0, size)


def test_full_volume_changes_nothing_and_none_is_silence():
    assert Gain(100).apply(tone(24000)) == tone(24000)
    assert level(Gain(0).apply(tone(24000))) == SILENCE_DB


def test_a_change_of_volume_glides():
    gain = Gain(100)
    gain.set(0)
    steps = np.diff(np.frombuffer(gain.apply(np.full(480, 10000, np.int16).tobytes()), np.int16).astype(int))
    assert abs(steps).max() < 100
    assert level(gain.apply(tone(24000))) == SILENCE_DB


def test_likeness_finds_a_sound_in_a_recording():
    rng = np.random.default_rng(1)
    speech = rng.integers(-9000, 9000, 5000).astype(np.int16).tobytes()
    quieter = (np.frombuffer(speech, np.int16) // 3).tobytes()
    assert likeness(speech, bytes(2000) + quieter + bytes(998)) == (pytest.approx(1.0, abs=1e-3), 1000)
    other = rng.integers(-9000, 9000, 9000).astype(np.int16).tobytes()
    assert likeness(speech, other)[0] < 0.2
    assert likeness(speech, bytes(90000)) == (0.0, 0)


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_digital_silence_is_nothing_at_any_rate_and_with_any_offset(rate):
    resampler = Resampler(rate, 24000)
    pieces = [resampler.feed(bytes(frame_bytes(rate))) for _ in range(100)]
    assert all(map(is_nothing, pieces))
    assert is_nothing(np.full(480, -700, np.int16).tobytes())


def test_the_quietest_room_is_something():
    noise = np.random.default_rng(1).normal(0, 3, 480).round().astype(np.int16)
    assert not is_nothing(noise.tobytes())


def test_one_loud_sample_anywhere_in_a_frame_is_something():
    for at in range(480):
        click = np.zeros(480, np.int16)
        click[at] = 2 * DITHER + 1
        assert not is_nothing(click.tobytes())


def test_an_offset_is_no_part_of_the_swing():
    assert powers(np.tile([990.0, 1010.0], 240)) == (1000**2 + 10**2, 10**2)
    assert powers(np.full(480, -32768.0)) == (32768**2, 0)
    assert powers(np.empty(0)) == (0, 0)


def test_a_volume_that_stays_is_the_end_of_the_glide_to_it():
    wave = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).tobytes()
    gain = Gain(100)
    gain.set(30)
    gain.apply(wave)
    ramp = np.linspace(loudness(30), loudness(30), len(wave) // 2, dtype=np.float32)
    expected = np.rint(np.frombuffer(wave, np.int16) * ramp).astype(np.int16)
    assert gain.apply(wave) == expected.tobytes()
