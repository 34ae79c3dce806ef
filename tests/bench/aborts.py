"""What a connection over TLS leaves behind that is broken off at any instant: `python -m tests.bench.aborts`.

A press may come while a connection is dialled or renewed, and breaks it off from another thread. Here that happens at
random instants: of dials, from the look-up to the first messages, and of renewals, whose turn the old connection has to
answer. Looked for are exceptions other than LinkLost, descriptors that stay open, turns without an answer, and a single
byte outside of a TLS record. Threads change as often as Python can. Prints a table and one line of JSON; the exit
status is 1 where something was found.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import select
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.audio.playback_buffer import PlaybackBuffer
from device_agent.core.errors import AgentError
from device_agent.core.events import Event, LinkUp, ReplyEnded, TalkEnded, TalkStarted, WorkerCrashed
from device_agent.core.redaction import Secret
from device_agent.link.manager import LinkManager
from device_agent.link.outbox import Outbox
from device_agent.net.models import Endpoint
from device_agent.net.transport import Transport
from device_agent.net.websocket import WebSocket
from device_agent.runtime.worker import Worker
from device_agent.services.xai import Xai
from device_agent.simulator import Simulator
from tests.support.authority import Authority

RATE = 24000
SWITCH_S = 1e-6
"""How often threads change."""
MEASURED = 8
"""So many dials say how long one takes."""
LATE = 1.3
"""The last instants are behind the end of a dial: by a third of what it takes."""
ANSWER_S = 40.0
"""A service that took a turn and falls silent is left after 25 s at most, and another connection gets the turn."""
BEGUN_S = 2.0
"""So long after an edit a renewal has begun."""
RENEWED_IN_S = 0.012
"""A press comes within this time after a renewal has begun, and that takes about so long."""


class Records:
    """Reads what a caller sends, piece by piece: is it TLS, and nothing else? (RFC 8446, 5.1.)"""

    KINDS = frozenset(range(20, 25))

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self.plain = b""
        """The beginning of what is not."""

    def read(self, data: bytes) -> None:
        while data and not self.plain:
            if self._left:
                skipped = min(self._left, len(data))
                self._left, data = self._left - skipped, data[skipped:]
                continue
            wanted = 5 - len(self._head)
            self._head += data[:wanted]
            data = data[wanted:]
            if self._head and (self._head[0] not in self.KINDS or self._head[1:2] not in (b"", b"\3")):
                self.plain = bytes(self._head) + data[:40]
            elif len(self._head) == 5:
                self._left = int.from_bytes(self._head[3:], "big")
                self._head.clear()


class Tap:
    """Carries bytes to *port* on this machine and back, and reads those that go there."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._others: dict[socket.socket, socket.socket] = {}
        self._records: dict[socket.socket, Records] = {}  # by the caller
        self.calls, self.plain = 0, []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def __enter__(self) -> Tap:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._thread.join(ANSWER_S)
        for sock in [self._listener, *self._others]:
            sock.close()
        self._selector.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._connect(self._listener.accept()[0])
                elif key.fileobj in self._others:
                    self._carry(key.fileobj)

    def _connect(self, caller: socket.socket) -> None:
        self.calls += 1
        there = socket.create_connection(self._target)
        self._others |= {caller: there, there: caller}
        self._records[caller] = Records()
        for sock in (caller, there):
            sock.settimeout(ANSWER_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ)

    def _carry(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(1 << 16)
            if (records := self._records.get(sock)) is not None:
                records.read(data)
                self.plain += [records.plain] if records.plain else []
            if data:
                self._others[sock].sendall(data)
                return
        except OSError:
            pass
        other = self._others.pop(sock)
        del self._others[other]
        for each in (sock, other):
            self._records.pop(each, None)
            self._selector.unregister(each)
            each.close()


@dataclass
class Found:
    """What *tried* aborts left behind."""

    tried: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    """Tracebacks of what should not be raised."""
    plain: int = 0
    descriptors: int = 0
    unanswered: int = 0

    @property
    def figures(self) -> dict[str, float]:
        return {
            **{name: value for name, value in vars(self).items() if name != "outcomes"},
            "strange": len(self.strange),
        }

    @property
    def bad(self) -> bool:
        return bool(self.strange or self.plain or self.descriptors or self.unanswered)


@contextmanager
def tapped(folder: Path, found: Found) -> Iterator[tuple[Tap, str]]:
    """A service behind TLS and a tap; yields the tap and the file of its authority, and notes what stays open."""
    began, before = time.monotonic(), sys.getswitchinterval()
    authority = Authority(folder / "authority")
    with Simulator("xai", think_s=0.0, pace=64, tls=authority.server()) as simulator, Tap(simulator.port) as tap:
        descriptors = len(os.listdir("/proc/self/fd"))
        sys.setswitchinterval(SWITCH_S)
        try:
            yield tap, str(authority.certificate)
        finally:
            sys.setswitchinterval(before)
            ends = time.monotonic() + ANSWER_S
            while (left := len(os.listdir("/proc/self/fd")) - descriptors) > 0 and time.monotonic() < ends:
                time.sleep(0.05)  # the service may be a moment later
            found.descriptors, found.plain, found.seconds = max(0, left), len(tap.plain), time.monotonic() - began


# Dials ----------------------------------------------------------------------------------------------------------------


def aborted_dials(count: int, folder: Path, seed: int = 1) -> Found:
    """Dial *count* times; each is aborted from another thread at a random instant."""
    found, rng = Found(), random.Random(seed)
    with tapped(folder, found) as (tap, ca_file):
        took = []
        for _ in range(MEASURED):
            began = time.monotonic()
            _dial(tap.port, ca_file, None, found)
            took.append(time.monotonic() - began)
        found.outcomes.clear()
        for _ in range(count):
            _dial(tap.port, ca_file, rng.uniform(0.0, LATE * statistics.median(took)), found)
            found.tried += 1
    return found


def _dial(port: int, ca_file: str, after: float | None, found: Found) -> None:
    """Dial, say something and read; abort *after* so many seconds."""
    wire = WebSocket(
        Endpoint("it", f"wss://127.0.0.1:{port}/v1/realtime", {"Authorization": "Bearer a-long-key"}), 5.0, ca_file
    )
    aborter = threading.Timer(after or 0.0, wire.abort)
    if after is not None:
        aborter.start()
    step = "dialled"
    try:
        wire.open()
        step = "connected"
        for _ in range(3):
            wire.send(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"}))
        while not (wire.pending() or select.select([wire], [], [], ANSWER_S)[0]) or wire.receive() is None:
            wire.ping()
        step = "talked"
    except AgentError:
        step = f"aborted when {step}"
    except BaseException:  # noqa: BLE001  whatever it is
        found.strange.append(traceback.format_exc())
    try:
        wire.close()
    except BaseException:  # noqa: BLE001  whatever it is
        found.strange.append(traceback.format_exc())
    aborter.cancel()
    if after is not None:
        aborter.join()
    found.outcomes[step] += 1


# Renewals -------------------------------------------------------------------------------------------------------------


def presses_in_renewals(count: int, folder: Path, seed: int = 1) -> Found:
    """Renew a connection *count* times; a turn begins at a random instant of each."""
    found, rng = Found(), random.Random(seed)
    with tapped(folder, found) as (tap, ca_file):

        def services(n: int) -> list[Xai]:
            url = f"wss://127.0.0.1:{tap.port}/v1/realtime"
            return [Xai(key=Secret("k"), url=url, ca_file=ca_file, instructions=f"version {n}")]

        inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        outbox, playback = Outbox(1 << 24), PlaybackBuffer(RATE)
        link = LinkManager(services(0), outbox, playback, inbox.put, Transport())
        silent = threading.Event()
        listener = threading.Thread(target=_listen, args=(playback, silent), daemon=True)
        listener.start()
        with closing(outbox), Worker("link", link.run, inbox.put, wake=link.wake, force=link.abort) as worker:
            link.dial()
            _wait(inbox, LinkUp, found)
            for n in range(1, count + 1):
                if not worker.alive:
                    break
                link.linger()
                link.use(services(n), always=False)
                ends = time.monotonic() + BEGUN_S
                while not link._policy.renewing and time.monotonic() < ends:
                    time.sleep(0.001)
                found.outcomes["inside"] += link._policy.renewing
                time.sleep(rng.uniform(0.0, RENEWED_IN_S))
                outbox.put(TalkStarted())
                link.dial()
                outbox.put(bytes(RATE // 5), TalkEnded())
                found.unanswered += not _wait(inbox, ReplyEnded, found)
                found.tried += 1
        silent.set()
        playback.cut()
        playback.close()
        listener.join(ANSWER_S)
        found.outcomes["connections"] = tap.calls
    return found


def _listen(playback: PlaybackBuffer, silent: threading.Event) -> None:
    while not silent.is_set():
        playback.read()


def _wait(inbox: queue.SimpleQueue[Event], kind: type[Event], found: Found) -> bool:
    """Wait for an event of this *kind*; return whether it came."""
    ends = time.monotonic() + ANSWER_S
    while (left := ends - time.monotonic()) > 0:
        with suppress(queue.Empty):
            event = inbox.get(timeout=left)
            if isinstance(event, WorkerCrashed):
                found.strange.append("".join(traceback.format_exception(event.error)))
                return False
            if isinstance(event, kind):
                return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dials", type=int, default=20_000)
    parser.add_argument("--presses", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    figures = {}
    print(f"{'':20}{'tried':>8}{'seconds':>9}{'strange':>9}{'plain':>7}{'open':>6}{'unanswered':>12}")
    for name, bench, count in (
        ("dials aborted", aborted_dials, options.dials),
        ("presses in renewals", presses_in_renewals, options.presses),
    ):
        with tempfile.TemporaryDirectory() as folder:
            found = bench(count, Path(folder), options.seed)
        figures[name] = found
        row = f"{found.tried:8}{found.seconds:9.0f}{len(found.strange):9}{found.plain:7}{found.descriptors:6}"
        print(f"{name:20}{row}{found.unanswered:12}   {dict(found.outcomes)}", flush=True)
        print(*found.strange[:3], sep="\n", end="")
    print(json.dumps({name: found.figures for name, found in figures.items()}))
    return int(any(found.bad for found in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
