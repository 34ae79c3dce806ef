"""What the doctor says of the machine: clock, power, unit, disk; button and light on pins; processes that use them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from device_agent.config.model import ButtonConfig, Config, ControlsConfig, LightConfig, MicrophoneConfig, SpeakerConfig
from device_agent.core.errors import DeviceFailed
from device_agent.doctor import pins, running_agent, sound
from device_agent.doctor.findings import Finding, Mark
from device_agent.doctor.machine import MachineCheck, judge_clock, judge_power, judge_unit
from device_agent.hardware.gpio import GpioButton

NOW = 1795000000.0


def found(step) -> dict[str, Finding]:
    return {item.name: item for item in step() if isinstance(item, Finding)}


# The machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [0.0, 1600000000.0, 9e9])
def test_a_clock_that_cannot_be_right_fails(now):
    finding = judge_clock(now, True)
    assert finding.mark is Mark.FAIL
    assert "certificate" in finding.text
    assert "timedatectl" in finding.advice


@pytest.mark.parametrize(("synchronised", "mark"), [(True, Mark.OK), (None, Mark.OK), (False, Mark.NOTE)])
def test_a_clock_that_was_not_set_is_noted(synchronised, mark):
    assert judge_clock(NOW, synchronised).mark is mark


@pytest.mark.parametrize(
    ("word", "mark", "words"),
    [
        (0x0, Mark.OK, "has not been"),
        (0x50005, Mark.NOTE, "is too low"),
        (0x50000, Mark.NOTE, "was too low"),
        (0x4, Mark.NOTE, "slower"),
    ],
)
def test_the_word_of_the_firmware_about_power_is_understood(word, mark, words):
    finding = judge_power(word)
    assert finding.mark is mark
    assert words in finding.text


@pytest.mark.parametrize(
    ("active", "sub", "enabled", "mark", "words"),
    [
        ("active", "running", "enabled", Mark.OK, ""),
        ("inactive", "dead", "enabled", Mark.OK, ""),
        ("inactive", "dead", "disabled", Mark.NOTE, "systemctl enable --now"),
        ("failed", "failed", "enabled", Mark.NOTE, "journalctl"),
        ("activating", "auto-restart", "enabled", Mark.NOTE, "journalctl"),
    ],
)
def test_the_state_of_the_unit_is_understood(active, sub, enabled, mark, words):
    finding = judge_unit({"ActiveState": active, "SubState": sub, "UnitFileState": enabled})
    assert finding.mark is mark
    assert words in finding.advice


def test_a_unit_that_its_configuration_keeps_from_starting_is_not_sent_to_the_log():
    """The status sends people here: so what is wrong stands below, and the next step beside it."""
    failing = {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "78"}
    assert "if something below says FAIL" in judge_unit(failing).advice
    assert "sudo systemctl restart device-agent" in judge_unit(failing).advice


def write(root, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_board_that_is_hot_and_hungry_says_so(tmp_path):
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "83500\n")
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0")
    steps = MachineCheck(tmp_path)
    power = found(steps.power)
    assert power["heat"].mark is Mark.NOTE
    assert power["heat"].figures["celsius"] == 83.5
    assert power["power"].mark is Mark.NOTE
    assert found(steps.system)["system"].text.endswith("Raspberry Pi Zero 2 W Rev 1.0")


def test_a_machine_that_tells_nothing_is_not_asked_twice(tmp_path):
    assert found(MachineCheck(tmp_path).power) == {}


@pytest.mark.parametrize(("kib", "mark"), [(400_000, Mark.OK), (60_000, Mark.NOTE)])
def test_little_memory_is_noted(tmp_path, kib, mark):
    write(tmp_path, "proc/meminfo", f"MemTotal: 425000 kB\nMemAvailable: {kib} kB\n")
    assert found(MachineCheck(tmp_path).room)["memory"].mark is mark


def test_the_folder_that_would_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "not" / "yet"))
    disk = found(MachineCheck(tmp_path).room)["disk"]
    assert disk.figures["folder"] == str(tmp_path / "not" / "yet")
    assert disk.figures["free_mib"] > 0


def test_an_installed_state_is_looked_at_from_outside_the_unit(tmp_path, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "var/lib/device-agent").mkdir(parents=True)
    assert found(MachineCheck(tmp_path).room)["disk"].figures["folder"] == str(tmp_path / "var/lib/device-agent")


# Pins -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def board():
    before, gpiozero.Device.pin_factory = gpiozero.Device.pin_factory, MockFactory()
    yield gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


def on_pins(**parts) -> pins.PinCheck:
    nothing = Config(button=ButtonConfig(pin=None), light=LightConfig(pin=None))
    return pins.PinCheck(replace(nothing, **parts))


def test_the_pipe_of_the_pins_is_made_elsewhere_and_not_left_behind(monkeypatch):
    monkeypatch.delenv("LG_WD", raising=False)
    with pins.lgpio_folder():
        folder = os.environ["LG_WD"]
        assert os.path.isdir(folder)
    assert not os.path.exists(folder)
    assert "LG_WD" not in os.environ
    monkeypatch.setenv("LG_WD", "/run/device-agent")
    with pins.lgpio_folder():
        assert os.environ["LG_WD"] == "/run/device-agent"


def test_nothing_on_pins_is_fine():
    steps = on_pins()
    assert {
        name: each.mark for step in (steps.button, steps.light, steps.controls) for name, each in found(step).items()
    } == {
        "button": Mark.OK,
        "light": Mark.OK,
        "controls": Mark.OK,
    }


def test_the_button_is_tried_and_given_back(board):
    steps = on_pins(button=ButtonConfig(pin=17))
    assert found(steps.button)["button"].text == "GPIO17 is free and readable"
    assert found(steps.button)["button"].mark is Mark.OK  # a second time: the pin is free again


def test_the_light_blinks_once(board, monkeypatch):
    monkeypatch.setattr(pins, "BLINK_S", 0.01)
    finding = found(on_pins(light=LightConfig(pin=25)).light)["light"]
    states = [state.state for state in board.pin(25).states]
    assert finding.mark is Mark.OK
    assert states[-2:] == [True, False]
    assert states.count(True) == 1


def drive(board, number: int, *, high: bool) -> None:
    """Let something drive a pin, which is stronger than any pull inside the board."""
    board.pin(number)._set_pull = lambda _value: None
    board.pin(number)._state = high


@pytest.mark.parametrize(
    ("high", "inverted", "line"),
    [
        (False, False, "button.inverted: true"),
        (True, True, "button.inverted: false"),
        (True, False, ""),
        (False, True, ""),
    ],
)
def test_a_button_that_looks_pressed_at_rest_is_told_with_the_line_to_write(board, monkeypatch, high, inverted, line):
    monkeypatch.setattr(pins, "PRESSED_AFTER_S", 0.1)
    drive(board, 17, high=high)
    finding = found(on_pins(button=ButtonConfig(pin=17, inverted=inverted)).button)["button"]
    assert finding.mark is (Mark.NOTE if line else Mark.OK)
    assert ("looks pressed" in finding.text) is bool(line)
    assert (f"write {line}." in finding.advice) if line else not finding.advice


def test_a_button_that_is_being_pressed_is_none_that_hangs(board, monkeypatch):
    """It comes up while one looks."""
    looked = iter([True, True, False])
    monkeypatch.setattr(GpioButton, "is_pressed", property(lambda _: next(looked)))
    finding = found(on_pins(button=ButtonConfig(pin=17)).button)["button"]
    assert finding.mark is Mark.OK
    assert finding.text == "GPIO17 is free and readable"


@pytest.mark.parametrize(
    ("controls", "low", "keys", "line"),
    [
        (ControlsConfig(volume_up=5), [5], ["controls.volume_up"], "controls.volume_inverted: true"),
        (
            ControlsConfig(volume_up=5, volume_down=6),
            [5, 6],
            ["controls.volume_up", "controls.volume_down"],
            "controls.volume_inverted: true",
        ),
        (ControlsConfig(mute=22), [22], ["controls.mute"], "controls.mute_inverted: true"),
        (ControlsConfig(mute=22, mute_inverted=True), [], ["controls.mute"], "controls.mute_inverted: false"),
        (ControlsConfig(mute=22, mute_is="switch"), [22], None, "controls.mute_inverted: true"),
        (ControlsConfig(volume_up=5, mute=22), [], None, ""),
    ],
)
def test_controls_that_look_pressed_at_rest_are_told_with_the_line_to_write(
    board, monkeypatch, controls, low, keys, line
):
    monkeypatch.setattr(pins, "PRESSED_AFTER_S", 0.1)
    for pin in (5, 6, 22):
        drive(board, pin, high=pin not in low)
    finding = found(on_pins(controls=controls).controls)["controls"]
    assert finding.mark is (Mark.NOTE if line else Mark.OK)
    assert finding.figures.get("held") == keys
    assert f"write {line}" in finding.advice if line else not finding.advice


@pytest.mark.parametrize(("closed", "mark", "words"), [(True, Mark.NOTE, "says muted"), (False, Mark.OK, "not muted")])
def test_the_position_of_a_mute_switch_is_told(board, closed, mark, words):
    if closed:  # a wire to ground is stronger than the pull of the pin
        board.pin(22)._set_pull = lambda _value: None
        board.pin(22)._state = False
    finding = found(on_pins(controls=ControlsConfig(mute=22, mute_is="switch")).controls)["controls"]
    assert finding.mark is mark
    assert words in finding.text


def test_a_pin_that_is_taken_is_told_with_the_process_that_uses_it(board, tmp_path, monkeypatch):
    monkeypatch.setattr(pins, "GPIO_FILES", str(tmp_path / "chip"))
    (tmp_path / "chip0").touch()
    with gpiozero.LED(17), process_holding("a-lamp", tmp_path / "chip0") as process:
        finding = found(on_pins(button=ButtonConfig(pin=17)).button)["button"]
        process.stdin.close()
    assert finding.mark is Mark.FAIL
    assert "GPIO17" in finding.text
    assert f"({process.pid})" in finding.advice


def test_a_machine_without_pins_is_told(monkeypatch):
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nothing")
    finding = found(on_pins(button=ButtonConfig(pin=17)).button)["button"]
    assert finding.mark is Mark.FAIL
    assert "button.pin" in finding.text


# Our own agent has it -------------------------------------------------------------------------------------------------


def process_holding(name: str, file, *words: str) -> subprocess.Popen[bytes]:
    """Start a program called *name* that has *file* open until its input ends."""
    program = file.parent / name
    program.write_text("import sys; file = open(sys.argv[-1]); print(flush=True); sys.stdin.read()")
    command = [sys.executable, str(program), *words, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


BUSY = DeviceFailed("microphone 'default': Device unavailable")


def test_what_our_agent_has_is_no_failure(tmp_path):
    (tmp_path / "pcmC0D0c").touch()
    files = str(tmp_path / "pcm")
    with process_holding("device-agent", tmp_path / "pcmC0D0c", "--log", "info", "run") as process:
        assert process.pid in running_agent.running_agents()
        finding = running_agent.open_failed("microphone", files, BUSY)
        assert running_agent.open_failed("microphone", str(tmp_path / "another"), BUSY).mark is Mark.FAIL
        process.stdin.close()
    assert finding.mark is Mark.NOTE
    assert finding.figures == {"agent": process.pid}
    assert "systemctl stop device-agent" in finding.advice
    assert process.pid not in running_agent.running_agents()
    assert running_agent.open_failed("microphone", files, BUSY).mark is Mark.FAIL


def test_a_user_that_may_not_look_is_told_of_the_agent_and_that_root_may(tmp_path, monkeypatch):
    (tmp_path / "pcmC0D0c").touch()
    with process_holding("device-agent", tmp_path / "pcmC0D0c", "run") as process:
        monkeypatch.setattr(running_agent, "running_agents", lambda: [process.pid])
        monkeypatch.setattr(running_agent, "device_users", lambda _files: [])  # what others but root see
        monkeypatch.setattr(os, "access", lambda _path, _how: False)
        finding = running_agent.open_failed("microphone", str(tmp_path / "pcm"), BUSY)
        process.stdin.close()
    assert finding.mark is Mark.FAIL
    assert finding.text == str(BUSY)
    assert f"(process {process.pid})" in finding.advice
    assert "sudo" in finding.advice


def test_another_program_that_has_it_is_named_once(tmp_path):
    (tmp_path / "pcmC0D0c").touch()
    with process_holding("a-player", tmp_path / "pcmC0D0c") as process:
        (holder,) = running_agent.open_failed("microphone", str(tmp_path / "pcm"), BUSY).figures["holders"]
        told = running_agent.open_failed("microphone", str(tmp_path / "pcm"), BUSY)
        known = running_agent.open_failed(
            "microphone", str(tmp_path / "pcm"), DeviceFailed(f"busy; in use by {holder}")
        )
        process.stdin.close()
    assert told.mark is known.mark is Mark.FAIL
    assert holder in told.advice
    assert known.advice == ""


@pytest.mark.parametrize("words", [["check"], ["simulate"]])
def test_other_commands_of_ours_and_other_programs_are_no_agent(tmp_path, words):
    (tmp_path / "pcmC0D0c").touch()
    with process_holding("device-agent", tmp_path / "pcmC0D0c", *words) as ours:
        with process_holding("aplay", tmp_path / "pcmC0D0c", "run") as other:
            assert not {ours.pid, other.pid} & set(running_agent.running_agents())
            other.stdin.close()
        ours.stdin.close()


def test_a_microphone_that_the_agent_has_is_no_failure(tmp_path, monkeypatch):
    def busy(*_arguments: object) -> Finding:
        raise DeviceFailed("microphone 'default': Device unavailable")

    (tmp_path / "pcmC0D0c").touch()
    monkeypatch.setattr(sound, "SOUND_DEVICES", str(tmp_path / "pcm"))
    monkeypatch.setattr(sound, "_card", busy)
    steps = sound.SoundCheck(Config(microphone=MicrophoneConfig()), quiet=True, asked=False)
    with process_holding("device-agent", tmp_path / "pcmC0D0c", "run") as process:
        finding = found(steps.microphone)["microphone"]
        process.stdin.close()
    assert finding.mark is Mark.NOTE
    assert str(process.pid) in finding.text
    assert "systemctl stop device-agent" in finding.advice
    assert found(steps.microphone)["microphone"].mark is Mark.FAIL


def test_time_is_read_where_it_is():
    assert judge_clock(time.time(), None).mark is Mark.OK


# What an echo takes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quiet", "hears", "config", "words"),
    [
        (True, True, Config(), "--quiet was given"),
        (False, False, Config(), "that work"),
        (False, True, Config(speaker=SpeakerConfig(volume=0)), "speaker.volume is 0"),
        (False, True, Config(speaker=SpeakerConfig(device="wav:said.wav")), "not files"),
    ],
)
def test_an_echo_is_measured_only_where_it_can_be(quiet, hears, config, words):
    steps = sound.SoundCheck(config, quiet=quiet, asked=False)
    steps._hears, steps._sounds = hears, True
    finding = found(steps.echo)["echo"]
    assert finding.mark is Mark.SKIP
    assert finding.text.startswith("not measured")
    assert words in finding.text
