"""What a service and its client said to each other, as a file, and the player that plays it to a session of ours.

One JSON object a line. ``message`` is a frame that was ``received`` from the service or ``sent`` by the client,
``close`` is the end of a connection. The files in ``sequences`` have more: a ``meaning`` in their first line, what all
of it comes to; ``wait``, time that passes; ``cut``, a press that silenced the reply after *heard_ms*; ``ends``, the end
of a turn where no message tells of it. Sound is ``{"tone": hertz, "bytes": [first, end]}``, a part of a tone, so that
the files can be read and no sample of it can be taken for another.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.events import (
    Event,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    TalkEnded,
    TalkStarted,
    TextTurn,
    TurnEndedByService,
)
from tests.support.peers import Peer, UltravoxPeer

SEQUENCES = Path(__file__).parent / "sequences"
RATE = 24000
LEVEL = 8000
PATIENCE_S = 4.0
"""How long a session may take before it says what the client of the file said at this point."""
SERVER_VAD = "server_vad"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of *path*, with sound in place of its description."""
    return [_sounding(json.loads(line)) for line in path.read_text().splitlines()]


def received(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any] | bytes]:
    """Yield what the service says in *lines*."""
    yield from (line["data"] for line in lines if line.get("direction") == "received")


def tone(hertz: int, first: int, end: int) -> bytes:
    """Return the bytes *first* to *end* of a tone, s16le mono at RATE."""
    wave = LEVEL * np.sin(np.arange(end // 2 + 1) * (2 * np.pi * hertz / RATE))
    return wave.astype("<i2").tobytes()[first:end]


def _sounding(value: Any, key: str = "") -> Any:
    """Base64 inside of a message; bytes where the sound is the message."""
    if isinstance(value, dict) and value.keys() == {"tone", "bytes"}:
        sound = tone(value["tone"], *value["bytes"])
        return base64.b64encode(sound).decode() if key in {"delta", "audio"} else sound
    if isinstance(value, dict):
        return {name: _sounding(each, name) for name, each in value.items()}
    return [_sounding(each) for each in value] if isinstance(value, list) else value


@dataclass
class Reply:
    """What was told of one reply, in the agent's words."""

    text: str = ""
    pcm: bytes = b""
    started: int = 0
    ended: ReplyEnded | None = None


class Play:
    """Plays *lines* to sessions with *service*, one for each connection. What the client said in them is done as the
    agent would do it: then the session must say the same, in *PATIENCE_S* of its own time."""

    def __init__(self, lines: Iterable[dict[str, Any]], service: str, options: dict[str, Any]) -> None:
        self._service, self._options = service, options
        self.events: list[Event] = []
        self.cut: list[str] = []
        self.beyond: list[dict[str, Any]] = []
        """What was said that the client of the file did not say."""
        self.sessions = [peer.session for peer in self._connections(lines)]

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def replies(self) -> dict[str, Reply]:
        """All of which anything was told, by name, in order. Raises AssertionError where one goes on after its end."""
        found: dict[str, Reply] = {}
        for event in self.events:
            if isinstance(event, (ReplyStarted, ReplyText, ReplyAudio, ReplyEnded)):
                _note(found.setdefault(event.reply, Reply()), event)
        return found

    # Playing ----------------------------------------------------------------------------------------------------------

    def _connections(self, lines: Iterable[dict[str, Any]]) -> Iterator[Peer]:
        self._connect()
        for line in lines:
            match line["kind"]:
                case "message":
                    (self._receive if line["direction"] == "received" else self._send)(line["data"])
                case "wait":
                    self._tell(self._peer.wait(line["seconds"]))
                case "cut":
                    self._cut(line["heard_ms"])
                case "ends":
                    self._end_turn()
                case "close":
                    yield self._hang_up()
                    self._connect()
        yield self._hang_up()

    def _connect(self) -> None:
        kind = UltravoxPeer if self._service == "ultravox" else Peer
        self._peer = kind(self._service, self._options)
        self._talking, self._taken, self._typed = False, False, ""
        self._matched: set[int] = set()

    def _hang_up(self) -> Peer:
        self.beyond += [frame for _, frame in self._unmatched()]
        return self._peer

    def _receive(self, data: dict[str, Any] | bytes) -> None:
        if isinstance(data, dict) and data["type"] == "input_audio_buffer.speech_started":
            self._taken = False
        self._tell(self._peer.say(data))

    def _tell(self, events: Iterable[Event]) -> None:
        events = list(events)
        self.events += events
        if self._talking and any(isinstance(each, TurnEndedByService) for each in events):
            self._end_turn()
            self._taken = True

    def _send(self, data: dict[str, Any] | bytes) -> None:
        """Let the user, or a tool, do what the client told of."""
        match data:
            case bytes():
                self._speak(data)
            case {"type": "input_audio_buffer.append", "audio": audio}:
                self._speak(base64.b64decode(audio))
            case {"type": "conversation.item.create", "item": {"type": "message", "role": role, "content": content}}:
                if role == "user":
                    self._typed = next((part["text"] for part in content if "text" in part), "")
            case {"type": "conversation.item.create", "item": {"call_id": call, "output": output}}:
                self._peer.send(ToolResult(call, output))
                self._wait_for({"type": data["type"], "item": {"call_id": call, "output": output}})
            case {"type": "client_tool_result", "invocationId": call, "result": output}:
                self._peer.send(ToolResult(call, output))
                self._wait_for(data)
            case _:
                self._command(data)

    def _command(self, data: dict[str, Any]) -> None:
        match data["type"]:
            case "input_audio_buffer.commit":
                self._end_turn()
            case "response.create" if self._typed:
                self._type()
            case "response.cancel" if self._under_way():
                self._cut(0)
        self._wait_for(data if data["type"] == "conversation.item.truncate" else {"type": data["type"]})

    def _type(self) -> None:
        """What was written last is the turn; what was written before it is repeated from another conversation."""
        typed, self._typed = self._typed, ""
        self._peer.send(TextTurn(typed))
        self._wait_for({"type": "conversation.item.create", "item": {"role": "user", "content": [{"text": typed}]}})

    def _speak(self, pcm: bytes) -> None:
        """A client whose microphone is always open goes on after a turn; for us it begins with the next word."""
        if self._taken:
            return
        if not self._talking:
            self._talking = True
            self.cut += self._under_way()
            self._peer.send(TalkStarted())
        self._peer.send(pcm)

    def _end_turn(self) -> None:
        self._talking = False
        self._peer.send(TalkEnded())

    def _cut(self, heard_ms: int) -> None:
        (reply,) = self._under_way()
        self.cut.append(reply)
        self._peer.send(CancelReply(reply, heard_ms))

    def _under_way(self) -> list[str]:
        """Return the replies that are neither over nor cut."""
        return [name for name, reply in self.replies.items() if not reply.ended and name not in self.cut]

    def _wait_for(self, said: dict[str, Any]) -> None:
        end = self._peer.now + PATIENCE_S
        while not (found := [number for number, frame in self._unmatched() if _holds(frame, said)]):
            assert self._peer.now < end, f"never said: {said}; but {[frame['type'] for _, frame in self._unmatched()]}"
            self._tell(self._peer.wait(0.1))
        self._matched.add(found[0])

    def _unmatched(self) -> list[tuple[int, dict[str, Any]]]:
        frames = enumerate(self._peer.frames())
        return [
            (number, frame)
            for number, frame in frames
            if number not in self._matched and frame["type"] != "input_audio_buffer.append"
        ]


def _note(reply: Reply, event: Event) -> None:
    assert not reply.ended, f"{event} after {reply.ended}"
    match event:
        case ReplyStarted():
            assert not reply.pcm
            reply.started += 1
        case ReplyText(_, text):
            reply.text += text
        case ReplyAudio(_, pcm):
            assert reply.started == 1
            reply.pcm += pcm
        case ReplyEnded():
            reply.ended = event


def _holds(ours: Any, wanted: Any) -> bool:
    """Whether all that is in *wanted* is in *ours*, which may say more."""
    if isinstance(wanted, dict):
        return isinstance(ours, dict) and all(_holds(ours.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(ours, list) and len(ours) == len(wanted) and all(map(_holds, ours, wanted))
    return bool(ours == wanted)


# Recordings -----------------------------------------------------------------------------------------------------------

DIALECTS = {"xai": "xai", "openai": "openai", "azure": "openai"}
"""How the name of a recording begins -> which service speaks like it."""


@cache
def understood(path: Path) -> tuple[str, dict[str, Any]]:
    """Return service and options of the client whose traffic was recorded in *path*, by its name and settings."""
    settings = [line["data"]["session"] for line in read(path) if _settles(line)]
    assert settings, f"{path}: the client never said what it wants"
    detection = settings[0].get("turn_detection") or settings[0].get("audio", {}).get("input", {}).get("turn_detection")
    options = {
        "service_ends": (detection or {}).get("type") == SERVER_VAD,
        "text_only": settings[0].get("output_modalities") == ["text"],
    }
    (service,) = {DIALECTS[name] for name in DIALECTS if path.name.startswith(name)}
    return service, options


def _settles(line: dict[str, Any]) -> bool:
    return line.get("direction") == "sent" and line["data"].get("type") == "session.update"
