"""What is told of what was said before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.events import (
    AudioTurn,
    NoSpeech,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    TalkEnded,
    TalkStarted,
    TextTurn,
    ToolCall,
    TurnEndedByService,
    UserText,
)
from device_agent.link.history import (
    HISTORY_MAX_AGE_S,
    MAX_HISTORY_CHARS,
    MAX_HISTORY_TURNS,
    MAX_KNOWN_CALLS,
    MAX_TURN_CHARS,
    MAX_TURN_PARTS,
    History,
)
from device_agent.services.base import HistoryEntry

RATE = 1000
SECOND = bytes(2 * RATE)


def told(recall: History, now: float = 0.0) -> list[tuple[str, str]]:
    return [("user" if said.by_user else "assistant", said.text) for said in recall.said(now)]


def ask(recall: History, item: str, text: str, now: float = 0.0) -> None:
    recall.sent(TalkStarted(), now)
    recall.sent(TalkEnded(), now)
    recall.told(UserText(item, text, True), now)


def answer(recall: History, reply: str, text: str, seconds: int = 1, now: float = 0.0) -> None:
    recall.told(ReplyStarted(reply), now)
    recall.told(ReplyText(reply, text), now)
    recall.told(ReplyAudio(reply, SECOND * seconds), now)
    recall.told(ReplyEnded(reply), now)


def exchanged(*pairs: tuple[str, str]) -> History:
    recall = History(RATE)
    for number, (question, reply) in enumerate(pairs):
        ask(recall, f"u{number}", question)
        answer(recall, f"r{number}", reply)
    return recall


def test_both_sides_are_told_in_order():
    recall = exchanged(("My name is Ada.", "Hello Ada."), ("Who am I?", "You are Ada."))
    assert told(recall) == [
        ("user", "My name is Ada."), ("assistant", "Hello Ada."), ("user", "Who am I?"), ("assistant", "You are Ada.")
    ]  # fmt: skip


def test_a_transcript_that_is_told_again_replaces_what_it_said_before():
    recall = History(RATE)
    ask(recall, "u", "set a tie")
    recall.told(UserText("u", "set a timer", True), 0.0)
    answer(recall, "r", "Done.")
    recall.told(UserText("u", "set a timer for tea", True), 0.0)  # after the reply, as OpenAI may
    assert told(recall) == [("user", "set a timer for tea"), ("assistant", "Done.")]
    ask(recall, "u2", "Stop.")
    recall.told(UserText("u", "Set a timer for tea.", True), 0.0)
    assert told(recall) == [("user", "Set a timer for tea."), ("assistant", "Done.")]


def test_a_transcript_that_comes_when_the_next_turn_has_begun_belongs_to_the_turn_before():
    recall = History(RATE)
    recall.sent(TalkStarted(), 0.0)
    recall.sent(TalkEnded(), 0.0)
    answer(recall, "r1", "Yes.")
    recall.sent(TalkStarted(), 0.0)
    recall.told(UserText("u1", "Is it?", True), 0.0)
    recall.sent(TalkEnded(), 0.0)
    recall.told(UserText("u2", "Really?", True), 0.0)
    answer(recall, "r2", "Really.")
    assert told(recall) == [
        ("user", "Is it?"), ("assistant", "Yes."), ("user", "Really?"), ("assistant", "Really.")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "turn",
    [[TalkStarted(), TalkEnded()], [TalkStarted(), TurnEndedByService()], [AudioTurn(SECOND)], [TextTurn("Really?")]],
)
def test_a_transcript_that_comes_when_the_turn_is_over_is_of_no_earlier_one(turn):
    recall = History(RATE)
    recall.sent(TalkStarted(), 0.0)
    recall.sent(TalkEnded(), 0.0)
    answer(recall, "r1", "Yes.")  # to what the service never wrote down
    for item in turn:
        recall.told(item, 0.0) if isinstance(item, TurnEndedByService) else recall.sent(item, 0.0)
    recall.told(UserText("u2", "Really?", True), 0.0)
    answer(recall, "r2", "Really.")
    assert told(recall) == [("assistant", "Yes."), ("user", "Really?"), ("assistant", "Really.")]


def test_a_transcript_may_come_while_the_user_still_speaks():
    recall = exchanged(("One?", "One."))
    recall.sent(TalkStarted(), 0.0)
    recall.told(UserText("u", "Two?", False), 0.0)
    recall.sent(TalkEnded(), 0.0)
    answer(recall, "r", "Two.")
    assert told(recall)[2:] == [("user", "Two?"), ("assistant", "Two.")]


def test_a_typed_turn_is_known_without_a_transcript_and_told_once():
    recall = History(RATE)
    recall.sent(TextTurn("What time is it?"), 0.0)
    recall.told(UserText("0", "What time is it?", True), 0.0)
    answer(recall, "r", "Noon.")
    assert told(recall) == [("user", "What time is it?"), ("assistant", "Noon.")]


def test_a_recording_is_known_by_its_transcript():
    recall = History(RATE)
    recall.sent(AudioTurn(SECOND), 0.0)
    recall.told(UserText("u", "Good day.", True), 0.0)
    answer(recall, "r", "Hello.")
    assert told(recall) == [("user", "Good day."), ("assistant", "Hello.")]


def test_a_turn_that_waits_for_its_answer_is_not_told_because_it_is_sent_again():
    recall = exchanged(("One?", "One."))
    ask(recall, "u2", "Two?")
    assert told(recall) == [("user", "One?"), ("assistant", "One.")]
    recall.begin()
    ask(recall, "v2", "Two?")
    answer(recall, "r2", "Two.")
    assert told(recall)[2:] == [("user", "Two?"), ("assistant", "Two.")]


def test_on_a_new_connection_a_transcript_is_of_what_was_sent_again():
    recall = History(RATE)
    recall.sent(TalkStarted(), 0.0)
    recall.sent(TalkEnded(), 0.0)
    recall.begin()
    recall.sent(TalkStarted(), 0.0)
    recall.told(UserText("u", "Two?", True), 0.0)
    recall.sent(TalkEnded(), 0.0)
    answer(recall, "r", "Two.")
    assert told(recall) == [("user", "Two?"), ("assistant", "Two.")]


def test_what_was_not_said_is_no_turn():
    recall = exchanged(("One?", "One."))
    recall.sent(TalkStarted(), 0.0)
    recall.sent(NoSpeech(), 0.0)
    recall.told(ReplyText("r0", " And more."), 0.0)
    assert told(recall)[-1] == ("assistant", "One. And more.")


def test_a_reply_after_a_tool_goes_on_with_the_one_before():
    recall = exchanged(("Ten minutes.", "One moment."))
    answer(recall, "after", "It is set.")
    assert told(recall) == [("user", "Ten minutes."), ("assistant", "One moment. It is set.")]


def test_of_a_cut_reply_the_words_are_kept_that_were_heard():
    recall = History(RATE)
    ask(recall, "u", "Count.")
    recall.told(ReplyText("r", "one two three four five six "), 0.0)  # in pieces, as it comes
    recall.told(ReplyAudio("r", 4 * SECOND), 0.0)
    answer(recall, "r", "seven eight nine ten", seconds=6)
    recall.sent(CancelReply("r", 5000), 0.0)
    assert told(recall)[-1] == ("assistant", "one two three four five")


def test_a_cut_reply_of_which_nothing_was_heard_was_never_said():
    recall = exchanged(("One?", "One."), ("Two?", "Two."))
    recall.sent(CancelReply("r1", 0), 0.0)
    assert told(recall) == [("user", "One?"), ("assistant", "One.")]


def test_what_follows_a_cut_reply_was_not_heard_and_what_was_heard_to_its_end_stays():
    recall = exchanged(("Ten minutes.", "One moment please."))
    answer(recall, "after", "It is set.")
    answer(recall, "last", "Anything else?")
    recall.sent(CancelReply("after", 1000), 0.0)
    assert told(recall)[-1] == ("assistant", "One moment please. It is set.")
    recall.sent(CancelReply("r0", 1000), 0.0)
    assert told(recall)[-1] == ("assistant", "One moment please.")


def test_a_reply_of_an_earlier_turn_may_be_cut_while_it_still_sounds():
    recall = exchanged(("Count.", "one two three four"))
    ask(recall, "u", "And on.")
    recall.sent(CancelReply("r0", 500), 0.0)
    assert told(recall) == [("user", "Count."), ("assistant", "one two")]


def test_how_much_was_heard_is_measured_at_the_rate_of_the_sound():
    recall = exchanged(("Hello.", "Hello."))
    recall.rate = 2 * RATE
    ask(recall, "u", "Count.")
    answer(recall, "r", "one two three four", seconds=2)  # one second, at this rate
    recall.sent(CancelReply("r", 500), 0.0)
    assert told(recall)[-1] == ("assistant", "one two")


def test_of_a_long_reply_that_is_cut_the_end_is_known_and_that_was_not_heard():
    recall = History(RATE)
    ask(recall, "u", "Count.")
    answer(recall, "r", "word " * MAX_HISTORY_CHARS, seconds=10)
    recall.sent(CancelReply("r", 5000), 0.0)
    assert told(recall) == []


def test_words_before_the_first_sound_are_not_heard_when_the_reply_is_cut():
    recall = History(RATE)
    ask(recall, "u", "Well?")
    recall.told(ReplyText("r", "Well, "), 0.0)
    recall.sent(CancelReply(), 0.0)
    assert told(recall) == []


def test_replies_are_told_in_the_order_in_which_they_began():
    recall = History(RATE)
    ask(recall, "u", "Well?")
    recall.told(ReplyStarted("a"), 0.0)
    for reply in "ba":
        recall.told(ReplyText(reply, reply), 0.0)
    assert told(recall)[-1] == ("assistant", "a b")


def test_a_cut_of_nothing_that_sounds_takes_back_nothing_that_has_sounded():
    recall = History(RATE)
    ask(recall, "u", "Well?")
    recall.told(ReplyText("r", "Well, "), 0.0)
    recall.told(ReplyAudio("r", SECOND), 0.0)
    recall.sent(CancelReply(), 0.0)
    assert told(recall)[-1] == ("assistant", "Well,")


def test_a_press_long_after_a_reply_takes_nothing_back():
    recall = exchanged(("One?", "One."))
    recall.sent(CancelReply(), 0.0)
    assert told(recall)[-1] == ("assistant", "One.")


def test_a_reply_in_text_alone_is_told_too():
    recall = History(RATE)
    recall.sent(TextTurn("Hi"), 0.0)
    recall.told(ReplyText("r", "Yes?"), 0.0)
    recall.told(ReplyEnded("r"), 0.0)
    recall.sent(CancelReply(), 0.0)
    assert told(recall) == [("user", "Hi"), ("assistant", "Yes?")]


def test_what_is_said_before_anything_was_asked_belongs_to_no_turn():
    recall = History(RATE)
    answer(recall, "r", "Welcome.")
    recall.told(UserText("u", "Hello?", True), 0.0)
    recall.sent(TalkEnded(), 0.0)
    recall.sent(NoSpeech(), 0.0)
    recall.sent(CancelReply("r", 0), 0.0)
    assert told(recall) == []


def test_nothing_said_takes_back_no_turn_that_was_answered():
    recall = exchanged(("One?", "One."))
    recall.sent(NoSpeech(), 0.0)
    assert told(recall) == [("user", "One?"), ("assistant", "One.")]


def test_an_answered_turn_is_told_to_each_new_connection():
    recall = exchanged(("One?", "One."))
    recall.begin()
    recall.begin()
    assert told(recall) == [("user", "One?"), ("assistant", "One.")]


def test_a_turn_of_many_parts_has_a_limit_on_both_sides():
    recall = History(RATE)
    recall.sent(TalkStarted(), 0.0)
    for number in range(MAX_TURN_PARTS + 1):
        recall.told(UserText(f"u{number}", f"u{number}", True), 0.0)
    for number in range(MAX_TURN_PARTS + 1):
        recall.told(ReplyText(f"r{number}", f"r{number}"), 0.0)
    recall.told(UserText("u0", "first", True), 0.0)
    recall.told(ReplyText("r0", " more"), 0.0)
    said = dict(told(recall))
    assert said["user"].split() == ["first", *(f"u{number}" for number in range(1, MAX_TURN_PARTS))]
    assert said["assistant"].split() == ["r0", "more", *(f"r{number}" for number in range(1, MAX_TURN_PARTS))]


def test_where_the_service_ends_turns_its_word_is_the_end():
    recall = exchanged(("One?", "One."))
    recall.sent(TalkStarted(), 0.0)
    recall.told(TurnEndedByService(), 0.0)
    recall.told(UserText("u9", "Two?", True), 0.0)
    answer(recall, "r9", "Two.")
    assert told(recall)[2:] == [("user", "Two?"), ("assistant", "Two.")]


def test_the_latest_are_told_and_not_more_than_the_limit():
    recall = exchanged(*[(f"{n}?", f"{n}.") for n in range(20)])
    assert told(recall) == [pair for n in range(15, 20) for pair in (("user", f"{n}?"), ("assistant", f"{n}."))]
    assert len(told(recall)) == len(recall._exchanges) == MAX_HISTORY_TURNS
    recall.begin()
    ask(recall, "last", "last?")
    assert len(recall._exchanges) == MAX_HISTORY_TURNS


def test_of_long_texts_the_end_is_told_and_all_of_them_have_a_limit():
    recall = exchanged(*[(f"{n}" * 2000, f"{n}" * 2000 + "!") for n in range(4)])
    texts = [text for _, text in told(recall)]
    assert texts[-1] == "3" * (MAX_TURN_CHARS - 1) + "!"
    assert sum(map(len, texts)) == MAX_HISTORY_CHARS


def test_what_is_old_is_not_told():
    recall = History(RATE)
    for now in (0.0, 100.0):
        ask(recall, f"u{now}", f"{now}?", now - 20.0)
        answer(recall, f"r{now}", f"{now}.", now=now)
    assert len(told(recall, HISTORY_MAX_AGE_S)) == 4
    assert told(recall, HISTORY_MAX_AGE_S + 1) == [("user", "100.0?"), ("assistant", "100.0.")]
    assert told(recall, HISTORY_MAX_AGE_S + 101) == []


def test_the_representation_shows_nothing_that_was_said():
    recall = exchanged(("my secret", "your secret"))
    assert "secret" not in repr(recall) + repr(recall._exchanges) + repr(recall.said(0.0))


ITEMS = [TalkStarted(), TalkEnded(), NoSpeech(), TextTurn("typed " * 999), AudioTurn(SECOND), b"..", CancelReply()]
DEEDS = st.one_of(
    st.sampled_from([*ITEMS, "begin"]),
    st.builds(CancelReply, st.sampled_from(["", "r1", "r2"]), st.integers(0, 9000)),
    st.builds(UserText, st.sampled_from(["", "u1", "u2"]), st.text(max_size=9), st.booleans()),
    st.builds(ReplyText, st.sampled_from(["", "r1", "r2", "r3"]), st.text(max_size=9) | st.just("long " * 999)),
    st.builds(ReplyAudio, st.sampled_from(["", "r1", "r2"]), st.sampled_from([b"", SECOND])),
    st.builds(ReplyEnded, st.sampled_from(["", "r1", "r2"])),
)


@given(st.lists(DEEDS, max_size=60))
def test_whatever_happens_the_limits_hold(deeds):
    recall = History(RATE)
    for now, deed in enumerate(deeds):
        if deed == "begin":
            recall.begin()
        else:
            recall.sent(deed, now)
            if not isinstance(deed, (bytes, CancelReply)):
                recall.told(deed, now)
    said = recall.said(len(deeds))
    assert all(isinstance(each, HistoryEntry) and each.text for each in said)
    assert len(said) <= MAX_HISTORY_TURNS
    assert sum(len(each.text) for each in said) <= MAX_HISTORY_CHARS


def test_a_question_that_led_to_a_tool_is_told_although_nothing_was_said_to_it():
    recall = History(RATE)
    ask(recall, "u", "Is the lamp on?")
    recall.told(ToolCall("c", "lamp", "{}"), 1.0)
    recall.begin()
    assert told(recall) == [("user", "Is the lamp on?")]
    assert recall.awaits("c")


def test_so_many_calls_are_awaited():
    recall = History(RATE)
    ask(recall, "u", "All lamps on.")
    for number in range(MAX_KNOWN_CALLS + 1):
        recall.told(ToolCall(f"c{number}", "lamp", "{}"), 1.0)
    assert [recall.awaits(f"c{number}") for number in (0, 1, MAX_KNOWN_CALLS)] == [False, True, True]


@pytest.mark.parametrize("item", [ToolResult("other", "done"), SECOND, TalkEnded()])
def test_the_result_of_a_tool_is_awaited_whatever_else_goes_up_of_the_turn(item):
    recall = History(RATE)
    ask(recall, "u", "Is the lamp on?")
    recall.told(ToolCall("c", "lamp", "{}"), 1.0)
    recall.sent(item, 2.0)
    assert recall.awaits("c")


@pytest.mark.parametrize("over", [CancelReply("r", 0), TalkStarted(), AudioTurn(SECOND), TextTurn("no")])
def test_the_result_of_a_tool_is_awaited_until_something_else_is_wanted(over):
    recall = History(RATE)
    ask(recall, "u", "Is the lamp on?")
    recall.told(ToolCall("c", "lamp", "{}"), 1.0)
    recall.sent(over, 2.0)
    assert not recall.awaits("c")


def test_no_representation_shows_what_was_said():
    recall = exchanged(("My name is Ada.", "Hello Ada."))
    recall.sent(TextTurn("And Grace?"), 0.0)
    shown = " ".join(repr(each) for each in recall._exchanges)
    shown += "".join(repr(reply) for each in recall._exchanges for reply in each.replies.values())
    assert all(word not in shown for word in ("Ada", "Hello", "Grace"))
