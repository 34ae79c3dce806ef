"""What the doctor says of sound: how loud a microphone is, and what it hears of the loudspeaker in simulated rooms."""

from __future__ import annotations

import wave
from dataclasses import replace

import numpy as np
import pytest

from device_agent.config.model import Config, EchoConfig, MicrophoneConfig, SpeakerConfig, TalkConfig
from device_agent.doctor import channels, echo_advice, microphone_level
from device_agent.doctor.chirp import CHIRP_S, PART_S, Arrival, chirp, find, swallowed
from device_agent.doctor.findings import Finding, Mark
from device_agent.doctor.sound import SoundCheck
from device_agent.dsp.pcm import samples
from tests.support.echo_room import Room, hiss, speech, to_pcm, to_sound, voice

RATE = 24000
DUE_S = 0.5
"""When the chirp was handed over, in the recordings."""


# How loud it is -------------------------------------------------------------------------------------------------------


def spoken(level_db: float = -22.0, floor_db: float = -62.0) -> np.ndarray:
    """Three seconds of a room in which a person says something."""
    words = np.concatenate([np.zeros(samples(0.6, RATE)), speech(RATE, 1.8, level_db=level_db)])
    sound = hiss(samples(3, RATE), floor_db)
    sound[: len(words)] += words
    return sound


def judge(sound: np.ndarray, *, asked: bool = True):
    return microphone_level.judge(microphone_level.measure(to_pcm(sound), RATE), asked=asked)


def test_a_voice_in_a_quiet_room_is_fine():
    found = judge(spoken())
    assert (found.mark, found.advice) == (Mark.OK, "")
    assert found.figures["floor_dbfs"] == pytest.approx(-62, abs=1)
    assert found.figures["seconds"] == 3.0
    assert "noise floor -62" in found.text


def test_the_figures_are_those_of_the_sound():
    tone = 0.5 * np.sin(np.arange(3 * RATE) * 2 * np.pi * 440 / RATE)
    measured = microphone_level.measure(to_pcm(tone), RATE)
    assert measured.peak_db == pytest.approx(-6.02, abs=0.01)
    assert measured.rms_db == pytest.approx(-9.03, abs=0.01)
    assert measured.offset == pytest.approx(0, abs=1e-4)
    assert measured.clipped == 0


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_digital_silence_fails_and_is_not_taken_for_a_quiet_room(value):
    found = judge(np.full(3 * RATE, value))
    assert found.mark is Mark.FAIL
    assert "digital silence" in found.text
    assert "alsamixer" in found.advice


def test_digital_silence_with_the_dither_of_a_resampler_is_silence():
    sound = np.random.default_rng(1).integers(-2, 3, 3 * RATE) / 32768
    assert judge(sound).mark is Mark.FAIL
    assert judge(2 * sound, asked=False).mark is Mark.OK


def test_what_is_cut_off_is_told_with_how_much():
    found = judge(np.clip(30 * spoken(), -1, 1))
    assert found.mark is Mark.NOTE
    assert "cut off" in found.text
    assert "turn it down" in found.advice


def test_a_single_crack_is_not_called_too_loud():
    sound = spoken()
    sound[1000:1010] = 1.0
    assert judge(sound).mark is Mark.OK


def test_an_offset_is_told_and_does_not_spoil_the_other_figures():
    found = judge(spoken() + 0.08)
    assert found.mark is Mark.NOTE
    assert "offset of +8 %" in found.text
    assert found.figures["floor_dbfs"] == pytest.approx(-62, abs=1)


def test_a_fan_beside_the_microphone_is_told():
    found = judge(spoken(floor_db=-35))
    assert (found.mark, found.text.split(":")[0]) == (Mark.NOTE, "noisy")


def test_a_soft_voice_is_told():
    found = judge(spoken(-55, -80))
    assert (found.mark, found.text.split(":")[0]) == (Mark.NOTE, "quiet")
    assert "turn it up" in found.advice


def test_missing_speech_is_told_only_where_the_user_was_asked_to_speak():
    sound = hiss(3 * RATE, -62)
    assert judge(sound).text.startswith("nobody spoke")
    assert judge(sound, asked=False).mark is Mark.OK


# How late and how loud it hears itself --------------------------------------------------------------------------------


def recorded(where: Room, *, rate: int = RATE, volume: int = 80, near: np.ndarray | None = None) -> bytes:
    """Return what a microphone records of a chirp that is played after DUE_S."""
    sound = to_sound(chirp(rate, volume))
    played = np.concatenate([np.zeros(samples(DUE_S, rate)), sound, np.zeros(samples(1.8, rate))])
    heard = where.echo(played, rate) + where.noise(len(played))
    if near is not None:
        heard[: len(near)] += near[: len(heard)]
    return to_pcm(heard)


@pytest.mark.parametrize("rate", [8000, 24000])
@pytest.mark.parametrize("delay", [0.003, 0.3, 0.95])
@pytest.mark.parametrize("loss_db", [0.0, 40.0])
@pytest.mark.parametrize(("rt60", "direct_db"), [(0.15, 10.0), (0.9, -10.0)])
def test_delay_and_loudness_of_a_room_are_found(rate, delay, loss_db, rt60, direct_db):
    where = Room(delay=delay, loss_db=loss_db, rt60=rt60, direct_db=direct_db)
    found = find(chirp(rate, 80), recorded(where, rate=rate), rate, DUE_S)
    assert found is not None
    assert found.delay == pytest.approx(delay, abs=0.001)
    assert found.level_db == pytest.approx(-loss_db, abs=1.5)


def test_a_plug_the_wrong_way_round_and_a_loudspeaker_at_its_limit_change_nothing():
    where = Room(delay=0.1, loss_db=10, clips=True)
    turned = to_pcm(-to_sound(recorded(where)))
    found = find(chirp(RATE, 80), turned, RATE, DUE_S)
    assert found is not None
    assert found.delay == pytest.approx(0.1, abs=0.001)
    assert found.level_db == pytest.approx(-10, abs=2)


def test_noise_louder_than_the_echo_leaves_the_delay():
    where = Room(delay=0.1, loss_db=30, rt60=0.15, direct_db=10, noise_db=-40)
    found = find(chirp(RATE, 80), recorded(where), RATE, DUE_S)
    assert found is not None
    assert found.delay == pytest.approx(0.1, abs=0.001)
    assert found.level_db == pytest.approx(-30, abs=2)


@pytest.mark.parametrize("noise_db", [-90.0, -60.0, -20.0])
def test_noise_is_no_echo(noise_db):
    for seed in range(5):
        assert find(chirp(RATE, 80), to_pcm(hiss(samples(2.8, RATE), noise_db, seed)), RATE, DUE_S) is None


def test_the_speech_of_a_person_is_no_echo():
    for number in range(0, 20, 2):
        words = np.concatenate([voice(RATE, pitch=0.75 + 0.03 * number)] * 2)[: samples(2.8, RATE)]
        heard = np.roll(words, 1777 * number) + hiss(len(words), -65, number)
        assert find(chirp(RATE, 80), to_pcm(heard), RATE, DUE_S) is None


def test_an_echo_is_found_while_a_person_speaks():
    where = Room(delay=0.15, loss_db=6)
    found = find(chirp(RATE, 80), recorded(where, near=speech(RATE, 2.5, level_db=-30)), RATE, DUE_S)
    assert found is not None
    assert found.delay == pytest.approx(0.15, abs=0.001)


def test_digital_silence_and_a_recording_that_is_too_short_hold_no_echo():
    assert find(chirp(RATE, 80), bytes(2 * 3 * RATE), RATE, DUE_S) is None
    assert find(chirp(RATE, 80), b"", RATE, DUE_S) is None
    assert find(chirp(RATE, 80), recorded(Room())[: RATE // 2], RATE, DUE_S) is None


def test_a_chirp_is_as_loud_as_the_volume_says_and_has_soft_edges():
    loud, soft = to_sound(chirp(RATE, 100)), to_sound(chirp(RATE, 50))
    assert np.abs(loud).max() == pytest.approx(0.35, abs=0.01)
    assert np.abs(soft).max() == pytest.approx(0.35 / 4, abs=0.01)
    assert np.abs(loud[: samples(0.001, RATE)]).max() < 0.005
    assert np.abs(loud[-samples(0.001, RATE) :]).max() < 0.005
    assert chirp(RATE, 0) == b""


@pytest.mark.parametrize("lost_s", [0.0, 0.05, 0.12, 0.3, 0.45, 0.5])
@pytest.mark.parametrize(("loss_db", "noise_db"), [(0.0, -65.0), (26.0, -65.0), (6.0, -45.0)])
def test_what_a_loudspeaker_swallows_of_a_chirp_is_found_to_a_slot(lost_s, loss_db, noise_db):
    where, sound = Room(delay=0.1, loss_db=loss_db, noise_db=noise_db), to_sound(chirp(RATE, 80))
    cut = sound.copy()
    cut[: samples(lost_s, RATE)] = 0
    gap = np.zeros(samples(1.25, RATE))
    played = np.concatenate([gap, cut, gap, sound, gap, sound, gap, sound, gap])
    heard = to_pcm(where.echo(played, RATE) + where.noise(len(played)))
    every = 1.25 + CHIRP_S
    begins = [1.25 + 0.1 + number * every + late for number, late in enumerate((-0.07, 0.04, 0.0, -0.02))]
    found = swallowed(chirp(RATE, 80), heard, RATE, begins[0], begins[1:])
    assert lost_s - PART_S <= found <= lost_s + PART_S


@pytest.mark.parametrize("at_s", [0.06, 0.2, 0.4])
def test_a_loudspeaker_that_ran_dry_in_the_middle_of_a_chirp_has_swallowed_nothing(at_s):
    sound, at = to_sound(chirp(RATE, 80)), samples(at_s, RATE)
    torn = np.concatenate([sound[:at], np.zeros(samples(0.12, RATE)), sound[at:]])
    gap = np.zeros(samples(1.25, RATE))
    heard = to_pcm(np.concatenate([gap, torn, gap, sound, gap]) + hiss(2 * len(sound) + 3 * len(gap) + 2880, -65))
    begins = [1.25, 1.25 + CHIRP_S + 0.12 + 1.25]
    assert swallowed(chirp(RATE, 80), heard, RATE, begins[0], begins[1:]) == 0.0


def test_a_chirp_that_is_not_there_is_swallowed_wholly():
    begins = [10.0, 10.5, 11.0, 11.5]  # behind the end
    assert swallowed(chirp(RATE, 80), bytes(RATE), RATE, begins[0], begins[1:]) == 0.0  # nor are the others
    heard = to_pcm(hiss(samples(1.0, RATE), -65)) + chirp(RATE, 80) + to_pcm(hiss(samples(1.0, RATE), -65))
    assert swallowed(chirp(RATE, 80), heard, RATE, 0.2, [1.0]) == CHIRP_S


# What is heard in which channel ---------------------------------------------------------------------------------------

SILENT = np.zeros(3 * RATE)


@pytest.mark.parametrize(
    ("name", "waves", "heard", "chosen", "mark", "words"),
    [
        ("a pair", [spoken(), spoken(-25)], 1, None, Mark.OK, "number 1 is heard"),
        (
            "a pair wired the wrong way round",
            [spoken(), -spoken()],
            1,
            None,
            Mark.OK,
            "number 2 is the same but wired the wrong",
        ),
        ("the second is dead", [spoken(), SILENT], 1, None, Mark.OK, "silent"),
        ("the first is dead", [SILENT, spoken()], 2, None, Mark.NOTE, "microphone.channel: 2"),
        ("the first is dead, nobody spoke", [SILENT, hiss(3 * RATE, -70)], 1, None, Mark.NOTE, "microphone.channel: 2"),
        ("the first has hiss only", [hiss(3 * RATE, -62), spoken()], 1, None, Mark.NOTE, "microphone.channel: 2"),
        ("another is noisy, nobody spoke", [hiss(3 * RATE, -72), hiss(3 * RATE, -40)], 1, None, Mark.OK, "number 1"),
        ("the chosen one is dead", [spoken(), SILENT], 2, 2, Mark.NOTE, "microphone.channel: 1"),
        ("the chosen one is alive", [SILENT, spoken()], 2, 2, Mark.OK, "number 2 is heard"),
        ("an array", [spoken()] * 6, 1, None, Mark.OK, "microphone.channel: 1 keeps"),
        ("an array, chosen", [spoken()] * 6, 4, 4, Mark.OK, "number 4 is heard"),
        ("all are silent", [SILENT] * 2, 1, None, Mark.OK, "silent, silent"),
        ("very many", [spoken()] * 20, 1, 1, Mark.OK, "and more"),
    ],
)
def test_the_channels_are_told_with_the_line_to_write(name, waves, heard, chosen, mark, words):
    pcm = np.column_stack([np.frombuffer(to_pcm(wave), np.int16) for wave in waves]).tobytes()
    found = channels.judge(pcm, len(waves), RATE, heard=heard, chosen=chosen)
    assert found is not None
    assert found.mark is mark, name
    assert words in found.text + found.advice


def test_there_is_nothing_to_say_of_one_channel():
    assert channels.judge(to_pcm(spoken()), 1, RATE, heard=1, chosen=None) is None


@pytest.mark.parametrize(
    ("chosen", "heard", "line"), [(None, 2, "microphone.channel: 2"), (2, 2, ""), (1, 1, "channel: 2")]
)
def test_the_channels_of_a_recording_are_told_as_well(tmp_path, chosen, heard, line):
    path = tmp_path / "heard.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        pair = [np.frombuffer(to_pcm(each), np.int16) for each in (SILENT, spoken())]
        file.writeframes(np.column_stack(pair).tobytes())
    config = Config(microphone=MicrophoneConfig(f"wav:{path}", chosen))
    found = {
        each.name: each
        for each in SoundCheck(config, quiet=True, asked=False).microphone()
        if isinstance(each, Finding)
    }
    assert found["channels"].figures["heard"] == heard
    assert found["channels"].advice.count(line) == 1 if line else not found["channels"].advice
    assert found["level"].mark is (Mark.FAIL if chosen == 1 else Mark.OK)


# What follows from it -------------------------------------------------------------------------------------------------

HALF_DUPLEX = Config()
BY_VOICE = replace(Config(), talk=TalkConfig(interrupt="voice"))
CANCELS = replace(BY_VOICE, echo=EchoConfig(mode="cancel"))


def heard(
    *delays: float, level_db: float = -12.0, latency: float = 0.12, clipped: float = 0.0
) -> echo_advice.ChirpResult:
    return echo_advice.ChirpResult(3, [Arrival(delay, level_db) for delay in delays], latency, clipped)


def test_an_echo_with_half_duplex_is_as_it_should_be_and_another_way_is_named():
    found = echo_advice.judge(heard(0.2, 0.2, 0.2), HALF_DUPLEX)
    assert found.mark is Mark.OK
    assert "after 200 ms, 120 of them" in found.text
    assert "-12 dB" in found.text
    assert "echo.mode: cancel" in found.advice
    assert found.figures["beyond_ms"] == 80


def test_an_echo_with_a_canceller_is_as_it_should_be():
    assert echo_advice.judge(heard(0.2, 0.2, 0.2), CANCELS).mark is Mark.OK


def test_an_echo_that_nothing_takes_out_would_interrupt_itself():
    found = echo_advice.judge(heard(0.2, 0.2, 0.2), BY_VOICE)
    assert found.mark is Mark.NOTE
    assert "interrupt itself" in found.advice


def test_hardly_any_echo_is_fine_without_a_canceller():
    assert echo_advice.judge(heard(0.2, 0.2, 0.2, level_db=-45), BY_VOICE).mark is Mark.OK
    assert "talk.interrupt: voice" in echo_advice.judge(heard(0.2, 0.2, 0.2, level_db=-45), HALF_DUPLEX).advice


@pytest.mark.parametrize(
    ("delays", "word"),
    [((0.2, 0.26, 0.2), "unsteady"), ((0.8, 0.8, 0.8), "late")],
)
def test_a_delay_that_no_setting_helps_against_is_told(delays, word):
    found = echo_advice.judge(heard(*delays), CANCELS)
    assert found.mark is Mark.NOTE
    assert word in found.advice


def test_a_delay_that_only_the_canceller_cannot_bear_is_told_where_there_is_one():
    late = heard(0.6, 0.6, 0.6)
    assert echo_advice.judge(late, HALF_DUPLEX).mark is Mark.OK
    assert "echo.mode: cancel" not in echo_advice.judge(late, HALF_DUPLEX).advice
    found = echo_advice.judge(late, CANCELS)
    assert found.mark is Mark.NOTE
    assert "canceller" in found.advice


def test_a_loudspeaker_that_drowns_the_microphone_is_told():
    found = echo_advice.judge(heard(0.2, 0.2, 0.2, level_db=3, clipped=0.1), CANCELS)
    assert found.mark is Mark.NOTE
    assert "too loud" in found.advice


@pytest.mark.parametrize("config", [HALF_DUPLEX, BY_VOICE, CANCELS])
def test_a_loudspeaker_that_is_not_heard_may_be_off_or_be_cancelled(config):
    found = echo_advice.judge(heard(), config)
    assert found.mark is Mark.NOTE
    assert "does not hear" in found.text
    assert "turn the loudspeaker on" in found.advice
    assert "cancels the echo itself" in found.advice


def test_one_chirp_of_three_is_not_believed():
    assert "does not hear" in echo_advice.judge(heard(0.2), HALF_DUPLEX).text
    assert "comes back" in echo_advice.judge(heard(0.2, 0.2), HALF_DUPLEX).text


@pytest.mark.parametrize(
    ("lost_s", "now_ms", "advised"),
    [(0.05, 0, 200), (0.3, 0, 400), (0.3, 200, 600), (CHIRP_S, 0, 1000), (CHIRP_S, 500, 1500)],
)
def test_a_loudspeaker_that_wakes_late_is_told_with_the_line_to_write(lost_s, now_ms, advised):
    found = echo_advice.judge_wake(lost_s, CHIRP_S, replace(Config(), speaker=SpeakerConfig(wake_ms=now_ms)))
    assert found.mark is Mark.NOTE
    assert f"write speaker.wake_ms: {advised}," in found.advice


def test_two_chirps_of_three_are_believed():
    assert [heard(*[0.2] * count).trusted for count in range(4)] == [False, False, True, True]
