"""Reply ownership: whatever the manner of the service, the answer to the latest turn is heard, and nothing else."""

from __future__ import annotations

import base64
import heapq
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.core.errors import LinkLost
from device_agent.core.events import Event, ReplyAudio, TalkEnded, TalkStarted
from device_agent.core.redaction import Secret
from device_agent.services.openai import OpenAI
from device_agent.services.reply_tracker import (
    AUTO_REPLY_TIMEOUT_S,
    BUSY_REQUEST_RETRY_S,
    CANCELLED_REPLY_TIMEOUT_S,
    COMMIT_ACK_TIMEOUT_S,
    MAX_REMEMBERED_IDS,
    MAX_REQUESTS,
    Due,
    ReplyTracker,
)
from device_agent.services.xai import Xai

PIECES = 4
"""So many pieces of sound has each answer."""
TURN_S = 1.0
"""So long the user speaks."""

ANNOUNCED = ["once", "twice", "never", "replaced", "late"]
NAMED = ["same", "other", "random", "none"]
ENDED = ["done", "never", "sound after"]
CUT = ["done", "silently", "flows on"]
BUSY = ["no", "before", "after", "once"]
SERVICES = ["openai", "answers", "asks"]


@dataclass(frozen=True)
class Manner:
    """How a service behaves."""

    service: str = "openai"
    """openai: a reply to each request. answers: a reply to each commit, and a bare request behind it is dropped. asks:
    xAI as others saw it, a reply to each request."""
    announced: str = "once"
    named: str = "same"
    """The ids in the pieces of sound."""
    ended: str = "done"
    cut: str = "done"
    """What becomes of a reply that is cancelled."""
    busy: str = "no"
    """When a request is refused as busy: with its reply on the way, or once with nothing on the way."""
    ack_s: float = 0.1
    begin_s: float = 0.3
    pace_s: float = 0.1


@dataclass
class Scripted:
    """A service with a *manner*, and a user who speaks at the times *talks*, against a real session."""

    manner: Manner
    talks: list[float]
    now: float = 0.0
    queue: list = field(default_factory=list)
    heard: list[tuple[float, int]] = field(default_factory=list)
    """When which turn was answered by a piece of sound."""
    events: list[Event] = field(default_factory=list)
    lost: bool = False

    def __post_init__(self) -> None:
        self.session = (OpenAI if self.manner.service == "openai" else Xai)(Secret("k")).session()
        self.ids, self.order = itertools.count(1), itertools.count()
        self.turn = self.committed = self.answered = 0
        self.running = ""
        self.cancelled: set[str] = set()
        self.refused = False
        self.session.tick(0.0)
        self.session.greet()
        self.session.outgoing()
        list(self.session.receive('{"type": "session.updated"}'))

    def later(self, seconds: float, kind: str, **fields: object) -> None:
        heapq.heappush(self.queue, (self.now + seconds, next(self.order), kind, fields))

    def run(self) -> Scripted:
        for at in self.talks:
            self.later(at, "user talks")
            self.later(at + TURN_S, "user ends")
        while not self.lost and (self.queue or self.session.deadline is not None):
            due = self.session.deadline
            at = min(self.queue[0][0] if self.queue else 1e9, 1e9 if due is None else due)
            self.now = max(self.now, at)
            try:
                self.take(self.session.tick(self.now))
                while self.queue and self.queue[0][0] <= self.now:
                    _, _, kind, fields = heapq.heappop(self.queue)
                    self.happen(kind, fields)
            except LinkLost:
                self.lost = True
            self.hear_client()
            assert self.now < 1000, "a wait never ends"
        return self

    def happen(self, kind: str, fields: dict) -> None:
        if kind == "user talks":
            self.turn += 1
            self.session.send(TalkStarted())
            self.session.send(bytes(480))
        elif kind == "user ends":
            self.session.send(TalkEnded())
        elif fields.get("unless_cancelled") in self.cancelled:
            pass
        elif kind == "begin":
            self.begin(**fields)
        elif kind == "pong":
            self.session.arrived(self.now)
        elif kind == "over":
            self.running = "" if fields["reply"] == self.running else self.running
        else:
            fields = {key: value for key, value in fields.items() if key != "unless_cancelled"}
            self.take(self.session.receive(json.dumps({"type": kind, **fields})))

    def take(self, events: Iterator[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, ReplyAudio):
                self.heard.append((self.now, int.from_bytes(event.pcm[:2], "little")))

    def hear_client(self) -> None:
        for frame in map(json.loads, self.session.outgoing()):
            match frame["type"]:
                case "input_audio_buffer.commit":
                    self.committed = self.turn
                    if self.running and self.manner.service != "openai":  # speech ends the reply under way
                        self.cancel(self.running)
                    self.later(0.0, "pong")
                    self.later(self.manner.ack_s, "input_audio_buffer.committed", item_id=f"u{self.turn}")
                    if self.manner.service == "answers":
                        self.answered = self.turn
                        self.later(self.manner.ack_s + self.manner.begin_s, "begin", turn=self.turn)
                case "response.create":
                    self.request()
                case "response.cancel":
                    self.cancel(frame.get("response_id") or self.running)

    def request(self) -> None:
        if self.manner.service == "answers" and self.answered == self.committed:
            return  # dropped without a word
        busy = {"error": {"code": "conversation_already_has_active_response", "message": "busy"}}
        if self.running and self.running not in self.cancelled:
            self.later(0.05, "error", **busy)
            return
        if self.manner.busy == "once" and not self.refused:
            self.refused = True
            self.later(0.05, "error", **busy)
            return
        if self.manner.busy == "before":
            self.later(self.manner.begin_s / 2, "error", **busy)
        if self.manner.busy == "after":
            self.later(self.manner.begin_s + 0.01, "error", **busy)
        self.later(self.manner.begin_s, "begin", turn=self.committed)

    def cancel(self, reply: str) -> None:
        if not reply or reply in self.cancelled:
            return
        if self.manner.cut != "flows on":
            self.cancelled.add(reply)
            self.running = "" if self.running == reply else self.running
            if self.manner.cut == "done":
                self.later(0.05, "response.done", response={"id": reply, "status": "cancelled"})

    def begin(self, turn: int) -> None:
        if turn != self.turn and self.manner.service == "answers":
            return  # the next turn has begun: the reply is dropped
        manner, reply = self.manner, f"r{next(self.ids)}"
        self.running = reply
        said = manner.announced
        if said == "replaced":
            self.later(0.0, "response.created", response={"id": f"silent {reply}"})
        if said != "never":
            self.later(0.05 if said == "late" else 0.0, "response.created", response={"id": reply})
        if said == "twice":
            self.later(0.02, "response.created", response={"id": reply})
        at = 0.06
        for number in range(PIECES):
            at += manner.pace_s
            if number == PIECES - 1 and manner.ended == "sound after":
                self.later(at - 0.01, "response.done", response={"id": reply, "status": "completed"})
            self.later(at, "response.output_audio.delta", delta=sound(turn), **self.named(reply, number))
        self.later(at + 0.01, "over", reply=reply)
        if manner.ended == "done":
            self.later(
                at + 0.01, "response.done", response={"id": reply, "status": "completed"}, unless_cancelled=reply
            )

    def named(self, reply: str, number: int) -> dict:
        names = {"same": reply, "other": f"x{reply}", "random": f"x{reply}.{number}"}
        name = {"response_id": names[self.manner.named]} if self.manner.named in names else {}
        return {**name, "unless_cancelled": reply}


def sound(turn: int) -> str:
    return base64.b64encode(turn.to_bytes(2, "little") * 240).decode()


def unknowable(manner: Manner) -> bool:
    """Whether no client can tell the sound of a cut reply from that of the next: it flows on, or cannot be ended as
    nothing tells its id, and nothing announces the next, or its pieces have other ids than were announced."""
    anonymous = manner.named in {"random", "none", "other"}
    endless = manner.cut == "flows on" or (manner.announced == "never" and manner.named in {"other", "random"})
    return endless and (manner.announced == "never" or anonymous)


MANNERS = st.builds(
    Manner,
    service=st.sampled_from(SERVICES),
    announced=st.sampled_from(ANNOUNCED),
    named=st.sampled_from(NAMED),
    ended=st.sampled_from(ENDED),
    cut=st.sampled_from(CUT),
    busy=st.sampled_from(BUSY),
    ack_s=st.sampled_from([0.01, 0.1, 0.5]),
    begin_s=st.sampled_from([0.01, 0.3, 0.6]),
    pace_s=st.sampled_from([0.01, 0.2]),
)
GAPS = st.lists(st.sampled_from([1.2, 1.6, 2.0, 3.0, 8.0, 20.0]), min_size=0, max_size=4)


@given(MANNERS, GAPS)
@settings(max_examples=600, deadline=None)
def test_the_answer_to_the_latest_turn_is_heard_whole_and_that_to_an_earlier_one_never(manner, gaps):
    talks = [0.0, *itertools.accumulate(gaps)]
    scene = Scripted(manner, talks).run()
    if gaps and unknowable(manner):
        return
    assert not scene.lost
    assert not scene.session.busy
    for at, turn in scene.heard:
        assert turn == sum(begun <= at for begun in talks), f"turn {turn} is answered at {at}"
    assert [turn for _, turn in scene.heard].count(len(talks)) == PIECES


@pytest.mark.parametrize("manner", [Manner(service) for service in SERVICES], ids=SERVICES)
def test_no_service_is_waited_for_longer_than_it_takes(manner):
    (first, _), *_ = Scripted(manner, [0.0]).run().heard
    request = 0.7 + manner.ack_s if manner.service == "asks" else 0.0
    commit = manner.ack_s if manner.service == "answers" else 0.0
    assert first == pytest.approx(TURN_S + commit + request + manner.begin_s + 0.06 + manner.pace_s, abs=0.01)


# One row each ---------------------------------------------------------------------------------------------------------


class Tracked:
    """A tracker, and what it says."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.replies = ReplyTracker(lambda: self.said.append("create"), lambda name: self.said.append(f"cancel {name}"))


@pytest.fixture
def asked() -> Tracked:
    tracked = Tracked()
    tracked.replies.ask(0.0)
    assert tracked.said == ["create"]
    return tracked


def test_what_is_under_way_is_known_at_each_step():
    replies = Tracked().replies
    steps = [
        (lambda: None, {"idle"}, None),
        (lambda: replies.cancel(), {"idle"}, None),
        (lambda: replies.commit(), {"owed"}, None),
        (lambda: replies.arrived(1.0), {"owed"}, 1.0 + COMMIT_ACK_TIMEOUT_S),
        (lambda: replies.acknowledge(1.5), {"owed", "acknowledged"}, 1.5 + AUTO_REPLY_TIMEOUT_S),
        (lambda: replies.arrived(1.6), {"owed", "acknowledged"}, 1.5 + AUTO_REPLY_TIMEOUT_S),
        (lambda: replies.begin("a", 2.0), {"silent", "acknowledged"}, None),
        (lambda: replies.piece("a", 2.1), {"open", "acknowledged"}, None),
        (lambda: replies.ask(3.0), {"owed", "open", "acknowledged"}, 3.0 + CANCELLED_REPLY_TIMEOUT_S),
        (lambda: replies.cancel(), {"dying", "acknowledged"}, None),
        (lambda: replies.end("a"), {"idle", "acknowledged"}, None),
        (lambda: replies.commit(), {"owed"}, None),
        (lambda: replies.give_up(), {"idle"}, None),
    ]
    for step, so, deadline in steps:
        step()
        assert {
            name for name in ("owed", "silent", "open", "idle", "dying", "acknowledged") if getattr(replies, name)
        } == so
        assert replies.deadline == deadline


def test_a_request_that_was_cancelled_is_owed_until_it_was_announced(asked):
    replies = asked.replies
    assert (replies.owed, replies.idle, replies.deadline) == (True, False, None)
    replies.cancel()
    assert (replies.due, replies.owed, replies.deadline) == (Due.NOTHING, True, None)
    replies.begin("a", 1.0)
    assert (replies.owed, replies.dying, replies.idle) == (False, True, False)
    replies.ask(2.0)
    assert (replies.due, replies.owed, replies.deadline) == (Due.NOTHING, True, 2.0 + CANCELLED_REPLY_TIMEOUT_S)
    assert asked.said == ["create", "cancel a"]


def test_the_sooner_of_two_waits_ends_first(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.cancel()
    asked.replies.ask(1.0)
    for after in (0.5, 9.0):
        asked.replies.again(1.0, after)
        assert asked.replies.deadline == 1.0 + min(after, CANCELLED_REPLY_TIMEOUT_S)


def test_a_request_waits_for_the_end_of_the_reply_that_is_under_way(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    asked.replies.ask(1.0)
    assert asked.said == ["create"]
    assert asked.replies.end("a") == "a"
    asked.replies.ask_if_free()
    asked.replies.ask_if_free()
    assert asked.said == ["create", "create"]


@pytest.mark.parametrize("begins", [lambda replies: replies.ask(0.0), ReplyTracker.commit, ReplyTracker.expect])
def test_for_each_turn_it_asks_a_few_times(begins):
    tracked = Tracked()
    for _ in range(2):  # turns
        tracked.said.clear()
        begins(tracked.replies)
        for _ in range(10):
            tracked.replies.again(0.0, 0.0)
            tracked.replies.ask_now()
        assert tracked.said == ["create"] * MAX_REQUESTS
        assert tracked.replies.deadline is None


@pytest.mark.parametrize(
    ("steps", "overtakes"),
    [
        (["commit", "ask_now"], True),
        (["commit", "ask_now", "busy", "ask_now"], True),
        (["commit", "ask_now", "commit"], False),  # another turn, and nothing has overtaken that
        (["commit", "acknowledge", "ask_now"], False),
        (["expect", "ask_now"], False),
    ],
)
def test_a_reply_that_overtook_the_turn_is_not_the_answer_to_it(steps, overtakes):
    tracked = Tracked()
    replies = tracked.replies
    for step in steps:
        getattr(replies, step)(*([0.5] if step in {"busy", "acknowledge"} else []))
    replies.begin("a", 1.0)
    replies.piece("a", 1.1)
    assert replies.acknowledge(2.0) == ("a" if overtakes else "")
    assert ("cancel a" in tracked.said) is overtakes
    assert replies.due is (Due.COMMITTED if overtakes else Due.NOTHING)


def test_a_reply_that_overtook_the_turn_is_ended_although_nothing_of_it_was_heard():
    tracked = Tracked()
    tracked.replies.commit()
    tracked.replies.ask_now()
    tracked.replies.begin("a", 1.0)
    assert tracked.replies.acknowledge(2.0) == ""
    assert tracked.said == ["create", "cancel a"]
    assert tracked.replies.due is Due.COMMITTED


def test_a_request_is_not_overtaken_by_its_turn():
    tracked = Tracked()
    tracked.replies.commit()
    tracked.replies.ask_now()
    tracked.replies.acknowledge(1.0)
    assert (tracked.replies.due, tracked.replies.acknowledged, tracked.replies.deadline) == (Due.ASKED, False, None)
    tracked.replies.begin("a", 1.0)
    assert tracked.replies.piece("a", 1.1) == "a"
    assert tracked.replies.acknowledge(2.0) == ""
    assert tracked.said == ["create"]


@pytest.mark.parametrize("announced", [False, True])
def test_speech_that_the_service_has_ends_what_was_cancelled_before(announced, asked):
    asked.replies.begin("dead", 0.1) if announced else None
    asked.replies.cancel()
    asked.replies.commit()
    asked.replies.acknowledge(1.0)
    assert not asked.replies.dying
    asked.replies.begin("a", 1.1)
    assert asked.replies.piece("a", 1.2) == "a"


def test_where_replies_are_announced_sound_under_another_id_may_be_of_the_one_that_was_cut(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    asked.replies.cancel()
    asked.replies.end("a")
    asked.replies.ask(1.0)
    assert asked.replies.piece("x", 1.1) == ""
    asked.replies.begin("b", 1.2)
    assert asked.replies.piece("y", 1.3) == "b"


def test_a_reply_without_an_id_is_cancelled_without_one(asked):
    asked.replies.begin("", 0.1)
    asked.replies.cancel()
    assert asked.said == ["create", "cancel "]


def test_where_nothing_is_due_what_was_not_announced_is_of_no_reply(asked):
    assert asked.replies.piece("a", 0.1) == "a"
    assert asked.replies.piece("more of it", 0.2) == "a"
    assert asked.replies.end("a") == "a"
    asked.replies.cancel()
    assert asked.replies.piece("b", 1.0) == ""
    assert asked.replies.end("b") == ""


def test_what_is_announced_twice_is_one_reply(asked):
    for _ in range(2):
        asked.replies.begin("a", 0.1)
    assert asked.replies.piece("a", 0.2) == "a"
    asked.replies.begin("a", 0.3)
    assert asked.said == ["create"]
    asked.replies.cancel()
    asked.replies.begin("a", 0.4)
    assert asked.said == ["create", "cancel a"]
    asked.replies.end("a")
    assert asked.replies.idle


def test_a_silent_reply_that_was_announced_twice_ends_once(asked):
    for _ in range(2):
        asked.replies.begin("a", 0.1)
    assert asked.replies.end("a") == "a"
    assert asked.replies.idle


@pytest.mark.parametrize("cut", [False, True])
def test_a_service_may_use_an_id_again(cut, asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    asked.replies.cancel() if cut else None
    asked.replies.end("a")
    asked.replies.ask(1.0)
    asked.replies.begin("a", 1.1)
    assert asked.replies.silent
    assert asked.replies.piece("a", 1.2) == "a"
    assert asked.replies.end("a") == "a"


@pytest.mark.parametrize("name", ["a", ""])
def test_a_piece_without_an_id_is_of_the_reply_that_was_announced_last(name, asked):
    asked.replies.begin(name, 0.1)
    reply = asked.replies.piece("", 0.2)
    assert reply == (name or reply)
    assert reply
    assert asked.replies.end("") == reply
    asked.replies.ask(1.0)
    asked.replies.begin(name and "b", 1.1)
    assert asked.replies.piece("", 1.2) not in ("", reply)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_reply_that_never_ends_is_waited_for_no_longer_than_so(cancelled, asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    asked.replies.cancel() if cancelled else None
    asked.replies.ask(1.0)
    assert asked.replies.tick(1.0 + CANCELLED_REPLY_TIMEOUT_S - 0.1) is False
    assert asked.replies.tick(1.0 + CANCELLED_REPLY_TIMEOUT_S) is True
    assert asked.said[-1] == "create"
    assert not asked.replies.dying
    assert not asked.replies.open
    assert asked.replies.piece("a", 5.0) == ""
    assert asked.replies.tick(100.0) is False


def test_only_a_commit_that_is_not_acknowledged_is_waited_for_when_it_has_arrived():
    replies = Tracked().replies
    replies.arrived(1.0)
    assert replies.deadline is None
    replies.again(1.0, 1.0)
    replies.commit()
    assert replies.deadline is None
    for now in (2.0, 3.0):
        replies.arrived(now)
        assert replies.deadline == 2.0 + COMMIT_ACK_TIMEOUT_S
    replies.expect()
    replies.arrived(4.0)
    assert replies.deadline is None


@pytest.mark.parametrize("announced", [False, True])
def test_where_the_service_ends_the_turn_what_was_cancelled_is_over(announced, asked):
    asked.replies.begin("dead", 0.1) if announced else None
    asked.replies.cancel()
    asked.replies.expect()
    assert not asked.replies.dying
    asked.replies.begin("a", 1.0)
    assert asked.replies.piece("a", 1.1) == "a"


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("heard", [["a", "alias"], ["alias", "a"], ["a", "end", "alias"]])
def test_no_sound_of_what_was_cut_is_wanted_any_more_under_whatever_id(heard, over, asked):
    asked.replies.begin("a", 0.1)
    for name in [*heard, "end"] if over else heard:
        if name == "end":
            asked.replies.end("a")
        else:
            assert asked.replies.piece(name, 0.2) == "a"
    over = "end" in heard or over
    asked.replies.cancel()
    assert ("cancel a" in asked.said) is not over
    assert asked.replies.piece("a", 0.9) == ""
    assert asked.replies.deadline is None
    asked.replies.expect()
    assert [asked.replies.piece(name, 1.0) for name in ("a", "alias")] == ["", ""]
    asked.replies.begin("b", 1.1)
    assert [asked.replies.piece(name, 1.2) for name in ("a", "alias", "b")] == ["", "", "b"]


def test_what_was_announced_and_is_cut_before_it_yields_anything_is_ended(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.cancel()
    assert asked.said == ["create", "cancel a"]
    assert not asked.replies.silent
    asked.replies.cancel()
    assert asked.said == ["create", "cancel a"]


def test_of_two_cancelled_requests_both_replies_are_ended(asked):
    asked.replies.cancel()
    asked.replies.commit()
    asked.replies.ask_now()
    asked.replies.cancel()
    asked.replies.commit()
    for name in "abc":
        asked.replies.begin(name, 1.0)
    assert asked.said == ["create", "create", "cancel a", "cancel b"]
    assert asked.replies.piece("c", 2.0) == "c"


def test_a_request_that_may_have_been_lost_behind_a_cancelled_one_is_made_again(asked):
    asked.replies.cancel()
    asked.replies.commit()
    asked.replies.ask_now()
    assert asked.replies.deadline is None
    asked.replies.begin("cancelled", 5.0)
    assert asked.replies.deadline == 5.0 + BUSY_REQUEST_RETRY_S


@pytest.mark.parametrize(("first", "answer"), [("a", "a"), ("b", "b"), ("x", "b"), ("", "b")])
def test_of_the_announced_replies_the_one_that_sounds_is_the_answer(first, answer, asked):
    for name in "ab":
        asked.replies.begin(name, 0.1)
    assert asked.replies.piece(first, 0.2, heard=False) == answer
    assert asked.replies.silent  # words decide nothing
    assert asked.replies.piece(first, 0.3) == answer
    assert [asked.replies.piece(name, 0.4) for name in "ab"] == [name if name == answer else "" for name in "ab"]
    assert asked.replies.piece(first, 0.5) == answer


def test_a_cancelled_reply_that_flows_on_is_in_the_way_and_one_that_is_over_is_not(asked):
    for name in "ab":
        asked.replies.begin(name, 0.1)
    asked.replies.piece("b", 0.2)
    asked.replies.cancel()
    asked.replies.ask(1.0)
    assert asked.replies.piece("a", 2.0) == ""  # replaced long ago
    assert asked.replies.deadline == 1.0 + CANCELLED_REPLY_TIMEOUT_S
    for now, name in ((2.0, "b"), (3.0, "perhaps b")):
        assert asked.replies.piece(name, now) == ""
        assert asked.replies.deadline == now + CANCELLED_REPLY_TIMEOUT_S


def test_a_service_that_tells_no_ids_is_heard_after_a_cancel():
    replies = Tracked().replies
    replies.cancel()
    replies.expect()
    reply = replies.piece("", 1.0)
    assert reply
    assert replies.piece("", 1.1) == reply
    assert replies.end("") == reply


def test_a_reply_to_a_cancelled_request_that_is_not_announced_is_ended_as_well(asked):
    asked.replies.cancel()
    assert asked.replies.piece("x", 0.2) == ""
    assert asked.said == ["create", "cancel x"]
    assert not asked.replies.owed
    asked.replies.end("x")
    asked.replies.ask(1.0)
    assert asked.replies.piece("y", 1.1) == "y"  # it announces none: this is the next


def test_a_cancelled_request_that_fails_is_over(asked):
    asked.replies.cancel()
    assert asked.replies.end("x") == ""
    assert asked.replies.idle
    asked.replies.ask(1.0)
    assert asked.said == ["create", "create"]


@pytest.mark.parametrize(("first", "last", "wanted"), [("a", "b", "b"), ("b", "a", "a"), ("", "", "a")])
def test_of_the_announced_replies_one_that_ends_in_silence_was_replaced(first, last, wanted, asked):
    for name in "ab":
        asked.replies.begin(name, 0.1)
    assert asked.replies.end(first) == ""
    assert asked.replies.end(last) == wanted
    assert asked.replies.idle


def test_sound_behind_the_end_of_a_reply_is_of_that_reply(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    assert asked.replies.end("a") == "a"
    assert asked.replies.end("a") == ""
    assert [asked.replies.piece(name, 0.3) for name in ("a", "x", "")] == ["a", "a", "a"]
    asked.replies.reopen()
    assert asked.replies.open
    assert asked.replies.end("a") == "a"


def test_a_cancel_ends_every_wait(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    asked.replies.ask(1.0)
    asked.replies.again(1.0, 1.0)
    asked.replies.cancel()
    assert asked.replies.deadline is None
    asked.replies.end("a")
    assert asked.replies.idle


def test_what_it_remembers_has_a_bound(asked):
    replies = asked.replies
    for number in range(100):
        replies.begin(f"silent {number}", 0.0)
    assert len(replies._candidates) == MAX_REQUESTS + 1
    assert replies.piece("silent 99", 1.0) == "silent 99"
    for number in range(100):
        assert replies.piece(f"alias {number}", 1.0) == "silent 99"
    for number in range(100):
        replies.begin(f"unwanted {number}", 2.0)
    assert [len(each) for each in (replies._aliases, replies._dead, replies._dying)] == [
        MAX_REMEMBERED_IDS, MAX_REMEMBERED_IDS, MAX_REQUESTS + 1
    ]  # fmt: skip


def test_what_was_asked_for_and_has_yielded_nothing_may_be_replaced(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.begin("b", 0.2)
    assert asked.replies.piece("b", 0.3) == "b"
    assert asked.replies.piece("a", 0.4) == ""
    assert asked.said == ["create"]


def test_words_alone_do_not_decide_which_of_two_it_is(asked):
    asked.replies.begin("a", 0.1)
    assert asked.replies.piece("a", 0.1, heard=False) == "a"
    asked.replies.begin("b", 0.2)
    assert asked.replies.piece("b", 0.3) == "b"


def test_a_second_reply_inside_the_first_is_ended_by_its_name(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    asked.replies.begin("b", 0.3)
    assert asked.said == ["create", "cancel b"]
    assert (asked.replies.piece("b", 0.4), asked.replies.piece("a", 0.5)) == ("", "a")
    assert (asked.replies.end("b"), asked.replies.end("a")) == ("", "a")


def test_pieces_without_ids_are_of_a_second_reply_inside_the_first_until_that_ends(asked):
    for _ in range(2):  # turns
        asked.replies.begin("a", 0.1)
        assert asked.replies.piece("", 0.2) == "a"
        asked.replies.begin("b", 0.3)
        assert asked.replies.piece("", 0.4) == ""
        assert asked.replies.end("") == ""
        assert asked.replies.piece("", 0.5) == "a"
        asked.replies.cancel()
        asked.replies.end("a")
        asked.replies.ask(1.0)


def test_pieces_without_ids_behind_the_end_of_a_reply_are_of_the_next_that_was_asked_for(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("", 0.2)
    assert asked.replies.end("") == "a"
    assert asked.replies.piece("", 0.3) == "a"
    asked.replies.ask(1.0)
    assert asked.replies.piece("", 1.1) not in ("", "a")


def test_pieces_without_ids_of_what_was_cut_are_no_answer_to_the_next_turn(asked):
    reply = asked.replies.piece("", 0.1)
    asked.replies.cancel()
    assert asked.said == ["create", "cancel "]
    asked.replies.commit()
    assert asked.replies.piece("", 1.0) == ""
    asked.replies.acknowledge(2.0)
    assert asked.replies.piece("", 2.1) not in ("", reply)


def test_a_reply_that_is_announced_late_goes_on_behind_its_end(asked):
    asked.replies.piece("a", 0.1)
    asked.replies.cancel()
    asked.replies.end("a")
    asked.replies.ask(1.0)
    assert asked.replies.piece("b", 1.1) == "b"
    asked.replies.begin("b", 1.2)
    assert asked.replies.end("b") == "b"
    assert asked.replies.piece("", 1.3) == "b"


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_what_begins_for_the_next_turn_ends_the_reply_before(announced, cut, asked):
    asked.replies.begin("a", 0.1) if announced else None
    asked.replies.piece("a", 0.2)
    asked.replies.cancel() if cut else asked.replies.end("a")
    asked.replies.commit()
    asked.replies.begin("b", 1.0) if announced else None
    pieces = [("a", ""), ("b", "b"), ("a", "")] if announced else [("b", "b"), ("a", "")]
    assert [asked.replies.piece(name, 1.1) for name, _ in pieces] == [wanted for _, wanted in pieces]
    assert not asked.replies.dying
    assert asked.replies.end("b") == "b"
    assert asked.replies.idle


def test_an_end_that_is_told_twice_does_not_end_the_next_reply(asked):
    asked.replies.begin("a", 0.1)
    asked.replies.piece("a", 0.2)
    assert asked.replies.end("a") == "a"
    asked.replies.commit()
    assert asked.replies.end("a") == ""
    assert asked.replies.due is Due.COMMITTED


@pytest.mark.parametrize("before", [[], ["first"]])
def test_a_reply_to_a_commit_that_fails_before_it_was_announced_is_over(before):
    replies = Tracked().replies
    for name in before:
        replies.commit()
        replies.begin(name, 0.1)
        replies.piece(name, 0.2)
        replies.end(name)
    replies.commit()
    assert replies.end("a") == "a"
    assert replies.idle


def test_where_nothing_was_asked_for_nothing_is_heard():
    assert Tracked().replies.piece("a", 0.1) == ""


def test_a_reply_that_fails_before_it_was_announced_is_the_one_that_was_asked_for(asked):
    assert asked.replies.end("a") == "a"
    asked.replies.again(1.0, 0.5)
    assert not asked.replies.overdue(1.4)
    assert asked.replies.overdue(1.5)
    asked.replies.ask_now()
    assert asked.said == ["create", "create"]


def test_a_service_that_is_busy_with_nothing_is_asked_again_a_few_times(asked):
    now = 0.0
    while asked.replies.deadline is not None or not now:
        asked.replies.busy(now)
        now = asked.replies.deadline
        assert now is not None
        asked.replies.ask_now()
        if len(asked.said) > 10:
            break
        if asked.replies.due is Due.DETECTED:
            break
    assert 2 <= len(asked.said) <= 4


def test_the_reply_to_a_request_that_was_cancelled_is_ended_when_it_has_a_name(asked):
    asked.replies.cancel()
    asked.replies.ask(1.0)
    assert asked.said == ["create"]  # it comes first
    asked.replies.begin("a", 1.1)
    assert asked.said == ["create", "cancel a"]
    assert asked.replies.end("a") == ""
    asked.replies.ask_if_free()
    assert asked.said[-1] == "create"
    asked.replies.begin("b", 1.2)
    assert asked.replies.piece("b", 1.3) == "b"


def test_an_end_that_was_taken_back_takes_the_reply_with_it():
    tracked = Tracked()
    tracked.replies.expect()
    tracked.replies.begin("a", 0.1)
    assert tracked.replies.withdraw() == ""
    assert not tracked.replies.silent
    tracked.replies.expect()
    tracked.replies.begin("b", 1.0)
    assert (tracked.replies.piece("a", 1.1), tracked.replies.piece("b", 1.2)) == ("", "b")
    assert tracked.said == []


@pytest.mark.parametrize("over", [False, True])
def test_a_reply_that_has_begun_goes_with_the_end_that_was_taken_back_unless_it_is_over(over):
    tracked = Tracked()
    replies = tracked.replies
    replies.expect()
    replies.begin("a", 0.1)
    assert [replies.piece(name, 0.2) for name in ("a", "alias")] == ["a", "a"]
    replies.end("a") if over else None
    assert replies.withdraw() == ("" if over else "a")
    assert (replies.open, replies.due, replies.deadline) == (False, Due.DETECTED, None)
    replies.begin("b", 1.0)
    assert [replies.piece(name, 1.1) for name in ("a", "alias", "b")] == ["", "", "b"]
    assert tracked.said == []


@pytest.mark.parametrize("announced", [False, True])
def test_a_request_that_was_refused_for_a_cancelled_reply_is_made_again_at_its_end(announced, asked):
    asked.replies.begin("a", 0.1) if announced else None
    asked.replies.cancel()
    asked.replies.commit()
    asked.replies.ask_now()
    asked.replies.busy(2.0)
    assert (asked.replies.due, asked.replies.deadline) == (Due.NOTHING, 2.0 + CANCELLED_REPLY_TIMEOUT_S)
    asked.said.clear()
    asked.replies.ask_if_free()
    assert asked.said == []
    asked.replies.end("a")
    asked.replies.ask_if_free()
    assert asked.said == ["create"]


def test_a_request_that_was_refused_for_a_reply_that_nothing_told_of_is_made_again_at_its_end(asked):
    asked.replies.busy(0.5)
    assert (asked.replies.due, asked.replies.deadline) == (Due.DETECTED, 0.5 + BUSY_REQUEST_RETRY_S)
    assert not asked.replies.overdue(0.5)
    assert asked.replies.end("another") == ""
    assert asked.replies.overdue(0.5)
    assert asked.replies.end("failed") == "failed"  # nor does it wait for two
    assert asked.replies.idle
