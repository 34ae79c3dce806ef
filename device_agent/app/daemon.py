"""Daemon: the process around the agent, with configuration, stored state, status, exporters and signals.

These live as long as the process; an edit of config.yaml may replace the agent.
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
    """Run the speaker with the configuration at *path*; return the exit status. For the main thread.

    Raises ConfigError where the configuration is wrong and there is no last good one, DeviceFailed where a pin is
    missing, and Occupied where another agent runs.
    """
    with only_agent(state_path().parent):
        return Daemon(path).run()


class Daemon:
    """One process. ``tell``, ``wake``, ``reload`` and ``stop`` are for any thread, even a signal handler; the other
    methods belong to the main thread."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        state = state_path().parent
        self._memory = StateStore(state_path())
        self._watcher = ConfigWatcher(path, state / LAST_GOOD_NAME)
        self._watcher.start()
        config = self._watcher.config
        self._recorder = FlightRecorder(config, state)
        self._statistics = Statistics(path, config.connection.price_per_minute, began=time.monotonic())
        self._transcript = Transcript(config.log.transcript)
        self._exporters = Exporters(lambda: self._statistics.snapshot(time.monotonic()), self.tell, self._memory)
        self._watcher.on_change = self._apply_config
        self._stopped_by = ""
        self._reconfigurer: Reconfigurer | None = None
        self._agent: Agent | None = None

    def run(self) -> int:
        """Run the agent, and those that replace it; return the exit status. Raises ConfigError and DeviceFailed."""
        server = StatusServer(self._statistics)
        status_worker = Worker("status", server.run, self.tell, wake=server.wake)
        with stopped_by_signals(self.stop), asked_by_hangup(self.reload), self._recorder.on_signal(self.wake):
            self._apply_config()
            # All objects so far are permanent: each collection would hold up every thread for 20 ms and more to examine
            # them. Before the first agent, because an agent may be replaced.
            gc.freeze()
            agent = self._build_agent()
            # All devices share the panel of the first.
            with closing(agent.device.panel), closing(self._exporters), status_worker:
                while (status := agent.run()) == RESTART and not self._stopped_by:
                    agent = self._replace_agent()
        if status <= 0:
            self._watcher.end_trial()
        else:
            self._recorder.write(f"it ended with status {status}")
        return max(0, status)

    def tell(self, event: Event) -> None:
        """Put *event* into the inbox of the present agent."""
        if self._agent is not None:
            self._agent.tell(event)

    def wake(self) -> None:
        """Make the main thread check everything now."""
        self.tell(WakeUp())

    def reload(self) -> None:
        """Read the configuration again, changed or not."""
        self._watcher.request_reload()
        self.wake()

    def stop(self, by: str) -> None:
        """End the process, even while an agent is being replaced."""
        self._stopped_by = by
        self.tell(ShutdownRequested(by))

    def _replace_agent(self) -> Agent:
        """Return an agent for the edit that ended the last one; where that fails, for the previous configuration."""
        log.info("assembling the device again")
        pending = self._reconfigurer.pending if self._reconfigurer is not None else None
        if pending is not None and pending is not self._watcher.loaded:
            self._watcher.accept(pending, tried=False)
        return self._build_agent()

    def _build_agent(self) -> Agent:
        """Return an agent for the configuration in use; where that fails, for the previous one."""
        while True:  # twice at most: there is only one previous configuration
            try:
                with internal_errors_reported(self._watcher.path):
                    agent = self._assemble()
            except (ConfigError, DeviceFailed) as error:
                self._watcher.roll_back(error)
            else:
                self._statistics.attach(agent)
                self._agent = agent
                if self._stopped_by:
                    agent.stop(self._stopped_by)
                return agent

    def _assemble(self) -> Agent:
        device = build_device(
            self._watcher.config,
            memory=self._memory,
            before=self._agent.device if self._agent else None,
            patient=True,
            proven=not self._watcher.on_trial(),
        )
        self._reconfigurer = Reconfigurer(self._watcher, device)
        return Agent(
            device,
            observers=(self._transcript, self._statistics, self._recorder, self._exporters),
            reconfigurer=self._reconfigurer,
        )

    def _apply_config(self) -> None:
        """Hand the configuration in use, and the mistakes in its file, to the parts outside of the device."""
        watcher, config = self._watcher, self._watcher.config
        self._recorder.config = config
        self._transcript.tune(config.log.transcript)
        self._exporters.apply(config)
        price = config.connection.price_per_minute
        self._statistics.set_config(watcher.path, price, watcher.state, mistakes=watcher.mistakes)
