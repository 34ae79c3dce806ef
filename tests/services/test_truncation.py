"""What was heard of replies that were cut, by item of the conversation."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.actions import CancelReply
from device_agent.core.events import TalkEnded, TalkStarted
from device_agent.core.redaction import Secret
from device_agent.services.openai import OpenAI
from device_agent.services.truncation import MAX_REPLY_ITEMS, MAX_TRACKED_REPLIES, TruncationTracker


def tracker() -> TruncationTracker:
    made = TruncationTracker()
    made.note("r", "a", 0.5)
    made.note("r", "a", 0.5)
    made.note("r", "b", 2.0)
    made.note("r", "words")
    made.note("later", "c", 1.0)
    return made


@pytest.mark.parametrize(
    ("heard", "left"),
    [
        (0, [("a", 0), ("b", 0), ("words", 0), ("c", 0)]),
        (1, [("a", 1), ("b", 0), ("words", 0), ("c", 0)]),
        (1000, [("b", 0), ("words", 0), ("c", 0)]),
        (1200, [("b", 200), ("words", 0), ("c", 0)]),
        (3000, [("words", 0), ("c", 0)]),
        (3001, [("c", 0)]),
    ],
)
def test_what_was_not_heard_is_shortened_or_taken_out_in_all_items_and_replies(heard, left):
    assert list(tracker().cut("r", heard)) == left


def test_the_last_item_may_be_longer_at_the_service_and_is_never_shortened_beyond_what_came():
    made = TruncationTracker()
    made.note("r", "a", 2.0)
    assert list(made.cut("r", 9000)) == [("a", 2000)]


def test_a_cut_in_the_second_reply_leaves_the_first_as_it_was_heard():
    assert list(tracker().cut("later", 300)) == [("c", 300)]


def test_what_was_taken_out_is_not_taken_out_again():
    made = tracker()
    assert list(made.cut("r", 0))
    assert list(made.cut("r", 0)) == []


def test_what_has_no_name_cannot_be_shortened():
    made = TruncationTracker()
    made.note("r", "", 1.0)
    assert list(made.cut("r", 0)) == []


def test_so_many_items_of_one_reply_are_known_and_those_go_on():
    made = TruncationTracker()
    for item in range(MAX_REPLY_ITEMS + 1):
        made.note("r", str(item), 1.0)
    made.note("r", "0", 1.0)
    assert list(made.cut("r", 1500)) == [("0", 1500), *[(str(item), 0) for item in range(1, MAX_REPLY_ITEMS)]]


def test_the_latest_replies_are_known():
    made = TruncationTracker()
    for reply in range(MAX_TRACKED_REPLIES + 1):
        made.note(str(reply), "a", 1.0)
    assert list(made.cut("0", 0)) == []
    assert len(list(made.cut("1", 0))) == MAX_TRACKED_REPLIES


def test_a_reply_without_items_is_left_alone():
    assert list(tracker().cut("other", 500)) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 3)), max_size=20), st.integers(0, 20_000))
def test_what_is_left_is_what_was_heard(pieces, heard):
    made, lengths = TruncationTracker(), {}
    for item, seconds in pieces:
        made.note("r", item, seconds)
        lengths[item] = lengths.get(item, 0.0) + seconds
    cut = dict(made.cut("r", heard))
    left = sum(cut.get(item, 1000 * seconds) for item, seconds in lengths.items())
    assert all(0 <= ms <= 1000 * lengths[item] for item, ms in cut.items())
    assert left == pytest.approx(min(heard, 1000 * sum(lengths.values())), abs=2 * len(lengths) + 1)


def sent(session) -> list[dict]:
    return [json.loads(message) for message in session.outgoing()]


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("heard_ms", [400, 0])
def test_a_cut_reply_is_shortened_at_the_service_whether_it_was_sent_whole_or_not(over, heard_ms):
    session = OpenAI(Secret("k")).session()
    session.greet()
    list(session.receive('{"type": "session.updated"}'))
    for item in (TalkStarted(), bytes(9600), TalkEnded()):
        session.send(item)
    list(session.receive('{"type": "response.created", "response": {"id": "r"}}'))
    delta = base64.b64encode(bytes(48000)).decode()  # a second
    for item in ("i", "j"):
        audio = {"type": "response.output_audio.delta", "response_id": "r", "item_id": item, "delta": delta}
        list(session.receive(json.dumps(audio)))
    if over:
        list(session.receive('{"type": "response.done", "response": {"id": "r", "status": "completed"}}'))
    sent(session)
    session.send(CancelReply("r", heard_ms))
    truncate = {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 400}
    delete = {"type": "conversation.item.delete", "item_id": "i"}
    ended = [] if over else [{"type": "response.cancel", "response_id": "r"}]
    assert sent(session) == [*ended, truncate if heard_ms else delete, {**delete, "item_id": "j"}]
