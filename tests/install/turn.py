"""Runs inside, with the Python of the installed program: a first turn through ``device-agent run`` on sound files.

/opt/device-agent/bin/python turn.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import wave
from importlib.resources import as_file
from pathlib import Path

from device_agent.audio import likeness
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
