"""How soon the loudspeaker is silent after a press, and whether the service is told the truth about it.

    python -m tests.bench.interruptions [--count 200] [--card fifo|pulse ...] [--seed 1]

The whole agent talks to the simulator and plays through the real PortAudio on a virtual card. It is interrupted at
random moments of replies of every kind. What comes out of the loudspeaker is recorded on a line of time, so that each
sample has its moment, and compared with what the simulator said, sample by sample. Prints a table and a line of JSON;
exit status 1 where PROMISED_MS was not kept, or anything stale was heard.

``untold`` is how often the service was left in the belief that all of a reply was heard, ``late_ms`` how exact the
recorder is. Needs what ``make test-slow`` needs; 200 interruptions take some five minutes for each card.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.app.agent import Agent
from device_agent.app.assembly import Ports, build_device
from device_agent.config.load import load
from device_agent.core.events import AudioTurn, NoSpeech, PlaybackStarted, ReplyEnded, Started, TextTurn
from device_agent.core.redaction import Secret
from device_agent.core.transition import Transition
from device_agent.dsp.pcm import samples
from device_agent.simulator import Simulator
from device_agent.simulator.engine.reply_audio import melody
from tests.support.cards import FifoCard, PulseCard

RATE = 24000
REPLY_S = 2.0
THINK_S = 0.1
PROMISED_MS = 100
"""From a press to silence."""
AFTERWARDS_S = 0.3
"""How long is listened to the silence after a press before the device is asked the next thing."""
GAP_S = 0.01
"""What sounds after so much silence is stale."""
ANCHORS = 40
"""How many of a recording's moments decide together when a sample played: some of them are late."""
PATIENCE_S = 20.0
LAMP = "one two three four five six seven eight nine ten eleven twelve"
"""What the tool answers; the simulator answers that with a note for each word."""

KINDS = {
    "not begun": "before the first sound",
    "arriving": "while more of it arrives",
    "all sent": "the service has sent all of it",
    "tail": "in its last 300 ms",
    "after a tool": "in the reply that follows a tool",
}

CONFIG = """
service: {{url: '{url}'}}
talk: {{start: button, interrupt: button}}
connection: {{mode: always}}
microphone: {{device: default}}
speaker: {{device: default, volume: 100}}
button: {{pin: }}
light: {{pin: }}
cues: {{volume: 0}}
tools: [{{name: lamp, description: The lamp., command: [echo, '{lamp}']}}]
"""


# The child: the agent, and a finger on its button ---------------------------------------------------------------------


class Finger:
    """A button that is pressed by this program."""

    when_pressed: Any = None
    when_released: Any = None

    def tap(self) -> None:
        self.when_pressed()
        self.when_released()

    def close(self) -> None:
        pass


class Eye:
    """A light that is never seen."""

    def show(self, mood: str) -> None:
        pass

    def close(self) -> None:
        pass


class Child:
    """Asks, waits for the moment, presses; tells its parent when it did what, one JSON object a line."""

    def __init__(self, config: Path, count: int, seed: int) -> None:
        self._finger, self._chance, self._count = Finger(), random.Random(seed), count
        self._seen: Counter[type] = Counter()
        self._changed = threading.Condition()
        device = build_device(load(config), Ports(button=self._finger, light=Eye()), key=Secret("k"))
        self._agent = Agent(device, observers=[self._watch])

    def run(self) -> int:
        threading.Thread(target=self._interrupt_all, daemon=True).start()
        return self._agent.run()

    def _interrupt_all(self) -> None:
        self._wait(Started, 1)
        for number in range(self._count):
            kind = list(KINDS)[number % len(KINDS)]
            self._tell(what="asked", number=number, kind=kind)
            before = self._seen.copy()
            self._agent.tell(TextTurn("lamp") if kind == "after a tool" else AudioTurn(said(number)))
            self._wait_for_moment(kind, before)
            self._tell(what="pressed", number=number, kind=kind)
            self._finger.tap()
            self._pause(AFTERWARDS_S)
            self._finger.tap()  # nothing is said this time
            self._wait(NoSpeech, before[NoSpeech] + 1)
        self._tell(what="asked", number=self._count, kind="")
        self._agent.stop("the bench")

    def _wait_for_moment(self, kind: str, before: Counter[type]) -> None:
        match kind:
            case "not begun":
                self._pause(self._chance.uniform(0, THINK_S))
            case "arriving":
                self._wait(PlaybackStarted, before[PlaybackStarted] + 1)
                self._pause(self._chance.uniform(0, 0.3))
            case "all sent":
                self._wait(ReplyEnded, before[ReplyEnded] + 1)
                self._pause(self._chance.uniform(0, 1.0))
            case "tail":
                self._wait(PlaybackStarted, before[PlaybackStarted] + 1)
                self._pause(REPLY_S - self._chance.uniform(0, 0.3))
            case "after a tool":
                self._wait(PlaybackStarted, before[PlaybackStarted] + 2)
                self._pause(self._chance.uniform(0, 2.0))

    def _wait(self, what: type, times: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._seen[what] >= times, PATIENCE_S):
                self._tell(what="lost", waited_for=what.__name__, number=-1)
                self._agent.stop("the bench, in despair")
                raise SystemExit  # of this thread

    def _pause(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def _watch(self, step: Transition) -> None:
        with self._changed:
            self._seen.update(type(word) for word in step.words)
            self._changed.notify_all()

    def _tell(self, **words: Any) -> None:
        print(json.dumps({"at": time.monotonic(), **words}), flush=True)


def said(number: int) -> bytes:
    """Return what is said in a turn, and again in the reply to it: noise that is never 0, unlike in every turn."""
    chance = np.random.default_rng(number)
    size = samples(REPLY_S, RATE)
    return (chance.integers(1, 8000, size) * chance.choice([-1, 1], size)).astype(np.int16).tobytes()


# Recorders: every sample has its moment -------------------------------------------------------------------------------


@dataclass
class Recording:
    """What a loudspeaker played, and when, in seconds of the monotonic clock."""

    wave: np.ndarray
    anchors: np.ndarray
    """Pairs: a number of a sample, its moment."""

    def number(self, moment: float) -> int:
        """Return which sample played then."""
        near = self.anchors[np.argsort(np.abs(self.anchors[:, 1] - moment))[:ANCHORS]]
        begun = float(np.median(near[:, 1] - near[:, 0] / RATE))
        return max(0, round((moment - begun) * RATE))


class FifoLoudspeaker(FifoCard):
    """A card that plays a sample when it is due, by a clock of its own, looking every millisecond."""

    name = "fifo"

    def __init__(self) -> None:
        super().__init__(RATE, paced=True)
        self._begun = 0.0
        self._looks: list[float] = []

    @property
    def late_ms(self) -> float:
        """How late it looked, but for one time in a hundred: so much too early may silence seem to begin."""
        return 1000 * float(np.percentile(np.diff(self._looks), 99))

    def _take(self) -> None:
        self._begun = time.monotonic()
        while not self._stop.wait(0.001):
            now = time.monotonic()
            self._looks.append(now)
            due = 2 * int((now - self._begun) * RATE) - len(self._heard)
            sound = b""
            with suppress(BlockingIOError):
                sound = os.read(self._speaker, due)
            self._heard += sound.ljust(due, b"\0")

    @contextmanager
    def recording(self) -> Iterator[Any]:
        """Record; call what is returned for the recording so far."""
        yield lambda: Recording(np.frombuffer(bytes(self._heard), np.int16), np.array([[0, self._begun]]))


class PulseLoudspeaker(PulseCard):
    """A PulseAudio whose sink is recorded at its monitor.

    A sink takes its sound in blocks and plays a block while it takes the next one. So the first sample of a block plays
    when the block is taken, and that is when the recorder gets it.
    """

    name = "pulse"

    def __init__(self) -> None:
        super().__init__(RATE)
        self._heard = bytearray()
        self._anchors: list[tuple[int, float]] = []

    @property
    def late_ms(self) -> float:
        """How long a block is: so late the server notices that there is nothing more to play."""
        return 1000 * float(np.median(np.diff([number for number, _ in self._anchors]))) / RATE

    @contextmanager
    def recording(self) -> Iterator[Any]:
        recorder = self._client("parec", "-d", "vspk.monitor", "--latency-msec=5", stdout=subprocess.PIPE)
        thread = threading.Thread(target=self._record, args=[recorder.stdout.fileno()])
        thread.start()
        yield self._so_far
        recorder.terminate()
        thread.join(PATIENCE_S)

    def _record(self, pipe: int) -> None:
        last = 0.0
        while piece := os.read(pipe, 65536):
            now = time.monotonic()
            if now - last > 0.005:  # a new block
                self._anchors.append((len(self._heard) // 2, now))
            last = now
            self._heard += piece

    def _so_far(self) -> Recording:
        wave = bytes(self._heard[: len(self._heard) & ~1])
        return Recording(np.frombuffer(wave, np.int16), np.array(self._anchors))


# Judging --------------------------------------------------------------------------------------------------------------


@dataclass
class Interruption:
    """What came of one press."""

    number: int
    kind: str
    sounded: bool = False
    """Whether anything was heard around the press."""
    silent_ms: float = 0.0
    """From the press to the last sample that is not 0; 0 where that came so soon that the recorder cannot tell."""
    heard_ms: float = 0.0
    """How much of the reply was heard in all."""
    reply_ms: float = 0.0
    """How long the reply is."""
    told_ms: int | None = None
    """What the service was told about that; None: nothing, and it believes that all of it was heard."""
    stale: int = 0
    """Samples that should not have been heard."""
    gaps: int = 0

    @property
    def error_ms(self) -> float:
        if self.told_ms is None:
            return self.reply_ms - self.heard_ms if self.heard_ms else 0.0
        return self.told_ms - self.heard_ms


def follow(reply: np.ndarray, heard: np.ndarray) -> tuple[int, int, int]:
    """Return how many samples of *reply* were *heard*, how often it paused, and how many samples are not of it.

    Silence may stand anywhere; what sounds must be the reply from its beginning.
    """
    place = at = gaps = 0
    while True:
        size = min(len(reply) - place, len(heard) - at)
        wrong = np.flatnonzero(reply[place : place + size] != heard[at : at + size])
        same = int(wrong[0]) if len(wrong) else size
        place, at = place + same, at + same
        sounding = np.flatnonzero(heard[at:])
        if not len(sounding):
            return place, gaps, 0
        if not sounding[0]:
            return place, gaps, len(sounding)
        gaps += place > 0 and reply[place - 1] != 0  # a note ends in silence, and so does the first of two replies
        at += int(sounding[0])


def judge(
    recording: Recording, press: dict[str, Any], since: int, until: int, replies: list[np.ndarray]
) -> Interruption:
    """Return what came of *press*; what was heard meanwhile are the samples from *since* to *until*."""
    heard, pressed = recording.wave[since:until], recording.number(press["at"]) - since
    place, gaps, strange = follow(np.concatenate(replies), heard)
    result = Interruption(press["number"], press["kind"], gaps=int(gaps), stale=strange)
    result.reply_ms = 1000 * len(replies[-1]) / RATE
    result.heard_ms = 1000 * max(0, place - sum(map(len, replies[:-1]))) / RATE
    near = round(GAP_S * RATE)
    result.sounded = bool(heard[max(0, pressed - near) : pressed + near].any())
    after = np.flatnonzero(heard[pressed:])
    if len(after):
        pauses = np.flatnonzero(np.diff(after, prepend=0) > near)
        end = int(pauses[0]) if len(pauses) else len(after)
        result.stale = max(strange, len(after) - end)
        if end:
            result.silent_ms = 1000 * float(after[end - 1] + 1) / RATE
    return result


@dataclass
class Told:
    """What the simulator was told, in order of time."""

    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def between(self, since: float, until: float, kind: str) -> list[dict[str, Any]]:
        return [event for at, event in self.events if since <= at < until and event.get("type") == kind]


def expected(press: dict[str, Any], told: list[dict[str, Any]]) -> list[np.ndarray]:
    """Return the replies to the turn before *press*."""
    if press["kind"] != "after a tool":
        return [np.frombuffer(said(press["number"]), np.int16)]
    outputs = [event["item"]["output"] for event in told if event["item"]["type"] == "function_call_output"]
    return [np.frombuffer(melody(text, RATE), np.int16) for text in ("I will use lamp.", *outputs[:1])]


def judge_all(recording: Recording, told: Told, journal: list[dict[str, Any]]) -> list[Interruption]:
    asked = {entry["number"]: entry["at"] for entry in journal if entry["what"] == "asked"}
    results = []
    for press in journal:
        if press["what"] != "pressed" or press["number"] + 1 not in asked:
            continue
        since, until = asked[press["number"]], asked[press["number"] + 1]
        created = told.between(since, until, "conversation.item.create")
        span = recording.number(since), recording.number(until)
        result = judge(recording, press, *span, expected(press, created))
        truncates = told.between(press["at"], until, "conversation.item.truncate")
        result.told_ms = truncates[0]["audio_end_ms"] if truncates else None
        results.append(result)
    return results


# The bench ------------------------------------------------------------------------------------------------------------


def interrupt(card: Any, count: int, seed: int, folder: Path) -> tuple[list[Interruption], str]:
    """Interrupt an agent on *card* so often; return what came of it, and the agent's log."""
    with Simulator(think_s=THINK_S) as simulator, card, card.recording() as recorded:
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(url=simulator.url, lamp=LAMP))
        command = [
            sys.executable,
            "-m",
            "tests.bench.interruptions",
            "--child",
            str(config),
            "--count",
            str(count),
            "--seed",
            str(seed),
        ]
        env = {**os.environ, **card.env, "HOME": str(folder), "STATE_DIRECTORY": str(folder)}
        with (folder / "log").open("w") as log:
            child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
            journal = [json.loads(line) for line in child.stdout]
            child.wait(PATIENCE_S)
        told = Told([(each.at, each.event) for heard in simulator.connections for each in list(heard.received)])
        results = judge_all(recorded(), told, journal)
    if lost := [entry for entry in journal if entry["what"] == "lost"]:
        print(f"the agent did not do what was expected: {lost}", file=sys.stderr)
    return results, (folder / "log").read_text()


def spread(values: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and the largest."""
    if not values:
        return {}
    return {
        "n": len(values),
        "median": round(float(np.median(values)), 1),
        "p99": round(float(np.percentile(values, 99)), 1),
        "max": round(max(values), 1),
    }


def summary(results: list[Interruption]) -> dict[str, Any]:
    told = [each for each in results if each.heard_ms or each.told_ms is not None]
    return {
        "interruptions": len(results),
        "silent_ms": spread([each.silent_ms for each in results if each.sounded]),
        "error_ms": spread([abs(each.error_ms) for each in told]),
        "bias_ms": round(float(np.mean([each.error_ms for each in told])), 1) if told else None,
        "stale": sum(each.stale for each in results),
        "untold": sum(each.told_ms is None and 0 < each.heard_ms < each.reply_ms for each in results),
        "gaps": sum(each.gaps for each in results),
    }


def show(card: str, results: list[Interruption]) -> None:
    spreads = f"{'silent after ms':>24}{'truncate off by ms':>24}"
    print(f"{card:8}{'interrupted':16}{'n':>5}{spreads}{'untold':>8}{'stale':>7}{'gaps':>6}")
    print(f"{'':29}{'median   p99   max':>24}{'median   p99   max':>24}")
    for kind in (*KINDS, "all"):
        some = [each for each in results if kind in (each.kind, "all")]
        row = summary(some)
        columns = "".join(
            f"{'':6}" + "".join(f"{row[key].get(name, float('nan')):6.1f}" for name in ("median", "p99", "max"))
            for key in ("silent_ms", "error_ms")
        )
        print(f"{'':8}{kind:16}{len(some):5}{columns}{row['untold']:8}{row['stale']:7}{row['gaps']:6}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="interruptions on each card")
    parser.add_argument("--card", action="append", choices=["fifo", "pulse"], help="default: both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="a directory for the agent's log and each interruption")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return Child(Path(options.child), options.count, options.seed).run()
    sys.setswitchinterval(0.0005)  # the recorders should not wait for the simulator
    figures, kept = {}, True
    for kind in (FifoLoudspeaker, PulseLoudspeaker):
        if kind.name not in (options.card or ["fifo", "pulse"]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            results, log = interrupt(card := kind(), options.count, options.seed, Path(folder))
        if options.keep:
            keep = Path(options.keep)
            keep.mkdir(exist_ok=True, parents=True)
            (keep / f"{kind.name}.log").write_text(log)
            (keep / f"{kind.name}.json").write_text("\n".join(json.dumps(vars(each), default=str) for each in results))
        show(kind.name, results)
        if len(results) < options.count:
            print(log[-2000:], file=sys.stderr)
        kept &= len(results) == options.count and not any(
            each.stale or each.silent_ms > PROMISED_MS for each in results
        )
        figures[kind.name] = {**summary(results), "late_ms": round(card.late_ms, 1)}
    print(json.dumps(figures))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
