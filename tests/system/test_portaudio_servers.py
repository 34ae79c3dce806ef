"""The real PortAudio with real sound servers, in real time: what a card of FIFOs cannot do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.core.errors import DeviceFailed
from device_agent.dsp import correlation, pcm, resampling
from tests.support.cards import PATIENCE, CardProcess, JackCard, PulseCard, RemoteMicrophone, wait_for

pytest.importorskip("pyaudio", reason="needs PyAudio")

pytestmark = pytest.mark.slow

RATE = 24000
FRAME = pcm.frame_bytes(RATE)


LISTEN_AND_TALK = f"""
import threading
from device_agent.core.errors import DeviceFailed
from device_agent.hardware.portaudio import PortAudioMicrophone, PortAudioSpeaker
begun = threading.Barrier(3)
def work(port, step):
    try:
        port.open(); step(); begun.wait(10)
        while True: step()
    except DeviceFailed as error:
        print(f"DeviceFailed: {{error}}\\n", end="", flush=True)
        port.close()
microphone, speaker = PortAudioMicrophone({RATE}), PortAudioSpeaker({RATE})
threads = [threading.Thread(target=work, args=(microphone, microphone.read)),
           threading.Thread(target=work, args=(speaker, lambda: speaker.write(bytes({FRAME}))))]
for thread in threads: thread.start()
begun.wait(10)
print("begun", flush=True)
"""


def noise(seconds: float, rate: int, seed: int = 1) -> bytes:
    """Return noise below 3.4 kHz, which every rate can carry."""
    size = int(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    spectrum[int(3400 * size / rate) :] = 0
    wave = np.fft.irfft(spectrum, size)
    return (12000 * wave / np.abs(wave).max()).astype(np.int16).tobytes()


def pause(process: CardProcess, seconds: float) -> None:
    process.object("time").ask("sleep", seconds)


class TestPulse:
    @pytest.mark.parametrize("rate", [16000, 24000, 48000])
    def test_the_microphone_hears(self, rate):
        said = noise(1.0, 48000)
        with PulseCard(48000) as card:
            microphone = card.process().microphone(rate)
            microphone.open()
            card.play(said)
            heard = b"".join(microphone.read() for _ in range(4 * 50))
            microphone.close()

        assert correlation.likeness(resampling.resample(said, 48000, rate), heard)[0] > 0.99

    @pytest.mark.parametrize("rate", [16000, 24000, 48000])
    def test_the_speaker_is_heard_to_its_last_word(self, rate):
        said = noise(1.0, rate)
        with PulseCard(48000) as card:
            speaker = card.process().speaker(rate)
            speaker.open()
            with card.listening() as heard:
                speaker.write(said)
                speaker.drain()
                wait_for_more(heard, 48000)
            recorded = heard.read_bytes()

        last_word = resampling.resample(said, rate, 48000)[-48000 // 5 :]
        assert correlation.likeness(last_word, recorded)[0] > 0.99

    def test_a_dropped_reply_is_not_heard_later(self):
        dropped, said = noise(1.0, RATE, seed=2), noise(0.5, RATE, seed=3)
        with PulseCard(RATE) as card:
            speaker = card.process().speaker(RATE)
            speaker.open()
            with card.listening() as heard:
                speaker.write(dropped)
                speaker.drop()
                speaker.write(said)
                speaker.drain()
                wait_for_more(heard, RATE)
            recorded = heard.read_bytes()

        _, at = correlation.likeness(said, recorded)
        last_word, tail = dropped[-FRAME:], recorded[2 * at + len(said) :]
        assert correlation.likeness(said, recorded)[0] > 0.99
        assert correlation.likeness(last_word, recorded)[0] < 0.9, "the card's buffer was played in spite of all"
        assert np.abs(np.frombuffer(tail, np.int16)).max(initial=0) < 100

    def test_a_server_that_dies_is_a_device_that_failed(self):
        with PulseCard() as card:
            program = card.program(LISTEN_AND_TALK)
            assert program.stdout.readline() == "begun\n"
            card.kill()
            said, _ = program.communicate(timeout=PATIENCE)

        for port in ("microphone", "speaker"):
            assert f"DeviceFailed: {port} 'default': " in said

    def test_a_server_that_hangs_is_a_device_that_failed(self):
        with PulseCard() as card:
            process = card.process()
            microphone = process.microphone(RATE)
            microphone.open()
            microphone.read()
            card.freeze()
            with pytest.raises(DeviceFailed, match="microphone 'default': it has stood still for 2 s"):
                listen(microphone, 100)

            assert process.exit(3) == 3

    def test_counts_nothing_while_all_is_well(self):
        with PulseCard() as card:
            process = card.process()
            microphone, speaker = process.microphone(RATE), process.speaker(RATE)
            microphone.open()
            speaker.open()
            for _ in range(100):
                speaker.write(bytes(FRAME))
            pause(process, 0.5)  # the server keeps for us what we do not read
            listen(microphone, 100)

            assert microphone.overflows == 0


class TestJack:
    def test_a_card_for_48_khz_only_serves_every_rate(self):
        with JackCard() as card:
            process = card.process()
            for rate in (16000, 24000, 44100):
                microphone, speaker = process.microphone(rate), process.speaker(rate)
                microphone.open()
                speaker.open()
                assert len(microphone.read()) == pcm.frame_bytes(rate)
                speaker.write(noise(0.3, rate))
                speaker.drain()
                microphone.close()
                speaker.close()

    def test_its_rates_are_told(self):
        with JackCard() as card:
            found = card.process().object("device_agent.hardware.portaudio_host").ask("devices")

        assert [each.rates for each in found if each.name == "default"] == [(48000,)]

    def test_an_overflow_is_counted_and_not_raised(self):
        with JackCard() as card:
            process = card.process()
            microphone = process.microphone(RATE)
            microphone.open()
            listen(microphone, 10)
            before = microphone.overflows
            pause(process, 0.5)
            listen(microphone, 10)

            assert microphone.overflows > before

    def test_an_underrun_is_counted_and_not_raised(self):
        with JackCard() as card:
            process = card.process()
            speaker = process.speaker(RATE)
            speaker.open()
            speaker.write(bytes(10 * FRAME))
            pause(process, 0.5)
            before = speaker.underruns
            speaker.write(bytes(10 * FRAME))

            assert speaker.underruns == before + 1
            speaker.drain()

    def test_a_server_that_dies_is_a_device_that_failed(self):
        """JACK's plugin gives no error: the card just stands still."""
        with JackCard() as card:
            microphone = card.process().microphone(RATE)
            microphone.open()
            microphone.read()
            card.kill()
            with pytest.raises(DeviceFailed, match="microphone 'default': "):
                listen(microphone, 100)


def listen(microphone: RemoteMicrophone, frames: int) -> None:
    for _ in range(frames):
        microphone.read()


def wait_for_more(recording: Path, rate: int) -> None:
    """Wait until half a second more has been recorded."""
    size = recording.stat().st_size
    wait_for(lambda: recording.stat().st_size > size + rate, "the recording to go on")
