"""Whether a reply falls silent in the middle where it comes unevenly, and what it costs that it does not.

    python -m tests.bench.jitter [--short] [--replies N] [--only NAME ...] [--jitter MS ...] [--cores calm|busy]
                                 [--also NAME=DIRECTORY ...] [--card fifo|pulse] [--json FILE]

Replies come at the pace of the world in pieces of 100 ms, each late by chance, at most by the jitter, and the same for
every client. What comes out of the loudspeaker is searched for silence: the voice has none. Then all of it again while
each core has a program that wants all of it. The first KNOWN replies are not counted, for ours has to get to know the
way first; the notes say what was heard in them. *first sound* is from the first piece at the kernel to the loudspeaker:
so much does it cost to be patient. ``--also`` measures another checkout beside. ``--short`` takes four minutes, all of
it an hour and a quarter.

Needs what ``make test-beside`` makes; a peer that is not there has no figures. Exit status 1 where of what ours was
told a sample was not heard, or one came twice.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from device_agent.audio.jitter import LEARNED_AFTER_REPLIES
from tests.bench.beside.card import CARDS, LOOK_S, Failed, Loudspeaker
from tests.bench.beside.figures import Row, described, machine, middle, table, write
from tests.bench.beside.peers import PEERS
from tests.bench.beside.service import RATE, Shape, voice
from tests.bench.beside.yard import Client, Log, Other, Running, Turn, sounded, turn
from tests.bench.compare import CONFIG, ours, theirs
from tests.support.room import speech

JITTERS = (0, 20, 60, 120)
PIECE_MS = 100.0
REPLY_S = 4.0
SILENCE_MS = 300
TAIL_S = 1.2
"""After the last piece was sent, so long until it has been heard everywhere."""
HOGS_S = 900.0
"""No hog lives longer, whatever happens to the bench."""
HOG = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
OURS = "ours"
NAMES = (OURS, "bare", "floor", "openai_push_to_talk")


@dataclass
class Heard:
    """What one heard of one reply. Seconds; *first* is None where its first sound was not to be found."""

    gaps: list[float]
    first: float | None
    whole: bool
    """Whether it was every sample of the reply, once, and nothing else."""


@dataclass
class Found:
    """All replies of a client on one link."""

    replies: list[Heard] = field(default_factory=list)
    problem: str = ""

    @property
    def counted(self) -> list[Heard]:
        return self.replies[LEARNED_AFTER_REPLIES:]

    @property
    def longest(self) -> float | None:
        """The longest silence, in ms."""
        return max((1000 * gap for each in self.counted for gap in [0.0, *each.gaps]), default=None)

    @property
    def gaps(self) -> float | None:
        """Silences in a minute of replies."""
        if not self.counted:
            return None
        return 60 / REPLY_S * sum(len(each.gaps) for each in self.counted) / len(self.counted)

    @property
    def first(self) -> float | None:
        """The median of the first sound, in ms."""
        waits = middle([each.first for each in self.counted])
        return None if waits is None else 1000 * waits

    @property
    def learning(self) -> str:
        """What was heard before anything counts."""
        gaps = [gap for each in self.replies[:LEARNED_AFTER_REPLIES] for gap in each.gaps]
        return f"{len(gaps)} in the first {LEARNED_AFTER_REPLIES} replies, {1000 * max(gaps, default=0):.0f} ms"


# Measuring ------------------------------------------------------------------------------------------------------------


@contextmanager
def hogs() -> Iterator[None]:
    """Give each core a program that wants all of it."""
    cores = sorted(os.sched_getaffinity(0))
    running = [subprocess.Popen([sys.executable, "-c", HOG.format(seconds=HOGS_S)]) for _ in cores]
    try:
        for core, hog in zip(cores, running, strict=True):
            os.sched_setaffinity(hog.pid, [core])
        yield
    finally:
        for hog in running:
            hog.kill()
            hog.wait()


def listen(client: Client, card: str, jitter: float, replies: int) -> Found:
    """Let *client* have so many replies over a link like that; return what was heard of them."""
    found = Found()
    with CARDS[card]() as machine_, Other() as other:
        machine_.look_s = LOOK_S
        other.replies(Shape(seconds=REPLY_S, piece_ms=PIECE_MS, pace=1.0, jitter_ms=jitter))
        try:
            with Running(client, machine_, other) as running:
                pause(1.0)
                for _ in range(replies):
                    running.card.loudspeaker()
                    running.other.log()
                    asked = turn(running, said())
                    pause(TAIL_S)
                    found.replies.append(judge(running.card.loudspeaker(), running.other.log(), asked))
        except Failed as error:
            found.problem = str(error)
    return found


def judge(heard: Loudspeaker, log: Log, asked: Turn) -> Heard:
    """Return what was heard of a reply: all that sounds is of it."""
    reply = np.frombuffer(voice(asked.reply, REPLY_S), np.int16)
    places = np.flatnonzero(heard.wave)
    silences = np.diff(places) - 1
    gaps = [float(silence) / RATE for silence in silences[silences > 0]]
    return Heard(gaps, sounded(heard, log, asked.reply), bool(np.array_equal(heard.wave[places], reply)))


def said() -> bytes:
    """Return something short to say."""
    return speech()[: 2 * round(0.6 * RATE)]


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def clients(names: Sequence[str], also: Sequence[str]) -> list[Client]:
    """Return the clients: ours, other checkouts of it (*also*, "NAME=DIRECTORY"), the peers that are there."""
    config = CONFIG.format(start="button", mode="always", silence_ms=SILENCE_MS)
    agent = replace(ours(OURS), config=config)
    found = [agent] if OURS in names else []
    for word in also:
        name, _, directory = word.partition("=")
        code = f"import sys; sys.path.insert(0, {directory!r}); from device_agent.cli import main; sys.exit(main())"
        found.append(replace(agent, name=name, command=[sys.executable, "-c", code, *agent.command[1:]]))
    return found + [theirs(PEERS[name]) for name in names if name in PEERS and PEERS[name].installed]


# Telling --------------------------------------------------------------------------------------------------------------


def rows(found: dict[tuple[str, float, bool], Found], names: Sequence[str]) -> list[Row]:
    """Return three rows for each link: the longest silence, how many of them, and what was paid for that."""
    told = []
    for jitter, busy in dict.fromkeys((jitter, busy) for _, jitter, busy in found):
        link = f"jitter {jitter:.0f} ms{', all cores busy' if busy else ''}"
        on_it = {name: found.get((name, jitter, busy), Found()) for name in names}
        notes = [f"ours {on_it['ours'].learning}"] if "ours" in on_it else []
        notes += [f"{name}: {each.problem}" for name, each in on_it.items() if each.problem]
        figures = {
            "longest silence in a reply": ("ms", {name: each.longest for name, each in on_it.items()}, 0.0),
            "silences in replies": ("1/min", {name: each.gaps for name, each in on_it.items()}, 0.0),
            "first piece to first sound": ("ms", {name: each.first for name, each in on_it.items()}, None),
        }
        for figure, (unit, values, limit) in figures.items():
            mine = values.pop("ours", None)
            count = min(len(each.counted) for each in on_it.values())
            told.append(Row(f"{figure}, {link}", unit, mine, values, limit, count, "; ".join(notes)))
            notes = []
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="8 replies, two links, one peer, calm cores")
    parser.add_argument("--replies", type=int, default=20, help="from each, on each link")
    parser.add_argument("--only", action="append", choices=[OURS, *PEERS], help="these clients")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=DIRECTORY", help="another checkout")
    parser.add_argument("--jitter", action="append", type=float, metavar="MS", help="these links")
    parser.add_argument("--cores", choices=["calm", "busy"], help="default: first the one, then the other")
    parser.add_argument("--card", choices=sorted(CARDS), default="pulse")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.short:
        options.replies, options.cores = 2 * LEARNED_AFTER_REPLIES, "calm"
    links = [
        (jitter, busy)
        for busy in {"calm": [False], "busy": [True], None: [False, True]}[options.cores]
        for jitter in options.jitter or (JITTERS[::3] if options.short else JITTERS)
    ]
    measured = clients(options.only or (NAMES[:2] if options.short else NAMES), options.also)
    sys.setswitchinterval(0.0005)  # the card should not wait for the bench
    found: dict[tuple[str, float, bool], Found] = {}
    for jitter, busy in links:
        for client in measured:
            with hogs() if busy else nullcontext():
                found[client.name, jitter, busy] = listen(client, options.card, jitter, options.replies)
    told = rows(found, [client.name for client in measured])
    print(table(told))
    print(f"\n{described(machine())}")
    if options.json:
        write(options.json, told)
    return 0 if all(each.whole for (name, *_), one in found.items() if name == OURS for each in one.replies) else 1


if __name__ == "__main__":
    sys.exit(main())
