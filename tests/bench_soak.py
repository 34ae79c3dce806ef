"""Years in minutes: one agent lives through turns of all kinds, a fault every few: `python tests/bench_soak.py`.

The whole agent with real threads and real sockets in the room of the tests, where time goes faster; the service is a
simulator in a process of its own, so that what is measured is the agent's alone (and the room's, which is emptied after
each turn). Every sentence carries a mark that the service looks for: heard by nobody it is lost, heard twice without
a fault it is doubled.

Prints resident memory, objects, threads, descriptors and latencies at the begin and at the end, and how much each grows
with a thousand turns (linear regression over blocks of turns, after a warm-up, with its standard error). Exit status 1
if one grows more than chance explains, or if a turn was lost, doubled or left without an answer.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import logging
import multiprocessing
import os
import random
import sys
import threading
import time
import tracemalloc
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import room
from room import RATE, Room, speech
from test_scenes_device import Knobs

from device_agent.audio import frame_bytes
from device_agent.config import ServiceConfig, TalkConfig
from device_agent.conversation import RESTING, State
from device_agent.events import (
    Action,
    AlarmDue,
    Event,
    Hush,
    LinkDown,
    LinkUp,
    Muted,
    NothingSaid,
    PlaybackEnded,
    PlaybackStarted,
    StopAsked,
    TalkEnded,
    TalkStarted,
    ToolCall,
    Unmuted,
    VolumeAsked,
    Words,
)
from device_agent.simulator import Simulator

log = logging.getLogger("soak")

PATIENCE_S = 60.0
"""How long a turn may take, faults and all; longer, and it is lost."""
CALM_S = 0.6
"""So long after an alarm its notes are taken out of the frames, and the mark with them."""
BLOCKS = 10
"""How many points the regression sees: turns next to each other are no independent witnesses."""
SURE = 4.5
"""How many standard errors a slope has to be above zero: with eight degrees of freedom, chance does that once in a
thousand times."""


class Points:
    """Rows of *width* numbers, so that what is measured with does not grow by objects."""

    def __init__(self, width: int) -> None:
        self._width, self._numbers = width, array("d")

    def add(self, *row: float) -> None:
        self._numbers.extend(row)

    def rows(self) -> np.ndarray:
        return np.array(self._numbers).reshape(-1, self._width)


# The service ----------------------------------------------------------------------------------------------------------


def serve(pipe: Connection) -> None:
    """Be the service, in another process, until None is asked for."""
    with Simulator(think_s=0.02, pace=32.0) as simulator:
        pipe.send(simulator.url)
        while (asked := pipe.recv()) is not None:
            name, args = asked
            if name == "found":
                pipe.send(sum(args[0] in turn.pcm for turn in simulator.turns))
            else:
                pipe.send(getattr(simulator, name)(*args))


class Service:
    """The hands of the service: the methods of ``Simulator``, and ``found``."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would take our threads' locks along
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        self.url: str = self._pipe.recv()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: object) -> Any:
            self._pipe.send((name, args))
            return self._pipe.recv()

        return ask

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(PATIENCE_S)


# The room -------------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """Something that had to happen did not."""


class LastingRoom(Room):
    """A room that counts what happens and remembers nothing else, so that it does not grow itself."""

    def __init__(self, **how: Any) -> None:
        self.counts: Counter[type] = Counter()
        self.at: dict[type, float] = {}
        self.dropped = 0.0  # when the loudspeaker forgot what it had
        super().__init__(**how)
        self._drop, self.speaker.drop = self.speaker.drop, self._note_drop  # type: ignore[method-assign]

    def _note(self, word: Event | Action, now: float) -> None:
        with self._happened:
            self.counts[type(word)] += 1
            self.at[type(word)] = now
            if not self.counts[PlaybackEnded]:
                self.words.append(word)  # the first turn is waited for in the usual way
            self._happened.notify_all()

    def _note_drop(self) -> None:
        self._drop()
        with self._happened:
            self.dropped = time.monotonic()
            self._happened.notify_all()

    def until(self, what: str, holds: Callable[[], object]) -> None:
        """Wait until *holds*; raise Lost if that takes too long."""
        with self._happened:
            if not self._happened.wait_for(holds, PATIENCE_S):
                raise Lost(f"waited for {what} in {self.state.value}")

    def more(self, kind: type, than: Counter[type]) -> None:
        """Wait until *kind* has happened more often *than* before."""
        self.until(kind.__name__, lambda: self.counts[kind] > than[kind])

    @property
    def state(self) -> State:
        return self.agent._conversation.state

    def rest(self) -> None:
        """Wait until it is nobody's turn."""
        self.until("rest", lambda: self.state in RESTING and self.agent._playback.quiet)

    def empty(self) -> None:
        """Forget what was heard and seen."""
        self.words.clear()
        self.light.moods.clear()
        with self.speaker._lock:
            self.speaker._heard.clear()


# The life -------------------------------------------------------------------------------------------------------------


@dataclass
class Life:
    """Turns of all kinds and faults of all kinds, and what was seen meanwhile."""

    room: LastingRoom
    service: Service
    knobs: Knobs
    turns: int = 0
    first_sound: Points = field(default_factory=lambda: Points(2))
    to_cut: Points = field(default_factory=lambda: Points(2))
    troubles: list[str] = field(default_factory=list)
    _said: bytes = b""
    _sentences: int = 0
    _faulty: bool = False

    def __post_init__(self) -> None:
        self._speech = speech()
        self._silence = bytes(10 * frame_bytes(RATE))

    # What one says --------------------------------------------------------------------------------------------------

    def words(self) -> bytes:
        """Return a sentence with a mark of its own in its middle."""
        self._sentences += 1
        mark = (
            np.random.default_rng(self._sentences).integers(-60, 60, frame_bytes(RATE) // 2).astype(np.int16).tobytes()
        )
        self._said = mark
        middle = 30 * frame_bytes(RATE)
        return self._speech[:middle] + mark + self._speech[middle:]

    def answered(self, before: Counter[type]) -> None:
        """Wait for the end of an answer; see whether the turn was heard, and how often."""
        self.room.more(PlaybackEnded, before)
        self.room.rest()
        found = self.service.found(self._said)
        if not found or (found > 1 and not self._faulty):
            self.troubles.append(f"turn {self.turns} was heard {found} times")
        if not self._faulty:
            self.first_sound.add(self.turns, 1000 * (self.room.at[PlaybackStarted] - self.room.at[TalkEnded]))

    # Turns ----------------------------------------------------------------------------------------------------------

    def held(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Hold the button, speak, let go."""
        before = self.room.counts.copy()
        self.room.finger.press()
        self.room.more(TalkStarted, before)
        self.room.microphone.say(self.words())
        self.room.microphone.wait_until_said()
        meanwhile()
        self.room.finger.release()
        self.answered(before)

    def tapped(self) -> None:
        """Tap the button and speak."""
        before = self.room.counts.copy()
        self.room.finger.tap()
        self.room.microphone.say(self.words())
        self.answered(before)

    def interrupted(self) -> None:
        """Press in the middle of an answer, and ask something else."""
        before = self.room.counts.copy()
        self.room.finger.tap()
        self.room.microphone.say(self._speech * 3)
        self.room.more(PlaybackStarted, before)
        pressed = time.monotonic()
        self.room.finger.press()
        self.room.until("a cut", lambda: self.room.dropped > pressed)
        self.to_cut.add(self.turns, 1000 * (self.room.dropped - pressed))
        self.room.microphone.say(self.words())
        self.room.microphone.wait_until_said()
        before = self.room.counts.copy()
        self.room.finger.release()
        self.answered(before)

    def nothing(self) -> None:
        """Tap, and say nothing."""
        before = self.room.counts.copy()
        self.room.finger.tap()
        self.room.more(NothingSaid, before)
        self.room.rest()

    def followed_up(self) -> None:
        """Speak, and speak again without a press."""
        self.tapped()
        if self.room.state is State.FOLLOW_UP:
            before = self.room.counts.copy()
            threading.Event().wait(0.3 / room.PACE)  # the answer dies away in the room
            self.room.microphone.say(self._silence + self.words())
            self.answered(before)

    def tool(self) -> None:
        """Type something that needs a tool, and its answer another reply."""
        before = self.room.counts.copy()
        self.room.agent.ask(Words(f'set_volume {{"percent": {60 + self.turns % 40}}}'))
        self.room.more(ToolCall, before)
        self.room.more(VolumeAsked, before)
        self.room.until("two replies", lambda: self.room.counts[PlaybackEnded] >= before[PlaybackEnded] + 1)
        self.room.rest()

    def stop(self) -> None:
        """Ask for silence by name."""
        before = self.room.counts.copy()
        self.room.agent.ask(Words("stop {}"))
        self.room.more(StopAsked, before)
        self.room.rest()

    def timer(self) -> None:
        """Set a timer, hear it ring, and press."""
        before = self.room.counts.copy()
        self.room.agent.ask(Words('set_timer {"seconds": 1, "name": "tea"}'))
        self.room.more(AlarmDue, before)
        self.room.until("the answer", lambda: self.room.state in RESTING)
        self.room.finger.tap()
        self.room.more(Hush, before)
        self.room.rest()
        threading.Event().wait(CALM_S)

    def muted(self) -> None:
        """Mute, and unmute."""
        before = self.room.counts.copy()
        self.knobs.press_mute()
        self.room.more(Muted, before)
        self.room.rest()
        self.knobs.press_mute()
        self.room.more(Unmuted, before)
        self.room.rest()

    def volume(self) -> None:
        """Turn the knob."""
        before = self.room.counts.copy()
        self.knobs.turn(1 if self.turns % 2 else -1)
        self.room.more(VolumeAsked, before)
        self.room.rest()

    # Faults ---------------------------------------------------------------------------------------------------------

    def dropped_in_speech(self) -> None:
        """The connection dies while somebody speaks."""
        self.held(self.service.drop)

    def dropped_in_thought(self) -> None:
        """The connection dies before the answer."""
        self.service.fault("silent")

        def later() -> None:
            threading.Event().wait(0.05)
            self.service.heal()
            self.service.drop()

        threading.Timer(0.2, later).start()
        self.tapped()

    def dropped_in_reply(self) -> None:
        """The connection dies while the answer is heard; what came of it is heard to its end."""
        before = self.room.counts.copy()
        self.room.finger.tap()
        self.room.microphone.say(self.words())
        self.room.more(PlaybackStarted, before)
        self.service.drop()
        self.answered(before)

    def refused(self) -> None:
        """The service is away when somebody speaks, and comes back."""
        self.service.refuse(503)
        self.service.drop()
        before = self.room.counts.copy()
        self.room.finger.tap()
        self.room.microphone.say(self.words())
        self.room.more(LinkDown, before)
        self.service.heal()
        self.answered(before)

    def told_goodbye(self) -> None:
        """The service ends the connection while nobody needs it."""
        self.service.goodbye(1001)
        self.tapped()

    def with_fault(self, name: str) -> None:
        """A turn with one of the simulator's faults."""
        self.service.fault(name)
        self.tapped()
        self.service.heal()

    def stalled(self) -> None:
        """The service falls silent without dying, until we hang up."""
        before = self.room.counts.copy()
        self.room.finger.tap()
        self.room.more(LinkUp, before) if not self.room.counts[LinkUp] else None
        self.service.stall(True)
        self.room.microphone.say(self.words())
        self.room.more(LinkDown, before)
        self.service.stall(False)
        self.answered(before)


TURNS = ("held", "tapped", "interrupted", "nothing", "followed_up", "tool", "stop", "timer", "muted", "volume")
NAMED = ("junk", "half-base64", "binary", "unknown-events", "no-ids", "beta-names", "close-1001", "huge")
FAULTS = ("dropped_in_speech", "dropped_in_thought", "dropped_in_reply", "refused", "told_goodbye", *NAMED)
SLOW = ("stalled",)
"""Faults that take a quarter of a minute to be noticed."""
EVERY, EVERY_SLOW = 4, 200
"""How many turns there are to one with a fault."""


def course(rng: random.Random) -> Iterator[tuple[str, bool]]:
    """Yield what to do next, for ever: all kinds in turn, and whether it is a fault."""
    faults, slow = itertools.cycle(rng.sample(FAULTS, len(FAULTS))), itertools.cycle(SLOW)
    for number in itertools.count(1):
        if number % EVERY_SLOW == 0:
            yield next(slow), True
        elif number % EVERY == 0:
            yield next(faults), True
        else:
            yield rng.choices(TURNS, weights=[4, 4, 3, 1, 2, 2, 1, 1, 1, 1])[0], False


# What is measured -----------------------------------------------------------------------------------------------------


def look(turn: int) -> tuple[float, ...]:
    """Return the turn and the state of the process between two turns, as in STATE."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    open_ = len(os.listdir("/proc/self/fd")) - 1
    return turn, resident, allocated() / 1024, sys.getallocatedblocks(), threading.active_count(), open_


STATE = ("KiB", "heap KiB", "blocks", "threads", "descriptors")
"""Resident memory; what libraries in C have allocated of it; objects of Python; threads; descriptors."""


class _Mallinfo(ctypes.Structure):
    """What glibc says of its heap; see mallinfo2(3)."""

    _fields_ = [(f"before{number}", ctypes.c_size_t) for number in range(4)] + [
        (name, ctypes.c_size_t) for name in ("hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def allocated() -> int:
    """Return the bytes that are allocated from the heap of C, holes not counted; 0 where nobody can say."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


@dataclass(frozen=True)
class Trend:
    """How something changed: means of the first and last block, slope and its standard error per 1000 turns."""

    begin: float
    end: float
    slope: float
    error: float
    grows: bool


def trend(points: np.ndarray, least: float) -> Trend:
    """Return how the values of *points* (turn, value) change. Growth of less than *least* in all is none."""
    blocks = [block for block in np.array_split(points, BLOCKS) if len(block)]
    turns, values = np.array([block.mean(axis=0) for block in blocks]).T
    if len(blocks) < 3:
        return Trend(values[0], values[-1], float("nan"), float("nan"), grows=False)
    x = turns - turns.mean()
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    error = float(np.sqrt(rest @ rest / (len(blocks) - 2) / (x @ x)))
    grows = slope > SURE * error and slope * (turns[-1] - turns[0]) > least
    return Trend(values[0], values[-1], 1000 * slope, 1000 * error, bool(grows))


LEAST = {
    "KiB": 4096.0,
    "heap KiB": 256.0,
    "blocks": 1000.0,
    "threads": 0.5,
    "descriptors": 0.5,
    "first sound ms": 30.0,
    "cut ms": 15.0,
}
"""What growth over the whole run is worth a word."""


@contextmanager
def living(pace: float) -> Iterator[Life]:
    """An agent that lives, and its service."""
    room.PACE = pace
    service, knobs = Service(), Knobs()
    try:
        with LastingRoom(
            service=ServiceConfig(url=service.url),
            talk=TalkConfig(silence_ms=400, follow_up_s=1.0),
            abilities=("volume", "stop", "alarms"),
            controls=knobs,
        ) as inside:
            yield Life(inside, service, knobs)
    finally:
        service.close()


def live(life: Life, seconds: float, turns: int, seed: int, samples: Points) -> None:
    """Live for so many *seconds*, or *turns*."""
    ends = time.monotonic() + seconds
    for kind, is_fault in course(random.Random(seed)):
        if time.monotonic() > ends or life.turns >= turns:
            return
        life.turns += 1
        life._faulty = is_fault
        try:
            life.with_fault(kind) if kind in NAMED else getattr(life, kind)()
        except Lost as lost:
            life.troubles.append(f"turn {life.turns}, {kind}: {lost}")
            life.service.heal()
            return
        life.room.empty()
        samples.add(*(state := look(life.turns)))
        log.info(
            "turn %d, %s: %.0f KiB, %.0f in the heap, %d blocks, %d threads, %d descriptors",
            life.turns,
            kind,
            *state[1:],
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to live (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=10**9, help="how many turns to live for, if that is sooner")
    parser.add_argument("--pace", type=float, default=8.0, help="how much faster than the world (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=0.3, help="the part of it that is not measured")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="show the lines that what has grown was allocated in")
    parser.add_argument("--log", default="error", help="what the agent logs")
    options = parser.parse_args()
    logging.basicConfig(level=options.log.upper(), format="%(relativeCreated)6d %(message)s")
    samples = Points(1 + len(STATE))
    began = time.monotonic()
    with living(options.pace) as life:
        warm_s = 60 * options.minutes * options.warm_up
        live(life, warm_s, round(options.turns * options.warm_up), options.seed, samples)
        samples = Points(1 + len(STATE))
        first, warm = tracemalloc_begin(options.trace), life.turns
        if not life.troubles:
            left = began + 60 * options.minutes - time.monotonic()
            live(life, left, options.turns, options.seed + 1, samples)
        tracemalloc_end(first)
    return report(life, samples, warm, time.monotonic() - began)


def tracemalloc_begin(wanted: bool) -> tracemalloc.Snapshot | None:
    if not wanted:
        return None
    tracemalloc.start(8)
    return tracemalloc.take_snapshot()


def tracemalloc_end(first: tracemalloc.Snapshot | None) -> None:
    if first is not None:
        gc.collect()
        for line in tracemalloc.take_snapshot().compare_to(first, "lineno")[:15]:
            print(line)


def report(life: Life, samples: Points, warm: int, seconds: float) -> int:
    """Print what was seen; return the exit status."""
    states, sounds, cuts = (points.rows() for points in (samples, life.first_sound, life.to_cut))
    measured = {name: states[:, [0, number]] for number, name in enumerate(STATE, 1)}
    measured["first sound ms"], measured["cut ms"] = sounds[sounds[:, 0] > warm], cuts[cuts[:, 0] > warm]
    print(f"{life.turns} turns in {seconds:.0f} s, the first {warm} to warm up")
    print(f"{'':16}{'begin':>12}{'end':>12}{'per 1000 turns':>18}{'+-':>10}")
    trends = {name: trend(points, LEAST[name]) for name, points in measured.items() if len(points) >= 3}
    for name, each in trends.items():
        grows = "  GROWS" if each.grows else ""
        print(f"{name:16}{each.begin:12.1f}{each.end:12.1f}{each.slope:18.2f}{each.error:10.2f}{grows}")
    for trouble in life.troubles:
        print(trouble)
    if len(trends) < len(measured):
        print("too few turns to say anything: give it more minutes")
    good = len(trends) == len(measured) and not life.troubles and not any(each.grows for each in trends.values())
    print(json.dumps({"turns": life.turns, "troubles": life.troubles, **{k: vars(v) for k, v in trends.items()}}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
