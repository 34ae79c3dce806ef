"""Check of microphone, loudspeaker and echo. Each step opens what it needs, and closes it again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from ..app.factories import WAV, open_echo, open_microphone, open_speaker, sound_rate
from ..audio.cues import CuePolicy, Cues
from ..config.model import Config
from ..core.actions import Cue
from ..core.errors import AgentError, DeviceFailed
from ..dsp.pcm import FRAME_MS, frame_bytes, frames, level, seconds
from ..dsp.resampling import resample
from ..hardware.channels import Channels, no_channel
from ..hardware.device_users import SOUND_DEVICES
from ..hardware.ports import Microphone, Speaker
from ..hardware.wav import read_wav
from . import channels, echo_advice, microphone_level
from .chirp import CHIRP_S, MAX_DELAY_S, NOISE_BEFORE_S, chirp, find, swallowed
from .findings import Finding, Mark, Now, Progress, noted
from .raw import RawMicrophone
from .running_agent import open_failed

MIC_LISTEN_S = 3.0
MIC_SETTLE_S = 0.2
"""What a card delivers first may be a click."""
METER_UPDATE_S = 0.1
MEASURED_CHIRPS = 3
"""After a first one, which wakes the loudspeaker and fills its buffer: from then on both cards keep time."""
MAX_WAKE_REPEATS, PAUSE_BEFORE_CHIRP_S = 2, 1.5
"""A first chirp whose beginning is missing is repeated, after so much silence that the loudspeaker sleeps again. What a
busy machine tears is torn elsewhere the next time."""
CHIRP_PERIOD_S = MAX_DELAY_S + CHIRP_S + NOISE_BEFORE_S + 0.05
TELEPHONE_HZ = 16000
"""A card with less than this leaves out what makes a voice clear."""
FIRST_FRAME_TIMEOUT_S = 5.0
"""For the first frame of the microphone, and for its end."""


class SoundCheck:
    """Steps about the audio devices of *config*. *quiet*: without any sound; *asked*: the user is asked to speak."""

    def __init__(self, config: Config, *, quiet: bool, asked: bool) -> None:
        self._config, self._quiet, self._asked = config, quiet, asked
        self._rate = sound_rate(config)
        self._in, self._out = config.microphone.device, config.speaker.device
        self._hears = self._sounds = False

    # The microphone ---------------------------------------------------------------------------------------------------

    def microphone(self) -> Progress:
        """Open the microphone, and measure its level."""
        yield Now("microphone", "opening")
        if self._in.startswith(WAV):
            yield from self._recording()
            return
        try:
            yield _card("microphone", "input", self._in, self._rate, self._config.microphone.channel)
        except DeviceFailed as error:
            yield open_failed("microphone", SOUND_DEVICES, error)
            return
        yield from self._listen()

    def _recording(self) -> Progress:
        path, chosen = self._in.removeprefix(WAV), self._config.microphone.channel
        pcm, count, rate = read_wav(path)
        if chosen and chosen > count:
            raise no_channel(f"microphone {self._in}", count, chosen)
        form = f"{seconds(pcm, rate * count):.1f} s at {rate} Hz, {_channels(count)}"
        yield Finding("microphone", f"the recording {path}: {form}", figures={"rate": rate, "channels": count})
        picker = Channels(count, rate, chosen, f"microphone {self._in}")
        mono = resample(picker.whole(pcm), rate, self._rate)
        yield from self._judged(mono.ljust(frame_bytes(self._rate), b"\0"), pcm, count, rate, picker.heard, asked=False)

    def _listen(self) -> Progress:
        """Read for MIC_LISTEN_S, and show the level meanwhile."""
        yield Now("level", "listening")
        heard: list[bytes] = []
        with closing(RawMicrophone(self._config.microphone, self._rate)) as microphone:
            microphone.open()
            for number in range(frames(1000 * (MIC_SETTLE_S + MIC_LISTEN_S))):
                if not (frame := microphone.read()):
                    break
                heard.append(frame)
                if number % frames(1000 * METER_UPDATE_S) == 0:
                    left = MIC_LISTEN_S + MIC_SETTLE_S - number * FRAME_MS / 1000
                    yield Now("level", f"speak now, {left:.0f} s" if self._asked else "listening", level(frame))
            gaps, (count, rate), used = microphone.overflows, microphone.form, microphone.heard
            raw = microphone.raw[2 * count * round(MIC_SETTLE_S * rate) :]
        mono = b"".join(heard[frames(1000 * MIC_SETTLE_S) :])
        yield from self._judged(mono, raw, count, rate, used, asked=self._asked)
        if gaps:
            times = "once" if gaps == 1 else f"{gaps} times"
            text = f"something was lost {times} in {MIC_LISTEN_S:g} s: this machine is too busy to read it in time"
            yield Finding("microphone", text, Mark.NOTE, "to see what keeps it busy, run: top", {"gaps": gaps})

    def _judged(self, mono: bytes, raw: bytes, count: int, rate: int, used: int, *, asked: bool) -> Progress:
        """Yield the findings about *mono*, the channel in use, and about the *count* channels of *raw* at *rate* Hz."""
        found = microphone_level.judge(microphone_level.measure(mono, self._rate), asked=asked)
        self._hears = found.mark is not Mark.FAIL
        yield found
        if len(raw) >= count * frame_bytes(rate):
            chosen = self._config.microphone.channel
            if several := channels.judge(raw, count, rate, heard=used, chosen=chosen):
                yield several

    # The loudspeaker --------------------------------------------------------------------------------------------------

    def loudspeaker(self) -> Progress:
        """Open the loudspeaker, and play two notes."""
        yield Now("loudspeaker", "opening")
        if self._out.startswith(WAV):
            yield _will_be_written(self._out.removeprefix(WAV))
            return
        try:
            card = _card("loudspeaker", "output", self._out, self._rate)
        except DeviceFailed as error:
            yield open_failed("loudspeaker", SOUND_DEVICES, error)
            return
        with closing(open_speaker(self._out, self._rate)) as speaker:
            speaker.open()
            said = self._tone(speaker)
            latency = speaker.latency
        self._sounds = True
        text = f"{card.text}, {1000 * latency:.0f} ms from here to the ear{said}"
        figures = {**card.figures, "latency_ms": round(1000 * latency)}
        advice = card.advice if self._config.speaker.volume else "speaker.volume is 0: nothing will be heard"
        yield noted("loudspeaker", text, advice, figures)

    def _tone(self, speaker: Speaker) -> str:
        """Play two notes as loud as a reply, unless *quiet*; return what was played, in words."""
        volume = self._config.speaker.volume
        if self._quiet or not volume:
            return ""
        notes = Cues(self._rate, CuePolicy(volume, volume)).sound(Cue.LISTENING)
        _play(speaker, self._silence(self._wake_s) + notes, self._rate)
        speaker.drain()
        return f"; it played two notes at volume {volume}"

    # The echo ---------------------------------------------------------------------------------------------------------

    def canceller(self) -> Progress:
        """Open the echo canceller, if it is asked for."""
        yield Now("canceller")
        open_echo(self._config, self._rate)
        if self._config.echo.mode == "cancel":
            yield Finding("canceller", "the canceller of WebRTC is running")

    def echo(self) -> Progress:
        """Measure the delay and level at which the microphone hears the loudspeaker."""
        yield Now("echo", "listening to itself")
        sound = chirp(self._rate, self._config.speaker.volume)
        if reason := self._unmeasurable(sound):
            yield Finding("echo", f"not measured: {reason}", Mark.SKIP)
            return
        speaker = open_speaker(self._out, self._rate)
        recording = _TestRecording(open_microphone(self._config.microphone, self._rate))
        with closing(speaker), recording.running():
            speaker.open()
            first, *written = self._chirp(speaker, sound, 1 + MEASURED_CHIRPS)
            result = self._found(sound, written, recording, speaker.latency)
            yield echo_advice.judge(result, self._config)
            if result.trusted:
                starts = [recording.at(moment) + result.delay for moment in written]

                def lost_of(moment: float) -> float:
                    return swallowed(sound, recording.pcm, self._rate, recording.at(moment) + result.delay, starts)

                yield from self._wakes(speaker, sound, first, lost_of)

    def _wakes(self, speaker: Speaker, sound: bytes, first: float, lost_of: Callable[[float], float]) -> Progress:
        """Measure what the loudspeaker swallows after silence. *first* is when the first chirp was written, and
        *lost_of* returns how many seconds are missing of one that was written then."""
        lost = [lost_of(first)]
        while all(lost) and len(lost) <= MAX_WAKE_REPEATS:
            yield Now("echo", "listening again for the beginning")
            (again,) = self._chirp(speaker, sound, 1)
            lost.append(lost_of(again))
        if all(lost):
            yield echo_advice.judge_wake(median(lost), CHIRP_S, self._config)

    def _unmeasurable(self, sound: bytes) -> str:
        if self._in.startswith(WAV) or self._out.startswith(WAV):
            return "this test needs a microphone and a loudspeaker, not files"
        if self._quiet:
            return "this test makes a sound, and --quiet was given"
        if not (self._hears and self._sounds):
            return "this test needs a microphone and a loudspeaker that work: see above"
        return "" if sound else "speaker.volume is 0"

    @property
    def _wake_s(self) -> float:
        return self._config.speaker.wake_ms / 1000

    def _silence(self, length: float) -> bytes:
        return bytes(2 * round(length * self._rate))

    def _chirp(self, speaker: Speaker, sound: bytes, count: int) -> list[float]:
        """Play *count* chirps after PAUSE_BEFORE_CHIRP_S; return when each was written (monotonic clock)."""
        time.sleep(PAUSE_BEFORE_CHIRP_S)
        gap = self._silence(CHIRP_PERIOD_S)[len(sound) :]
        began = _play(speaker, self._silence(self._wake_s) + (sound + gap) * count, self._rate)
        speaker.drop()
        starts = [self._wake_s + number * CHIRP_PERIOD_S for number in range(count)]
        return [start + min(began[frames(1000 * start) : frames(1000 * (start + CHIRP_S))]) for start in starts]

    def _found(
        self, sound: bytes, written: list[float], recording: _TestRecording, latency: float
    ) -> echo_advice.ChirpResult:
        pcm = recording.pcm
        arrivals = [find(sound, pcm, self._rate, recording.at(moment)) for moment in written]
        wave = np.frombuffer(pcm, np.int16)
        clipped = float((np.abs(wave.astype(np.int32)) >= microphone_level.CLIPPING_LEVEL).mean()) if len(wave) else 0.0
        return echo_advice.ChirpResult(len(written), [each for each in arrivals if each], latency, clipped)


class _TestRecording:
    """Reads *microphone*, which it owns, in a thread of its own."""

    def __init__(self, microphone: Microphone) -> None:
        self._microphone = microphone
        self._frames: list[bytes] = []
        self._read: list[float] = []  # when each of them was
        self._first, self._stopping = threading.Event(), threading.Event()
        self._failed: AgentError | None = None
        self._thread = threading.Thread(target=self._run, name="check microphone", daemon=True)

    @property
    def pcm(self) -> bytes:
        """All audio until now."""
        return b"".join(self._frames)

    def at(self, moment: float) -> float:
        """Return the place, in seconds, of what the card recorded at *moment* of the monotonic clock.

        The card keeps time; a read may be late, and never early: so the earliest of a while counts.
        """
        read = list(self._read)
        began = [at - (number + 1) * FRAME_MS / 1000 for number, at in enumerate(read)]
        then = [each for each, at in zip(began, read, strict=True) if 0 <= at - moment <= MAX_DELAY_S]
        return moment - min(then or began)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record from the first frame on, while in the ``with``. Raises what the microphone raises."""
        self._thread.start()
        try:
            if not self._first.wait(FIRST_FRAME_TIMEOUT_S) or self._failed:
                raise self._failed or DeviceFailed(f"the microphone delivered nothing for {FIRST_FRAME_TIMEOUT_S:g} s")
            yield
        finally:
            self._stopping.set()
            self._thread.join(FIRST_FRAME_TIMEOUT_S)
        if self._failed:
            raise self._failed

    def _run(self) -> None:
        try:
            with closing(self._microphone) as microphone:
                microphone.open()
                while not self._stopping.is_set() and (frame := microphone.read()):
                    self._read.append(time.monotonic())
                    self._frames.append(frame)
                    self._first.set()
        except AgentError as error:
            self._failed = error
        finally:
            self._first.set()


def _play(speaker: Speaker, pcm: bytes, rate: int) -> list[float]:
    """Play *pcm*; return for each 20 ms of it when, going by those, its first sample was written.

    The loudspeaker takes audio when it has room, and keeps time; a write may be late, and never early: so the earliest
    of a while is right.
    """
    size, began = frame_bytes(rate), []
    for begin in range(0, len(pcm), size):
        speaker.write(pcm[begin : begin + size])
        began.append(time.monotonic() - seconds(pcm[: begin + size], rate))
    return began


def _card(name: str, way: str, device: str, rate: int, channel: int | None = None) -> Finding:
    """Open a card and close it again; return the finding about its rate and channels. Raises DeviceFailed."""
    from ..hardware.portaudio import MICROPHONE_PERIOD_MS, SPEAKER_PERIOD_MS
    from ..hardware.portaudio_stream import PortAudioStream

    with closing(PortAudioStream("input" if way == "input" else "output", device, channel)) as card:
        card.open(rate, MICROPHONE_PERIOD_MS if way == "input" else SPEAKER_PERIOD_MS)
        text = f"{device!r} at {card.rate} Hz, {_channels(card.channels)}"
        if card.rate != rate:
            text += f", converted to {rate} Hz"
        figures = {"device": device, "rate": card.rate, "channels": card.channels}
        key = "microphone.device" if way == "input" else "speaker.device"
        advice = f"that is telephone quality; to choose a better card, set {key}: device-agent devices"
        return noted(name, text, advice if card.rate < TELEPHONE_HZ else "", figures)


def _will_be_written(path: str) -> Finding:
    folder = Path(path).parent
    if not folder.is_dir():
        return Finding("loudspeaker", f"there is no folder {folder}", Mark.FAIL, "make it, or name a file elsewhere")
    return Finding("loudspeaker", f"will be written to {path}")


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
