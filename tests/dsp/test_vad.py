"""Is this frame speech? With the recorded question, and with noises that are none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.speech_turns import RATE, question, turns


def noise(kind: str, length: int) -> np.ndarray:
    """Return *length* samples at about the loudness of a voice, always the same."""
    rng, time = np.random.default_rng(1), np.arange(length) / RATE
    white = rng.standard_normal(length)
    match kind:
        case "hiss":
            return 300 * white
        case "hum":
            return 600 * sum(np.sin(2 * np.pi * 50 * n * time + n) / n for n in range(1, 9))
        case "clicks":
            return 3000 * white * (np.arange(length) % RATE < 300)
        case _:
            return 3 * white


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_a_question_is_one_turn_at_every_rate(rate):
    ((begin, end),) = turns(np.concatenate([question(), np.zeros(RATE)]), rate)
    assert 0.6 < begin < 0.9
    assert 3.5 < end < 4.1  # 0.7 s after the last word


@pytest.mark.parametrize("kind", ["hiss", "hum", "clicks", "quiet"])
def test_noise_is_no_turn(kind):
    assert turns(noise(kind, 20 * RATE)) == []


@pytest.mark.parametrize("kind", ["hiss", "hum"])
def test_a_question_over_noise_is_one_turn(kind):
    room = noise(kind, 15 * RATE) / 2
    room[8 * RATE : 8 * RATE + len(question())] += question()
    ((begin, end),) = turns(room)
    assert 8.5 < begin < 9.2
    assert 11.0 < end < 12.5


@pytest.mark.parametrize("kind", ["hiss", "hum"])
def test_noise_as_loud_as_a_voice_from_the_first_frame_on_is_no_turn_and_a_word_after_it_is(kind):
    loud = 30 * noise(kind, 5 * RATE)
    ((begin, end),) = turns(np.concatenate([loud, noise("quiet", 3 * RATE), question(), np.zeros(RATE)]))
    assert 8.5 < begin < 9.0
    assert 11.3 < end < 12.5


def test_speech_that_has_begun_when_the_microphone_opens_is_heard_at_the_first_syllable():
    ((begin, _end),) = turns(np.concatenate([question()[round(0.6 * RATE) :], np.zeros(RATE)]))
    assert begin < 0.2  # within what the gate keeps from before


def test_continuous_speech_does_not_become_the_noise_floor():
    words = question()[round(0.6 * RATE) : round(2.4 * RATE)]
    ((begin, end),) = turns(np.concatenate([np.zeros(RATE), *[words] * 20, np.zeros(RATE)]))
    assert begin < 1.3
    assert 36.5 < end < 38.0
