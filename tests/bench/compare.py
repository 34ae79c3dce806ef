"""Ours beside what one would use instead: how late, how busy, how big, on the same card, service and work.

    python -m tests.bench.compare [--short] [--only NAME ...] [--rounds N] [--card pulse|fifo]
                                 [--hours N] [--json FILE]

Each client in turn, and all of them so many rounds, is started, left alone, talked to, interrupted, and talked to for a
minute; it is only looked at from outside. Prints a table and what one has to know to read it; less is better in each
row. ``--short`` takes two to three minutes, beside the lightest peer alone; all of it some four minutes for each client
and round. ``--hours`` lets ours talk for so long and says what it holds meanwhile.

Needs PulseAudio, and the environments that `make test-beside` makes; a peer without one has no figures.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.bench.beside.card import BLOCK_S, CARDS, LOOK_S, Failed
from tests.bench.beside.figures import Row, described, machine, middle, percentile, table, write
from tests.bench.beside.peers import ENVIRONMENTS, PEERS, Peer
from tests.bench.beside.peers.hub import RATE as HUB_RATE
from tests.bench.beside.peers.hub import Hub
from tests.bench.beside.service import RATE, Shape, voice
from tests.bench.beside.usage import Usage, usage
from tests.bench.beside.yard import Client, Other, Running, Turn, lags, sounded, turn
from tests.support.paths import ROOT
from tests.support.room import speech

SILENCE_MS = 700
CYCLE_S, SAID_S, REPLY_S = 12.0, 5.0, 5.0
"""How long one goes of a minute of talk takes, and what is said in it. What is left of it is the silence that ends a
turn where no button is let go."""
SETTLED_S = 2.0
"""After its start, a client is left alone for so long before anything is measured."""
STEADY_S = 0.5
"""What is sent so soon after a press may be from before it; it is not late."""
OLDEST_S = 10.0
"""Sound that was given so long before a press is not looked for in what was sent after it."""
TOO_LONG_S = 0.7
"""A client that still plays so long after a press was not silenced by it."""
MOST_LOG = 5000
"""How much of the log of an agent that failed is shown."""
CHEAP = "bare"
"""The peer that ``--short`` is beside."""

CONFIG = """
service: {{{{name: openai, url: '{{url}}'}}}}
talk: {{{{start: {start}, interrupt: button, silence_ms: {silence_ms}}}}}
connection: {{{{mode: {mode}}}}}
microphone: {{{{device: default}}}}
speaker: {{{{device: default, volume: 100}}}}
button: {{{{pin: }}}}
light: {{{{pin: }}}}
cues: {{{{volume: 0}}}}
"""


def ours(name: str = "ours", *, start: str = "button", mode: str = "always") -> Client:
    """Return the real program."""
    config = CONFIG.format(start=start, mode=mode, silence_ms=SILENCE_MS)
    command = [str(Path(sys.executable).parent / "device-agent"), "run", "--config", "{config}"]
    always = mode == "always"
    return Client(name, command, ends_itself=True, notifies=True, config=config, connects=always)


def theirs(peer: Peer) -> Client:
    """Return a peer as a client."""
    return Client(peer.name, peer.command, peer.note, connects="openai" not in peer.cannot, cannot=peer.cannot)


@dataclass(frozen=True)
class Plan:
    """How much is done in each round. *idle_s* and *cycles* are what CPU time is counted over."""

    rounds: int = 3
    starts: int = 2
    idle_s: float = 30.0
    turns: int = 10
    cuts: int = 5
    cycles: int = 5


SHORT = Plan(rounds=1, starts=1, idle_s=10.0, turns=4, cuts=3, cycles=2)


@dataclass
class Found:
    """What was found out about one client: name of a figure -> values; and what did not work."""

    values: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.values[name].append(value)


# What is done with a client -------------------------------------------------------------------------------------------


def visit(client: Client, plan: Plan, found: Found, kind: str) -> None:
    """Measure all of *client* once, on a card of this *kind*."""
    with CARDS[kind]() as card, Other() as other:
        try:
            for _ in range(plan.starts):
                with Running(client, card, other) as running:
                    start(running, found)
            with Running(client, card, other, {"PYTHONPROFILEIMPORTTIME": "1"}) as running:
                found.add(imports=imports(running.stderr))
            port = free_port()
            with Running(client, card, other, {"BENCH_SATELLITE_PORT": str(port)}) as running:
                start(running, found)
                pause(SETTLED_S)
                rest(running, plan, found)
                if "openai" in client.cannot:
                    exchange(running, port, plan.cycles, found)
                if client.cannot & {"press", "openai"}:
                    return
                card.look_s = LOOK_S
                latencies(running, plan, found)
                if "silence" not in client.cannot:
                    interruptions(running, plan, found)
                card.look_s = BLOCK_S
                talk(running, plan.cycles, found)
        except Failed as error:
            found.problems.append(str(error))


def free_port() -> int:
    """Return a port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def pause(seconds: float) -> None:
    threading.Event().wait(max(0.0, seconds))


def start(running: Running, found: Found) -> None:
    found.add(ready=running.ready - running.started, begun=running.usage().cpu)
    if running.session is not None:
        found.add(session=running.session - running.started)


def imports(stderr: str) -> float:
    """Return how long the imports took that Python wrote down, in ms."""
    lines = [line.split("|")[0].removeprefix("import time:") for line in stderr.splitlines() if "import time:" in line]
    return sum(int(took) for took in lines if took.strip().isdigit()) / 1000


def rest(running: Running, plan: Plan, found: Found) -> None:
    """Leave it alone; see what that costs."""
    before = running.usage()
    pause(plan.idle_s)
    after = running.usage()
    took = after.at - before.at
    found.add(idle=60 * (after.cpu - before.cpu) / took, wakeups=(after.wakeups - before.wakeups) / took)
    found.add(rss=after.rss / 2**20, pss=after.pss / 2**20)


def latencies(running: Running, plan: Plan, found: Found) -> None:
    """Talk to it, for a reply that comes at once and one that comes as it is spoken, in small pieces."""
    shapes = {"sound": Shape(seconds=0.6), "paced": Shape(seconds=0.6, piece_ms=20, pace=1)}
    turns: list[tuple[str, Turn]] = []
    running.card.loudspeaker()
    running.other.log()
    for number in range(plan.turns):
        kind = list(shapes)[number % 2]
        running.other.replies(shapes[kind])
        turns.append((kind, turn(running, speech())))
        pause(1.0 + 0.02 * np.random.default_rng(number).random())  # no press in step with the card
    ledger, log, heard = running.card.giver.ledger(), running.other.log(), running.card.loudspeaker()
    for kind, each in turns:
        messages = log.sound(each.heard + STEADY_S, each.committed)
        late, strange = lags(ledger, messages, ledger.place(each.pressed - OLDEST_S))
        found.add(strange=100 * strange / max(1, len(messages)))
        for value in late:
            found.add(capture=1000 * value)
        found.add(listening=1000 * (each.heard - each.pressed))
        own_silence = SILENCE_MS if running.client.ends_itself else 0
        found.add(commit=1000 * (each.committed - each.released) - own_silence)
        if (sound := sounded(heard, log, each.reply)) is not None:
            found.add(**{kind: 1000 * sound})


def fresh(running: Running) -> None:
    """Forget what was heard and said so far."""
    running.card.giver.ledger()
    running.card.loudspeaker()
    running.other.log()


def interruptions(running: Running, plan: Plan, found: Found) -> None:
    """Press in the middle of replies, all of which have arrived."""
    for number in range(plan.cuts):
        running.other.replies(Shape(seconds=3.0))
        turn(running, speech())
        pause(0.8 + 0.1 * np.random.default_rng(number).random())
        running.card.loudspeaker()
        pause(0.1)
        pressed = running.press()
        pause(1.0)
        silent = running.card.loudspeaker().silent(pressed)
        if silent is not None and silent - pressed < TOO_LONG_S:
            found.add(silence=1000 * (silent - pressed))
        running.other.replies(Shape(seconds=0.2))
        released = running.press()
        if not running.client.ends_itself:  # ours takes this for a turn in which nothing was said
            running.other.happened("sent", running.other.happened("reply", released).at)
        pause(1.0)


def talk(running: Running, cycles: int, found: Found) -> None:
    """Talk with it, so much that both have SAID_S and REPLY_S in each CYCLE_S; see what that costs."""
    running.other.replies(Shape(seconds=REPLY_S, pace=2))
    words = (speech() * 10)[: 2 * round(SAID_S * RATE)]
    before = running.usage()
    for number in range(cycles):
        turn(running, words)
        pause(before.at + (number + 1) * CYCLE_S - time.monotonic())
        fresh(running)
    spent(before, running.usage(), found)


def exchange(running: Running, port: int, cycles: int, found: Found) -> None:
    """Do what is nearest to ``talk`` with a satellite that listens on *port*: it sends all that it hears."""
    reply = np.frombuffer(voice(1, REPLY_S), np.int16)[: round(REPLY_S * HUB_RATE)].tobytes()
    with Hub(port) as hub:
        hub.heard(STEADY_S)
        before = running.usage()
        for number in range(cycles):
            hub.say(reply)
            pause(before.at + (number + 1) * CYCLE_S - time.monotonic())
            fresh(running)
        spent(before, running.usage(), found)


def spent(before: Usage, after: Usage, found: Found) -> None:
    """Note what a talk has cost."""
    minutes = (after.at - before.at) / 60
    found.add(talk=(after.cpu - before.cpu) / minutes)
    found.add(talk_user=(after.user - before.user) / minutes, talk_system=(after.system - before.system) / minutes)
    found.add(rss_talked=after.rss / 2**20, pss_talked=after.pss / 2**20)


def alone(client: Client, seconds: float, kind: str) -> float:
    """Return what *client* costs that only waits, in CPU seconds per minute. Raises Failed."""
    with CARDS[kind]() as card, Other() as other, Running(client, card, other) as running:
        pause(SETTLED_S)
        before = running.usage()
        pause(seconds)
        after = running.usage()
        return 60 * (after.cpu - before.cpu) / (after.at - before.at)


# What is not alive ----------------------------------------------------------------------------------------------------


def size_mb(environment: Path) -> float | None:
    """Return what an environment takes on the disk, in MB, without what only installs things; None: there is none."""
    if not environment.is_dir():
        return None
    total = 0
    for folder, folders, files in os.walk(environment):
        folders[:] = [each for each in folders if each.partition("-")[0] not in {"pip", "setuptools"}]
        total += sum(os.lstat(os.path.join(folder, each)).st_blocks * 512 for each in (*files, "."))
    return total / 1e6


def install_ours() -> Path:
    """Make an environment with what a user installs and nothing else, unless there is a fresh one; return where it is.

    Raises Failed.
    """
    place = ENVIRONMENTS / "ours"
    ready, asked = place / ".ready", ROOT / "setup.cfg"
    if ready.exists() and ready.stat().st_mtime > asked.stat().st_mtime:
        return place
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "device_agent", source / "device_agent", ignore=skipped)
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [place / "bin" / "pip", "install", "--quiet", source]
        installed = subprocess.run(pip, check=False, stderr=subprocess.PIPE, text=True)
        if installed.returncode:
            raise Failed(f"it cannot be installed: {installed.stderr[-MOST_LOG:]}")
    ready.touch()
    return place


def interpreter() -> dict[str, float]:
    """Measure Python itself, with nothing in it: what no program in it can stay below."""
    began = time.monotonic()
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-X", "importtime", "-c", code]
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        with subprocess.Popen(command, start_new_session=True, **pipes) as process:
            process.stdout.readline()
            ready = time.monotonic() - began
            held = usage(process.pid)
            process.stdin.close()
        errors.seek(0)
        return {
            "ready": ready,
            "begun": held.cpu,
            "imports": imports(errors.read()),
            "rss": held.rss / 2**20,
            "pss": held.pss / 2**20,
        }


# The table ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A row: which values it shows, and how they become one. *limit* is one, or names one of ``interpreter``."""

    title: str
    unit: str
    key: str
    reduce: Callable[[Sequence[float]], float | None] = middle
    limit: str | float | None = None
    note: str = ""


def worst(values: Sequence[float]) -> float | None:
    """Return the 99th percentile, if there is any."""
    return percentile(values, 99) if values else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, if there is any."""
    return sum(values) / len(values) if values else None


FIGURES = [
    Figure(
        "capture to wire, median",
        "ms",
        "capture",
        note="from the moment at which the card had the last sample of a message until the service could read it",
    ),
    Figure("capture to wire, 99 %", "ms", "capture", worst),
    Figure(
        "messages that are not what was given",
        "%",
        "strange",
        mean,
        note="with a gap, or sound from somewhere else in it; in their lateness they do not count",
    ),
    Figure(
        "wire to loudspeaker, median",
        "ms",
        "sound",
        note="from the first piece, 100 ms of a reply that comes at once, handed to the kernel, until it sounds",
    ),
    Figure("wire to loudspeaker, 99 %", "ms", "sound", worst),
    Figure(
        "wire to loudspeaker, spoken live, median",
        "ms",
        "paced",
        note="a reply in pieces of 20 ms, as fast as it sounds: ours waits for its prefill, floor for what aplay wants",
    ),
    Figure("wire to loudspeaker, spoken live, 99 %", "ms", "paced", worst),
    Figure(
        "end of turn to commit, median",
        "ms",
        "commit",
        note=f"ours: beyond the {SILENCE_MS} ms of silence that end a turn; peers: after the button was let go",
    ),
    Figure("end of turn to commit, 99 %", "ms", "commit", worst),
    Figure(
        "press to listening, median",
        "ms",
        "listening",
        limit=10.0,
        note="connected; until the first sound is at the service; the limit: the card gives a block each 20 ms",
    ),
    Figure("press to listening, 99 %", "ms", "listening", worst, limit=20.0),
    Figure("press to silence, median", "ms", "silence", note="in a reply that has arrived; -: it plays on"),
    Figure("press to silence, 99 %", "ms", "silence", worst),
    Figure("CPU a minute, idle", "s", "idle", note="connected, nobody speaks; user and system, with all children"),
    Figure("CPU a minute, nobody connected", "s", "waiting", note="connection.mode: on-demand; ours alone"),
    Figure("CPU a minute, listening for a voice", "s", "voice", note="talk.start: voice; ours alone"),
    Figure(
        "CPU a minute, talking",
        "s",
        "talk",
        note=f"{SAID_S:g} s of speech and {REPLY_S:g} s of reply in {CYCLE_S:g} s; ours sends its silence, "
        "too, and a satellite all that it hears",
    ),
    Figure("CPU a minute, talking: user", "s", "talk_user"),
    Figure("CPU a minute, talking: system", "s", "talk_system"),
    Figure(
        "wake-ups a second, idle", "1/s", "wakeups", note="how often a thread stopped to wait, all threads together"
    ),
    Figure("resident, idle", "MiB", "rss", limit="rss", note="the limit: Python with nothing in it"),
    Figure("resident, idle: its share", "MiB", "pss", limit="pss", note="PSS: what is shared counts in parts"),
    Figure("resident, after a minute of talk", "MiB", "rss_talked"),
    Figure("resident, after hours of talk", "MiB", "rss_hours"),
    Figure(
        "start to ready",
        "s",
        "ready",
        limit="ready",
        note="ours says so when all of it runs, peers when their session is there",
    ),
    Figure("CPU to start", "s", "begun", limit="begun", note="user and system until it is ready and has its session"),
    Figure("start to session", "s", "session", note="until the service is told the settings of the session"),
    Figure(
        "imports", "ms", "imports", limit="imports", note="all that is imported until it is ready, by -X importtime"
    ),
    Figure(
        "on the disk", "MB", "disk", note="an environment with it and what it needs, without pip; no system packages"
    ),
]


def rows(found: dict[str, Found], limits: dict[str, float]) -> list[Row]:
    """Return the table."""
    made = []
    for figure in FIGURES:
        values = {name: figure.reduce(each.values[figure.key]) for name, each in found.items()}
        if all(value is None for value in values.values()):
            continue
        limit = limits.get(figure.limit) if isinstance(figure.limit, str) else figure.limit
        mine = values.pop("ours", None)
        count = max(len(each.values[figure.key]) for each in found.values())
        made.append(Row(figure.title, figure.unit, mine, values, limit, count, figure.note))
    return made


def show(found: dict[str, Found], clients: Sequence[Client]) -> None:
    """Say what each client is, and what did not work."""
    for client in clients:
        problems = "; ".join(dict.fromkeys(found[client.name].problems))
        if client.note or problems:
            print(
                f"  {client.name}: {client.note}"
                + (f" [not all of it could be measured: {problems}]" if problems else "")
            )


def measure(options: argparse.Namespace) -> int:
    plan = SHORT if options.short else Plan(rounds=options.rounds)
    wanted = options.only or (["ours", CHEAP] if options.short else ["ours", *PEERS])
    clients = [ours()] if "ours" in wanted else []
    clients += [theirs(peer) for name, peer in PEERS.items() if name in wanted]
    found = {client.name: Found() for client in clients}
    installed = [each for each in clients if each.name == "ours" or PEERS[each.name].installed]
    for client in clients:
        if client not in installed:
            found[client.name].problems.append("not installed, see `make test-beside`")
    for number in range(plan.rounds):
        for client in installed:
            print(f"round {number + 1} of {plan.rounds}: {client.name}", file=sys.stderr)
            visit(client, plan, found[client.name], options.card)
        if "ours" in found:
            found["ours"].add(waiting=alone(ours(mode="on-demand"), plan.idle_s, options.card))
            found["ours"].add(voice=alone(ours(start="voice"), plan.idle_s, options.card))
    if "ours" in found and not options.short:
        install_ours()
    for name, each in found.items():
        if (size := size_mb(ENVIRONMENTS / name)) is not None:
            each.add(disk=size)
    limits = [interpreter() for _ in range(3)]
    made = rows(found, {name: middle([each[name] for each in limits]) or 0.0 for name in limits[0]})
    about = machine()
    print(f"{described(about)}; card: {options.card}; {plan.rounds} round(s); load {os.getloadavg()[2]:.1f}\n")
    print(table(made))
    show(found, clients)
    if options.json:
        write(options.json, made, about)
    return 1 if any(each.problems for name, each in found.items() if name == "ours") else 0


def last(options: argparse.Namespace) -> int:
    """Let ours talk for hours; say what it holds meanwhile."""
    found, cycles = Found(), round(300 / CYCLE_S)
    with CARDS[options.card]() as card, Other() as other, Running(ours(), card, other) as running:
        pause(SETTLED_S)
        print(f"at the start: {running.usage().rss / 2**20:.1f} MiB", flush=True)
        for number in range(round(12 * options.hours)):
            try:
                talk(running, cycles, found)
            except Failed as error:
                print(f"{error}\n{running.stderr[-MOST_LOG:]}", file=sys.stderr)
                return 1
            held, cpu = found.values["rss_talked"][-1], found.values["talk"][-1]
            print(f"after {5 * (number + 1)} min: {held:.1f} MiB, {cpu:.2f} CPU s a minute", flush=True)
    found.add(rss_hours=found.values["rss_talked"][-1])
    made = [row for row in rows({"ours": found}, {}) if row.figure == "resident, after hours of talk"]
    made[0].note = f"{options.hours:g} h"
    if options.json:
        write(options.json, made)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"in minutes, beside {CHEAP} alone")
    parser.add_argument("--only", nargs="+", choices=["ours", *PEERS], help="these alone")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--hours", type=float, help="let ours talk for so long, and nothing else")
    parser.add_argument("--card", choices=CARDS, default="pulse", help="pulse, which carries all, or the exact fifo")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    compileall.compile_dir(ROOT / "device_agent", quiet=2)  # as an installation does
    return last(options) if options.hours else measure(options)


if __name__ == "__main__":
    sys.exit(main())
