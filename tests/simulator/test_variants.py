"""The manners of the simulated services, and the faults that are told in events, without a socket or a clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.dsp.resampling import resample
from device_agent.simulator import VARIANTS, Simulator
from device_agent.simulator.contract import IDLE_S, Asked, Behaviour, ConnectionLog, Goodbye, Happening
from device_agent.simulator.faults import FaultSwitches
from device_agent.simulator.services.openai import Openai, OpenaiSession
from device_agent.simulator.services.rewriting import LATE_PIECES, REWRITERS, Rewriting
from device_agent.simulator.services.xai import XaiSession
from tests.support import simulator_client
from tests.support.simulator_client import only, question, refusal, silence, sound, tone, types

LAMP = {"type": "function", "name": "lamp", "parameters": {"type": "object"}}
DOCS = {"type": "mcp", "server_label": "docs", "server_url": "https://docs.example"}
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Client(simulator_client.Client):
    """A client of a service whose manners and faults have these names."""

    def __init__(self, *names: str, service: str = "openai", **manners: Any) -> None:
        usual = {"think_s": 0.25, "ping_s": 0, **manners}
        switches = FaultSwitches(Behaviour(**usual), service)
        for name in names:
            switches.switch(name, True)
        make = {"openai": OpenaiSession, "xai": XaiSession}[service]
        self._service = service
        super().__init__(lambda _manners, heard: make(switches.behaviour, heard, random.Random(7), wall=1000.0))

    def configure(self, **session: Any) -> list[dict[str, Any]]:
        return self.say("session.update", session={**MANUAL, **session})

    def ask(self) -> list[dict[str, Any]]:
        return self.say("response.create")

    def turn(self, pcm: bytes = b"") -> list[dict[str, Any]]:
        """A turn by hand, and its answer, which is asked for where it does not come by itself."""
        if self._service == "openai" and not self.heard.settings:
            self.configure()
        self.append(pcm or question())
        news = self.say("input_audio_buffer.commit") + self.wait(0.5)
        begun = any(kind.startswith("response.") for kind in types(news))
        return news + ([] if begun else self.ask()) + self.wait(10.0)


def replies(news: list[dict[str, Any]]) -> list[str]:
    return [event["response"]["id"] for event in news if event["type"] == "response.created"]


def named(news: list[dict[str, Any]]) -> list[Any]:
    """What the pieces of sound say which reply they belong to."""
    return [event.get("response_id", "?") for event in news if event["type"] == "response.output_audio.delta"]


FAMILY = pytest.mark.parametrize("service", ["xai", "openai"])


def test_every_manner_is_tried() -> None:
    """Here or, where a service has it alone, in the tests of that service."""
    elsewhere = {"answers-commits", "asks", "takes-back", "json-in-binary", "asks-too", "no-greeting", "early-greeting"}
    text = Path(__file__).read_text()
    assert {name for name in VARIANTS if f'"{name}"' not in text} <= elsewhere
    assert {name for entry in VARIANTS.values() for name in entry.changes.get("rewriters", ())} == set(REWRITERS)
    assert all(entry.says and entry.changes for entry in VARIANTS.values())


def test_names_add_up_and_can_be_switched_off() -> None:
    switches = FaultSwitches(Behaviour(), "openai", ["late-sound"])
    switches.switch("no-ids", True)
    switches.switch("rate-limited", True)
    assert (switches.behaviour.rewriters, switches.behaviour.fails) == (("late-sound", "no-ids"), "rate_limit_exceeded")
    for name in list(switches.on):
        switches.switch(name, False)
    assert switches.behaviour == Behaviour(rewriters=("late-sound",))


@pytest.mark.parametrize("name", ["rain", "refuse-401"])
def test_a_manner_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}'.*answers-commits"):
        Simulator(manner=[name])


# The beginning of a reply -----------------------------------------------------------------------------------------


def test_no_turn_detection_can_be_taken_for_the_usual_one() -> None:
    client = Client("automatic")
    client.configure()
    news = client.append(tone(1.0) + silence(0.2))
    assert types(news)[:2] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
    assert "response.created" in types(news)
    assert refusal(client.say("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"
    client.until("response.output_audio.delta")
    done = only(client.append(tone(0.5)), "response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")


@FAMILY
def test_the_commit_of_the_service_can_be_told_behind_the_beginning_of_the_reply(service: str) -> None:
    client = Client("created-first", service=service)
    session = {"turn_detection": {"type": "server_vad"}}
    client.say("session.update", session=session if service == "xai" else {"type": "realtime"})
    news = types(client.append(question()) + client.wait())
    stopped, created, committed = (
        news.index(kind)
        for kind in ("input_audio_buffer.speech_stopped", "response.created", "input_audio_buffer.committed")
    )
    assert stopped < created < committed
    by_hand = Client("created-first")
    by_hand.configure()
    by_hand.append(tone(1.0))
    assert "input_audio_buffer.committed" in types(by_hand.say("input_audio_buffer.commit"))


@FAMILY
def test_a_reply_can_be_announced_twice(service: str) -> None:
    first, second = replies(Client("created-twice", service=service).turn())
    assert first == second


@FAMILY
def test_a_reply_that_is_announced_can_be_replaced(service: str) -> None:
    news = Client("replaced", service=service).turn()
    never, spoken = replies(news)
    assert never != spoken == only(news, "response.done")["response"]["id"]
    assert set(named(news)) == {spoken}


@FAMILY
def test_it_can_be_said_to_be_busy_before_the_reply_is_announced(service: str) -> None:
    news = Client("busy-first", service=service).turn()
    assert refusal(news) == "conversation_already_has_active_response"
    assert types(news).index("error") == types(news).index("response.created") - 1


def test_it_can_be_said_to_be_busy_with_nothing() -> None:
    client = Client("busy-idle")
    client.text("Hello")
    for _ in range(2):
        assert refusal(client.ask()) == "conversation_already_has_active_response"
        assert client.wait(5.0) == []
        assert "response.created" in types(client.ask())
        assert refusal(client.ask()) == "conversation_already_has_active_response"  # this time it is true
        assert "response.done" in types(client.wait())


def test_a_request_that_comes_with_the_commit_can_be_dropped() -> None:
    client = Client("drops-requests", service="xai")
    client.append(tone(1.0))
    news = client.say("input_audio_buffer.commit")
    assert types(news)[-1] == "response.created"
    assert client.ask() == []
    assert sound(client.wait()) == tone(1.0)


# How a reply is told ----------------------------------------------------------------------------------------------


@FAMILY
@pytest.mark.parametrize(
    ("name", "behind"), [("late-sound", "response.output_audio.done"), ("later-sound", "response.done")]
)
def test_the_last_sound_can_come_late(service: str, name: str, behind: str) -> None:
    news = Client(name, service=service).turn()
    kinds = types(news)
    assert sound(news) == question()
    assert kinds[kinds.index(behind) :].count("response.output_audio.delta") == LATE_PIECES


def test_nothing_of_a_reply_that_was_cut_comes_behind_the_end_of_its_sound() -> None:
    client = Client("late-sound", service="xai")
    client.append(question())
    client.say("input_audio_buffer.commit")
    client.until("response.output_audio.delta")
    client.say("response.cancel")
    assert sound(client.wait()) == b""
    client.say("input_audio_buffer.clear")
    assert sound(client.turn(tone(1.0))) == tone(1.0)


@FAMILY
def test_a_reply_can_have_no_end(service: str) -> None:
    client = Client("never-done", service=service)
    for _ in range(2):
        news = client.turn()
        assert sound(news) == question()
        assert not [kind for kind in types(news) if kind in ("response.done", "error")]
    assert client.heard.replies == 2


def test_a_reply_can_have_two_items() -> None:
    news = Client("two-items").turn()
    ended = [event for event in news if event["type"] == "response.output_item.done"]
    assert [(each["output_index"], each["item"]["phase"]) for each in ended] == [(0, "commentary"), (1, "final_answer")]
    first, second = only(news, "response.done")["response"]["output"]
    assert (first["id"], second["id"]) == tuple(each["item"]["id"] for each in ended)
    pieces = [event for event in news if event["type"] == "response.output_audio.delta"]
    assert {(each["item_id"], each["output_index"]) for each in pieces} == {(first["id"], 0), (second["id"], 1)}
    said = [each["content"][0]["transcript"] for each in (first, second)]
    assert "".join(said) == "You said: (2.5 seconds of speech)."
    assert sound(news) == question()


def test_each_item_is_truncated_by_its_own_length() -> None:
    client = Client("two-items")
    news = client.turn()
    for item in only(news, "response.done")["response"]["output"]:
        place = {"item_id": item["id"], "content_index": 0}
        heard = [event for event in news if event["type"] == "response.output_audio.delta"]
        length = len(sound([event for event in heard if event["item_id"] == item["id"]])) // 48
        assert refusal(client.say("conversation.item.truncate", **place, audio_end_ms=length + 1)) == "invalid_value"
        (told,) = client.say("conversation.item.truncate", **place, audio_end_ms=length)
        assert told["type"] == "conversation.item.truncated"


@FAMILY
def test_words_can_come_at_the_end_alone(service: str) -> None:
    news = Client("words-at-end", service=service).turn()
    assert [kind for kind in types(news) if "output_audio_transcript" in kind] == [
        "response.output_audio_transcript.done"
    ]


@FAMILY
def test_a_call_can_be_told_by_its_item_alone(service: str) -> None:
    client = Client("calls-in-items", "uses-tools", service=service)
    client.configure(tools=[LAMP])
    news = client.turn()
    assert not [kind for kind in types(news) if "function_call" in kind]
    assert only(news, "response.done")["response"]["output"] is None
    items = [event["item"] for event in news if event["type"] == "response.output_item.done"]
    assert [item["arguments"] for item in items if item["type"] == "function_call"] == ["{}"]


@FAMILY
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("other-ids", lambda ids, reply: len(set(ids)) == 1 and reply not in ids and isinstance(ids[0], str)),
        ("random-ids", lambda ids, reply: len(set(ids)) == len(ids) > 1 and reply not in ids),
        ("null-ids", lambda ids, reply: set(ids) == {None}),
        ("no-ids", lambda ids, reply: set(ids) == {"?"}),
    ],
)
def test_the_pieces_can_name_no_reply_or_others(
    service: str, name: str, right: Callable[[list[Any], str], bool]
) -> None:
    client = Client(name, service=service)
    seen = []
    for _ in range(2):
        news = client.turn()
        (reply,) = replies(news)
        assert right(named(news), reply)
        assert only(news, "response.done")["response"]["id"] == reply
        seen.append(set(named(news)))
    assert seen[0].isdisjoint(seen[1]) or name in ("null-ids", "no-ids")


def test_names_can_be_old() -> None:
    assert "response.audio.delta" in types(Client("beta-names").turn())


def test_errors_can_be_flat() -> None:
    error = only(Client("flat-errors").say("no.such.event"), "error")
    assert set(error) == {"type", "error", "code"}
    assert isinstance(error["error"], str)


def test_a_server_can_have_a_rate_of_its_own() -> None:
    client = Client("other-rate")
    (updated,) = client.configure()
    assert updated["session"]["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 16000}
    assert updated["session"]["audio"]["input"]["format"]["rate"] == 24000
    assert sound(client.turn()) == resample(question(), 24000, 16000)


@given(names=st.sets(st.sampled_from(list(REWRITERS))), turns=st.integers(1, 3))
def test_whatever_is_rewriters_every_event_has_an_id_of_its_own_and_sound_keeps_its_order(
    names: set[str], turns: int
) -> None:
    count = iter(range(10_000))
    rewriting = Rewriting(lambda kind: f"{kind}_{next(count)}")
    out = []
    for turn in range(turns):
        events = [
            {"type": "input_audio_buffer.speech_stopped"},
            {"type": "input_audio_buffer.committed"},
            {"type": "response.created", "response": {"id": f"r{turn}"}},
            *({"type": "response.output_audio.delta", "delta": (turn, n)} for n in range(5)),
            {"type": "response.output_audio.done"},
            {"type": "response.done", "response": {"id": f"r{turn}", "output": []}},
        ]
        for event in events:
            out += rewriting({**event, "event_id": f"e_{next(count)}"}, names)
    ids = [event["event_id"] for event in out if "event_id" in event]
    assert len(set(ids)) == len(ids)
    pieces = [event["delta"] for event in out if "delta" in event]
    assert pieces == sorted(pieces)
    if not {"late-sound", "later-sound"} <= names and not {"later-sound", "never-done"} <= names:
        assert len(pieces) == 5 * turns


# Sessions and tools -----------------------------------------------------------------------------------------------


def test_there_can_be_room_for_one_session() -> None:
    service, manners = Openai(), FaultSwitches(Behaviour(), "openai", ["one-session"]).behaviour

    def come_in(at: float) -> Any:
        asked = Asked("GET", service.path, {}, {"authorization": "Bearer k"}, upgrade=True, at=at)
        voice = service.routes["GET", service.path](asked, manners, ConnectionLog())
        assert isinstance(voice, OpenaiSession)
        voice.connected(at)
        return voice

    first = come_in(1.0)
    error, goodbye = (item for item in come_in(2.0).outgoing() if not isinstance(item, Happening))
    assert "session_limit_reached" in error
    assert goodbye == Goodbye(1008, "All session slots are in use")
    first.disconnected(10.0)
    assert not come_in(12.9).has_slot
    assert come_in(13.1).has_slot


def test_a_slow_tool_of_the_service_shows_that_it_works() -> None:
    client = Client("slow-tools")
    client.configure(tools=[{**DOCS, "require_approval": "never"}])
    client.append(question())
    began, news = client.now, client.say("input_audio_buffer.commit") + client.ask()
    news += client.until("response.output_audio.delta")
    assert 40.0 <= client.now - began < 41.0
    assert types(news).count("response.mcp_call.in_progress") > 7


def test_a_tool_of_the_service_that_a_text_names_is_used_unless_it_waits_for_an_approval() -> None:
    for approval, answered in (("never", ["mcp_call", "message"]), ("always", ["message"])):
        client = Client()
        client.configure(tools=[{**DOCS, "require_approval": approval}])
        client.text('docs {"q": "lamp"}')
        output = only(client.ask() + client.wait(), "response.done")["response"]["output"]
        assert [item["type"] for item in output] == answered
        assert output[0].get("arguments") == ('{"q": "lamp"}' if approval == "never" else None)


def test_an_item_can_be_retrieved() -> None:
    client = Client("slow-tools")
    client.configure(tools=[{**DOCS, "require_approval": "never"}])
    news = client.turn()
    call = next(event for event in news if event["type"] == "response.mcp_call.in_progress")["item_id"]
    shown = only(client.say("conversation.item.retrieve", item_id=call), "conversation.item.retrieved")["item"]
    assert (shown["type"], shown["server_label"], "status" in shown) == ("mcp_call", "docs", False)
    assert refusal(client.say("conversation.item.retrieve", item_id="?")) == "item_not_found"
    spoken = only(news + client.wait(60.0), "response.done")["response"]["output"][-1]
    retrieved = only(client.say("conversation.item.retrieve", item_id=spoken["id"]), "conversation.item.retrieved")
    assert retrieved["item"] == spoken


def test_wishes_that_are_null_are_none_and_metadata_come_back() -> None:
    client = Client()
    wish = {"instructions": None, "tools": None, "max_output_tokens": None, "metadata": {"client_event_id": "a"}}
    news = client.say("response.create", response=wish) + client.wait()
    for kind in ("response.created", "response.done"):
        assert only(news, kind)["response"]["metadata"] == {"client_event_id": "a"}
    assert refusal(client.say("response.create", response={"voice": None, "speech": 1})) == "unknown_parameter"


def test_a_reply_that_is_under_way_can_be_truncated() -> None:
    client = Client()
    client.text("Hello")
    client.ask()
    item = only(client.until("response.output_audio.delta"), "response.output_item.added")["item"]["id"]
    (told,) = client.say("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1)
    assert told["type"] == "conversation.item.truncated"
    (retrieved,) = client.say("conversation.item.retrieve", item_id=item)
    assert retrieved["item"]["content"] == [{"type": "output_audio", "transcript": None}]


def test_a_turn_that_is_retrieved_has_its_transcript() -> None:
    client = Client()
    client.configure(audio={"input": {"turn_detection": None, "transcription": {"model": "gpt-transcribe"}}})
    item = only(client.turn(tone(1.0)), "input_audio_buffer.committed")["item_id"]
    (retrieved,) = client.say("conversation.item.retrieve", item_id=item)
    assert retrieved["item"]["content"] == [{"type": "input_audio", "transcript": "(1.0 seconds of speech)"}]


# Faults -----------------------------------------------------------------------------------------------------------


@FAMILY
@pytest.mark.parametrize(
    ("name", "code", "announced", "again"),
    [
        ("rate-limited", "rate_limit_exceeded", False, "completed"),
        ("server-error", "server_error", True, "completed"),
        ("no-quota", "insufficient_quota", False, "failed"),
    ],
)
def test_a_reply_can_fail(service: str, name: str, code: str, announced: bool, again: str) -> None:
    client = Client(name, service=service)
    news = client.turn()
    error = only(news, "response.done")["response"]["status_details"]["error"]
    assert error["code"] == error["type"] == code
    assert ("response.created" in types(news)) is announced
    client.text("Again")
    assert only(client.ask() + client.wait(), "response.done")["response"]["status"] == again


@pytest.mark.parametrize(
    ("name", "reason"), [("cut-by-filter", "content_filter"), ("cut-by-length", "max_output_tokens")]
)
def test_a_reply_can_be_cut_off(name: str, reason: str) -> None:
    news = Client(name).turn()
    done = only(news, "response.done")["response"]
    assert (done["status"], done["status_details"]) == ("incomplete", {"type": "incomplete", "reason": reason})
    assert 0 < len(sound(news)) < len(question()) / 2


def test_a_reply_can_be_words_alone() -> None:
    done = only(Client("text-only").turn(), "response.done")["response"]
    assert done["output"][0]["content"][0]["type"] == "output_text"


@FAMILY
def test_a_reply_can_be_empty(service: str) -> None:
    news = Client("empty-reply", service=service).turn()
    done = only(news, "response.done")["response"]
    assert (done["status"], done["output"]) == ("completed", [])
    assert "response.output_item.added" not in types(news)


@pytest.mark.parametrize("name", ["refused-settings", "refused-transcription"])
def test_settings_can_be_refused(name: str) -> None:
    client = Client(name)
    heard = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
    error = only(client.configure(audio={"input": heard}), "error")["error"]
    whole = name == "refused-settings"
    assert error["param"] == ("session" if whole else "session.audio.input.transcription.model")
    assert (types(client.configure()) == ["session.updated"]) is not whole


def test_transcripts_can_fail() -> None:
    client = Client("no-transcripts")
    client.configure(audio={"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}})
    news = client.turn()
    failed = only(news, "conversation.item.input_audio_transcription.failed")
    assert failed["item_id"] == only(news, "input_audio_buffer.committed")["item_id"]
    assert not [kind for kind in types(news) if kind.endswith("transcription.completed")]


@FAMILY
def test_a_session_can_be_slow_to_begin(service: str) -> None:
    client = Client("slow-session", service=service)
    assert client.events + client.configure() + client.wait(19.9) == []
    greeted = types(client.wait(0.2))
    assert (greeted[0], greeted[-1]) == ("session.created", "session.updated")


@FAMILY
def test_a_reply_can_be_slow_to_be_announced(service: str) -> None:
    client = Client("slow-reply", service=service)
    client.text("Hello")
    assert client.ask() + client.wait(19.9) == []
    assert types(client.wait(0.2)) == ["response.created"]
    assert sound(client.wait())


@FAMILY
def test_sound_can_come_long_after_its_words(service: str) -> None:
    client = Client("late-voice", service=service)
    client.text("Hello")
    client.ask()
    assert "".join(event["delta"] for event in client.wait(36.0) if "delta" in event) == "You wrote: Hello"
    assert sound(client.wait(10.0))


def test_the_end_of_a_session_can_be_told_too_early() -> None:
    created = only(Client("expires-soon", session_s=600.0).events, "session.created")["session"]
    assert created["expires_at"] == 1100  # the clock began at 1000, and is at 100
    assert Client(session_s=600.0).events[0]["session"]["expires_at"] == 1700


@FAMILY
def test_it_is_noticed_that_nothing_is_said(service: str) -> None:
    client = Client(service=service)
    client.configure()
    client.turn(tone(1.0))
    assert client.moments[-2:] == ["replied", "idle"]
    before = client.moments.count("idle")
    client.text("Hello")
    client.wait(IDLE_S - 0.1)
    assert client.moments.count("idle") == before
    client.wait(0.2)
    assert client.moments.count("idle") == before + 1


@FAMILY
def test_it_is_noticed_that_a_tool_was_called(service: str) -> None:
    client = Client("uses-tools", service=service)
    client.configure(tools=[LAMP])
    client.turn(tone(1.0))
    assert [moment for moment in client.moments if moment in ("called", "replied")] == ["replied", "called"]
