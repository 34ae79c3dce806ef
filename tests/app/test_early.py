"""What is asked of a device that is being assembled. No thread."""

from __future__ import annotations

import queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.app.early import MAX_EARLY_TURNS, EarlyInput, take_user_events
from device_agent.core.events import (
    Announcement,
    AudioTurn,
    DeviceReady,
    Event,
    LinkIdle,
    MicrophoneLost,
    MuteAsked,
    PlaybackEnded,
    Pressed,
    Released,
    ShutdownRequested,
    TextTurn,
    VolumeAsked,
)

TAP, LET_GO = Released(tapped=True), Released(tapped=False)


@pytest.mark.parametrize(
    ("events", "done"),
    [
        ([], []),
        ([Pressed()], [Pressed()]),
        ([Pressed(), TAP], [Pressed(), TAP]),
        ([Pressed(), LET_GO], [Pressed(), TAP]),
        ([Pressed(), TAP, Pressed(), TAP], [Pressed(), TAP]),
        ([Pressed(), TAP, Pressed()], [Pressed()]),
        ([Pressed(), TAP, TextTurn("one"), AudioTurn(b"two")], [TextTurn("one"), AudioTurn(b"two"), Pressed(), TAP]),
        ([Announcement("dinner", "dinner")], [Announcement("dinner", "dinner")]),
    ],
)
def test_what_was_asked_is_done_once_in_order_and_the_last_press_counts(events, done):
    early = EarlyInput()
    assert all(early.keep(event) for event in events)
    assert early.take() == done
    assert early.take() == []


@pytest.mark.parametrize("event", [TAP, LET_GO, VolumeAsked(by=5), MuteAsked(True), DeviceReady("speaker")])
def test_what_does_not_wait_is_not_kept(event):
    early = EarlyInput()
    assert not early.keep(event)
    assert early.take() == []


def test_there_is_a_bound():
    early = EarlyInput()
    for number in range(3 * MAX_EARLY_TURNS):
        early.keep(TextTurn(str(number)))
        early.keep(Pressed())
    assert early.take() == [
        *(TextTurn(str(number)) for number in range(2 * MAX_EARLY_TURNS, 3 * MAX_EARLY_TURNS)),
        Pressed(),
    ]


PEOPLE: list[Event] = [Pressed(), TAP, VolumeAsked(by=5), MuteAsked(None), TextTurn("x"), ShutdownRequested("SIGTERM")]
PARTS: list[Event] = [DeviceReady("speaker"), MicrophoneLost("gone"), LinkIdle(), PlaybackEnded("r")]


@given(st.lists(st.sampled_from(PEOPLE + PARTS)))
def test_another_device_hears_of_people_and_not_of_the_parts_of_the_last(events):
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    for event in events:
        inbox.put(event)
    assert list(take_user_events(inbox)) == [event for event in events if event in PEOPLE]
    assert inbox.empty()
