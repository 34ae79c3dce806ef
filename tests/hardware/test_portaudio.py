"""The real PortAudio and ALSA, on a virtual card whose clock belongs to the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from device_agent.core.errors import DeviceFailed
from device_agent.dsp import correlation, resampling
from device_agent.dsp import pcm as audio
from device_agent.hardware import portaudio_host
from tests.support.cards import Card, CardProcess, FifoCard, Remote, RemoteMicrophone, RemoteSpeaker, cut_after

pytest.importorskip("pyaudio", reason="needs PyAudio")

RATE = 24000
FRAME = audio.frame_bytes(RATE)


def speech(seconds: float, rate: int = RATE, seed: int = 1) -> bytes:
    """Return what sounds a bit like speech: noise below 3.4 kHz in syllables; no two moments of it are alike."""
    size = int(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    spectrum[int(3400 * size / rate) :] = 0
    wave = np.fft.irfft(spectrum, size)
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(size) / rate)
    return (12000 * syllables * wave / np.abs(wave).max()).astype(np.int16).tobytes()


def frames(pcm: bytes, size: int = FRAME) -> list[bytes]:
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


@pytest.fixture(scope="module")
def card() -> Iterator[FifoCard]:
    with FifoCard(RATE) as card:
        yield card


@pytest.fixture(scope="module")
def process(card: FifoCard) -> CardProcess:
    return card.process()


@pytest.fixture
def microphone(process: CardProcess) -> Iterator[RemoteMicrophone]:
    microphone = process.microphone(RATE)
    microphone.open()
    yield microphone
    microphone.close()


@pytest.fixture
def speaker(card: FifoCard, process: CardProcess) -> Iterator[RemoteSpeaker]:
    speaker = process.speaker(RATE)
    speaker.open()
    yield speaker
    speaker.close()
    card.heard()


@contextmanager
def talking() -> Iterator[tuple[FifoCard, RemoteSpeaker]]:
    """A loudspeaker on a card that keeps time, so that its buffer holds what was not heard yet."""
    with FifoCard(RATE, paced=True) as card:
        speaker = card.process().speaker(RATE)
        speaker.open()
        yield card, speaker


def say(speaker: RemoteSpeaker, pcm: bytes) -> None:
    for frame in frames(pcm):
        speaker.write(frame)


class TestSound:
    def test_comes_back_sample_for_sample(self, card, microphone, speaker):
        said = speech(1.0)
        card.play(said)
        for _ in frames(said):
            speaker.write(microphone.read())
        speaker.drain()

        assert card.heard()[: len(said)] == said

    def test_keeps_the_end_of_a_sentence(self):
        said = speech(0.31)[:-2]  # no whole number of anything
        with talking() as (card, speaker):
            say(speaker, said)
            begun = card.heard()
            speaker.drain()
            heard = begun + card.heard()

        assert len(begun) < len(said), "there is nothing to lose, the card buffers nothing"
        assert heard.rstrip(b"\0") == said.rstrip(b"\0")

    def test_drains_a_word_shorter_than_a_period(self, card, speaker):
        said = speech(0.005)
        speaker.write(said)
        speaker.drain()

        assert card.heard().startswith(said)

    def test_leaves_nothing_behind_when_dropped(self):
        """Of a reply that is dropped its end is not heard: not at once, and not before or in the next one."""
        dropped, said = speech(0.5, seed=2), speech(0.5, seed=3)
        with talking() as (card, speaker):
            say(speaker, dropped)
            speaker.drop()
            begun = card.heard()
            say(speaker, said)
            speaker.drain()
            heard = card.heard()

        assert 0 < len(begun) < len(dropped) - FRAME, "there was nothing to drop"
        assert dropped.startswith(begun)
        assert heard.rstrip(b"\0") == said.rstrip(b"\0")

    def test_a_cut_ends_a_write_that_waits(self):
        """Or a press would have to wait for a period of the card, at worst, until the speaker's thread hears of it."""
        with talking() as (card, speaker):
            card.stall()
            speaker.write(speech(1.0), cut_after(50))  # raises DeviceFailed if it goes on waiting

            assert card.holds == 2 * round(speaker.latency * RATE), "it is full, and its latency is what it holds"

    def test_a_drop_is_over_at_once(self, process, speaker):
        """A matter of milliseconds; a second is for busy machines. One that waited for the buffer would drain it."""
        say(speaker, speech(1.0))

        speaker.ask("drop", timeout=1.0)

    def test_drain_and_drop_without_sound_are_nothing(self, card, speaker):
        speaker.drain()
        speaker.drop()

        assert card.heard() == b""

    def test_a_silent_speaker_keeps_the_card_at_rest(self, card, speaker):
        assert card.heard() == b""

    def test_ports_of_one_process_may_be_opened_and_closed_all_at_once(self, process):
        """PortAudio itself may crash over this."""
        ports: list[Remote] = [process.microphone(RATE), process.speaker(RATE), process.speaker(RATE)]
        for _ in range(20):
            for step in ("open", "close"):
                for port in ports:
                    port.send(step)
                for port in ports:
                    port.answer()


class TestRates:
    @pytest.mark.parametrize(
        ("rate", "of_the_card"),
        [
            *[(rate, 48000) for rate in (16000, 24000, 32000, 44100)],
            *[(24000, card) for card in (8000, 11025, 12000, 20000, 22050, 44100, 88200, 96000, 176400, 192000)],
            *[(16000, card) for card in (8000, 11025, 96000)],
        ],
    )
    def test_microphone_and_speaker_at_another_rate_than_the_card(self, rate, of_the_card):
        heard_by_it, said = speech(1.0, of_the_card), speech(1.0, rate, seed=2)
        with FifoCard(of_the_card, only_rate=of_the_card) as card:
            process = card.process()
            microphone, speaker = process.microphone(rate), process.speaker(rate)
            microphone.open()
            card.play(heard_by_it + bytes(of_the_card // 2))
            frames_of_it = [microphone.read() for _ in range(55)]
            microphone.close()
            speaker.open()
            for start in range(0, len(said), audio.frame_bytes(rate)):
                speaker.write(said[start : start + audio.frame_bytes(rate)])
            speaker.drain()
            heard = card.heard()
            speaker.close()

        assert {len(frame) for frame in frames_of_it} == {audio.frame_bytes(rate)}
        assert fit(resampling.resample(heard_by_it, of_the_card, rate), b"".join(frames_of_it)) > 0.99
        assert fit(resampling.resample(said, rate, of_the_card), heard) > 0.99
        assert audio.seconds(heard, of_the_card) == pytest.approx(1.0, abs=0.25)

    @pytest.mark.parametrize(
        ("only", "opened"), [((16000, 96000), 96000), ((8000, 11025), 11025), ((22050, 44100, 16000), 44100)]
    )
    def test_of_several_rates_the_card_is_opened_at_the_best(self, only, opened):
        with FifoCard() as card:
            process = card.process(CARD_RATES=",".join(map(str, only)))
            of_it = process.object("device_agent.hardware.portaudio_stream:PortAudioStream", "input", "default")
            of_it.ask("open", 24000, 20)
            found = process.object("device_agent.hardware.portaudio_host").ask("devices")

            assert of_it.ask("rate") == opened
            assert {each.rates for each in found} == {tuple(sorted(only))}

    def test_a_dropped_reply_does_not_stay_in_the_resampler(self):
        with FifoCard(only_rate=48000) as card:
            speaker = card.process().speaker(RATE)
            speaker.open()
            say(speaker, speech(0.5, seed=2))
            speaker.drop()
            card.heard()
            speaker.write(bytes(FRAME))
            speaker.drain()

            heard = np.frombuffer(card.heard(), np.int16)

        assert np.abs(heard).max() <= 2, "more than the resampler's dither"

    @pytest.mark.parametrize("vague", [False, True], ids=["it says so", "behind a plugin"])
    @pytest.mark.parametrize("count", [2, 3, 6, 8])
    def test_each_channel_of_a_loudspeaker_sounds(self, count, vague):
        said = speech(0.5)
        with FifoCard(RATE, only_channels=count, vague=vague) as card:
            speaker = card.process().speaker(RATE)
            speaker.open()
            say(speaker, said)
            speaker.drain()
            heard = np.frombuffer(card.heard(), np.int16).reshape(-1, count)[: len(said) // 2]

        assert {each.tobytes() for each in heard.T} == {said}

    def test_a_card_without_any_rate_for_a_voice_is_named(self):
        with (
            FifoCard(only_rate=4000) as card,
            pytest.raises(DeviceFailed, match=r"PortAudio -9997.*none of our sample rates"),
        ):
            card.process().microphone(RATE).open()

    @pytest.mark.parametrize("way", ["microphone", "speaker"])
    def test_a_card_that_takes_no_number_of_channels_is_named(self, way):
        with (
            FifoCard(only_channels=60, vague=True) as card,
            pytest.raises(DeviceFailed, match=r"PortAudio -9998.*no number of channels"),
        ):
            getattr(card.process(), way)(RATE).open()


def fit(part: bytes, whole: bytes) -> float:
    return correlation.likeness(part, whole + bytes(len(part)))[0]


class TestTrouble:
    @pytest.fixture
    def card(self) -> Iterator[FifoCard]:
        """A card with a clock: it goes on until something happens to it."""
        with FifoCard(RATE, paced=True) as card:
            yield card

    @pytest.fixture
    def process(self, card: FifoCard) -> CardProcess:
        return card.process()

    @pytest.mark.parametrize("accident", ["unplug", "vanish"])
    def test_a_microphone_that_is_pulled_out_fails_and_comes_back(self, card, microphone, accident):
        microphone.read()
        getattr(card, accident)()
        with pytest.raises(DeviceFailed, match=r"microphone 'default': .*check its cable"):
            for _ in range(50):
                microphone.read()
        microphone.close()
        card.replug()
        microphone.open()

        assert len(microphone.read()) == FRAME

    @pytest.mark.parametrize("accident", ["unplug", "vanish"])
    def test_a_speaker_that_is_pulled_out_fails_and_comes_back(self, card, speaker, accident):
        speaker.write(bytes(FRAME))
        getattr(card, accident)()
        with pytest.raises(DeviceFailed, match=r"speaker 'default': .*check its cable"):
            for _ in range(50):
                speaker.write(bytes(FRAME))
        speaker.close()
        card.replug()
        speaker.open()
        speaker.write(bytes(FRAME))
        speaker.drain()

    def test_an_error_keeps_portaudios_own(self, card, speaker):
        card.unplug()
        with pytest.raises(DeviceFailed) as failure:
            speaker.write(bytes(FRAME))

        assert str(failure.value).startswith("speaker 'default': Unanticipated host error (PortAudio -9999): check its")
        assert failure.value.__notes__ == ["caused by OSError(-9999, 'Unanticipated host error')"]

    def test_a_card_that_is_out_when_opened_is_not_there(self, card, process):
        card.unplug()
        with pytest.raises(DeviceFailed, match="no microphone was found; check its cable"):
            process.microphone(RATE).open()

    def test_a_frozen_card_gives_nothing_and_goes_on(self, card, microphone):
        microphone.read()
        card.stall()
        with pytest.raises(TimeoutError):
            for _ in range(20):
                microphone.read(timeout=0.5)
        card.resume()

        assert len(microphone.answer()) == FRAME

    def test_a_process_stuck_in_a_frozen_card_can_leave(self, card, process, microphone):
        microphone.read()
        card.stall()
        with pytest.raises(TimeoutError):
            for _ in range(20):
                microphone.read(timeout=0.5)

        assert process.exit(3) == 3

    @pytest.fixture
    def microphone(self, process: CardProcess) -> RemoteMicrophone:
        """One that the test may leave in any state."""
        microphone = process.microphone(RATE)
        microphone.open()
        return microphone

    @pytest.fixture
    def speaker(self, process: CardProcess) -> RemoteSpeaker:
        speaker = process.speaker(RATE)
        speaker.open()
        return speaker


class TestClose:
    def test_from_another_thread_it_asks(self):
        """A port whose owner waits in it is not closed under his feet."""
        code = f"""
import threading, time
from device_agent.hardware.portaudio import PortAudioMicrophone, PortAudioSpeaker
opened, said = threading.Barrier(3), []
def listen():
    microphone.open(); opened.wait()
    while microphone.read(): pass
    microphone.close(); said.append("listened")
def talk():
    speaker.open(); opened.wait()
    while not closing.is_set(): speaker.write(bytes({FRAME}))
    speaker.write(bytes({100 * FRAME})); speaker.drain(); speaker.close(); said.append("talked")
closing = threading.Event()
microphone, speaker = PortAudioMicrophone({RATE}), PortAudioSpeaker({RATE})
threads = [threading.Thread(target=work) for work in (listen, talk)]
for thread in threads: thread.start()
opened.wait(10)
microphone.close(); speaker.close(); closing.set()
for thread in threads: thread.join(10)
print(*sorted(said))
"""
        with FifoCard(RATE, paced=True) as card:
            assert card.run(code)[0] == "listened talked\n"

    def test_is_harmless_on_a_port_that_is_not_open(self, process):
        for port in (process.microphone(RATE), process.speaker(RATE)):
            port.close()
            port.open()
            port.close()
            port.close()

    def test_a_closed_port_says_so(self, process):
        with pytest.raises(DeviceFailed, match="microphone 'default' is not open"):
            process.microphone(RATE).read()
        with pytest.raises(DeviceFailed, match="speaker 'default' is not open"):
            process.speaker(RATE).write(bytes(FRAME))


class TestCounters:
    def test_a_steady_card_counts_nothing(self):
        with FifoCard(RATE, paced=True) as card:
            process = card.process()
            microphone, speaker = process.microphone(RATE), process.speaker(RATE)
            microphone.open()
            speaker.open()
            for _ in range(25):
                speaker.write(microphone.read())
            speaker.drain()

            assert microphone.overflows == 0

    def test_a_pause_in_a_reply_is_an_underrun(self, process, speaker):
        speaker.write(bytes(10 * FRAME))
        process.object("time").ask("sleep", 0.5)
        speaker.write(bytes(10 * FRAME))
        speaker.write(bytes(10 * FRAME))

        assert speaker.underruns == 1

    def test_a_pause_between_replies_is_none(self, process, speaker):
        speaker.write(bytes(10 * FRAME))
        speaker.drain()
        process.object("time").ask("sleep", 0.5)
        speaker.write(bytes(10 * FRAME))
        speaker.drop()
        process.object("time").ask("sleep", 0.5)
        speaker.write(bytes(10 * FRAME))

        assert speaker.underruns == 0


class TestDevices:
    def test_are_what_the_configuration_says(self, process):
        found = process.object("device_agent.hardware.portaudio_host").ask("devices")

        assert [(each.index, each.name, each.inputs > 0, each.outputs > 0) for each in found] == [
            (0, "desk_microphone", True, False),
            (1, "desk_speaker", False, True),
            (2, "default", True, True),
        ]
        assert {each.rates for each in found} == {portaudio_host.CARD_RATES}

    def test_tell_the_rates_that_open(self):
        with FifoCard(only_rate=48000) as card:
            found = card.process().object("device_agent.hardware.portaudio_host").ask("devices")

        assert {each.rates for each in found} == {(48000,)}

    @pytest.mark.parametrize("name", ["desk_speaker", "DESK", "speak", "default"])
    def test_answer_to_a_part_of_their_name(self, card, process, name):
        speaker = process.speaker(RATE, name)
        speaker.open()
        said = speech(0.1)
        say(speaker, said)
        speaker.drain()
        speaker.close()

        assert card.heard().startswith(said)

    def test_a_missing_one_is_named_among_those_that_are_there(self, process):
        with pytest.raises(DeviceFailed) as failure:
            process.microphone(RATE, "USB PnP").open()

        assert str(failure.value) == (
            "microphone 'USB PnP' was not found; there is 'desk_microphone', 'default' "
            "(to choose one, run: device-agent devices)"
        )

    def test_one_that_cannot_record_is_no_microphone(self, process):
        with pytest.raises(DeviceFailed, match="'desk_speaker' was not found"):
            process.microphone(RATE, "desk_speaker").open()

    def test_an_unclear_name_takes_the_first_and_says_so(self, card):
        code = """
import logging
from device_agent.hardware.portaudio import PortAudioSpeaker
logging.basicConfig(format="%(message)s")
PortAudioSpeaker(24000, "E").open()
"""
        _, said = card.run(code)

        assert "speaker 'E' fits several devices: 'desk_speaker', 'default'; using the first" in said

    def test_without_a_default_one_there_is_an_error_and_no_crash(self, tmp_path):
        """PortAudio aborts the process over a configuration without a device called default."""
        for text in ("pcm.null { type null }", ""):
            (tmp_path / "asound.conf").write_text(text)
            with Card() as card:
                card.env["ALSA_CONFIG_PATH"] = str(tmp_path / "asound.conf")
                with pytest.raises(DeviceFailed, match="ALSA knows no device 'default'"):
                    card.process().microphone(RATE).open()

    def test_without_pyaudio_the_error_says_what_to_install(self, tmp_path):
        (tmp_path / "pyaudio.py").write_text("raise ImportError('libportaudio.so.2: cannot open shared object file')")
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "from device_agent.hardware.portaudio_host import devices\n"
            "try: devices()\n"
            "except OSError as error: print(type(error).__name__, error)"
        )
        with Card() as card:
            said, _ = card.run(code)

        assert said.startswith(
            "DeviceFailed PyAudio does not load (libportaudio.so.2: cannot open shared object file): "
        )
        assert "apt install portaudio19-dev" in said

    def test_make_no_noise(self, card):
        """ALSA and JACK write eighty lines about cards that the agent did not ask for."""
        said = card.run("from device_agent.hardware.portaudio_host import devices; print(len(devices()))")

        assert said == ("3\n", "")
