"""What the agent has done, as figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_agent.core.conversation import Conversation, TurnPolicy
from device_agent.core.events import (
    AlarmDue,
    DailyLimitReached,
    DeadlinePassed,
    DeviceReady,
    Event,
    LinkDown,
    LinkIdle,
    LinkUp,
    MicrophoneLost,
    NoSpeech,
    PlaybackEnded,
    PlaybackStarted,
    Pressed,
    Refused,
    ReplyEnded,
    ReplyStarted,
    ServiceError,
    SpeakerLost,
    Started,
    StopAsked,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnAcknowledged,
    UserText,
)
from device_agent.core.status_snapshot import Counts
from device_agent.core.transition import Transition
from device_agent.dsp.level_meter import LevelMeter
from device_agent.telemetry.statistics import COUNTERS, SNAPSHOT_TURNS, Gauges, Statistics, latency, percentile
from device_agent.telemetry.turn_timing import TurnTimes

WALL = 1_800_000_000.0
GAPS = ("overflows", "underruns", "starved")


class Thing:
    """Something to look at."""

    def __init__(self, **gauges: object) -> None:
        self.now = Gauges(**gauges)  # type: ignore[arg-type]
        self.levels = (LevelMeter(), LevelMeter())

    def gauges(self) -> Gauges:
        return self.now


def told(*story: tuple[Event, float], price: float = 0.0, thing: Thing | None = None) -> Statistics:
    """Tell *story* to a real conversation, and show statistics what the agent would."""
    statistics = Statistics(Path("c.yaml"), price, began=0.0, wall=lambda: WALL)
    conversation = Conversation(TurnPolicy())
    statistics.attach(thing or Thing())
    for event, now in ((Started(), 0.0), *story):
        before = conversation.state
        actions = tuple(conversation.handle(event, now))
        statistics(Transition(event, actions, before, conversation.state, now))
    return statistics


def turn(at: float, reply: str = "r", *, end: Event | None = None) -> list[tuple[Event, float]]:
    return [
        (Pressed(), at),
        (TalkStarted(), at),
        (TalkEnded(0.5), at + 2.0),
        (TurnAcknowledged(), at + 2.1),
        (ReplyStarted(reply), at + 2.5),
        (PlaybackStarted(reply), at + 2.6),
        (ReplyEnded(reply), at + 2.7),
        (end or PlaybackEnded(reply), at + 5.0),
    ]


def counted(*story: tuple[Event, float]) -> dict[str, int]:
    """Return the counts that are not 0."""
    return {name: count for name, count in told(*story).snapshot(100.0)["counts"].items() if count}


@pytest.mark.parametrize(
    ("story", "counts"),
    [
        (turn(1.0), {"turns": 1, "replies": 1}),
        (turn(1.0) + turn(11.0, "r2"), {"turns": 2, "replies": 2}),
        (turn(1.0, end=StopAsked()), {"turns": 1, "replies": 1, "interruptions": 1}),
        (turn(1.0, end=SpeakerLost("gone")), {"turns": 1, "replies": 1, "device_losses": 1}),
        ([(Pressed(), 1.0), (TalkStarted(), 1.0), (NoSpeech(), 6.0)], {"nothing_said": 1}),
        ([(TextTurn("x"), 1.0), (DeadlinePassed(), 16.0)], {"turns": 1, "given_up": 1}),
        ([(TextTurn("x"), 1.0), (DailyLimitReached(), 1.0)], {"turns": 1, "given_up": 1}),
        ([(TextTurn("x"), 1.0), (Pressed(), 2.0)], {"turns": 1}),
        ([(ToolCall("c", "lamp", "{}"), 1.0)] * 3, {"tool_calls": 3}),
        ([(LinkUp("xai"), 1.0), (LinkDown("x", 1.0), 2.0), (LinkUp("xai"), 3.0)], {"connections": 2, "reconnects": 1}),
        ([(Refused("no", 0.0), 1.0)], {"refusals": 1}),
        ([(ServiceError("no"), 1.0), (ReplyEnded("r", "no"), 2.0)], {"service_errors": 2}),
        ([(MicrophoneLost("x"), 1.0), (MicrophoneLost("y"), 2.0), (SpeakerLost("z"), 3.0)], {"device_losses": 2}),
    ],
)
def test_what_happens_is_counted_once(story, counts):
    assert counted(*story) == counts


def test_a_snapshot_has_nothing_but_what_json_knows():
    today = {"today": 600.0, "total": 7200.0, "cap": 1200.0}
    thing = Thing(state="thinking", volume=70, muted=True, gaps=(1, 2, 3), prefill=0.1251, **today)
    story = [*turn(1.0), (LinkUp("xai at api.x.ai"), 6.0), (MicrophoneLost("it is gone"), 7.0), (AlarmDue("tea"), 8.0)]
    snapshot = told(*story, price=0.05, thing=thing).snapshot(20.04)
    assert json.loads(json.dumps(snapshot, allow_nan=False)) == snapshot
    assert (snapshot["at"], snapshot["uptime_s"]) == (WALL, 20.0)
    assert snapshot["since"] == WALL - 20.04
    assert (snapshot["mood"], snapshot["mood_s"], snapshot["state"]) == ("trouble", 13.0, "thinking")
    assert (snapshot["volume"], snapshot["muted"], snapshot["ringing"]) == (70, True, True)
    assert snapshot["prefill_ms"] == 125
    assert snapshot["service"] == "xai at api.x.ai"
    assert snapshot["connected"] == {
        "now": True,
        "for_s": 14.0,
        "today_s": 600.0,
        "total_s": 7200.0,
        "cap_s": 1200.0,
        "spent": False,
        "price_per_minute": 0.05,
        "cost_today": 0.5,
        "cost_total": 6.0,
    }
    assert [snapshot["counts"][name] for name in GAPS] == [1, 2, 3]
    assert snapshot["lost"] == [{"device": "microphone", "for_s": 13.0}]
    assert snapshot["last_error"] == {"kind": "microphone", "text": "it is gone", "age_s": 13.0}
    [shown] = snapshot["turns"]
    assert shown == {
        "ago_s": 19.0,
        "segments": [["listening", 1.5], ["silence", 0.5], ["service", 0.5], ["loudspeaker", 0.1], ["speaking", 2.4]],
        "outcome": "answered",
        "wait_ms": 1100.0,
    }


def test_each_counter_has_its_key():
    assert set(COUNTERS) == set(Counts.__annotations__)


def test_no_word_that_was_said_is_in_it():
    story = [*turn(1.0), (UserText("i", "blue elephant", True), 3.0), (TextTurn("blue elephant"), 8.0)]
    story += [(ToolCall("c", "lamp", '{"a": "blue elephant"}'), 9.0), (AlarmDue("blue elephant"), 9.0)]
    assert "elephant" not in json.dumps(told(*story).snapshot(10.0))


def test_an_error_is_one_short_line():
    text = told((ServiceError("one\ntwo\x1b[31m" + 5000 * "x"), 1.0)).snapshot(2.0)["last_error"]["text"]
    assert text.startswith(r"one two\x1b[31m")
    assert len(text) <= 200


def test_without_a_connection_there_is_no_service():
    for end in (LinkIdle(), LinkDown("gone", 1.0), Refused("no", 0.0)):
        snapshot = told((LinkUp("xai"), 1.0), (end, 5.0)).snapshot(10.0)
        assert (snapshot["service"], snapshot["connected"]["now"], snapshot["connected"]["for_s"]) == ("", False, 0.0)


def test_the_last_turns_are_few():
    story = [word for n in range(30) for word in turn(10.0 * n, f"r{n}")]
    snapshot = told(*story).snapshot(300.0)
    assert len(snapshot["turns"]) == SNAPSHOT_TURNS
    assert snapshot["turns"][-1]["ago_s"] == 10.0
    assert snapshot["latency"]["turns"] == 30


def test_another_agent_goes_on_counting():
    thing = Thing(gaps=(1, 2, 3))
    story = [(LinkUp("xai"), 6.0), (TalkStarted(), 6.0), (SpeakerLost("gone"), 6.5), (AlarmDue("tea"), 7.0)]
    statistics = told(*turn(1.0), *story, thing=thing)
    statistics.measure_levels(True)
    after = Thing(gaps=(10, 0, 0))
    statistics.attach(after)
    snapshot = statistics.snapshot(9.0)
    assert [snapshot["counts"][name] for name in ("turns", *GAPS)] == [1, 11, 2, 3]
    assert (snapshot["service"], snapshot["connected"]["now"], snapshot["lost"]) == ("", False, [])
    assert not snapshot["ringing"]
    assert [turn["outcome"] for turn in snapshot["turns"]] == ["answered", "dropped"]
    assert all(level.wanted for level in after.levels)


def test_a_wrong_edit_is_told():
    statistics = told()
    assert statistics.snapshot(1.0)["config"] == {"file": "c.yaml", "state": "in use", "mistakes": []}
    statistics.set_config(Path("d.yaml"), 0.2, "wrong edit", ["d.yaml:3:1: x is unknown"])
    snapshot = statistics.snapshot(1.0)
    assert snapshot["config"] == {"file": "d.yaml", "state": "wrong edit", "mistakes": ["d.yaml:3:1: x is unknown"]}
    assert snapshot["connected"]["price_per_minute"] == 0.2


def test_a_device_that_is_back_is_not_lost():
    story = [(MicrophoneLost("gone"), 1.0), (SpeakerLost("gone"), 2.0), (DeviceReady("microphone"), 3.0)]
    assert told(*story).snapshot(4.0)["lost"] == [{"device": "speaker", "for_s": 2.0}]


# How long it took -----------------------------------------------------------------------------------------------------


def waited(silence: float, service: float, loudspeaker: float) -> TurnTimes:
    return TurnTimes(0.0, 5.0, silence, None, 5.0 + service, 5.0 + service + loudspeaker)


def test_the_wait_is_split_into_device_and_service():
    measured = latency([waited(0.7, 0.3, 0.1), waited(0.7, 0.9, 0.1), waited(0.7, 0.5, 0.2)])
    steps = {
        step["name"]: (step["where"], step["median_ms"], step["p99_ms"], step["count"]) for step in measured["steps"]
    }
    assert measured["turns"] == 3
    assert steps == {
        "end_of_turn": ("device", 700.0, 700.0, 3),
        "acknowledged": ("service", None, None, 0),
        "first_sound": ("service", 500.0, 900.0, 3),
        "loudspeaker": ("device", 100.0, 200.0, 3),
        "device": ("device", 800.0, 900.0, 3),
        "service": ("service", 500.0, 900.0, 3),
        "whole": ("whole", 1400.0, 1700.0, 3),
    }


def test_turns_without_a_sound_are_not_measured():
    assert latency([TurnTimes(), TurnTimes(0.0, 5.0, 0.7)])["turns"] == 0
    assert latency([])["steps"][-1]["median_ms"] is None


def test_percentiles_are_values_that_were_seen():
    hundred = [n / 1000 for n in range(100, 0, -1)]
    assert (percentile(hundred, 50), percentile(hundred, 99), percentile([0.2], 99)) == (50.0, 99.0, 200.0)


# How loud it is -------------------------------------------------------------------------------------------------------


def test_levels_are_measured_only_while_they_are_wanted():
    thing = Thing()
    statistics = told(thing=thing)
    microphone, _ = thing.levels
    for level in thing.levels:
        level.measure(b"\xff\x7f" * 480)
    assert statistics.levels() == {"microphone": -96.0, "speaker": -96.0}
    statistics.measure_levels(True)
    microphone.measure(b"\xff\x3f" * 480)
    microphone.measure(b"\xff\x0f" * 480)
    assert statistics.levels() == {"microphone": -6.0, "speaker": -96.0}
    assert statistics.levels() == {"microphone": -96.0, "speaker": -96.0}
    statistics.measure_levels(False)
    assert [level.wanted for level in thing.levels] == [False, False]
