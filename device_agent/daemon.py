"""What the daemon has around the agent: what it remembers, who watches it, and which signals reach it."""

from __future__ import annotations

from pathlib import Path

from .assembly import assemble
from .config import load
from .memory import Memory, default_path
from .postmortem import Recorder
from .signals import stopped_by_signals
from .times import Stopwatch
from .transcript import Transcript


def run(path: Path) -> int:
    """Be the smart speaker that the configuration at *path* describes; return the exit status. For the main thread.

    Raises ConfigError where the configuration is wrong, and DeviceFailed where a pin is.
    """
    config, memory = load(path), Memory(default_path())
    recorder = Recorder(config, default_path().parent)
    written = () if config.log.transcript == "off" else (Transcript(config.log.transcript),)
    agent = assemble(config, watch=(*written, Stopwatch(), recorder), memory=memory, patient=True)
    with stopped_by_signals(agent.stop), recorder.on_signal():
        status = agent.run()
        if status:
            recorder.write(f"it ended with status {status}")
    return status
