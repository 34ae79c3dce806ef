"""What a network and a service can do to a speaker, and what that costs: every fault of ``device-agent simulate`` and
network weather, against the whole agent, in real time and over real sockets. Sound lost has to be 0, and nothing
doubled, for each fault that heals within 15 s.

With ``--namespace`` there is a cable between two network namespaces as well, that is cut for real: packets vanish, and
no kernel is told. Where namespaces cannot be made, that part is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import room as rooms
from room import RATE, Room, speech
from weather import Weather

from device_agent.audio import level, likeness, samples
from device_agent.config import ServiceConfig
from device_agent.events import (
    Action,
    Cue,
    Event,
    LinkDown,
    LinkUp,
    Play,
    PlaybackEnded,
    Refused,
    ReplyEnded,
    ReplyStarted,
    ServiceError,
    TalkEnded,
)
from device_agent.simulator import FAULTS, Simulator

PIECE_S = 0.1
"""Sound is compared in pieces of this length."""
SAME = 0.9
"""How like itself a piece of speech has to be when it arrives."""
HEALED_BY_S = 15.0
SETTLED_S = 45.0
"""After so long nothing more is expected: 15 s for the way, 30 s for the thought."""
GAVE_UP = {Cue.OFFLINE, Cue.FAILED, Cue.REFUSED}
REFUSALS = {"refuse-401", "refuse-429", "close-4000", "silent"}
"""Faults that no waiting heals: the turn is answered with a cue, by intention."""


@dataclass
class Scene:
    """One fault. *strike* is called in the middle of a sentence, *heal* after *lasts* seconds."""

    name: str
    strike: Callable[[], object]
    heal: Callable[[], object] = lambda: None
    lasts: float = 0.0
    before: bool = False
    """Strike before the sentence."""


@dataclass
class Row:
    """What became of it: seconds until it was *noticed*, and from its end until a reply began."""

    fault: str
    lasts: float
    noticed: float | None
    recovered: float | None
    lost_ms: int
    doubled: int
    answered: bool
    alive: bool
    memory_kib: int
    said: str = ""

    @property
    def good(self) -> bool:
        heals = self.lasts < HEALED_BY_S and self.fault not in REFUSALS
        return self.alive and (not heals or (self.answered and not self.lost_ms and not self.doubled))


class Witness(Room):
    """A room that remembers when everything happened."""

    times: list[tuple[float, Event | Action]]

    def _note(self, word: Event | Action, now: float) -> None:
        self.times = [*getattr(self, "times", []), (time.monotonic(), word)]
        super()._note(word, now)

    def first(self, since: float, *what: type) -> tuple[float, Event | Action] | None:
        return next(((at, word) for at, word in self.times if at >= since and isinstance(word, what)), None)

    def waits_for(self, found: Callable[[], object], seconds: float) -> bool:
        ends = time.monotonic() + seconds
        while not found():
            if time.monotonic() > ends:
                return False
            with self._happened:
                self._happened.wait(0.05)
        return True


def lost_ms(said: bytes, heard: bytes) -> int:
    """Return how many milliseconds of *said* are not in *heard*, in pieces of PIECE_S that hold sound."""
    size = 2 * samples(PIECE_S, RATE)
    pieces = [said[n : n + size] for n in range(0, len(said) - size + 1, size)]
    missing = [p for p in pieces if level(p) > -45 and (len(heard) < len(p) or likeness(p, heard)[0] < SAME)]
    return round(1000 * PIECE_S * len(missing))


def memory_kib() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def play(scene: Scene, simulator: Simulator, url: str) -> Row:
    """Ask while the fault strikes, ask again when it is over."""
    said, before = speech(), memory_kib()
    with Witness(service=replace(ServiceConfig(), url=url), cues=1) as room:
        struck = _ask_and_strike(room, scene, simulator, said)
        healed = _heal_after(scene, struck)
        room.waits_for(lambda: _is_over(room, struck), scene.lasts + SETTLED_S)
        healed.join(scene.lasts + SETTLED_S)
        answered, turns = not _gave_up(room, struck), simulator.turns
        noticed = room.first(struck, LinkDown, Refused, ServiceError) or _again(room, struck)
        asked = time.monotonic()
        room.ask(said)
        alive = room.waits_for(lambda: room.first(asked, ReplyStarted) and room.first(asked, PlaybackEnded), SETTLED_S)
        back = room.first(struck, ReplyStarted)
    return Row(
        fault=scene.name,
        lasts=scene.lasts,
        noticed=noticed and noticed[0] - struck,
        recovered=max(0.0, back[0] - struck - scene.lasts) if back else None,
        lost_ms=min((lost_ms(said, turn.pcm) for turn in turns), default=lost_ms(said, b"")),
        doubled=max(0, sum(likeness(said, turn.pcm)[0] > SAME for turn in turns if len(turn.pcm) >= len(said)) - 1),
        answered=answered,
        alive=alive,
        memory_kib=memory_kib() - before,
        said=_words(noticed),
    )


def _ask_and_strike(room: Room, scene: Scene, simulator: Simulator, said: bytes) -> float:
    """Return when the fault struck."""
    if scene.before:
        scene.strike()
        struck = time.monotonic()
        room.ask(said)
        return struck
    room.ask(said)
    simulator.wait_for(lambda: any(len(connection.pcm) > RATE for connection in simulator.connections), SETTLED_S)
    struck = time.monotonic()
    scene.strike()
    return struck


def _is_over(room: Witness, since: float) -> bool:
    """The turn was answered to its end, or given up."""
    ended = room.first(since, TalkEnded) is not None
    return ended and (room.first(since, PlaybackEnded) is not None or _gave_up(room, since))


def _words(noticed: tuple[float, Event | Action] | None) -> str:
    match noticed:
        case (_, LinkDown() | Refused() as word):
            return word.reason
        case (_, ServiceError() as word):
            return word.message
    return ""


def _heal_after(scene: Scene, struck: float) -> threading.Thread:
    def wait() -> None:
        threading.Event().wait(max(0.0, struck + scene.lasts - time.monotonic()))
        scene.heal()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def _again(room: Witness, since: float) -> tuple[float, Event | Action] | None:
    """A second connection, where the loss of the first was not told."""
    ups = [(at, word) for at, word in room.times if isinstance(word, LinkUp)]
    return next(((at, word) for at, word in ups[1:] if at >= since), None)


def _gave_up(room: Witness, since: float) -> bool:
    cues = any(isinstance(word, Play) and word.cue in GAVE_UP for at, word in room.times if at >= since)
    return cues and not any(isinstance(w, ReplyEnded) and not w.problem for at, w in room.times if at >= since)


# The faults -----------------------------------------------------------------------------------------------------------


def of_the_service(name: str) -> Row:
    """A fault that the simulator has; those that last are healed after 5 s."""
    fault = FAULTS[name]
    lasts = 0.0 if fault.first_only else 5.0
    with Simulator(think_s=0.05, pace=8) as simulator:
        scene = Scene(name, lambda: simulator.fault(name), simulator.heal, lasts, before=True)
        if fault.first_only:
            scene.heal = lambda: None
        return play(scene, simulator, simulator.url)


SKIES: list[tuple[str, float, Callable[[Weather], object]]] = [
    ("the connections end", 0, lambda w: w.drop()),
    ("the connections are reset", 0, lambda w: w.reset()),
    ("nothing passes", 1, lambda w: w.black_hole()),
    ("nothing passes", 5, lambda w: w.black_hole()),
    ("nothing passes", 14, lambda w: w.black_hole()),
    ("a byte passes now and then", 5, lambda w: w.trickle()),
    ("reset, then refused", 5, lambda w: (w.refuse(), w.reset())),
    ("reset, then refused", 14, lambda w: (w.refuse(), w.reset())),
    ("reset, then no answer", 5, lambda w: (w.hang(), w.reset())),
    ("reset, then no answer", 14, lambda w: (w.hang(), w.reset())),
]


def of_the_network(name: str, lasts: float, strike: Callable[[Weather], object]) -> Row:
    with Simulator(think_s=0.05, pace=8) as simulator, Weather(simulator.port) as weather:
        scene = Scene(f"{name}, {lasts:g} s", lambda: strike(weather), weather.heal, lasts)
        return play(scene, simulator, f"ws://127.0.0.1:{weather.port}/v1/realtime")


# A cable --------------------------------------------------------------------------------------------------------------

SPEAKER, SERVICE = "10.9.0.2", "10.9.0.1"
NEWNET = 0x40000000


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def cable(scenes: list[tuple[str, float]]) -> Iterator[Row]:
    """Play *scenes* over a cable between two namespaces; this process has to live in one of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/netns").mkdir()
    ip("link", "set", "lo", "up")
    ip("netns", "add", "net")
    ip("link", "add", "wlan0", "type", "veth", "peer", "name", "ap0", "netns", "net")
    ip("addr", "add", f"{SPEAKER}/24", "dev", "wlan0")
    ip("link", "set", "wlan0", "up")
    for words in (
        ["addr", "add", f"{SERVICE}/24", "dev", "ap0"],
        ["link", "set", "ap0", "up"],
        ["link", "set", "lo", "up"],
    ):
        ip("-n", "net", *words)
    for file, text in (("/etc/resolv.conf", f"nameserver {SERVICE}\n"), ("/etc/nsswitch.conf", "hosts: dns\n")):
        ours = Path(tempfile.mkdtemp(dir="/run"), "file")
        ours.write_text(text)
        subprocess.run(["mount", "--bind", str(ours), file], check=True)
    for name, lasts in scenes:
        with over_there():
            simulator, names = Simulator(host=SERVICE, think_s=0.05, pace=8), Names()
        with simulator, names:
            scene = cut(name, lasts, simulator, names)
            yield play(scene, simulator, f"ws://speaker.test:{simulator.port}/v1/realtime")


class Names:
    """A name server that knows one address, and falls silent when told to."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((SERVICE, 53))
        self._sock.settimeout(0.1)
        self.mute = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Names:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._sock.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                question, who = self._sock.recvfrom(512)
            except TimeoutError:
                continue
            if not self.mute.is_set():
                with suppress(OSError):  # the cable is cut
                    self._sock.sendto(self._answer(question), who)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(0, 12) + 5  # behind the name, its type and class
        is_a = question[end - 4 : end - 2] == b"\0\1"
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
        address = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton(SERVICE)
        return head + question[12:end] + (address if is_a else b"")


@contextmanager
def over_there() -> Iterator[None]:
    """What this thread opens in here lives in the namespace of the service, and so does what comes of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as here, open("/run/netns/net") as there:
        assert not libc.setns(there.fileno(), NEWNET), os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert not libc.setns(here.fileno(), NEWNET), os.strerror(ctypes.get_errno())


LOST = [["rule", "{do}", "iif", "ap0", "blackhole"], ["rule", "{do}", "to", SPEAKER, "blackhole"]]


def cut(name: str, lasts: float, simulator: Simulator, names: Names) -> Scene:
    """Return the scene in which the cable is cut."""
    title = f"{name}, {lasts:g} s"

    def lose(do: str) -> None:
        for rule in LOST:
            ip("-n", "net", *[word.format(do=do) for word in rule])

    def forget() -> None:
        lose("add")
        simulator.drop()  # the other machine has started anew: it knows nothing of us, and could not say goodbye

    match name:
        case "wlan0 is down":
            return Scene(
                title, lambda: ip("link", "set", "wlan0", "down"), lambda: ip("link", "set", "wlan0", "up"), lasts
            )
        case "names hang":
            return Scene(title, lambda: (names.mute.set(), simulator.drop()), names.mute.clear, lasts)
        case "half open":
            return Scene(title, forget, lambda: lose("del"), lasts)
    return Scene(title, lambda: lose("add"), lambda: lose("del"), lasts)


CABLES = [
    ("packets vanish", 1.0),
    ("packets vanish", 5.0),
    ("packets vanish", 14.0),
    ("wlan0 is down", 5.0),
    ("wlan0 is down", 14.0),
    ("half open", 3.0),
    ("names hang", 14.0),
]


def in_a_namespace(only: str) -> list[Row]:
    """Run the scenes of the cable in a process of their own; return nothing where that cannot be."""
    with tempfile.NamedTemporaryFile("r") as file:
        words = ["unshare", "-rnm", "--kill-child", sys.executable, __file__, "--inside", file.name, "--only", only]
        try:
            subprocess.run(words, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no namespaces here ({error}): the cable is left out", file=sys.stderr)
            return []
        return [Row(**row) for row in json.load(file)]


def show(row: Row) -> None:
    def number(value: float | None) -> str:
        return f"{value:6.1f}" if value is not None else "     -"

    outcome = "answered" if row.answered else "given up"
    print(
        f"{'' if row.good else '!':1} {row.fault:36} {number(row.noticed)} {number(row.recovered)} {row.lost_ms:5}"
        f" {row.doubled:3} {row.memory_kib:7}  {outcome}{'' if row.alive else ', DEAF AFTERWARDS'}  {row.said[:60]}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only faults whose name holds this")
    parser.add_argument("--namespace", action="store_true", help="cut a real cable, too")
    parser.add_argument("--cable", action="store_true", help="nothing but that")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # the table tells
    rooms.PACE = 1  # patience is in seconds of the world
    if options.inside:
        rows = [_shown(row) for row in cable([each for each in CABLES if options.only in each[0]])]
        Path(options.inside).write_text(json.dumps([vars(row) for row in rows]))
        return 0
    print("  fault                                noticed   back  lost  2x  memory")
    print("                                             s      s    ms          KiB", flush=True)
    rows = []
    if not options.cable:
        rows += [_shown(of_the_service(name)) for name in FAULTS if options.only in name]
        rows += [_shown(of_the_network(*sky)) for sky in SKIES if options.only in sky[0]]
    if options.namespace or options.cable:
        rows += in_a_namespace(options.only)
    bad = [row.fault for row in rows if not row.good]
    print(json.dumps({"faults": len(rows), "bad": bad, "rows": [vars(row) for row in rows]}))
    return 1 if bad else 0


def _shown(row: Row) -> Row:
    show(row)
    return row


if __name__ == "__main__":
    sys.exit(main())
