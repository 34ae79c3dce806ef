"""Live sessions that somebody else recorded mean to us what they meant to him."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from device_agent.credentials import Secret
from device_agent.events import (
    LinkUp,
    ReplyAudio,
    ReplyEnded,
    ReplyText,
    ToolCall,
    ToolResult,
    TurnReceived,
    Words,
)
from device_agent.services import Function
from device_agent.services.openai import OpenAI
from device_agent.services.xai import Xai

RECORDED = Path(__file__).parent / "recorded"
WEATHER = Function(
    "get_weather", "Look up the weather.", {"type": "object", "properties": {"city": {"type": "string"}}}
)
SERVICES = {"xai": Xai, "openai": OpenAI}
RECORDINGS = sorted(path.stem for path in RECORDED.glob("*.jsonl"))


class Replay:
    """Plays the received half of a recording; where the recorded client spoke, our session must have spoken, too."""

    def __init__(self, name: str) -> None:
        self.session = SERVICES[name.partition("-")[0]](key=Secret("k"), functions=(WEATHER,)).session()
        self.session.tick(0.0)
        self.session.greet()
        self.waiting: list[dict] = []
        self.events: list[object] = []
        self.sent: list[dict] = []
        for line in (RECORDED / f"{name}.jsonl").read_text().splitlines():
            frame = json.loads(line)
            if frame["kind"] == "message":
                {"received": self._receive, "sent": self._expect}[frame["direction"]](frame["data"])

    def _receive(self, event: dict) -> None:
        told = list(self.session.receive(json.dumps(event)))
        self.events += told
        for each in told:
            if isinstance(each, ToolCall):
                self.session.send(ToolResult(each.call, "It is foggy and 12 degrees in London."))

    def _expect(self, recorded: dict) -> None:
        if recorded["type"] == "conversation.item.create" and recorded["item"]["type"] == "message":
            self.session.send(Words(recorded["item"]["content"][0]["text"]))
        self.waiting += [json.loads(message) for message in self.session.outgoing()]
        ours = self.waiting.pop(0)
        self.sent.append(ours)
        if recorded["type"] == "session.update":
            assert ours["type"] == "session.update"
        else:
            assert ours == recorded

    def told(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_understood_from_the_beginning_to_the_end(name):
    replay = Replay(name)
    assert replay.events[0] == LinkUp()
    assert replay.told(TurnReceived) == [TurnReceived()]
    assert replay.told(ReplyEnded)[-1].problem == ""
    assert replay.told(ReplyEnded)[-1].more is False
    assert replay.session.outgoing() == []
    assert replay.waiting == []


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_text_is_that_of_the_recorded_transcript(name):
    frames = [json.loads(line)["data"] for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    done = [frame.get("transcript") or frame.get("text", "") for frame in frames if "text.done" in _kind(frame)]
    done += [frame["transcript"] for frame in frames if "audio_transcript.done" in _kind(frame)]
    assert done
    assert "".join(each.text for each in Replay(name).told(ReplyText)) == "".join(done)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_sample_is_heard(name):
    """The recorded pieces were cut in the middle of a sample; half a one at the end of a reply has no other half."""
    recorded: dict[str, bytes] = {}
    for line in (RECORDED / f"{name}.jsonl").read_text().splitlines():
        frame = json.loads(line)["data"]
        if _kind(frame) == "response.output_audio.delta":
            reply = frame["response_id"]
            recorded[reply] = recorded.get(reply, b"") + base64.b64decode(frame["delta"])
    heard: dict[str, bytes] = {}
    for piece in Replay(name).told(ReplyAudio):
        heard[piece.reply] = heard.get(piece.reply, b"") + piece.pcm
    assert heard == {reply: sound[: len(sound) & ~1] for reply, sound in recorded.items()}


@pytest.mark.parametrize("name", [name for name in RECORDINGS if "tool" in name])
def test_the_tool_is_called_once_and_its_reply_is_not_the_last(name):
    replay = Replay(name)
    (call,) = replay.told(ToolCall)
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "London"}
    assert [ended.more for ended in replay.told(ReplyEnded)] == [True, False]


def _kind(frame: dict) -> str:
    return frame.get("type", "")


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith("openai")])
def test_the_judge_finds_nothing_wrong_with_the_live_service(name):
    from judge import judge  # skips without the openai package

    frames = map(json.loads, (RECORDED / f"{name}.jsonl").read_text().splitlines())
    received = [frame["data"] for frame in frames if frame.get("direction") == "received"]
    assert received
    assert [problem for event in received for problem in judge(event, "server")] == []
