"""How long our voice takes to the microphone: in a room of software, with a person talking, and without any echo."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from device_agent.dsp.delay_estimator import LAG_SLOTS, TRACK_SLOTS, DelayEstimator, Track
from device_agent.dsp.pcm import SILENCE_DB, level
from tests.support.echo_room import FRAME_S, Happening, Piece, Reply, Room, Scene, speech

RATE = 16000
NOON = 43200.0
REPLIES = (Reply(1.007, speech(RATE, 8, seed=5)), Reply(10.511, speech(RATE, 8, seed=6)))
NO_ECHO = 90.0


def learn(pieces: Iterable[Piece], delay: DelayEstimator | None = None, start: float = NOON) -> DelayEstimator:
    """Tell *delay*, or a new one, of all that happens."""
    delay = delay or DelayEstimator()
    for at, what, pcm in pieces:
        match what:
            case Happening.PLAYED:
                delay.played(level(pcm), start + at)
            case Happening.DROPPED:
                delay.dropped(start + at)
            case Happening.HEARD:
                delay.heard(level(pcm), start + at)
    return delay


def scene(room: Room, replies: tuple[Reply, ...] = REPLIES, **more: object) -> Scene:
    return Scene(room, RATE, 20.0, replies, **more)


def about(seconds: float) -> object:
    """The frame that holds a sound is complete up to 20 ms later; and the resolution is as much."""
    return pytest.approx(seconds + 0.75 * FRAME_S, abs=1.3 * FRAME_S)


@pytest.mark.parametrize("loss", [6.0, 20.0, 35.0])
@pytest.mark.parametrize("delay", [0.0, 0.06, 0.25, 0.5])
def test_the_delay_is_learned(delay, loss):
    assert learn(scene(Room(delay=delay, loss_db=loss)).pieces()).seconds == about(delay)


@pytest.mark.parametrize("room", [Room(direct_db=-10), Room(clips=True), Room(drift_ppm=200), Room(noise_db=-40)])
def test_the_delay_is_learned_in_a_worse_room(room):
    assert learn(scene(room).pieces()).seconds == about(room.delay)


@pytest.mark.parametrize("ahead", [0.04, 0.3])
def test_what_lies_in_the_buffer_of_the_loudspeaker_is_no_part_of_it(ahead):
    assert learn(scene(Room(delay=0.1), ahead=ahead).pieces()).seconds == about(0.1)


def test_frames_that_come_late_and_all_at_once_change_nothing():
    assert learn(scene(Room(delay=0.1), stall=0.2).pieces()).seconds == about(0.1)


def test_nothing_is_known_before_enough_was_heard():
    delay, pieces = DelayEstimator(), scene(Room()).pieces()
    learn([piece for piece in pieces if piece.at < 5.5], delay)
    assert delay.seconds is None
    learn([piece for piece in pieces if piece.at >= 5.5], delay)
    assert delay.seconds is not None


def test_short_replies_teach_it_as_well():
    short = tuple(Reply(1.0 + 4 * n, speech(RATE, 3, seed=n)) for n in range(6))
    assert learn(Scene(Room(delay=0.2), RATE, 25.0, short).pieces()).seconds == about(0.2)


def test_frames_that_are_not_told_between_replies_do_no_harm():
    pieces = [piece for piece in scene(Room(delay=0.2)).pieces() if not 9.5 < piece.at < 10.4]
    assert learn(pieces).seconds == about(0.2)


@pytest.mark.parametrize("seed", range(4))
def test_headphones_teach_nothing_even_when_a_person_talks(seed):
    other = [(1.1, speech(RATE, 18, level_db=-26, seed=70 + seed))]
    assert learn(scene(Room(loss_db=NO_ECHO), near=other).pieces()).seconds is None
    assert learn(scene(Room(loss_db=NO_ECHO, seed=seed)).pieces()).seconds is None


@pytest.mark.parametrize("lag", [0, 1, 15, LAG_SLOTS - 2])
def test_sound_that_lies_in_two_frames_is_found_at_either_of_them(lag):
    levels, delay = np.random.default_rng(3).uniform(-60, -10, 600), DelayEstimator()
    for slot in range(lag + 1, len(levels)):
        delay.played(levels[slot], NOON + slot * FRAME_S)
        delay.heard((levels[slot - lag] + levels[slot - lag - 1]) / 2, NOON + slot * FRAME_S)
    assert delay.seconds in (pytest.approx(lag * FRAME_S), pytest.approx((lag + 1) * FRAME_S))


@pytest.mark.filterwarnings("error")
def test_a_steady_tone_teaches_nothing():
    delay = DelayEstimator()
    for slot in range(600):
        delay.played(-20.0, NOON + slot * FRAME_S)
        delay.heard(-40.0, NOON + slot * FRAME_S)
    assert delay.seconds is None


def test_a_dead_microphone_teaches_nothing():
    delay = DelayEstimator()
    for at, what, pcm in scene(Room()).pieces():
        if what is Happening.HEARD:
            delay.heard(SILENCE_DB, at)
        else:
            delay.played(level(pcm), at)
    assert delay.seconds is None


@pytest.mark.parametrize("seed", range(4))
def test_speech_over_a_reply_does_not_move_the_delay(seed):
    delay = learn(scene(Room(delay=0.2)).pieces())
    other = [(0.5, speech(RATE, 18, level_db=-26, seed=70 + seed))]
    learn(scene(Room(delay=0.2), near=other).pieces(), delay, NOON + 30)
    assert delay.seconds == about(0.2)


def test_another_loudspeaker_has_another_delay():
    delay = learn(scene(Room(delay=0.06)).pieces())
    learn(scene(Room(delay=0.3)).pieces(), delay, NOON + 100)
    assert delay.seconds == about(0.3)


def test_what_was_cut_and_never_sounded_is_not_waited_for():
    """Each reply is cut with half a second in the buffer, and the next one follows at once."""
    cut = tuple(Reply(1.0 + 3.1 * n, speech(RATE, 6, seed=n), cut=4.0 + 3.1 * n) for n in range(6))
    assert learn(Scene(Room(delay=0.1), RATE, 20.0, cut, ahead=0.5).pieces()).seconds == about(0.1)


def test_single_sounds_in_the_same_rhythm_teach_nothing():
    """We click, and a person hammers."""
    delay = DelayEstimator()
    for number in range(1000):
        delay.played(-20.0 if number % 60 < 3 else SILENCE_DB, number * FRAME_S)
        delay.heard(-20.0 if number % 60 in (15, 16, 17) else -60.0, (number + 1) * FRAME_S)
    assert delay.seconds is None


def test_a_track_knows_what_is_too_old_and_what_was_never_there():
    track = Track(math.nan)
    for slot in range(1, TRACK_SLOTS + 11):
        track.put(slot, float(slot))
    assert np.isnan(track.between(1, 11)).all()
    assert track.between(11, 21).tolist() == list(range(11, 21))
    track.put(TRACK_SLOTS + 15, 1.0)
    assert np.isnan(track.between(TRACK_SLOTS + 11, TRACK_SLOTS + 15)).all()
    track.put(TRACK_SLOTS + 14, 2.0)
    track.cut(TRACK_SLOTS + 5)
    track.put(TRACK_SLOTS + 8, 3.0)
    assert np.isnan(track.between(TRACK_SLOTS + 5, TRACK_SLOTS + 8)).all()
    assert track.between(TRACK_SLOTS + 4, TRACK_SLOTS + 5).tolist() == [TRACK_SLOTS + 4]
    assert np.isnan(track.between(TRACK_SLOTS + 9, TRACK_SLOTS + 20)).all()


def test_it_remembers_no_more_than_it_needs():
    delay = DelayEstimator()
    for number in range(3 * TRACK_SLOTS):
        delay.played(-20.0, number * FRAME_S)
    assert len(delay._news) == TRACK_SLOTS
    delay.heard(-20.0, 3 * TRACK_SLOTS * FRAME_S)
    assert not delay._news


def test_a_clock_that_leaps_is_survived():
    delay = DelayEstimator()
    for start in (NOON, NOON + 1e6, 0.0, NOON):
        learn(scene(Room(delay=0.2)).pieces(), delay, start)
    assert delay.seconds == about(0.2)
