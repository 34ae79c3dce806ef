"""Calls of tools that are too large: every session says so in time, and the assistant gets an answer."""

from __future__ import annotations

import json
import logging
import queue

import pytest

from device_agent.core.actions import ToolResult
from device_agent.core.events import LinkUp, TalkEnded, TalkStarted, ToolCall
from device_agent.services.base import MAX_ARGUMENTS_CHARS
from device_agent.services.tool_calls import MAX_OPEN_CALLS
from device_agent.tools.function import BuiltinTool
from device_agent.tools.toolbox import Toolbox
from tests.support.peers import PEERS, TIMER, Peer

PATIENCE_S = 20.0
HUGE = 4 << 20


@pytest.fixture(params=PEERS)
def peer(request) -> Peer:
    peer = PEERS[request.param]()
    assert peer.ready() == [LinkUp()]
    peer.send(TalkStarted(), b"\1\0" * 480, TalkEnded())
    peer.wait(0.1)
    peer.say(*peer.takes_turn(), *peer.begins("r1"), peer.sounds("r1", b"\1\0" * 480))
    return peer


def asks(peer: Peer, call: str, arguments: dict) -> list[dict]:
    """Return what the service says to ask for a tool with *arguments*."""
    said = peer.calls("r1", call)
    said[-1] |= {"parameters": arguments} if peer.name == "ultravox" else {"arguments": json.dumps(arguments)}
    return said


def answer(call: ToolCall) -> ToolResult:
    """Return what a device answers that can set a timer."""
    answers: queue.SimpleQueue[ToolResult] = queue.SimpleQueue()
    toolbox = Toolbox([BuiltinTool(TIMER, lambda _arguments: {"set": True})])
    toolbox.run(call, answers.put)
    result = answers.get(timeout=PATIENCE_S)
    toolbox.close()
    return result


def test_arguments_that_are_too_long_are_not_kept_and_answered_with_what_to_do(peer, caplog):
    (call,) = [each for each in peer.say(*asks(peer, "c1", {"x": "y" * HUGE})) if isinstance(each, ToolCall)]
    assert len(call.arguments) == MAX_ARGUMENTS_CHARS + 1
    with caplog.at_level(logging.INFO):
        result = answer(call)
    peer.send(result)
    ((name, said),) = peer.answers()
    assert (name, result.failed) == ("c1", True)
    assert f"longer than {MAX_ARGUMENTS_CHARS} characters; call it again with less" in said
    assert [len(line) < 200 for line in caplog.messages if "set_timer" in line] == [True]


def test_arguments_that_are_as_long_as_they_may_be_are_whole(peer):
    arguments = {"x": "y" * (MAX_ARGUMENTS_CHARS - len('{"x": ""}'))}
    (call,) = [each for each in peer.say(*asks(peer, "c1", arguments)) if isinstance(each, ToolCall)]
    assert json.loads(call.arguments) == arguments
    assert answer(call).output == '{"set": true}'


def test_of_more_calls_than_may_be_open_the_arguments_are_not_kept_either(peer):
    told = [each for n in range(3 * MAX_OPEN_CALLS) for each in peer.say(*asks(peer, f"c{n}", {"x": "y" * 100_000}))]
    calls = [each for each in told if isinstance(each, ToolCall)]
    assert len(calls) == MAX_OPEN_CALLS
    assert sum(len(each.arguments) for each in calls) <= MAX_OPEN_CALLS * (MAX_ARGUMENTS_CHARS + 1)


def test_arguments_that_come_in_pieces_are_not_collected(peer):
    """Every service repeats them whole at their end, as far as is known."""
    piece = {"type": "response.function_call_arguments.delta", "response_id": "r1", "call_id": "c1"}
    assert peer.say(*[{**piece, "delta": "y" * 1000}] * 100) == []
    (call,) = [each for each in peer.say(*asks(peer, "c1", {"s": 1})) if isinstance(each, ToolCall)]
    assert call.arguments == '{"s": 1}'
