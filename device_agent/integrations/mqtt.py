"""Carries between the speaker and the MQTT broker of its home. The only file that knows paho-mqtt."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..config.model import MqttConfig
from ..core.errors import ConfigError, missing
from ..core.events import Event
from ..core.redaction import Secret
from ..core.status_snapshot import StatusSnapshot
from ..core.transition import Transition
from ..net import tls
from .home_assistant import Announcements, HomeAssistant
from .mqtt_limits import MAX_PACKET_BYTES, LimitedSocket

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError as error:
    raise ConfigError(f"mqtt.host needs a library: {missing('mqtt')}, or leave it empty") from error

log = logging.getLogger(__name__)

COALESCE_S = 0.05
"""What changes within so long is told together."""
REFRESH_S = 60.0
"""What nobody tells of, the minutes of a connection, is looked at so often."""
LAST_PUBLISH_TIMEOUT_S = 0.4
"""How long the last message may take."""
MQTT_KEEPALIVE_S = 30
RECONNECT_DELAY_S, FLOODED_DELAY_S = (1, 120), (120, 120)
"""Seconds to wait before the broker is tried again, the first time and at most; and one that has sent too much."""
MAX_QUEUED_MESSAGES = 32
"""Messages that may wait for the broker."""


class MqttClient:
    """Shows the speaker to its home, and takes what the home asks for. It watches the agent, in the main thread.

    ``run`` is the work of a thread of its own; the library has one more. *machine* tells this speaker from another one
    of the same name. *snapshot* returns what there is to show, and
    *tell* puts into the inbox; both are called by these two threads. Raises ConfigError where the CA file is none; so
    does the import of this module where the library is missing.
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
        self._told = ""
        self._complained = ""
        self._flooded = False
        self._client = _client(f"device-agent-{self._home.unique}", self._refuse)
        self._client.on_connect = self._connected
        self._client.on_connect_fail = lambda *_: self._complain("it does not answer")
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received
        self._client.will_set(self._home.available, "offline", qos=1, retain=True)
        if config.user:
            self._client.username_pw_set(config.user, password.reveal() if password else None)
        if config.tls:
            self._client.tls_set_context(tls.context(config.ca_file or ""))

    def __call__(self, step: Transition) -> None:
        """Something happened."""
        self._announcements(step)
        self._changed.set()

    def wake(self) -> None:
        """Look at the world: somebody wants us to stop."""
        self._changed.set()

    def run(self, stopping: threading.Event) -> None:
        """Show what changes, until *stopping*."""
        self._client.connect_async(*self._address, keepalive=MQTT_KEEPALIVE_S, properties=_limits())
        self._client.loop_start()
        try:
            while not stopping.is_set():
                self._changed.wait(REFRESH_S)
                stopping.wait(COALESCE_S)
                self._changed.clear()
                self._show()
        finally:
            last = self._client.publish(self._home.available, "offline", qos=1, retain=True)
            with suppress(ValueError, RuntimeError):  # there is no connection
                last.wait_for_publish(LAST_PUBLISH_TIMEOUT_S)
            self._client.disable_logger()  # it takes the end for an error
            self._client.on_connect_fail = self._client.on_disconnect = None  # and nobody is interested any more
            self._client.disconnect()  # the library's thread ends with it, or with the process

    def _show(self) -> None:
        told = self._home.told(self._snapshot())
        if told != self._told and self._client.is_connected():
            self._told = told
            self._client.publish(self._home.state, told, qos=1, retain=True)

    # The library's thread ---------------------------------------------------------------------------------------------

    def _connected(self, client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._complain(f"it says: {reason}; see mqtt.user and mqtt.password_file")
            return
        log.info("connected to the broker at %s as %s", self._where, self._home.id)
        self._told = ""
        if not self._flooded:
            self._complained = ""
        for topic in self._home.commands:
            client.subscribe(topic, qos=1)
        if self._home.former:
            client.publish(self._home.former, b"", qos=1, retain=True)
        if self._home.discovery:
            client.publish(self._home.discovery, self._home.announced(), qos=1, retain=True)
        client.publish(self._home.available, "online", qos=1, retain=True)
        self._changed.set()

    def _disconnected(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure and not self._flooded:
            self._complain(f"the connection broke: {reason}")

    def _refuse(self, why: str) -> None:
        """The broker sends what it must not: it is left, and tried again seldom from now on."""
        self._flooded = True
        self._client.reconnect_delay_set(*FLOODED_DELAY_S)
        self._complain(why)

    def _received(self, _client: Any, _userdata: Any, message: Any) -> None:
        if message.retain:
            log.warning("the retained message on %s is ignored: send commands without retain", message.topic)
            return
        try:
            asked = self._home.asked(message.topic, message.payload)
            if isinstance(asked, str):
                self._announcements.say(asked, time.monotonic())
            else:
                self._tell(asked)
        except ValueError as error:
            log.warning("%s", error)

    def _complain(self, about: str) -> None:
        """Once for as long as it lasts."""
        if about != self._complained:
            log.warning("no connection to the broker at %s: %s; trying again", self._where, about)
        self._complained = about


class _Client(paho.Client):
    """Has a socket with limits: those of the library are a request to the broker, and nothing else."""

    refuse: Callable[[str], None]

    def _create_socket(self) -> Any:
        return LimitedSocket(super()._create_socket(), self.refuse)


def _client(name: str, refuse: Callable[[str], None]) -> paho.Client:
    made = _Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
    made.refuse = refuse
    made.suppress_exceptions = True  # it logs them; the device does not end for its home
    made.enable_logger(logging.getLogger("paho"))
    made.reconnect_delay_set(*RECONNECT_DELAY_S)
    made.max_queued_messages_set(MAX_QUEUED_MESSAGES)
    return made


def _limits() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties
