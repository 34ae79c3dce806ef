"""What the assistant can do on every device, through the real toolbox, with clocks that the test moves."""

from __future__ import annotations

import json
import os
import queue
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.config.model import ABILITIES, TOOL_NAME, TOOL_SCHEMA
from device_agent.core.actions import ToolResult
from device_agent.core.events import Event, MuteAsked, StopAsked, ToolCall, VolumeAsked
from device_agent.core.redaction import Secret
from device_agent.services.registry import SERVICES, load
from device_agent.simulator.services.openai_settings import OpenaiSettings
from device_agent.simulator.services.ultravox_calls import CALL
from device_agent.simulator.services.xai_settings import XaiSettings
from device_agent.state.alarms import MAX_ALARMS, Alarms
from device_agent.state.store import StateStore
from device_agent.tools.builtin import builtin_tools
from device_agent.tools.time_tools import days, duration, moment
from device_agent.tools.toolbox import Toolbox

PATIENCE_S = 20.0
MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.fixture(autouse=True, scope="module")
def zone():
    """Central Europe, spelled out, so that no machine needs to know it."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


class Speaker:
    """A device as its tools see it: two clocks, a volume, and the events that it is told."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 11, 21, 18, 30).timestamp()  # a Saturday
        self.steady, self.volume = 1000.0, 50
        self.told: list[Event] = []
        self.alarms = Alarms(StateStore())
        self.tools = self.abilities(*ABILITIES)
        self._answers: queue.SimpleQueue[ToolResult] = queue.SimpleQueue()
        self._toolbox = Toolbox(self.tools)

    def abilities(self, *names: str):
        clocks = {"wall": lambda: self.wall, "steady": lambda: self.steady}
        return builtin_tools(names, tell=self.told.append, volume=lambda: self.volume, alarms=self.alarms, **clocks)

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._toolbox.close()

    def result(self, tool: str, /, **arguments: object) -> ToolResult:
        self._toolbox.run(ToolCall("c1", tool, json.dumps(arguments)), self._answers.put)
        return self._answers.get(timeout=PATIENCE_S)

    def ask(self, tool: str, /, **arguments: object) -> dict:
        """Return the outcome of what should work."""
        result = self.result(tool, **arguments)
        assert not result.failed, result.output
        return json.loads(result.output)

    def fail(self, tool: str, /, **arguments: object) -> str:
        """Return what the assistant is told of what should not work."""
        result = self.result(tool, **arguments)
        assert result.failed, result.output
        assert not result.quiet
        assert "broken" not in result.output
        return json.loads(result.output)["error"]

    def wait(self, seconds: float) -> list[str]:
        self.wall += seconds
        self.steady += seconds
        return [each.name for each in self.alarms.due(self.wall, self.steady)]


@pytest.fixture
def speaker():
    with Speaker() as speaker:
        yield speaker


# What every tool is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("volume", ["set_volume", "get_volume"]),
        ("mute", ["mute"]),
        ("stop", ["stop"]),
        ("alarms", ["set_timer", "set_alarm", "list_alarms", "cancel_alarm"]),
        ("time", ["get_time"]),
    ],
)
def test_the_owner_chooses_groups_of_tools(speaker, group, names):
    assert group in ABILITIES
    assert [tool.function.name for tool in speaker.abilities(group)] == names
    assert [tool.function.name for tool in speaker.abilities(group, group)] == names


def test_there_is_a_group_for_every_word_of_the_configuration(speaker):
    assert len(speaker.tools) == 9
    assert speaker.abilities() == []


def test_only_stop_is_quiet(speaker):
    assert [tool.function.name for tool in speaker.tools if tool.quiet] == ["stop"]


def test_every_tool_is_what_a_tool_of_the_owner_has_to_be(speaker):
    for tool in speaker.tools:
        assert TOOL_NAME.holds(tool.function.name)
        assert TOOL_SCHEMA.holds(tool.function.parameters)
        assert tool.function.description.endswith((".", ".)"))


def test_schemas_use_nothing_that_a_service_may_not_know(speaker):
    def keys(schema: dict) -> set[str]:
        inner = [schema["items"]] if "items" in schema else []
        return set(schema).union(*map(keys, inner))

    for tool in speaker.tools:
        assert set(tool.function.parameters) <= {"type", "properties", "required"}
        assert tool.function.parameters.get("required") != []  # the older drafts of JSON schema forbid it
        for schema in tool.function.parameters["properties"].values():
            assert {"type", "description"} <= keys(schema) <= {"type", "description", "enum", "items"}


def test_every_service_takes_the_tools(speaker):
    functions = tuple(tool.function for tool in speaker.tools)
    told = {}
    for name in SERVICES:
        service = load(name)(key=Secret("k"), functions=functions)
        if name == "ultravox":
            told[name] = service.invitation("").body
            continue
        session = service.session()
        session.greet()
        told[name] = json.loads(session.outgoing()[-1])["session"]
    XaiSettings().updated(told["xai"])
    OpenaiSettings().updated(told["openai"])
    CALL(told["ultravox"], "call")
    assert len(told["ultravox"]["selectedTools"]) == len(functions)
    (at,) = [
        each["temporaryTool"]["dynamicParameters"][0]
        for each in told["ultravox"]["selectedTools"]
        if each["temporaryTool"]["modelToolName"] == "set_alarm"
    ]
    assert (at["name"], at["required"]) == ("time", True)


def test_the_judge_finds_nothing_wrong_with_the_tools(speaker):
    from tests.support.judge import judge

    session = load("openai")(functions=tuple(tool.function for tool in speaker.tools)).session()
    session.greet()
    assert judge(json.loads(session.outgoing()[0]), "client") == []


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.text(max_size=4)),
    st.sampled_from(["10", "ten", "-1", "1e400", "07:00", "monday", {}, [[]], "9" * 5000, 10**400]),
)  # fmt: skip
NAMES = ["hours", "minutes", "seconds", "name", "time", "days", "once", "number", "kind", "all", "percent", "change"]


@given(st.lists(st.tuples(st.integers(0, 8), st.dictionaries(st.sampled_from(NAMES), JUNK)), max_size=10))
def test_whatever_a_model_writes_it_gets_an_answer_and_no_tool_breaks(calls):
    with Speaker() as speaker:
        for index, arguments in calls:
            result = speaker.result(speaker.tools[index].function.name, **arguments)
            answer = json.loads(result.output)
            assert not result.failed or answer["error"] != "the tool is broken"
            assert len(result.output) < 8000
        for event in speaker.told:
            match event:
                case VolumeAsked(percent, by):
                    assert percent is None or 0 <= percent <= 100
                    assert -100 <= by <= 100
                case MuteAsked(muted):
                    assert muted is True
                case _:
                    assert event == StopAsked()


# Volume, microphone, silence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "event", "outcome"),
    [
        ({"percent": 30}, VolumeAsked(percent=30), 30),
        ({"percent": 0}, VolumeAsked(percent=0), 0),
        ({"percent": "30"}, VolumeAsked(percent=30), 30),
        ({"percent": " 30 %"}, VolumeAsked(percent=30), 30),
        ({"percent": 29.6, "change": 0, "why": "loud"}, VolumeAsked(percent=30), 30),
        ({"percent": None, "change": 10}, VolumeAsked(by=10), 60),
        ({"percent": "", "change": "-10"}, VolumeAsked(by=-10), 40),
        ({"change": 0.2}, VolumeAsked(by=1), 51),
        ({"change": -0.2}, VolumeAsked(by=-1), 49),
        ({"change": 80}, VolumeAsked(by=80), 100),
        ({"change": -80}, VolumeAsked(by=-80), 0),
    ],
)
def test_the_volume_changes(speaker, arguments, event, outcome):
    assert speaker.ask("set_volume", **arguments) == {"volume": outcome}
    assert speaker.told == [event]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "neither percent nor change"),
        ({"change": 0}, "ask the user"),
        ({"percent": 101}, "from 0 to 100"),
        ({"percent": -1}, "from 0 to 100"),
        ({"change": 101}, "from -100 to 100"),
        ({"percent": "loud"}, "'loud'"),
        ({"percent": True}, "True"),
        ({"percent": [3]}, "[3]"),
        ({"percent": float("nan")}, "nan"),
        ({"percent": 50, "change": 10}, "percent and change"),
        ({"percent": "x" * 5000}, "'xxx"),
    ],
)
def test_a_volume_that_makes_no_sense_changes_nothing(speaker, arguments, words):
    told = speaker.fail("set_volume", **arguments)
    assert words in told
    assert len(told) < 200
    assert speaker.told == []


def test_at_the_end_of_the_scale_the_assistant_knows(speaker):
    speaker.volume = 100
    assert speaker.ask("set_volume", change=10) == {"volume": 100, "note": "it was so already"}


def test_the_volume_is_told(speaker):
    assert speaker.ask("get_volume") == {"volume": 50}


def test_muting_says_how_to_unmute_because_a_muted_device_hears_no_request(speaker):
    assert "button or switch" in speaker.ask("mute")["on_again"]
    assert speaker.told == [MuteAsked(True)]
    (mute,) = speaker.abilities("mute")
    assert "button or switch" in mute.function.description


def test_stop_is_silent_about_itself(speaker):
    result = speaker.result("stop")
    assert (result.quiet, result.failed) == (True, False)
    assert speaker.told == [StopAsked()]


# Timers and alarms ----------------------------------------------------------------------------------------------------


def test_a_timer_is_set_and_rings(speaker):
    outcome = speaker.ask("set_timer", minutes=10, name="pasta")
    assert outcome == {"number": 1, "name": "pasta", "rings_in": "10 minutes", "rings_at": "18:40"}
    assert speaker.wait(599) == []
    assert speaker.wait(1) == ["pasta"]


@pytest.mark.parametrize(
    ("arguments", "rings_in", "rings_at"),
    [
        ({"hours": 1, "minutes": 5}, "1 hour 5 minutes", "19:35"),
        ({"hours": 1.5}, "1 hour 30 minutes", "20:00"),
        ({"hours": "0", "minutes": "90", "seconds": ""}, "1 hour 30 minutes", "20:00"),
        ({"seconds": 90}, "1 minute 30 seconds", "18:31"),
        ({"seconds": 1, "minutes": None}, "1 second", "18:30"),
        ({"hours": 24}, "1 day", "tomorrow 18:30"),
        ({"minutes": 10, "unit": "eggs"}, "10 minutes", "18:40"),
    ],
)
def test_a_timer_takes_as_long_as_its_parts_together(speaker, arguments, rings_in, rings_at):
    assert speaker.ask("set_timer", **arguments) == {"number": 1, "rings_in": rings_in, "rings_at": rings_at}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "ask the user how long"),
        ({"minutes": 0}, "ask the user how long"),
        ({"minutes": -5}, "from 0 to 1440"),
        ({"minutes": "ten"}, "number in digits"),
        ({"hours": 23, "minutes": 61}, "up to 24 hours|24 hours; for longer set an alarm"),
        ({"hours": 1000000}, "from 0 to 24"),
        ({"seconds": 0.2}, "from one second"),
        ({"minutes": True}, "True"),
        ({"minutes": {"value": 3}}, "value"),
        ({"minutes": 3, "name": ["a"]}, "should be a text"),
    ],
)
def test_a_timer_that_makes_no_sense_is_not_set(speaker, arguments, words):
    told = speaker.fail("set_timer", **arguments)
    assert any(each in told for each in words.split("|"))
    assert speaker.ask("list_alarms") == {"timers": [], "alarms": []}


@pytest.mark.parametrize(
    ("text", "rings_at"),
    [
        ("19:00", "19:00"), ("18:30", "tomorrow 18:30"), ("7:05", "tomorrow 07:05"), ("07:00:00", "tomorrow 07:00"),
        ("7 pm", "19:00"), ("7:15PM", "19:15"), ("7 a.m.", "tomorrow 07:00"), ("12 am", "tomorrow 00:00"),
        ("12:30 pm", "tomorrow 12:30"), ("19.15", "19:15"), ("19h15", "19:15"), (" 19:00 ", "19:00"), (21, "21:00"),
    ],
)  # fmt: skip
def test_an_alarm_is_set_for_the_next_such_time(speaker, text, rings_at):
    outcome = speaker.ask("set_alarm", time=text)
    assert outcome["rings_at"] == rings_at
    assert "repeats" not in outcome


@pytest.mark.parametrize(
    ("wanted", "repeats", "rings_at"),
    [
        (["monday"], "every Monday", "Monday 07:00"),
        (["monday", "friday"], "every Monday and Friday", "Monday 07:00"),
        (["Mondays", "wed", " FRI "], "every Monday, Wednesday and Friday", "Monday 07:00"),
        ("weekdays", "every weekday", "Monday 07:00"),
        ("every weekday", "every weekday", "Monday 07:00"),
        ("saturday, sunday", "every Saturday and Sunday", "tomorrow 07:00"),
        (["daily"], "every day", "tomorrow 07:00"),
        (["saturday"], "every Saturday", "Saturday in a week 07:00"),
    ],
)
def test_an_alarm_may_have_days(speaker, wanted, repeats, rings_at):
    outcome = speaker.ask("set_alarm", time="07:00", days=wanted, name="up")
    assert (outcome["repeats"], outcome["rings_at"], outcome["name"]) == (repeats, rings_at, "up")
    once = speaker.ask("set_alarm", time="07:00", days=wanted, once="true")
    assert once["rings_at"] == rings_at
    assert "repeats" not in once


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "ask the user when"),
        ({"time": "25:00"}, "HH:MM"),
        ({"time": "07:60"}, "HH:MM"),
        ({"time": "13 pm"}, "HH:MM"),
        ({"time": "0 am"}, "HH:MM"),
        ({"time": "seven"}, "HH:MM"),
        ({"time": "-7:00"}, "HH:MM"),
        ({"time": ["07:00"]}, "should be a text"),
        ({"time": "07:00", "days": ["tomorrow"]}, "Leave days out"),
        ({"time": "07:00", "days": [3]}, "monday to sunday"),
        ({"time": "07:00", "days": {"monday": True}}, "list of days"),
        ({"time": "07:00", "once": "maybe"}, "true or false"),
    ],
)
def test_an_alarm_that_makes_no_sense_is_not_set(speaker, arguments, words):
    assert words in speaker.fail("set_alarm", **arguments)
    assert speaker.ask("list_alarms") == {"timers": [], "alarms": []}


def test_too_many_are_refused_in_words(speaker):
    for _ in range(MAX_ALARMS):
        speaker.ask("set_timer", hours=1)
    for name, arguments in (("set_timer", {"hours": 1}), ("set_alarm", {"time": "07:00"})):
        assert "cancel one first; tell the user" in speaker.fail(name, **arguments)
    assert len(json.dumps(speaker.ask("list_alarms"))) < 4000


def test_the_list_tells_what_is_left(speaker):
    speaker.ask("set_alarm", time="07:00", days="weekdays", name="work")
    speaker.ask("set_timer", minutes=10, name="tea")
    speaker.wait(90)
    assert speaker.ask("list_alarms") == {
        "timers": [{"number": 2, "name": "tea", "rings_in": "8 minutes 30 seconds", "rings_at": "18:40"}],
        "alarms": [
            {
                "number": 1,
                "name": "work",
                "rings_in": "1 day 12 hours",
                "rings_at": "Monday 07:00",
                "repeats": "every weekday",
            }
        ],
    }


@pytest.fixture
def busy(speaker):
    """A speaker with the timers tea (1) and egg (2), another egg (3), and an alarm without a name (4)."""
    for name in ("tea", "egg", "egg"):
        speaker.ask("set_timer", minutes=10, name=name)
    speaker.ask("set_alarm", time="07:00")
    return speaker


@pytest.mark.parametrize(
    ("arguments", "cancelled"),
    [
        ({"name": "tea"}, ["timer 1 (tea)"]),
        ({"name": " TEA "}, ["timer 1 (tea)"]),
        ({"number": 2}, ["timer 2 (egg)"]),
        ({"number": "2", "name": "egg", "all": False}, ["timer 2 (egg)"]),
        ({"kind": "alarm"}, ["alarm 4"]),
        ({"kind": "alarms", "all": "true"}, ["alarm 4"]),
        ({"name": "egg", "all": True}, ["timer 2 (egg)", "timer 3 (egg)"]),
        ({"kind": "timer", "all": True}, ["timer 1 (tea)", "timer 2 (egg)", "timer 3 (egg)"]),
        ({"all": True}, ["timer 1 (tea)", "timer 2 (egg)", "timer 3 (egg)", "alarm 4"]),
    ],
)
def test_what_fits_is_cancelled_and_nothing_else(busy, arguments, cancelled):
    assert busy.ask("cancel_alarm", **arguments) == {"cancelled": cancelled}
    left = busy.ask("list_alarms")
    assert len(left["timers"]) + len(left["alarms"]) == 4 - len(cancelled)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "ask the user which"),
        ({"name": "egg"}, "timer 2 (egg) at 18:40, timer 3 (egg) at 18:40"),
        ({"name": "cake"}, "no timer or alarm fits; there is timer 1 (tea) at 18:40"),
        ({"name": "cake", "all": True}, "no timer or alarm fits"),
        ({"number": 9}, "no timer or alarm fits"),
        ({"number": 2.5}, "no timer or alarm fits"),
        ({"number": "two"}, "number in digits"),
        ({"kind": "egg"}, "timer or alarm"),
        ({"all": "perhaps"}, "true or false"),
    ],
)
def test_what_does_not_fit_or_could_be_several_cancels_nothing(busy, arguments, words):
    assert words in busy.fail("cancel_alarm", **arguments)
    assert len(busy.ask("list_alarms")["timers"]) == 3


def test_the_only_one_needs_no_name(speaker):
    assert "no timers or alarms" in speaker.fail("cancel_alarm")
    speaker.ask("set_timer", minutes=10, name="tea")
    assert speaker.ask("cancel_alarm") == {"cancelled": ["timer 1 (tea)"]}


# The time of day ------------------------------------------------------------------------------------------------------


def test_the_time_is_local(speaker):
    winter = {"date": "2026-11-21", "weekday": "Saturday", "time": "18:30", "timezone": "CET (UTC+01:00)"}
    assert speaker.ask("get_time") == winter
    speaker.wall = datetime(2026, 7, 1, 23, 59, 59).timestamp()
    summer = {"date": "2026-07-01", "weekday": "Wednesday", "time": "23:59", "timezone": "CEST (UTC+02:00)"}
    assert speaker.ask("get_time") == summer


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"), (0.4, "0 seconds"), (1, "1 second"), (59.6, "1 minute"), (61, "1 minute 1 second"),
        (3600, "1 hour"), (3605, "1 hour"), (3660, "1 hour 1 minute"), (90061, "1 day 1 hour"), (-3, "0 seconds"),
    ],
)  # fmt: skip
def test_durations_have_two_parts_at_most(seconds, words):
    assert duration(seconds) == words


def test_a_moment_is_told_as_people_do():
    now = datetime(2026, 11, 21, 18, 30)
    assert moment(datetime(2026, 11, 21, 23, 5).timestamp(), now.timestamp()) == "23:05"
    assert moment(datetime(2026, 11, 22, 0, 5).timestamp(), now.timestamp()) == "tomorrow 00:05"
    assert moment(datetime(2026, 11, 27, 7, 0).timestamp(), now.timestamp()) == "Friday 07:00"
    assert moment(datetime(2026, 11, 28, 7, 0).timestamp(), now.timestamp()) == "Saturday in a week 07:00"


def test_days_have_names():
    assert days([0]) == "every Monday"
    assert days([6, 0, 1]) == "every Monday, Tuesday and Sunday"
    assert days(range(7)) == "every day"
