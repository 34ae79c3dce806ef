"""The other side of every session, with hands: what each service says in the situations that all of them know."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from device_agent.core.events import Event
from device_agent.core.redaction import Secret
from device_agent.net.models import Message
from device_agent.services.base import Function, Service
from device_agent.services.registry import load

KEY = "sk-very-secret"
JOIN = "wss://voice.example/join/very-secret"
TIMER = Function(
    "set_timer", "Set a timer.", {"type": "object", "properties": {"s": {"type": "integer"}}, "required": ["s"]}
)


@dataclass
class Peer:
    """One service under test, its session, and the hands to play the service with. Time passes when we say so."""

    name: str
    options: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.service: Service = load(self.name)(key=Secret(KEY), functions=(TIMER,), **self.options)
        self.session = self.service.session()
        self.now = 100.0
        self.sent: list[Message] = []
        self.session.tick(self.now)
        self.session.greet()
        self._collect()

    def ready(self) -> list[Event]:
        """Let the session become ready."""
        return self.say(*self.opening()) + (self.wait(1.1) if self.name == "xai-live" else [])

    def wait(self, seconds: float) -> list[Event]:
        """Let time pass, in steps like those of the link."""
        events, end = [], self.now + seconds
        while self.now < end:
            due = self.session.deadline
            self.now = min(end, max(self.now + 0.001, due) if due is not None else end)
            events += self.session.tick(self.now)
            self._collect()
        return events

    def send(self, *items: object) -> list[Message]:
        """Do what the user or the conversation does; return what went up."""
        before = len(self.sent)
        for item in items:
            self.session.tick(self.now)
            self.session.send(item)
            self._collect()
        return self.sent[before:]

    def say(self, *messages: Message | dict) -> list[Event]:
        """Do what the service does; return what that meant."""
        events: list[Event] = []
        for message in messages:
            events += self.session.tick(self.now)
            events += self.session.receive(json.dumps(message) if isinstance(message, dict) else message)
            self._collect()
        return events

    def _collect(self) -> None:
        self.sent += self.session.outgoing()

    def frames(self) -> list[dict]:
        """Return the events that went up."""
        return [json.loads(message) for message in self.sent if isinstance(message, str)]

    # The same situations for all; the family of OpenAI is the rule, the others differ ------------------------------

    def opening(self) -> list[dict]:
        if self.name == "xai-live":
            return []
        greeting = [{"type": "session.created", "session": {}}]
        if self.name == "xai":
            greeting.append({"type": "conversation.created", "conversation": {"id": "c1"}})
        return [*greeting, {"type": "session.updated", "session": {}}]

    def hears(self) -> bytes:
        """Return the sound that arrived."""
        appended = [frame["audio"] for frame in self.frames() if frame["type"] == "input_audio_buffer.append"]
        return b"".join(map(base64.b64decode, appended))

    def takes_turn(self) -> list[dict]:
        return [] if self.name == "xai-live" else [{"type": "input_audio_buffer.committed", "item_id": "u"}]

    def begins(self, reply: str) -> list[dict]:
        return [] if self.name == "xai-live" else [{"type": "response.created", "response": {"id": reply}}]

    def sounds(self, reply: str, pcm: bytes) -> Message | dict:
        return {"type": "response.audio.delta", "delta": base64.b64encode(pcm).decode(), **self._of(reply)}

    def writes(self, reply: str, text: str) -> dict:
        return {"type": "response.audio_transcript.delta", "delta": text, **self._of(reply)}

    def _of(self, reply: str) -> dict:
        return {} if self.name == "xai-live" else {"response_id": reply}

    def ends(self, reply: str) -> list[dict]:
        if self.name == "xai-live":
            return []
        return [{"type": "response.done", "response": {"id": reply, "status": "completed", "output": []}}]

    def calls(self, reply: str, call: str) -> list[dict]:
        item = {"type": "function_call", "id": f"i{call}", "call_id": call, "name": "set_timer"}
        arguments = {"item_id": f"i{call}", "call_id": call, "arguments": '{"s": 3}'}
        return [
            {"type": "response.output_item.added", "item": item, **self._of(reply)},
            {"type": "response.function_call_arguments.done", **arguments, **self._of(reply)},
        ]

    def answers(self) -> list[tuple[str, str]]:
        """Return call and output of every answer that arrived."""
        items = [frame["item"] for frame in self.frames() if frame["type"] == "conversation.item.create"]
        return [(item["call_id"], item["output"]) for item in items if item["type"] == "function_call_output"]

    def words(self) -> list[str]:
        """Return every typed turn that arrived."""
        items = [frame["item"] for frame in self.frames() if frame["type"] == "conversation.item.create"]
        return [part["text"] for item in items for part in item.get("content", []) if part["type"] == "input_text"]


class UltravoxPeer(Peer):
    """Ultravox speaks of states, and sends sound as it is."""

    def opening(self) -> list[dict]:
        return [{"type": "call_started", "callId": "k1"}, {"type": "state", "state": "listening"}]

    def hears(self) -> bytes:
        return b"".join(message for message in self.sent if isinstance(message, bytes)).strip(b"\0")

    def takes_turn(self) -> list[dict]:
        return [{"type": "state", "state": "thinking"}]

    def begins(self, reply: str) -> list[dict]:
        return [{"type": "state", "state": "speaking"}]

    def sounds(self, reply: str, pcm: bytes) -> bytes:
        return pcm

    def writes(self, reply: str, text: str) -> dict:
        return {"type": "transcript", "role": "agent", "delta": text, "final": False, "ordinal": int(reply[1:])}

    def ends(self, reply: str) -> list[dict]:
        return [{"type": "state", "state": "listening"}]

    def calls(self, reply: str, call: str) -> list[dict]:
        asked = {"toolName": "set_timer", "invocationId": call, "parameters": {"s": 3}}
        return [{"type": "state", "state": "thinking"}, {"type": "client_tool_invocation", **asked}]

    def answers(self) -> list[tuple[str, str]]:
        found = [frame for frame in self.frames() if frame["type"] == "client_tool_result"]
        return [(frame["invocationId"], frame.get("result") or frame["errorMessage"]) for frame in found]

    def words(self) -> list[str]:
        return [frame["text"] for frame in self.frames() if frame["type"] == "user_text_message" and frame["text"]]


PEERS: dict[str, Callable[[], Peer]] = {
    "xai": lambda: Peer("xai"),
    "xai-live": lambda: Peer("xai-live"),
    "openai": lambda: Peer("openai"),
    "litellm-xai": lambda: Peer("litellm", {"model": "grok"}),
    "litellm-openai": lambda: Peer("litellm", {"model": "gpt", "dialect": "openai"}),
    "ultravox": lambda: UltravoxPeer("ultravox"),
}
