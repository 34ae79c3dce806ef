"""The contract of microphones and loudspeakers, for each kind there is."""

from __future__ import annotations

import wave
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from device_agent.core.errors import DeviceFailed
from device_agent.dsp import pcm
from device_agent.hardware.ports import Microphone, Speaker
from device_agent.hardware.wav import WavMicrophone, WavSpeaker
from tests.support.cards import FifoCard, cut_after

RATE = 16000
FRAME = pcm.frame_bytes(RATE)
SOUND = np.random.default_rng(7).integers(-9000, 9000, RATE // 5, np.int16).tobytes()
"""Ten frames, each of them unlike all others."""


class Room(ABC):
    """Where a kind of ports is tried out."""

    @abstractmethod
    def microphone(self, hears: bytes) -> Microphone:
        """Return a microphone that hears this sound, after a moment of silence perhaps."""

    @abstractmethod
    def array(self, channels: list[bytes], chosen: int | None) -> Microphone:
        """Return a microphone with several channels that hear these sounds, of which one is *chosen*."""

    @abstractmethod
    def missing_microphone(self) -> Microphone: ...

    @abstractmethod
    def speaker(self) -> Speaker: ...

    @abstractmethod
    def missing_speaker(self) -> Speaker: ...

    @abstractmethod
    def heard(self) -> bytes:
        """Return what came out of the loudspeaker, which is closed, with silence before, between and behind perhaps."""


class CardRoom(Room):
    def __init__(self, card: FifoCard, more: ExitStack) -> None:
        pytest.importorskip("pyaudio", reason="needs PyAudio")
        self._card, self._more = card, more
        self._process = card.process()

    def microphone(self, hears: bytes) -> Microphone:
        self._card.play(hears)
        return self._process.microphone(RATE)

    def array(self, channels: list[bytes], chosen: int | None) -> Microphone:
        card = self._more.enter_context(FifoCard(RATE, len(channels)))
        card.play(interleaved(channels))
        return card.process().microphone(RATE, channel=chosen)

    def missing_microphone(self) -> Microphone:
        return self._process.microphone(RATE, "nobody's")

    def speaker(self) -> Speaker:
        return self._process.speaker(RATE)

    def missing_speaker(self) -> Speaker:
        return self._process.speaker(RATE, "nobody's")

    def heard(self) -> bytes:
        return self._card.heard()


class WavRoom(Room):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def microphone(self, hears: bytes) -> Microphone:
        path = str(self._directory / "heard by the microphone.wav")
        with wave.open(path, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(hears)
        return WavMicrophone(path, RATE)

    def array(self, channels: list[bytes], chosen: int | None) -> Microphone:
        path = str(self._directory / "heard by the array.wav")
        with wave.open(path, "wb") as file:
            file.setparams((len(channels), 2, RATE, 0, "NONE", ""))
            file.writeframes(interleaved(channels))
        return WavMicrophone(path, RATE, chosen)

    def missing_microphone(self) -> Microphone:
        return WavMicrophone(str(self._directory / "nobody's.wav"), RATE)

    def speaker(self) -> Speaker:
        return WavSpeaker(str(self._directory / "loudspeaker.wav"), RATE)

    def missing_speaker(self) -> Speaker:
        return WavSpeaker(str(self._directory / "nowhere" / "loudspeaker.wav"), RATE)

    def heard(self) -> bytes:
        with wave.open(str(self._directory / "loudspeaker.wav"), "rb") as file:
            return file.readframes(file.getnframes())


@pytest.fixture(params=["portaudio", "wav"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    if request.param == "wav":
        yield WavRoom(tmp_path)
        return
    with FifoCard(RATE) as card, ExitStack() as more:
        yield CardRoom(card, more)


def interleaved(channels: list[bytes]) -> bytes:
    return np.column_stack([np.frombuffer(each, np.int16) for each in channels]).tobytes()


def say(speaker: Speaker, sound: bytes) -> None:
    for start in range(0, len(sound), FRAME):
        speaker.write(sound[start : start + FRAME])


class TestMicrophone:
    def test_gives_what_it_hears_in_frames_of_20_ms(self, room):
        microphone = room.microphone(SOUND)
        microphone.open()
        frames = [microphone.read() for _ in range(10)]
        microphone.close()

        assert {len(frame) for frame in frames} == {FRAME}
        assert b"".join(frames) == SOUND

    def test_counts_no_overflow_where_it_is_read_in_time(self, room):
        microphone = room.microphone(SOUND)
        microphone.open()
        for _ in range(10):
            microphone.read()

        assert microphone.overflows == 0
        microphone.close()

    def test_may_be_closed_before_it_opened_and_twice(self, room):
        microphone = room.microphone(SOUND)
        microphone.close()
        microphone.open()
        microphone.close()
        microphone.close()

    def test_may_be_opened_again(self, room):
        microphone = room.microphone(2 * SOUND)
        for _ in range(2):
            microphone.open()
            assert len(microphone.read()) == FRAME
            microphone.close()

    @pytest.mark.parametrize("count", [2, 3, 6])
    @pytest.mark.parametrize("chosen", [None, 1, 2])
    def test_with_several_channels_gives_one_of_them(self, room, count, chosen):
        """The first, where none is chosen."""
        channels = [bytes(len(SOUND))] * count
        channels[(chosen or 1) - 1] = SOUND
        microphone = room.array(channels, chosen)
        microphone.open()
        frames = [microphone.read() for _ in range(10)]
        microphone.close()

        assert b"".join(frames) == SOUND

    def test_with_a_dead_channel_gives_another_one(self, room):
        microphone = room.array([bytes(len(SOUND)), SOUND], None)
        microphone.open()
        frames = [microphone.read() for _ in range(10)]
        microphone.close()

        assert b"".join(frames) == SOUND

    def test_without_the_chosen_channel_says_which_there_are(self, room):
        with pytest.raises(DeviceFailed, match=r"microphone .*microphone\.channel is 5: choose 1 to 2"):
            room.array([SOUND, SOUND], 5).open()

    def test_that_is_missing_is_named_with_advice(self, room):
        with pytest.raises(DeviceFailed, match=r"microphone .*nobody's.*: .+") as failure:
            room.missing_microphone().open()

        assert "\n" not in str(failure.value)


class TestSpeaker:
    def test_plays_every_sample_before_it_is_drained(self, room):
        speaker = room.speaker()
        speaker.open()
        say(speaker, SOUND)
        speaker.drain()
        speaker.close()

        assert SOUND in room.heard()

    def test_plays_one_reply_after_the_other(self, room):
        speaker = room.speaker()
        speaker.open()
        other = SOUND[::-1]
        for reply in (SOUND, other):
            say(speaker, reply)
            speaker.drain()
        speaker.close()
        heard = room.heard()

        assert 0 <= heard.find(SOUND) < heard.find(other)

    def test_forgets_what_it_drops(self, room):
        """Between the two replies there is nothing but silence, and of the first one nothing is heard later."""
        speaker = room.speaker()
        speaker.open()
        say(speaker, SOUND)
        speaker.drop()
        say(speaker, SOUND[::-1])
        speaker.drain()
        speaker.close()
        before, _, after = room.heard().partition(SOUND[::-1])

        assert SOUND.startswith(before.strip(b"\0")[: len(SOUND)])
        assert not after.strip(b"\0")

    @pytest.mark.parametrize("step", ["write", "drain"])
    def test_stops_waiting_when_the_sound_is_cut(self, room, step):
        speaker = room.speaker()
        speaker.open()
        if step == "write":
            speaker.write(50 * SOUND, cut_after(10))
        else:
            speaker.write(SOUND)
            speaker.drain(cut_after(0))
        speaker.drop()
        say(speaker, SOUND[::-1])
        speaker.drain()
        speaker.close()
        heard = room.heard()

        assert len(heard) < 50 * len(SOUND) / 2
        assert SOUND[::-1] in heard, "the next one is wanted"

    def test_takes_a_whole_reply_at_once(self, room):
        speaker = room.speaker()
        speaker.open()
        speaker.write(SOUND)
        speaker.drain()
        speaker.close()

        assert SOUND in room.heard()

    def test_may_be_drained_and_dropped_with_nothing_to_play(self, room):
        speaker = room.speaker()
        speaker.open()
        speaker.drain()
        speaker.drop()
        speaker.close()

        assert not room.heard().strip(b"\0")

    def test_knows_how_late_it_is(self, room):
        speaker = room.speaker()
        speaker.open()

        assert 0 < speaker.latency < 0.5
        speaker.close()

    def test_counts_no_underrun_in_a_steady_reply(self, room):
        speaker = room.speaker()
        speaker.open()
        speaker.write(SOUND)
        speaker.write(SOUND)
        speaker.drain()

        assert speaker.underruns == 0
        speaker.close()

    def test_may_be_closed_before_it_opened_and_twice(self, room):
        speaker = room.speaker()
        speaker.close()
        speaker.open()
        speaker.close()
        speaker.close()

    def test_that_is_missing_is_named_with_advice(self, room):
        with pytest.raises(DeviceFailed, match=r"speaker .*no(body's|where).*: .+") as failure:
            room.missing_speaker().open()

        assert "\n" not in str(failure.value)
