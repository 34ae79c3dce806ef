"""Contacts that bounce and buttons that are held, told the time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from device_agent.hardware.debounce import (
    BOUNCE_S,
    MAX_REPEATS,
    REPEAT_DELAY_S,
    REPEAT_INTERVAL_S,
    SPIKE_S,
    Debouncer,
    Repeat,
)

# What is meant by the edges of a contact ------------------------------------------------------------------------------


def test_the_first_edge_counts_at_once_and_what_follows_it_does_not():
    contact = Debouncer(closed=False)

    assert contact.edge(True, 1.0, still=True) == [True]
    assert contact.edge(False, 1.001, still=True) == []
    assert contact.edge(True, 1.002, still=True) == []
    assert contact.settle(True, 1.0 + BOUNCE_S) == []
    assert contact.edge(False, 2.0, still=True) == [False]


def test_a_release_that_falls_into_the_bouncing_is_told_after_it():
    contact = Debouncer(closed=False)
    contact.edge(True, 1.0, still=True)
    assert contact.edge(False, 1.02, still=True) == []

    assert contact.settle(False, 1.02) == []  # too early
    assert contact.settle(False, contact.deadline) == [False]
    assert contact.settle(False, contact.deadline) == []
    assert contact.deadline is None


def test_an_edge_that_is_undone_before_we_look_is_a_spike():
    contact = Debouncer(closed=False)

    assert contact.edge(True, 1.0, still=False) == []
    assert contact.edge(False, 1.0 + SPIKE_S / 2, still=True) == []
    assert contact.deadline is None


def test_a_tap_that_is_over_before_we_look_is_told_if_it_was_long_enough():
    contact = Debouncer(closed=False)

    assert contact.edge(True, 1.0, still=False) == []
    assert contact.edge(False, 1.06, still=True) == [True, False]


def test_a_contact_that_bounces_when_we_look_is_believed_at_its_next_edge():
    contact = Debouncer(closed=False)

    assert contact.edge(True, 1.0, still=False) == []
    assert contact.edge(False, 1.001, still=False) == []
    assert contact.edge(True, 1.002, still=True) == [True]


@given(st.lists(st.tuples(st.floats(0.0001, 0.2), st.booleans()), max_size=30), st.booleans())
def test_whatever_a_contact_does_the_last_word_is_right_and_no_word_is_said_twice(edges, begins):
    """Edges of a real contact alternate; whether it is still so when we look is a matter of luck."""
    contact, now, closed, told = Debouncer(begins), 10.0, begins, [begins]
    for index, (pause, still) in enumerate(edges):
        if contact.deadline is not None and contact.deadline <= now + pause:
            told += contact.settle(closed, contact.deadline)
        now, closed = now + pause, not closed
        told += contact.edge(closed, now, still or index == len(edges) - 1)
    for _ in range(3):
        told += contact.settle(closed, now + 1.0)

    assert told[-1] is contact.closed is closed
    assert all(before is not after for before, after in pairwise(told))


@given(st.lists(st.tuples(st.floats(0.006, 0.5), st.floats(0.031, 0.5), st.booleans()), min_size=1, max_size=10))
def test_no_tap_is_lost_and_none_is_invented(taps):
    contact, now, told = Debouncer(closed=False), 10.0, []
    for held, pause, in_time in taps:
        told += contact.edge(True, now, still=in_time)
        if in_time and held >= BOUNCE_S:
            told += contact.settle(True, contact.deadline)
        told += contact.edge(False, now + held, still=True)
        now += held
        if contact.deadline is not None:
            now = max(now, contact.deadline)
            told += contact.settle(False, now)
        now += pause

    assert told == [True, False] * len(taps)


# A button that is held ------------------------------------------------------------------------------------------------


def test_a_button_that_is_held_acts_again_and_not_for_ever():
    repeat = Repeat()
    assert not repeat.due(0.0)
    repeat.hold(1.0)
    assert not repeat.due(1.0 + REPEAT_DELAY_S - 0.001)

    assert repeat.due(1.0 + REPEAT_DELAY_S)
    assert repeat.deadline == 1.0 + REPEAT_DELAY_S + REPEAT_INTERVAL_S
    assert repeat.due(100.0)  # the machine slept
    assert not repeat.due(100.1)
    for _ in range(MAX_REPEATS - 2):
        assert repeat.due(repeat.deadline)
    assert repeat.deadline is None

    repeat.hold(200.0)
    for _ in range(MAX_REPEATS):
        assert repeat.due(repeat.deadline)
    assert repeat.deadline is None


def test_a_button_that_came_up_does_not_act_again():
    repeat = Repeat()
    repeat.hold(1.0)
    repeat.release()

    assert not repeat.due(9.0)
