"""What becomes of our own sound in the microphone: without a thread, a device or a clock."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.audio.cues import LOW_HZ, CuePolicy, Cues
from device_agent.audio.echo_control import CUE_ECHO_TAIL_S, ECHO_TAIL_S, EchoControl
from device_agent.audio.gate import EchoPresence
from device_agent.audio.playback_buffer import OutputFrame
from device_agent.core.actions import Cue
from device_agent.dsp.pcm import frame_bytes, level
from tests.support.room import speech

RATE, LATENCY, FRAME_S = 24000, 0.1, 0.02
SIZE = frame_bytes(RATE)
VOICE = speech()[20 * SIZE : 21 * SIZE]
NOISE = np.random.default_rng(1).integers(-3000, 3000, SIZE // 2).astype(np.int16).tobytes()


class Canceller:
    """One with hands: it halves what it hears, and may not be trusted."""

    trusted = True

    def __init__(self) -> None:
        self.reference: list[bytes] = []

    def played(self, pcm: bytes) -> None:
        self.reference.append(pcm)

    def dropped(self) -> None:
        self.reference.append(b"drop")

    def clean(self, frame: bytes) -> bytes:
        return (np.frombuffer(frame, np.int16) // 2).tobytes()


def speak(echo: EchoControl, frames: int, now: float) -> float:
    """Let so many frames of a reply sound; return when the last has been handed over, by a device with a buffer."""
    for _ in range(frames):
        echo.played(OutputFrame(VOICE, VOICE), LATENCY, now)
        if echo.unheard(now) > LATENCY:
            now += echo.unheard(now) - LATENCY  # what a write does
    return now


def test_it_is_deaf_to_a_reply_until_that_has_died_away_in_the_room():
    echo = EchoControl(RATE)
    assert echo.clean(NOISE, 0.99) == (NOISE, EchoPresence.NONE)
    now = speak(echo, 50, 1.0)
    assert now == pytest.approx(1.9)
    fades = now + LATENCY
    for moment, own in (
        (now, EchoPresence.ACTIVE),
        (fades - 0.01, EchoPresence.ACTIVE),
        (fades + 0.01, EchoPresence.TAIL),
    ):
        assert echo.clean(NOISE, moment) == (NOISE, own)
    assert echo.clean(NOISE, fades + ECHO_TAIL_S - 0.01) == (NOISE, EchoPresence.TAIL)
    assert echo.clean(NOISE, fades + ECHO_TAIL_S + 0.01) == (NOISE, EchoPresence.NONE)


def test_what_waits_in_the_device_is_not_heard_yet():
    echo = EchoControl(RATE)
    assert echo.unheard(0.0) == echo.unheard(5.0) == 0.0
    now = speak(echo, 50, 1.0)
    assert echo.unheard(now) == pytest.approx(LATENCY)
    assert echo.unheard(now + 0.04) == pytest.approx(LATENCY - 0.04)  # it drains
    assert echo.unheard(now + 1.0) == 0.0


def test_the_first_frame_of_a_reply_is_heard_by_the_time_it_lasts():
    echo = EchoControl(RATE)
    speak(echo, 1, 1.0)
    assert echo.unheard(1.0) == pytest.approx(FRAME_S)


def test_a_cut_ends_the_deafness_but_for_the_room():
    echo = EchoControl(RATE)
    now = speak(echo, 50, 1.0)
    echo.dropped(now)
    assert echo.unheard(now) == 0.0
    assert echo.clean(NOISE, now + ECHO_TAIL_S - 0.01)[1] is EchoPresence.TAIL
    assert echo.clean(NOISE, now + ECHO_TAIL_S + 0.01)[1] is EchoPresence.NONE


def test_a_cue_is_taken_out_and_does_not_make_the_agent_deaf():
    echo, beep = EchoControl(RATE), Cues(RATE, CuePolicy(100, 100)).sound(Cue.LISTENING)
    frames = [beep[at : at + SIZE] for at in range(0, len(beep), SIZE)]
    now = 1.0
    heard = []
    for frame in frames:
        echo.played(OutputFrame(frame, cue=True), LATENCY, now)
        cleaned, own = echo.clean(frame, now)
        assert own is EchoPresence.NONE
        heard.append(cleaned)
        now += FRAME_S
    assert level(b"".join(heard)) < level(beep) - 30
    assert echo.clean(NOISE, now + CUE_ECHO_TAIL_S - 0.05)[0] != NOISE
    assert echo.clean(NOISE, now + CUE_ECHO_TAIL_S + 0.05)[0] == NOISE


def test_the_frame_before_a_cue_is_known_to_its_filter():
    wave = np.rint(8000 * np.sin(2 * np.pi * LOW_HZ * np.arange(SIZE) / RATE)).astype(np.int16).tobytes()
    echo = EchoControl(RATE)
    assert echo.clean(wave[:SIZE], 1.0)[0] == wave[:SIZE]
    echo.played(OutputFrame(wave[SIZE:], cue=True), LATENCY, 1.0 + FRAME_S)
    assert level(echo.clean(wave[SIZE:], 1.0 + FRAME_S)[0]) < level(wave) - 30


def test_a_device_that_cancels_by_itself_is_never_deaf():
    echo = EchoControl(RATE, half_duplex=False)
    now = speak(echo, 50, 1.0)
    assert echo.clean(NOISE, now) == (NOISE, EchoPresence.NONE)


def test_an_edit_may_end_the_deafness_and_bring_it_back():
    echo = EchoControl(RATE)
    now = speak(echo, 50, 1.0)
    echo.tune(half_duplex=False)
    assert echo.clean(NOISE, now)[1] is EchoPresence.NONE
    echo.tune(half_duplex=True)
    assert echo.clean(NOISE, now)[1] is EchoPresence.ACTIVE


def test_a_cut_brings_back_nothing_that_is_over():
    echo = EchoControl(RATE)
    now = speak(echo, 50, 1.0) + LATENCY
    echo.played(OutputFrame(NOISE, cue=True), LATENCY, now)
    later = now + CUE_ECHO_TAIL_S + ECHO_TAIL_S + 1.0
    echo.dropped(later)
    assert echo.clean(NOISE, later) == (NOISE, EchoPresence.NONE)


def test_a_cut_cue_is_taken_out_as_long_as_the_room_sounds():
    echo = EchoControl(RATE)
    for _ in range(50):
        echo.played(OutputFrame(NOISE, cue=True), 1.0, 1.0)
    echo.dropped(1.1)
    echo.clean(NOISE, 1.1)
    assert echo.clean(NOISE, 1.1 + CUE_ECHO_TAIL_S - 0.05)[0] != NOISE
    assert echo.clean(NOISE, 1.1 + CUE_ECHO_TAIL_S + 0.05)[0] == NOISE


def test_without_a_canceller_nothing_begins_anew():
    echo = EchoControl(RATE)
    echo.overflowed()
    assert echo.clean(NOISE, 1.0) == (NOISE, EchoPresence.NONE)


def test_a_canceller_hears_the_reply_without_the_cues_and_lets_people_talk_over_it():
    canceller = Canceller()
    echo = EchoControl(RATE, half_duplex=False, canceller=canceller)
    echo.played(OutputFrame(NOISE, VOICE, cue=True), LATENCY, 1.0)
    echo.played(OutputFrame(NOISE, cue=True), LATENCY, 1.02)
    echo.dropped(1.03)
    echo.overflowed()
    assert canceller.reference == [VOICE, bytes(SIZE), b"drop", b"drop"]
    heard, own = echo.clean(NOISE, 1.04)
    assert own is EchoPresence.NONE
    assert level(heard) < level(NOISE) - 5


def test_until_a_canceller_can_be_trusted_the_device_is_deaf_while_it_speaks():
    canceller = Canceller()
    echo = EchoControl(RATE, half_duplex=False, canceller=canceller)
    canceller.trusted = False
    now = speak(echo, 5, 1.0)
    assert echo.clean(NOISE, now)[1] is EchoPresence.ACTIVE
    assert echo.clean(NOISE, now + 5.0)[1] is EchoPresence.NONE


@pytest.mark.parametrize("cut", [False, True])
def test_what_a_sound_server_adds_is_learnt_and_waited_for(cut):
    rng, echo = np.random.default_rng(2), EchoControl(RATE)
    if cut:  # what was handed over and never sounded
        for _ in range(50):
            echo.played(OutputFrame(VOICE, VOICE), LATENCY, 0.98)
        echo.dropped(0.99)
    loud = np.repeat(10 ** rng.uniform(-3, 0, 250), 2)  # words: louder and softer every 40 ms
    noise = rng.standard_normal((len(loud), SIZE // 2))
    words = [
        (8000 * volume * wave).clip(-32768, 32767).astype(np.int16).tobytes()
        for volume, wave in zip(loud, noise, strict=True)
    ]
    server = 15  # frames
    now = 1.0
    for n in range(len(words) + server):
        if n < len(words):
            echo.played(OutputFrame(words[n], words[n]), LATENCY, now)
        echo.clean(words[n - server] if n >= server else bytes(SIZE), now)
        now += FRAME_S
    speak(echo, 1, now)
    assert echo.clean(NOISE, now + FRAME_S + 0.26)[1] is EchoPresence.ACTIVE
    assert echo.clean(NOISE, now + FRAME_S + 0.36)[1] is EchoPresence.TAIL
    echo.played(OutputFrame(NOISE, cue=True), LATENCY, now + 5.0)
    over = now + 5.0 + FRAME_S
    echo.clean(NOISE, over)
    assert echo.clean(NOISE, over + CUE_ECHO_TAIL_S + 0.26)[0] != NOISE
    assert echo.clean(NOISE, over + CUE_ECHO_TAIL_S + 0.36)[0] == NOISE
