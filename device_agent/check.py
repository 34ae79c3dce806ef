"""The doctor: tries what the configuration names, and says for each thing what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from .assembly import (
    WAV,
    open_button,
    open_controls,
    open_echo,
    open_light,
    open_microphone,
    open_services,
    open_speaker,
    sound_rate,
)
from .config import Config, load
from .credentials import Secret
from .errors import AgentError

Test = Callable[[], str]
"""Returns what it found; raises AgentError with what to do."""


def check(path: Path, out: TextIO) -> int:
    """Try everything that the configuration at *path* names, one line each; return 0 if a turn would work, else 1.

    Raises ConfigError where the file itself is wrong.
    """
    config = load(path)
    print(f"ok    configuration  {path}", file=out)
    tests: list[tuple[str, Test]] = [
        ("credentials", lambda: _credentials(config)),
        ("service", lambda: _service(config)),
        ("microphone", lambda: _microphone(config)),
        ("loudspeaker", lambda: _speaker(config)),
        ("button", lambda: _button(config)),
        ("light", lambda: _light(config)),
        ("controls", lambda: _controls(config)),
        ("echo", lambda: _echo(config)),
    ]
    results = [_passes(name, test, out) for name, test in tests]
    return 0 if all(results) else 1


def show_devices(out: TextIO) -> int:
    """Print the sound devices that PortAudio sees; return 0 if there are any, else 1."""
    from .hardware.portaudio import devices

    found = devices()
    for device in found:
        directions = [f"{n} {word}" for n, word in ((device.inputs, "in"), (device.outputs, "out")) if n]
        rates = ", ".join(f"{rate // 1000 if rate % 1000 == 0 else rate / 1000} kHz" for rate in device.rates)
        print(f"{device.index:3}  {device.name}  ({' / '.join(directions)})  {rates or 'no usable rate'}", file=out)
    if not found:
        print("no sound devices: is a card plugged in, and may this user use it (group audio)?", file=out)
    return 0 if found else 1


def _passes(name: str, test: Test, out: TextIO) -> bool:
    try:
        mark, text, passed = "ok", test(), True
    except AgentError as error:
        mark, text, passed = "FAIL", str(error), False
    print(f"{mark:4}  {name:13}  {text}", file=out)
    return passed


def _credentials(config: Config) -> str:
    open_services(config)
    names = [one.name for one in (config.service, *config.fallback)]
    return f"there is what {', '.join(names)} want"


def _service(config: Config) -> str:
    service = open_services(config, Secret("any"))[0]
    where = urlsplit(config.service.url or service.url).hostname
    return f"{config.service.name} at {where} (not dialled), sound at {service.rate} Hz"


def _microphone(config: Config) -> str:
    with closing(open_microphone(config.microphone.device, sound_rate(config))) as microphone:
        microphone.open()
        microphone.read()
    return f"{config.microphone.device!r} opens and delivers"


def _speaker(config: Config) -> str:
    device = config.speaker.device
    if device.startswith(WAV):
        folder = Path(device.removeprefix(WAV)).parent
        if not folder.is_dir():
            raise AgentError(f"there is no folder {folder}: make it, or write elsewhere")
        return f"will be written to {device.removeprefix(WAV)}"
    with closing(open_speaker(device, sound_rate(config))) as speaker:
        speaker.open()
        return f"{device!r} opens, {1000 * speaker.latency:.0f} ms from here to the ear"


def _button(config: Config) -> str:
    with closing(open_button(config.button.pin)):
        return "the return key" if config.button.pin is None else f"pin {config.button.pin} is free and readable"


def _light(config: Config) -> str:
    with closing(open_light(config.light)):
        pins = config.light.rgb or config.light.pin
        return "a line on the terminal" if pins is None else f"pin {pins} is free"


def _controls(config: Config) -> str:
    controls = open_controls(config.controls)
    if controls is None:
        return "none but words"
    with closing(controls):
        position = {None: "", True: ", the switch says muted", False: ", the switch says not muted"}[controls.muted]
    return f"their pins are free and readable{position}"


def _echo(config: Config) -> str:
    open_echo(config, sound_rate(config))
    if config.echo.mode == "cancel":
        return "the canceller of WebRTC runs"
    cancelled = config.talk.interrupt == "voice"
    return "the sound card has to cancel it" if cancelled else "deaf while it speaks, but for the button"
