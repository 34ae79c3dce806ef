"""Exporters: start and stop of the Prometheus endpoint and of the MQTT client, as the configuration asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from ..config.credentials import MQTT_PASSWORD, find_password
from ..config.model import Config
from ..core.errors import ConfigError
from ..core.events import Event
from ..core.transition import Transition
from ..runtime.worker import Worker
from ..state.machine_id import machine_id
from ..state.store import StateStore

if TYPE_CHECKING:
    from ..core.status_snapshot import StatusSnapshot

log = logging.getLogger(__name__)


class Exporter(Protocol):
    """Observer with a thread of its own."""

    def __call__(self, step: Transition) -> None:
        """Observe *step*, in the main thread."""

    def run(self, stopping: threading.Event) -> None:
        """Work until *stopping* is set and ``wake`` is called."""

    def wake(self) -> None:
        """Make ``run`` look at *stopping*. For any thread."""


class Exporters:
    """Observer that passes each transition on to the exporters that run. All methods belong to the main thread.

    *snapshot* and *tell*, which puts an event into the inbox, are called by any thread. *store* holds the machine's id.
    """

    def __init__(
        self, snapshot: Callable[[], StatusSnapshot], tell: Callable[[Event], None], store: StateStore | None = None
    ) -> None:
        self._snapshot, self._tell, self._store = snapshot, tell, store or StateStore(None)
        self._running: dict[str, Exporter] = {}
        self._workers = ExitStack()
        self._config: object = None

    def __call__(self, step: Transition) -> None:
        for exporter in self._running.values():
            exporter(step)

    def apply(self, config: Config) -> None:
        """Run the exporters of *config*. If they change, it may take a second to stop those that run.

        One that cannot start is logged, and the agent goes on without it.
        """
        wanted = (config.metrics, config.mqtt)
        if wanted == self._config:
            return
        self.close()
        self._config = wanted
        for name, make in (("metrics", self._metrics), ("mqtt", self._mqtt)):
            try:
                if (exporter := make(config)) is not None:
                    self._running[name] = exporter
                    self._workers.enter_context(Worker(name, exporter.run, self._tell, wake=exporter.wake))
            except ConfigError as error:
                log.error("%s; continuing without %s", error, name)

    def close(self) -> None:
        """Stop all exporters."""
        self._workers.close()
        self._running.clear()
        self._config = None

    def _metrics(self, config: Config) -> Exporter | None:
        if config.metrics.port is None:
            return None
        from .prometheus import PrometheusExporter

        return PrometheusExporter(config.metrics.port, self._snapshot)

    def _mqtt(self, config: Config) -> Exporter | None:
        if not config.mqtt.host:
            return None
        from .mqtt import MqttClient

        password = find_password(config.mqtt.password_file, MQTT_PASSWORD)
        return MqttClient(config.mqtt, password, machine_id(self._store), self._snapshot, self._tell)
