"""The speaker at a real broker, looked at by the broker's own clients."""

from __future__ import annotations

import json
import logging
import queue
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from device_agent.config.model import MqttConfig
from device_agent.core.events import LinkUp, PlaybackEnded
from device_agent.core.redaction import Secret
from device_agent.integrations.mqtt import MqttClient
from device_agent.runtime.worker import Worker
from device_agent.simulator import Simulator
from device_agent.telemetry.statistics import Statistics
from tests.support.authority import Authority
from tests.support.room import PATIENCE_S, Room

pytestmark = pytest.mark.slow


MACHINE = "5eed0001"
PASSWORD = "open sesame"  # noqa: S105  of a broker that lives for a second


class Broker:
    """mosquitto on a port of its own. With *password*, each client needs it."""

    def __init__(self, folder: Path, *, password: str = "", authority: Authority | None = None) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port: int = free.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", f"allow_anonymous {str(not password).lower()}"]
        if password:
            subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "users", "kitchen", password], check=True)
            (folder / "users").chmod(0o644)  # the broker gives up being root
            lines.append(f"password_file {folder / 'users'}")
        if authority:
            certificate, key = authority.issue("IP:127.0.0.1,DNS:localhost")
            lines += [f"certfile {certificate}", f"keyfile {key}"]
        self._login = ["-u", "kitchen", "-P", password] if password else []
        self._login += ["--cafile", str(authority.certificate)] if authority else []
        self._config, self.log = folder / "broker.conf", folder / "broker.log"
        self._config.write_text("\n".join([*lines, "user root", ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(["mosquitto", "-v", "-c", self._config], stderr=log)
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            threading.Event().wait(0.02)
        raise AssertionError("the broker did not start")

    def __exit__(self, *_exc: object) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def _command(self, name: str, *words: str) -> list[str]:
        return [name, "-h", "127.0.0.1", "-p", str(self.port), *self._login, *words]

    def send(self, topic: str, text: str, *, keep: bool = False) -> None:
        kept = ["-r"] if keep else []
        subprocess.run(self._command("mosquitto_pub", "-q", "1", "-t", topic, "-m", text, *kept), check=True)

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        process = subprocess.Popen(self._command("mosquitto_sub", "-t", "#", "-v"), stdout=subprocess.PIPE, text=True)
        try:
            yield Listener(process)
        finally:
            process.kill()
            process.wait()


class Listener:
    """Hears all that is sent through the broker, and what it keeps."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._heard: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._out = process.stdout
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        assert self._out
        for line in self._out:
            topic, _, text = line.rstrip("\n").partition(" ")
            self._heard.put((topic, text))

    def until(self, topic: str, holds: Callable[[str], Any] = bool) -> str:
        """Return what is said on *topic* as soon as it *holds*."""
        seen, ends = [], time.monotonic() + PATIENCE_S
        while (left := ends - time.monotonic()) > 0:
            with suppress(queue.Empty):
                heard, text = self._heard.get(timeout=left)
                seen.append((heard, text[:200]))
                if heard == topic and holds(text):
                    return text
        raise AssertionError(f"waited for {topic}, heard {seen}")

    def state(self, **wanted: object) -> None:
        """Wait until the state of the speaker has all that is *wanted*."""
        self.until("device-agent/kitchen/state", lambda text: wanted.items() <= json.loads(text).items())


@contextmanager
def at_home(
    broker: Broker | HostileBroker, simulator: Simulator, *, machine: str = MACHINE, **config: Any
) -> Iterator[Room]:
    """A speaker that is called Kitchen."""
    statistics = Statistics(Path("config.yaml"), 0.0, began=time.monotonic())
    wanted = MqttConfig(host="127.0.0.1", port=broker.port, name="Kitchen", **config)
    password = Secret(PASSWORD) if wanted.user else None
    mqtt = MqttClient(
        wanted,
        password,
        machine,
        lambda: statistics.snapshot(time.monotonic()),
        lambda event: room.agent.tell(event),
    )
    with Room(simulator, watch=(statistics, mqtt)) as room:
        statistics.attach(room.agent)
        with Worker("mqtt", mqtt.run, room.agent.tell, wake=mqtt.wake):
            yield room


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(think_s=0.05, pace=40) as simulator:
        yield simulator


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


def test_a_home_is_told_of_it_and_what_it_does(broker, simulator):
    with broker.listener() as home, at_home(broker, simulator) as room:
        announced = json.loads(home.until(f"homeassistant/device/device-agent-kitchen-{MACHINE}/config"))
        assert announced["device"]["name"] == "Kitchen"
        assert announced["device"]["identifiers"] == [f"device-agent-kitchen-{MACHINE}"]
        home.until("device-agent/kitchen/available", lambda text: text == "online")
        home.state(mood="ready", muted="OFF", connected="OFF")
        room.ask()
        for mood in ("listening", "thinking", "speaking", "ready"):
            home.state(mood=mood)
        room.happened(PlaybackEnded)
    with broker.listener() as later:  # the broker keeps it
        later.until("device-agent/kitchen/available", lambda text: text == "offline")


def test_a_home_mutes_it_and_turns_its_volume(broker, simulator):
    with broker.listener() as home, at_home(broker, simulator):
        home.state(mood="ready")
        broker.send("device-agent/kitchen/mute/set", "ON")
        home.state(muted="ON", mood="muted")
        broker.send("device-agent/kitchen/volume/set", "35")
        home.state(volume=35)
        broker.send("device-agent/kitchen/mute/set", "OFF")
        home.state(muted="OFF", mood="ready")


def test_a_home_has_it_say_something_and_be_silent(broker, simulator):
    with broker.listener() as home, at_home(broker, simulator) as room:
        home.state(mood="ready")
        broker.send("device-agent/kitchen/say", "Dinner is ready.")
        home.state(mood="speaking")
        assert "Dinner is ready." in str(simulator.connections[0].events)
        broker.send("device-agent/kitchen/stop", "PRESS")
        home.state(mood="ready")
        assert room.all(LinkUp)


def test_nonsense_is_told_in_the_log_and_harms_nothing(broker, simulator, caplog):
    broker.send("device-agent/kitchen/say", "Kept for ever", keep=True)
    with caplog.at_level(logging.WARNING), broker.listener() as home, at_home(broker, simulator):
        home.state(mood="ready")
        broker.send("device-agent/kitchen/volume/set", "very loud")
        broker.send("device-agent/kitchen/say", "x" * 20_000)  # more than the broker was told that we take
        broker.send("device-agent/kitchen/volume/set", "40")
        home.state(volume=40)
    assert simulator.turns == []
    assert "neither ON, OFF nor a number" in caplog.text
    assert "without retain" in caplog.text


def test_a_broker_that_comes_back_has_it_again(tmp_path, simulator, caplog):
    broker = Broker(tmp_path)
    with caplog.at_level(logging.WARNING), at_home(broker, simulator):
        for _ in range(2):
            with broker, broker.listener() as home:
                home.until("device-agent/kitchen/available", lambda text: text == "online")
    assert "no connection to the broker" in caplog.text


def test_it_logs_in_and_checks_the_certificate_of_the_broker(tmp_path, simulator):
    authority = Authority(tmp_path / "ca")
    with Broker(tmp_path, password=PASSWORD, authority=authority) as broker, broker.listener() as home:
        secure = {"tls": True, "ca_file": str(authority.certificate), "user": "kitchen"}
        with at_home(broker, simulator, **secure):
            home.state(mood="ready")


def test_a_wrong_password_is_told_once_and_without_it(tmp_path, simulator, caplog):
    with Broker(tmp_path, password=PASSWORD[::-1]) as broker, caplog.at_level(logging.WARNING):
        with at_home(broker, simulator, user="kitchen") as room:
            ends = time.monotonic() + PATIENCE_S
            while "mqtt.password_file" not in caplog.text and time.monotonic() < ends:
                threading.Event().wait(0.02)
            room.ask()
            room.happened(PlaybackEnded)
    assert "mqtt.user and mqtt.password_file" in caplog.text
    assert PASSWORD not in caplog.text


def test_two_speakers_of_one_name_do_not_throw_each_other_out(broker, simulator):
    with broker.listener() as home, at_home(broker, simulator), at_home(broker, simulator, machine="5eed0002"):
        for machine in (MACHINE, "5eed0002"):
            home.until(f"homeassistant/device/device-agent-kitchen-{machine}/config")
        home.state(mood="ready")
        threading.Event().wait(3.0)  # a client that is thrown out is back after a second
    assert b"already connected" not in broker.log.read_bytes()


def test_what_an_older_version_announced_is_taken_back(broker, simulator):
    former = "homeassistant/device/device-agent-kitchen/config"
    broker.send(former, "{}", keep=True)
    with broker.listener() as home, at_home(broker, simulator):
        home.until(former, lambda text: text == "(null)")


# A broker that means us ill -------------------------------------------------------------------------------------------

CONNACK = b"\x20\x03\x00\x00\x00"
SAY = b"device-agent/kitchen/say"


def packet(first: int, body: bytes, size: int | None = None) -> bytes:
    """Return an MQTT packet that says it has *size* bytes."""
    left, length = len(body) if size is None else size, b""
    while left > 0x7F:
        length += bytes([left & 0x7F | 0x80])
        left >>= 7
    return bytes([first]) + length + bytes([left]) + body


def publish(payload: bytes, flags: int = 0, size: int | None = None) -> bytes:
    mid = b"\0\1" if flags & 0b0110 else b""
    return packet(0x30 | flags, len(SAY).to_bytes(2, "big") + SAY + mid + b"\0" + payload, size)


class HostileBroker:
    """Greets every client that connects, and then sends *flood* again and again for as long as the client listens."""

    def __init__(self, flood: bytes) -> None:
        self._flood = flood
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self.sent: queue.SimpleQueue[int] = queue.SimpleQueue()
        """How many bytes each took before it left."""

    def __enter__(self) -> HostileBroker:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._door.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._door.accept()
                with closing(sock):
                    self.sent.put(self._serve(sock))

    def _serve(self, sock: socket.socket) -> int:
        sent = 0
        with suppress(OSError):
            sock.settimeout(PATIENCE_S)
            sock.recv(4096)
            sock.sendall(CONNACK)
            while sent < 100_000_000:
                sent += sock.send(self._flood)
        return sent


FLOODS = {
    "one message of 256 MB": publish(b"x" * 60_000, size=0x0FFFFFFF),
    "messages of quality 2": publish(b"x", 0b0100) * 100,
    "many small messages": publish(b"x") * 100,
    "greetings": CONNACK * 100,
    "what only a client sends": packet(0x10, b"\0" * 9) * 100,
    "a packet without end": b"\x30" + b"\xff" * 999,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_broker_that_floods_is_left_and_costs_no_memory(flood, simulator, caplog):
    tracemalloc.start()
    try:
        with caplog.at_level(logging.WARNING), HostileBroker(flood) as broker, at_home(broker, simulator) as room:
            assert broker.sent.get(timeout=PATIENCE_S) < 20_000_000, "what fits into the buffers of two sockets"
            _, peak = tracemalloc.get_traced_memory()
            room.ask()
            room.happened(PlaybackEnded)
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000, "a reply has its room, and a flood none"
    assert "no connection to the broker" in caplog.text
    assert "it sends" in caplog.text or "it repeats its greeting" in caplog.text
