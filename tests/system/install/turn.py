"""Runs inside, with the Python of the installed program: a first turn through ``device-agent run`` on sound files.

/opt/device-agent/bin/python turn.py
/opt/device-agent/bin/python turn.py --question FILE       write the question, with ten minutes of silence behind it
/opt/device-agent/bin/python turn.py --same FILE ANSWER    say yes or no: is the question of FILE in ANSWER?
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import wave
from importlib.resources import as_file
from pathlib import Path

from device_agent.dsp.correlation import likeness
from device_agent.simulator import QUESTION, Simulator

RATE = 24000
SETTINGS = """\
service: {{url: "{url}"}}
talk: {{start: voice}}
microphone: {{device: "wav:{question}"}}
speaker: {{device: "wav:{answer}", volume: 100}}
button: {{pin: }}
light: {{pin: }}
cues: {{volume: 0}}
"""


def main() -> int:
    """Do what the arguments say; return the exit status."""
    match sys.argv[1:]:
        case ["--question", file]:
            return write_question(Path(file))
        case ["--same", file, answer]:
            print("yes" if same(samples(Path(file))[2 * RATE : 4 * RATE], samples(Path(answer))) > 0.5 else "no")
            return 0
    return take_turn()


def write_question(path: Path) -> int:
    """Write a question to be heard by a microphone that goes on listening."""
    with as_file(QUESTION) as question, wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(samples(question) + bytes(2 * RATE * 600))
    path.chmod(0o644)
    return 0


def take_turn() -> int:
    """Ask, listen, compare; say how alike the question and its echo are."""
    with tempfile.TemporaryDirectory() as folder, as_file(QUESTION) as question, Simulator(key="a-key") as service:
        answer, settings = Path(folder, "answer.wav"), Path(folder, "config.yaml")
        settings.write_text(SETTINGS.format(url=service.url, question=question, answer=answer))
        environment = {**os.environ, "XAI_API_KEY": "a-key", "HOME": folder}
        subprocess.run(["device-agent", "run", "--config", settings], check=True, timeout=120, env=environment)
        again = same(samples(question)[2 * RATE : 4 * RATE], samples(answer))
    print(f"the answer is the question again: {again:.0%} of a second from its midst")
    return 0 if again > 0.5 else 1


def same(asked: bytes, heard: bytes) -> float:
    """Return how much of what was *asked* is in what was *heard*: pieces, because a busy processor tears gaps."""
    step = 2 * RATE // 10
    pieces = [asked[at : at + step] for at in range(0, len(asked) - step + 1, step)]
    return sum(likeness(piece, heard)[0] > 0.95 for piece in pieces) / len(pieces)


def samples(path: Path) -> bytes:
    with wave.open(str(path)) as wav:
        return wav.readframes(wav.getnframes())


if __name__ == "__main__":
    sys.exit(main())
