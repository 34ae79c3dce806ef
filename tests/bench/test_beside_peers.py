"""What we are measured beside works: each of the others answers a spoken question, on each card that it is said to."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from device_agent.dsp.correlation import likeness
from device_agent.dsp.resampling import resample
from device_agent.simulator import Simulator
from tests.bench.beside.card import BLOCK_S, CARDS, AnyCard
from tests.bench.beside.peers import CANNOT, HERE, PEERS, READY, Peer
from tests.bench.beside.peers.hub import Hub
from tests.support.authority import Authority
from tests.support.cards import FifoCard, need, wait_for
from tests.support.room import speech

RATE = 24000
PATIENCE_S = 30.0
AWAKE_S = 1.0
"""How long a press comes before the first word: one that has not read its microphone for a while begins with what is
old, and one begins to speak to a card that has not begun to run."""

TALKERS = [(peer, card) for peer in PEERS.values() if not peer.cannot & {"press", "openai"} for card in peer.cards]
STALE = ("openai_push_to_talk", "pulse")
"""Does not read its microphone between two turns, and a sound server keeps for it all that it did not read."""


class Program:
    """A peer that runs, with a button."""

    def __init__(self, peer: Peer, env: dict[str, str]) -> None:
        assert peer.installed, f"{peer.name} is not installed: make test-beside does that"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(peer.command, env={**os.environ, **env}, text=True, bufsize=1, **pipes)
        self._said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(lambda: READY in self._said, f"{peer.name} to be ready")

    def toggle(self) -> None:
        """Press the button, or let it go."""
        self.process.stdin.write("\n")

    def close(self) -> None:
        self.process.kill()
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)

    def _read(self) -> None:
        for line in self.process.stdout:
            self._said.append(line.strip())


@contextmanager
def simulated(tls: ssl.SSLContext | None = None) -> Iterator[Simulator]:
    with Simulator("openai", key="sk-right", think_s=0.05, tls=tls) as running:
        yield running


@contextmanager
def running(peer: Peer, card: AnyCard, url: str, **env: str) -> Iterator[Program]:
    """Start *peer* between *card* and the service at *url*."""
    card.look_s = min(BLOCK_S, peer.buffer_ms / 4000)
    with ExitStack() as ends:
        program = Program(peer, {**card.env, "BENCH_URL": url, "OPENAI_API_KEY": "sk-right", **env})
        ends.callback(program.close)
        yield program


def ask(program: Program, card: AnyCard, pcm: bytes) -> None:
    """Hold the button, and say *pcm*."""
    program.toggle()
    card.giver.said(card.giver.say(bytes(2 * round(AWAKE_S * RATE)) + pcm + bytes(RATE)))
    program.toggle()


def play_on(seconds: float) -> None:
    """Wait as long as a card takes to play so much."""
    threading.Event().wait(seconds)


def ids(value: object) -> str:
    return value.name if isinstance(value, Peer) else str(value)


@pytest.mark.beside
@pytest.mark.parametrize(("peer", "kind"), TALKERS, ids=ids)
def test_a_spoken_question_gets_a_spoken_answer(peer, kind):
    with simulated() as service, CARDS[kind]() as card, running(peer, card, service.url) as program:
        ask(program, card, speech())
        turn = service.heard(PATIENCE_S)[0]
        card.loudspeaker()
        play_on(len(turn.pcm) / 2 / RATE + 1)
        heard = card.loudspeaker().wave.tobytes()
    assert likeness(speech(), turn.pcm)[0] > 0.99
    assert card.giver.ledger().find(turn.pcm[-RATE:]) is not None  # not a sample of it was changed
    assert likeness(turn.pcm[-2 * RATE :], heard)[0] > 0.99


@pytest.mark.beside
@pytest.mark.parametrize(("peer", "kind"), [each for each in TALKERS if (each[0].name, each[1]) != STALE], ids=ids)
def test_a_press_during_a_reply_begins_another_turn_and_silences_those_that_can(peer, kind):
    with simulated() as service, CARDS[kind]() as card, running(peer, card, service.url) as program:
        ask(program, card, speech() * 3)
        service.heard(PATIENCE_S)
        play_on(1)
        pressed = time.monotonic()
        ask(program, card, speech())
        silent = card.loudspeaker().silent(pressed - 0.2)
        second = service.heard(PATIENCE_S, turns=2)[1]
    assert likeness(speech(), second.pcm)[0] > 0.99
    if "silence" not in peer.cannot:
        assert silent is not None
        assert silent < pressed + AWAKE_S


@pytest.mark.beside
@pytest.mark.parametrize("name", [peer.name for peer in PEERS.values() if "openai" not in peer.cannot])
def test_a_peer_trusts_the_authority_that_it_is_given(name, tmp_path):
    authority = Authority(tmp_path / "authority")
    with simulated(authority.server()) as service, CARDS["fifo"]() as card:
        with running(PEERS[name], card, service.url, SSL_CERT_FILE=str(authority.certificate)):
            assert service.url.startswith("wss://")
            assert len(service.connections) == 1


@pytest.mark.beside
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("how", ["the end of its input", "SIGTERM"])
def test_it_ends_when_it_is_told_to(name, how):
    peer = PEERS[name]
    with simulated() as service, CARDS[peer.cards[0]]() as card, running(peer, card, service.url) as program:
        if how == "SIGTERM":
            program.process.send_signal(signal.SIGTERM)
        else:
            program.process.stdin.close()
        assert program.process.wait(PATIENCE_S) == 0


@pytest.mark.beside
def test_the_satellite_hears_and_speaks():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    peer = PEERS["satellite"]
    with CARDS["pulse"]() as card, running(peer, card, "", BENCH_SATELLITE_PORT=str(port)), Hub(port) as hub:
        hub.heard(0.5)
        card.giver.said(card.giver.say(speech()))
        up = hub.heard(len(hub.heard()) / 32000 + 0.5)
        card.loudspeaker()
        hub.say(resample(speech(), RATE, 22050) + bytes(22050))
        play_on(3)
        heard = card.loudspeaker().wave.tobytes()
    assert likeness(speech()[9600:-9600], resample(up, 16000, RATE))[0] > 0.98
    assert likeness(speech()[9600:-9600], heard)[0] > 0.95


BLOCKING = """
import sys, pyaudio
sound = pyaudio.PyAudio()
heard = sound.open(24000, 1, pyaudio.paInt16, input=True, frames_per_buffer=480)
said = sound.open(24000, 1, pyaudio.paInt16, output=True, frames_per_buffer=480)
for _ in range(50):
    said.write(heard.read(480))
said.write(bytes(9600))
"""


def test_a_card_works_with_a_program_that_waits_in_portaudio():
    """PortAudio polls where there is nothing to read or no room: it neither gets a sample twice nor loses one."""
    with FifoCard(RATE) as card:
        card.play(speech()[:48000] + bytes(4800))
        program = card.program(BLOCKING)
        heard = bytearray()
        wait_for(lambda: heard.extend(card.heard()) or speech()[:48000] in heard, "the echo")
        program.kill()


def test_a_card_works_with_a_program_that_waits_in_alsa():
    need("arecord", "aplay")
    raw = "-q -t raw -f S16_LE -r 24000 -c 1"
    with FifoCard(RATE, paced=True) as card:
        card.play(speech()[:48000] + bytes(48000))
        command = f"arecord {raw} --period-time=20000 -d 2 | aplay {raw}"
        subprocess.run(command, shell=True, env={**os.environ, **card.env}, timeout=PATIENCE_S, check=True)  # noqa: S602
        assert speech()[:48000] in card.heard()


def test_each_has_a_program_and_requirements_that_are_pinned():
    for peer in PEERS.values():
        assert Path(peer.command[1]).exists()
        lines = (HERE / f"{peer.name}.txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)
    assert {path.stem for path in HERE.glob("*.txt")} == set(PEERS)


def test_what_one_cannot_is_explained():
    assert {word for peer in PEERS.values() for word in peer.cannot} == set(CANNOT)
