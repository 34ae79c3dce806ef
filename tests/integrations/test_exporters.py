"""Who lives beside the agent."""

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
def neighbours(told) -> Iterator[Exporters]:
    statistics = Statistics(Path("config.yaml"), 0.0, began=0.0)
    with closing(Exporters(lambda: statistics.snapshot(1.0), told.append)) as neighbours:
        yield neighbours
    assert told == []  # nobody crashed


def living() -> set[str]:
    return {thread.name for thread in threading.enumerate()} & {"metrics", "mqtt"}


def test_nobody_lives_there_unless_wanted(neighbours):
    neighbours.apply(Config())
    assert living() == set()


def test_an_edit_brings_them_and_sends_them_away(neighbours):
    first, second = free_port(), free_port()
    neighbours.apply(Config(metrics=MetricsConfig(first)))
    assert b"device_agent_uptime" in urlopen(f"http://127.0.0.1:{first}/metrics").read()
    neighbours.apply(Config(metrics=MetricsConfig(second)))
    assert b"device_agent_uptime" in urlopen(f"http://127.0.0.1:{second}/metrics").read()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{first}/metrics")
    neighbours.apply(Config())
    assert living() == set()


def test_another_edit_leaves_them_alone(neighbours):
    config = Config(metrics=MetricsConfig(free_port()))
    neighbours.apply(config)
    before = neighbours._running["metrics"]
    neighbours.apply(replace(config, abilities=()))
    assert neighbours._running["metrics"] is before


def test_who_cannot_live_there_is_told_of_and_the_others_do(neighbours, caplog):
    missing = MqttConfig(host="127.0.0.1", port=1, user="kitchen", password_file="/nowhere/password")  # noqa: S106
    with caplog.at_level(logging.ERROR):
        neighbours.apply(Config(metrics=MetricsConfig(free_port()), mqtt=missing))
    assert living() == {"metrics"}
    assert "/nowhere/password cannot be read: No such file or directory; continuing without mqtt" in caplog.text


def test_a_broker_that_is_not_there_keeps_nobody_from_leaving(neighbours, caplog):
    neighbours.apply(Config(mqtt=MqttConfig(host="127.0.0.1", port=free_port())))
    assert living() == {"mqtt"}
    neighbours.close()
    assert living() == set()
    assert "did not stop" not in caplog.text
