"""The simulated Ultravox, without a socket, a thread or a clock; and one call with them."""

from __future__ import annotations

import json
import random
from http.client import HTTPConnection
from itertools import groupby
from typing import Any

import pytest
import websocket
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.dsp.resampling import resample
from device_agent.simulator import Simulator
from device_agent.simulator.contract import Asked, Behaviour, ConnectionLog, Goodbye, find_route
from device_agent.simulator.services.ultravox import Ultravox
from device_agent.simulator.services.ultravox_calls import Call
from device_agent.simulator.services.ultravox_session import UltravoxSession
from tests.support import simulator_client
from tests.support.simulator_client import JUNK, question, silence, tone

RATE = 16000
FRAME = 2 * RATE // 50
TIMER = {"modelToolName": "set_timer", "description": "Sets it.", "client": {}, "timeout": "5s"}


def wish(**more: Any) -> dict[str, Any]:
    """A request for a call."""
    socket = {"inputSampleRate": RATE, "outputSampleRate": 24000, "clientBufferSizeMs": 30_000}
    medium = {"serverWebSocket": {**socket, **more.pop("socket", {})}}
    return {"systemPrompt": "Be brief.", "medium": medium, "firstSpeakerSettings": {"user": {}}, **more}


class Client(simulator_client.Client):
    """A client in a call, whose sound comes in real time."""

    def __init__(self, asked: dict[str, Any] | None = None, **manners: Any) -> None:
        self.call = call = Call("a-call", "a-secret", wish() if asked is None else asked, 100.0)
        super().__init__(lambda m, heard: UltravoxSession(m, heard, random.Random(7), call), **manners)

    def stream(self, pcm: bytes, speed: float = 1.0) -> list[dict[str, Any]]:
        """Say *pcm*, 20 ms every 20 ms, or faster."""
        news = []
        for start in range(0, len(pcm), FRAME):
            news += self.raw(pcm[start : start + FRAME]) + self.wait(0.02 / speed)
        return news


def spoken(seconds: float = 1.0) -> bytes:
    """A turn and the silence that ends it."""
    return tone(seconds, RATE) + silence(0.6, RATE)


def said(news: list[dict[str, Any]]) -> list[str]:
    """What was told, states by name, repetitions once."""
    names = (event["state"] if event["type"] == "state" else event["type"] for event in news)
    return [name for name, _ in groupby(names)]


def texts(news: list[dict[str, Any]], role: str) -> list[str]:
    final = [event for event in news if event["type"] == "transcript" and event["final"]]
    return [event["text"] for event in final if event["role"] == role]


# Making calls -----------------------------------------------------------------------------------------------------


def ask(service: Ultravox, method: str, path: str, at: float = 0.0, key: str = "k", **more: Any) -> Any:
    body = json.dumps(more.pop("body")).encode() if "body" in more else b""
    headers = {"x-api-key": key} if key else {}
    asked = Asked(method, path, headers=headers, body=body, at=at, origin="ws://127.0.0.1:9", **more)
    route = find_route(service.routes, method, path)
    assert not isinstance(route, int)
    return route(asked, Behaviour(), ConnectionLog())


def create(service: Ultravox, at: float = 0.0, body: Any = None, **more: Any) -> Any:
    return ask(service, "POST", "/api/calls", at, body=wish() if body is None else body, **more)


def join(service: Ultravox, call: dict[str, Any], at: float = 0.0) -> Any:
    path = call["joinUrl"].removeprefix("ws://127.0.0.1:9")
    return ask(service, "GET", path, at, key="", upgrade=True)


def test_a_call_is_made_and_joined_once() -> None:
    service = Ultravox(key="right", wall=1_800_000_000.0)
    answer = create(service, key="right")
    assert answer.status == 201
    call = answer.body
    assert call["created"] == "2027-01-15T08:00:00Z"
    assert call["callId"] not in call["joinUrl"]  # to know the id is not enough to join
    assert isinstance(join(service, call, 1.0), UltravoxSession)
    assert join(service, call, 2.0).status == 410


@pytest.mark.parametrize("key", ["", "wrong-ü"])
def test_a_call_without_the_right_key_is_refused(key: str) -> None:
    service = Ultravox(key="right")
    answer = create(service, key=key)
    assert answer.status == 401
    assert set(answer.body) == {"detail"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"systemPrompt": "x"}, "medium"),
        ({"medium": {"webRtc": {}}}, "medium.webRtc"),
        ({"medium": {"serverWebSocket": {}}}, "medium.serverWebSocket.inputSampleRate"),
        (wish(socket={"inputSampleRate": "16000"}), "medium.serverWebSocket.inputSampleRate"),
        (wish(socket={"inputSampleRate": 4000}), "medium.serverWebSocket.inputSampleRate"),
        (wish(socket={"mediaIdleTimeout": "5s"}), "medium.serverWebSocket.mediaIdleTimeout"),
        (wish(socket={"mediaIdleTimeout": 60}), "medium.serverWebSocket.mediaIdleTimeout"),
        (wish(firstSpeakerSettings={"user": {"text": "x"}}), "firstSpeakerSettings.user.text"),
        (wish(selectedTools=[{}]), "selectedTools[0]"),
        (wish(selectedTools=[{"temporaryTool": {"modelToolName": "x"}}]), "selectedTools[0].temporaryTool"),
        (
            wish(selectedTools=[{"temporaryTool": {**TIMER, "modelToolName": "set timer"}}]),
            "selectedTools[0].temporaryTool.modelToolName",
        ),
        (
            wish(selectedTools=[{"temporaryTool": {**TIMER, "dynamicParameters": [{"name": "x"}]}}]),
            "selectedTools[0].temporaryTool.dynamicParameters[0].location",
        ),
        (wish(instructions="x"), "instructions"),
        ([], "detail"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(body: Any, field: str) -> None:
    answer = create(Ultravox(), body=body)
    assert answer.status == 400
    assert list(answer.body) == [field]


def test_an_address_expires() -> None:
    service = Ultravox()
    first, second = (create(service).body for _ in range(2))
    assert join(service, first, 31.0).status == 410
    assert isinstance(join(service, second, 29.0), UltravoxSession)


def test_a_call_can_go_on_with_another_one() -> None:
    service = Ultravox()
    first = create(service).body
    second = create(service, body={}, query={"priorCallId": first["callId"]}).body
    assert second["medium"] == first["medium"]
    assert second["callId"] != first["callId"]
    assert create(service, query={"priorCallId": "unheard-of"}).status == 404
    with_messages = wish(initialMessages=[{"role": "MESSAGE_ROLE_USER", "text": "x"}])
    assert create(service, body=with_messages, query={"priorCallId": first["callId"]}).status == 400


# Turns ------------------------------------------------------------------------------------------------------------


def test_it_greets_and_listens() -> None:
    client = Client()
    assert client.events == [
        {"type": "call_started", "callId": client.call.id},
        {"type": "state", "state": "idle"},
        {"type": "state", "state": "listening"},
    ]


def test_the_agent_speaks_first_unless_told_otherwise() -> None:
    client = Client(wish(firstSpeakerSettings={"agent": {}}))
    assert texts(client.wait(3.0), "agent") == ["Hello, I am a simulator."]
    assert client.binary


def test_a_turn_comes_back_with_its_transcripts() -> None:
    client = Client(wish(socket={"outputSampleRate": None}))
    news = client.stream(spoken() + silence(2.5, RATE))
    assert said(news) == ["thinking", "transcript", "speaking", "transcript", "listening"]
    assert texts(news, "user") == ["(1.0 seconds of speech)"]
    assert texts(news, "agent") == ["You said: (1.0 seconds of speech)."]
    (turn,) = client.heard.turns
    assert b"".join(client.binary) == turn.pcm
    assert tone(1.0, RATE) in turn.pcm
    agent = [event for event in news if event["type"] == "transcript" and event["role"] == "agent"]
    assert {event["ordinal"] for event in agent} == {1}
    assert "".join(event.get("delta", "") for event in agent) == agent[-1]["text"]
    assert all(("text" in event) is event["final"] for event in agent)


def test_a_reply_has_the_rate_of_the_output() -> None:
    client = Client()
    client.stream(spoken() + silence(1.0, RATE))
    assert b"".join(client.binary) == resample(client.heard.turns[0].pcm, RATE, 24000)


@pytest.mark.parametrize(("buffer_ms", "first_second"), [(30_000, 3.0), (1000, 2.0), (60, 1.06)])
def test_sound_is_sent_ahead_as_far_as_the_client_can_hold_it(buffer_ms: int, first_second: float) -> None:
    socket = {"clientBufferSizeMs": buffer_ms, "outputSampleRate": RATE}
    client = Client(wish(socket=socket), think_s=0.0)
    client.stream(tone(2.8, RATE) + silence(0.38, RATE))
    assert client.binary == []
    client.stream(silence(1.02, RATE))  # the reply begins 20 ms into this
    sent = len(b"".join(client.binary)) / (2 * RATE)
    assert sent == pytest.approx(first_second, abs=0.25 if buffer_ms == 30_000 else 0.04)


def test_it_speaks_until_all_is_played_although_all_is_sent() -> None:
    client = Client(pace=100.0, think_s=0.0)
    news = client.stream(spoken(3.0))
    news += client.stream(silence(1.0, RATE))
    assert texts(news, "agent")
    assert said(news)[-1] == "transcript"
    assert said(client.stream(silence(3.0, RATE))) == ["listening"]


def test_talking_over_the_reply_clears_it() -> None:
    client = Client(pace=100.0, think_s=0.0)
    client.stream(spoken(3.0) + silence(0.2, RATE))
    before = len(client.binary)
    news = client.stream(tone(0.3, RATE))
    assert said(news) == ["playback_clear_buffer", "listening"]
    client.stream(tone(0.5, RATE))
    assert len(client.binary) == before
    news = client.stream(silence(2.0, RATE))
    assert texts(news, "user") == ["(0.8 seconds of speech)"]


def test_a_reply_that_is_cut_short_says_how_far_it_came() -> None:
    client = Client(pace=1.0, think_s=0.0)
    client.stream(spoken(3.0) + silence(1.0, RATE))
    (text,) = texts(client.stream(tone(0.3, RATE)), "agent")
    assert text
    assert "You said: (3.0 seconds of speech).".startswith(text)


def test_silence_never_is_a_turn() -> None:
    client = Client()
    assert client.stream(silence(20.0, RATE)) == []
    assert client.heard.turns == []


# Texts and tools --------------------------------------------------------------------------------------------------


def test_a_text_is_answered() -> None:
    client = Client()
    news = client.say("user_text_message", text="What time is it?") + client.wait(5.0)
    assert texts(news, "user") == ["What time is it?"]
    assert texts(news, "agent") == ["You wrote: What time is it?"]
    assert client.binary


def test_an_empty_urgent_text_stops_the_agent() -> None:
    client = Client(think_s=0.0)
    client.say("user_text_message", text="one two three")
    client.wait(0.1)
    news = client.say("user_text_message", text="", urgency="immediate")
    assert said(news) == ["playback_clear_buffer", "transcript", "listening"]
    assert client.wait(5.0) == []


def test_the_agent_can_write() -> None:
    client = Client(wish(initialOutputMedium="MESSAGE_MEDIUM_TEXT"))
    client.say("user_text_message", text="Hello")
    news = client.wait(5.0)
    assert texts(news, "agent") == ["You wrote: Hello"]
    assert client.binary == []


def with_tool(timer: dict[str, Any] = TIMER, **manners: Any) -> Client:
    return Client(wish(selectedTools=[{"temporaryTool": timer}]), **manners)


def test_a_tool_round() -> None:
    client = with_tool()
    client.say("user_text_message", text='set_timer {"minutes": 4}')
    news = client.wait(1.0)
    (invocation,) = [event for event in news if event["type"] == "client_tool_invocation"]
    assert (invocation["toolName"], invocation["parameters"]) == ("set_timer", {"minutes": 4})
    client.say("client_tool_result", invocationId=invocation["invocationId"], result="It rings at four.")
    assert texts(client.wait(5.0), "agent") == ["The tool said: It rings at four."]


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ({"errorType": "implementation-error", "errorMessage": "broken"}, ["The tool failed: broken"]),
        ({"result": "ok", "agentReaction": "listens"}, []),
        (None, ["set_timer did not answer in time."]),
    ],
)
def test_what_comes_of_a_tool(result: dict[str, str] | None, answer: list[str]) -> None:
    client = with_tool(tool="set_timer")
    news = client.stream(spoken() + silence(0.5, RATE))
    (invocation,) = [event for event in news if event["type"] == "client_tool_invocation"]
    if result is not None:
        client.say("client_tool_result", invocationId=invocation["invocationId"], **result)
    assert texts(client.stream(silence(14.0, RATE)), "agent") == answer


def test_a_tool_that_is_late_is_asked_for_again_and_its_late_result_is_thrown_away() -> None:
    unhurried = {name: value for name, value in TIMER.items() if name != "timeout"}  # so it has 2.5 s
    client = with_tool(unhurried, tool="set_timer")
    first, again = [e for e in client.stream(spoken() + silence(3.5, RATE)) if e["type"] == "client_tool_invocation"]
    assert (first["toolName"], first["parameters"]) == (again["toolName"], again["parameters"])
    client.say("client_tool_result", invocationId=first["invocationId"], result="The first.")
    client.say("client_tool_result", invocationId=again["invocationId"], result="The second.")
    assert texts(client.wait(5.0), "agent") == ["The tool said: The second."]


# The end ----------------------------------------------------------------------------------------------------------


def test_the_client_hangs_up() -> None:
    client = Client()
    client.say("hang_up")
    assert client.ended == Goodbye(1000, "hangup")


def test_a_call_ends_after_its_time() -> None:
    client = Client(session_s=60.0)
    assert client.wait(59.0) == []
    client.wait(10.0)
    assert client.ended == Goodbye(1000, "timeout")


def test_a_call_without_sound_ends() -> None:
    client = Client(wish(socket={"mediaIdleTimeout": "10s"}))
    client.stream(silence(1.0, RATE))
    client.wait(9.5)
    assert client.ended is None
    client.wait(1.0)
    assert client.ended == Goodbye(1000, "connection_error")


# The pace ---------------------------------------------------------------------------------------------------------


def test_what_comes_too_fast_is_dropped() -> None:
    client = Client()
    for _ in range(250):  # five seconds at once
        client.raw(bytes(FRAME))
    assert client.heard.dropped_s == pytest.approx(4.5)


def test_a_hiccup_of_the_network_costs_nothing() -> None:
    client = Client()
    client.stream(silence(3.0, RATE))
    client.wait(0.4)
    for _ in range(20):  # what was held back comes at once
        client.raw(bytes(FRAME))
    client.stream(silence(2.0, RATE))
    assert client.heard.dropped_s == 0.0


# Anything at all --------------------------------------------------------------------------------------------------

KINDS = [*UltravoxSession.HANDLERS, "unheard.of"]
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | JUNK},
    optional={
        "text": st.sampled_from(["", "hello", "set_timer {}", 'set_timer {"a": [1]}']) | JUNK,
        "content": st.just("hello") | JUNK,
        "urgency": st.sampled_from(["immediate", "soon", "later"]) | JUNK,
        "medium": st.sampled_from(["voice", "text"]) | JUNK,
        "timestamp": st.floats(0, 9) | JUNK,
        "invocationId": JUNK,
        "result": JUNK,
        "message": st.just("Bye.") | JUNK,
        "uninterruptible": st.booleans() | JUNK,
    },
)
STEPS = st.one_of(
    EVENTS.map(json.dumps),
    st.sampled_from([tone(0.4, RATE), silence(0.5, RATE), tone(0.1, RATE), b"odd", b""]),
    st.text(max_size=20),
    st.floats(0, 2),  # time passes
)


@settings(max_examples=150)
@given(steps=st.lists(STEPS, max_size=25), agent_first=st.booleans(), silent=st.booleans())
@pytest.mark.slow
def test_nothing_a_client_can_say_breaks_it(steps: list[Any], agent_first: bool, silent: bool) -> None:
    first = {"agent": {}} if agent_first else {"user": {}}
    client = Client(
        wish(firstSpeakerSettings=first, selectedTools=[{"temporaryTool": TIMER}]),
        tool="set_timer",
        silent=silent,
        session_s=30.0,
    )
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        else:
            client.raw(step)
    client.wait(40.0)
    assert client.ended
    assert all(len(sound) % 2 == 0 for sound in client.binary)
    ordinals = [event["ordinal"] for event in client.events if event["type"] == "transcript"]
    assert ordinals == sorted(ordinals)


@settings(max_examples=100)
@given(body=st.dictionaries(st.sampled_from([*wish(), "selectedTools", "vadSettings", "x"]), JUNK) | JUNK)
def test_no_request_breaks_it(body: Any) -> None:
    assert create(Ultravox(), body=body).status in (201, 400)


# Over a real connection -------------------------------------------------------------------------------------------


def http(simulator: Simulator, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", simulator.port, timeout=30)
    connection.request(method, path, json.dumps(body) if body else None, {"X-API-Key": "right"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def test_a_call_over_a_real_connection() -> None:
    with Simulator("ultravox", key="right", think_s=0.0, pace=100.0) as simulator:
        assert simulator.url == f"http://127.0.0.1:{simulator.port}/api/calls"
        status, call = http(simulator, "POST", "/api/calls", wish(socket={"inputSampleRate": 24000}))
        assert status == 201
        client = websocket.create_connection(call["joinUrl"], timeout=5, http_no_proxy=["127.0.0.1"])
        client.send_binary(question()[24_000:72_000])  # one second at once: half of it is dropped
        client.send(json.dumps({"type": "user_text_message", "text": "Hello", "urgency": "immediate"}))
        got: list[Any] = []
        while not (got and isinstance(got[-1], dict) and got[-1].get("role") == "agent" and got[-1]["final"]):
            opcode, data = client.recv_data()
            got.append(data if opcode == websocket.ABNF.OPCODE_BINARY else json.loads(data))
        assert got[0] == {"type": "call_started", "callId": call["callId"]}
        assert any(isinstance(each, bytes) for each in got)
        client.close()
        assert simulator.wait_for(lambda: not simulator.connections[0].open)
        assert simulator.connections[0].dropped_s == pytest.approx(0.5, abs=0.01)
        assert simulator.connections[0].ended == "client said 1000"
