"""A room to put a device in: a microphone one can speak into, a loudspeaker one can listen to, a finger, an eye.

Ports with hands, not mocks: they block and pace like the real ones, only faster, and the agent between them is whole.
"""

from __future__ import annotations

import threading
import time
import wave
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.resources import as_file

from device_agent.agent import Agent
from device_agent.assembly import assemble
from device_agent.audio import frame_bytes, level, likeness, resample
from device_agent.config import Config, ConnectionConfig, ServiceConfig, TalkConfig, ToolConfig
from device_agent.credentials import Secret
from device_agent.events import Action, Event, Started
from device_agent.hardware import Button, Light
from device_agent.simulator import QUESTION, Simulator

RATE = 24000
PACE = 4
"""How much faster than the world time goes in this room."""
PATIENCE_S = 20.0
"""How long to wait for what must happen, in seconds of the world. Long, for a busy machine; no test needs it."""


def speech() -> bytes:
    """Return the words "What is the weather like" as sound, about 1.2 s."""
    with as_file(QUESTION) as path, wave.open(str(path)) as wav:
        pcm = wav.readframes(wav.getnframes())
    return pcm[2 * round(0.6 * RATE) : 2 * round(1.8 * RATE)]


class RoomMicrophone:
    """Hears what is said into it, and silence otherwise."""

    overflows = 0

    def __init__(self, rate: int = RATE) -> None:
        self._size = frame_bytes(rate)
        self._frames: deque[bytes] = deque()
        self._quiet = threading.Event()
        self._fault: Exception | None = None
        self._frozen = threading.Event()
        self._frozen.set()
        self.owners: set[int] = set()

    def say(self, pcm: bytes) -> None:
        """Speak *pcm* into the room; return at once."""
        size = self._size
        self._quiet.clear()
        self._frames.extend(pcm[n : n + size].ljust(size, b"\0") for n in range(0, len(pcm), size))

    def wait_until_said(self) -> None:
        """Wait until the agent has heard all of it."""
        assert self._quiet.wait(PATIENCE_S)

    def fail(self, error: Exception) -> None:
        self._fault = error

    def freeze(self) -> None:
        self._frozen.clear()

    def open(self) -> None:
        self.owners.add(threading.get_ident())
        self._next = time.monotonic()

    def read(self) -> bytes:
        self.owners.add(threading.get_ident())
        self._next += 0.02 / PACE
        time.sleep(max(0.0, self._next - time.monotonic()))  # what a sound card does
        self._frozen.wait()
        if self._fault is not None:
            raise self._fault
        if self._frames:
            return self._frames.popleft()
        self._quiet.set()
        return bytes(self._size)

    def close(self) -> None:
        self.owners.add(threading.get_ident())


class RoomSpeaker:
    """Remembers what was heard from it: a card with 60 ms of buffer."""

    underruns = 0
    latency = 0.06

    def __init__(self, rate: int = RATE) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._heard = bytearray()
        self._until = 0.0
        self.fault: Exception | None = None

    @property
    def heard(self) -> bytes:
        with self._lock:
            return bytes(self._heard)

    def open(self) -> None:
        pass

    def write(self, pcm: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        with self._lock:
            self._heard += pcm
        self._until = max(self._until, time.monotonic()) + len(pcm) / (2 * self._rate * PACE)
        time.sleep(max(0.0, self._until - time.monotonic() - self.latency / PACE))

    def drain(self, cut: Callable[[], bool] = lambda: False) -> None:
        while time.monotonic() < self._until and not cut():
            time.sleep(0.001)

    def drop(self) -> None:
        unheard = max(0.0, self._until - time.monotonic())
        with self._lock:
            size = 2 * round(unheard * self._rate * PACE)
            if size:
                del self._heard[-size:]
        self._until = 0.0

    def close(self) -> None:
        pass


class Finger:
    """A button one can press."""

    when_pressed: Callable[[], None] | None = None
    when_released: Callable[[], None] | None = None

    def press(self) -> None:
        assert self.when_pressed
        self.when_pressed()

    def release(self) -> None:
        assert self.when_released
        self.when_released()

    def tap(self) -> None:
        self.press()
        self.release()

    def close(self) -> None:
        pass


class Eye:
    """A light that is looked at."""

    def __init__(self) -> None:
        self.moods: list[str] = []
        self.changed = threading.Condition()

    def show(self, mood: str) -> None:
        with self.changed:
            self.moods.append(mood)
            self.changed.notify_all()

    def close(self) -> None:
        pass


class Room:
    """An agent that runs in a thread of its own, connected to *simulator*, or to *service*."""

    def __init__(
        self,
        simulator: Simulator | None = None,
        *,
        talk: TalkConfig | None = None,
        button: Button | None = None,
        light: Light | None = None,
        service: ServiceConfig | None = None,
        fallback: Iterable[ServiceConfig] = (),
        tools: tuple[ToolConfig, ...] = (),
        key: str = "k",
        rate: int = RATE,
        **connection: object,
    ) -> None:
        self.microphone, self.speaker, self.finger, self.light = (
            RoomMicrophone(rate),
            RoomSpeaker(rate),
            Finger(),
            Eye(),
        )
        self.speech = resample(speech(), RATE, rate)
        config = Config(
            service=service or replace(ServiceConfig(), url=simulator and simulator.url),
            fallback=tuple(fallback),
            tools=tools,
            talk=talk or TalkConfig(silence_ms=400),
            connection=ConnectionConfig(**connection),  # type: ignore[arg-type]
        )
        self.words: list[Event | Action] = []
        self.agent: Agent = assemble(
            config,
            key=Secret(key),
            watch=[self._note],
            microphone=self.microphone,
            speaker=self.speaker,
            button=button or self.finger,
            light=light or self.light,
        )
        self._thread = threading.Thread(target=self._run, name="main of the agent", daemon=True)
        self.status: int | None = None
        self._happened = threading.Condition()

    def __enter__(self) -> Room:
        self._thread.start()
        self.happened(Started)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.microphone._frozen.set()
        self.agent.stop("the test")
        self.ended()

    def ended(self) -> int | None:
        """Wait until the agent has ended by itself; return its status."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the agent did not end"
        return self.status

    def see(self, mood: str, times: int = 1) -> None:
        """Wait until the light has shown *mood* so often in all."""
        with self.light.changed:
            seen = self.light.changed.wait_for(lambda: self.light.moods.count(mood) >= times, PATIENCE_S)
        assert seen, f"waited for {mood}, saw {self.light.moods}"

    def happened(self, what: type, times: int = 1) -> Event | Action:
        """Wait until *what* has happened so often; return the latest."""
        with self._happened:
            done = self._happened.wait_for(lambda: len(self.all(what)) >= times, PATIENCE_S)
        assert done, f"waited for {what.__name__}, saw {self.words}"
        return self.all(what)[-1]

    def all(self, what: type) -> list[Event | Action]:
        return [word for word in self.words if isinstance(word, what)]

    def ask(self, pcm: bytes | None = None) -> bytes:
        """Tap and speak; return what was said."""
        pcm = pcm or speech()
        self.finger.tap()
        self.microphone.say(pcm)
        return pcm

    def hears_for(self, seconds: float) -> None:
        """Wait until so much has come out of the loudspeaker."""
        ends = time.monotonic() + PATIENCE_S
        while len(self.speaker.heard) < 2 * RATE * seconds and time.monotonic() < ends:
            threading.Event().wait(0.005)

    def hears(self, pcm: bytes) -> float:
        """Return how well *pcm* was heard from the loudspeaker."""
        return likeness(pcm, self.speaker.heard)[0]

    @property
    def silent(self) -> bool:
        return level(self.speaker.heard) < -90

    def _note(self, word: Event | Action, _now: float) -> None:
        with self._happened:
            self.words.append(word)
            self._happened.notify_all()

    def _run(self) -> None:
        self.status = self.agent.run()
