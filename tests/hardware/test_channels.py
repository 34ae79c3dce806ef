"""Which channel of a microphone is heard, as a table; then on virtual cards with one, two and more of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.errors import DeviceFailed
from device_agent.hardware.channels import MAX_JUDGED_CHANNELS, Channels
from tests.support.cards import FifoCard
from tests.support.echo_room import hiss, speech

RATE = 16000
PIECE = RATE // 50


def sound(wave: np.ndarray) -> np.ndarray:
    return np.rint(32767 * np.clip(wave, -1, 1)).astype(np.int16)


def room(floor_db: float, seed: int = 0) -> np.ndarray:
    return hiss(4 * RATE, floor_db, seed)


def voice(level_db: float = -26.0, floor_db: float = -66.0, seed: int = 0) -> np.ndarray:
    """A second of a quiet room, and then a person speaks in it."""
    wave = room(floor_db, seed)
    words = speech(RATE, 3.0, level_db=level_db)[: 3 * RATE]
    wave[RATE : RATE + len(words)] += words
    return wave


DEAD = np.zeros(4 * RATE)
VOICE, OTHER, FAINT = voice(), voice(-29, seed=1), voice(-58, -84)
OFFSET = np.full(4 * RATE, 0.3)
SETTLING = 0.9 * np.exp(-np.arange(4 * RATE) / (0.03 * RATE))
DITHER = np.random.default_rng(3).integers(-2, 3, 4 * RATE) / 32768
GATED = np.where(np.arange(4 * RATE) < RATE, 0.0, VOICE)
"""The output of a chip that takes noise out: nothing at all, until a person speaks."""
FAR = voice(-38, -54, seed=2)
LOOPED = np.where(np.arange(4 * RATE) < RATE, 0.3 * speech(RATE, 4.0)[: 4 * RATE], 0.0)
"""What the device itself plays, in a channel of its own: before a person speaks."""


@pytest.mark.parametrize(
    ("name", "waves", "heard"),
    [
        ("two good ones", [VOICE, OTHER], 1),
        ("two good ones, the second is louder", [voice(-40), voice(-26)], 1),
        ("the second is dead", [VOICE, DEAD], 1),
        ("the first is dead", [DEAD, VOICE], 2),
        ("the first is dead, the other far away and without gain", [DEAD, FAINT], 2),
        ("the first is dead, but for dither", [DITHER, VOICE], 2),
        ("the first is dead, but for an offset", [OFFSET, VOICE], 2),
        ("the first is dead, and its offset settles", [SETTLING, VOICE], 2),
        ("the first is dead, but for hiss", [room(-62), VOICE], 2),
        ("the first is dead, but for what leaks into it", [VOICE / 60, VOICE], 2),
        ("the first has an offset and a voice", [VOICE + 0.2, OTHER], 1),
        ("the second has an offset", [VOICE, OFFSET], 1),
        ("the second is the first the wrong way round", [VOICE, -VOICE], 1),
        ("the first is the second the wrong way round", [-VOICE, VOICE], 1),
        ("both are dead", [DEAD, DEAD], 1),
        ("both are faint", [FAINT, voice(-58, -84, seed=1)], 1),
        ("an array: processed, and five raw ones", [VOICE, *[voice(-38, -54, seed) for seed in range(5)]], 1),
        ("an array whose chip takes all noise out", [GATED, *[FAR] * 5], 1),
        ("an array whose chip also takes its own voice out", [GATED, *[FAR + LOOPED] * 4, LOOPED], 1),
        ("an array whose first two are dead", [DEAD, DEAD, FAR, FAR], 3),
        ("the one that hears is beyond those that are looked at", [*[DEAD] * MAX_JUDGED_CHANNELS, VOICE], 1),
    ],
)
def test_the_first_channel_is_heard_unless_it_is_dead(name, waves, heard):
    picker = Channels(len(waves), RATE)
    out = picker.whole(np.column_stack([sound(wave) for wave in waves]).tobytes())
    spoken = slice(2 * 2 * RATE, None)  # the last two seconds: a person has spoken for one
    assert picker.heard == heard, name
    assert out[spoken] == sound(waves[heard - 1]).tobytes()[spoken]
    assert len(out) == 2 * 4 * RATE


@pytest.mark.parametrize("dead", [DEAD, DITHER, OFFSET], ids=["zeros", "dither", "offset"])
def test_nothing_of_the_first_word_is_lost_to_a_dead_channel(dead):
    """Each piece is judged before it is passed on; the first of them is as soft as the room."""
    out = Channels(2, RATE).whole(np.column_stack([sound(dead), sound(VOICE)]).tobytes())
    words = slice(2 * (RATE + PIECE), None)
    assert out[words] == sound(VOICE).tobytes()[words]


def test_a_channel_that_was_heard_is_heard_for_good():
    """A chip may silence it while it takes out our own voice, or noise; the raw ones hear all that."""
    picker = Channels(2, RATE)
    picker.whole(np.column_stack([sound(VOICE), sound(OTHER)]).tobytes())
    out = picker.whole(np.column_stack([sound(DEAD), sound(OTHER)]).tobytes())
    assert picker.heard == 1
    assert not any(out)


def test_a_channel_that_comes_to_life_is_heard_again():
    picker = Channels(2, RATE)
    picker.whole(np.column_stack([sound(DEAD), sound(VOICE)]).tobytes())
    assert picker.heard == 2
    out = picker.whole(np.column_stack([sound(OTHER), sound(VOICE)]).tobytes())
    assert picker.heard == 1
    assert out[4 * RATE :] == sound(OTHER).tobytes()[4 * RATE :]


def test_a_channel_that_takes_the_place_of_a_dead_one_is_told_once(caplog):
    caplog.set_level("WARNING", "device_agent")
    picker = Channels(2, RATE, name="microphone 'default'")
    for waves in ([DEAD, VOICE], [OTHER / 20, VOICE], [DEAD, VOICE]):
        picker.whole(np.column_stack([sound(wave) for wave in waves]).tobytes())
    (line,) = caplog.messages
    assert line == (
        "microphone 'default': channel 1 of 2 is silent, channel 2 is heard in its place; "
        "microphone.channel: 2 keeps it so"
    )


@pytest.mark.parametrize("chosen", [1, 2, 5])
def test_a_chosen_channel_is_the_one_whatever_the_others_hear(chosen):
    waves = [DEAD] * 5
    waves[chosen % 5] = VOICE  # another one
    waves[chosen - 1] = sound(room(-62, seed=chosen)) / 32767
    picker = Channels(5, RATE, chosen)
    assert (
        picker.whole(np.column_stack([sound(wave) for wave in waves]).tobytes()) == sound(waves[chosen - 1]).tobytes()
    )
    assert picker.heard == chosen


@given(st.integers(1, 12), st.integers(0, 12), st.lists(st.integers(0, 400), max_size=12), st.integers(0, 2**32 - 1))
def test_however_it_is_cut_each_sample_comes_once_and_from_one_of_the_channels(count, chosen, sizes, seed):
    chance = np.random.default_rng(seed)
    picker, chosen = Channels(count, RATE, min(chosen, count) or None), min(chosen, count)
    loudness = 10.0 ** chance.integers(0, 5, count)
    for size in sizes:
        wave = np.clip(chance.normal(0, loudness, (size, count)), -32768, 32767).astype(np.int16)
        out = np.frombuffer(picker.feed(wave.tobytes()), np.int16)
        assert np.array_equal(out, wave[:, picker.heard - 1])
        assert not chosen or picker.heard == chosen


# On cards -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoken() -> np.ndarray:
    pytest.importorskip("pyaudio", reason="needs PyAudio")
    return sound(VOICE[RATE // 2 : 2 * RATE])


def recorded(card: FifoCard, channels: list[np.ndarray], **how: object) -> bytes:
    """Return what a microphone on the card hears of *channels*."""
    microphone = card.process().microphone(RATE, **how)
    microphone.open()
    card.play(np.column_stack(channels).tobytes())
    heard = b"".join(microphone.read() for _ in range(len(channels[0]) // PIECE))
    microphone.close()
    return heard


@pytest.mark.parametrize("vague", [False, True], ids=["it says so", "behind a plugin"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8, 18])
def test_a_card_with_any_number_of_channels_is_opened_and_its_first_is_heard(spoken, count, vague):
    others = [np.zeros_like(spoken)] * (count - 1)
    with FifoCard(RATE, count, only_channels=count, vague=vague) as card:
        assert recorded(card, [spoken, *others]) == spoken.tobytes()


@pytest.mark.parametrize("count", [2, 6])
def test_a_card_whose_first_channel_is_dead_is_heard_by_another(spoken, count):
    nothing = np.zeros_like(spoken)
    with FifoCard(RATE, count) as card:
        heard = recorded(card, [nothing, spoken, *[nothing] * (count - 2)])
    words = slice(RATE, None)  # half a second of silence is before them
    assert heard[words] == spoken.tobytes()[words]


def test_a_card_with_a_pair_wired_the_wrong_way_round_is_heard(spoken):
    with FifoCard(RATE, 2) as card:
        assert recorded(card, [spoken, -spoken]) == spoken.tobytes()


@pytest.mark.parametrize("vague", [False, True], ids=["it says so", "behind a plugin"])
@pytest.mark.parametrize("chosen", [1, 3, 6])
def test_the_chosen_channel_of_a_card_is_heard(spoken, chosen, vague):
    raw = [sound(room(-30, seed)[: len(spoken)]) for seed in range(6)]
    raw[chosen - 1] = spoken
    with FifoCard(RATE, 6, only_channels=6, vague=vague) as card:
        assert recorded(card, raw, channel=chosen) == spoken.tobytes()


@pytest.mark.parametrize("count", [1, 2])
def test_a_channel_that_is_not_there_is_told_with_those_that_are(spoken, count):
    with (
        FifoCard(RATE, count) as card,
        pytest.raises(DeviceFailed, match=r"and microphone.channel is 3: choose 1 to \d, or leave it empty"),
    ):
        card.process().microphone(RATE, channel=3).open()
