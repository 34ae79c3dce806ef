"""A voice service on this machine, for trying the agent without a key, an account or a bill.

It speaks the protocol of a real service, answers each spoken turn with the sound of that very turn, and makes faults
on request. ``with Simulator() as simulator:`` for tests, ``serve`` for people:

    with Simulator(think_s=0) as simulator:
        ...                                   # connect something to simulator.url
        simulator.drop()
        turn = simulator.heard(timeout=5)[-1]

``question.wav`` is something to ask: "What is the weather like in the kitchen today?", 24 kHz, 16 bits, mono, with
0.6 s of room before and 1.6 s behind, speech at -20 dBFS over noise at -65 dBFS. It was made with espeak-ng and sox:

    espeak-ng -v en-gb+f2 -s 150 -w said.wav "What is the weather like in the kitchen today?"
    sox said.wav -r 24000 -b 16 -c 1 clean.wav highpass 80 silence 1 0.01 0.2% reverse silence 1 0.01 0.2% \\
        fade t 0.02 reverse compand 0.005,0.1 6:-40,-40,-10,-12,0,-8 gain 1.8 pad 0.6 1.6
    sox -n -r 24000 -b 16 -c 1 room.wav synth "$(soxi -D clean.wav)" pinknoise highpass 200 gain -n -53 fade t 0.05
    sox -m -v 1 clean.wav -v 1 room.wav -b 16 question.wav

What it knows of a service is in one file for each (``xai.py``, ``xai_live.py``, ``openai.py``, ``litellm.py``,
``ultravox.py``; ``family.py`` is what the first four share), without sockets, threads or a clock; ``server.py`` is the
shell around them; ``manners.py`` is the table of how servers differ, ``faults.py`` that of what can go wrong.
"""

from __future__ import annotations

import queue
import signal
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from types import TracebackType
from typing import Any

from ..core.printable import printable
from .contract import SERVICES, Drop, Goodbye, Heard, Manners, Message, Turn, load
from .engine.behaviour import MANNERS, Manner
from .faults import FAULTS, Act, Fault, Say, Stall, Weather

__all__ = [
    "FAULTS",
    "MANNERS",
    "QUESTION",
    "SERVICES",
    "Fault",
    "Heard",
    "Manner",
    "Manners",
    "Simulator",
    "Turn",
    "serve",
]

QUESTION: Traversable = resources.files(__name__) / "question.wav"
"""A spoken question, as a file."""

MAX_LINES = 1000
"""How many lines may wait for a slow terminal; more are dropped."""


class Simulator:
    """A running voice service. Any thread may call anything here.

    *key* None takes any key that is not empty, *models* None any model. *manner* are names of ``MANNERS``, *faults* of
    ``FAULTS``. *say* is called with each line of what happens, by the threads of the connections. *manners* are the
    fields of ``Manners``. Raises ValueError.
    """

    def __init__(
        self,
        service: str = "xai",
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        *,
        models: Collection[str] | None = None,
        seed: int = 1,
        manner: Iterable[str] = (),
        faults: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        say: Callable[[str], None] = lambda _line: None,
        **manners: Any,
    ) -> None:
        from .server import Server  # here: only who runs a simulator needs the libraries of a server

        self._weather = Weather(Manners(**manners), service, manner)
        for name in faults:
            self._weather.switch(name, True)
        known = None if models is None else frozenset(models)
        wall = time.time() - time.monotonic()
        self._service = load(service)(key=key, models=known, seed=seed, wall=wall)
        self._server = Server(self._service, self._weather, host=host, port=port, tls=tls, say=say)
        shown = f"[{host}]" if ":" in host else host
        self._address = f"{'s' if tls else ''}://{shown}:{self._server.port}"

    def __enter__(self) -> Simulator:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """What to write into a configuration as the service's address, without a model."""
        scheme = "http" if ("POST", self._service.path) in self._service.routes else "ws"
        return f"{scheme}{self._address}{self._service.path}"

    @property
    def origin(self) -> str:
        """Where its plain HTTP is, without a path."""
        return f"http{self._address}"

    @property
    def connections(self) -> list[Heard]:
        """What each connection heard, oldest first; refused handshakes are not among them."""
        with self._server.news:
            return list(self._server.heard)

    @property
    def turns(self) -> list[Turn]:
        """All turns of all connections."""
        return [turn for connection in self.connections for turn in list(connection.turns)]

    # Waiting ----------------------------------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[], object], timeout: float = 5.0) -> bool:
        """Wait until *predicate* is true; return whether it came true within *timeout* seconds."""
        until = time.monotonic() + timeout
        while not predicate():
            left = until - time.monotonic()
            if left <= 0:
                return False
            with self._server.news:
                if not predicate():
                    self._server.news.wait(left)
        return True

    def heard(self, timeout: float = 5.0, turns: int = 1) -> list[Turn]:
        """Wait until so many *turns* were heard in all; return them all. Raises TimeoutError."""
        if not self.wait_for(lambda: len(self.turns) >= turns, timeout):
            raise TimeoutError(f"heard {len(self.turns)} turns in {timeout:g} s, not {turns}")
        return self.turns

    # Switches ---------------------------------------------------------------------------------------------------------

    def fault(self, name: str, on: bool = True) -> None:
        """Switch one of ``FAULTS`` or ``MANNERS`` on or off, for connections open and to come."""
        self._weather.switch(name, on)

    def heal(self) -> None:
        """Switch everything off that was switched on. What was dropped stays dropped."""
        for name in self._weather.names:
            self._weather.switch(name, False)
        self.refuse(None)
        self.hang_handshake(False)
        self.stall(False)
        self._act(Stall(False))

    def refuse(self, status: int | None) -> None:
        """Answer handshakes, and any request, with this HTTP *status*; None: welcome them again."""
        self._weather.refused = status

    def hang_handshake(self, on: bool = True) -> None:
        """Take TCP connections and never answer them. Handshakes that hang stay lost."""
        self._weather.hanging = on

    def stall(self, on: bool = True) -> None:
        """Read and say nothing, not even a pong; when that ends, everything held back is said."""
        self._weather.stalling = on
        for connection in self._server.connections():
            connection.wake()

    def drop(self) -> None:
        """Kill the TCP connection of everybody, without a goodbye."""
        self._act(Drop())

    def goodbye(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye to everybody."""
        if not 1000 <= code <= 4999 or code in (1004, 1005, 1006, 1015):
            raise ValueError(f"{code} is not a close code: it should be from 1000 to 4999")
        self._act(Goodbye(code, reason))

    def inject(self, message: Message) -> None:
        """Say *message* to everybody, as it is: a text frame for str, a binary one for bytes."""
        self._act(Say(message))

    def _act(self, act: Act) -> None:
        for connection in self._server.connections():
            connection.do(act)


def print_now(line: str) -> None:
    """Print a *line* that is seen at once, by a pipe too."""
    print(line, flush=True)


def serve(
    service: str = "xai",
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    key: str | None = None,
    manner: Iterable[str] = (),
    faults: Iterable[str] = (),
    tls: ssl.SSLContext | None = None,
    show: Callable[[str], object] = print_now,
    **options: Any,
) -> None:
    """Run a simulator until SIGINT or SIGTERM, and *show* a line for each thing that happens. Main thread only."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # a signal handler may put into this kind of queue

    def say(line: str) -> None:
        if lines.qsize() < MAX_LINES:
            lines.put(printable(line))

    before = {sign: signal.signal(sign, lambda *_: lines.put(None)) for sign in (signal.SIGINT, signal.SIGTERM)}
    manner, faults = list(manner), list(faults)
    try:
        with Simulator(
            service, host, port, key, manner=manner, faults=faults, tls=tls, say=say, **options
        ) as simulator:
            show(f"listening on {simulator.url}")
            for name in manner:
                show(f"manner {name}: {MANNERS[name].says}")
            for name in faults:
                show(f"fault {name}: {FAULTS[name].says}")
            while (line := lines.get()) is not None:
                show(line)
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def listed(table: Mapping[str, Manner]) -> str:
    """Return a line for each entry of *table*: its name, what it is, and with which services it makes sense."""
    width = max(map(len, table))
    lines = []
    for name, entry in table.items():
        only = f" ({', '.join(entry.services)})" if entry.services else ""
        lines.append(f"{name:{width}}  {entry.says}{only}")
    return "\n".join(lines)
