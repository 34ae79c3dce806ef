"""PortAudio itself: devices, lock, error texts. The only file that imports PyAudio.

What PortAudio shares between streams has no lock of its own: ``alone`` is that lock, and it is never held while sound
flows. PortAudio looks for devices when it is first used, and again only after its last user has terminated it. A card
that was plugged in later is found after **every** port of the process has been closed once.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..core.errors import DeviceFailed
from .device_users import device_users

log = logging.getLogger(__name__)

CARD_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
"""Rates worth asking a card for, in Hz."""
PREFERRED_RATES = range(8000, 384001)
"""The rate that a card prefers is tried, too, if it is one of these: there are cards that have no other."""
MAX_ARRAY_CHANNELS = 8
"""A card that records at most so many channels really has them, and is opened with all of them. A larger number is
mostly that of a plugin or a sound server, which makes as many as it is asked for."""
MAX_CHANNELS = 32  # tried where a card does not say which numbers it takes

Direction = Literal["input", "output"]

PORT_NAMES: dict[Direction, str] = {"input": "microphone", "output": "speaker"}

PORTAUDIO_LOCK_TIMEOUT_S = 10.0  # while another port is being opened or closed
MAX_LISTED_DEVICES = 12  # in an error message
INT16 = 8  # PortAudio's paInt16
BAD_CHANNELS, BAD_RATE, BAD_FORMAT, OVERFLOWED = -9998, -9997, -9994, -9981  # its error codes
CHECK_CABLE = "check its cable and the sound server; device-agent devices shows what is there"

_LOCK = threading.Lock()
_NO_DEVICE, _BUSY = -9996, -9985
_ADVICE = {
    BAD_CHANNELS: "it supports no number of channels that was tried; choose another one with: device-agent devices",
    BAD_RATE: "it supports none of our sample rates; choose another one with: device-agent devices",
    _NO_DEVICE: "choose one with: device-agent devices",
    _BUSY: "another program uses it; stop that program or choose another device",
}
_INSTALL = "install it with: apt install portaudio19-dev python3-dev gcc; pip install PyAudio"


@dataclass(frozen=True)
class SoundDevice:
    """What PortAudio knows about a card."""

    index: int
    name: str
    inputs: int  # channels that it records; 0 where it cannot
    outputs: int  # channels that it plays; 0 where it cannot
    rate: int  # the one that it prefers, in Hz
    rates: tuple[int, ...] = ()
    """Those of CARD_RATES, and the preferred one, at which it opens in each direction it has; none while another
    program uses it."""

    def channels(self, direction: Direction) -> int:
        """Return the number of its channels in that direction."""
        return self.inputs if direction == "input" else self.outputs


def counts(direction: Direction, most: int, least: int = 1) -> list[int]:
    """Return the numbers of channels to try on a card with *most* channels, best first; *least* are needed.

    An output begins with one. An input is opened with all that a card really has, because one of them may be dead, and
    with two where that is not known: a plugin may add them up to one, and two with opposite signs are silent.
    """
    first = (1, 2) if direction == "output" else (most if most <= MAX_ARRAY_CHANNELS else max(2, least), 2, 1)
    every = dict.fromkeys((*first, *range(1, MAX_CHANNELS + 1), most))
    return [count for count in every if least <= count <= most]


def devices() -> list[SoundDevice]:
    """Return every sound device, with the rates it opens at: takes some milliseconds for each. While a port of this
    process is open, the devices are those of when it was opened. Raises DeviceFailed."""
    with alone(), said_of("sound devices"):
        system = initialize()
        try:
            return [replace(device, rates=_rates(system, device)) for device in _seen(system)]
        finally:
            system.terminate()


def choose(system: Any, direction: Direction, wanted: str) -> SoundDevice:
    """Return the device that *wanted* means: its name, a part of its name, or "default". Raises DeviceFailed."""
    able = [device for device in _seen(system) if device.channels(direction)]
    matches = _matches(system, direction, wanted, able)
    port = PORT_NAMES[direction]
    if not able:
        raise DeviceFailed(f"no {port} was found{_taken()}; check its cable, then run: device-agent devices")
    if not matches:
        there = f"there is {_names(able)}{_taken()}"
        raise DeviceFailed(f"{port} {wanted!r} was not found; {there} (to choose one, run: device-agent devices)")
    if len(matches) > 1:
        log.warning("%s %r fits several devices: %s; using the first", port, wanted, _names(matches))
    return matches[0]


def _matches(system: Any, direction: Direction, wanted: str, able: list[SoundDevice]) -> list[SoundDevice]:
    if wanted == "default":
        try:
            index = getattr(system, f"get_default_{direction}_device_info")()["index"]
        except OSError:  # there is none
            return []
        return [device for device in able if device.index == index]
    exact = [device for device in able if device.name.casefold() == wanted.casefold()]
    return exact[:1] or [device for device in able if wanted.casefold() in device.name.casefold()]


def _names(some: list[SoundDevice]) -> str:
    names = ", ".join(repr(device.name) for device in some[:MAX_LISTED_DEVICES])
    return names if len(some) <= MAX_LISTED_DEVICES else f"{names} and {len(some) - MAX_LISTED_DEVICES} more"


def _seen(system: Any) -> list[SoundDevice]:
    """Return all devices, without their rates. Any other index crashes PyAudio."""
    return [_device(system.get_device_info_by_index(index)) for index in range(system.get_device_count())]


def _device(info: dict[str, Any]) -> SoundDevice:
    name = info["name"] if isinstance(info["name"], str) else info["name"].decode(errors="replace")
    rate = round(info["defaultSampleRate"])
    return SoundDevice(info["index"], name, info["maxInputChannels"], info["maxOutputChannels"], rate)


def _rates(system: Any, device: SoundDevice) -> tuple[int, ...]:
    """Return those of CARD_RATES, and the preferred one, that the device opens at in each direction it has."""
    directions: list[Direction] = [direction for direction in PORT_NAMES if device.channels(direction)]
    rates = sorted({*CARD_RATES, *own_rate(device)})
    if not directions:
        return ()
    return tuple(rate for rate in rates if all(_opens(system, device, each, rate) for each in directions))


def own_rate(device: SoundDevice) -> tuple[int, ...]:
    """Return the rate that the device prefers, if it is one of PREFERRED_RATES."""
    return (device.rate,) if device.rate in PREFERRED_RATES else ()


def _opens(system: Any, device: SoundDevice, direction: Direction, rate: int) -> bool:
    for count in counts(direction, device.channels(direction)):
        question = {f"{direction}_device": device.index, f"{direction}_channels": count, f"{direction}_format": INT16}
        try:
            if system.is_format_supported(rate, **question):
                return True
        except (OSError, ValueError) as error:  # which means no
            if code_of(error) != BAD_CHANNELS:
                return False
    return False


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock. Raises DeviceFailed after PORTAUDIO_LOCK_TIMEOUT_S."""
    if not _LOCK.acquire(timeout=PORTAUDIO_LOCK_TIMEOUT_S):
        raise DeviceFailed(
            f"another sound device has been opening or closing for {PORTAUDIO_LOCK_TIMEOUT_S:g} s: {CHECK_CABLE}"
        )
    try:
        yield
    finally:
        _LOCK.release()


@contextmanager
def said_of(name: str) -> Iterator[None]:
    """Turn what PyAudio raises into DeviceFailed, with the cause kept."""
    try:
        yield
    except DeviceFailed:
        raise
    except (OSError, ValueError) as error:
        raise failed(name, error) from error


def failed(name: str, error: OSError | ValueError) -> DeviceFailed:
    """Return the failure of *name* for *error*, which PyAudio raised: what was seen, and what to do."""
    code = code_of(error)
    seen = f"{error.args[1]} (PortAudio {code})" if code else str(error)
    return DeviceFailed(f"{name}: {seen}: {_ADVICE.get(code, CHECK_CABLE)}{_taken() if code == _BUSY else ''}")


def _taken() -> str:
    """Return the programs that use a sound card, which then is busy or not listed."""
    programs = device_users()
    return f"; a sound card is in use by {', '.join(programs)}" if programs else ""


def code_of(error: BaseException) -> int:
    """Return PortAudio's error code, 0 where there is none; some errors of PyAudio have only a text."""
    match error.args:
        case (int(code), _) | (_, int(code)):
            return code
    return 0


def initialize() -> Any:
    """Return PortAudio, to be terminated by the caller. Raises DeviceFailed, OSError."""
    try:
        library = importlib.import_module("pyaudio")
    except (ImportError, OSError) as error:
        raise DeviceFailed(f"PyAudio does not load ({error}): {_INSTALL}") from error
    _mute_library_output()
    _require_default_device()
    return library.PyAudio()


@functools.cache  # which also keeps the callbacks alive for as long as the libraries may call them
def _mute_library_output() -> list[object]:
    """Keep ALSA and JACK from writing some eighty lines to standard error about cards that are not in use."""
    text, number = ctypes.c_char_p, ctypes.c_int
    of_alsa = ctypes.CFUNCTYPE(None, text, number, text, number, text)(lambda *_: None)
    of_jack = ctypes.CFUNCTYPE(None, text)(lambda _: None)
    setters = {
        "libasound.so.2": {"snd_lib_error_set_handler": of_alsa},
        "libjack.so.0": {"jack_set_error_function": of_jack, "jack_set_info_function": of_jack},
    }
    for name, functions in setters.items():
        try:
            library = ctypes.CDLL(name)
            for function, handler in functions.items():
                getattr(library, function)(handler)
        except (OSError, AttributeError) as error:
            log.debug("%s stays as loud as it is: %s", name, error)
    return [of_alsa, of_jack]


def _require_default_device() -> None:
    """Raise DeviceFailed where ALSA has no device called default: PortAudio would abort the process over that."""
    try:
        alsa = ctypes.CDLL("libasound.so.2")
        alsa.snd_config_update()
        settings = ctypes.c_void_p.in_dll(alsa, "snd_config")
    except (OSError, ValueError, AttributeError):
        return  # without ALSA nothing aborts
    if not settings or alsa.snd_config_search(settings, b"pcm.default", ctypes.byref(ctypes.c_void_p())) < 0:
        raise DeviceFailed("ALSA knows no device 'default': check asound.conf and apt install libasound2-data")
