"""What a network and a service can do to a speaker, and what that costs: every fault and manner of ``device-agent
simulate`` and network weather, against the whole agent, in real time and over real sockets. Sound lost has to be 0, and
nothing doubled, for each fault that heals within 15 s; behind a manner the whole answer is heard as well.

*noticed* is in seconds from the moment the fault strikes to the first line of the log about it: none, where nothing was
there to notice. *back* is in seconds from the end of what lasts to the next reply that begins; 0 where the one under
way was not hurt. *lost* are the milliseconds of the sentence that no turn at the service held, *unheard* those of the
answer to it that did not come out of the loudspeaker. *memory* is what this process, simulator and all that it
remembers, is larger afterwards, when a second question has been answered.

*2x* is how often a part of the sentence was heard again **within one conversation**, and that must be never. A service
that took a turn and fell silent, or whose answer was lost on the way, cannot be told from one that heard nothing: so
the turn is sent again, but to a conversation that knows nothing of the first (``Connector.left``), so that there is
one answer. A connection that goes on with an earlier conversation (``ConnectionLog.goes_on``) counts as one with it.

With ``--namespace`` there is a cable between two network namespaces as well, that is cut for real: packets vanish, and
no kernel is told. Where namespaces cannot be made, that part is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from device_agent.config.model import ServiceConfig, TalkConfig
from device_agent.core.actions import Action, CloseGate, Cue, Play
from device_agent.core.events import Event, PlaybackEnded, ReplyEnded, ReplyStarted, TalkEnded
from device_agent.dsp.correlation import likeness
from device_agent.dsp.pcm import level, samples
from device_agent.simulator import FAULTS, SIMULATED_SERVICES, VARIANTS, ConnectionLog, Simulator
from device_agent.simulator.contract import Moment
from device_agent.simulator.faults import Act
from tests.bench.tables import markdown, seconds
from tests.support import room as rooms
from tests.support.room import RATE, Room, speech
from tests.support.weather import Weather

PIECE_S = 0.1
"""Sound is compared in pieces of this length."""
WORD_S = 0.5
"""A piece so long is like no other of the same sentence: one that is heard twice was said twice."""
SAME = 0.9
"""How like itself a piece of speech has to be when it arrives."""
HEALED_BY_S = 15.0
SETTLED_S = 45.0
"""After so long nothing more is expected: 15 s for the way, 30 s for the thought."""
GAVE_UP = {Cue.OFFLINE, Cue.FAILED, Cue.REFUSED}
SORRY = GAVE_UP | {Cue.TROUBLE}
"""The cues that say that an answer is missing, or not whole."""
CUED = {
    *("refuse-401", "close-4000", "close-4000-reset", "refused-settings", "no-quota"),
    *("cut-by-filter", "cut-by-length", "text-only", "empty-reply", "drop-mid-reply", "huge", "close-1001"),
}
"""Faults that no waiting heals, or that leave an answer without its sound: the user hears a cue, by intention. The turn
is answered after all others that heal in time."""
QUIETLY = "nobody needs it now"
"""How the log tells of a connection that ended when all was said."""


@dataclass
class Scene:
    """One fault. *strike* is called in the middle of a sentence, *heal* after *lasts* seconds."""

    group: str
    name: str
    strike: Callable[[], object]
    heal: Callable[[], object] = lambda: None
    lasts: float = 0.0
    before: bool = False
    """Strike before the sentence."""
    struck: Callable[[], float | None] | None = None
    """Where the fault waits for its moment: when that was, None before."""


@dataclass
class Row:
    """What became of it. Times are in seconds; see above."""

    group: str
    fault: str
    lasts: float
    noticed: float | None
    recovered: float | None
    lost_ms: int
    unheard_ms: int
    doubled: int
    answered: bool
    alive: bool
    memory_kib: int
    said: str = ""
    cued: bool = False

    @property
    def good(self) -> bool:
        heard = self.group != MANNER or self.fault == "uses-tools" or not self.unheard_ms
        whole = self.answered and not self.lost_ms and heard
        right = self.cued if self.fault in CUED else whole or self.lasts >= HEALED_BY_S
        return self.alive and not self.doubled and right


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


class Witnessed(logging.Handler):
    """Remembers the lines of the log that tell of a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        told = record.levelno >= logging.WARNING or QUIETLY in record.getMessage()
        if told and not record.name.startswith(("device_agent.simulator", "device_agent.audio.device_supervisor")):
            self.lines.append((time.monotonic(), record.getMessage()))

    def __enter__(self) -> Witnessed:
        log = logging.getLogger("device_agent")
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        logging.getLogger("device_agent").removeHandler(self)


def pieces(said: bytes, seconds_: float) -> list[bytes]:
    """Return the pieces of *said* that hold sound."""
    size = 2 * samples(seconds_, RATE)
    return [p for p in (said[n : n + size] for n in range(0, len(said) - size + 1, size)) if level(p) > -45]


def lost_ms(said: bytes, heard: bytes) -> int:
    """Return how many milliseconds of *said* are not in *heard*, in pieces of PIECE_S that hold sound."""
    missing = [p for p in pieces(said, PIECE_S) if len(heard) < len(p) or likeness(p, heard)[0] < SAME]
    return round(1000 * PIECE_S * len(missing))


def times(piece: bytes, heard: bytes) -> int:
    """Return how often *piece* is in *heard*."""
    if len(heard) < len(piece):
        return 0
    like, at = likeness(piece, heard)
    if like < SAME:
        return 0
    return 1 + times(piece, heard[: 2 * at]) + times(piece, heard[2 * at + len(piece) :])


def doubled(said: bytes, connections: Iterable[ConnectionLog]) -> int:
    """Return how often a part of *said* was heard again within one conversation."""
    conversations: list[list[ConnectionLog]] = []
    for each in connections:
        spoken = [conversation for conversation in conversations if any(heard.turns for heard in conversation)]
        if each.goes_on and spoken:
            spoken[-1].append(each)
        else:
            conversations.append([each])
    turns = [b"".join(turn.pcm for heard in each for turn in list(heard.turns)) for each in conversations]
    return max((times(word, pcm) - 1 for word in pieces(said, WORD_S) for pcm in turns if pcm), default=0)


M_MMAP_THRESHOLD = -3


def memory_kib() -> int:
    """Return how much memory is resident when all that is unused is given back."""
    gc.collect()
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def give_back_memory() -> None:
    """Let the C library give back at once what was large: it would keep 20 MB for another time, and look like us."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)


def play(scene: Scene, simulator: Simulator, url: str, *, service: str = "xai", end: str = "device") -> Row:
    """Ask while the fault strikes, ask again when it is over. *end* is what ends a turn."""
    said = speech()
    settings = {"service": ServiceConfig(name=service, url=url), "talk": TalkConfig(end=end)}
    with Witnessed() as log, Witness(**settings, abilities=("volume",), cues=1) as room:
        before = memory_kib()
        struck = _ask_and_strike(room, scene, simulator, said)
        healed = _heal_after(scene, struck)
        room.waits_for(lambda: _is_over(room), scene.lasts + SETTLED_S)
        healed.join(scene.lasts + SETTLED_S)
        answered, told, again = not _gave_up(room), list(log.lines), doubled(said, simulator.connections)
        cued = _cued(room)
        lost = min((lost_ms(said, turn.pcm) for turn in simulator.turns), default=lost_ms(said, b""))
        unheard = lost_ms(said, room.speaker.heard)
        asked = time.monotonic()
        room.ask(said)
        alive = room.waits_for(lambda: room.first(asked, ReplyStarted) and room.first(asked, PlaybackEnded), SETTLED_S)
        back, grown = room.first(struck, ReplyStarted), memory_kib() - before
        unhurt = answered and not unheard and room.first(0, ReplyStarted) != back
    noticed = next(((at, text) for at, text in told if at >= struck), None)
    return Row(
        group=scene.group,
        fault=scene.name,
        lasts=scene.lasts,
        noticed=noticed and noticed[0] - struck,
        recovered=0.0 if unhurt else max(0.0, back[0] - struck - scene.lasts) if back else None,
        lost_ms=lost,
        unheard_ms=unheard,
        doubled=again,
        answered=answered,
        alive=alive,
        memory_kib=grown,
        said=noticed[1] if noticed else "",
        cued=cued,
    )


def _ask_and_strike(room: Witness, scene: Scene, simulator: Simulator, said: bytes) -> float:
    """Return when the fault struck."""
    if scene.before:
        scene.strike()
        began = time.monotonic()
        room.ask(said)
        if scene.struck is None:
            return began
        room.waits_for(scene.struck, SETTLED_S)
        return scene.struck() or began
    room.ask(said)
    simulator.wait_for(lambda: any(len(connection.pcm) > RATE for connection in simulator.connections), SETTLED_S)
    struck = time.monotonic()
    scene.strike()
    return struck


def _is_over(room: Witness) -> bool:
    """The turn was answered to its end, or given up, maybe before it was spoken to its end."""
    if _gave_up(room):
        return room.first(0, TalkEnded, CloseGate) is not None
    if _cued(room) and room.first(0, ReplyEnded):
        return True  # there is nothing to play
    return room.first(0, TalkEnded) is not None and room.first(0, PlaybackEnded) is not None


def _heal_after(scene: Scene, struck: float) -> threading.Thread:
    def wait() -> None:
        threading.Event().wait(max(0.0, struck + scene.lasts - time.monotonic()))
        scene.heal()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def _cued(room: Witness) -> bool:
    """The user heard that an answer is missing, or not whole."""
    return any(isinstance(word, Play) and word.cue in SORRY for _, word in room.times)


def _gave_up(room: Witness) -> bool:
    cues = any(isinstance(word, Play) and word.cue in GAVE_UP for _, word in room.times)
    return cues and not any(isinstance(word, ReplyEnded) and not word.problem for _, word in room.times)


# The faults -----------------------------------------------------------------------------------------------------------


STRANGE, REFUSED, BROKEN = "The service is strange", "The service refuses", "The service breaks off"
REPLY, MANNER = "A reply goes wrong", "The service has another manner"
OTHER, NETWORK, CABLE = "Another program answers", "The network", "A real cable"
GROUPS = {
    **dict.fromkeys(("refuse-401", "refuse-429", "refuse-503", "close-4000", "close-4000-reset"), REFUSED),
    **dict.fromkeys(("refused-settings", "refused-transcription", "no-quota"), REFUSED),
    **dict.fromkeys(("rate-limited", "server-error", "cut-by-filter", "cut-by-length", "text-only"), REPLY),
    **dict.fromkeys(("empty-reply", "no-transcripts", "slow-reply", "late-voice", "drop-after-call"), REPLY),
    **dict.fromkeys(("close-1008-idle", "close-1008-mid-turn"), BROKEN),
    **dict.fromkeys(("portal-200", "portal-302", "portal-511", "wrong-accept", "not-http", "hang-handshake"), OTHER),
    **dict.fromkeys(("drop-mid-turn", "drop-mid-reply", "stall", "silent", "huge", "close-1001"), BROKEN),
}
"""The faults that the simulator has, for people; the others are strange."""
ORDER = (MANNER, STRANGE, REPLY, BROKEN, REFUSED, OTHER, NETWORK, CABLE)
SERVICE_ENDS = {"takes-back", "created-first"}
"""Manners that show when the service ends the turns."""
ELSEWHERE = {"one-session", "slow-tools", "json-in-binary", "asks-too"}
"""Manners that take two connections, a tool of the service's or the proxy: the scenes play them."""


def of_the_service(name: str) -> Row:
    """A fault that the simulator has; those that last are healed after 5 s."""
    fault = FAULTS[name]
    lasts = 0.0 if fault.first_only else 5.0
    service = served(fault.services)
    with Simulator(service, think_s=0.05, pace=8) as simulator:
        scene = Scene(
            GROUPS.get(name, STRANGE), name, lambda: simulator.fault(name), simulator.heal, lasts, before=True
        )
        if fault.first_only:
            scene.heal = lambda: None
        if fault.moment:
            scene.struck = moment_of(simulator)
        return play(scene, simulator, simulator.url, service=service)


def of_the_manner(name: str) -> Row:
    """A service that behaves so from the beginning."""
    service = served(VARIANTS[name].services)
    with Simulator(service, think_s=0.05, pace=8, manner=[name]) as simulator:
        scene = Scene(MANNER, name, lambda: None, before=True)
        end = "service" if name in SERVICE_ENDS else "device"
        return play(scene, simulator, simulator.url, service=service, end=end)


def served(services: Iterable[str]) -> str:
    """Return the first service that has a fault or manner of these *services*."""
    return next(name for name in SIMULATED_SERVICES if name in (list(services) or SIMULATED_SERVICES))


def moment_of(simulator: Simulator) -> Callable[[], float | None]:
    """Return what says when a fault of *simulator* first struck."""
    acts, struck = simulator._switches.acts, []

    def seen(moment: Moment, connection: int) -> list[Act]:
        due = acts(moment, connection)
        if due:
            struck.append(time.monotonic())
        return due

    simulator._switches.acts = seen  # type: ignore[method-assign]
    return lambda: struck[0] if struck else None


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


def titled(name: str, lasts: float) -> str:
    return f"{name}, {lasts:g} s" if lasts else name


def of_the_network(name: str, lasts: float, strike: Callable[[Weather], object]) -> Row:
    with Simulator(think_s=0.05, pace=8) as simulator, Weather(simulator.port) as weather:
        scene = Scene(NETWORK, titled(name, lasts), lambda: strike(weather), weather.heal, lasts)
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
    warm_up()
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
                question, client = self._sock.recvfrom(512)
            except TimeoutError:
                continue
            if not self.mute.is_set():
                with suppress(OSError):  # the cable is cut
                    self._sock.sendto(self._answer(question), client)

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
    title = titled(name, lasts)

    def lose(do: str) -> None:
        for rule in LOST:
            ip("-n", "net", *[word.format(do=do) for word in rule])

    def forget() -> None:
        lose("add")
        simulator.drop()  # the other machine has started anew: it knows nothing of us, and could not say goodbye

    match name:
        case "wlan0 is down":
            down, up = (functools.partial(ip, "link", "set", "wlan0", way) for way in ("down", "up"))
            return Scene(CABLE, title, down, up, lasts)
        case "names hang":
            return Scene(CABLE, title, lambda: (names.mute.set(), simulator.drop()), names.mute.clear, lasts)
        case "half open":
            return Scene(CABLE, title, forget, lambda: lose("del"), lasts)
    return Scene(CABLE, title, lambda: lose("add"), lambda: lose("del"), lasts)


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
        words = [
            "unshare",
            "-rnm",
            "--kill-child",
            sys.executable,
            "-m",
            "tests.bench.faults",
            "--inside",
            file.name,
            "--only",
            only,
        ]
        try:
            subprocess.run(words, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no namespaces here ({error}): the cable is left out", file=sys.stderr)
            return []
        return [Row(**row) for row in json.load(file)]


def show(row: Row) -> Row:
    def number(value: float | None) -> str:
        return f"{value:6.1f}" if value is not None else "     -"

    outcome = "answered" if row.answered else "given up"
    print(
        f"{'' if row.good else '!':1} {row.fault:36} {number(row.noticed)} {number(row.recovered)} {row.lost_ms:5}"
        f" {row.unheard_ms if row.answered else 0:8} {row.doubled:3} {row.memory_kib:7}  {outcome}"
        f"{'' if row.alive else ', DEAF AFTERWARDS'}  {row.said[:60]}",
        flush=True,
    )
    return row


def table(rows: list[Row]) -> str:
    """Return what docs/faults.md shows."""
    cells: list[list[str]] = []
    for group in ORDER:
        of_it = [row for row in rows if row.group == group]
        cells += [[group]] * bool(of_it)
        cells += [
            [
                _described(row.fault),
                seconds(row.noticed),
                seconds(row.recovered),
                _lost(row),
                f"{row.memory_kib} KiB",
            ]
            for row in of_it
        ]
    return markdown(["fault", "noticed after", "recovered after", "sound lost", "memory"], cells)


def _described(fault: str) -> str:
    """Return a fault or manner for people."""
    known = {**VARIANTS, **FAULTS}.get(fault)
    return f"`{fault}`: {known.says}" if known else fault


def _lost(row: Row) -> str:
    lost = f"{row.lost_ms} ms"
    if not row.answered:
        return f"{lost}: given up, with a cue"
    if row.cued:
        return f"{lost}; a cue says that the answer is not whole"
    return f"{lost}; {row.unheard_ms} ms of the answer" if row.unheard_ms else lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only faults whose name holds this")
    parser.add_argument("--namespace", action="store_true", help="cut a real cable, too")
    parser.add_argument("--cable", action="store_true", help="nothing but that")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # the table tells
    rooms.PACE = 1  # patience is in seconds of the world
    give_back_memory()
    if options.inside:
        rows = [show(row) for row in cable([each for each in CABLES if options.only in each[0]])]
        Path(options.inside).write_text(json.dumps([vars(row) for row in rows]))
        return 0
    warm_up()
    print("  fault                                noticed   back  lost  unheard  2x  memory")
    print("                                             s      s    ms       ms         KiB", flush=True)
    rows = []
    if not options.cable:
        rows += [show(of_the_manner(name)) for name in VARIANTS if options.only in name and name not in ELSEWHERE]
        rows += [show(of_the_service(name)) for name in FAULTS if options.only in name]
        rows += [show(of_the_network(*sky)) for sky in SKIES if options.only in sky[0]]
    if options.namespace or options.cable:
        rows += in_a_namespace(options.only)
    if options.markdown:
        options.markdown.write_text(table(rows))
    bad = [row.fault for row in rows if not row.good]
    print(json.dumps({"faults": len(rows), "bad": bad, "rows": [vars(row) for row in rows]}))
    return 1 if bad else 0


def warm_up() -> None:
    """Hold a turn without a fault: what every life needs once is no fault's memory."""
    with Simulator(think_s=0.05, pace=8) as simulator:
        play(Scene("", "", lambda: None, before=True), simulator, simulator.url)


if __name__ == "__main__":
    sys.exit(main())
