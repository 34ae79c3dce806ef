"""What the daemon has around the agent: its configuration, what it remembers, who watches it, which signals reach it.

All of that lives as long as the process; the agent in its middle may be assembled anew, when an edit asks for it.
"""

from __future__ import annotations

import gc
import logging
import time
from contextlib import closing
from pathlib import Path

from ..config.watcher import LAST_GOOD_NAME, ConfigWatcher, internal_errors_reported
from ..core.errors import ConfigError, DeviceFailed
from ..core.events import Event, ShutdownRequested, WakeUp
from ..integrations.exporters import Exporters
from ..runtime.paths import state_path
from ..runtime.signals import asked_by_hangup, stopped_by_signals
from ..runtime.single_instance import only_agent
from ..runtime.worker import Worker
from ..state.store import StateStore
from ..status.server import StatusServer
from ..telemetry.flight_recorder import FlightRecorder
from ..telemetry.statistics import Statistics
from ..telemetry.transcript import Transcript
from .agent import RESTART, Agent
from .assembly import build_device
from .reconfigure import Reconfigurer

log = logging.getLogger(__name__)


def run(path: Path) -> int:
    """Be the smart speaker that the configuration at *path* describes; return the exit status. For the main thread.

    Raises ConfigError where the configuration
    is wrong and there is no good one from before, DeviceFailed where a pin is, and Occupied where another agent runs.
    """
    with only_agent(state_path().parent):
        return Daemon(path).run()


class Daemon:
    """One process. ``tell``, ``nudge``, ``reread`` and ``stop`` are for any thread, even a signal handler; the other
    methods belong to the main thread."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        state = state_path().parent
        self._memory = StateStore(state_path())
        self._edits = ConfigWatcher(path, state / LAST_GOOD_NAME)
        self._edits.begin()
        config = self._edits.config
        self._recorder = FlightRecorder(config, state)
        self._statistics = Statistics(path, config.connection.price_per_minute, began=time.monotonic())
        self._transcript = Transcript(config.log.transcript)
        self._neighbours = Exporters(lambda: self._statistics.snapshot(time.monotonic()), self.tell, self._memory)
        self._edits.changed = self._configured
        self._stopped_by = ""
        self._reconfigurer: Reconfigurer | None = None
        self._agent: Agent | None = None

    def run(self) -> int:
        """Live; return the exit status. Raises ConfigError and DeviceFailed."""
        window = StatusServer(self._statistics)
        looking = Worker("window", window.run, self.tell, wake=window.wake)
        with stopped_by_signals(self.stop), asked_by_hangup(self.reread), self._recorder.on_signal(self.nudge):
            self._configured()
            # What is loaded by now stays: to look through it for rubbish would hold up every thread, again and again,
            # for 20 ms and more. Not after the next line: an agent may go.
            gc.freeze()
            agent = self._assembled()
            with (
                closing(agent.device.panel),
                closing(self._neighbours),
                looking,
            ):  # all devices have the panel of the first
                while (status := agent.run()) == RESTART and not self._stopped_by:
                    agent = self._assembled_anew()
        if status <= 0:
            self._edits.end()
        else:
            self._recorder.write(f"it ended with status {status}")
        return max(0, status)

    def tell(self, event: Event) -> None:
        """Let the agent of now know of something that happened around it."""
        if self._agent is not None:
            self._agent.tell(event)

    def nudge(self) -> None:
        """Make the main thread look at the world."""
        self.tell(WakeUp())

    def reread(self) -> None:
        """Read the configuration again, changed or not."""
        self._edits.ask()
        self.nudge()

    def stop(self, by: str) -> None:
        """End, whichever agent it is that runs."""
        self._stopped_by = by
        self.tell(ShutdownRequested(by))

    def _assembled_anew(self) -> Agent:
        """Return an agent for the edit that the last one ended for, or, where that cannot be, for what was before."""
        log.info("assembling the device again")
        wanted = self._reconfigurer.next if self._reconfigurer is not None else None
        if wanted is not None and wanted is not self._edits.reading:
            self._edits.take(wanted, tried=False)
        return self._assembled()

    def _assembled(self) -> Agent:
        """Return an agent for the configuration in use; where there can be none, for the one before that."""
        while True:  # twice at most: there is only one configuration to go back to
            try:
                with internal_errors_reported(self._edits.path):
                    agent = self._assemble()
            except (ConfigError, DeviceFailed) as error:
                self._edits.go_back(error)
            else:
                self._statistics.attach(agent)
                self._agent = agent
                if self._stopped_by:
                    agent.stop(self._stopped_by)
                return agent

    def _assemble(self) -> Agent:
        device = build_device(
            self._edits.config,
            memory=self._memory,
            before=self._agent.device if self._agent else None,
            patient=True,
            proven=not self._edits.on_trial(),
        )
        self._reconfigurer = Reconfigurer(self._edits, device)
        return Agent(
            device,
            observers=(self._transcript, self._statistics, self._recorder, self._neighbours),
            reconfigurer=self._reconfigurer,
        )

    def _configured(self) -> None:
        """There is another configuration, or there are mistakes in its file: let those know who look at it."""
        edits = self._edits
        self._recorder.config = edits.config
        self._transcript.tune(edits.config.log.transcript)
        self._neighbours.apply(edits.config)
        self._statistics.set_config(
            edits.path, edits.config.connection.price_per_minute, edits.state, mistakes=edits.mistakes
        )
