"""Sound cards, through PortAudio's blocking calls. The only file that knows PyAudio.

What decides the shape of this file:

- A stream belongs to the thread that opened it. Closing or stopping it from another thread while it reads or writes
  crashes the process, so every port has one owner. What PortAudio shares between streams (how many use it, its list of
  devices, its list of streams) has no lock of its own: ``_LOCK`` is that lock, and it is never held while sound flows.
- PyAudio closes a stream by itself as soon as a call on it fails. A port that raised DeviceFailed can only be closed,
  and may then be opened again.
- PortAudio looks for devices when its first user comes and not again before the last one has left. A card that was
  plugged in later is found after **every** port of the process has been closed once.
- A blocking call to a card that was pulled out may never return and burn a whole core meanwhile; to one that is frozen,
  it just never returns. So we wait here, by asking the card what it can give or take, and call PortAudio for no more
  than that. Rarely a call hangs all the same (``close`` while a sound server is frozen): whoever supervises the owner
  then ends the process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from .. import audio
from ..errors import DeviceFailed

log = logging.getLogger(__name__)

RATES = (16000, 24000, 32000, 44100, 48000)
"""Rates worth asking a card for, in Hz."""

FALLBACKS = (48000, 44100, 32000, 16000)
"""Where a card does not take the service's own rate, it is opened at the first of these that it takes."""

Way = Literal["input", "output"]

MICROPHONE_PERIOD_MS = audio.FRAME_MS
SPEAKER_PERIOD_MS = 2 * audio.FRAME_MS
"""PortAudio gives a card a buffer of two to three periods. The speaker's are longer: they outlast a busy processor."""

RESAMPLER_S = 0.010
"""What the resampler holds back on average, when there is one."""

PAUSES: dict[Way, float] = {"input": 0.001, "output": 0.010}
"""The shortest wait in seconds before a card is asked again. Only sound that comes in is worth a millisecond."""

STALLED_S = 2.0
"""A card that moves nothing for so long has failed. Busy machines lose half a second now and then."""

LOCK_S = 10.0
"""How long a port waits while another one is being opened or closed."""

LISTED = 12
"""How many devices an error message names at most."""

_WORDS: dict[Way, str] = {"input": "microphone", "output": "speaker"}

_LOCK = threading.Lock()

_INT16 = 8  # PortAudio's paInt16
_BAD_CHANNELS, _BAD_RATE, _NO_DEVICE, _BAD_FORMAT, _BUSY = -9998, -9997, -9996, -9994, -9985  # its error codes
_OVERFLOWED = -9981
_ADVICE = {
    _BAD_CHANNELS: "it takes neither mono nor stereo; choose another one with: device-agent devices",
    _BAD_RATE: "it takes none of our rates; choose another one with: device-agent devices",
    _NO_DEVICE: "choose one with: device-agent devices",
    _BUSY: "another program uses it; stop that program or choose another device",
}
_CABLE = "check its cable and the sound server; device-agent devices shows what is there"
_INSTALL = "install it with: apt install portaudio19-dev python3-dev gcc; pip install PyAudio"


@dataclass(frozen=True)
class SoundDevice:
    """What PortAudio knows about a card."""

    index: int
    name: str
    inputs: int
    """How many channels it records; 0 where it cannot."""
    outputs: int
    """How many channels it plays; 0 where it cannot."""
    rate: int
    """The rate it prefers, in Hz."""
    rates: tuple[int, ...] = ()
    """Those of RATES that it really opens at, in each direction it has; none while another program uses it."""

    def channels(self, way: Way) -> int:
        """Return how many channels it has in that direction."""
        return self.inputs if way == "input" else self.outputs


def devices() -> list[SoundDevice]:
    """Return every sound device, with the rates it opens at: takes some milliseconds for each. Raises DeviceFailed.

    While a port of this process is open these are the devices of the moment when it was opened.
    """
    with _alone(), _said_of("sound devices"):
        system = _initialize()
        try:
            return [replace(device, rates=_rates(system, device)) for device in _seen(system)]
        finally:
            system.terminate()


class PortAudioMicrophone:
    """A card's input in frames of 20 ms at *rate* Hz. *device* is "default" or a part of a name.

    All methods belong to one thread; ``close`` from another one asks the owner to close.
    """

    overflows: int
    """How many gaps there are in what was read, because it was read too late. See ``_notice_overflow``."""

    def __init__(self, rate: int, device: str = "default") -> None:
        self.overflows = 0
        self._rate = rate
        self._card = _Card("input", device)
        self._framer = audio.Framer(audio.frame_bytes(rate))
        self._resampler = audio.Resampler(rate, rate)
        self._missing = 0  # of the card's samples, until the next whole period
        self._full_at = 0.0  # when the card's buffer overflows if nobody reads

    def open(self) -> None:
        """Begin to record. Raises DeviceFailed."""
        self._card.open(self._rate, MICROPHONE_PERIOD_MS)
        self._framer = audio.Framer(audio.frame_bytes(self._rate))
        self._resampler = audio.Resampler(self._card.rate, self._rate)
        self._card.call("start_stream")
        self._missing = self._card.period
        self._full_at = time.monotonic() + self._card.seconds(self._card.buffer)

    def read(self) -> bytes:
        """Wait for the next frame. Raises DeviceFailed when the card is gone or moved nothing for STALLED_S.

        Returns b"" when another thread asked to close: a card itself has no end.
        """
        while not (frame := self._framer.take()):
            if not (pcm := self._record()):
                return b""
            self._framer.feed(self._resampler.feed(audio.fold(pcm, self._card.channels)))
        return frame

    def close(self) -> None:
        """Stop recording. Harmless on a port that is not open; from another thread, ``read`` returns b"" instead."""
        self._card.close()

    def _record(self) -> bytes:
        """Wait for sound; return all there is, a buffer at most, as the card delivers it; b"" when asked to close.

        All, and less than a period, too: half a block of sound that we left in the hands of a sound server's library
        can lock that up for good, if the server dies meanwhile.
        """
        self._notice_overflow()
        waiting = self._card.wait(1, self._missing, self._card.period)
        if not waiting:
            return b""
        # False: or else PyAudio would close the stream for good at the first overflow.
        pcm: bytes = self._card.call("read", waiting, False)
        self._missing = self._card.period - (waiting - self._missing) % self._card.period
        self._full_at = time.monotonic() + self._card.seconds(self._card.buffer)
        return pcm

    def _notice_overflow(self) -> None:
        """Count an overflow since the last read.

        PortAudio notices an overflow and restarts the card, but PyAudio can only close the stream over it or keep
        silent. So this goes by how an overflow looks from outside: we stayed away for longer than the card had room,
        and find its buffer not full but emptied by the restart. One is counted for each gap, however long. Neither a
        card that stood still while we waited for it nor a sound server that kept the sound for us counts.
        """
        if time.monotonic() >= self._full_at and self._card.available() < self._card.buffer / 2:
            self.overflows += 1


class PortAudioSpeaker:
    """A card's output for s16le mono at *rate* Hz. *device* is "default" or a part of a name, *volume* is in percent.

    The card runs from the first ``write`` to ``drain`` or ``drop`` only, so a silent speaker costs nothing. All methods
    belong to one thread; any thread may ask for ``latency``, turn the volume with ``gain.set``, and with ``close`` ask
    the owner to close.
    """

    underruns: int
    """How often ``write`` found the card silent, because it came too late. See ``_notice_underrun``."""

    def __init__(self, rate: int, device: str = "default", volume: float = 100) -> None:
        self.underruns = 0
        self.gain = audio.Gain(volume)
        self._rate = rate
        self._card = _Card("output", device)
        self._resampler = audio.Resampler(rate, rate)
        self._latency = 0.0
        self._playing = False  # between the first write and the end of a reply
        self._dry_at = 0.0  # when the card will have played everything, at the earliest; 0: it got nothing yet

    @property
    def latency(self) -> float:
        """Seconds from ``write`` to the ear in the midst of a reply, when the card's buffer is full but for one frame.

        0 until the first ``open``. What a sound server adds of its own, PortAudio does not know.
        """
        return self._latency

    def open(self) -> None:
        """Reserve the card; it stays silent until the first ``write``. Raises DeviceFailed."""
        self._card.open(self._rate, SPEAKER_PERIOD_MS)
        self._resampler = audio.Resampler(self._rate, self._card.rate)
        # A buffer with room for one frame. PortAudio's own number leaves out the whole period that sounds just now.
        held = 0.0 if self._card.rate == self._rate else RESAMPLER_S
        self._latency = self._card.seconds(self._card.buffer) - audio.FRAME_MS / 1000 + held
        self._playing = False

    def write(self, pcm: bytes) -> None:
        """Play *pcm*; waits while the card's buffer is full. Raises DeviceFailed, also when it stands still."""
        if self._playing:
            self._notice_underrun()
        else:
            self._card.call("start_stream")
            self._playing, self._dry_at = True, 0.0
        self._play(self._resampler.feed(self.gain.apply(pcm)))

    def drain(self, cut: Callable[[], bool] = lambda: False) -> None:
        """Wait until everything written has been heard, or *cut* is true; then stop the card. Raises DeviceFailed."""
        if not self._playing:
            return
        # PortAudio never waits for the end of a buffer, it drops it. But when the card has taken a whole buffer of
        # silence behind the last word, then that word is out; the period more is for what rounding there may be.
        self._play(self._resampler.flush() + bytes(2 * (self._card.buffer + self._card.period)), cut)
        self.drop()

    def drop(self) -> None:
        """Silence the card at once; forget what was written and not heard. Raises DeviceFailed."""
        self._resampler.clear()
        if self._playing:
            self._playing = False
            self._card.call("stop_stream")

    def close(self) -> None:
        """Silence the card and give it back. Harmless on a port that is not open.

        From another thread, ``write`` and ``drain`` no longer wait instead; what they had to play is lost.
        """
        self._card.close()

    def _play(self, pcm: bytes, cut: Callable[[], bool] = lambda: False) -> None:
        """Give the card *pcm*, which has its rate already, as far as nobody cuts it."""
        for start in range(0, len(pcm), 2 * self._card.period):
            if cut():
                return
            piece = pcm[start : start + 2 * self._card.period]
            size = len(piece) // 2
            if not self._card.wait(size, size, size):
                return
            self._card.call("write", audio.unfold(piece, self._card.channels))
            now = time.monotonic()
            longest = now + self._card.seconds(self._card.buffer)
            self._dry_at = min(longest, max(now, self._dry_at) + audio.seconds(piece, self._card.rate))

    def _notice_underrun(self) -> None:
        """Count an underrun since the last write.

        Here, too, PortAudio notices and restarts the card while PyAudio can only close the stream or keep silent. But a
        card in the middle of a reply that has room for a whole buffer, and had the time to play one, is silent. One is
        counted for each gap, however long.
        """
        if 0 < self._dry_at <= time.monotonic() and self._card.available() >= self._card.buffer:
            self.underruns += 1


class _Card:
    """PyAudio and one stream: finds the card, opens it at a rate it takes, puts every failure into words.

    All methods belong to one thread.
    """

    def __init__(self, way: Way, device: str) -> None:
        self.rate = 0
        """Hz of the card itself."""
        self.channels = 1
        """One or two, interleaved."""
        self.period = 0
        """Samples of each channel that it moves at once."""
        self.buffer = 0
        """Samples of each channel that it holds."""
        self._way: Way = way
        self._device = device
        self._system: Any = None
        self._stream: Any = None
        self._worked = (0, 0)  # rate and channels of the last success
        self._owner = threading.current_thread()
        self._due = 0.0  # when the card should have moved on
        self._watched = False  # it had not by then, and we have been asking since
        self._leaving = threading.Event()  # another thread asked to close

    def __str__(self) -> str:
        return f"{_WORDS[self._way]} {self._device!r}"

    def open(self, rate: int, period_ms: int) -> None:
        """Open the card at *rate* Hz or else at one of FALLBACKS, not running yet. Raises DeviceFailed."""
        self.close()
        if self._system is not None:
            raise DeviceFailed(f"{self} is still used by the thread {self._owner.name}: wait for it")
        self._owner = threading.current_thread()
        self._leaving.clear()
        with _alone(), _said_of(str(self)):
            self._system = _initialize()
            try:
                device = _choose(self._system, self._way, self._device)
                self._stream = self._open_at_best(device, rate, period_ms)
                self._measure()
            except BaseException:
                self._release()
                raise
        log.info("%s is %r at %d Hz, %d channel(s)", self, device.name, self.rate, self.channels)

    def close(self) -> None:
        """Give the card back; from another thread than the owner's, only ask for it. Harmless where it is not open."""
        if self._system is None:
            return
        if self._owner is not threading.current_thread() and self._owner.is_alive():
            self._leaving.set()
            return
        with _alone(), _said_of(str(self)):
            self._release()

    def seconds(self, samples: int) -> float:
        """Return how long it takes the card to move so many samples."""
        return samples / self.rate

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the stream. Raises DeviceFailed."""
        if self._stream is None:
            raise DeviceFailed(f"{self} is not open: call open first")
        try:
            return getattr(self._stream, method)(*arguments)
        except (OSError, ValueError) as error:
            raise _failed(str(self), error) from error

    def available(self) -> int:
        """Return how many samples the card can give or take without waiting. Raises DeviceFailed."""
        count: int = self.call(f"get_{'read' if self._way == 'input' else 'write'}_available")
        if count < 0 and count != _OVERFLOWED:  # these calls return their errors
            error = OSError(count, "it does not answer")
            raise _failed(str(self), error) from error
        return max(0, count)

    def wait(self, least: int, samples: int, step: int) -> int:
        """Wait until the card can give or take *least* samples; return how many it can, 0 when asked to close.

        *samples* are what the caller really waits for, and *step* samples later he will wait again. Raises DeviceFailed
        after STALLED_S without *least*.
        """
        if self._leaving.is_set():
            return 0
        begun, shortest = time.monotonic(), PAUSES[self._way]
        while (ready := self.available()) < least:
            now = time.monotonic()
            if now > begun + STALLED_S:
                raise DeviceFailed(f"{self}: it has stood still for {STALLED_S:g} s: {_CABLE}")
            self._watched |= now >= self._due
            if self._leaving.wait(max(shortest, self._due - now)):
                return 0
        if ready >= samples:
            self._expect(step)
        return ready

    def _expect(self, step: int) -> None:
        """Learn from samples that came just now when the next ones will come.

        A card moves in steps that keep time. So the next step is due as long after this one as it lasts, or a little
        earlier, to find out where in between it really comes: two questions a step, and none is missed by more than the
        shortest pause. A step that was there when we looked, maybe late, came when it was due.
        """
        now = time.monotonic()
        came = now if self._watched else min(now, self._due)
        self._due = max(now, came + self.seconds(step) - PAUSES[self._way] / 4)
        self._watched = False

    def _open_at_best(self, device: SoundDevice, rate: int, period_ms: int) -> Any:
        """Return a stream, opened in the first format that the card takes."""
        refused: OSError | None = None
        # What worked last time comes first: PortAudio writes three lines to standard error for every refusal.
        formats = sorted(_formats(rate, device.channels(self._way)), key=lambda each: each != self._worked)
        for hertz, channels in formats:
            self.rate, self.channels, self.period = hertz, channels, hertz * period_ms // 1000
            try:
                stream = self._open_stream(device.index)
                self._worked = hertz, channels
                return stream
            except OSError as error:
                # Only a refused format is worth another try; a card that is gone or busy says so each time.
                if _code(error) not in (_BAD_RATE, _BAD_CHANNELS, _BAD_FORMAT):
                    raise
                refused = refused or error
        raise refused or OSError(_BAD_CHANNELS, "Invalid number of channels")

    def _open_stream(self, index: int) -> Any:
        ways = {self._way: True, f"{self._way}_device_index": index}
        return self._system.open(self.rate, self.channels, _INT16, frames_per_buffer=self.period, start=False, **ways)

    def _measure(self) -> None:
        """Learn how much the card really holds. An output is asked, which makes no sound as long as nothing is written;
        for an input, PortAudio's latency is the buffer without its last period.
        """
        if self._way == "input":
            self.buffer = round(self._stream.get_input_latency() * self.rate) + self.period
            return
        self._stream.start_stream()
        self.buffer = self.available()
        self._stream.stop_stream()
        self.period = min(self.period, self.buffer)

    def _release(self) -> None:
        system, self._system, self._stream = self._system, None, None
        system.terminate()  # closes the stream first


def _formats(rate: int, channels: int) -> list[tuple[int, int]]:
    """Return the rates and numbers of channels to try, best first."""
    rates = dict.fromkeys((rate, *FALLBACKS))
    return [(hertz, count) for hertz in rates for count in (1, 2) if count <= channels]


def _choose(system: Any, way: Way, wanted: str) -> SoundDevice:
    """Return the device that *wanted* means: its name, a part of its name, or "default". Raises DeviceFailed."""
    able = [device for device in _seen(system) if device.channels(way)]
    matches = _matches(system, way, wanted, able)
    if not matches:
        raise DeviceFailed(f"{_WORDS[way]} {wanted!r} is not there; {_there(able)}: run device-agent devices")
    if len(matches) > 1:
        log.warning("%s %r could be %s: taking the first", _WORDS[way], wanted, _names(matches))
    return matches[0]


def _matches(system: Any, way: Way, wanted: str, able: list[SoundDevice]) -> list[SoundDevice]:
    if wanted == "default":
        try:
            index = getattr(system, f"get_default_{way}_device_info")()["index"]
        except OSError:  # PortAudio's word for none
            return []
        return [device for device in able if device.index == index]
    exact = [device for device in able if device.name.casefold() == wanted.casefold()]
    return exact[:1] or [device for device in able if wanted.casefold() in device.name.casefold()]


def _there(able: list[SoundDevice]) -> str:
    return f"there is {_names(able)}" if able else "there is none at all, check its cable"


def _names(some: list[SoundDevice]) -> str:
    names = ", ".join(repr(device.name) for device in some[:LISTED])
    return names if len(some) <= LISTED else f"{names} and {len(some) - LISTED} more"


def _seen(system: Any) -> list[SoundDevice]:
    """Return all devices, without their rates. An index that is not from here crashes PyAudio."""
    return [_device(system.get_device_info_by_index(index)) for index in range(system.get_device_count())]


def _device(info: dict[str, Any]) -> SoundDevice:
    name = info["name"] if isinstance(info["name"], str) else info["name"].decode(errors="replace")
    rate = round(info["defaultSampleRate"])
    return SoundDevice(info["index"], name, info["maxInputChannels"], info["maxOutputChannels"], rate)


def _rates(system: Any, device: SoundDevice) -> tuple[int, ...]:
    """Return those of RATES that the device opens at in each direction it has."""
    ways: list[Way] = [way for way in _WORDS if device.channels(way)]
    return tuple(rate for rate in RATES if ways and all(_opens(system, device, way, rate) for way in ways))


def _opens(system: Any, device: SoundDevice, way: Way, rate: int) -> bool:
    for count in range(1, min(2, device.channels(way)) + 1):
        question = {f"{way}_device": device.index, f"{way}_channels": count, f"{way}_format": _INT16}
        try:
            if system.is_format_supported(rate, **question):
                return True
        except (OSError, ValueError):  # its way to say no
            continue
    return False


@contextmanager
def _alone() -> Iterator[None]:
    """Hold PortAudio's missing lock. Raises DeviceFailed after LOCK_S."""
    if not _LOCK.acquire(timeout=LOCK_S):
        raise DeviceFailed(f"another sound device has been opening or closing for {LOCK_S:g} s: {_CABLE}")
    try:
        yield
    finally:
        _LOCK.release()


@contextmanager
def _said_of(name: str) -> Iterator[None]:
    """Turn what PyAudio raises into DeviceFailed, with the cause kept."""
    try:
        yield
    except DeviceFailed:
        raise
    except (OSError, ValueError) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: OSError | ValueError) -> DeviceFailed:
    code = _code(error)
    seen = f"{error.args[1]} (PortAudio {code})" if code else str(error)
    return DeviceFailed(f"{name}: {seen}: {_ADVICE.get(code, _CABLE)}")


def _code(error: BaseException) -> int:
    """Return PortAudio's error code, 0 where there is none; some errors of PyAudio have only a text."""
    match error.args:
        case (int(code), _):
            return code
    return 0


def _initialize() -> Any:
    """Return a new user of PortAudio. Raises DeviceFailed, OSError."""
    try:
        library = importlib.import_module("pyaudio")
    except (ImportError, OSError) as error:
        raise DeviceFailed(f"PyAudio does not load ({error}): {_INSTALL}") from error
    _hush()
    _require_default_device()
    return library.PyAudio()


@functools.cache  # which also keeps the callbacks alive for as long as the libraries may call them
def _hush() -> list[object]:
    """Silence ALSA and JACK, which write some eighty lines to standard error about cards that nobody asked for."""
    alsa_says = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)(
        lambda *_: None
    )
    jack_says = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lambda _: None)
    setters = {
        "libasound.so.2": {"snd_lib_error_set_handler": alsa_says},
        "libjack.so.0": {"jack_set_error_function": jack_says, "jack_set_info_function": jack_says},
    }
    for name, functions in setters.items():
        try:
            library = ctypes.CDLL(name)
            for function, handler in functions.items():
                getattr(library, function)(handler)
        except (OSError, AttributeError) as error:
            log.debug("%s stays as loud as it is: %s", name, error)
    return [alsa_says, jack_says]


def _require_default_device() -> None:
    """Raise DeviceFailed where ALSA has no device called default: PortAudio would abort the process over that."""
    try:
        alsa = ctypes.CDLL("libasound.so.2")
        alsa.snd_config_update()
        settings = ctypes.c_void_p.in_dll(alsa, "snd_config")
    except (OSError, ValueError, AttributeError):
        return  # no ALSA, no such trap
    if not settings or alsa.snd_config_search(settings, b"pcm.default", ctypes.byref(ctypes.c_void_p())) < 0:
        raise DeviceFailed("ALSA knows no device 'default': check asound.conf and apt install libasound2-data")
