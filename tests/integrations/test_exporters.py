"""The exporters beside the agent."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from device_agent.config.model import Config, MetricsConfig, MqttConfig
from device_agent.core.events import Event
from device_agent.integrations.exporters import Exporters
from device_agent.telemetry.statistics import Statistics


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def exporters(told) -> Iterator[Exporters]:
    statistics = Statistics(Path("config.yaml"), 0.0, began=0.0)
    with closing(Exporters(lambda: statistics.snapshot(1.0), told.append)) as exporters:
        yield exporters
    assert told == []  # no exporter crashed


def living() -> set[str]:
    return {thread.name for thread in threading.enumerate()} & {"metrics", "mqtt"}


def test_no_exporter_runs_unless_it_is_configured(exporters):
    exporters.apply(Config())
    assert living() == set()


def test_an_edit_starts_and_stops_exporters(exporters):
    first, second = free_port(), free_port()
    exporters.apply(Config(metrics=MetricsConfig(first)))
    assert b"device_agent_uptime" in urlopen(f"http://127.0.0.1:{first}/metrics").read()
    exporters.apply(Config(metrics=MetricsConfig(second)))
    assert b"device_agent_uptime" in urlopen(f"http://127.0.0.1:{second}/metrics").read()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{first}/metrics")
    exporters.apply(Config())
    assert living() == set()


def test_another_edit_leaves_exporters_alone(exporters):
    config = Config(metrics=MetricsConfig(free_port()))
    exporters.apply(config)
    before = exporters._running["metrics"]
    exporters.apply(replace(config, abilities=()))
    assert exporters._running["metrics"] is before


def test_an_exporter_that_cannot_start_is_logged_and_the_others_run(exporters, caplog):
    missing = MqttConfig(host="127.0.0.1", port=1, user="kitchen", password_file="/nowhere/password")  # noqa: S106
    with caplog.at_level(logging.ERROR):
        exporters.apply(Config(metrics=MetricsConfig(free_port()), mqtt=missing))
    assert living() == {"metrics"}
    assert "/nowhere/password cannot be read: No such file or directory; continuing without mqtt" in caplog.text


def test_a_missing_broker_does_not_keep_the_exporter_from_stopping(exporters, caplog):
    exporters.apply(Config(mqtt=MqttConfig(host="127.0.0.1", port=free_port())))
    assert living() == {"mqtt"}
    exporters.close()
    assert living() == set()
    assert "did not stop" not in caplog.text
