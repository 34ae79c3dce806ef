"""Prometheus endpoint: metrics on a port of this machine. The only file that imports prometheus-client."""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ..core.conversation import MOODS
from ..core.errors import ConfigError, install_hint
from ..core.transition import Transition

if TYPE_CHECKING:
    from ..core.status_snapshot import StatusSnapshot

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, StateSetMetricFamily
    from prometheus_client.exposition import make_wsgi_app
except ImportError as error:
    raise ConfigError(f"metrics.port needs a library: {install_hint('metrics')}, or leave it empty") from error

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
SCRAPE_TIMEOUT_S = 0.5
"""Time for a request and for its answer: clients are served one at a time, and are on this machine."""


class PrometheusExporter:
    """HTTP server for ``http://127.0.0.1:PORT/metrics``, with a thread of its own, which calls ``run``.

    *snapshot* is called for each request. Raises ConfigError if the port is taken; so does the import of this module
    if the library is missing.
    """

    def __init__(self, port: int, snapshot: Callable[[], StatusSnapshot]) -> None:
        self._snapshot = snapshot
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._server = make_server(LOOPBACK, port, make_wsgi_app(registry), _Server, _Handler)
        except OSError as error:
            raise ConfigError(f"metrics.port: {port} cannot be used: {error.strerror}; choose another") from error
        self.port: int = self._server.server_port

    def __call__(self, step: Transition) -> None:
        """Do nothing: the snapshot has it."""

    def collect(self) -> Iterator[Any]:
        """Return the metrics of now, for the registry."""
        return families(self._snapshot())

    def run(self, stopping: threading.Event) -> None:
        """Answer requests until *stopping* is set and ``wake`` is called."""
        log.info("figures for Prometheus are at http://%s:%d/metrics", LOOPBACK, self.port)
        with self._server:
            while not stopping.is_set():
                self._server.handle_request()

    def wake(self) -> None:
        """Make ``run`` look at *stopping*, by a connection without a request."""
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), SCRAPE_TIMEOUT_S):
            pass


class _Server(WSGIServer):
    """HTTP server that looks up no host name, and logs a broken connection only for debugging."""

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client asked for figures and did not read them: %s", sys.exception())


class _Handler(WSGIRequestHandler):
    timeout = SCRAPE_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the base class
        """Log nothing: a scrape comes every few seconds."""


def families(now: StatusSnapshot) -> Iterator[Any]:
    """Yield the metric families of a snapshot."""
    connected, latency = now["connected"], now["latency"]
    yield InfoMetricFamily("device_agent", "What this is.", value={"version": now["version"]})
    moods = {mood: mood == now["mood"] for mood in MOODS.values()}
    yield StateSetMetricFamily("device_agent_mood", "What the light shows.", value=moods)
    for name, text, value in (
        ("uptime_seconds", "Since the agent started.", now["uptime_s"]),
        ("volume_percent", "The volume.", now["volume"]),
        ("muted", "Whether the microphone is closed.", now["muted"]),
        ("connected", "Whether there is a connection to a service.", connected["now"]),
        ("connected_today_seconds", "For how long there was a connection today.", connected["today_s"]),
        ("daily_limit_reached", "Whether connection.daily_minutes are used up.", connected["spent"]),
        ("configuration_wrong", "Whether the saved configuration is wrong.", now["config"]["state"] != "in use"),
        ("latency_turns", "How many of the last turns the latency covers.", latency["turns"]),
    ):
        yield GaugeMetricFamily(f"device_agent_{name}", text, value=float(value))
    in_all = "For how long there was a connection, in all."
    yield CounterMetricFamily("device_agent_connected_seconds", in_all, value=connected["total_s"])
    for name, count in cast("dict[str, int]", now["counts"]).items():
        text = f"{name.replace('_', ' ')}, since the start."
        yield CounterMetricFamily(f"device_agent_{name}", text, value=count)
    lost = GaugeMetricFamily("device_agent_device_lost", "Whether a sound device is gone.", labels=["device"])
    for device in ("microphone", "speaker"):
        lost.add_metric([device], float(any(each["device"] == device for each in now["lost"])))
    yield lost
    steps = GaugeMetricFamily(
        "device_agent_latency_seconds",
        "The parts of the wait from the end of speech to the first sound, of the last turns.",
        labels=["step", "where", "quantile"],
    )
    for step in latency["steps"]:
        for quantile, wait_ms in (("0.5", step["median_ms"]), ("0.99", step["p99_ms"])):
            if wait_ms is not None:
                steps.add_metric([step["name"], step["where"], quantile], wait_ms / 1000)
    yield steps
