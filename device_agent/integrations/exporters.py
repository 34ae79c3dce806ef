"""Who lives beside the agent and shows it to others, if the configuration wants it: Prometheus, and a home's broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from ..config.credentials import MQTT_PASSWORD, find_password
from ..config.model import Config
from ..core.errors import ConfigError
from ..core.events import Event
from ..core.status_snapshot import StatusSnapshot
from ..core.transition import Transition
from ..runtime.worker import Worker
from ..state.machine_id import machine_id
from ..state.store import StateStore

log = logging.getLogger(__name__)


class Exporter(Protocol):
    """Lives in a thread of its own, and watches the agent in the main thread."""

    def __call__(self, step: Transition) -> None:
        """Something happened, or is done."""

    def run(self, stopping: threading.Event) -> None:
        """Live until *stopping* is set and ``wake`` is called."""

    def wake(self) -> None:
        """Look at the world. For any thread."""


class Exporters:
    """All methods belong to the main thread. It is a Watch itself: whoever lives there is shown what happens.

    *snapshot* returns what there is to show, and *tell* puts into the inbox; both are called by any thread. What this
    machine is called is kept in *memory*.
    """

    def __init__(
        self, snapshot: Callable[[], StatusSnapshot], tell: Callable[[Event], None], memory: StateStore | None = None
    ) -> None:
        self._snapshot, self._tell, self._memory = snapshot, tell, memory or StateStore(None)
        self._living: dict[str, Exporter] = {}
        self._workers = ExitStack()
        self._wanted: object = None

    def __call__(self, step: Transition) -> None:
        for neighbour in self._living.values():
            neighbour(step)

    def settle(self, config: Config) -> None:
        """Let those live there that *config* wants; nothing if they do. May take a second where some have to leave.

        One who cannot is told of in the log, and the agent goes on without.
        """
        wanted = (config.metrics, config.mqtt)
        if wanted == self._wanted:
            return
        self.close()
        self._wanted = wanted
        for name, make in (("metrics", self._metrics), ("mqtt", self._mqtt)):
            try:
                if (neighbour := make(config)) is not None:
                    self._living[name] = neighbour
                    self._workers.enter_context(Worker(name, neighbour.run, self._tell, wake=neighbour.wake))
            except ConfigError as error:
                log.error("%s; continuing without %s", error, name)

    def close(self) -> None:
        """All of them leave."""
        self._workers.close()
        self._living.clear()
        self._wanted = None

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
        return MqttClient(config.mqtt, password, machine_id(self._memory), self._snapshot, self._tell)
