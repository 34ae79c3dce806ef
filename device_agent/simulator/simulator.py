"""A voice service in this process, for tests and the demo."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from .contract import Behaviour, ConnectionLog, Drop, Goodbye, Message, Turn, load
from .faults import Act, FaultSwitches, Say, Stall

QUESTION: Traversable = resources.files(__package__) / "question.wav"
"""Something to ask: "What is the weather like in the kitchen today?", 24 kHz, 16 bits, mono, with 0.6 s of room before
and 1.6 s behind, speech at -20 dBFS over noise at -65 dBFS. It was made with espeak-ng (-v en-gb+f2 -s 150) and sox."""


class Simulator:
    """A running voice service. Any thread may call anything here.

    *key* None accepts any key that is not empty, *models* None any model. *manner* are names of ``VARIANTS``, *faults*
    of ``FAULTS``. *say* is called with each line of what happens, by the threads of the connections. *behaviour* are
    fields of ``Behaviour``. Raises ValueError.
    """

    def __init__(
        self,
        service: str = "xai",
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        *,
        models: Collection[str] | None = None,
        manner: Iterable[str] = (),
        faults: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        say: Callable[[str], None] = lambda _line: None,
        **behaviour: Any,
    ) -> None:
        from .server import Server  # here: only a running simulator needs the libraries of a server

        self._switches = FaultSwitches(Behaviour(**behaviour), service, manner)
        for name in faults:
            self._switches.switch(name, True)
        wall = time.time() - time.monotonic()
        self._service = load(service)(key=key, models=models, wall=wall)
        self._server = Server(self._service, self._switches, host=host, port=port, tls=tls, report=say)
        shown = f"[{host}]" if ":" in host else host
        self._address = f"{'s' if tls else ''}://{shown}:{self._server.port}"

    def __enter__(self) -> Simulator:
        self._server.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.stop()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """The service's address for a configuration, without a model."""
        scheme = "http" if ("POST", self._service.path) in self._service.routes else "ws"
        return f"{scheme}{self._address}{self._service.path}"

    @property
    def origin(self) -> str:
        """The address of its plain HTTP, without a path."""
        return f"http{self._address}"

    @property
    def connections(self) -> list[ConnectionLog]:
        """The log of each connection, oldest first; refused handshakes are not among them."""
        with self._server.changed:
            return list(self._server.logs)

    @property
    def turns(self) -> list[Turn]:
        """All turns of all connections."""
        return [turn for connection in self.connections for turn in list(connection.turns)]

    # Waiting ----------------------------------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[], object], timeout: float = 5.0) -> bool:
        """Wait until *predicate* is true; return whether it became true within *timeout* seconds."""
        until = time.monotonic() + timeout
        while not predicate():
            left = until - time.monotonic()
            if left <= 0:
                return False
            with self._server.changed:
                if not predicate():
                    self._server.changed.wait(left)
        return True

    def heard(self, timeout: float = 5.0, turns: int = 1) -> list[Turn]:
        """Wait until so many *turns* came in all; return them all. Raises TimeoutError."""
        if not self.wait_for(lambda: len(self.turns) >= turns, timeout):
            raise TimeoutError(f"heard {len(self.turns)} turns in {timeout:g} s, not {turns}")
        return self.turns

    # Switches ---------------------------------------------------------------------------------------------------------

    def fault(self, name: str, on: bool = True) -> None:
        """Switch one of ``FAULTS`` or ``VARIANTS`` on or off, for connections open and to come. Raises ValueError."""
        self._switches.switch(name, on)

    def heal(self) -> None:
        """Switch everything off that was switched on. What was dropped stays dropped."""
        for name in list(self._switches.on):
            self._switches.switch(name, False)
        self.refuse(None)
        self.stall(False)

    def refuse(self, status: int | None) -> None:
        """Answer handshakes, and any request, with this HTTP *status*; None: accept them again."""
        self._switches.refused = status

    def stall(self, on: bool = True) -> None:
        """Send nothing, not even a pong; when that ends, everything held back is sent."""
        self._switches.stalling = on
        self._act(Stall(on))

    def drop(self) -> None:
        """Reset the TCP connection of every client."""
        self._act(Drop())

    def goodbye(self, code: int = 1000, reason: str = "") -> None:
        """Close every connection with a closing handshake. Raises ValueError."""
        if not 1000 <= code <= 4999 or code in (1004, 1005, 1006, 1015):
            raise ValueError(f"{code} is not a close code: it should be from 1000 to 4999")
        self._act(Goodbye(code, reason))

    def inject(self, message: Message) -> None:
        """Send *message* to every client as it is: a text frame for str, a binary one for bytes."""
        self._act(Say(message))

    def _act(self, act: Act) -> None:
        for connection in self._server.connections():
            connection.do(act)
