"""Whatever a service says and a file holds: no surprise, and nothing that grows with what strangers send.

Inputs are made of what services say and of the shipped configuration, changed at random; and what was interesting among
them stays in ``fuzz``. Time is counted in calls, not in seconds.
"""

from __future__ import annotations

import base64
import copy
import gc
import json
import sys
import tempfile
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.config.load import load
from device_agent.config.model import Config
from device_agent.config.yaml_schema import MAX_FILE_BYTES, MAX_MISTAKES
from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.errors import ConfigError, LinkLost, LinkRefused
from device_agent.core.events import AudioTurn, NoSpeech, TalkEnded, TalkStarted, TextTurn, UserText
from tests.support.paths import ROOT
from tests.support.peers import PEERS, Peer
from tests.support.sequence import SEQUENCES, read, received

HERE = Path(__file__).parent
PCM = bytes(range(1, 241)) * 8

CALLS, CALLS_A_BYTE = 300, 6
"""How many calls a message may cost, and how many more for each of its bytes."""
TOLD, TOLD_A_BYTE = 5000, 3
"""Bytes of what we make of a message, likewise; base64 makes less of it, \\u0000 a sixth."""
KEPT = 200_000
"""Bytes that a session may grow by, whatever it is told."""
ANSWERED = 4000
"""Bytes that a message may make us say. It never grows with the message but where we name what was named to us."""


# What must hold -------------------------------------------------------------------------------------------------------


class Judge:
    """Plays a service to a session and looks at what that leads to."""

    def __init__(self, name: str, *, ready: bool) -> None:
        self.peer: Peer = PEERS[name]()
        self._size = weight(self.peer.session)
        self.over = False
        if ready:
            self.peer.ready()

    def say(self, message: str | bytes) -> None:
        """The service says *message*. After the end of the connection it says nothing."""
        before, calls = len(self.peer.sent), Calls()
        try:
            with calls:
                told = list(self.peer.session.receive(message))
        except (LinkLost, LinkRefused):
            self.over = True
            return
        self.peer.sent += (answers := self.peer.session.outgoing())
        size = len(message.encode(errors="surrogatepass") if isinstance(message, str) else message)
        assert calls.count <= CALLS + CALLS_A_BYTE * size, f"{calls.count} calls for {size} bytes"
        assert sum(map(length, told)) <= TOLD + TOLD_A_BYTE * size, f"{size} bytes became {told!r:.200}"
        assert sum(map(len, answers)) <= ANSWERED + TOLD_A_BYTE * size
        del self.peer.sent[before:]

    def wait(self, seconds: float) -> None:
        try:
            self.peer.wait(seconds)
        except (LinkLost, LinkRefused):
            self.over = True

    def send(self, deeds: Iterable[object]) -> None:
        for deed in deeds:
            if self.peer.session.ready and not self.over:
                self.wait(0.001)
                self.peer.send(deed)

    def end(self) -> None:
        """Look at what is left of it all."""
        grown = weight(self.peer.session) - self._size
        assert grown <= KEPT, f"the session keeps {grown} bytes"


class Calls:
    """Counts the calls of functions, in Python and below."""

    count = 0

    def __enter__(self) -> None:
        self._before = sys.getprofile()
        sys.setprofile(self._see)

    def __exit__(self, *_exc: object) -> None:
        sys.setprofile(self._before)

    def _see(self, _frame: types.FrameType, event: str, _arg: object) -> None:
        self.count += event in {"call", "c_call"}


def length(event: object) -> int:
    """Return how much text and sound is in *event*."""
    values = [getattr(event, name) for name in event.__dataclass_fields__]
    return sum(len(value) for value in values if isinstance(value, (str, bytes)))


def weight(thing: object) -> int:
    """Return the bytes of *thing* and of everything that only data leads to."""
    seen: set[int] = set()
    waiting, total = [thing], 0
    code = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, code):
            seen.add(id(each))
            total += sys.getsizeof(each)
            waiting += gc.get_referents(each)
            waiting += each if isinstance(each, dict) else ()  # the collector does not look at keys that are texts
    return total


# The corpus -----------------------------------------------------------------------------------------------------------

DEEDS: dict[str, tuple[object, ...]] = {
    "turn": (TalkStarted(), PCM, TalkEnded()),
    "begin": (TalkStarted(), PCM),
    "end": (TalkEnded(),),
    "nothing": (TalkStarted(), PCM, NoSpeech()),
    "words": (TextTurn("x"),),
    "clip": (AudioTurn(PCM),),
    "cancel": (CancelReply(),),
    "cut": (CancelReply("r1", 10),),
    "answer": (ToolResult("call-1", "{}"),),
    "failure": (ToolResult("call-1", '{"error": ""}', failed=True),),
}
SCRIPTS = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "fuzz/sessions").glob("*.json"))}


def play(script: dict[str, Any], name: str) -> None:
    judge = Judge(name, ready=script.get("ready", True))
    for step in script["steps"]:
        for number in range(step.get("times", 1)):
            do(judge, step, number)
            if judge.over:
                break
    judge.end()


def do(judge: Judge, step: dict[str, Any], number: int) -> None:
    if "say" in step:
        said = step["say"] if isinstance(step["say"], str) else json.dumps(step["say"])
        judge.say(said.replace("#", str(number)).replace("@", "x" * 1_000_000))
    elif "bytes" in step:
        judge.say(base64.b64decode(step["bytes"]))
    elif "wait" in step:
        judge.wait(step["wait"])
    else:
        judge.send(DEEDS[step["send"]])


FILES = sorted((HERE / "fuzz/config").iterdir())


def marked(name: str, *values: object) -> Any:
    """Return a parameter with a name that says what it is about."""
    return pytest.param(*values, id="-".join([name, *map(str, values[1:])]))


@pytest.mark.parametrize(
    ("script", "name"),
    [marked(script, script, name) for script in SCRIPTS for name in SCRIPTS[script].get("services", PEERS)],
)
def test_what_was_found_holds(script, name):
    play(SCRIPTS[script], name)


@pytest.mark.parametrize("path", [marked(path.stem, path) for path in FILES])
def test_what_was_found_in_files_holds(path):
    assert "sk-abcdefghijkl" not in judge_file(path)


def test_the_judge_has_eyes(monkeypatch):
    """A session that does each of the things that must not be is found out."""
    from device_agent.services.realtime_session import RealtimeSession as Session

    def caught(receive: object) -> None:
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(Session, "receive", receive)
            judge = Judge("openai", ready=False)
            judge.say('{"type": "x"}')
            judge.end()

    caught(lambda self, message: setattr(self, "kept", bytearray(KEPT + 1)) or ())
    caught(lambda self, message: [UserText("", "x" * 10_000, final=True)])
    caught(lambda self, message: self._outgoing.append("x" * 10_000) or ())
    caught(lambda self, message: [len("") for _ in range(1000)] and ())


# At random: sessions --------------------------------------------------------------------------------------------------


def said() -> Iterator[dict[str, Any]]:
    """Yield what services say in our sequences, and what older ones say."""
    for path in sorted(SEQUENCES.glob("*.jsonl")):
        yield from (message for message in received(read(path)) if isinstance(message, dict))
    yield {"type": "state", "state": "idle"}
    yield {"type": "response.audio.delta", "delta": base64.b64encode(PCM).decode()}
    yield {"type": "response.audio.done"}
    yield {"type": "response.cancelled", "response": {"id": "r1"}}
    yield {"type": "error", "error": {"type": "invalid_request_error", "code": "no", "message": "no", "param": None}}


SAID = list({json.dumps(message): message for message in said()}.values())
VALUES: list[Any] = [
    None, True, 0, -1, 1e308, 10**40, "", "r1", "call-1", "A", "AAAA", "A===", "=", "é", "\udcff", "\0", "completed",
    "listening", "thinking", "speaking", "user", "agent", [], [None], {}, {"id": "r1"}, [{}] * 50, "x" * 5000,
    {"type": "function_call", "call_id": "call-2", "name": "f"}, {"role": "user", "content": [{"type": "input_text"}]},
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in *value* with every key that it has."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from places(value[key])


@st.composite
def messages(draw: st.DrawFn) -> str | bytes:
    message = copy.deepcopy(draw(st.sampled_from(SAID)))
    for _ in range(draw(st.integers(0, 3))):
        there = list(places(message))
        if not there:
            break
        container, key = there[draw(st.integers(0, len(there) - 1))]
        if draw(st.booleans()):
            container[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        else:
            del container[key]
    text = json.dumps(message, ensure_ascii=draw(st.booleans()))
    match draw(st.integers(0, 9)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            return text.encode(errors="surrogatepass")
        case 2:
            return draw(st.binary(max_size=50)) * draw(st.integers(1, 50))
    return text


DEED = st.one_of(messages(), messages(), messages(), st.sampled_from(sorted(DEEDS)), st.sampled_from([0.01, 2.0, 9.0]))
MANY = settings(suppress_health_check=list(HealthCheck))


@MANY
@given(st.sampled_from(sorted(PEERS)), st.booleans(), st.lists(DEED, max_size=25))
def test_no_conversation_breaks_a_session(name, ready, deeds):
    judge = Judge(name, ready=ready)
    for deed in deeds:
        if isinstance(deed, float):
            judge.wait(deed)
        elif isinstance(deed, str) and deed in DEEDS:
            judge.send(DEEDS[deed])
        else:
            judge.say(deed)
        if judge.over:
            break
    judge.end()


# At random: the configuration -----------------------------------------------------------------------------------------

SHIPPED = (ROOT / "config.yaml").read_text().splitlines()
LINES = [line for line in SHIPPED if line.strip() and not line.lstrip().startswith("#")]
PIECES = [
    "&a ", "[", "]", "{", "}", ": ", "- ", "? ", "|\n", ">\n", "!!int ", "\t", "'", '"', "#", "%", "---\n", "...\n",
    "!!python/name:os.system ", "0x1F", "1_000", "1e999", ".nan", "-1", "~", "off", "2001-01-01", "sk-abcdefghijkl",
    "wav:", "ws://8.8.8.8", "wss://[", "http://a:b@c", "\\ud800", "\x85", "\ufeff", "\0", "service: {tools: [", "]}",
    "tools: [{name: x, description: y, command: [ls], parameters: {type: object}}]", "\n  ",
    "*a", "<<: *a", "[&a [*a]]", "&a {b: *a}",
]  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.sampled_from([*LINES, *PIECES]), max_size=20))
    text = draw(st.sampled_from(["\n", "\n  ", " "])).join(lines)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.integers(0, 3)) :]
    raw = text.encode(errors="surrogatepass")
    return raw if draw(st.integers(0, 9)) else raw + draw(st.binary(max_size=20))


def judge_file(path: Path) -> str:
    """Read it as a configuration: it is one, or there is a bounded list of sentences about it, each with its place.
    Return them."""
    try:
        assert isinstance(load(path), Config)
    except ConfigError as error:
        lines = str(error).split("\n")
        assert 0 < len(lines) <= MAX_MISTAKES + 1
        for line in lines:
            assert line.startswith(f"{path}:")
            assert line.isprintable()
            assert len(line) < len(str(path)) + 1000
        return str(error)
    return ""


@MANY
@given(files())
def test_no_file_breaks_the_reader(raw):
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "config.yaml")).write_bytes(raw[:MAX_FILE_BYTES])
        judge_file(path)
