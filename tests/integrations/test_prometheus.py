"""The Prometheus exporter: its figures, as a client reads them."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from device_agent.core.errors import ConfigError
from device_agent.core.events import Event, PlaybackEnded
from device_agent.integrations.prometheus import PrometheusExporter
from device_agent.runtime.worker import Worker
from device_agent.simulator import Simulator
from device_agent.telemetry.statistics import Statistics
from tests.support.room import PATIENCE_S, Room


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def statistics() -> Statistics:
    return Statistics(Path("config.yaml"), 0.0, began=time.monotonic())


@pytest.fixture
def metrics(statistics: Statistics) -> Iterator[PrometheusExporter]:
    metrics = PrometheusExporter(free_port(), lambda: statistics.snapshot(time.monotonic()))
    told: list[Event] = []
    with Worker("metrics", metrics.run, told.append, wake=metrics.wake):
        yield metrics
    assert told == []


def scrape(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


def figures(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_turn_is_in_the_figures(statistics, metrics):
    with Simulator(think_s=0.05, pace=40) as simulator, Room(simulator, watch=[statistics]) as room:
        statistics.attach(room.agent)
        before = figures(scrape(metrics.port))
        assert before["device_agent_mood ready"] == 1
        assert before["device_agent_turns_total"] == 0
        room.ask()
        room.happened(PlaybackEnded)
        room.see("ready", times=2)
        after = figures(scrape(metrics.port))
    assert after["device_agent_turns_total"] == after["device_agent_replies_total"] == 1
    assert after["device_agent_connected"] == 1
    assert after["device_agent_latency_seconds 0.5 whole whole"] >= 0.4  # silence_ms
    assert after["device_agent_volume_percent"] == 100
    assert after["device_agent_device_lost microphone"] == 0


def test_a_client_without_a_request_delays_no_scrape_and_is_not_reported(metrics, capfd):
    with socket.create_connection(("127.0.0.1", metrics.port)):
        assert "device_agent_uptime_seconds" in scrape(metrics.port)
    assert capfd.readouterr() == ("", "")


def test_no_other_machine_can_read_them(metrics):
    ours = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    assert f"0100007F:{metrics.port:04X}" in ours
    assert f"00000000:{metrics.port:04X}" not in ours


def test_a_port_that_is_taken_is_told_by_its_key(statistics):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        with pytest.raises(ConfigError, match=r"metrics\.port: \d+ cannot be used: Address already in use"):
            PrometheusExporter(taken.getsockname()[1], lambda: statistics.snapshot(0.0))


@pytest.mark.slow
def test_prometheus_takes_them_as_they_are(metrics, tmp_path):
    """By its own linter, and by its server, which scrapes every second and is asked what it has."""
    lint = subprocess.run(["promtool", "check", "metrics"], input=scrape(metrics.port), text=True, capture_output=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    config = tmp_path / "prometheus.yml"
    scrapes = {"job_name": "speaker", "static_configs": [{"targets": [f"127.0.0.1:{metrics.port}"]}]}
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrapes]}))
    port = free_port()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    server = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        assert asked(port, "device_agent_uptime_seconds") > 0
        assert asked(port, 'up{job="speaker"}') == 1
    finally:
        server.kill()
        server.wait()


def asked(port: int, query: str) -> float:
    """Return what Prometheus has for *query*, as soon as it has something."""
    ends = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < ends:
        with suppress(URLError, ConnectionError):
            with urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={quote(query)}", timeout=PATIENCE_S) as answer:
                if result := json.load(answer)["data"]["result"]:
                    return float(result[0]["value"][1])
        threading.Event().wait(0.2)
    raise AssertionError(f"Prometheus has no {query}")
