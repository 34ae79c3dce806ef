"""Sound devices that PortAudio sees, each with the line that chooses it in config.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from ..config.yaml_schema import to_yaml
from ..core.printable import printable
from ..hardware.portaudio_host import SoundDevice

HEADING = "Sound devices. To choose one, write its line into config.yaml:"
NO_DEVICES = """\
No sound device was found. Check the cable of the sound card. If one is plugged in, this user may not use it:
repeat with sudo, or join the group audio (sudo usermod -aG audio $USER) and log in again."""
CARD_NUMBER = re.compile(r"[\s:-]*\(hw:\d+,\d+\)$")
"""The number that a card has until the next start, as PortAudio writes it behind the name."""


def show_devices(out: TextIO) -> int:
    """Print the sound devices; return 0 if there are any, else 1."""
    from ..hardware.portaudio_host import devices

    found = devices()
    for line in listed(found) if found else [NO_DEVICES]:
        print(printable(line, keep="\n"), file=out)
    return 0 if found else 1


def listed(found: Sequence[SoundDevice]) -> Iterator[str]:
    """Yield the lines about the devices."""
    yield HEADING
    names = [device.name for device in found]
    for device in found:
        ways = [_way(device.inputs, "records"), _way(device.outputs, "plays")]
        rates = ", ".join(f"{rate // 1000 if rate % 1000 == 0 else rate / 1000} kHz" for rate in device.rates)
        yield ""
        yield f"{device.name}: {', '.join(filter(None, ways))}"
        yield f"    at {rates}" if rates else "    at no usable rate: another program uses it, or it cannot be used"
        choice = to_yaml({"device": _lasting(device.name, names)})
        keys = (("microphone", device.inputs), ("speaker", device.outputs))
        yield from (f"    {key}: {choice}" for key, channels in keys if channels)


def _way(channels: int, verb: str) -> str:
    return f"{verb} {channels} channel{'s' if channels > 1 else ''}" if channels else ""


def _lasting(name: str, names: Sequence[str]) -> str:
    """Return the part of a name that is the same after the next start, if it fits no other device."""
    part = CARD_NUMBER.sub("", name)
    return part if part and sum(part.casefold() in each.casefold() for each in names) == 1 else name
