"""What becomes of the speaker when a part of it dies: how soon that is noticed, how soon it works again.

    python -m tests.bench.recovery [--only WORDS] [--markdown FILE]

The real ``device-agent run``, kept alive as the unit keeps it (``supervisor``), holds a turn with the simulator through
the real PortAudio on a virtual card. Then something is done to it: an error where none is expected or a call that
never returns in each of its threads (``sabotaged``), a card pulled out, a sound server frozen or killed, kill -9. It is
well again when a question that is asked then has been answered to its end, heard on the card.

*noticed* is in seconds from the deed to the first line of the journal about it. The others are seconds from the end of
what lasts: *ready* until it says so, *turn* until the answer to a question asked then has been heard, 2.4 s of question
and 2.4 s of answer included. The last column is the line of the journal that names the culprit.

Exit status 1 where something did not come back, or was not noticed. Needs what ``make test-slow`` needs.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import frame_bytes, level
from device_agent.dsp.resampling import resample
from device_agent.simulator import Simulator
from tests.bench.supervisor import Line, Unit
from tests.bench.tables import markdown, seconds
from tests.support.cards import FifoCard, PulseCard
from tests.support.room import RATE, speech

START_S = 20.0
"""How long the first start, and the turn before anything happens, may take."""
NOTICED_S = 75.0
"""The slowest to be noticed, a link that hangs, is after 60 s."""
READY_S = 60.0
TURN_S = 20.0
"""How long one question and its answer may take."""
TRIES = 3
"""A question is asked so often at most, while it has no answer."""
SAME = 0.9
"""How like the question its echo on the card has to be."""
PIECES = 6
LOOK_S = 0.02
LONGEST = 90
"""Characters of the journal that stand in a table."""

CONFIG = """
service: {{url: '{url}'}}
talk: {{start: button, silence_ms: 400}}
speaker: {{volume: 100}}
button: {{pin: }}
light: {{pin: }}
cues: {{volume: 0}}
"""

BAD = re.compile(r"^[\d:.]+ (WARNING|ERROR) +(MainThread: )?")
ASIDE = re.compile(r"gaps so far|what happened before is in")
"""Lines that tell of no fault."""


class Broken(Exception):
    """It did not even come to the deed."""


class Moment(Enum):
    """When it happens."""

    REST = "at rest"
    SENTENCE = "in mid-sentence"
    REPLY = "in mid-reply"


class Stage:
    """A speaker in a room where one can speak and listen. The card's own times are in real time."""

    def __init__(self, simulator: Simulator, card: FifoCard | PulseCard, unit: Unit) -> None:
        self.simulator, self.card, self.unit = simulator, card, unit
        self._ends = ExitStack()
        self._recording: Path | None = None
        self._heard = b""

    def ask(self, question: bytes) -> None:
        """Press and speak."""
        self._listen()
        self.unit.type("\n")
        rate = 48000 if isinstance(self.card, PulseCard) else RATE
        self.card.play(resample(question, RATE, rate))

    def answered(self, question: bytes) -> float:
        """Return how like the *question* what was heard since it was asked is, when all of it was; 0 before.

        In pieces, and their mean: where this machine is busy, a virtual card may drop a few milliseconds, and what
        comes behind is no less an answer. One whole piece that is missing is too much.
        """
        if not self.sounds(0.9 * loud_s(question)):
            return 0.0
        heard, size = self.heard(), len(question) // PIECES // 2 * 2
        pieces = [question[n * size : (n + 1) * size] for n in range(PIECES)]
        return sum(likeness(piece, heard)[0] for piece in pieces) / PIECES

    def heard(self) -> bytes:
        """Return what has come out of the loudspeaker since the question was asked."""
        if isinstance(self.card, FifoCard):
            self._heard += self.card.heard()
            return self._heard
        assert self._recording is not None
        pcm = self._recording.read_bytes()
        return resample(pcm[: len(pcm) // 2 * 2], 48000, RATE)

    def sounds(self, seconds_: float) -> bool:
        """Return whether an answer has been heard for so long."""
        return loud_s(self.heard()) >= seconds_

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._ends.close()

    def _listen(self) -> None:
        self.close()
        self._heard = b""
        if isinstance(self.card, FifoCard):
            self.card.hush()  # the last question may not have been heard to its end
            self.card.heard()
        else:
            self._recording = self._ends.enter_context(self.card.listening())


def loud_s(pcm: bytes) -> float:
    """Return how many seconds of *pcm* are no silence."""
    size = frame_bytes(RATE)
    return 0.02 * sum(level(pcm[n : n + size]) > -45 for n in range(0, len(pcm), size))


FIRST = speech() * 2
AFTERWARDS = np.frombuffer(FIRST, np.int16)[::-1].tobytes()
"""What is asked after the deed: no answer to an earlier question is taken for an answer to this one."""


@dataclass(frozen=True)
class Scene:
    """*strike* is done at the *moment*, *heal* so many seconds later."""

    group: str
    name: str
    moment: Moment
    strike: Callable[[Stage], object]
    heal: Callable[[Stage], object] = lambda _: None
    lasts: float = 0.0
    card: type[FifoCard | PulseCard] = FifoCard

    @property
    def title(self) -> str:
        lasts = f", {self.lasts:g} s" if self.lasts else ""
        return f"{self.name} {self.moment.value}{lasts}"


@dataclass
class Row:
    """What became of it."""

    group: str
    title: str
    noticed: float | None = None
    ready: float | None = None
    turn: float | None = None
    usual: float | None = None
    """How long a turn took before the deed."""
    likeness: float = 0.0
    tries: int = 0
    starts: int = 1
    """How often the process was started after the deed."""
    journal: str = ""

    @property
    def good(self) -> bool:
        return self.turn is not None and self.noticed is not None

    @property
    def process(self) -> str:
        return {0: "lives on", 1: "restarted"}.get(self.starts, f"restarted, {self.starts} times")


def until(true: Callable[[], object], within: float) -> bool:
    """Wait until *true* is; return whether it came true in so many seconds."""
    ends = time.monotonic() + within
    while not true():
        if time.monotonic() > ends:
            return False
        threading.Event().wait(LOOK_S)
    return True


def play(scene: Scene) -> Row:
    """Do what the scene says to a speaker that works, and see what becomes of it."""
    with (
        tempfile.TemporaryDirectory() as name,
        Simulator(think_s=0.05, pace=4) as simulator,
        make_card(scene.card) as card,
        Unit(*the_command(Path(name), simulator.url, card), Path(name)) as unit,
    ):
        stage = Stage(simulator, card, unit)
        try:
            return suffer(scene, stage)
        except Broken as error:
            return Row(scene.group, scene.title, journal=str(error))
        finally:
            stage.close()


def make_card(kind: type[FifoCard | PulseCard]) -> FifoCard | PulseCard:
    return FifoCard(paced=True) if kind is FifoCard else PulseCard()


def the_command(directory: Path, url: str, card: FifoCard | PulseCard) -> tuple[list[str], dict[str, str]]:
    """Return how the agent is started, and with which environment."""
    config = directory / "config.yaml"
    config.write_text(CONFIG.format(url=url))
    return [sys.executable, "-m", "tests.bench.sabotaged", "run", "--config", str(config)], {
        **card.env,
        "XAI_API_KEY": "k",
    }


def suffer(scene: Scene, stage: Stage) -> Row:
    unit = stage.unit
    if not until(lambda: unit.heard("READY=1", 0), START_S):
        raise Broken(f"it did not start: {[line.text for line in unit.lines(0)[-3:]]}")
    before = Row(scene.group, scene.title)
    hold_a_turn(stage, FIRST, time.monotonic(), before)
    if before.turn is None:
        raise Broken(f"it did not work before anything happened: {[line.text for line in unit.lines(0)[-3:]]}")
    go_to(scene.moment, stage)
    row, starts, struck = Row(scene.group, scene.title, usual=before.turn), unit.starts, time.monotonic()
    scene.strike(stage)
    threading.Event().wait(scene.lasts)
    scene.heal(stage)
    healed = struck + scene.lasts
    if until(lambda: trouble(unit, struck), NOTICED_S):
        row.noticed = trouble(unit, struck)[0].at - struck
        if until(lambda: is_ready(unit, struck, starts), READY_S):
            row.ready = max(0.0, (is_ready(unit, struck, starts) or 0.0) - healed)
            hold_a_turn(stage, AFTERWARDS, healed, row)
    row.starts = unit.starts - starts
    row.journal = culprit(unit, struck)
    return row


def go_to(moment: Moment, stage: Stage) -> None:
    """Ask and wait, or just be quiet, until it is the moment."""
    if moment is Moment.REST:
        if not until(lambda: stage.unit.told[-1][1].startswith("STATUS=ready"), START_S):
            raise Broken("it does not come to rest")
        return
    connection = stage.simulator.connections[-1]
    before = len(connection.pcm)
    stage.ask(FIRST)
    if moment is Moment.SENTENCE:
        came = until(lambda: len(connection.pcm) - before > RATE, START_S)  # half a second
    else:
        came = until(lambda: stage.sounds(0.5), START_S)
    if not came:
        raise Broken(f"it never was {moment.value}")


def hold_a_turn(stage: Stage, question: bytes, since: float, row: Row) -> None:
    """Ask until there is an answer; note how long that took from *since* on."""
    while row.turn is None and row.tries < TRIES:
        row.tries += 1
        with suppress(OSError):  # the agent is not running
            stage.ask(question)
        asked = time.monotonic()
        while row.turn is None and time.monotonic() < asked + TURN_S:
            threading.Event().wait(0.1)
            row.likeness = stage.answered(question)
            if row.likeness >= SAME:
                row.turn = time.monotonic() - since


def trouble(unit: Unit, since: float) -> list[Line]:
    """Return the lines since then that tell of a fault: warnings and errors, and what the supervisor wrote."""
    told = [line for line in unit.lines(since) if not line.by_agent or BAD.match(line.text)]
    return [line for line in told if not ASIDE.search(line.text)]


def is_ready(unit: Unit, since: float, starts: int) -> float | None:
    """Return when it said that it was ready again: a process that was started, or the one that lives on."""
    if (again := unit.heard("READY=1", since)) is not None:
        return again
    noticed = trouble(unit, since)[0].at
    return unit.heard("STATUS=ready", noticed) if unit.starts == starts and unit.runs else None


def culprit(unit: Unit, since: float) -> str:
    """Return the agent's last error about the culprit, or the supervisor's first line where there is none."""
    lines = [line for line in trouble(unit, since) if "did not stop" not in line.text]
    said = [line for line in lines if line.by_agent and "ERROR" in line.text] or lines[:1]
    return BAD.sub("", said[-1].text) if said else ""


# What is done to it ---------------------------------------------------------------------------------------------------


def order(words: str) -> Callable[[Stage], object]:
    return lambda stage: stage.unit.order(words)


def kill(stage: Stage) -> None:
    stage.unit.send(signal.SIGKILL)


def hand(name: str) -> Callable[[Stage], object]:
    """A method of the card."""
    return lambda stage: getattr(stage.card, name)()


THREADS, PROCESS, CARD, SERVER = "A thread", "The process", "The sound card", "The sound server"
REST, SENTENCE, REPLY = Moment

SCENES = [
    Scene(THREADS, "the microphone's dies", REST, order("raise microphone")),
    Scene(THREADS, "the loudspeaker's dies", REPLY, order("raise speaker")),
    Scene(THREADS, "the link's dies", SENTENCE, order("raise link")),
    Scene(THREADS, "the memory's dies", REST, order("raise memory")),
    Scene(THREADS, "the microphone's hangs", REST, order("hang microphone")),
    Scene(THREADS, "the loudspeaker's hangs", REPLY, order("hang speaker")),
    Scene(THREADS, "the link's hangs", SENTENCE, order("hang link")),
    Scene(THREADS, "the main thread hangs", REST, order("hang MainThread")),
    Scene(PROCESS, "kill -9", SENTENCE, kill),
    Scene(PROCESS, "kill -9", REPLY, kill),
    Scene(CARD, "pulled out", REST, hand("unplug"), hand("replug"), 5),
    Scene(CARD, "pulled out", SENTENCE, hand("unplug"), hand("replug"), 5),
    Scene(CARD, "pulled out", REPLY, hand("unplug"), hand("replug"), 5),
    Scene(CARD, "pulled out, and its driver does not tell", REPLY, hand("vanish"), hand("replug"), 5),
    Scene(CARD, "frozen", SENTENCE, hand("stall"), hand("resume"), 5),
    Scene(SERVER, "killed, and started again", REST, hand("kill"), hand("restart"), 3, PulseCard),
    Scene(SERVER, "killed, and started again", REPLY, hand("kill"), hand("restart"), 3, PulseCard),
    Scene(SERVER, "frozen", SENTENCE, hand("freeze"), hand("thaw"), 10, PulseCard),
    Scene(SERVER, "frozen", REPLY, hand("freeze"), hand("thaw"), 10, PulseCard),
]


# The table ------------------------------------------------------------------------------------------------------------


def show(row: Row) -> Row:
    def number(value: float | None) -> str:
        return f"{value:7.1f}" if value is not None else "      -"

    again = f" (asked {row.tries} times)" if row.tries > 1 else ""
    print(
        f"{'' if row.good else '!':1} {row.group + ': ' + row.title:72} {number(row.noticed)}{number(row.ready)}"
        f"{number(row.turn)} {row.likeness:6.3f}  {row.process}{again}; {row.journal[:110]}",
        flush=True,
    )
    return row


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"


def table(rows: list[Row]) -> str:
    cells: list[list[str]] = []
    for row in rows:
        if [row.group] not in cells:
            cells.append([row.group])
        times = [seconds(value) for value in (row.noticed, row.ready, row.turn)]
        cells.append([row.title, *times, row.process, f"`{shortened(row.journal)}`"])
    return markdown(["what happens", "noticed after", "ready after", "answered after", "process", "journal"], cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only scenes whose title holds this")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    options = parser.parse_args()
    print(f"{'':74} noticed  ready   turn   like", flush=True)
    rows = [show(play(scene)) for scene in SCENES if options.only in f"{scene.group}: {scene.title}"]
    if options.markdown:
        options.markdown.write_text(table(rows))
    usual = sorted(row.usual or 0.0 for row in rows)
    if rows:
        print(
            f"where nothing happens, a question and its answer take {usual[len(usual) // 2]:.1f} s (median);", end=" "
        )
        print(f"each answer is like its question, by {min(row.likeness for row in rows):.3f} at least")
    bad = [row.title for row in rows if not row.good]
    print(json.dumps({"scenes": len(rows), "bad": bad, "rows": [vars(row) for row in rows]}))
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
