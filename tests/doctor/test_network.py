"""What the doctor says of the way to a service, and which step it names."""

from __future__ import annotations

import re
import socket
from contextlib import closing

import pytest

from device_agent.core.events import ReplyEnded, ReplyStarted
from device_agent.doctor import network
from device_agent.doctor.findings import Mark
from device_agent.doctor.session_trace import SessionTrace
from device_agent.simulator import Simulator
from tests.support.authority import FAR, FUTURE, LONG_AGO, PAST, Authority
from tests.support.doctor import KEY, marks, services, told, write_config


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    for name in ("XAI", "OPENAI", "ULTRAVOX", "LITELLM"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def examine(folder, service: str, more: str = "") -> tuple[int, dict]:
    """Return the status, and what was said of the first service."""
    path = write_config(folder, "ws://127.0.0.1:1", more)
    path.write_text(path.read_text().replace("{url: 'ws://127.0.0.1:1'}", f"{{{service}}}", 1))
    status, document = told(path)
    assert KEY not in str(document)
    return status, document


@pytest.mark.parametrize(
    ("name", "first", "sound"),
    [
        ("xai", "session.created", "response.output_audio.delta"),
        ("openai", "session.created", "response.output_audio.delta"),
        ("ultravox", "call_started", "binary sound"),
    ],
)
def test_every_step_of_a_service_that_works_is_told(tmp_path, name, first, sound):
    with Simulator(name, think_s=0.02) as simulator:
        status, document = examine(tmp_path, f"name: {name}, url: '{simulator.url}'")
    (found,) = services(document)
    assert status == 0, document
    assert list(found) == ["key", "name", "route", "TLS", "handshake", "session", "turn"]
    assert found["key"]["text"].startswith(f"environment variable {name.upper()}_API_KEY")
    assert found["route"]["peer"] == f"127.0.0.1 port {simulator.port}"
    assert found["session"]["first"] == first
    assert found["turn"]["dialect"] == sound


def test_what_the_service_repeats_of_our_settings_is_told(tmp_path):
    with Simulator(think_s=0.02) as simulator:
        _, document = examine(tmp_path, f"url: '{simulator.url}', voice: leo")
    (found,) = services(document)
    assert found["session"]["voice"] == "leo"
    assert "voice leo" in found["session"]["text"]


@pytest.mark.parametrize(
    ("fault", "step", "words"),
    [
        ("refuse-401", "handshake", "is the key right?"),
        ("refuse-429", "handshake", "429"),
        ("portal-200", "handshake", "login page"),
        ("not-http", "handshake", "service.url"),
        ("drop-mid-reply", "turn", "broke"),
        ("close-4000", "turn", "4000"),
        ("huge", "turn", "limit"),
    ],
)
def test_a_fault_is_told_at_the_step_where_it_shows(tmp_path, fault, step, words):
    with Simulator(think_s=0.02, faults=[fault]) as simulator:
        status, document = examine(tmp_path, f"url: '{simulator.url}'")
    (found,) = services(document)
    assert status == 1
    assert [name for name, each in found.items() if each["mark"] == "FAIL"] == [step]
    assert words in found[step]["text"] + found[step]["advice"]
    assert list(found)[-1] == step


def test_a_key_that_the_service_refuses_is_told_with_where_it_came_from(tmp_path):
    with Simulator(key="another", think_s=0.02) as simulator:
        _, document = examine(tmp_path, f"url: '{simulator.url}'")
    (found,) = services(document)
    assert "environment variable XAI_API_KEY" in found["handshake"]["advice"]


def test_a_service_that_is_busy_is_told_with_when_to_try_again(tmp_path):
    with Simulator(faults=["refuse-429"]) as simulator:
        _, document = examine(tmp_path, f"url: '{simulator.url}'")
    (found,) = services(document)
    assert re.fullmatch(r"it is busy: try again in \d+ s", found["handshake"]["advice"])


@pytest.mark.slow  # it is 5 s until a service that does not take the settings counts as ready
def test_a_voice_that_the_service_does_not_have_is_told_and_nothing_asked(tmp_path):
    with Simulator("openai", think_s=0.02) as simulator:
        status, document = examine(tmp_path, f"name: openai, url: '{simulator.url}', voice: nobody")
        assert not simulator.turns
    (found,) = services(document)
    assert status == 1
    assert found["session"]["mark"] == "FAIL"
    assert "voice must be one of" in found["session"]["text"]
    assert "turn" not in found


def test_a_model_that_the_service_does_not_have_is_told(tmp_path):
    with Simulator(models=["another"]) as simulator:
        _, document = examine(tmp_path, f"url: '{simulator.url}', model: mine")
    (found,) = services(document)
    assert found["handshake"]["mark"] == "FAIL"
    assert "mine" in found["handshake"]["text"]


def test_a_complaint_in_the_middle_is_a_note(tmp_path):
    with Simulator(think_s=0.02, faults=["junk"]) as simulator:
        status, document = examine(tmp_path, f"url: '{simulator.url}'")
    (found,) = services(document)
    assert status == 0
    assert found["turn"]["mark"] == "note"


def test_another_dialect_is_seen(tmp_path):
    with Simulator(think_s=0.02, faults=["beta-names"]) as simulator:
        _, document = examine(tmp_path, f"url: '{simulator.url}'")
    (found,) = services(document)
    assert found["turn"]["dialect"] == "response.audio.delta"


def test_a_host_name_that_is_not_found_is_told(tmp_path):
    status, document = examine(tmp_path, "url: 'wss://a..b/v1/realtime'")  # no look-up finds an empty part
    (found,) = services(document)
    assert status == 1
    assert list(found) == ["key", "name"]
    assert "its name was not found" in found["name"]["text"]
    assert "network" in found["name"]["advice"]


def test_a_refused_connection_is_told_at_the_route(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    _, document = examine(tmp_path, f"url: 'ws://127.0.0.1:{port}/v1/realtime'")
    (found,) = services(document)
    assert list(found) == ["key", "name", "route"]
    assert "refused" in found["route"]["text"]


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def test_tls_is_told_with_how_long_the_certificate_is_valid(tmp_path, authority):
    with Simulator(think_s=0.02, tls=authority.server()) as simulator:
        status, document = examine(tmp_path, f"url: '{simulator.url}', ca_file: '{authority.certificate}'")
    (found,) = services(document)
    assert status == 0, document
    assert found["TLS"]["text"].startswith("TLSv1.3")
    assert found["TLS"]["valid_until"] == "2095-01-01"


@pytest.mark.parametrize(
    ("begins", "ends", "names", "words"),
    [
        (LONG_AGO, PAST, "IP:127.0.0.1", "expired"),
        (FUTURE, FAR, "IP:127.0.0.1", "clock"),
        (LONG_AGO, FAR, "IP:127.0.0.9", "another host"),
    ],
)
def test_a_certificate_that_is_not_valid_is_told_and_the_key_is_not_sent(
    tmp_path, authority, begins, ends, names, words
):
    with Simulator(tls=authority.server(names, begins, ends)) as simulator:
        status, document = examine(tmp_path, f"url: '{simulator.url}', ca_file: '{authority.certificate}'")
        assert not simulator.connections
    (found,) = services(document)
    assert status == 1
    assert list(found) == ["key", "name", "route", "TLS"]
    assert words in found["TLS"]["text"]


def test_a_certificate_of_an_unknown_ca_is_told_with_what_to_do(tmp_path, authority):
    with Simulator(tls=authority.server()) as simulator:
        _, document = examine(tmp_path, f"url: '{simulator.url}'")
    (found,) = services(document)
    assert "service.ca_file" in found["TLS"]["advice"]


def test_what_does_not_speak_tls_is_told(tmp_path):
    with Simulator() as simulator:
        _, document = examine(tmp_path, f"url: 'wss://127.0.0.1:{simulator.port}/v1/realtime'")
    (found,) = services(document)
    assert found["TLS"]["mark"] == "FAIL"
    assert list(found)[-1] == "TLS"


# More than one --------------------------------------------------------------------------------------------------------


def test_a_fallback_is_greeted_and_not_asked(tmp_path):
    with Simulator(think_s=0.02) as first, Simulator("openai", think_s=0.02) as second:
        more = f"fallback: [{{name: openai, url: '{second.url}'}}]\n"
        status, document = examine(tmp_path, f"url: '{first.url}'", more)
        assert len(first.turns) == 1
        assert len(second.connections) == 1
        assert not second.turns
    assert status == 0
    assert [("turn" in each, each["session"]["mark"]) for each in services(document)] == [(True, "ok"), (False, "ok")]


def test_a_fallback_that_works_saves_the_turn(tmp_path):
    with Simulator(faults=["refuse-401"]) as first, Simulator("openai") as second:
        more = f"fallback: [{{name: openai, url: '{second.url}'}}]\n"
        status, document = examine(tmp_path, f"url: '{first.url}'", more)
    assert (status, document["ok"]) == (0, True)
    assert marks(document)["handshake"] == "ok"
    assert services(document)[0]["handshake"]["mark"] == "FAIL"
    assert "but not by xai (handshake)" in document["verdict"]


def test_where_all_of_them_fail_a_turn_would_not_work(tmp_path):
    with Simulator(faults=["refuse-401"]) as first:
        more = "fallback: [{name: openai, url: 'ws://127.0.0.1:1'}]\n"
        status, document = examine(tmp_path, f"url: '{first.url}'", more)
    assert (status, document["ok"]) == (1, False)
    assert "xai (handshake), openai (route)" in document["verdict"]


def test_a_token_server_is_a_step_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("XAI_API_KEY")
    with Simulator(think_s=0.02) as simulator:
        token_url = f"{simulator.origin}/v1/realtime/client_secrets"
        _, document = examine(tmp_path, f"url: '{simulator.url}', token_url: '{token_url}'")
    (found,) = services(document)
    assert "token server" in found["key"]["text"]
    assert found["handshake"]["mark"] == "FAIL"  # which wants a key of its own
    assert "401" in found["handshake"]["text"]


def test_a_token_server_elsewhere_is_gone_to_first(tmp_path):
    with Simulator(think_s=0.02) as service, Simulator() as tokens:
        token_url = f"{tokens.origin}/v1/realtime/client_secrets"
        _, document = examine(tmp_path, f"url: '{service.url}', token_url: '{token_url}'")
    peers = [each["peer"] for each in document["checks"] if each["name"] == "route"]
    assert peers == [f"127.0.0.1 port {each.port}" for each in (tokens, service)]


# What is said of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accepted", "mark"), [(False, Mark.FAIL), (True, Mark.NOTE)])
def test_a_complaint_counts_as_much_as_the_settings_that_were_not_taken(accepted, mark):
    watched = SessionTrace()
    watched.accepted = accepted
    finding = network._greeting(0.1, watched, "no such voice")
    assert finding.mark is mark
    assert "no such voice" in finding.text
    assert network._greeting(0.1, watched, "").mark is Mark.OK


def test_an_answer_without_sound_is_no_answer():
    trace = SessionTrace()
    trace.tell(ReplyEnded("r1", "cancelled"))
    finding = network._answer(0.0, trace)
    assert finding.mark is Mark.FAIL
    assert "no sound was received" in finding.text
    assert "cancelled" in finding.text


def test_an_answer_without_end_is_noted():
    trace = SessionTrace()
    trace.tell(ReplyStarted("r1"))
    finding = network._answer(0.0, trace)
    assert finding.mark is Mark.NOTE
    assert "did not end" in finding.text
