"""What waits to go up."""

from __future__ import annotations

import os
import select

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.actions import CancelReply, ToolResult
from device_agent.core.events import AudioTurn, NoSpeech, TalkEnded, TalkStarted, TextTurn
from device_agent.link.outbox import MAX_AUDIO_CHUNK_BYTES, STALE_SPEECH_S, Outbox, Resend

RESULT = ToolResult("c", "{}")
TURN = [TalkStarted(), b"aa", b"bb", TalkEnded()]
JOINED = [TalkStarted(), b"aabb", TalkEnded()]


def outbox(*items: object, limit: int = 1000) -> Outbox:
    made = Outbox(limit)
    for item in items:
        made.put(item)
    return made


def test_what_is_put_is_taken_once_in_order_and_in_larger_pieces():
    box = outbox(*TURN, CancelReply())
    assert box.take() == [*JOINED, CancelReply()]
    assert box.take() == []


@pytest.mark.parametrize("left", [TURN, [TalkStarted(), b"aa"], [TextTurn("hello")], [ToolResult("1", "r", "{}")]])
@pytest.mark.parametrize("sent", [False, True])
def test_what_no_answer_is_awaited_for_is_forgotten_after_a_while(left, sent):
    box = outbox(*left)
    if sent:
        box.take()
    box.look(100.0, awaited=False)
    box.look(100.0 + STALE_SPEECH_S - 0.1, awaited=False)
    assert not box.quiet
    for second in range(3):  # what is taken back waits, too
        box.look(100.0 + STALE_SPEECH_S + second, awaited=False)
    box.rewind()
    assert [item for item in box.take() if not isinstance(item, NoSpeech)] == []


def test_a_turn_that_begins_beside_what_is_stale_is_kept():
    box = outbox(*TURN)
    box.look(0.0, awaited=False)
    box.put(TalkStarted(), b"cc")  # the main thread has yet to hear of it
    box.look(STALE_SPEECH_S, awaited=False)
    box.put(TalkEnded())
    assert box.take()[-3:] == [TalkStarted(), b"cc", TalkEnded()]


def test_what_an_answer_is_awaited_for_stays():
    box = outbox(*TURN)
    for second in range(0, 300, 7):
        box.look(second, awaited=second % 14 == 0)
    assert box.take() == JOINED


def test_a_cut_without_a_connection_is_no_speech():
    box = outbox(CancelReply())
    for second in range(60):
        box.look(second, awaited=False)
    assert box.take_cancels() == [CancelReply()]


def test_pieces_have_a_largest_size():
    box = outbox(TalkStarted(), *[b"x" * 4000] * 9, limit=100_000)
    assert all(len(item) <= MAX_AUDIO_CHUNK_BYTES for item in box.take() if isinstance(item, bytes))


def test_a_piece_may_have_the_largest_size_and_what_is_beyond_it_is_the_next():
    box = outbox(b"x" * (MAX_AUDIO_CHUNK_BYTES - 1), b"y", b"z", limit=2 * MAX_AUDIO_CHUNK_BYTES)
    assert [len(item) for item in box.take()] == [MAX_AUDIO_CHUNK_BYTES, 1]


@pytest.mark.parametrize("ring", [lambda box: box.put(b".."), Outbox.forget, Outbox.wake])
def test_it_wakes_the_waiting_thread_until_the_wakeup_is_cleared(ring):
    box = outbox()
    assert select.select([box], [], [], 0)[0] == []
    ring(box)
    ring(box)
    assert select.select([box], [], [], 0)[0] == [box]
    box.clear_wakeup()
    assert select.select([box], [], [], 0)[0] == []


def test_the_bell_never_blocks_and_is_not_inherited():
    box = outbox()
    assert not os.get_blocking(box.fileno())
    assert not os.get_inheritable(box.fileno())


def test_a_turn_is_sent_again_from_its_beginning_on_a_new_connection():
    box = outbox(TalkStarted(), b"aa")
    box.take()
    box.put(b"bb")
    box.rewind()
    box.put(TalkEnded())
    assert box.take() == JOINED


@pytest.mark.parametrize(
    ("sent", "again"),
    [
        ([], Resend.NOTHING),
        ([CancelReply()], Resend.NOTHING),
        ([TalkStarted()], Resend.HALF),
        ([TalkStarted(), b"aa"], Resend.HALF),
        ([TalkStarted(), b"aa", NoSpeech()], Resend.NOTHING),
        (TURN, Resend.WHOLE),
        ([TextTurn("x")], Resend.WHOLE),
        ([AudioTurn(b"aa")], Resend.WHOLE),
        ([*TURN, TalkStarted()], Resend.WHOLE),
    ],
)
def test_it_says_what_the_service_that_is_gone_may_know_of_what_is_sent_again(sent, again):
    box = outbox(*sent)
    assert box.rewind() is Resend.NOTHING  # nothing went up
    box.take()
    assert box.rewind() is again
    assert box.rewind() is Resend.NOTHING


def test_a_turn_that_was_forgotten_without_a_connection_leaves_nothing_to_take_back():
    box = outbox(TalkStarted(), b"aa")
    box.take()
    box.rewind()
    box.forget()
    assert box.take() == []


def test_it_is_quiet_while_no_turn_is_open_and_nothing_waits():
    box = outbox()
    assert box.quiet
    for item in TURN:
        box.put(item)
        assert not box.quiet
        box.take()
        assert not box.quiet
    box.settle()
    assert box.quiet


def test_a_turn_is_forgotten_when_its_reply_begins():
    box = outbox(*TURN)
    box.take()
    box.settle()
    box.rewind()
    assert box.take() == []


def test_a_reply_to_the_turn_before_settles_nothing_of_the_turn_under_way():
    box = outbox(*TURN, TalkStarted(), b"cc")
    box.take()
    box.settle()
    box.rewind()
    assert box.take() == [TalkStarted(), b"cc"]


def test_actions_are_not_repeated():
    box = outbox(*TURN, CancelReply())
    box.take()
    box.rewind()
    assert box.take() == JOINED


def test_a_forgotten_turn_is_gone_and_so_is_its_rest():
    box = outbox(TalkStarted(), b"aa", CancelReply())
    box.forget()
    for item in (b"bb", TalkEnded(), TalkStarted(), b"cc"):
        box.put(item)
    assert box.take() == [CancelReply(), TalkStarted(), b"cc"]


def test_what_the_service_has_of_a_forgotten_turn_is_taken_back():
    box = outbox(TalkStarted(), b"aa")
    box.take()
    box.forget()
    box.put(b"bb")
    box.put(TalkEnded())
    assert box.take() == [NoSpeech()]
    box.rewind()
    assert box.take() == []


def test_a_turn_without_speech_is_not_kept():
    box = outbox(TalkStarted(), b"aa")
    box.take()
    box.put(b"bb", NoSpeech())
    assert box.take() == [b"bb", NoSpeech()]
    box.rewind()
    assert box.take() == []


def test_a_turn_without_speech_does_not_remove_the_turn_before_it():
    box = outbox(*TURN, TalkStarted(), b"cc")
    box.take()
    box.put(NoSpeech())
    box.take()
    box.rewind()
    assert box.take() == JOINED


def test_a_turn_in_which_nothing_was_said_does_not_wait_for_a_connection():
    box = outbox(*TURN, TalkStarted(), b"aa", NoSpeech())
    assert box.take() == JOINED
    box.put(TalkStarted(), b"aa", NoSpeech())
    assert not box.take()


def test_a_turn_in_which_nothing_was_said_keeps_the_place_of_what_was_asked_for_meanwhile():
    items = [TalkStarted(), b"aa", CancelReply(), b"bb", NoSpeech()]
    assert outbox(*items).take() == items


def test_what_is_whole_or_taken_back_needs_nothing_when_it_is_forgotten():
    for said in (TURN, [*TURN, TalkStarted(), NoSpeech()], [TextTurn("x")], [RESULT]):
        box = outbox(*said)
        box.take()
        box.forget()
        assert box.take() == []
        assert box.quiet


def test_what_was_to_be_done_is_done_although_the_speech_is_forgotten():
    box = outbox(TalkStarted(), b"aa", RESULT, CancelReply(), TextTurn("x"))
    box.forget()
    assert box.take() == [RESULT, CancelReply()]


def test_a_turn_after_a_forgotten_one_is_heard():
    for end in (TalkEnded(), NoSpeech()):
        box = outbox(TalkStarted(), b"aa")
        box.forget()
        box.put(b"bb", end, *TURN)
        assert box.take() == JOINED


def test_each_turn_that_was_too_long_is_told_of_once(caplog):
    outbox(*[TalkStarted(), *[b"xx"] * 9, TalkEnded()] * 2, limit=4)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_too_much_sound_is_dropped_but_never_a_marker():
    box = outbox(TalkStarted(), *[b"xx"] * 10, TalkEnded(), TalkStarted(), b"yy", TalkEnded(), limit=8)
    assert box.take() == [TalkStarted(), b"xx" * 4, TalkEnded(), TalkStarted(), TalkEnded()]


@pytest.mark.parametrize("ends", ["answered", "forgotten", "forgotten unsent", "nothing said", "nothing said unsent"])
def test_the_room_comes_back_with_the_answer_or_when_there_will_be_none(ends):
    box = outbox(*(TURN[:-1] if "nothing" in ends else TURN), limit=4)
    if "unsent" not in ends:
        box.take()
    match ends.split():
        case ["answered"]:
            box.settle()
        case ["forgotten", *_]:
            box.forget()
        case ["nothing", *_]:
            box.put(NoSpeech())
            box.take()
    box.put(*TURN)
    assert box.take() == JOINED


def test_without_a_connection_only_the_cancels_are_taken():
    box = outbox(TalkStarted(), CancelReply(), b"aa", RESULT)
    assert box.take_cancels() == [CancelReply()]
    assert box.take() == [TalkStarted(), b"aa", RESULT]


def test_the_result_of_a_tool_is_kept_until_the_reply_that_follows_it_begins():
    box = outbox(RESULT)
    assert box.take() == [RESULT]
    box.settle(begun=False)  # the reply that asked for it is over
    assert box.rewind() is Resend.NOTHING
    assert box.take() == [RESULT]
    box.settle()
    box.rewind()
    assert box.take() == []
    assert box.quiet


def test_a_result_that_leads_to_no_reply_is_not_kept():
    box = outbox(ToolResult("c", "{}", quiet=True))
    box.take()
    assert box.quiet
    box.put(RESULT, CancelReply())
    assert box.take() == [RESULT, CancelReply()]
    assert box.quiet
    box.put(*TURN, RESULT)
    box.take()
    box.put(CancelReply())
    box.take()
    box.rewind()
    assert box.take() == JOINED, "speech still waits for its answer"


def test_a_forgotten_beginning_is_not_taken_back_on_another_connection():
    box = outbox(TalkStarted())
    box.take()
    box.forget()
    box.rewind()
    assert box.take() == []


def test_nor_is_the_end_of_one_that_is_sent_again_lost():
    box = outbox(*TURN, TalkStarted(), b"cc")
    box.take()
    box.put(NoSpeech())
    box.rewind()
    assert box.take() == [*JOINED, TalkStarted(), b"cc", NoSpeech()]


HANDS = st.lists(st.sampled_from(["talk", "sound", "end", "nothing", "take", "rewind", "settle", "forget"]))


@given(HANDS)
def test_whatever_happens_what_goes_up_is_whole_turns_within_the_limit(hands):
    box, talking, up = Outbox(limit=6), False, []
    for hand in hands:
        match hand:
            case "talk" if not talking:
                box.put(TalkStarted())
                talking = True
            case "sound" if talking:
                box.put(b"..")
            case "end" | "nothing" if talking:
                box.put(TalkEnded() if hand == "end" else NoSpeech())
                talking = False
            case "take":
                up += box.take()
            case "rewind":
                box.rewind()
                up = []
            case "settle" | "forget":
                getattr(box, hand)()
        kept = sum(len(item) for item in [*box._unsent, *box._sent] if isinstance(item, bytes))
        assert box._kept == kept <= 6
    began = False
    for item in up:
        if isinstance(item, TalkStarted):
            began = True
        else:
            assert began  # sound and ends belong to a turn that went up


def test_what_is_put_at_once_waits_together():
    box = outbox()
    box.put(*TURN)
    assert box.take() == JOINED


def test_it_is_not_quiet_while_a_turn_has_only_begun():
    box = outbox(TalkStarted())
    box.forget()
    assert not box.quiet
    box.put(TalkEnded())
    box.take()
    assert box.quiet


def test_an_item_after_the_end_is_ignored():
    box = outbox()
    box.close()
    box.close()
    with pytest.raises(ValueError, match="closed"):
        box.fileno()
    box.put(b"..")
