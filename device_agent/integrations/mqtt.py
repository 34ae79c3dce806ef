"""MQTT client: publishes the state of the device, and receives commands. The only file that imports paho-mqtt."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..config.model import MqttConfig
from ..core.errors import ConfigError, install_hint
from ..core.events import Event
from ..core.redaction import Secret
from ..core.transition import Transition
from ..net import tls
from .home_assistant import Announcements, HomeAssistant
from .mqtt_limits import MAX_PACKET_BYTES, LimitedSocket

if TYPE_CHECKING:
    from ..core.status_snapshot import StatusSnapshot

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError as error:
    raise ConfigError(f"mqtt.host needs a library: {install_hint('mqtt')}, or leave it empty") from error

log = logging.getLogger(__name__)

COALESCE_S = 0.05
"""Changes within this time are sent as one."""
REFRESH_S = 60.0
"""Interval for values that change without an event: the minutes of a connection."""
LAST_PUBLISH_TIMEOUT_S = 0.4
MQTT_KEEPALIVE_S = 30
RECONNECT_DELAY_S, FLOODED_DELAY_S = (1, 120), (120, 120)
"""First and longest pause before the next attempt to connect; and to a broker that has exceeded the limits."""
MAX_QUEUED_MESSAGES = 32


class MqttClient:
    """Observer that publishes the state after each change. ``run`` has a thread of its own; the library has one more.

    *machine* distinguishes this speaker from another one of the same name. *snapshot* and *tell*, which puts an event
    into the inbox, are called by these two threads. Raises ConfigError if the CA file is wrong; so does the import of
    this module if the library is missing.
    """

    def __init__(
        self,
        config: MqttConfig,
        password: Secret | None,
        machine: str,
        snapshot: Callable[[], StatusSnapshot],
        tell: Callable[[Event], None],
    ) -> None:
        self._home = HomeAssistant(config.name or "", config.discovery or "", machine)
        self._announcements = Announcements(tell)
        self._where = f"{config.host}:{config.port}"
        self._address = (config.host or "", config.port)
        self._snapshot, self._tell = snapshot, tell
        self._changed = threading.Event()
        self._published = ""
        self._warned = ""
        self._flooded = False
        self._client = _client(f"device-agent-{self._home.unique}", self._limit_exceeded)
        self._client.on_connect = self._connected
        self._client.on_connect_fail = lambda *_: self._warn("it does not answer")
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received
        self._client.will_set(self._home.available, "offline", qos=1, retain=True)
        if config.user:
            self._client.username_pw_set(config.user, password.reveal() if password else None)
        if config.tls:
            self._client.tls_set_context(tls.context(config.ca_file or ""))

    def __call__(self, step: Transition) -> None:
        self._announcements(step)
        self._changed.set()

    def wake(self) -> None:
        """Make ``run`` look at *stopping*. For any thread."""
        self._changed.set()

    def run(self, stopping: threading.Event) -> None:
        """Publish changes until *stopping* is set and ``wake`` is called."""
        self._client.connect_async(*self._address, keepalive=MQTT_KEEPALIVE_S, properties=_limits())
        self._client.loop_start()
        try:
            while not stopping.is_set():
                self._changed.wait(REFRESH_S)
                stopping.wait(COALESCE_S)
                self._changed.clear()
                self._publish_state()
        finally:
            last = self._client.publish(self._home.available, "offline", qos=1, retain=True)
            with suppress(ValueError, RuntimeError):  # there is no connection
                last.wait_for_publish(LAST_PUBLISH_TIMEOUT_S)
            self._client.disable_logger()  # it takes the end for an error
            self._client.on_connect_fail = self._client.on_disconnect = None  # so do these
            self._client.disconnect()  # the library's thread ends with it, or with the process

    def _publish_state(self) -> None:
        state = self._home.state_message(self._snapshot())
        if state != self._published and self._client.is_connected():
            self._published = state
            self._client.publish(self._home.state, state, qos=1, retain=True)

    # The library's thread ---------------------------------------------------------------------------------------------

    def _connected(self, client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._warn(f"it says: {reason}; see mqtt.user and mqtt.password_file")
            return
        log.info("connected to the broker at %s as %s", self._where, self._home.id)
        self._published = ""
        if not self._flooded:
            self._warned = ""
        for topic in self._home.commands:
            client.subscribe(topic, qos=1)
        if self._home.former_discovery:
            client.publish(self._home.former_discovery, b"", qos=1, retain=True)
        if self._home.discovery:
            client.publish(self._home.discovery, self._home.discovery_message(), qos=1, retain=True)
        client.publish(self._home.available, "online", qos=1, retain=True)
        self._changed.set()

    def _disconnected(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure and not self._flooded:
            self._warn(f"the connection broke: {reason}")

    def _limit_exceeded(self, why: str) -> None:
        """Connect again, but seldom from now on."""
        self._flooded = True
        self._client.reconnect_delay_set(*FLOODED_DELAY_S)
        self._warn(why)

    def _received(self, _client: Any, _userdata: Any, message: Any) -> None:
        if message.retain:
            log.warning("the retained message on %s is ignored: send commands without retain", message.topic)
            return
        try:
            command = self._home.parse_command(message.topic, message.payload)
            if isinstance(command, str):
                self._announcements.say(command, time.monotonic())
            else:
                self._tell(command)
        except ValueError as error:
            log.warning("%s", error)

    def _warn(self, about: str) -> None:
        """Log *about*, once for as long as it lasts."""
        if about != self._warned:
            log.warning("no connection to the broker at %s: %s; trying again", self._where, about)
        self._warned = about


class _Client(paho.Client):
    """Client whose socket has limits: those of the library are only a request to the broker."""

    limit_exceeded: Callable[[str], None]

    def _create_socket(self) -> Any:
        return LimitedSocket(super()._create_socket(), self.limit_exceeded)


def _client(name: str, limit_exceeded: Callable[[str], None]) -> paho.Client:
    client = _Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
    client.limit_exceeded = limit_exceeded
    client.suppress_exceptions = True  # it logs them; the agent does not end for a broker
    client.enable_logger(logging.getLogger("paho"))
    client.reconnect_delay_set(*RECONNECT_DELAY_S)
    client.max_queued_messages_set(MAX_QUEUED_MESSAGES)
    return client


def _limits() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties
