"""What one would use instead: a short program for each, as its own documentation does it, and what it cannot do.

Each is a program of its own with an environment of its own, which `make test-beside` makes in ``.peers``: nothing here
imports them. What they have in common is how they are used:

- ``BENCH_URL`` is the address of an OpenAI Realtime service, ``OPENAI_API_KEY`` its key, ``SSL_CERT_FILE`` the
  authority behind its certificate. The sound is that of ALSA's default devices, 24 kHz, 16 bits, mono.
- A line on standard input is the button: the first presses it, the second lets it go, and so on. While it is held the
  microphone is sent, and only the button decides when a turn begins or ends.
- The line ``ready`` on standard output says that the session is. The end of standard input ends the program, and so
  does SIGTERM.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[3] / ".peers"

READY = "ready"
"""The line that says so."""


@dataclass(frozen=True)
class Peer:
    """One of them. *name* is that of its program, of its requirements and of its environment.

    *cards* are those of ``cards`` that carry it, "fifo" or "pulse", the more exact one first. *frame_ms* is how much
    sound it puts into a message, which is its own habit. *buffer_ms* is how much its loudspeaker holds at most: a card
    that takes sound in larger blocks hears gaps. *cannot* is what no row can ask of it, in words of ``CANNOT``; *note*
    what a reader of the table has to know.
    """

    name: str
    note: str
    cards: tuple[str, ...] = ("fifo", "pulse")
    frame_ms: int = 20
    buffer_ms: float = 40.0
    cannot: frozenset[str] = frozenset()

    @property
    def command(self) -> list[str]:
        """What to start it with."""
        return [str(ENVIRONMENTS / self.name / "bin" / "python"), str(HERE / f"{self.name}.py")]

    @property
    def installed(self) -> bool:
        """Whether `make test-beside` has made its environment."""
        return (ENVIRONMENTS / self.name / ".ready").exists()


CANNOT = {
    "silence": "a press leaves the reply playing",
    "press": "no button: the microphone is always sent",
    "openai": "another protocol: nothing of the wire can be compared",
}
"""What a peer may be unable to do, and what that means for a row."""

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "floor",
            "websockets (asyncio) with arecord and aplay as children: the floor of what one writes with ready programs",
            buffer_ms=500.0,
        ),
        Peer(
            "bare",
            "websocket-client, threads, PyAudio's blocking calls: the least that one could write with our libraries",
        ),
        Peer(
            "callbacks",
            "websockets (asyncio) and sounddevice's raw streams with callbacks, both of which run always",
            buffer_ms=20.0,
        ),
        Peer(
            "openai_push_to_talk",
            "the openai package's push-to-talk example without its screen: AsyncOpenAI, sounddevice; spins as written",
            cannot=frozenset({"silence"}),
        ),
        Peer(
            "pipecat_local",
            "pipecat with its local transport (PyAudio) and its OpenAI Realtime service; no VAD, no context",
            buffer_ms=8.0,
        ),
        Peer(
            "satellite",
            "wyoming-satellite with arecord and aplay: another protocol, raw 16 kHz, sent while somebody is connected",
            cards=("pulse",),
            frame_ms=64,
            cannot=frozenset({"silence", "press", "openai"}),
        ),
    )
}
"""Name -> peer, the lightest first."""
