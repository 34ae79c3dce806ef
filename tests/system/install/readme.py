"""README's own commands, line by line, by an ordinary user at a terminal, to a spoken answer of the service.

Every block of shell commands in README.md, in its order. What is not possible in a folder is replaced: a log-in over
SSH is left out, a sound card is a sound file, the editor writes the settings that README tells to write, and the
service is the simulator on the same machine.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

from root import Broken, Root, wait_for

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
THERE = ("sudo", "python3", "ca-certificates", "procps", "systemd", "systemd-sysv", "dbus", "git", "make")
"""What Raspberry Pi OS Lite has and the smallest Debian has not, and what README's first section asks for."""
REPOSITORY = "/srv/device-agent.git"
LEFT_OUT = {"ssh": "no second computer", "MIC=1": "no sound card", "devices": "no sound card"}
LONGEST_S = 900.0
DONE = "walked"
PYTHON = "/opt/device-agent/bin/python"
KEY = "a-key-for-the-simulator-0123456789"
SETTINGS = """\
service: {name: xai, url: "ws://127.0.0.1:9100/v1/realtime"}
talk: {start: voice}
microphone: {device: "wav:/srv/question.wav"}
speaker: {device: "wav:/var/lib/device-agent/answer.wav", volume: 100}
button: {pin: }
light: {pin: }
cues: {volume: 0}
"""


def commands(text: str) -> list[str]:
    """Return the lines of all shell blocks of a document, without comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def walk(root: Root) -> str:
    """Do what README says, after ``prepare``; return how long it took. Raises Broken where a command fails."""
    began, done = time.monotonic(), 0
    with Terminal(root) as terminal:
        for line in commands((PROJECT / "README.md").read_text()):
            if why := next((why for part, why in LEFT_OUT.items() if part in line.split()), ""):
                print(f"       left out: {line} ({why})", flush=True)
                continue
            if "systemctl stop" in line:
                start_service(root)
            took = terminal.run(line.replace("REPOSITORY", REPOSITORY))
            print(f"       {took:6.1f} s  {line}", flush=True)
            done += 1
    wait_for("the answer of the service", lambda: _answered(root), 120)
    return f"{done} commands in {time.monotonic() - began:.0f} s, and the answer was the question again"


def prepare(root: Root) -> None:
    """Make of the smallest Debian what a Raspberry Pi is after its first log-in."""
    root.run("apt-get", "-qq", "update")
    root.run("apt-get", "-qq", "install", "-y", "--no-install-recommends", *THERE, DEBIAN_FRONTEND="noninteractive")
    root.run("useradd", "--create-home", "--shell", "/bin/bash", "name")
    root.file("/etc/sudoers.d/name").write_text("name ALL=(ALL) NOPASSWD: ALL\nDefaults env_keep += PIP_CERT\n")
    subprocess.run(["git", "clone", "--quiet", "--bare", PROJECT, root.file(REPOSITORY)], check=True)
    root.run("chown", "-R", "name:", REPOSITORY)
    editor = root.file("/usr/local/bin/nano")
    editor.write_text(f"#!/bin/sh\ncat >\"$1\" <<'END'\n{SETTINGS}END\n")
    editor.chmod(0o755)
    shutil.copy(HERE / "turn.py", root.file("/srv/turn.py"))


def start_service(root: Root) -> None:
    """The service, on the same machine; and what is said to the microphone, with a long silence behind it."""
    root.run(PYTHON, "/srv/turn.py", "--question", "/srv/question.wav")
    root.run("sh", "-c", f"nohup {PYTHON} -m device_agent simulate --port 9100 >/srv/simulator.log 2>&1 &")


def _answered(root: Root) -> bool:
    answer = "/var/lib/device-agent/answer.wav"
    compare = (PYTHON, "/srv/turn.py", "--same", "/srv/question.wav", answer)
    return root.file(answer).exists() and "yes" in root.run(*compare)


ANSWERS = {"[Y/n]": "y", "The key for": KEY}


class Terminal:
    """A shell at a terminal, and a user who answers what is asked."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def __enter__(self) -> Terminal:
        command = self._root.inside("su", "--whitelist-environment=PIP_CERT", "--login", "name", TERM="dumb")
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.execvp(command[0], command)  # noqa: S606  there is no shell, and none is wanted
        self.run("PS1= PS2=; stty -echo")
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._terminal)
        os.waitpid(self._process, 0)

    def run(self, line: str) -> float:
        """Type *line*; return how many seconds it took. Raises Broken where it fails or takes too long."""
        began, shown, answered = time.monotonic(), "", 0
        os.write(self._terminal, f"{line}; echo {DONE}-$?\n".encode())
        while (end := re.search(rf"{DONE}-(\d+)\r?\n", shown)) is None:
            if time.monotonic() - began > LONGEST_S:
                raise Broken(f"{line}: not done after {LONGEST_S:g} s:\n{shown[-2000:]}")
            if select.select([self._terminal], [], [], 1.0)[0]:
                shown += os.read(self._terminal, 65536).decode(errors="replace")
            for question, answer in ANSWERS.items():
                if question in shown[answered:]:
                    answered = len(shown)
                    os.write(self._terminal, f"{answer}\n".encode())
        if end[1] != "0":
            raise Broken(f"{line} ended with {end[1]}:\n{shown[-3000:]}")
        return time.monotonic() - began
