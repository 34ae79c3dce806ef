"""What services say, from the greeting to the end of a reply, means to the agent what it should.

The sequences are our own; names, shapes and order of their events are as the services document them or were seen to
send them. Recordings that lie beside the repository, if there are any, are played as well.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from device_agent.core.events import LinkUp, ServiceError, ToolCall, TurnAcknowledged, TurnEndedByService, UserText
from tests.support.paths import ROOT
from tests.support.sequence import DIALECTS, SEQUENCES, Play, Reply, read, received, understood

FILES = {path.stem: path for path in sorted(SEQUENCES.glob("*.jsonl"))}
BESIDE = ROOT.parent / "shared" / "recordings"
RECORDINGS = [path for path in sorted(BESIDE.glob("*.jsonl")) if path.name.startswith(tuple(DIALECTS))]

every_sequence = pytest.mark.parametrize("name", FILES)


def played(name: str) -> tuple[Play, dict]:
    """Return how a session of ours took a sequence, and what it should have meant."""
    meaning, *lines = read(FILES[name])
    assert meaning["kind"] == "meaning"
    return Play(lines, meaning["service"], meaning["options"]), meaning


@every_sequence
def test_a_sequence_means_what_it_says(name):
    play, meaning = played(name)
    assert play.events[0] == LinkUp()
    assert len(play.told(LinkUp)) == len(play.sessions)
    assert len(play.told(TurnAcknowledged)) == meaning["turns"]
    assert len(play.told(TurnEndedByService)) == meaning["taken"]
    assert [said.text for said in play.told(UserText) if said.final] == meaning["user"]
    assert [[call.name, json.loads(call.arguments)] for call in play.told(ToolCall)] == meaning["calls"]
    assert len(play.told(ServiceError)) == meaning["errors"]


@every_sequence
def test_every_reply_of_a_sequence_is_heard_once_and_whole(name):
    play, meaning = played(name)
    assert [heard(reply) for reply in play.replies.values()] == [wanted(reply) for reply in meaning["replies"]]
    for reply, should in zip(play.replies.values(), meaning["replies"], strict=True):
        assert reply.pcm == whole(should["sound"])
        if not should.get("cut"):
            assert reply.ended
            assert (reply.ended.problem, reply.ended.more) == (should["problem"], should["more"])


def heard(reply: Reply) -> tuple[str, int]:
    return reply.text, len(reply.pcm)


def wanted(reply: dict) -> tuple[str, int]:
    return reply["text"], len(whole(reply["sound"]))


def whole(sound: bytes | None) -> bytes:
    """Return the whole samples of *sound*: half a one at the end of a reply has no other half."""
    return sound[: len(sound) & ~1] if sound else b""


@every_sequence
def test_a_session_says_what_the_service_needs_and_no_more(name):
    play, meaning = played(name)
    assert {frame["type"] for frame in play.beyond} <= spared(meaning["service"], read(FILES[name]))
    assert all(session.outgoing() == [] for session in play.sessions)


def spared(service: str, lines: list[dict]) -> set[str]:
    """Return what may be said besides: what was cut may be stopped, shortened and taken away."""
    if service == "ultravox":
        return {"user_text_message"}  # an empty one, which makes it stop
    cut = any(line["kind"] == "cut" for line in lines)
    return {"response.cancel", "conversation.item.truncate", "conversation.item.delete"} if cut else set()


def test_a_conversation_that_goes_on_is_known():
    play, _ = played("xai-resumption")
    before, after = play.sessions
    assert before.resume
    assert after.goes_on(before.resume)
    assert not after.goes_on("another")


def test_every_service_has_a_sequence_with_a_tool_or_a_cut():
    stories = {name: read(path)[0] for name, path in FILES.items()}
    assert {story["service"] for story in stories.values()} == {"xai", "xai-live", "openai", "litellm", "ultravox"}
    assert {story["options"].get("dialect") for story in stories.values()} == {None, "xai", "openai"}
    for service in ("xai", "openai", "ultravox"):
        about = [story for story in stories.values() if story["service"] == service]
        assert any(story["calls"] for story in about)
        assert any(reply.get("cut") for story in about for reply in story["replies"])


@pytest.mark.parametrize("name", [name for name in FILES if "openai" in name])
def test_the_judge_finds_nothing_wrong_with_the_sequences(name):
    from tests.support.judge import judge  # skips without the openai package

    events = [event for event in received(read(FILES[name])) if isinstance(event, dict)]
    assert events
    assert [problem for event in events for problem in judge(event, "server")] == []


# What others recorded -------------------------------------------------------------------------------------------------


@pytest.fixture(params=RECORDINGS or [None], ids=[path.stem for path in RECORDINGS] or ["none"])
def recording(request) -> Path:
    if not request.param:
        pytest.skip("there are no recordings beside the repository")
    return request.param


def test_a_recording_is_understood_and_each_of_its_replies_heard_once(recording):
    """The answers to another client; a reply that this client cut is heard up to some point."""
    lines = read(recording)
    play = Play(lines, *understood(recording))
    assert len(play.told(LinkUp)) == len(play.sessions)
    assert play.told(TurnAcknowledged) or play.told(TurnEndedByService)
    complaints = [event for event in received(lines) if event["type"].endswith(("error", "transcription.failed"))]
    assert len(play.told(ServiceError)) <= len(complaints)
    told = recorded(lines)
    assert play.replies.keys() <= told.keys()
    for name, (sound, words, status) in told.items():
        reply = play.replies[name]
        assert whole(sound).startswith(reply.pcm)
        assert squeezed(words).startswith(squeezed(reply.text))
        if name not in play.cut:
            assert (len(reply.pcm), squeezed(reply.text)) == (len(whole(sound)), squeezed(words))
            assert reply.ended
            assert (reply.ended.problem == "") == (status == "completed")
    calls = [event["call_id"] for event in received(lines) if event["type"].endswith("arguments.done")]
    assert [call.call for call in play.told(ToolCall)] == calls
    assert all(session.outgoing() == [] for session in play.sessions)


def recorded(lines: list[dict]) -> dict[str, tuple[bytes, str, str]]:
    """Return sound, words and end of every reply in *lines* by its name."""
    found: dict[str, tuple[bytes, str, str]] = {}
    for event in received(lines):
        name = event.get("response_id") or event.get("response", {}).get("id", "")
        sound, words, status = found.get(name, (b"", "", ""))
        match event["type"]:
            case "response.output_audio.delta":
                found[name] = (sound + base64.b64decode(event["delta"]), words, status)
            case "response.output_audio_transcript.delta" | "response.output_text.delta":
                found[name] = (sound, words + event["delta"], status)
            case "response.created" | "response.done":
                found[name] = (sound, words, event["response"]["status"])
    return found


def squeezed(text: str) -> str:
    """Return *text* without the spaces that may stand between two pieces."""
    return "".join(text.split())
