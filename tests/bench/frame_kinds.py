"""Frames without a sound card, a thread or a clock, for a program that counts what one costs.

    python tests/bench/frame_kinds.py KIND COUNT

The real parts of a device, as ``assembly`` builds them, with a real WebSocket between them and a service that says what
OpenAI's does; one hand moves them, frame after frame, and time goes on by 20 ms with each. A KIND is all that the three
threads of the sound do in 20 ms of that state: the main thread, PortAudio and the kernel are not in it. So whatever
counts instructions, or CPU seconds, finds a frame's share as the difference between two COUNTs.
"""

# ruff: noqa: E402  the clock has to be ours before any module reads it
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import select
import socket
import struct
import sys
import threading
import time
import wave
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from operator import itemgetter
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the daemon has it, and before numpy is here

FRAME_S = 0.02
NOW = [time.monotonic()]
"""The time that every clock shows. It is read by C alone, or the clock would be what is measured."""
if __name__ == "__main__":  # an import keeps the real clock
    time.monotonic = partial(itemgetter(0), NOW)

import numpy as np

from device_agent import simulator
from device_agent.app import assembly, factories
from device_agent.audio.playback_buffer import OutputFrame
from device_agent.config.model import Config, CuesConfig, EchoConfig, ServiceConfig, SpeakerConfig, TalkConfig
from device_agent.core.actions import GateMode
from device_agent.core.errors import ConfigError
from device_agent.core.events import Event, PlaybackStarted, TalkStarted, TextTurn
from device_agent.core.redaction import Secret
from device_agent.dsp.pcm import frame_bytes
from device_agent.hardware.ports import Cut, never
from device_agent.link.connection import Connection, DeviceSide
from device_agent.link.history import History
from device_agent.net.websocket import WebSocket

QUESTION = Path(simulator.__file__).parent / "question.wav"
RATE = 24000
FRAME = frame_bytes(RATE)
PIECE = 5
"""Frames of sound in one message of the service, 100 ms."""
AHEAD = 10
"""Frames of a reply that come at once, before the first is read: the agent does not wait for a service this fast."""
ALIVE, PONG = 250, b"\x8a\x00"
"""After so many frames, 5 s, the service that only listens gives a sign of life."""
MOST = 2900
"""Frames of one run: a turn may not be longer, and so much of a reply has been said then without a pause."""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a WebSocket's key is answered with (RFC 6455)."""
UNAVAILABLE = 3
"""The exit status where a kind needs what is not installed."""
SOON_S = 30.0
"""The service on the other end of the cable may wait so long for us; it does nothing else."""


def tick() -> None:
    """Let a frame's time go by, so that a slow processor takes the same path as a fast one."""
    NOW[0] += FRAME_S


# Sound -------------------------------------------------------------------------------------------------------


def speech() -> list[bytes]:
    """Return the frames of a spoken question."""
    with QUESTION.open("rb") as file, wave.open(file) as sound:
        pcm = sound.readframes(sound.getnframes())
    return [pcm[at : at + FRAME] for at in range(0, len(pcm) - FRAME + 1, FRAME)]


def noise(loudness_db: float = -50.0) -> list[bytes]:
    """Return 2 s of the sound of a room without speech."""
    waves = np.random.default_rng(7).normal(0.0, 32768 * 10 ** (loudness_db / 20), (100, FRAME // 2))
    return [one.round().astype(np.int16).tobytes() for one in waves]


# Ports with hands -----------------------------------------------------------------------------------------------------


class Microphone:
    """Hears *count* of *frames*, again and again; before each it lets the rest of the device do its work."""

    overflows = 0

    def __init__(self, frames: list[bytes], count: int, before: Callable[[], None]) -> None:
        self._frames, self._before = islice(cycle(frames), count), before

    def open(self) -> None:
        pass

    def read(self) -> bytes:
        self._before()
        return next(self._frames, b"")

    def close(self) -> None:
        pass


class Speaker:
    """Takes what it gets at once, and keeps count of it."""

    underruns, latency, written = 0, 0.12, 0

    def open(self) -> None:
        pass

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        self.written += len(pcm)

    def drain(self, cut: Cut = never) -> None:
        pass

    def drop(self) -> None:
        pass

    def close(self) -> None:
        pass


class Untouched:
    """A button that is never pressed, and a light that is never seen."""

    when_pressed = when_released = None

    def show(self, mood: str) -> None:
        pass

    def close(self) -> None:
        pass


# The service, and the link to it --------------------------------------------------------------------------------------


class Service:
    """The other end of a WebSocket: ready from the first moment, and then it says what it is told to, or listens."""

    def __init__(self) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.settimeout(SOON_S)
        self.url = f"ws://127.0.0.1:{self._door.getsockname()[1]}/v1/realtime"
        self.heard = 0
        self._reply = self._message = b""
        self._guest = threading.Thread(target=self._welcome)
        self._guest.start()

    def _welcome(self) -> None:
        self._line = self._door.accept()[0]
        self._line.settimeout(SOON_S)
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += self._line.recv(65536)
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", asked)[1]  # type: ignore[index]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()  # noqa: S324  so the protocol wants it
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._line.sendall(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        self.say({"type": "session.created", "session": {"id": "sess_1"}})
        self.say({"type": "session.updated", "session": {"id": "sess_1"}})

    def await_guest(self) -> None:
        """Wait until all that was said while the other side dialled is on its way: from then on there is one thread."""
        self._guest.join()

    def say(self, *events: dict[str, object]) -> None:
        """Send *events*, each as one message."""
        self._line.sendall(b"".join(framed(event) for event in events))

    def send(self, message: bytes) -> None:
        """Send what is framed already."""
        self._line.sendall(message)

    def listen(self) -> None:
        """Take whatever was sent."""
        self._line.setblocking(False)
        with suppress(BlockingIOError):
            self.heard += len(self._line.recv(1 << 20))

    def close(self) -> None:
        self._line.close()
        self._door.close()


def framed(event: dict[str, object]) -> bytes:
    """Return *event* as a frame of a server, which masks nothing."""
    payload = json.dumps(event).encode()
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


# What happens in 20 ms ------------------------------------------------------------------------------------------------


class Device:
    """A device as ``assembly`` builds it, of which ``hear`` is the microphone's thread, and ``carry`` and ``speak`` are
    one round of the link's and the loudspeaker's."""

    def __init__(self, frames: list[bytes], count: int, between: Callable[[Device], None], *, cancel: bool = False):
        """Hear *count* of *frames*; *between* two of them the rest of the device does what it does."""
        self.service, self.speaker = Service(), Speaker()
        config = Config(
            service=replace(ServiceConfig(), name="openai", url=self.service.url),
            talk=TalkConfig(interrupt="voice" if cancel else "button"),
            echo=EchoConfig("cancel" if cancel else "off"),
            speaker=SpeakerConfig(volume=80),
            cues=CuesConfig(volume=0),
        )
        microphone = Microphone(frames, count, lambda: between(self))
        ports = assembly.Ports(microphone, self.speaker, Untouched(), Untouched())
        self.parts = assembly.build_device(config, ports, key=Secret("a-key"))
        service = factories.open_services(config, Secret("a-key"))[0]
        self._wire = WebSocket(service.endpoint(None, ""))
        self._wire.open()
        self.service.await_guest()
        parts = self.parts
        device = DeviceSide(
            RATE, parts.outbox, parts.playback, History(RATE), parts.inbox.put, lambda: None, lambda: False
        )
        self._carrier = Connection(self._wire, service.session(), device, RATE, greeting_s=service.patience_s)
        self._carrier.greet(lambda: True)
        self._both, self._bell = select.poll(), select.poll()
        self._both.register(self._wire, select.POLLIN)
        self._both.register(self.parts.outbox, select.POLLIN)
        self._bell.register(self.parts.outbox, select.POLLIN)
        self.heard = 0

    def hear(self) -> float:
        """Listen until the microphone has come to its end; return the CPU seconds that it took."""
        began = time.process_time()
        self.parts.capture.run(threading.Event())
        return time.process_time() - began

    def carry(self) -> None:
        """Something waits for the link: take it."""
        self._carrier._turn(self._carrier._wait(self._both, self._bell))
        self._carrier._send_all()

    def speak(self) -> None:
        """Play what comes next."""
        self.parts.playout.pulse.rest()
        item = self.parts.playback.read()
        self.parts.playout.pulse.beat()
        assert isinstance(item, (OutputFrame, PlaybackStarted)), item
        self.parts.playout._take(self.speaker, item)

    def told(self, what: type[Event]) -> bool:
        """Whether this was among all that was told until now."""
        inbox = self.parts.inbox
        return any(isinstance(inbox.get(), what) for _ in range(inbox.qsize()))

    def close(self) -> None:
        self.service.close()  # first: it would not answer a goodbye
        self._wire.close()


def idle(count: int, attention: GateMode = GateMode.BUTTON) -> float:
    """There is no speech."""
    with opened(noise(), count, lambda _: tick()) as device:
        device.parts.gate.set_mode(attention)
        took = device.hear()
        assert not device.told(TalkStarted), "it took noise for a voice"
        return took


def idle_voice(count: int) -> float:
    """There is no speech, and any voice would open the gate."""
    return idle(count, GateMode.VOICE)


def listening(count: int) -> float:
    """The button is held, and what is said goes up."""

    def between(device: Device) -> None:
        tick()
        if device.heard:
            device.carry()
        if not device.heard % PIECE:
            device.service.listen()
        if not device.heard % ALIVE:
            device.service.send(PONG)
        device.heard += 1

    with opened(speech(), count, between) as device:
        device.parts.gate.press()
        took = device.hear()
        device.carry()
        device.service.listen()
        assert device.service.heard > count * FRAME * 4 / 3, "not all that was said went up"
        return took


def talking(count: int, *, cancel: bool = False) -> float:
    """A reply sounds. Whatever the microphone hears meanwhile is not for the gate, but for the button."""
    frames = speech()
    pieces = [framed(reply("response.output_audio.delta", delta=coded(piece))) for piece in in_pieces(frames)]
    news = cycle(pieces)

    def between(device: Device) -> None:
        tick()
        if not device.heard % PIECE:
            device.service.send(next(news))
            device.carry()
        device.heard += 1
        device.speak()

    with opened(noise(), count, between, cancel=cancel) as device:
        device.parts.outbox.put(TextTurn("Tell me a long story."))
        device.carry()
        device.service.say(reply("response.created", response={"id": "resp_1"}))
        device.carry()
        for _ in range(AHEAD // PIECE):
            device.service.send(next(news))
            device.carry()
        device.speak()  # not sound yet: the beginning of the reply
        took = device.hear()
        # The last round is the one in which the microphone ends.
        assert device.speaker.written == (count + 1) * FRAME, "not all that was replied was played"
        return took


def cancel(count: int) -> float:
    """A reply sounds, and an echo canceller takes it out of what the microphone hears."""
    return talking(count, cancel=True)


def yardstick(count: int) -> float:
    """Ordinary code that no change of the device changes: what this Python takes for it, as it was built."""
    waiting: deque[bytes] = deque(maxlen=8)
    votes: dict[int, bool] = {}
    gauge = Gauge()
    began = time.process_time()
    for number in range(count):
        for at in range(0, FRAME, 8):
            piece = SILENCE[at : at + 8]
            waiting.append(piece)
            votes[at] = gauge.hear(piece, number) or len(waiting) > at
        assert sum(votes.values()) <= len(votes)
    return time.process_time() - began


class Gauge:
    """A small object with a method, as everything here is made of."""

    def __init__(self) -> None:
        self.heard = self.last = 0

    def hear(self, piece: bytes, number: int) -> bool:
        self.heard += len(piece)
        before, self.last = self.last, number
        return before != number


SILENCE = bytes(FRAME)


def reply(kind: str, **fields: object) -> dict[str, object]:
    """Return an event of the reply that is under way, with all the names that OpenAI puts into one."""
    names = {"event_id": "event_1", "response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    return {"type": kind, **names, **fields}


def in_pieces(frames: list[bytes]) -> Iterator[bytes]:
    """Yield *frames* as a service sends them."""
    for at in range(0, len(frames) - PIECE + 1, PIECE):
        yield b"".join(frames[at : at + PIECE])


def coded(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


@contextmanager
def opened(
    frames: list[bytes], count: int, between: Callable[[Device], None], *, cancel: bool = False
) -> Iterator[Device]:
    """Yield a device, and close it in the end."""
    with closing(Device(frames, count, between, cancel=cancel)) as device:
        yield device


# Each returns the CPU seconds of the frames, without what came before them.
KINDS: dict[str, Callable[[int], float]] = {
    "idle": idle,
    "idle-voice": idle_voice,
    "listening": listening,
    "talking": talking,
    "cancel": cancel,
    "yardstick": yardstick,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="what the device does")
    parser.add_argument("count", type=int, help=f"frames of 20 ms, {MOST} at most")
    options = parser.parse_args()
    if not 0 < options.count <= MOST:
        parser.error(f"between 1 and {MOST} frames: a turn may not be longer")
    try:
        took = KINDS[options.kind](options.count)
    except ConfigError as error:  # there is no echo canceller here
        print(error, file=sys.stderr)
        return UNAVAILABLE
    print(json.dumps({"kind": options.kind, "frames": options.count, "cpu_s": took}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
