"""The sound devices there are."""

from __future__ import annotations

from typing import TextIO

from ..printable import printable


def show_devices(out: TextIO) -> int:
    """Print the sound devices that PortAudio sees; return 0 if there are any, else 1."""
    from ..hardware.portaudio import devices

    found = devices()
    for device in found:
        directions = [f"{n} {word}" for n, word in ((device.inputs, "in"), (device.outputs, "out")) if n]
        rates = ", ".join(f"{rate // 1000 if rate % 1000 == 0 else rate / 1000} kHz" for rate in device.rates)
        line = f"{device.index:3}  {device.name}  ({' / '.join(directions)})  {rates or 'no usable rate'}"
        print(printable(line), file=out)
    if not found:
        print("no sound devices: is a card plugged in, and may this user use it (group audio)?", file=out)
    return 0 if found else 1
