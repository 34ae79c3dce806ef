"""Sound cards that know when they gave and took what.

The microphone gives a block of 20 ms every 20 ms, and no two blocks are alike: speech, or the noise of a quiet room. So
what a client sent can be found in what was given, to the sample, and with it the moment at which the card had it. What
comes out of the loudspeaker has its moment as well.
"""

from __future__ import annotations

import fcntl
import os
import queue
import subprocess
import threading
import time
from bisect import bisect_left
from contextlib import suppress

import numpy as np

from tests.bench.beside.service import RATE
from tests.support.cards import PIPE_BYTES, FifoCard, PulseCard

BLOCK_S = 0.02
BLOCK = 2 * round(BLOCK_S * RATE)
"""Bytes."""
NOISE = 3
"""How loud the quiet room is, at most: -80 dBFS."""
NOISE_S = 61
"""After so long the noise of the room repeats: longer than anything waits anywhere."""
LOOK_S = 0.001
"""How often the card's clock looks at the loudspeaker while it matters when it sounds; else each BLOCK_S."""
PATIENCE_S = 30.0
KEEP_S = 600.0
"""How much of what was given and heard is kept at most."""


class Failed(Exception):
    """A client did not do what was to be measured."""


class Ledger:
    """What was given to a client, block by block, and when."""

    def __init__(self) -> None:
        self.given = bytearray()
        self.at: list[float] = []

    def add(self, block: bytes, at: float) -> None:
        if len(self.given) < KEEP_S / BLOCK_S * BLOCK:
            self.given += block
            self.at.append(at)

    def find(self, pcm: bytes, since: int = 0) -> int | None:
        """Return where *pcm* ends in what was given, in bytes, looking from *since* on; None: it was never given."""
        at = self.given.find(pcm, since) if pcm else -1
        while at % 2:  # half a sample
            if at < 0:
                return None
            at = self.given.find(pcm, at + 1)
        return at + len(pcm)

    def when(self, end: int) -> float:
        """Return when the sample before byte *end* was given."""
        return self.at[(end - 1) // BLOCK]

    def place(self, moment: float) -> int:
        """Return where what was given since then begins, in bytes."""
        return BLOCK * bisect_left(self.at, moment)


class Loudspeaker:
    """What was heard: from *begun* on without a gap, for the card plays silence where it has nothing to play."""

    def __init__(self, begun: float, pcm: bytes) -> None:
        self.begun = begun
        self.wave = np.frombuffer(pcm[: len(pcm) & ~1], np.int16)

    def when(self, sample: int) -> float:
        return self.begun + sample / RATE

    def sample(self, moment: float) -> int:
        return max(0, round((moment - self.begun) * RATE))

    def first(self, pcm: bytes) -> float | None:
        """Return when the first sample of *pcm* was heard; None: never, or not as it was."""
        wanted = np.frombuffer(pcm[:BLOCK], np.int16)
        for place in np.flatnonzero(self.wave == wanted[0]):
            if np.array_equal(self.wave[place : place + len(wanted)], wanted):
                return self.when(int(place))
        return None

    def silent(self, since: float, gap_s: float = 0.1) -> float | None:
        """Return when it fell silent for *gap_s*, after *since*; None: it was silent then, or never fell."""
        begin = self.sample(since)
        sounding = np.flatnonzero(self.wave[begin:])
        if not len(sounding) or sounding[0] > gap_s * RATE:
            return None
        pauses = np.flatnonzero(np.diff(sounding) > gap_s * RATE)
        last = int(sounding[pauses[0]] if len(pauses) else sounding[-1])
        if begin + last + gap_s * RATE > len(self.wave):
            return None
        return self.when(begin + last + 1)

    def longest_gap(self, since: float, until: float) -> float:
        """Return the longest silence between two sounds meanwhile, in seconds."""
        sounding = np.flatnonzero(self.wave[self.sample(since) : self.sample(until)])
        return float(np.diff(sounding).max() - 1) / RATE if len(sounding) > 1 else 0.0


def noise(seconds: float = NOISE_S, seed: int = 7) -> np.ndarray:
    """Return the noise of a quiet room, int16."""
    return np.random.default_rng(seed).integers(-NOISE, NOISE + 1, round(seconds * RATE)).astype(np.int16)


class Giver:
    """The microphone of a card: gives a block each BLOCK_S into a FIFO, and writes down when.

    A block that a client left no room for is gone, as it is with a real card; ``missed`` counts them.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._waiting: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()
        self._room = noise()
        self._ledger = Ledger()
        self._said = 0
        self._ended: dict[int, float] = {}  # the number of something said -> when its last block was given
        self._given = threading.Condition()

    def say(self, pcm: bytes) -> int:
        """Let the microphone hear *pcm* from the next block on; return its number, for ``said``."""
        self._said += 1
        for start in range(0, len(pcm), BLOCK):
            ends = self._said if start + BLOCK >= len(pcm) else 0
            self._waiting.put((pcm[start : start + BLOCK].ljust(BLOCK, b"\0"), ends))
        return self._said

    def said(self, number: int) -> float:
        """Wait until the last of it was given; return when that was. Raises Failed."""
        with self._given:
            if not self._given.wait_for(lambda: number in self._ended, PATIENCE_S):
                raise Failed("the card did not get rid of its sound")
            return self._ended.pop(number)

    def ledger(self) -> Ledger:
        """Return what was given since the last call."""
        with self._given:
            ledger, self._ledger = self._ledger, Ledger()
        return ledger

    def give(self, fifo: int, stopping: threading.Event) -> None:
        """The thread of the microphone."""
        place = 0
        while not stopping.wait(BLOCK_S - time.monotonic() % BLOCK_S):
            block, ends = self._next(place)
            place = (place + BLOCK // 2) % (len(self._room) - BLOCK // 2)
            at = time.monotonic()
            try:
                os.write(fifo, block)  # all of it or nothing
            except BlockingIOError:
                self.missed += 1
                block = b""
            with self._given:
                if block:
                    self._ledger.add(block, at)
                if ends:
                    self._ended[ends] = at
                    self._given.notify_all()

    def _next(self, place: int) -> tuple[bytes, int]:
        """Return the next block, and what ends with it: speech above the noise of the room."""
        room = self._room[place : place + BLOCK // 2]
        try:
            speech, ends = self._waiting.get_nowait()
        except queue.Empty:
            return room.tobytes(), 0
        loud = np.frombuffer(speech, np.int16).astype(np.int32) + room
        return np.clip(loud, -32768, 32767).astype(np.int16).tobytes(), ends


class GivingCard(FifoCard):
    """A card behind FIFOs that knows when it gave and took what, looking at the loudspeaker each *look_s*."""

    def __init__(self) -> None:
        super().__init__(RATE, paced=True)
        self.giver = Giver()
        self.look_s = BLOCK_S
        self._begun = 0.0

    def loudspeaker(self) -> Loudspeaker:
        """Return what was heard since the last call."""
        with self._lock:
            heard, begun = bytes(self._heard), self._begun
            self._heard.clear()
            self._begun = begun + len(heard) / 2 / RATE
        return Loudspeaker(begun, heard)

    def _give(self) -> None:
        self.giver.give(self._microphone, self._stop)

    def _take(self) -> None:
        self._begun = time.monotonic()
        while not self._stop.wait(self.look_s):
            with self._lock:
                due = 2 * int((time.monotonic() - self._begun) * RATE) - len(self._heard)
                sound = b""
                with suppress(BlockingIOError):
                    sound = os.read(self._speaker, due)
                self._heard += sound.ljust(due, b"\0")
                if len(self._heard) > 2 * KEEP_S * RATE:
                    self._begun += len(self._heard) / 2 / RATE
                    self._heard.clear()


MODULES = """
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=vspk rate={rate} channels=1 format=s16le norewinds=1
load-module module-pipe-source source_name=vmic file={microphone} rate={rate} channels=1 format=s16le
set-default-sink vspk
set-default-source vmic
"""


class GivingPulse(PulseCard):
    """A PulseAudio whose microphone is a FIFO, and whose loudspeaker is recorded at its monitor.

    A sink takes its sound in blocks and plays a block while it takes the next one. So the first sample of a block plays
    when the block is taken, and that is when the recorder gets it.
    """

    def __init__(self) -> None:
        super().__init__(RATE)
        self.giver = Giver()
        self.look_s = BLOCK_S
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._heard = bytearray()
        self._anchors: list[tuple[int, float]] = []
        microphone, socket_ = self._directory / "microphone", self._directory / "native"
        self._modules.write_text(MODULES.format(socket=socket_, rate=RATE, microphone=microphone))
        # Its library looks for the server in the environment first.
        self.env |= {name: value for name, value in self._home.items() if name != "HOME"}

    def loudspeaker(self) -> Loudspeaker:
        """Return what was heard since the last call."""
        with self._lock:
            heard, anchors = bytes(self._heard), self._anchors
            self._heard, self._anchors = bytearray(), []
        begun = float(np.median([at - number / RATE for number, at in anchors])) if anchors else time.monotonic()
        return Loudspeaker(begun, heard)

    def _begin(self) -> None:
        super()._begin()
        fifo = os.open(self._directory / "microphone", os.O_WRONLY | os.O_NONBLOCK)
        self._ends.callback(os.close, fifo)
        fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        recorder = self._client("parec", "-d", "vspk.monitor", "--latency-msec=5", stdout=subprocess.PIPE)
        self._ends.callback(recorder.kill)
        for work, arguments in ((self.giver.give, (fifo, self._stop)), (self._record, (recorder.stdout.fileno(),))):
            thread = threading.Thread(target=work, args=arguments, daemon=True)
            thread.start()
            self._ends.callback(thread.join, PATIENCE_S)
        self._ends.callback(recorder.terminate)
        self._ends.callback(self._stop.set)

    def _record(self, pipe: int) -> None:
        last = 0.0
        while piece := os.read(pipe, 65536):
            now = time.monotonic()
            with self._lock:
                if now - last > 0.005:  # a new block
                    self._anchors.append((len(self._heard) // 2, now))
                self._heard += piece
                if len(self._heard) > 2 * KEEP_S * RATE:
                    self._heard.clear()
                    self._anchors.clear()
            last = now


AnyCard = GivingCard | GivingPulse
CARDS: dict[str, type[AnyCard]] = {"fifo": GivingCard, "pulse": GivingPulse}
