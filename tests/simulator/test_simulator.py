"""The simulator as users and tests hold it: real sockets, real clients, faults on request."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import websocket

from device_agent.simulator import FAULTS, SIMULATED_SERVICES, VARIANTS, Simulator, listed
from device_agent.simulator.server import MAX_MESSAGE

HEADER = ["Authorization: Bearer a-key"]
TURN = struct.pack("<h", 3000) * 28_800  # 1.2 s


CLIENTS: list[websocket.WebSocket] = []


def hang_up() -> None:
    """Close what a test has opened, without waiting for a goodbye."""
    while CLIENTS:
        CLIENTS.pop().shutdown()


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    hang_up()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(think_s=0.0, pace=50.0) as running:
        yield running
        hang_up()


def connect(simulator: Simulator, **options: Any) -> websocket.WebSocket:
    options = {"header": HEADER, "timeout": 5, "http_no_proxy": ["127.0.0.1"], **options}
    options["skip_utf8_validation"] = True  # pure Python, and slow for 20 MB
    client = websocket.create_connection(f"{simulator.url}?model=grok-voice-latest", **options)
    CLIENTS.append(client)
    return client


def send(client: websocket.WebSocket, kind: str, **fields: Any) -> None:
    client.send(json.dumps({"type": kind, **fields}))


def speak(client: websocket.WebSocket, pcm: bytes = TURN, *, asks: bool = False) -> None:
    """A whole turn by hand; where the service does not answer it by itself, the wish for an answer."""
    for start in range(0, len(pcm), 4800):
        send(client, "input_audio_buffer.append", audio=base64.b64encode(pcm[start : start + 4800]).decode())
    send(client, "input_audio_buffer.commit")
    if asks:
        send(client, "response.create")


def receive(client: websocket.WebSocket, until: str, *, strict: bool = False) -> list[dict[str, Any]]:
    """Read events up to and including *until*; where *strict*, an error in between is one."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != until:
        events.append(json.loads(client.recv()))
        assert not (strict and events[-1]["type"] == "error"), events[-1]
    return events


def close_code(client: websocket.WebSocket) -> int:
    """Read until the goodbye and return its code."""
    while True:
        opcode, data = client.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(data[:2], "big")


def status(simulator: Simulator, **options: Any) -> int:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(simulator, **options)
    return int(refused.value.status_code)


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("simulator")]


def test_a_spoken_turn_comes_back_over_a_real_connection(simulator: Simulator) -> None:
    client = connect(simulator)
    speak(client)
    events = receive(client, "response.done")
    sound = [base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"]
    assert b"".join(sound) == TURN
    assert simulator.heard()[0].pcm == TURN
    client.close()
    assert simulator.wait_for(lambda: not simulator.connections[0].open)
    (connection,) = simulator.connections
    assert connection.model == "grok-voice-latest"
    assert connection.ended == "client said 1000"
    assert connection.types[-2:] == ["input_audio_buffer.append", "input_audio_buffer.commit"]


def test_stopping_says_goodbye_and_leaves_no_thread() -> None:
    with Simulator() as simulator:
        clients = [connect(simulator) for _ in range(3)]
        silent = socket.create_connection(("127.0.0.1", simulator.port))
        leaver = threading.Thread(target=lambda: [close_code(client) for client in clients])
        leaver.start()
    leaver.join(5)
    silent.close()
    assert not leaver.is_alive()
    assert [heard.ended for heard in simulator.connections] == ["we said 1001 the simulator ends"] * 3
    assert names() == []


def test_a_client_that_is_gone_does_not_keep_it_from_stopping() -> None:
    with Simulator() as simulator:
        connect(simulator)
        simulator.stall()
    assert names() == []


def test_a_key_can_be_asked_for() -> None:
    with Simulator(key="secret") as simulator:
        assert status(simulator) == 401
        connect(simulator, header=["Authorization: Bearer secret"])


def test_a_refusal_has_a_body_of_two_strings(simulator: Simulator) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(simulator, header=[])
    body = json.loads(refused.value.resp_body)
    assert refused.value.status_code == 401
    assert {name: type(value) for name, value in body.items()} == {"code": str, "error": str}


def test_only_known_models_are_let_in_where_they_are_known() -> None:
    with Simulator(models={"grok-voice-fast-1.0"}) as simulator:
        assert status(simulator) == 404


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/nowhere", 404), ("POST", "/v1/realtime", 405), ("GET", "/v1/realtime", 426)],
)
def test_it_answers_plain_http_in_json(simulator: Simulator, method: str, path: str, expected: int) -> None:
    address = f"http://127.0.0.1:{simulator.port}{path}"
    request = Request(address, b"{}" if method == "POST" else None, {"Authorization": "Bearer k"}, method=method)
    with pytest.raises(HTTPError) as answer:
        urlopen(request, timeout=30)  # noqa: S310
    assert answer.value.code == expected
    assert set(json.load(answer.value)) == {"code", "error"}
    answer.value.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01 this is not HTTP\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 2_000_000,
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_harms_no_other_client(
    simulator: Simulator, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=30) as raw:
        raw.sendall(request_bytes)
        assert raw.recv(100).startswith(b"HTTP/1.1 4")
    connect(simulator)
    assert caplog.records == []


def test_two_requests_can_share_a_connection(simulator: Simulator) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=30) as raw:
        raw.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b""
        while piece := raw.recv(4096):
            answers += piece
    assert answers.count(b"HTTP/1.1 404") == 2


def test_it_never_agrees_to_compression(simulator: Simulator) -> None:
    client = connect(simulator, header=[*HEADER, "Sec-WebSocket-Extensions: permessage-deflate"])
    assert "sec-websocket-extensions" not in (client.getheaders() or {})


def test_it_answers_pings(simulator: Simulator) -> None:
    client = connect(simulator)
    client.ping("are you there")
    while (frame := client.recv_data(control_frame=True))[0] != websocket.ABNF.OPCODE_PONG:
        pass
    assert frame[1] == b"are you there"


def test_a_message_in_pieces_is_one_message(simulator: Simulator) -> None:
    client = connect(simulator)
    first, second = '{"type": "session.', 'update", "session": {"voice": "é"}}'
    client.send_frame(websocket.ABNF.create_frame(first, websocket.ABNF.OPCODE_TEXT, fin=0))
    client.send_frame(websocket.ABNF.create_frame(second.encode(), websocket.ABNF.OPCODE_CONT, fin=1))
    assert receive(client, "session.updated")[-1]["session"]["voice"] == "é"


def test_a_message_without_end_is_refused(simulator: Simulator) -> None:
    client = connect(simulator)
    writer = threading.Thread(target=client.send_binary, args=(bytes(MAX_MESSAGE + 1),))
    writer.start()
    assert close_code(client) == 1009
    writer.join(5)


def test_text_that_is_no_text_is_refused(simulator: Simulator) -> None:
    client = connect(simulator)
    client.send(b"\xff\xfe", websocket.ABNF.OPCODE_TEXT)
    assert close_code(client) == 1007


def test_a_client_that_reads_slowly_gets_everything() -> None:
    with Simulator(think_s=0.0, pace=1000.0) as simulator:
        client = connect(simulator, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
        pcm = os.urandom(48_000 * 60)
        speak(client, pcm)
        simulator.heard()
        send(client, "response.cancel", response_id="not this one")  # it still listens while its words pile up
        assert simulator.wait_for(lambda: simulator.connections[0].types[-1:] == ["response.cancel"])
        events = receive(client, "response.done")
        sound = [base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"]
        assert b"".join(sound) == pcm
        client.close()


def test_it_speaks_tls(tmp_path: Any) -> None:
    ask = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    ask += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *ask.split()], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with Simulator(tls=context, think_s=0.0, pace=50.0) as simulator:
        assert simulator.url.startswith("wss://")
        client = connect(simulator, sslopt={"ca_certs": str(tmp_path / "cert.pem")})
        speak(client, os.urandom(480_000))
        assert receive(client, "response.done")
        simulator.drop()
        with pytest.raises((websocket.WebSocketException, OSError)):
            close_code(client)


# Switches ---------------------------------------------------------------------------------------------------------


def test_handshakes_can_be_refused_and_healed(simulator: Simulator) -> None:
    simulator.refuse(503)
    assert status(simulator) == 503
    simulator.refuse(None)
    connect(simulator)


def test_a_handshake_can_hang(simulator: Simulator) -> None:
    simulator.fault("hang-handshake")
    with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)):
        connect(simulator, timeout=0.2)
    simulator.heal()
    connect(simulator)


def test_a_dropped_connection_says_no_goodbye(simulator: Simulator) -> None:
    client = connect(simulator)
    receive(client, "ping")
    simulator.drop()
    with pytest.raises(ConnectionResetError):
        client.recv()
    assert simulator.wait_for(lambda: simulator.connections[0].ended == "dropped")


def test_a_goodbye_has_a_code_and_a_reason(simulator: Simulator) -> None:
    client = connect(simulator)
    receive(client, "ping")
    simulator.goodbye(4000, "no more")
    assert client.recv_data(control_frame=True) == (8, b"\x0f\xa0no more")
    assert simulator.wait_for(lambda: simulator.connections[0].ended == "we said 4000 no more")


@pytest.mark.parametrize("code", [0, 999, 1006, 1015, 5000])
def test_a_goodbye_that_cannot_be_said_is_refused(simulator: Simulator, code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        simulator.goodbye(code)


def test_a_stalled_service_hears_and_says_nothing_until_healed(simulator: Simulator) -> None:
    client = connect(simulator)
    receive(client, "ping")
    simulator.stall()
    client.ping()
    speak(client)
    assert simulator.heard()
    client.settimeout(0.2)
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.recv_data(control_frame=True)
    client.settimeout(5)
    simulator.stall(False)
    assert receive(client, "response.done")


def test_anything_can_be_injected(simulator: Simulator) -> None:
    client = connect(simulator)
    receive(client, "ping")
    for message in ("{", b"\x00\x01", "x" * 20_000_000):
        simulator.inject(message)
        assert client.recv() == message


def test_waiting_for_what_does_not_come_ends(simulator: Simulator) -> None:
    assert not simulator.wait_for(lambda: False, 0.05)
    with pytest.raises(TimeoutError, match="0 turns"):
        simulator.heard(0.05)


# Faults by name ---------------------------------------------------------------------------------------------------


SETTINGS = {
    "xai": {"audio": {"input": {"transcription": {"model": "grok-transcribe"}}}},
    "openai": {
        "type": "realtime",
        "audio": {"input": {"turn_detection": None, "transcription": {"model": "gpt-transcribe"}}},
        "tools": [{"type": "function", "name": "lamp"}],
    },
}


def outcome(simulator: Simulator, service: str = "xai", patience: float = 5.0) -> str:
    """What a client sees in one turn, in a few words."""
    try:
        client = connect(simulator, timeout=patience)
        send(client, "session.update", session=SETTINGS[service])
        receive(client, "session.updated", strict=True)
        speak(client, asks=service == "openai")
        done = receive(client, "response.done", strict=True)[-1]["response"]
        if any(item["type"] == "function_call" for item in done["output"]):
            receive(client, "never")  # what comes of the call
    except AssertionError:
        return "error"
    except websocket.WebSocketBadStatusException as error:
        return str(error.status_code)
    except (websocket.WebSocketTimeoutException, TimeoutError):
        return "silence"
    except (websocket.WebSocketConnectionClosedException, ConnectionError):
        return "lost"
    except (ValueError, TypeError, KeyError):
        return "nonsense"
    except websocket.WebSocketException:
        return "no handshake"
    finally:
        hang_up()
    return "done" if done["status"] == "completed" else str(done["status"])


@pytest.mark.parametrize(
    ("fault", "first", "second"),
    [
        ("refuse-401", "401", "401"),
        ("refuse-429", "429", "429"),
        ("refuse-503", "503", "503"),
        ("portal-200", "200", "200"),
        ("portal-302", "no handshake", "no handshake"),
        ("portal-511", "511", "511"),
        ("wrong-accept", "no handshake", "no handshake"),
        ("not-http", "no handshake", "no handshake"),
        ("hang-handshake", "silence", "silence"),
        ("drop-mid-turn", "lost", "done"),
        ("drop-mid-reply", "lost", "done"),
        ("stall", "silence", "done"),
        ("junk", "nonsense", "nonsense"),
        ("half-base64", "done", "done"),
        ("binary", "nonsense", "nonsense"),
        ("huge", "done", "done"),
        ("unknown-events", "done", "done"),
        ("slow", "done", "done"),
        ("silent", "silence", "silence"),
        ("rate-limited", "failed", "failed"),
        ("server-error", "failed", "failed"),
        ("no-quota", "failed", "failed"),
        ("cut-by-filter", "incomplete", "incomplete"),
        ("cut-by-length", "incomplete", "incomplete"),
        ("text-only", "done", "done"),
        ("empty-reply", "done", "done"),
        ("refused-settings", "error", "error"),
        ("refused-transcription", "error", "error"),
        ("no-transcripts", "done", "done"),
        ("slow-session", "silence", "silence"),
        ("slow-reply", "silence", "silence"),
        ("late-voice", "silence", "silence"),
        ("expires-soon", "done", "done"),
        ("drop-after-call", "lost", "silence"),
        ("close-1008-idle", "done", "done"),
        ("close-1008-mid-turn", "error", "done"),
        ("close-1001", "nonsense", "nonsense"),  # recv() returns an empty text for a goodbye
        ("close-4000", "nonsense", "nonsense"),
        ("close-4000-reset", "lost or nonsense", "lost or nonsense"),  # the reset can overtake what was not read yet
    ],
)
def test_each_fault_does_what_it_says(fault: str, first: str, second: str) -> None:
    service = (
        "xai" if "xai" in (FAULTS[fault].services or SIMULATED_SERVICES) and fault != "drop-after-call" else "openai"
    )
    with Simulator(service, think_s=0.0, pace=50.0, faults=[fault]) as simulator:
        patience = 0.5 if "silence" in (first, second) else 5.0
        for expected in (first, second):
            assert outcome(simulator, service, patience) in expected.split(" or ")
        simulator.heal()
        assert outcome(simulator, service) == "done"


def test_every_fault_is_tried_and_explained() -> None:
    (mark,) = [m for m in test_each_fault_does_what_it_says.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
    assert [row[0] for row in mark.args[1]] == list(FAULTS)
    assert all(fault.says for fault in FAULTS.values())


def test_what_a_fault_silenced_can_be_healed() -> None:
    with Simulator(think_s=0.0, pace=50.0, faults=["stall"]) as simulator:
        client = connect(simulator)
        speak(client)
        simulator.heard()
        simulator.heal()
        assert receive(client, "response.done")


def test_the_faults_can_be_listed_without_heavy_libraries() -> None:
    program = "import sys; from device_agent.simulator import FAULTS, SIMULATED_SERVICES, Simulator, serve; "
    program += "print({'numpy', 'soxr', 'h11', 'wsproto'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_an_unknown_fault_or_service_is_named(simulator: Simulator) -> None:
    with pytest.raises(ValueError, match=r"'rain'.*refuse-401"):
        simulator.fault("rain")
    with pytest.raises(ValueError, match=r"'hal'.*xai"):
        Simulator("hal")


def test_a_fault_that_makes_no_sense_with_a_service_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no-quota does not exist for ultravox, only for xai, openai, litellm"):
        Simulator("ultravox", faults=["no-quota"])
    with pytest.raises(ValueError, match="one-session does not exist for xai, only for openai"):
        Simulator(manner=["one-session"])
    assert {name for entry in (*FAULTS.values(), *VARIANTS.values()) for name in entry.services} <= set(
        SIMULATED_SERVICES
    )


def test_what_is_listed_says_with_which_services_it_makes_sense() -> None:
    lines = dict(zip(VARIANTS, listed(VARIANTS).splitlines(), strict=True))
    assert lines["one-session"].startswith("one-session ")
    assert lines["one-session"].endswith(" (openai)")
    assert "(" not in listed({"slow": FAULTS["slow"]})


# The other services -----------------------------------------------------------------------------------------------


MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def converse(simulator: Simulator, service: str) -> str:
    """Have a turn with *service* as it wants it; return what it said, or how it ended."""
    try:
        return TALKS[service](simulator)
    except websocket.WebSocketBadStatusException as error:
        return str(error.status_code)
    except (websocket.WebSocketTimeoutException, TimeoutError):
        return "silence"
    except (websocket.WebSocketConnectionClosedException, ConnectionError):
        return "lost"
    finally:
        hang_up()


def dial(simulator: Simulator, url: str = "", **options: Any) -> websocket.WebSocket:
    options = {"timeout": 5, "http_no_proxy": ["127.0.0.1"], "skip_utf8_validation": True, **options}
    client = websocket.create_connection(url or simulator.url, **options)
    CLIENTS.append(client)
    return client


def words(client: websocket.WebSocket, kind: str, field: str, beginning: str = "You") -> str:
    """Read until an event called *kind* whose *field* begins so; return that."""
    while True:
        opcode, data = client.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return f"goodbye {int.from_bytes(data[:2], 'big')}"
        try:
            event = json.loads(data)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("type") == kind and event.get(field, "?").startswith(beginning):
            return str(event[field])


def talk_to_family(simulator: Simulator, model: str = "", *, asks: bool = True) -> str:
    client = dial(simulator, f"{simulator.url}?model={model}", header=HEADER)
    send(client, "session.update", session=MANUAL)
    speak(client, asks=asks)
    return words(client, "response.output_audio_transcript.done", "transcript")


def talk_to_live(simulator: Simulator) -> str:
    client = dial(simulator)
    send(client, "auth", api_key="a-key")
    send(client, "session.update", session={"turn_detection": None})
    speak(client, asks=True)
    return words(client, "response.audio_transcript.delta", "delta")


def make_call(simulator: Simulator) -> dict[str, Any]:
    body = {"medium": {"serverWebSocket": {"inputSampleRate": 24000}}, "firstSpeakerSettings": {"user": {}}}
    connection = HTTPConnection("127.0.0.1", simulator.port, timeout=30)
    connection.request("POST", "/api/calls", json.dumps(body), {"X-API-Key": "a-key"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    if answer.status != 201:
        raise websocket.WebSocketBadStatusException("%s %s", answer.status, "")
    return dict(content)


def talk_to_ultravox(simulator: Simulator) -> str:
    client = dial(simulator, make_call(simulator)["joinUrl"])
    send(client, "user_text_message", text="You know what?")  # speech would take its time here
    return words(client, "transcript", "text", "You wrote")


TALKS: dict[str, Callable[[Simulator], str]] = {
    "xai": lambda simulator: talk_to_family(simulator, asks=False),
    "xai-live": talk_to_live,
    "openai": talk_to_family,
    "litellm": lambda simulator: talk_to_family(simulator, "openai-realtime"),
    "ultravox": talk_to_ultravox,
}


@pytest.mark.parametrize("service", SIMULATED_SERVICES)
def test_every_service_answers(service: str) -> None:
    with Simulator(service, think_s=0.0, pace=50.0) as simulator:
        assert converse(simulator, service).startswith("You")
        (turn,) = simulator.heard()
        assert turn.pcm == (b"" if service == "ultravox" else TURN)


FATES = {
    "refuse-401": "401",
    "drop-mid-turn": "lost",
    "drop-mid-reply": "lost",
    "close-1001": "goodbye 1001",
    "close-4000": "goodbye 4000",
    "unknown-events": "You",
    "huge": "You",
}


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        (service, fault)
        for service in SIMULATED_SERVICES
        for fault in FATES
        if service != "xai" and (service, fault) != ("ultravox", "drop-mid-turn")
    ],
)
def test_faults_strike_every_service(service: str, fault: str) -> None:
    with Simulator(service, think_s=0.0, pace=50.0, faults=[fault]) as simulator:
        fate = converse(simulator, service)
        if fault == "drop-mid-reply":  # the text may be faster than the fault
            assert fate == "lost" or fate.startswith("You")
            assert simulator.wait_for(lambda: simulator.connections[0].ended == "dropped")
        else:
            assert fate.startswith(FATES[fault])


def test_a_service_can_say_goodbye_by_itself() -> None:
    with Simulator("openai") as simulator:
        client = dial(simulator, header=[*HEADER, "OpenAI-Beta: realtime=v1"])
        assert receive(client, "error")[-1]["error"]["code"] == "beta_api_shape_disabled"
        assert close_code(client) == 4000
        assert simulator.wait_for(lambda: simulator.connections[0].ended.startswith("we said 4000"))


def test_a_service_can_drop_a_client_by_itself() -> None:
    with Simulator("litellm") as simulator:
        client = dial(simulator, f"{simulator.url}?model=grok-voice-agent", header=HEADER)
        client.send_binary(b"\0\0")
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            while client.recv_data(control_frame=True)[0] != websocket.ABNF.OPCODE_CLOSE:
                pass
        assert simulator.wait_for(lambda: simulator.connections[0].ended == "dropped")


def test_a_shut_door_can_have_no_words() -> None:
    with Simulator("litellm", key="right") as simulator:
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            dial(simulator, f"{simulator.url}?model=grok-voice-agent", header=HEADER)
        assert refused.value.status_code == 403
        assert not refused.value.resp_body


def test_a_conversation_goes_on_after_a_lost_connection() -> None:
    settings = {"resumption": {"enabled": True}, "audio": {"input": {"transcription": {"model": "grok-transcribe"}}}}
    with Simulator(think_s=0.0, pace=50.0) as simulator:
        client = connect(simulator)
        conversation = receive(client, "conversation.created")[-1]["conversation"]["id"]
        send(client, "session.update", session=settings)
        speak(client)
        receive(client, "response.done")
        simulator.drop()
        client = dial(simulator, f"{simulator.url}?conversation_id={conversation}", header=HEADER)
        send(client, "session.update", session=settings)
        events = receive(client, "session.updated")
        items = [event["item"] for event in events if event["type"] == "conversation.item.added"]
        assert [item["role"] for item in items] == ["user", "assistant"]


def test_calls_are_made_where_the_client_sees_us() -> None:
    with Simulator("ultravox", host="::1") as simulator:
        connection = HTTPConnection("::1", simulator.port, timeout=30)
        body = {"medium": {"serverWebSocket": {"inputSampleRate": 8000}}}
        connection.request("POST", "/api/calls", json.dumps(body), {"X-API-Key": "k"})
        assert json.loads(connection.getresponse().read())["joinUrl"].startswith(f"ws://[::1]:{simulator.port}/join/")
        connection.close()


# For people -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_serving_prints_what_happens_and_ends_on_a_signal(sign: signal.Signals) -> None:
    program = "from device_agent.simulator import serve; serve(faults=['unknown-events'], think_s=0, pace=50)"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        client = websocket.create_connection(url, header=HEADER, timeout=5, http_no_proxy=["127.0.0.1"])
        send(client, "session.update", session={"voice": "eve"})
        speak(client)
        receive(client, "response.done")
        client.close()
        lines = [process.stdout.readline().strip() for _ in range(6)]
        process.send_signal(sign)
        rest, errors = process.communicate(timeout=30)
    assert lines[0] == f"fault unknown-events: {FAULTS['unknown-events'].says}"
    assert lines[1:3] == [
        "[1] connected, model grok-voice-latest",
        "[1] configured: voice eve, manual turns, 24000 Hz in, 24000 Hz out, 0 tools",
    ]
    assert lines[3].startswith("[1] heard a turn of 1.20 s at -21 dBFS (1.2 seconds of speech)")
    assert lines[4].startswith("[1] replied 1.20 s, completed: You said")
    assert lines[5] == "[1] over: client said 1000"
    assert (process.returncode, rest, errors) == (0, "", "")
