"""A microphone and a loudspeaker made of files, on a clock with hands."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.errors import DeviceFailed
from device_agent.dsp import correlation, resampling
from device_agent.dsp import pcm as audio
from device_agent.hardware import wav
from device_agent.hardware.wav import Pace, WavMicrophone, WavSpeaker

RATE = 16000
FRAME = audio.frame_bytes(RATE)


class Hands(Pace):
    """A clock that the test turns: waiting takes no time, and the time it takes is kept."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def turn(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.time += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


def noise(seconds: float, channels: int = 1, rate: int = RATE) -> bytes:
    """Return sound in which no sample is silent."""
    wave_form = np.random.default_rng(1).integers(1, 20000, audio.samples(seconds, rate) * channels)
    return wave_form.astype(np.int16).tobytes()


def tone(seconds: float, rate: int, hertz: float = 440) -> bytes:
    times = np.arange(audio.samples(seconds, rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * times)).astype(np.int16).tobytes()


def write_wav(path: Path, pcm: bytes, channels: int = 1, rate: int = RATE, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(pcm)
    return path


def read_wav(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        assert file.getparams()[:3] == (1, 2, RATE)
        return file.readframes(file.getnframes())


def header(kind: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, more: bytes = b"") -> bytes:
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * align, align, bits) + more
    return b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(form)) + form


def everything(microphone: WavMicrophone) -> bytes:
    """Read to the end, which must come."""
    frames = []
    for _ in range(10_000):
        frames.append(microphone.read())
        if not frames[-1]:
            return b"".join(frames)
    raise AssertionError("the file does not end")


# The microphone -------------------------------------------------------------------------------------------------------


@pytest.fixture
def microphone(tmp_path, hands):
    """Return an open microphone that plays a file of these bytes."""

    def play(content: bytes, rate: int = RATE) -> WavMicrophone:
        (tmp_path / "in.wav").write_bytes(content)
        opened = WavMicrophone(str(tmp_path / "in.wav"), rate, pace=hands)
        opened.open()
        return opened

    return play


def test_a_microphone_plays_its_file_once_and_then_nothing_for_ever(tmp_path, hands):
    pcm = noise(0.1)
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", pcm)), RATE, pace=hands)
    heard.open()

    assert [heard.read() for _ in range(5)] == [pcm[start : start + FRAME] for start in range(0, len(pcm), FRAME)]
    assert [heard.read() for _ in range(3)] == [b""] * 3
    heard.close()
    heard.close()
    assert heard.overflows == 0


def test_the_last_frame_is_filled_up_with_silence(tmp_path, hands):
    pcm = noise(0.025)
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", pcm)), RATE, pace=hands)
    heard.open()

    assert everything(heard) == pcm.ljust(2 * FRAME, b"\0")


def test_a_microphone_keeps_the_speed_of_sound_without_drift(tmp_path, hands):
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", noise(60))), RATE, pace=hands)
    heard.open()
    began = hands.now()
    for number in range(1, 3001):
        hands.turn(0.013)  # what the reader does with a frame takes its time
        heard.read()
        assert hands.now() - began == pytest.approx(number * 0.02, abs=1e-6)


def test_after_a_delay_a_microphone_catches_up(tmp_path, hands):
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", noise(2))), RATE, pace=hands)
    heard.open()
    began = hands.now()
    hands.turn(0.09)
    for _ in range(50):
        heard.read()

    assert hands.now() - began == pytest.approx(1.0)


def test_after_a_stall_a_microphone_goes_on_where_it_was_and_does_not_race(tmp_path, hands):
    pcm = noise(2)
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", pcm)), RATE, pace=hands)
    heard.open()
    heard.read()
    hands.turn(5)
    began = hands.now()

    assert heard.read() == pcm[FRAME : 2 * FRAME]
    assert [heard.read() for _ in range(49)]
    assert hands.now() - began == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("left", "right", "heard"),
    [(1, 1, 1), (1, 0, 1), (0, 1, 1), (1, -1, 1), (-1, 1, -1)],
    ids=["both", "right dead", "left dead", "right turned", "left turned"],
)
def test_of_a_pair_the_first_that_hears_is_heard(tmp_path, hands, left, right, heard):
    said = np.frombuffer(noise(0.5), np.int16)
    both = np.column_stack([left * said, right * said]).astype(np.int16).tobytes()
    microphone = WavMicrophone(str(write_wav(tmp_path / "in.wav", both, channels=2)), RATE, pace=hands)
    microphone.open()

    assert everything(microphone) == (heard * said).astype(np.int16).tobytes()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 96000])
def test_any_rate_becomes_ours(tmp_path, hands, rate):
    pcm = tone(0.5, rate)
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", pcm, rate=rate)), RATE, pace=hands)
    heard.open()
    sound = everything(heard)

    assert audio.seconds(sound, RATE) == pytest.approx(0.5, abs=0.021)
    wave_form = np.frombuffer(sound, np.int16)[: RATE // 2]
    spectrum = np.abs(np.fft.rfft(wave_form))
    assert np.argmax(spectrum) * RATE / len(wave_form) == pytest.approx(440, abs=4)
    expected = resampling.resample(pcm, rate, RATE)
    assert correlation.likeness(expected[2000:-2000], sound)[0] > 0.9999


def test_a_microphone_that_is_opened_again_begins_again(tmp_path, hands):
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", noise(0.1))), RATE, pace=hands)
    heard.open()
    first = heard.read()
    heard.close()
    heard.open()

    assert heard.read() == first


def test_the_long_form_of_the_header_and_chunks_of_other_things_are_understood(microphone):
    guid = struct.pack("<HHIH", 22, 16, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")
    pcm = noise(0.04)
    listed = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    heard = microphone(header(kind=0xFFFE, more=guid) + listed + b"data" + struct.pack("<I", len(pcm)) + pcm + listed)

    assert everything(heard) == pcm


LISTED = b"LIST" + struct.pack("<I", 4) + b"INFO"


@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF], ids="{:#x}".format)
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF], ids="{:#x}".format)
@pytest.mark.parametrize("before", [b"", LISTED], ids=["bare", "listed"])
@pytest.mark.parametrize("pcm", [noise(0.4), bytes(640) + noise(0.4), b"ab" * 900, b"LIST" + bytes(60)], ids=len)
def test_a_file_of_unknown_length_plays_to_its_end(tmp_path, hands, riff, size, before, pcm):
    """As a recorder leaves it that was killed, or wrote into a pipe."""
    head = bytearray(header(channels=2))
    head[4:8] = struct.pack("<I", riff)
    (tmp_path / "in.wav").write_bytes(bytes(head) + before + b"data" + struct.pack("<I", size) + pcm + b"x")

    assert wav.read_wav(str(tmp_path / "in.wav"))[0] == pcm
    heard = WavMicrophone(str(tmp_path / "in.wav"), RATE, 1, pace=hands)
    heard.open()
    assert everything(heard).rstrip(b"\0") == np.frombuffer(pcm, np.int16)[::2].tobytes().rstrip(b"\0")


def test_a_file_whose_sound_really_is_empty_has_none(microphone):
    pcm = noise(0.04)
    with pytest.raises(DeviceFailed, match="contains no sound"):
        microphone(header() + b"data\0\0\0\0" + LISTED)
    content = header() + b"data\0\0\0\0" + LISTED + b"data" + struct.pack("<I", len(pcm)) + pcm
    assert everything(microphone(content)) == pcm


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 100_000])
def test_a_file_whose_recorder_was_killed_ends_where_it_ends(microphone, size):
    pcm = noise(0.04)
    heard = microphone(header() + b"data" + struct.pack("<I", size) + pcm + b"x")  # in the middle of a sample

    assert everything(heard) == pcm


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"hello, I am a text", "is not a WAV file"),
        (b"RIFX\0\0\0\0WAVE", "is not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "contains no sound"),
        (header(), "contains no sound"),
        (header() + b"data\0\0\0\0", "contains no sound"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "contains no sound"),
        (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcd", "is damaged"),
        (header(bits=8) + b"data", "has 8 bit integer samples"),
        (header(bits=24) + b"data", "has 24 bit integer samples"),
        (header(kind=3, bits=32) + b"data", "has 32 bit float samples"),
        (header(kind=2, bits=4) + b"data", "is compressed (kind 0x2)"),
        (header(kind=0xFFFE) + b"data", "is compressed (kind 0xfffe)"),
        (header(channels=0) + b"data", "has 0 channels at 16000 Hz"),
        (header(rate=0) + b"data", "has 1 channels at 0 Hz"),
        (header(rate=10**9) + b"data", "has 1 channels at 1000000000 Hz"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line_that_says_what_to_do(microphone, tmp_path, content, what):
    with pytest.raises(DeviceFailed) as refusal:
        microphone(content)

    assert str(refusal.value) == (
        f"microphone wav:{tmp_path}/in.wav {what}; it should be a WAV file of 16 bit samples; "
        "make one with: ffmpeg -i FILE -c:a pcm_s16le NEW.wav"
    )


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for name, what in {"nothing": "No such file", "pipe": "is not a file", ".": "is not a file"}.items():
        with pytest.raises(DeviceFailed, match=what):
            WavMicrophone(str(tmp_path / name), RATE).open()
    for name, what in {"nothing/out.wav": "No such file", "pipe": "is not a file", ".": "is not a file"}.items():
        with pytest.raises(DeviceFailed, match=what):
            WavSpeaker(str(tmp_path / name), RATE).open()


@given(st.binary(max_size=80), st.binary(max_size=300))
def test_any_bytes_are_sound_or_refused(tmp_path_factory, head, rest):
    file = tmp_path_factory.getbasetemp() / "any.wav"
    for content in (head + rest, header() + head + rest, header() + b"data" + head + rest):
        file.write_bytes(content)
        heard = WavMicrophone(str(file), RATE, pace=Hands())
        try:
            heard.open()
        except DeviceFailed:
            continue
        assert len(everything(heard)) <= len(content) + FRAME
        heard.close()


# The loudspeaker ------------------------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.wav"


@pytest.fixture
def speaker(out, hands):
    opened = WavSpeaker(str(out), RATE, pace=hands)
    opened.open()
    yield opened
    opened.close()


def play(speaker: WavSpeaker, pcm: bytes) -> None:
    """Write *pcm* frame by frame, as the agent does."""
    for start in range(0, len(pcm), FRAME):
        speaker.write(pcm[start : start + FRAME])


def silence(seconds: float) -> bytes:
    return bytes(2 * audio.samples(seconds, RATE))


def test_a_recording_holds_the_replies_and_the_silence_around_them(speaker, out, hands):
    first, second = noise(0.5), noise(0.3)
    hands.turn(1.0)
    play(speaker, first)
    speaker.drain()
    hands.turn(2.0)
    play(speaker, second)
    speaker.drain()
    hands.turn(0.25)
    speaker.close()

    assert read_wav(out) == silence(1.0) + first + silence(2.0) + second + silence(0.25)
    assert speaker.underruns == 0


def test_writing_takes_the_time_of_the_sound_but_for_the_buffer(speaker, hands):
    began = hands.now()
    play(speaker, noise(0.1))
    assert hands.now() == began

    for number in range(1, 500):
        hands.turn(0.007)
        speaker.write(noise(0.02))
        assert hands.now() - began == pytest.approx(number * 0.02, abs=1e-6 + 0.007 * (number == 1))
    speaker.drain()
    assert hands.now() - began == pytest.approx(0.1 + 499 * 0.02)
    assert speaker.latency == 0.1


def test_a_long_piece_is_played_like_many_short_ones(speaker, out, hands):
    pcm = noise(3)
    began = hands.now()
    speaker.write(pcm)

    assert hands.now() - began == pytest.approx(2.9)
    speaker.drain()
    speaker.close()
    assert read_wav(out) == pcm


def test_dropped_is_what_a_listener_would_not_have_heard(speaker, out, hands):
    pcm, after = noise(1.0), noise(0.2)
    play(speaker, pcm)  # 0.9 s pass, 0.1 s wait in the buffer
    hands.turn(0.03)
    speaker.drop()
    hands.turn(0.5)
    play(speaker, after)
    speaker.drain()
    speaker.close()

    assert read_wav(out) == pcm[: len(silence(0.93))] + silence(0.5) + after


def test_closing_leaves_out_what_was_not_heard(speaker, out, hands):
    pcm = noise(1.0)
    play(speaker, pcm)
    hands.turn(0.04)
    speaker.close()
    speaker.close()

    assert read_wav(out) == pcm[: len(silence(0.94))]


def test_a_writer_that_comes_too_late_is_heard_as_a_gap_and_counted(speaker, out, hands):
    play(speaker, noise(0.2))
    hands.turn(0.6)  # 0.1 s of sound is left
    play(speaker, noise(0.2))
    speaker.drain()
    speaker.close()

    assert speaker.underruns == 1
    assert read_wav(out) == noise(0.2) + silence(0.5) + noise(0.2)


def test_a_night_of_silence_costs_no_time(speaker, out, hands):
    hands.turn(8 * 3600)
    play(speaker, noise(0.1))
    speaker.drain()
    speaker.close()

    written = out.stat()
    assert written.st_size == 44 + 2 * RATE * 8 * 3600 + len(noise(0.1))
    assert 512 * written.st_blocks < 1 << 20  # the silence is a hole in the file


def test_a_full_file_is_told(speaker, hands):
    hands.turn(2**32 / 2 / RATE)
    with pytest.raises(DeviceFailed, match="full at 4 GiB"):
        speaker.write(noise(0.02))
    with pytest.raises(DeviceFailed, match="full at 4 GiB"):
        speaker.close()


def test_a_port_that_is_not_open_says_so(out):
    speaker = WavSpeaker(str(out), RATE)
    speaker.close()
    WavMicrophone(str(out), RATE).close()
    with pytest.raises(DeviceFailed, match="call open first"):
        speaker.write(b"\0\0")
    assert WavMicrophone(str(out), RATE).read() == b""
    assert not out.exists()


def test_the_recording_grows_while_it_is_made(speaker, out, hands):
    assert read_wav(out) == b""

    play(speaker, noise(0.5))
    assert read_wav(out) == noise(0.5)[: len(silence(0.38))]


def test_a_recording_of_a_process_that_was_killed_can_be_read(out):
    program = (
        "import sys; from device_agent.hardware.wav import WavSpeaker\n"
        f"speaker = WavSpeaker({str(out)!r}, {RATE}); speaker.open()\n"
        "for _ in range(20): speaker.write(bytes([1]) * 640)\n"
        "print('written', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    recorded = read_wav(out)

    assert 0.25 < audio.seconds(recorded, RATE) < 0.45
    assert recorded.lstrip(b"\0").strip(b"\1") == b""


def test_a_disk_that_is_full_is_told(out):
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from device_agent.hardware.wav import WavSpeaker\n"
        f"speaker = WavSpeaker({str(out)!r}, {RATE}); speaker.open()\n"
        "try:\n    speaker.write(bytes(32000)); speaker.drain()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, timeout=20)

    assert done.stdout.startswith(f"DeviceFailed speaker wav:{out}: File too large")
    assert done.stderr == ""


def test_real_time_is_kept_by_the_clock_of_the_system(tmp_path, out):
    heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", noise(0.2))), RATE)
    spoken = WavSpeaker(str(out), RATE)
    heard.open()
    spoken.open()
    began = time.monotonic()
    while frame := heard.read():
        spoken.write(frame)
    spoken.drain()
    took = time.monotonic() - began
    spoken.close()

    assert took > 0.21
    assert noise(0.2) in read_wav(out) or spoken.underruns  # a busy machine may have torn it


@pytest.mark.parametrize("piece", [7, 16384])
@pytest.mark.parametrize("channels", [1, 2, 6, 40, 5000])
def test_a_file_may_have_any_number_of_channels(monkeypatch, microphone, channels, piece):
    """Its first is heard; it is read in pieces of whole samples, however large those are."""
    monkeypatch.setattr(wav, "READ_BYTES", piece)
    pcm = noise(0.04, channels)
    heard = everything(microphone(header(channels=channels) + b"data" + struct.pack("<I", len(pcm)) + pcm))

    assert heard == np.frombuffer(pcm, np.int16)[::channels].tobytes()


def test_the_chosen_channel_of_a_file_is_heard(tmp_path, hands):
    pcm = noise(0.04, channels=6)
    for channel in (1, 4, 6):
        heard = WavMicrophone(str(write_wav(tmp_path / "in.wav", pcm, channels=6)), RATE, channel, pace=hands)
        heard.open()
        assert everything(heard) == np.frombuffer(pcm, np.int16)[channel - 1 :: 6].tobytes()


def test_a_channel_that_a_file_does_not_have_is_told(tmp_path):
    path = write_wav(tmp_path / "in.wav", noise(0.04, channels=2), channels=2)
    with pytest.raises(DeviceFailed) as refusal:
        WavMicrophone(str(path), RATE, 3).open()

    assert str(refusal.value) == (
        f"microphone wav:{path} has 2 channels, and microphone.channel is 3: choose 1 to 2, or leave it empty"
    )


def test_the_last_of_a_reply_is_not_played_to_its_end_when_it_is_cut(tmp_path):
    hands = Hands()
    speaker = WavSpeaker(str(tmp_path / "said.wav"), RATE, pace=hands)
    speaker.open()
    speaker.write(b"\1\1" * (RATE // 10))  # all of it fits into the buffer
    begun = hands.now()
    speaker.drain(cut=lambda: hands.now() - begun > 0.05)
    hands.turn(1.0)
    speaker.close()
    with wave.open(str(tmp_path / "said.wav")) as said:
        sounding = said.readframes(said.getnframes()).rstrip(b"\0")
    assert 0.05 <= len(sounding) / (2 * RATE) <= 0.07
