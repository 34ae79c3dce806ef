"""A service that is broken or means harm, tools that do not end, a microphone that makes no sense: the agent lives.

The service here is a socket that says whatever it is told to, as fast as the network takes it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import logging
import os
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest

from device_agent.audio.gate import ATTACK_WINDOW_FRAMES, MAX_TURN_FRAMES, Gate, GatePolicy
from device_agent.audio.playback_buffer import PlaybackBuffer
from device_agent.config.model import ServiceConfig
from device_agent.core.actions import Action, GateMode, ToolResult
from device_agent.core.errors import LinkLost
from device_agent.core.events import (
    Event,
    InterruptConfirmed,
    LinkDown,
    LinkUp,
    PlaybackEnded,
    PlaybackStarted,
    ServiceError,
    TalkEnded,
    ToolCall,
    UserText,
)
from device_agent.core.redaction import Secret
from device_agent.link.manager import LinkManager
from device_agent.link.outbox import Outbox
from device_agent.link.policy import ConnectPlan
from device_agent.net.models import Endpoint
from device_agent.net.transport import Transport
from device_agent.net.websocket import WebSocket
from device_agent.runtime import logs
from device_agent.services.base import Function
from device_agent.services.xai import Xai
from device_agent.tools.command import Command
from device_agent.tools.toolbox import Toolbox
from tests.support.room import PATIENCE_S, RATE, Room, speech
from tests.support.samples import MORE_THAN_A_PIPE_HOLDS
from tests.support.speech_turns import question, turns

pytestmark = pytest.mark.slow

MIB = 1 << 20
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455


def frame(message: str | bytes) -> bytes:
    """Return *message* as a server puts it on the wire."""
    payload = message.encode() if isinstance(message, str) else message
    first = 0x81 if isinstance(message, str) else 0x82
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


def event(kind: str, **fields: object) -> bytes:
    return frame(json.dumps({"type": kind, **fields}))


def sound(pcm: bytes, reply: str = "r1") -> bytes:
    return event("response.output_audio.delta", response_id=reply, delta=base64.b64encode(pcm).decode())


def reply(name: str, pcm: bytes) -> bytes:
    """Return a whole reply."""
    done = event("response.done", response={"id": name, "status": "completed"})
    return event("response.created", response={"id": name}) + sound(pcm, name) + done


def resident() -> int:
    """Return the bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


ASKS = {"input_audio_buffer.commit", "response.create"}
"""What wants a reply: xAI answers what is committed."""
GREETING = event("session.created", session={}) + event("session.updated", session={})


class Hostile:
    """A service that takes every connection, greets, and then says what it is told to say, to the latest one."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1/realtime"
        self._news = threading.Condition()
        self._peers: list[socket.socket] = []
        self._asked = 0
        self._answers: list[str] = []
        self.flooded = 0  # bytes
        self._thread = threading.Thread(target=self._run, name="hostile service", daemon=True)

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            peer.close()
        self._thread.join(PATIENCE_S)

    def say(self, wire: bytes, *, times: int = 1) -> None:
        """Say it; return when the network has taken all of it."""
        with self._news:
            assert self._news.wait_for(lambda: self._peers, PATIENCE_S)
        for _ in range(times):
            self._peers[-1].sendall(wire)

    def flood(self) -> None:
        """Send zeros until the agent reads them no longer."""
        with suppress(OSError):
            while True:
                self.flooded += self._peers[-1].send(bytes(MIB))

    def asked(self, times: int = 1) -> None:
        """Wait until the agent has asked for so many replies in all."""
        with self._news:
            assert self._news.wait_for(lambda: self._asked >= times, PATIENCE_S)

    def answers(self, times: int) -> list[str]:
        """Wait until the agent has given so many answers of tools; return what they say."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._answers) >= times, PATIENCE_S)
            return list(self._answers)

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            peer.settimeout(PATIENCE_S)
            self._greet(peer)
            threading.Thread(target=self._listen, args=(peer,), daemon=True).start()
            with self._news:
                self._peers.append(peer)
                self._news.notify_all()

    def _greet(self, peer: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += peer.recv(4096)
        head = dict(line.split(b": ", 1) for line in asked.split(b"\r\n") if b": " in line)
        key = head[b"Sec-WebSocket-Key"]
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        peer.sendall(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + GREETING)

    def _listen(self, peer: socket.socket) -> None:
        """Read what the agent says; of it, only requests for a reply and answers of tools matter here."""
        with suppress(OSError, struct.error), peer.makefile("rb") as wire:
            while True:
                kind, size = struct.unpack("!BB", wire.read(2))
                size &= 0x7F
                if size > 125:
                    (size,) = struct.unpack("!H", wire.read(2)) if size == 126 else struct.unpack("!Q", wire.read(8))
                mask = itertools.cycle(wire.read(4))
                masked = wire.read(size)
                if kind == 0x81 and size < 400:  # either is short, sound is not
                    self._note(bytes(a ^ b for a, b in zip(masked, mask, strict=False)))

    def _note(self, message: bytes) -> None:
        with self._news:
            said = json.loads(message)
            self._asked += said["type"] in ASKS
            if said.get("item", {}).get("type") == "function_call_output":
                self._answers.append(said["item"]["output"])
            self._news.notify_all()


THAT_WAS_ALL = ServiceError("that was all")


class Watched(Room):
    """A room that forgets what is of no interest here."""

    def _note(self, word: Event | Action, now: float) -> None:
        if not isinstance(word, (UserText, ServiceError)) or word == THAT_WAS_ALL:
            super()._note(word, now)

    def fills_up(self) -> bool:
        """Wait until the playback has no room left; return whether that happened."""
        playback, ends = self.agent.device.playback, time.monotonic() + PATIENCE_S
        while (full := playback._filled > 0.98 * len(playback._buffer)) is False and time.monotonic() < ends:
            threading.Event().wait(0.01)
        return full


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as service:
        yield service


@contextmanager
def written() -> Iterator[io.StringIO]:
    """What is written into the log; and nowhere else, for pytest would keep all of it."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:]
    root.handlers[:] = [logs._Handler(stream)]
    try:
        yield stream
    finally:
        root.handlers[:] = before


# The service ----------------------------------------------------------------------------------------------------------

MANY = 100_000
MANY_WAITING = 5_000
"""Events that may wait for the main thread."""


SAID = "conversation.item.input_audio_transcription.updated"
NOISE: list[Callable[[int], bytes]] = [
    lambda n: frame("{"),
    lambda n: event("error", error={"message": f"no {n}"}),
    lambda n: event(SAID, item_id=f"u{n}", transcript="so and so"),
    lambda n: sound(bytes(20), f"s{n}"),
    lambda n: event(f"what.{n}", n=n),
    lambda n: frame(b"\xff\x00"),
]
"""Things to say, each a little different every time."""


def test_after_a_hundred_thousand_events_at_once_a_question_is_answered(hostile):
    flood = b"".join(NOISE[n % len(NOISE)](n) for n in range(MANY))
    with written() as log_, Watched(service=ServiceConfig(url=hostile.url), mode="always") as room:
        room.happened(LinkUp)
        before = resident()
        hostile.say(flood + event("error", error=THAT_WAS_ALL.message))
        room.happened(ServiceError)
        room.ask()
        hostile.asked()
        hostile.say(reply("r1", b"\x10\x00" * 24000))
        room.happened(PlaybackEnded)
        assert resident() - before < 64 * MIB
    lines = log_.getvalue().splitlines()
    assert any("are only counted" in line for line in lines)
    assert len(lines) < 3 * logs.MAX_ALIKE_LINES
    assert max(map(len, lines)) < logs.MAX_MESSAGE_CHARS + 100


def test_events_do_not_pile_up_before_a_main_thread_that_is_busy(hostile):
    with Watched(service=ServiceConfig(url=hostile.url), mode="always") as room:
        room.happened(LinkUp)
        idle = threading.Event()
        room.agent._observers = (lambda _step: idle.wait(PATIENCE_S) and None,)
        flood = threading.Thread(target=hostile.say, args=(frame("{") * MANY,), daemon=True)
        flood.start()
        inbox, before, ends = room.agent.device.inbox, -1, time.monotonic() + PATIENCE_S
        while (waiting := inbox.qsize()) != before and waiting <= MANY_WAITING and time.monotonic() < ends:
            before = waiting
            idle.wait(0.5)  # never set: so long without a new event means that no more come
        idle.set()
        flood.join(PATIENCE_S)
        assert waiting <= MANY_WAITING


def test_what_is_too_large_is_not_read_at_the_goodbye_either(hostile):
    wire = WebSocket(Endpoint("it", hostile.url))
    with closing(wire):
        wire.open()
        hostile.say(struct.pack("!BBQ", 0x82, 127, 1 << 40))
        flood = threading.Thread(target=hostile.flood, daemon=True)
        flood.start()
        with pytest.raises(LinkLost, match="is the limit"):
            while True:
                wire.receive()
        before = resident()
    flood.join(PATIENCE_S)
    assert hostile.flooded < 16 * MIB
    assert resident() - before < 16 * MIB


def test_a_reply_of_an_hour_waits_outside_and_a_press_ends_it(hostile):
    """What does not fit into the playback is not read; after the cut it is, and thrown away."""
    second = sound(speech()[:48000].ljust(48000, b"\0"))
    with Watched(service=ServiceConfig(url=hostile.url)) as room:
        room.ask()
        hostile.asked()
        before = resident()
        hostile.say(event("response.created", response={"id": "r1"}) + second)
        hour = threading.Thread(target=hostile.say, args=(second,), kwargs={"times": 3599}, daemon=True)
        hour.start()
        room.happened(PlaybackStarted)
        assert room.fills_up()
        assert hour.is_alive()
        assert resident() - before < 32 * MIB
        room.finger.press()
        room.happened(InterruptConfirmed)
        hour.join(PATIENCE_S)
        assert not hour.is_alive()
        heard = len(room.speaker.heard)
        room.microphone.say(speech())
        room.microphone.wait_until_said()
        room.finger.release()
        room.happened(TalkEnded, times=2)
        hostile.say(event("response.done", response={"id": "r1", "status": "cancelled"}))
        hostile.asked(2)
        answer = b"\x10\x00" * 24000
        hostile.say(reply("r2", answer))
        room.happened(PlaybackEnded)
        assert room.speaker.heard[heard:] == answer


def test_a_piece_of_a_reply_as_large_as_a_message_may_be_is_heard(hostile):
    """12 MB of sound in one message: four minutes, of which one fits."""
    with Watched(service=ServiceConfig(url=hostile.url)) as room:
        room.ask()
        hostile.asked()
        pcm = np.random.default_rng(1).integers(-99, 99, 6_000_000).astype(np.int16).tobytes()
        hostile.say(event("response.created", response={"id": "r1"}) + sound(pcm))
        room.happened(PlaybackStarted)
        room.hears_for(3.0)
        assert pcm.startswith(room.speaker.heard)
        room.finger.tap()
        room.happened(InterruptConfirmed)


NONSENSE: list[str | bytes] = [
    '{"type": "response.created", "response": [[]]}',
    '{"type": "response.created", "response": {"id": {"id": 1}}}',
    '{"type": "response.output_audio.delta", "delta": 7, "response_id": []}',
    '{"type": "response.output_audio.delta", "delta": "AAAA="}',
    '{"type": "response.output_audio.delta", "delta": "\\ud800"}',
    '{"type": "response.function_call_arguments.done", "call_id": "c", "name": "set_volume", "arguments": "["}',
    '{"type": "response.function_call_arguments.done", "call_id": {}, "name": [], "arguments": 3}',
    '{"type": "response.done", "response": {"status": 9, "output": {"a": 1}, "status_details": "unimplemented"}}',
    '{"type": "conversation.item.added", "item": {"role": ["user"], "content": {"type": 1}}}',
    '{"type": "error", "error": [{"message": {}}]}',
    '{"type": "error"}',
    '{"type": "session.updated", "session": null}',
    "[" * 50_000,
    '{"type": "x", "n": 1' + "0" * 5000 + "}",
    '{"a": 1' * 3,
    b"\x80\x81\xfe\xff" * 1000,
    b"",
    "",
]


def test_after_any_nonsense_a_question_is_answered(hostile):
    with Watched(service=ServiceConfig(url=hostile.url), abilities=("volume",), mode="always") as room:
        room.happened(LinkUp)
        hostile.say(b"".join(map(frame, NONSENSE)))
        room.ask()
        hostile.asked()
        answer = speech()
        hostile.say(
            event("response.created", response={"id": "a1"}) + sound(answer, "a1") + b"".join(map(frame, NONSENSE[2:]))
        )
        hostile.say(event("response.done", response={"id": "a1", "status": "completed"}))
        room.happened(PlaybackEnded)
        assert room.hears(answer) > 0.999
        assert room.all(LinkDown) == []


def test_a_press_at_the_moment_of_a_goodbye_is_not_forgotten():
    """Between the end of a connection that nothing needs and the rest is a line of the log: a press may come there."""
    outbox, told = Outbox(limit=1000), []
    link = LinkManager([Xai(key=Secret("k"))], outbox, PlaybackBuffer(RATE), told.append, Transport())
    link.dial()
    assert link._decide().service == 0
    link.linger()
    finger = logging.Handler()
    finger.emit = lambda _record: link.dial()
    logger = logging.getLogger("device_agent.link.manager")
    logger.addHandler(finger)
    logger.setLevel(logging.INFO)
    try:
        link._failed(LinkLost("closed the connection with 1001"))
    finally:
        logger.removeHandler(finger)
        logger.setLevel(logging.NOTSET)
        outbox.close()
    assert isinstance(link._decide(), ConnectPlan)


def test_arguments_as_large_as_a_message_may_be_are_refused_and_a_question_is_answered(hostile):
    """Each in one event, or in pieces; the assistant is told of each, and the log has a line of each."""
    call = {"response_id": "r1", "name": "set_volume"}
    done, piece = "response.function_call_arguments.done", "response.function_call_arguments.delta"
    with written() as log_, Watched(service=ServiceConfig(url=hostile.url), abilities=("volume",)) as room:
        room.ask()
        hostile.asked()
        hostile.say(event("response.created", response={"id": "r1"}))
        for n in range(4):
            hostile.say(event(done, **call, call_id=f"c{n}", arguments=json.dumps({"percent": "9" * (15 * MIB)})))
        hostile.say(event(piece, **call, call_id="c4", delta="9" * 100_000), times=300)
        hostile.say(event(done, **call, call_id="c4", arguments=json.dumps({"percent": "9" * MIB})))
        answers = hostile.answers(5)
        kept = sum(len(each.arguments) for each in room.all(ToolCall))
        assert kept < 5 * 40_000
        hostile.say(event("response.done", response={"id": "r1", "status": "completed"}))
        hostile.asked(2)
        answer = b"\x10\x00" * 24000
        hostile.say(reply("r2", answer))
        room.happened(PlaybackEnded)
        assert room.speaker.heard == answer
    assert all("longer than 32768 characters; call it again with less" in each for each in answers)
    assert len([line for line in log_.getvalue().splitlines() if "set_volume" in line]) == 5


# Tools ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os\nwhile True: os.write(1, b'x' * 65536)", "said more than"),
        ("import os\nwhile True: os.write(2, b'x' * 65536)", "said more than"),
        ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", "longer than"),
        ("import os; os.abort()", "status -6"),
        ("import sys; sys.stdin.buffer.read(); sys.exit(b'\\xff\\xfe'.decode('latin-1'))", "ÿ"),
        pytest.param(
            "import os, time; os.close(0); os.close(1); os.close(2); time.sleep(60)",
            "longer than",
        ),
    ],
)
def test_a_tool_that_does_not_behave_is_ended_and_told_of(script, words):
    answers: queue.SimpleQueue[ToolResult] = queue.SimpleQueue()
    function = Function("t", "", {"type": "object"})
    toolbox = Toolbox([Command(function, (sys.executable, "-c", script), 1.0)])
    with closing(toolbox):
        toolbox.run(ToolCall("c", "t", MORE_THAN_A_PIPE_HOLDS), answers.put)
        result = answers.get(timeout=PATIENCE_S)
    assert result.failed
    assert words in json.loads(result.output)["error"]
    assert len(result.output) < 2000


# The microphone -------------------------------------------------------------------------------------------------------


def with_room(sound: np.ndarray, *, offset: float = 0.0) -> np.ndarray:
    """Return *sound* with silence behind it, as a microphone delivers it that adds *offset* to every sample."""
    return np.concatenate([sound, np.zeros(RATE)]) + offset


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(with_room(8 * question()), id="clipping"),
        pytest.param(with_room(question(), offset=600), id="an offset"),
        pytest.param(
            with_room(question() / 4, offset=600),
            id="an offset, and a soft voice",
        ),
        pytest.param(np.concatenate([np.zeros(100 * RATE), with_room(question())]), id="zeros for long"),
    ],
)
def test_a_question_is_one_turn_whatever_the_microphone_does_to_it(sound):
    ((begin, end),) = turns(sound)
    assert 2.5 < end - begin < 3.5


CHANCE, TIME = np.random.default_rng(1), np.arange(10 * RATE) / RATE
RATTLE = 32767 * np.sign(CHANCE.standard_normal(10 * RATE // 100)).repeat(100)
"""A plug that is half out: from rail to rail, at random moments."""
SOFT = 3 * CHANCE.standard_normal(3 * RATE)
"""A quiet room."""


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(np.full(10 * RATE, 32767.0), id="the upper rail"),
        pytest.param(np.full(10 * RATE, -32768.0), id="the lower rail"),
        pytest.param(np.concatenate([SOFT, np.full(7 * RATE, -32768.0)]), id="the lower rail after a while"),
        pytest.param(-32768 * np.exp(-TIME), id="from the rail down to zero"),
        pytest.param(32767.0 * (1 - 2 * (np.arange(10 * RATE) % 2)), id="from rail to rail"),
        pytest.param(RATTLE, id="a rattle"),
        pytest.param(np.concatenate([SOFT, RATTLE]), id="a rattle after a while"),
        pytest.param(32767 * np.sign(np.sin(2 * np.pi * 50 * TIME)), id="hum that clips"),
        pytest.param(32767 + 20_000 * np.sin(2 * np.pi * 100 * TIME), id="hum at the rail"),
        pytest.param(300_000 * np.sin(2 * np.pi * 27 * TIME), id="a rumble that clips"),
        pytest.param(10_000 * CHANCE.standard_normal(10 * RATE), id="a waterfall"),
        pytest.param(np.zeros(10 * RATE), id="nothing"),
        pytest.param(np.arange(10 * RATE) % 3 - 1.0, id="the last bit"),
    ],
)
def test_what_a_broken_microphone_delivers_is_no_turn_and_a_question_after_it_is(sound, rate):
    after = (len(sound) + len(SOFT)) / RATE
    ((begin, end),) = turns(np.concatenate([sound, SOFT, question(), np.zeros(RATE)]), rate)
    assert 0.6 < begin - after < 0.9
    assert 2.5 < end - begin < 3.5


def test_a_turn_of_noise_that_never_ends_ends():
    """A television opens the gate, and keeps it open no longer than any turn may last."""
    gate = Gate(lambda _frame: True, GatePolicy(35, 15))
    gate.set_mode(GateMode.VOICE)
    hour = [item for _ in range(180_000) for item in gate.feed(b"..")]
    ends = [n for n, item in enumerate(hour) if isinstance(item, TalkEnded)]
    assert len(ends) >= 180_000 // (MAX_TURN_FRAMES + ATTACK_WINDOW_FRAMES) - 1
    assert max(b - a for a, b in itertools.pairwise(ends)) <= MAX_TURN_FRAMES + ATTACK_WINDOW_FRAMES + 2
