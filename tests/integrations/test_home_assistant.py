"""What a home sees of the speaker, and what it may ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_agent.core.actions import Action, Connect, Show
from device_agent.core.conversation import READY
from device_agent.core.events import (
    Announcement,
    Event,
    MuteAsked,
    NoSpeech,
    PlaybackEnded,
    Pressed,
    ReplyStarted,
    Started,
    StopAsked,
    VolumeAsked,
)
from device_agent.core.transition import Transition
from device_agent.integrations.home_assistant import (
    ANNOUNCEMENT_EXPIRY_S,
    ANNOUNCEMENT_PROMPT,
    MAX_ANNOUNCEMENT_CHARS,
    MAX_ANNOUNCEMENTS,
    Announcements,
    HomeAssistant,
)
from device_agent.telemetry.statistics import Statistics


@pytest.mark.parametrize(
    ("name", "identity"), [("Kitchen", "kitchen"), ("Küche, oben!", "k_che_oben"), ("...", "speaker")]
)
def test_a_name_for_people_becomes_one_for_topics(name, identity):
    home = HomeAssistant(name)
    assert home.state == f"device-agent/{identity}/state"
    assert home.discovery == f"homeassistant/device/device-agent-{identity}/config"


def test_without_a_name_it_has_the_name_of_the_machine_and_without_a_prefix_it_is_not_announced():
    assert HomeAssistant().name
    assert HomeAssistant(prefix="").discovery == ""


def test_what_it_announces_is_what_home_assistant_asks_for():
    """Required: device with identifiers, origin with a name, and of each part a platform and an id of its own."""
    said = json.loads(HomeAssistant("Kitchen").discovery_message())
    assert said["device"]["identifiers"]
    assert said["device"]["name"] == "Kitchen"
    assert said["origin"]["name"]
    parts = said["components"].values()
    assert {part["platform"] for part in parts} == {"sensor", "binary_sensor", "switch", "number", "notify", "button"}
    assert len({part["unique_id"] for part in parts}) == len(parts)
    for part in parts:
        if part["platform"] in {"switch", "number", "notify", "button"}:
            assert part["command_topic"] in HomeAssistant("Kitchen").commands


def test_each_value_that_is_announced_is_in_the_state():
    home = HomeAssistant("Kitchen")
    told = json.loads(home.state_message(Statistics(Path("config.yaml"), 0.0, began=0.0).snapshot(1.0)))
    parts = json.loads(home.discovery_message())["components"].values()
    shown = {part["value_template"].split("value_json.")[1].split(" ")[0] for part in parts if "value_template" in part}
    assert shown <= set(told)
    assert told["mood"] == "starting"
    assert told["muted"] == told["connected"] == "OFF"


@pytest.mark.parametrize(
    ("topic", "payload", "asked"),
    [
        ("mute/set", b"ON", MuteAsked(True)),
        ("mute/set", b"off\n", MuteAsked(False)),
        ("volume/set", b"55", VolumeAsked(percent=55)),
        ("volume/set", b"100.0", VolumeAsked(percent=100)),
        ("stop", b"PRESS", StopAsked()),
        ("say", " Zwölf Äpfel. ".encode(), "Zwölf Äpfel."),
    ],
)
def test_what_may_be_asked(topic, payload, asked):
    assert HomeAssistant("Kitchen").parse_command(f"device-agent/kitchen/{topic}", payload) == asked


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("mute/set", b"maybe"),
        ("mute/set", b""),
        ("volume/set", b"101"),
        ("volume/set", b"-1"),
        ("volume/set", b"1e1"),
        ("volume/set", b"loud"),
        ("volume/set", b"\xff"),
        ("say", b""),
        ("say", b" "),
        ("say", b"x" * (MAX_ANNOUNCEMENT_CHARS + 1)),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(topic, payload):
    with pytest.raises(ValueError, match=f"device-agent/kitchen/{topic}|announcement"):
        HomeAssistant("Kitchen").parse_command(f"device-agent/kitchen/{topic}", payload)


class Desk:
    """Announcements, and what they told the inbox."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.announcements = Announcements(self.told.append)

    def happens(self, event: Event, *actions: Action, now: float = 0.0) -> None:
        self.announcements(Transition(event, actions, READY, READY, now))

    @property
    def texts(self) -> list[str]:
        return [word.exact for word in self.told if isinstance(word, Announcement)]


def test_at_rest_an_announcement_is_made_at_once():
    desk = Desk()
    desk.happens(Started(), Show("ready"))
    desk.announcements.say("Dinner", 0.0)
    assert desk.texts == ["Dinner"]
    assert desk.told == [Announcement(ANNOUNCEMENT_PROMPT.format("Dinner"), "Dinner")]
    assert "word for word" in ANNOUNCEMENT_PROMPT


@pytest.mark.parametrize("mood", ["starting", "listening", "thinking", "speaking"])
def test_an_announcement_waits_until_the_device_is_free(mood):
    desk = Desk()
    desk.happens(Started(), Show(mood))
    desk.announcements.say("Dinner", 0.0)
    assert desk.texts == []
    desk.happens(PlaybackEnded("r"), Show("follow-up"))
    assert desk.texts == ["Dinner"]


def test_announcements_are_made_one_after_the_other():
    desk = Desk()
    desk.happens(Started(), Show("ready"))
    desk.announcements.say("one", 0.0)
    desk.announcements.say("two", 0.0)
    assert desk.texts == ["one"]
    desk.happens(desk.told[0], Connect(), Show("thinking"))
    desk.happens(ReplyStarted("r"), Show("speaking"))
    assert desk.texts == ["one"]
    desk.happens(Started(), Show("ready"))
    assert desk.texts == ["one", "two"]


def test_an_announcement_that_comes_too_late_for_rest_is_made_later():
    desk = Desk()
    desk.happens(Started(), Show("ready"))
    desk.announcements.say("Dinner", 0.0)
    desk.happens(Pressed(), Connect(), Show("listening"))
    desk.happens(desk.told[0])
    desk.happens(NoSpeech(), Show("ready"))
    assert desk.texts == ["Dinner", "Dinner"]  # the first was not taken


def test_too_many_are_refused_and_the_old_ones_forgotten():
    desk = Desk()
    for _ in range(MAX_ANNOUNCEMENTS):
        desk.announcements.say("Dinner", 0.0)
    with pytest.raises(ValueError, match="wait already"):
        desk.announcements.say("Dinner", 0.0)
    desk.happens(Started(), Show("ready"), now=ANNOUNCEMENT_EXPIRY_S + 1)
    assert desk.texts == []
