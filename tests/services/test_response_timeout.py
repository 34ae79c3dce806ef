"""How long a service that owes a reply may be silent: without a socket or a clock."""

from __future__ import annotations

import pytest

from device_agent.services.response_timeout import (
    ACCEPT_PART,
    PROGRESS_PART,
    QUICK_START_PART,
    SLOW_START_PART,
    SLOWDOWN_FACTOR,
    TOTAL_PART,
    ResponseTimedOut,
    ResponseTimeout,
)

P = 60.0
OWED, WORKS, OVER = {"owed": True, "works": False}, {"owed": False, "works": True}, {"owed": False, "works": False}


def watched(**settings: bool) -> ResponseTimeout:
    return ResponseTimeout("the service", P, **settings)


def ask(timeout: ResponseTimeout, now: float) -> None:
    """A turn goes up, and the link's thread looks at the clock."""
    timeout.ask()
    assert timeout.deadline(now) == now
    timeout.check(now)


def answered(timeout: ResponseTimeout, now: float, took: float) -> None:
    """A turn is taken, and its reply begins."""
    ask(timeout, now)
    timeout.heard(now, **OWED)
    timeout.heard(now + took, **OVER)
    assert timeout.deadline(now + took) is None


def gives_up(timeout: ResponseTimeout, words: str) -> float:
    """Return when the silence is too long: not a moment before, and once."""
    at = timeout.deadline(0.0)
    assert at is not None
    timeout.check(at - 0.01)
    with pytest.raises(ResponseTimedOut, match=f"^the service {words}$"):
        timeout.check(at)
    timeout.check(at + 1000.0)
    assert timeout.deadline(at) is None
    return at


def test_a_service_that_has_said_nothing_yet_may_take_long_over_the_first_turn_and_no_later_one():
    timeout = watched()
    ask(timeout, 100.0)
    assert gives_up(timeout, "did not accept the turn within 50 s") == 100.0 + SLOW_START_PART * P
    timeout.heard(200.0, **OVER)
    ask(timeout, 300.0)
    assert gives_up(timeout, "did not accept the turn within 10 s") == 300.0 + ACCEPT_PART * P


def test_one_that_says_nothing_before_its_reply_may_take_as_long_as_one_that_begins_it():
    timeout = watched(acknowledges=False)
    ask(timeout, 100.0)
    assert gives_up(timeout, "did not accept the turn within 30 s") == 100.0 + QUICK_START_PART * P


def test_the_time_runs_from_when_the_latest_turn_had_gone_up():
    timeout = watched()
    answered(timeout, 10.0, 1.0)
    ask(timeout, 100.0)
    timeout.ask()
    assert timeout.deadline(105.0) == 105.0
    timeout.check(120.0)  # it took so long to send
    timeout.check(125.0)
    assert timeout.deadline(125.0) == 120.0 + ACCEPT_PART * P


def test_a_word_about_a_turn_that_goes_up_is_about_that_one():
    timeout = watched()
    timeout.ask()
    timeout.heard(1.0, **OWED)
    assert timeout.deadline(2.0) == 1.0 + SLOW_START_PART * P


@pytest.mark.parametrize(
    ("took", "spare", "part"),
    [
        ([], False, SLOW_START_PART),
        ([], True, QUICK_START_PART),
        ([QUICK_START_PART * P / SLOWDOWN_FACTOR], False, QUICK_START_PART),
        ([QUICK_START_PART * P / SLOWDOWN_FACTOR + 0.1], False, SLOW_START_PART),
        ([QUICK_START_PART * P / SLOWDOWN_FACTOR + 0.1], True, QUICK_START_PART),
        ([QUICK_START_PART * P / SLOWDOWN_FACTOR + 0.1, 1.0], False, SLOW_START_PART),
    ],
)
def test_a_reply_may_take_long_to_begin_unless_that_was_quick_before_or_another_service_is_there(took, spare, part):
    timeout = watched()
    for number, seconds in enumerate(took):
        answered(timeout, 1000.0 * number, seconds)
    ask(timeout, 5000.0)
    timeout.heard(5003.0, **OWED, spare=spare)
    assert gives_up(timeout, f"began no reply within {part * P:g} s") == 5003.0 + part * P


def test_what_the_service_says_by_itself_tells_nothing_of_how_long_a_reply_takes():
    timeout = watched()
    timeout.heard(10.0, **OVER)
    timeout.heard(2000.0, **OVER)
    answered(timeout, 3000.0, 1.0)
    ask(timeout, 4000.0)
    timeout.heard(4000.0, **OWED)
    assert timeout.deadline(4000.0) == 4000.0 + QUICK_START_PART * P


@pytest.mark.parametrize("by_itself", [False, True])
def test_signs_of_work_prolong_the_wait_within_a_limit(by_itself):
    timeout = watched()
    if not by_itself:
        ask(timeout, 100.0)
    for now in range(100, 340, 40):
        timeout.heard(float(now), **WORKS)
        assert timeout.deadline(0.0) == min(now + PROGRESS_PART * P, 100.0 + TOTAL_PART * P)
    assert gives_up(timeout, "sent no more of its reply within 120 s") == 100.0 + TOTAL_PART * P


def test_the_limit_is_that_of_the_turn_and_not_of_the_one_before():
    timeout = watched()
    answered(timeout, 0.0, 5.0)
    for now in (1000.0, 1100.0):
        timeout.heard(now, **WORKS)
    assert timeout.deadline(0.0) == 1100.0 + PROGRESS_PART * P


def test_where_nothing_is_owed_any_more_silence_is_no_failure():
    timeout = watched()
    ask(timeout, 0.0)
    timeout.settle()
    assert timeout.deadline(1.0) is None
    timeout.ask()
    timeout.settle()
    assert timeout.deadline(1.0) is None
    timeout.check(1.0)
    assert timeout.deadline(1.0) is None
    timeout.heard(1000.0, **WORKS)  # the time of the turn that was given up counts no more
    assert timeout.deadline(1.0) == 1000.0 + PROGRESS_PART * P


def test_before_a_turn_nothing_is_waited_for():
    timeout = watched()
    assert timeout.deadline(1.0) is None
    timeout.check(1000.0)


def test_whether_it_has_spoken_is_known():
    assert watched(acknowledges=False).spoke
    timeout = watched()
    assert not timeout.spoke
    timeout.heard(1.0, **OVER)
    assert timeout.spoke
