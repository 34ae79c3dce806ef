"""The return key and a line of text, on pipes and on a pseudo-terminal."""

from __future__ import annotations

import io
import os
import pty
import queue
import signal
import subprocess
import sys
import threading

import pytest

from device_agent.core.conversation import MOODS
from device_agent.hardware.terminal import TerminalButton, TerminalLight

PATIENCE = 10


class Listener:
    """Hears a button, from another thread."""

    def __init__(self, button: TerminalButton) -> None:
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        button.when_pressed = lambda: self._heard.put("pressed")
        button.when_released = lambda: self._heard.put("released")

    def next(self, count: int) -> list[str]:
        return [self._heard.get(timeout=PATIENCE) for _ in range(count)]

    @property
    def nothing(self) -> bool:
        return self._heard.empty()


def ended(button: TerminalButton) -> bool:
    button._thread.join(PATIENCE)
    return not button._thread.is_alive()


@pytest.fixture
def keyboard():
    """Return the ends of a pipe: what is typed, and what the button reads."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as read, open(writing, "wb", buffering=0) as write:
        yield write, read


@pytest.fixture
def button(keyboard):
    opened = TerminalButton(keyboard[1])
    yield opened
    opened.close()


# The button -----------------------------------------------------------------------------------------------------------


def test_each_return_is_a_tap(keyboard, button):
    listener = Listener(button)
    keyboard[0].write(b"\n")
    assert listener.next(2) == ["pressed", "released"]

    keyboard[0].write(b"some words\n\n")
    assert listener.next(4) == ["pressed", "released"] * 2


def test_half_a_line_is_no_tap(keyboard, button):
    listener = Listener(button)
    keyboard[0].write(b"hm")
    keyboard[0].write(b"\n")

    assert listener.next(2) == ["pressed", "released"]
    assert listener.nothing


def test_the_return_key_of_a_terminal_is_a_button():
    ours, theirs = pty.openpty()
    with open(theirs, encoding="utf-8") as terminal:
        button = TerminalButton(terminal)
        listener = Listener(button)
        os.write(ours, b"\r")
        assert listener.next(2) == ["pressed", "released"]

        os.close(ours)  # the user closes the window
        assert ended(button)
        button.close()


def test_at_the_end_of_input_the_button_is_silent(keyboard, button):
    listener = Listener(button)
    keyboard[0].write(b"\nno return")
    keyboard[0].close()

    assert listener.next(2) == ["pressed", "released"]
    assert ended(button)
    assert listener.nothing


def test_closing_does_not_wait_for_input(keyboard, button):
    button.close()
    button.close()

    assert not button._thread.is_alive()


def test_closing_ends_a_flood_of_taps(keyboard, button):
    listener = Listener(button)
    keyboard[0].write(b"\n" * 10_000)
    listener.next(6)
    button.close()

    assert not button._thread.is_alive()


def test_closing_gives_every_descriptor_back(keyboard):
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        TerminalButton(keyboard[1]).close()

    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("stream", [io.StringIO("\n\n"), None])
def test_a_stream_without_a_descriptor_is_a_button_that_is_never_pressed(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdin", stream)
    for button in (TerminalButton(stream), TerminalButton()):
        assert ended(button)
        button.close()


def test_a_closed_stream_is_a_button_that_is_never_pressed(keyboard):
    keyboard[1].close()
    button = TerminalButton(keyboard[1])

    assert ended(button)
    button.close()


@pytest.mark.parametrize("name", ["/dev/null", __file__])
def test_a_file_in_place_of_the_keyboard_is_read_to_its_end(name, monkeypatch):
    monkeypatch.setattr("device_agent.hardware.terminal.MIN_TAP_INTERVAL_S", 0)
    with open(name, encoding="utf-8") as file:
        button = TerminalButton(file)
        assert ended(button)
        button.close()


def test_an_error_in_a_callback_does_not_end_the_button(keyboard, button, caplog):
    listener = Listener(button)

    def fail() -> None:
        raise RuntimeError("nobody at home")

    button.when_pressed = fail
    keyboard[0].write(b"\n\n")

    assert listener.next(2) == ["released", "released"]
    assert "nobody at home" in caplog.text


def test_a_button_in_the_background_does_not_stop_the_process():
    """The kernel stops a process, with all its threads, that reads from a terminal which others use."""
    program = (
        "import os, sys, threading\n"
        "from device_agent.hardware.terminal import TerminalButton\n"
        "button = TerminalButton(); print('ready', flush=True)\n"
        "button._thread.join(10); button.close(); print('alive', flush=True)\n"
    )
    shell = (
        "import os, pty, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {program!r}], process_group=0, stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode().strip(), flush=True)\n"
        "print(child.stdout.readline().decode().strip(), flush=True)\n"
        "child.wait()\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{shell}",
        ],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        killer = threading.Timer(PATIENCE, process.send_signal, [signal.SIGKILL])
        killer.start()
        assert process.stdout.readline() == "ready\n"
        os.write(ours, b"\r")
        assert process.stdout.readline() == "alive\n"
        killer.cancel()
    os.close(ours)


# The light ------------------------------------------------------------------------------------------------------------


def test_each_change_of_mood_is_one_plain_line():
    stream = io.StringIO()
    light = TerminalLight(stream)
    for mood in ("starting", "ready", "ready", "listening", "ready"):
        light.show(mood)
    light.close()

    assert stream.getvalue() == "light: starting\nlight: ready\nlight: listening\nlight: ready\n"
    assert not stream.closed


def test_every_mood_is_shown_by_its_name():
    stream = io.StringIO()
    light = TerminalLight(stream)
    for mood in MOODS.values():
        light.show(mood)
    for mood in ("follow-up", "muted", "trouble"):
        light.show(mood)

    assert set(stream.getvalue().splitlines()) == {
        f"light: {mood}" for mood in {*MOODS.values(), "follow-up", "muted", "trouble"}
    }


def test_the_light_is_on_standard_error(capsys):
    TerminalLight().show("ready")

    assert capsys.readouterr() == ("", "light: ready\n")


def test_a_terminal_that_went_away_does_not_stop_the_agent(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    broken = open(writing, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  closed below, and that fails
    TerminalLight(broken).show("ready")
    with pytest.raises(BrokenPipeError):
        broken.close()
    TerminalLight(broken).show("ready")
    monkeypatch.setattr(sys, "stderr", None)
    TerminalLight().show("ready")
