"""What was heard of a reply that was cut."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.credentials import Secret
from device_agent.events import CancelReply, TalkEnded, TalkStarted
from device_agent.services.openai import OpenAI
from device_agent.services.spoken import Spoken


def spoken() -> Spoken:
    made = Spoken()
    made.note("r", "a", 0.5)
    made.note("r", "a", 0.5)
    made.note("r", "b", 2.0)
    return made


@pytest.mark.parametrize(
    ("heard", "shortened"),
    [(0, None), (1, ("a", 1)), (1000, ("a", 1000)), (1200, ("b", 200)), (3000, ("b", 2000)), (9000, ("b", 2000))],
)
def test_the_item_that_sounded_is_shortened_to_what_was_heard_and_never_beyond_what_came(heard, shortened):
    assert spoken().shorten("r", heard) == shortened


def test_a_reply_that_nobody_knows_is_left_alone():
    assert spoken().shorten("other", 500) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 3)), max_size=20), st.integers(0, 20_000))
def test_no_item_is_ever_longer_than_it_was(pieces, heard):
    made, lengths = Spoken(), {}
    for item, seconds in pieces:
        made.note("r", item, seconds)
        lengths[item] = lengths.get(item, 0.0) + seconds
    if shortened := made.shorten("r", heard):
        item, ms = shortened
        assert 0 < ms <= 1000 * lengths[item]


def sent(session) -> list[dict]:
    return [json.loads(message) for message in session.outgoing()]


@pytest.mark.parametrize("over", [True, False])
def test_a_cut_reply_is_shortened_at_the_service_whether_it_was_sent_whole_or_not(over):
    session = OpenAI(Secret("k")).session()
    session.greet()
    list(session.receive('{"type": "session.updated"}'))
    for item in (TalkStarted(), bytes(9600), TalkEnded()):
        session.send(item)
    list(session.receive('{"type": "response.created", "response": {"id": "r"}}'))
    delta = base64.b64encode(bytes(48000)).decode()  # a second
    audio = {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": delta}
    list(session.receive(json.dumps(audio)))
    if over:
        list(session.receive('{"type": "response.done", "response": {"id": "r", "status": "completed"}}'))
    sent(session)
    session.send(CancelReply("r", 400))
    truncate = {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 400}
    assert sent(session) == ([] if over else [{"type": "response.cancel"}]) + [truncate]
