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

import numpy as np

from device_agent.app.agent import Agent
from device_agent.app.assembly import Ports, build_device
from device_agent.audio.echo_control import ECHO_TAIL_S
from device_agent.config.model import (
    Config,
    ConnectionConfig,
    CuesConfig,
    ServiceConfig,
    SpeakerConfig,
    TalkConfig,
    ToolConfig,
)
from device_agent.core.actions import Action
from device_agent.core.events import Event, Started
from device_agent.core.redaction import Secret
from device_agent.core.transition import Observer, Transition
from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import frame_bytes, level, samples
from device_agent.dsp.resampling import resample
from device_agent.hardware import front_panel
from device_agent.hardware.front_panel import MAX_TAP_S
from device_agent.hardware.ports import Button, Controls, Cut, Light, never
from device_agent.simulator import QUESTION, Simulator
from device_agent.state.store import StateStore

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


class Air:
    """Carries sound from the loudspeaker to the microphone, *loudness* of it, with a hint of a room."""

    ECHOES = ((0.0, 0.8), (0.011, -0.4), (0.027, 0.3), (0.043, -0.2))
    """Seconds and strength of each."""

    def __init__(self, loudness: float, rate: int = RATE) -> None:
        self._loudness, self._rate = loudness, rate
        self._lock = threading.Lock()
        self._under_way = np.zeros(0, np.float32)
        self._end = 0  # of what the loudspeaker was given, in samples from now

    def sound(self, pcm: bytes) -> None:
        """*pcm* leaves the loudspeaker, after all that it was given before."""
        wave = self._loudness * np.frombuffer(pcm, np.int16).astype(np.float32)
        with self._lock:
            tail = samples(self.ECHOES[-1][0], self._rate)
            self._under_way.resize(max(len(self._under_way), self._end + len(wave) + tail), refcheck=False)
            for seconds, strength in self.ECHOES:
                at = self._end + samples(seconds, self._rate)
                self._under_way[at : at + len(wave)] += strength * wave
            self._end += len(wave)

    def hush(self) -> None:
        """The loudspeaker forgot what it had not played."""
        with self._lock:
            self._under_way = self._under_way[: samples(self.ECHOES[-1][0], self._rate)].copy()
            self._end = 0

    def add_to(self, frame: bytes) -> bytes:
        """Return what a microphone hears that hears *frame* as well."""
        wave = np.frombuffer(frame, np.int16).astype(np.float32)
        with self._lock:
            heard, self._under_way = self._under_way[: len(wave)], self._under_way[len(wave) :].copy()
            self._end = max(0, self._end - len(wave))
        wave[: len(heard)] += heard
        return np.clip(wave, -32768, 32767).astype(np.int16).tobytes()


class RoomMicrophone:
    """Hears what is said into it, and silence otherwise."""

    overflows = 0

    def __init__(self, rate: int = RATE, air: Air | None = None) -> None:
        self._size, self._air = frame_bytes(rate), air
        self.opened = 0
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
        frames = [pcm[n : n + size].ljust(size, b"\0") for n in range(0, len(pcm), size)]
        self._frames.extend(frames)  # all at once: a thread that listens meanwhile hears no gap

    def wait_until_said(self) -> None:
        """Wait until the agent has heard all of it."""
        assert self._quiet.wait(PATIENCE_S)

    def fail(self, error: Exception | None) -> None:
        """Fail from now on; None: work again."""
        self._fault = error

    def freeze(self) -> None:
        self._frozen.clear()

    def open(self) -> None:
        self.owners.add(threading.get_ident())
        if self._fault is not None:
            raise self._fault
        self.opened += 1
        self._next = time.monotonic()

    def read(self) -> bytes:
        frame = self._read()
        return frame if self._air is None else self._air.add_to(frame)

    def _read(self) -> bytes:
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
        self.opened = 0


class RoomSpeaker:
    """Remembers what was heard from it: a card with 60 ms of buffer."""

    underruns = 0
    latency = 0.06

    def __init__(self, rate: int = RATE, air: Air | None = None) -> None:
        self._rate, self._air = rate, air
        self._lock = threading.Lock()
        self._heard = bytearray()
        self._until = 0.0
        self.fault: Exception | None = None

    @property
    def heard(self) -> bytes:
        with self._lock:
            return bytes(self._heard)

    def open(self) -> None:
        if self.fault is not None:
            raise self.fault

    def write(self, pcm: bytes, cut: Cut = never) -> None:
        if self.fault is not None:
            raise self.fault
        with self._lock:
            self._heard += pcm
        if self._air is not None:
            self._air.sound(pcm)
        self._until = max(self._until, time.monotonic()) + len(pcm) / (2 * self._rate * PACE)
        time.sleep(max(0.0, self._until - time.monotonic() - self.latency / PACE))

    def drain(self, cut: Cut = never) -> None:
        while time.monotonic() < self._until and not cut():
            time.sleep(0.001)

    def drop(self) -> None:
        with self._lock:
            if size := 2 * self._waiting():
                del self._heard[-size:]
        if self._air is not None:
            self._air.hush()
        self._until = 0.0

    def _waiting(self) -> int:
        """Return how many samples were written and not heard yet."""
        return round(max(0.0, self._until - time.monotonic()) * self._rate * PACE)

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
        abilities: tuple[str, ...] = (),
        cues: int = 0,
        controls: Controls | None = None,
        memory: StateStore | None = None,
        key: str = "k",
        rate: int = RATE,
        echo: float = 0.0,
        patient: bool = False,
        watch: Iterable[Observer] = (),
        **connection: object,
    ) -> None:
        air = Air(echo, rate) if echo else None
        self.microphone, self.speaker = RoomMicrophone(rate, air), RoomSpeaker(rate, air)
        self.finger, self.light = Finger(), Eye()
        self.speech = resample(speech(), RATE, rate)
        config = Config(
            service=service or replace(ServiceConfig(), url=simulator and simulator.url),
            fallback=tuple(fallback),
            tools=tools,
            abilities=abilities,
            cues=CuesConfig(volume=cues),
            speaker=SpeakerConfig(volume=100),
            talk=talk or TalkConfig(silence_ms=400),
            connection=ConnectionConfig(**connection),  # type: ignore[arg-type]
        )
        self.words: list[Event | Action] = []
        ports = Ports(self.microphone, self.speaker, button or self.finger, light or self.light, controls)
        device = build_device(config, ports, key=Secret(key), memory=memory, patient=patient)
        self.agent = Agent(device, observers=[*watch, self._observe])
        self.agent.device.echo._room = ECHO_TAIL_S / PACE  # here sound dies away sooner, too
        front_panel.MAX_TAP_S = MAX_TAP_S / PACE  # and a finger is quicker
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

    def hears_soon(self, pcm: bytes) -> bool:
        """Wait until *pcm* comes out of the loudspeaker, louder or softer; return whether it did."""
        ends = time.monotonic() + PATIENCE_S
        while (like := self.hears(pcm)) < 0.99 and time.monotonic() < ends:
            threading.Event().wait(0.02)
        return like >= 0.99

    def hears(self, pcm: bytes) -> float:
        """Return how well *pcm* was heard from the loudspeaker."""
        return likeness(pcm, self.speaker.heard)[0]

    @property
    def silent(self) -> bool:
        return level(self.speaker.heard) < -90

    def _observe(self, step: Transition) -> None:
        for word in step.words:
            self._note(word, step.now)

    def _note(self, word: Event | Action, _now: float) -> None:
        with self._happened:
            self.words.append(word)
            self._happened.notify_all()

    def _run(self) -> None:
        self.status = self.agent.run()
