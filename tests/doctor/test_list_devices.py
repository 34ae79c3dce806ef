"""The list of sound devices, and the lines that choose them."""

from __future__ import annotations

import pytest

from device_agent.config.load import parse_config
from device_agent.doctor.list_devices import HEADING, listed
from device_agent.hardware.portaudio_host import SoundDevice


def device(name: str, inputs: int = 1, outputs: int = 2) -> SoundDevice:
    return SoundDevice(0, name, inputs, outputs, 48000, (24000, 44100))


def test_each_device_has_a_name_its_ways_its_rates_and_its_lines():
    lines = list(listed([device("Jabra"), device("webcam", outputs=0)]))
    assert lines == [
        HEADING,
        "",
        "Jabra: records 1 channel, plays 2 channels",
        "    at 24 kHz, 44.1 kHz",
        "    microphone: {device: Jabra}",
        "    speaker: {device: Jabra}",
        "",
        "webcam: records 1 channel",
        "    at 24 kHz, 44.1 kHz",
        "    microphone: {device: webcam}",
    ]


def test_a_device_that_is_in_use_says_so():
    (line,) = [line for line in listed([SoundDevice(0, "a", 1, 0, 48000)]) if "    at " in line]
    assert "no usable rate" in line


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["USB PnP Sound Device: Audio (hw:1,0)"], "USB PnP Sound Device: Audio"),
        (["USB Audio Device: - (hw:2,0)"], "USB Audio Device"),
        (["Twin: a (hw:1,0)", "Twin: a (hw:2,0)"], "Twin: a (hw:1,0)"),
        (["(hw:1,0)"], "(hw:1,0)"),
        (["yes"], "yes"),
    ],
)
def test_the_line_means_that_device_and_after_the_next_start_too(tmp_path, names, chosen):
    lines = list(listed([device(name) for name in names]))
    line = next(line for line in lines if "microphone" in line)
    config = parse_config(line.strip(), tmp_path / "config.yaml").config
    assert config.microphone.device == chosen
