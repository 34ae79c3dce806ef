"""Microphone, loudspeaker, and what the one hears of the other. Each step opens what it needs and gives it back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from ..app.factories import WAV, open_echo, open_microphone, open_speaker, sound_rate
from ..audio.cues import Cues
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
from .chirp import LATEST_S, LENGTH_S, NOISE_S, chirp, find, swallowed
from .findings import Finding, Mark, Now, Progress
from .raw import RawMicrophone
from .running_agent import failed

LISTEN_S = 3.0
"""How long the microphone is listened to."""
SETTLE_S = 0.2
"""What a card delivers first may be a click."""
METER_S = 0.1
"""How often the meter moves."""
CHIRPS = 3
"""So many are listened for, after one that tells whether the loudspeaker was awake, and fills its buffer: from then on
both cards keep time."""
AGAIN, PAUSE_S = 2, 1.5
"""A chirp whose beginning is missing is played so many times more, each after so much silence, as is the first: a
loudspeaker that has just played is still awake. What a busy machine tears is torn elsewhere the next time."""
EVERY_S = LATEST_S + LENGTH_S + NOISE_S + 0.05
"""From one chirp to the next."""
TELEPHONE_HZ = 16000
"""A card with less than this leaves out what makes a voice clear."""
BEGIN_S = 5.0
"""How long the microphone may take to deliver its first frame, or to stop."""


class SoundCheck:
    """Steps about the sound of the device that *config* describes. *quiet*: they make none themselves; *asked*:
    somebody is asked to speak."""

    def __init__(self, config: Config, *, quiet: bool, asked: bool) -> None:
        self._config, self._quiet, self._asked = config, quiet, asked
        self._rate = sound_rate(config)
        self._in, self._out = config.microphone.device, config.speaker.device
        self._hears = self._sounds = False

    # The microphone ---------------------------------------------------------------------------------------------------

    def microphone(self) -> Progress:
        """Does it open, and how loud is it?"""
        yield Now("microphone", "opening")
        if self._in.startswith(WAV):
            yield from self._recording()
            return
        try:
            yield _card("microphone", "input", self._in, self._rate, self._config.microphone.channel)
        except DeviceFailed as error:
            yield failed("microphone", SOUND_DEVICES, error)
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
        yield microphone_level.judge(
            microphone_level.measure(mono.ljust(frame_bytes(self._rate), b"\0"), self._rate), asked=False
        )
        if several := self._several(pcm, count, rate, picker.heard):
            yield several

    def _listen(self) -> Progress:
        """Read for LISTEN_S, and show how loud it is."""
        yield Now("level", "listening")
        heard: list[bytes] = []
        with closing(RawMicrophone(self._config.microphone, self._rate)) as microphone:
            microphone.open()
            for number in range(frames(1000 * (SETTLE_S + LISTEN_S))):
                if not (frame := microphone.read()):
                    break
                heard.append(frame)
                if number % frames(1000 * METER_S) == 0:
                    left = LISTEN_S + SETTLE_S - number * FRAME_MS / 1000
                    yield Now("level", f"speak now, {left:.0f} s" if self._asked else "listening", level(frame))
            gaps, (count, rate) = microphone.overflows, microphone.form
            settled = microphone.raw[2 * count * round(SETTLE_S * rate) :]
            several = self._several(settled, count, rate, microphone.heard)
        found = microphone_level.judge(
            microphone_level.measure(b"".join(heard[frames(1000 * SETTLE_S) :]), self._rate), asked=self._asked
        )
        self._hears = found.mark is not Mark.FAIL
        yield found
        if several:
            yield several
        if gaps:
            times = "once" if gaps == 1 else f"{gaps} times"
            text = f"something was lost {times} in {LISTEN_S:g} s: this machine is too busy to read it in time"
            yield Finding("microphone", text, Mark.NOTE, "to see what keeps it busy, run: top", {"gaps": gaps})

    def _several(self, raw: bytes, count: int, rate: int, heard: int) -> Finding | None:
        """Return what to say of *count* channels at *rate* Hz, if there are several, and sound for that."""
        if len(raw) < count * frame_bytes(rate):
            return None
        return channels.judge(raw, count, rate, heard=heard, chosen=self._config.microphone.channel)

    # The loudspeaker --------------------------------------------------------------------------------------------------

    def loudspeaker(self) -> Progress:
        """Does it open, and does it sound?"""
        yield Now("loudspeaker", "opening")
        if self._out.startswith(WAV):
            yield _will_be_written(self._out.removeprefix(WAV))
            return
        try:
            card = _card("loudspeaker", "output", self._out, self._rate)
        except DeviceFailed as error:
            yield failed("loudspeaker", SOUND_DEVICES, error)
            return
        with closing(open_speaker(self._out, self._rate)) as speaker:
            speaker.open()
            said = self._tone(speaker)
            latency = speaker.latency
        self._sounds = True
        text = f"{card.text}, {1000 * latency:.0f} ms from here to the ear{said}"
        figures = {**card.figures, "latency_ms": round(1000 * latency)}
        if self._config.speaker.volume == 0:
            yield Finding("loudspeaker", text, Mark.NOTE, "speaker.volume is 0: nothing will be heard", figures)
        else:
            yield Finding("loudspeaker", text, card.mark, card.advice, figures)

    def _tone(self, speaker: Speaker) -> str:
        """Play two notes as loud as a reply, unless that is not wanted; return what to say of it."""
        volume = self._config.speaker.volume
        if self._quiet or not volume:
            return ""
        notes = Cues(self._rate, volume=volume, alarm_volume=volume).sound(Cue.LISTENING)
        _play(speaker, self._silence(self._wake_s) + notes, self._rate)
        speaker.drain()
        return f"; it played two notes at volume {volume}"

    # What the one hears of the other ----------------------------------------------------------------------------------

    def canceller(self) -> Progress:
        """Is there what takes the device's own voice out?"""
        yield Now("canceller")
        open_echo(self._config, self._rate)
        if self._config.echo.mode == "cancel":
            yield Finding("canceller", "the canceller of WebRTC is running")

    def echo(self) -> Progress:
        """How late and how loud does the device hear itself?"""
        yield Now("echo", "listening to itself")
        sound = chirp(self._rate, self._config.speaker.volume)
        if reason := self._unmeasurable(sound):
            yield Finding("echo", f"not measured: {reason}", Mark.SKIP)
            return
        speaker = open_speaker(self._out, self._rate)
        recorder = _TestRecording(open_microphone(self._config.microphone, self._rate))
        with closing(speaker), recorder.recording():
            speaker.open()
            first, *handed = self._chirp(speaker, sound, 1 + CHIRPS)
            heard = self._found(sound, handed, recorder, speaker.latency)
            yield echo_advice.judge(heard, self._config)
            if echo_advice.trusted(heard):
                others = [recorder.at(moment) + heard.delay for moment in handed]
                yield from self._wakes(speaker, sound, recorder, heard.delay, first, others)

    def _wakes(
        self,
        speaker: Speaker,
        sound: bytes,
        recorder: _TestRecording,
        delay: float,
        first: float,
        others: Sequence[float],
    ) -> Progress:
        """Does it swallow the beginning of what it gets? *first* is when the first chirp was handed over; it comes back
        after *delay*, and *others* are when whole ones began in what was recorded; all of that in seconds."""
        lost = [swallowed(sound, recorder.pcm, self._rate, recorder.at(first) + delay, others)]
        while all(lost) and len(lost) <= AGAIN:
            yield Now("echo", "listening again for the beginning")
            (again,) = self._chirp(speaker, sound, 1)
            lost.append(swallowed(sound, recorder.pcm, self._rate, recorder.at(again) + delay, others))
        if all(lost):
            yield echo_advice.judge_wake(median(lost), LENGTH_S, self._config)

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
        """Play so many chirps after PAUSE_S; return for each when it was handed over, in seconds of the monotonic
        clock."""
        time.sleep(PAUSE_S)
        gap = self._silence(EVERY_S)[len(sound) :]
        began = _play(speaker, self._silence(self._wake_s) + (sound + gap) * count, self._rate)
        speaker.drop()
        starts = [self._wake_s + number * EVERY_S for number in range(count)]
        return [start + min(began[frames(1000 * start) : frames(1000 * (start + LENGTH_S))]) for start in starts]

    def _found(self, sound: bytes, handed: list[float], recorder: _TestRecording, latency: float) -> echo_advice.Heard:
        pcm = recorder.pcm
        arrivals = [find(sound, pcm, self._rate, recorder.at(moment)) for moment in handed]
        wave = np.frombuffer(pcm, np.int16)
        clipped = float((np.abs(wave.astype(np.int32)) >= microphone_level.RAIL).mean()) if len(wave) else 0.0
        return echo_advice.Heard(len(handed), [each for each in arrivals if each], latency, clipped)


class _TestRecording:
    """Reads a microphone in a thread of its own, its owner, and knows when what it read was heard."""

    def __init__(self, microphone: Microphone) -> None:
        self._microphone = microphone
        self._frames: list[bytes] = []
        self._read: list[float] = []  # when each of them was
        self._first, self._stopping = threading.Event(), threading.Event()
        self._failed: AgentError | None = None
        self._thread = threading.Thread(target=self._run, name="check microphone", daemon=True)

    @property
    def pcm(self) -> bytes:
        """All that was read."""
        return b"".join(self._frames)

    def at(self, moment: float) -> float:
        """Return how many seconds of it could have been read at *moment*, of the monotonic clock, at the earliest.

        The card keeps time; the thread that reads may be late, and never early: so it goes by the earliest of a while.
        """
        came = list(self._read)
        began = [read - (number + 1) * FRAME_MS / 1000 for number, read in enumerate(came)]
        then = [each for each, read in zip(began, came, strict=True) if 0 <= read - moment <= LATEST_S]
        return moment - min(then or began)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record from the first frame on, while in the ``with``. Raises what the microphone raises."""
        self._thread.start()
        try:
            if not self._first.wait(BEGIN_S) or self._failed:
                raise self._failed or DeviceFailed(f"the microphone delivered nothing for {BEGIN_S:g} s")
            yield
        finally:
            self._stopping.set()
            self._thread.join(BEGIN_S)
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
    """Play *pcm*; return for each 20 ms of it when, going by those, its first sample was handed over.

    The loudspeaker takes a piece when it has room, and keeps time; this thread may be late, and never early: the
    earliest of a while is right.
    """
    size, began = frame_bytes(rate), []
    for begin in range(0, len(pcm), size):
        speaker.write(pcm[begin : begin + size])
        began.append(time.monotonic() - seconds(pcm[: begin + size], rate))
    return began


def _card(name: str, way: str, device: str, rate: int, channel: int | None = None) -> Finding:
    """Open a card and close it again; return what it really does. Raises DeviceFailed."""
    from ..hardware.portaudio import MICROPHONE_PERIOD_MS, SPEAKER_PERIOD_MS
    from ..hardware.portaudio_stream import PortAudioStream

    with closing(PortAudioStream("input" if way == "input" else "output", device, channel)) as card:
        card.open(rate, MICROPHONE_PERIOD_MS if way == "input" else SPEAKER_PERIOD_MS)
        text = f"{device!r} at {card.rate} Hz, {_channels(card.channels)}"
        if card.rate != rate:
            text += f", converted to {rate} Hz"
        figures = {"device": device, "rate": card.rate, "channels": card.channels}
        if card.rate < TELEPHONE_HZ:
            key = "microphone.device" if way == "input" else "speaker.device"
            advice = f"that is telephone quality; to choose a better card, set {key}: device-agent devices"
            return Finding(name, text, Mark.NOTE, advice, figures)
        return Finding(name, text, figures=figures)


def _will_be_written(path: str) -> Finding:
    folder = Path(path).parent
    if not folder.is_dir():
        return Finding("loudspeaker", f"there is no folder {folder}", Mark.FAIL, "make it, or name a file elsewhere")
    return Finding("loudspeaker", f"will be written to {path}")


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
