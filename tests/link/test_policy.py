"""When there is a connection, and to which service: without a thread, a socket or a clock."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device_agent.core.conversation import REFUSED_S
from device_agent.core.errors import LinkClosed, LinkLost, LinkRefused
from device_agent.core.events import LinkDown, LinkIdle, Refused
from device_agent.link.backoff import BACKOFF_FIRST_S, BACKOFF_LIMIT_S
from device_agent.link.failover import FAILED_SERVICE_AWAY_S
from device_agent.link.policy import (
    ALTERNATIVE_TIMEOUT_S,
    CLOSED_AT_ONCE_S,
    DIAL_TIMEOUT_S,
    MAX_REQUESTED_PAUSE_S,
    MAX_SESSION_AGE_S,
    MAX_SESSION_LEFT_S,
    MIN_SESSION_AGE_S,
    PREPARE_AFTER_S,
    RENEW_AFTER_TURN_S,
    RENEW_MARGIN_S,
    RENEW_RETRY_S,
    STABLE_AFTER_S,
    TURN_CONNECT_TIMEOUT_S,
    ConnectPlan,
    LinkPolicy,
    Need,
    Prepare,
    Wait,
    renew_in,
)

PATIENCE_S = 30.0
LOST, REFUSED = LinkLost("broken"), LinkRefused("401")


def policy(count: int = 1, *, always: bool = False) -> LinkPolicy:
    made = LinkPolicy([PATIENCE_S] * count, always=always, rng=random.Random(1))
    if not always:
        assert made.decide(0.0) == Wait(PREPARE_AFTER_S)
        assert made.decide(PREPARE_AFTER_S) == Prepare(0)
    return made


def dialled(policy: LinkPolicy, now: float) -> int:
    """Return which service is to be dialled now."""
    plan = policy.decide(now)
    assert isinstance(plan, ConnectPlan)
    return plan.service


def waits(policy: LinkPolicy, now: float) -> float:
    """Return for how long nothing is dialled."""
    decision = policy.decide(now)
    assert isinstance(decision, Wait)
    return decision.until - now


def connected(policy: LinkPolicy, now: float, *, expires: float = MAX_SESSION_AGE_S) -> LinkPolicy:
    dialled(policy, now)
    policy.ready(now, expires)
    return policy


# What a connection is made for ----------------------------------------------------------------------------------------


def test_without_a_need_the_first_service_is_prepared_once_and_none_is_dialled():
    rests = LinkPolicy([PATIENCE_S])
    assert not rests.renewing
    assert rests.decide(5.0) == Wait(5.0 + PREPARE_AFTER_S)
    assert rests.decide(5.0 + PREPARE_AFTER_S) == Prepare(0)
    assert rests.decide(100.0) == Wait()


@pytest.mark.parametrize("need", [LinkPolicy.ask, LinkPolicy.notice])
def test_a_need_dials_at_once(need):
    one = policy()
    assert need(one, 9.0) is None
    assert one.need is (Need.ASKED if need is LinkPolicy.ask else Need.NOTICED)
    assert one.decide(9.0) == ConnectPlan(0, DIAL_TIMEOUT_S, PATIENCE_S, 0)


def test_a_dial_prepares_the_next_one():
    one = LinkPolicy([PATIENCE_S])
    one.ask(0.0)
    connected(one, 0.0)
    one.hang_up()
    one.ended(100.0)
    assert one.decide(100.0) == Wait()


def test_a_connection_that_is_always_wanted_needs_no_need():
    one = policy(always=True)
    assert one.wanted
    assert dialled(one, 0.0) == 0


def test_a_need_that_went_before_the_dial_dials_no_more():
    one = policy()
    one.ask(9.0)
    assert one.linger() is None
    assert one.decide(9.0) == Wait()


def test_what_lingers_stays_and_is_not_made_again():
    one = policy()
    one.ask(9.0)
    connected(one, 9.0)
    one.linger()
    assert one.wanted
    assert not one.awaited
    assert one.lost(LOST, 10.0).event == LinkIdle()
    assert not one.wanted
    assert one.decide(10.0) == Wait()


def test_what_is_hung_up_is_over():
    one = policy()
    one.ask(9.0)
    connected(one, 9.0)
    one.hang_up()
    assert not one.wanted
    assert one.ended(11.0) == LinkIdle()
    assert one.renew_at == math.inf
    assert one.decide(11.0) == Wait()
    one.allow(False, 12.0)
    assert one.allow(True, 12.0) == LinkIdle()


@pytest.mark.parametrize("ends", [LinkPolicy.linger, LinkPolicy.hang_up, lambda one: one.allow(False, 9.0)])
def test_a_need_that_goes_in_a_pause_is_told_so(ends):
    one = policy()
    one.ask(9.0)
    dialled(one, 9.0)
    assert isinstance(one.lost(LOST, 9.0).event, LinkDown)
    assert ends(one) == LinkIdle()
    assert ends(one) is None
    assert not one.awaited
    one.allow(False, 10.0)
    assert one.allow(True, 10.0) == LinkIdle()


def test_a_need_that_goes_while_it_is_dialled_or_in_a_pause_of_what_is_always_wanted_ends_nothing():
    one = policy()
    one.ask(9.0)
    pause = failing(one, 1, now=9.0)[0]
    dialled(one, 9.0 + pause)
    assert one.linger() is None
    one = policy(always=True)
    failing(one, 1)
    assert one.linger() is None


def test_where_there_may_be_no_connection_there_is_none_and_a_request_waits_until_there_may():
    one = policy(always=True)
    connected(one, 0.0)
    one.allow(False, 1.0)
    assert not one.wanted
    one.ended(1.0)
    assert one.ask(1.0) is None
    assert one.decide(1.0) == Wait()
    assert one.allow(True, 1.0) is None
    assert dialled(one, 1.5) == 0


def test_where_there_may_be_no_connection_none_is_prepared():
    one = LinkPolicy([PATIENCE_S])
    one.allow(False, 0.0)
    assert one.decide(5.0) == Wait()


def test_that_there_may_be_a_connection_again_is_told():
    one = policy()
    assert one.allow(False, 1.0) is None
    assert not one.allowed
    assert one.decide(1.0) == Wait()
    assert one.allow(True, 1.0) == LinkIdle()
    assert one.allowed
    assert one.allow(True, 1.0) is None


@pytest.mark.parametrize("always", [False, True])
def test_that_there_may_be_a_connection_again_is_not_told_while_there_is_one_or_it_is_made_at_once(always):
    one = policy(always=always)
    one.ask(0.0)
    connected(one, 0.0)
    one.hang_up()
    one.allow(False, 1.0)
    one.ended(1.0) if always else None
    assert one.allow(True, 1.0) is None


def test_a_request_that_waited_until_there_may_be_a_connection_does_not_wait_in_vain():
    one = policy()
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(LinkLost("429", retry_after=600.0), 0.0)
    one.allow(False, 1.0)
    assert one.ask(1.0) is None
    assert isinstance(one.allow(True, 2.0), Refused)


# Pauses ---------------------------------------------------------------------------------------------------------------


def failing(one: LinkPolicy, count: int, error: LinkLost | LinkRefused = LOST, now: float = 0.0) -> list[float]:
    """Return the pauses after so many dials in a row that fail."""
    pauses = []
    for _ in range(count):
        dialled(one, now)
        one.lost(error, now)
        pauses.append(waits(one, now))
        now += pauses[-1]
    return pauses


def test_what_was_asked_for_is_tried_again_within_a_second():
    one = policy()
    one.ask(0.0)
    pauses = failing(one, 20)
    assert BACKOFF_FIRST_S / 2 <= pauses[0] <= BACKOFF_FIRST_S
    assert all(MAX_REQUESTED_PAUSE_S / 2 <= pause <= MAX_REQUESTED_PAUSE_S for pause in pauses[3:])
    assert len(set(pauses)) == len(pauses)


def test_speech_alone_is_tried_again_after_growing_pauses_and_ends_none():
    one = policy()
    one.notice(0.0)
    pauses = failing(one, 12)
    assert all(BACKOFF_FIRST_S / 2 * 2**n <= pause <= BACKOFF_FIRST_S * 2**n for n, pause in enumerate(pauses[:6]))
    assert all(BACKOFF_LIMIT_S / 2 <= pause <= BACKOFF_LIMIT_S for pause in pauses[8:])
    now = sum(pauses)
    dialled(one, now)
    one.lost(LOST, now)
    pause = waits(one, now)
    one.linger()
    one.notice(now + 1.0)
    assert waits(one, now + 1.0) == pytest.approx(pause - 1.0)


def test_pauses_are_as_random_as_they_are_wanted():
    one, same, other = (LinkPolicy([PATIENCE_S], rng=rng) for rng in (random.Random(7), random.Random(7), None))
    for each in (one, same, other):
        each.notice(0.0)
    pauses = failing(one, 5)
    assert failing(same, 5) == pauses
    assert failing(other, 5) != pauses


def test_a_request_ends_also_the_calm_pause():
    one = policy(always=True)
    failing(one, 2)
    one.ask(0.0)
    one.linger()
    assert dialled(one, 0.0) == 0


def test_a_request_ends_a_pause_and_the_next_is_short_again():
    one = policy()
    one.notice(0.0)
    now = sum(failing(one, 12)[:-1])
    one.ask(now)
    assert failing(one, 1, now=now)[0] <= BACKOFF_FIRST_S


def test_a_request_while_it_is_connected_ends_no_later_pause():
    one = policy(always=True)
    connected(one, 0.0)
    one.ask(1.0)
    one.linger()
    one.lost(LinkLost("busy", retry_after=4.0), 2.0)
    assert waits(one, 2.0) >= 4.0
    one.lost(LOST, 100.0) if isinstance(one.decide(100.0), ConnectPlan) else None
    assert waits(one, 100.0) >= BACKOFF_LIMIT_S / 2


def test_a_connection_that_nothing_waits_for_comes_back_some_time():
    firsts, later = [], []
    for seed in range(200):
        one = LinkPolicy([PATIENCE_S], always=True, rng=random.Random(seed))
        connected(one, 0.0)
        one.lost(LOST, 1000.0)
        firsts.append(waits(one, 1000.0))
        dialled(one, 1000.0 + firsts[-1])
        one.lost(LOST, 1000.0 + firsts[-1])
        later.append(waits(one, 1000.0 + firsts[-1]))
    assert min(firsts) < 3.0
    assert 27.0 < max(firsts) <= 30.0
    assert 15.0 <= min(later) <= max(later) <= 30.0


def test_what_is_waited_for_comes_back_soon_also_in_a_calm_pause():
    one = policy(always=True)
    connected(one, 0.0)
    event = one.lost(LOST, 1000.0).event
    assert event == LinkDown("broken", waits(one, 1000.0))
    assert waits(one, 1000.0) > BACKOFF_FIRST_S
    one.notice(1000.0)
    assert waits(one, 1000.0) <= BACKOFF_FIRST_S


def test_a_good_connection_makes_the_pauses_short_again():
    one = policy()
    one.notice(0.0)
    now = sum(failing(one, 8))
    connected(one, now)
    one.lost(LOST, now + STABLE_AFTER_S - 1)
    assert waits(one, now + STABLE_AFTER_S - 1) > 1.0
    now += 200.0
    connected(one, now)
    one.lost(LOST, now + STABLE_AFTER_S)
    assert waits(one, now + STABLE_AFTER_S) <= BACKOFF_FIRST_S


def test_a_connection_that_ended_in_good_order_makes_the_pauses_short_again():
    one = policy()
    one.notice(0.0)
    now = sum(failing(one, 8))
    connected(one, now)
    one.hang_up()
    one.ended(now + 1.0)
    one.notice(now + 1.0)
    assert failing(one, 1, now=now + 1.0)[0] <= BACKOFF_FIRST_S


def test_trouble_of_long_ago_makes_no_pause_longer():
    one = policy()
    one.notice(0.0)
    now = sum(failing(one, 12)) + FAILED_SERVICE_AWAY_S + 1
    assert failing(one, 1, now=now)[0] <= BACKOFF_FIRST_S


@pytest.mark.parametrize("need", [LinkPolicy.ask, LinkPolicy.notice])
def test_a_service_that_asks_for_time_gets_it_and_a_little_more(need):
    pauses = []
    for seed in range(20):
        one = LinkPolicy([PATIENCE_S], rng=random.Random(seed))
        need(one, 1000.0)
        dialled(one, 1000.0)
        verdict = one.lost(LinkLost("busy", retry_after=10.0), 1000.0)
        assert verdict.event == LinkDown("busy", waits(one, 1000.0))
        need(one, 1001.0)
        pauses.append(1.0 + waits(one, 1001.0))
    assert all(10.0 + BACKOFF_FIRST_S / 2 <= pause <= 10.0 + 2 * BACKOFF_FIRST_S for pause in pauses)
    assert len(set(pauses)) > 1  # although the service asked all of them for the same pause


def test_what_nothing_waits_for_is_down_and_not_refused_however_long_the_service_asks_for():
    one = policy(always=True)
    connected(one, 0.0)
    event = one.lost(LinkLost("429", retry_after=600.0), 100.0).event
    assert isinstance(event, LinkDown)
    assert event.retry_in >= 600.0


def test_after_a_connection_that_ended_what_would_wait_in_vain_is_told_so_as_well():
    one = policy(always=True)
    connected(one, 0.0)
    assert one.renew(MAX_SESSION_AGE_S)
    one.not_renewed(LinkLost("429", retry_after=600.0), MAX_SESSION_AGE_S)
    one.allow(False, MAX_SESSION_AGE_S)
    one.ended(MAX_SESSION_AGE_S)
    one.allow(True, MAX_SESSION_AGE_S)
    assert isinstance(one.notice(MAX_SESSION_AGE_S), Refused)


def test_what_would_wait_in_vain_is_told_so_at_once():
    one = policy()
    one.ask(0.0)
    dialled(one, 0.0)
    event = one.lost(LinkLost("429", retry_after=600.0), 0.0).event
    assert isinstance(event, Refused)
    assert event.reason == "429"
    assert 600.0 < event.retry_in <= 600.0 + BACKOFF_FIRST_S
    for need in (one.ask, one.notice):
        assert isinstance(need(300.0), Refused)
        assert one.decide(300.0) == Wait()
    assert one.ask(600.0 - TURN_CONNECT_TIMEOUT_S / 2) is None
    assert waits(one, 600.0) <= BACKOFF_FIRST_S


# Several services -----------------------------------------------------------------------------------------------------


def test_an_unreachable_service_is_passed_over_at_once_and_is_next_after_a_pause():
    one, now = policy(3), 0.0
    one.ask(now)
    for _ in range(2):  # rounds
        for number in range(3):
            assert dialled(one, now) == number
            verdict = one.lost(LOST, now)
            assert (verdict.event is None) == (number < 2)
        pause = waits(one, now)
        assert verdict.event == LinkDown("broken", pause)
        now += pause
    assert dialled(one, now) == 0


def test_a_service_that_works_goes_before_one_that_failed_lately():
    one = policy(2)
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(LinkLost("busy", retry_after=3.0), 0.0)
    dialled(one, 0.0)
    one.lost(LOST, 0.0)
    now = waits(one, 0.0)
    assert dialled(one, now) == 1  # the first one is still busy
    one.ready(now, MAX_SESSION_AGE_S)
    assert dialled(after(one, 5.0), 5.0) == 1


def test_a_service_that_was_reached_and_lost_is_tried_again():
    one = policy(2)
    one.ask(0.0)
    connected(one, 0.0)
    assert isinstance(one.lost(LOST, 5.0).event, LinkDown)
    now = 5.0 + waits(one, 5.0)
    assert dialled(one, now) == 0
    assert one.lost(LOST, now).event is None  # not there any more
    assert dialled(one, now) == 1


@pytest.mark.parametrize(
    ("sessions", "refused"),
    [([0.1, 0.1], True), ([CLOSED_AT_ONCE_S, CLOSED_AT_ONCE_S], False), ([5.0, 0.1], False), ([0.1, 5.0, 0.1], False)],
)
def test_a_service_that_takes_us_and_closes_the_session_at_once_twice_does_not_want_us(sessions, refused):
    one, now, event = policy(), 1024.0, None
    one.ask(now)
    for lasts in sessions:
        assert not isinstance(event, Refused)
        connected(one, now)
        now += lasts
        event = one.lost(LinkClosed("4000", code=4000), now).event
        assert event.reason == "4000"
        now += 0.0 if isinstance(event, Refused) else event.retry_in
    assert isinstance(event, Refused) is refused


@pytest.mark.parametrize(
    ("error", "mute"), [(LOST, True), (REFUSED, False), (LinkLost("busy", retry_after=1.0), False)]
)
def test_a_service_that_was_reached_and_is_of_no_use_is_passed_over(error, mute):
    one = policy(2)
    one.ask(0.0)
    connected(one, 0.0)
    assert one.lost(error, 5.0, mute=mute).event is None
    connected(one, 5.0)
    assert dialled(after(one, 7.0), 7.0) == 1
    one.lost(LOST, 7.0)
    assert dialled(one, 7.0) == 0  # the only one that was not tried


def after(one: LinkPolicy, now: float) -> LinkPolicy:
    """Hang up, and ask again."""
    one.linger()
    one.ended(now)
    one.ask(now)
    return one


def test_a_service_that_does_not_answer_is_tried_again_where_there_is_no_other():
    one = policy()
    one.ask(0.0)
    connected(one, 0.0)
    assert isinstance(one.lost(LOST, 5.0, mute=True).event, LinkDown)
    assert waits(one, 5.0) <= BACKOFF_FIRST_S


def test_the_first_service_is_tried_again_later():
    one = policy(2)
    one.ask(1000.0)
    dialled(one, 1000.0)
    one.lost(LOST, 1000.0)
    connected(one, 1000.0)
    assert dialled(after(one, 1000.0 + FAILED_SERVICE_AWAY_S - 1), 1000.0 + FAILED_SERVICE_AWAY_S - 1) == 1
    one.ready(1000.0 + FAILED_SERVICE_AWAY_S - 1, MAX_SESSION_AGE_S)
    assert dialled(after(one, 1000.0 + FAILED_SERVICE_AWAY_S), 1000.0 + FAILED_SERVICE_AWAY_S) == 0


def test_where_another_service_can_be_tried_each_gets_little_time():
    one = LinkPolicy([PATIENCE_S, 99.0], rng=random.Random(1))
    one.ask(0.0)
    assert one.decide(0.0) == ConnectPlan(0, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 0)
    one.lost(REFUSED, 0.0)
    assert one.decide(0.0) == ConnectPlan(1, DIAL_TIMEOUT_S, 99.0, 0)


def test_a_refusal_is_told_when_every_service_has_refused():
    one = policy(3)
    one.ask(0.0)
    for number in range(2):
        assert dialled(one, 0.0) == number
        assert one.lost(REFUSED, 0.0).event is None
    assert dialled(one, 0.0) == 2
    verdict = one.lost(REFUSED, 0.0)
    assert verdict.event == Refused("401", REFUSED_S)
    assert not verdict.known
    assert one.decide(0.0) == Wait()
    assert one.notice(REFUSED_S - TURN_CONNECT_TIMEOUT_S - 1) == Refused("401", TURN_CONNECT_TIMEOUT_S + 1)
    assert one.decide(REFUSED_S - TURN_CONNECT_TIMEOUT_S - 1) == Wait()
    assert one.notice(REFUSED_S - TURN_CONNECT_TIMEOUT_S) is None


def test_a_request_tries_every_service_once_more_after_a_refusal_and_the_log_knows_the_answer():
    one = policy(2)
    for known in (False, True):
        assert one.ask(1.0) is None
        assert [dialled(one, 1.0), one.lost(REFUSED, 1.0).event, dialled(one, 1.0)] == [0, None, 1]
        verdict = one.lost(REFUSED, 1.0)
        assert verdict.event == Refused("401", REFUSED_S)
        assert verdict.known is known
    one.use([PATIENCE_S], 1.0, always=False)
    one.ask(1.0)
    dialled(one, 1.0)
    assert not one.lost(REFUSED, 1.0).known  # another service has said it


def test_a_request_in_the_middle_of_a_round_begins_it_anew():
    one = policy(3)
    one.notice(0.0)
    dialled(one, 0.0)
    one.lost(LOST, 0.0)
    assert dialled(one, 0.0) == 1
    one.ask(0.0)
    tried = [1]
    while one.lost(LOST, 0.0).event is None:
        tried.append(dialled(one, 0.0))
    assert tried == [1, 2, 0]


def test_a_service_that_refused_is_left_alone_while_another_one_is_only_away():
    one = policy(2)
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(REFUSED, 0.0)
    now = 0.0
    for _ in range(5):
        assert dialled(one, now) == 1
        assert isinstance(one.lost(LOST, now).event, LinkDown)
        now += waits(one, now)


def test_a_refusal_that_nothing_waits_for_is_told_as_well():
    one = policy()
    one.ask(0.0)
    connected(one, 0.0)
    one.linger()
    assert isinstance(one.lost(REFUSED, 5.0).event, Refused)


def test_a_connection_that_is_always_wanted_is_tried_again_long_after_a_refusal():
    one = policy(always=True)
    dialled(one, 0.0)
    assert isinstance(one.lost(REFUSED, 0.0).event, Refused)
    assert REFUSED_S <= waits(one, 0.0) <= REFUSED_S + BACKOFF_LIMIT_S


# Other services -------------------------------------------------------------------------------------------------------


def test_others_are_tried_at_once_whatever_those_before_have_said():
    one = policy()
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(REFUSED, 0.0)
    assert one.use([5.0], 1.0, always=False) == LinkIdle()
    one.notice(1.0)
    assert one.decide(1.0) == ConnectPlan(0, DIAL_TIMEOUT_S, 5.0, 1)


def test_that_there_are_other_services_is_not_told_where_none_is_needed():
    one = policy()
    assert one.use([5.0], 1.0, always=False) is None
    assert one.generation == 1
    assert one.use([5.0, 5.0], 2.0, always=False) is None
    assert one.generation == 2


def test_with_other_services_the_pauses_are_short_again():
    one = policy()
    one.notice(0.0)
    now = sum(failing(one, 8))
    one.use([PATIENCE_S], now, always=False)
    assert failing(one, 1, now=now)[0] <= BACKOFF_FIRST_S


@pytest.mark.parametrize("always", [False, True])
def test_the_same_services_may_be_wanted_always_or_only_when_they_are_needed(always):
    one = policy(always=not always)
    failing(one, 1) if not always else None
    assert one.use(None, 1.0, always=always) == (None if always else LinkIdle())
    assert one.wanted is always
    assert one.generation == 0


def test_a_session_with_a_service_that_is_named_no_more_is_to_be_renewed_at_once():
    one = policy(2)
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(LOST, 0.0)
    assert dialled(one, 0.0) == 1
    one.use([PATIENCE_S], 5.0, always=False)
    one.ready(6.0, MAX_SESSION_AGE_S)
    assert one.renew_at == 6.0
    one.linger()
    assert one.renew(6.0) == ConnectPlan(0, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 1)


def test_a_failure_of_a_service_that_is_named_no_more_is_not_held_against_the_others():
    one = policy(2)
    one.ask(0.0)
    dialled(one, 0.0)
    one.use([PATIENCE_S], 1.0, always=False)
    assert one.lost(REFUSED, 1.0).event is None
    assert dialled(one, 1.0) == 0


def test_a_connection_to_a_service_that_is_named_no_more_is_renewed_with_one_that_is():
    one = policy(2)
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(LOST, 0.0)
    connected(one, 0.0)  # the fallback
    one.linger()
    one.use([PATIENCE_S], 5.0, always=False)
    assert one.renew_at == 5.0
    for n in range(3):
        now = one.renew_at
        assert one.renew(now) == ConnectPlan(0, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 1)
        one.not_renewed(LOST, now)
        assert one.renew_at == now + RENEW_RETRY_S * 2**n


# Renewing -------------------------------------------------------------------------------------------------------------

NOW = 1_700_000_000.0


def test_a_session_is_renewed_some_time_before_its_end():
    assert renew_in(NOW + 1800, NOW) == 1800 - RENEW_MARGIN_S
    assert renew_in(NOW + 3600, NOW) == 3600 - RENEW_MARGIN_S


def test_a_short_session_has_a_short_margin():
    assert renew_in(NOW + 60, NOW) == pytest.approx(54)
    assert renew_in(NOW + 1, NOW) == pytest.approx(0.9)


def test_a_session_may_last_for_a_day():
    assert renew_in(NOW + MAX_SESSION_LEFT_S, NOW) == MAX_SESSION_LEFT_S - RENEW_MARGIN_S


@pytest.mark.parametrize("lasts", [0.0, 0.3, 30.0, MIN_SESSION_AGE_S])
def test_no_session_is_renewed_over_and_over_again(lasts):
    one = policy(always=True)
    connected(one, 7.0, expires=lasts)
    assert one.renew_at == 7.0 + MIN_SESSION_AGE_S


@pytest.mark.parametrize("end", [0.0, NOW, NOW - 1, -NOW, NOW + MAX_SESSION_LEFT_S + 1, math.inf, math.nan])
def test_an_end_that_makes_no_sense_is_not_believed(end):
    assert renew_in(end, NOW) == MAX_SESSION_AGE_S


def test_a_session_is_renewed_when_it_is_old_and_nothing_is_awaited():
    one = policy(always=True)
    connected(one, 0.0, expires=500.0)
    assert one.renew_at == 500.0
    assert one.renew(499.0) is None
    one.notice(500.0)
    assert one.renew(501.0) is None
    one.linger()
    assert one.renew(502.0) == ConnectPlan(0, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 0)
    assert one.renewing
    assert one.renewed(503.0, 700.0)
    assert not one.renewing
    assert one.renew_at == 1203.0


def test_a_turn_that_begins_meanwhile_is_heard_by_the_old_session():
    one = policy(always=True)
    connected(one, 0.0)
    assert one.renew(MAX_SESSION_AGE_S)
    one.ask(MAX_SESSION_AGE_S)
    assert not one.renewed(MAX_SESSION_AGE_S, MAX_SESSION_AGE_S)
    one.not_renewed(LOST, MAX_SESSION_AGE_S)
    assert one.renew_at == MAX_SESSION_AGE_S + RENEW_AFTER_TURN_S


def test_a_service_that_asks_for_time_is_not_asked_to_renew_meanwhile():
    one = policy(always=True)
    connected(one, 0.0)
    assert one.renew(MAX_SESSION_AGE_S)
    one.not_renewed(LinkLost("busy", retry_after=600.0), MAX_SESSION_AGE_S)
    assert one.renew(MAX_SESSION_AGE_S + RENEW_RETRY_S) is None
    assert one.renew_at == MAX_SESSION_AGE_S + 600.0
    assert one.ask(MAX_SESSION_AGE_S + RENEW_RETRY_S) is None  # the old one is there
    one.linger()
    assert one.renew(MAX_SESSION_AGE_S + 600.0)


def test_what_does_not_renew_a_session_is_tried_again_after_growing_pauses_that_begin_short_with_each_session():
    one, now = policy(always=True), 0.0
    connected(one, now)
    for _ in range(2):  # sessions
        now = one.renew_at
        for pause in (
            RENEW_RETRY_S,
            2 * RENEW_RETRY_S,
            4 * RENEW_RETRY_S,
            8 * RENEW_RETRY_S,
            16 * RENEW_RETRY_S,
            MAX_SESSION_AGE_S,
            MAX_SESSION_AGE_S,
        ):
            assert one.renew(now)
            one.not_renewed(LOST, now)
            assert not one.renewing
            assert one.renew_at == now + pause
            now = one.renew_at
        assert one.renew(now)
        assert one.renewed(now, MAX_SESSION_AGE_S)


def test_a_service_that_never_renews_is_asked_for_as_long_as_it_takes():
    one = policy(always=True)
    connected(one, 0.0)
    for _ in range(2000):
        now = one.renew_at
        assert one.renew(now)
        one.not_renewed(LOST, now)
    assert one.renew_at == now + MAX_SESSION_AGE_S


def test_a_renewal_of_what_is_named_no_more_changes_nothing():
    one = policy(always=True)
    connected(one, 0.0)
    assert one.renew(MAX_SESSION_AGE_S)
    one.use([PATIENCE_S], MAX_SESSION_AGE_S + 1, always=True)
    one.not_renewed(LinkLost("busy", retry_after=600.0), MAX_SESSION_AGE_S + 2)
    assert one.renew_at == MAX_SESSION_AGE_S + 1
    assert one.renew(MAX_SESSION_AGE_S + 2) == ConnectPlan(0, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 1)
    one.not_renewed(LOST, MAX_SESSION_AGE_S + 2)
    before = one.renew_at
    one.not_renewed(LOST, MAX_SESSION_AGE_S + 9)  # nothing was under way
    assert one.renew_at == before


def test_the_services_that_are_named_now_are_tried_in_turn_to_renew_a_session_of_before():
    one = policy(always=True)
    connected(one, 0.0)
    one.use([PATIENCE_S] * 2, 5.0, always=True)
    tried = []
    for _ in range(4):
        plan = one.renew(one.renew_at)
        tried.append(plan.service)
        one.not_renewed(LOST, one.renew_at)
    assert tried == [0, 1, 0, 1]


def test_a_session_is_renewed_with_its_own_service_although_another_one_comes_first():
    one = policy(2)
    one.ask(0.0)
    dialled(one, 0.0)
    one.lost(LOST, 0.0)
    connected(one, 0.0)
    one.linger()
    assert not one.renewed(1.0, MAX_SESSION_AGE_S)  # nothing is under way
    assert one.renew(MAX_SESSION_AGE_S) == ConnectPlan(1, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 0)
    one.not_renewed(LinkLost("busy", retry_after=600.0), MAX_SESSION_AGE_S)
    assert one.renew(MAX_SESSION_AGE_S + RENEW_RETRY_S) is None
    assert one.renew(MAX_SESSION_AGE_S + 600.0) == ConnectPlan(1, ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S, 0)


@pytest.mark.parametrize(("failed", "tried"), [(1, [1]), (2, [0, 1])])
def test_a_renewal_that_failed_with_a_service_that_is_named_now_is_its_turn_of_the_round(failed, tried):
    one = policy(always=True)
    connected(one, 0.0)
    one.use([PATIENCE_S] * 2, 5.0, always=True)
    for _ in range(failed):
        now = one.renew_at
        assert one.renew(now)
        one.not_renewed(LOST, now)
    one.notice(now)
    assert one.lost(LOST, now).event is None
    for number in tried:
        assert dialled(one, now) == number
        event = one.lost(LOST, now).event
    assert isinstance(event, LinkDown)


def test_a_renewal_that_failed_says_nothing_of_the_session_that_there_is():
    one = policy(2)
    one.ask(0.0)
    connected(one, 0.0)
    one.linger()
    assert one.renew(MAX_SESSION_AGE_S)
    one.not_renewed(LOST, MAX_SESSION_AGE_S)
    one.notice(MAX_SESSION_AGE_S + 1)
    assert isinstance(one.lost(LOST, MAX_SESSION_AGE_S + 1).event, LinkDown)
    now = MAX_SESSION_AGE_S + 1 + waits(one, MAX_SESSION_AGE_S + 1)
    assert dialled(one, now) == 0


def test_a_refused_renewal_refuses_no_turn():
    one = policy(always=True)
    connected(one, 0.0)
    assert one.renew(MAX_SESSION_AGE_S)
    one.not_renewed(REFUSED, MAX_SESSION_AGE_S)
    one.lost(LOST, MAX_SESSION_AGE_S + 1)
    assert one.notice(MAX_SESSION_AGE_S + 2) is None
    assert dialled(one, MAX_SESSION_AGE_S + 2) == 0


# Whatever happens -----------------------------------------------------------------------------------------------------

WAITS_S = st.sampled_from([0.0, 4.0, 14.0, 16.0, 600.0])
SERVICES = st.lists(st.sampled_from([5.0, 30.0]), min_size=1, max_size=3)


class AnyOrder(RuleBasedStateMachine):
    """Does what the link's thread does, while needs, failures and edits come in any order. *dialling* and *connected*
    are the thread's; what each service has said is written down here a second time, and each dial is judged by it."""

    @initialize(services=SERVICES, always=st.booleans(), seed=st.integers(0, 1000))
    def begin(self, services: list[float], always: bool, seed: int) -> None:
        self.policy = LinkPolicy(services, always=always, rng=random.Random(seed))
        self.now, self.always, self.allowed = 0.0, always, True
        self.need = Need.NOTHING
        self.dialling: ConnectPlan | None = None
        self.connected: ConnectPlan | None = None
        self.renewal: ConnectPlan | None = None
        self.last_told: object = LinkIdle()
        self.renewed_at = self.ready_at = -math.inf
        self.edited = False  # since the connection was ready, or a renewal was tried
        self.others(services)

    def others(self, services: list[float]) -> None:
        self.patience = services
        self.busy_until = [-math.inf] * len(services)
        self.refused_until = [-math.inf] * len(services)

    def closed_until(self, number: int) -> float:
        return max(self.busy_until[number], self.refused_until[number])

    def tell(self, event: LinkDown | LinkIdle | Refused | None) -> None:
        if event is None:
            return
        self.last_told = event
        if isinstance(event, Refused):
            ends = [self.closed_until(number) for number in range(len(self.patience))]
            assert min(ends) > self.now + TURN_CONNECT_TIMEOUT_S - BACKOFF_FIRST_S, (
                "a service was not asked that could have been"
            )
            assert event.retry_in == pytest.approx(min(ends) - self.now, abs=BACKOFF_FIRST_S)
            self.need = Need.NOTHING
        if isinstance(event, LinkIdle):
            assert self.need < Need.NOTICED or self.connected is None

    # What happens around the link

    @rule()
    def asks(self) -> None:
        self.need = Need.ASKED
        self.refused_until = [-math.inf] * len(self.patience)
        self.tell(self.policy.ask(self.now))

    @rule()
    def notices(self) -> None:
        self.need = max(self.need, Need.NOTICED)
        self.tell(self.policy.notice(self.now))

    @rule()
    def lingers(self) -> None:
        self.need = min(self.need, Need.LATER)
        self.tell(self.policy.linger())

    @rule()
    def hangs_up(self) -> None:
        self.need = Need.NOTHING
        self.tell(self.policy.hang_up())

    @rule(allowed=st.booleans())
    def allows(self, allowed: bool) -> None:
        if self.allowed and not allowed:
            self.need = Need.NOTHING
        self.allowed = allowed
        self.tell(self.policy.allow(allowed, self.now))

    @rule(services=SERVICES, always=st.booleans())
    def uses(self, services: list[float], always: bool) -> None:
        self.always, self.edited = always, True
        self.others(services)
        self.tell(self.policy.use(services, self.now, always=always))

    @rule(always=st.booleans())
    def uses_the_same(self, always: bool) -> None:
        self.always = always
        self.tell(self.policy.use(None, self.now, always=always))

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 5.0, 20.0, 100.0, 290.0, 1500.0]))
    def time_passes(self, seconds: float) -> None:
        ends = self.now + seconds
        while self.dialling is None and self.connected is None:
            decision = self.policy.decide(self.now)
            if isinstance(decision, ConnectPlan):
                self.dials(decision)
            elif isinstance(decision, Wait):
                if decision.until > ends:
                    break
                assert decision.until > self.now
                self.now = decision.until
        self.now = ends

    # What becomes of a dial

    def dials(self, plan: ConnectPlan) -> None:
        assert self.allowed
        assert self.always or self.need >= Need.NOTICED
        assert self.now >= self.busy_until[plan.service], "before the time that the service asked for"
        assert self.now >= self.refused_until[plan.service], "although it refused us, and nothing asked"
        others = [n for n in range(len(self.patience)) if n != plan.service]
        if any(self.closed_until(number) <= self.now - BACKOFF_FIRST_S for number in others):
            assert (plan.dial_s, plan.greeting_s) == (ALTERNATIVE_TIMEOUT_S, ALTERNATIVE_TIMEOUT_S)
        elif all(self.closed_until(number) > self.now for number in others):
            assert (plan.dial_s, plan.greeting_s) == (DIAL_TIMEOUT_S, self.patience[plan.service])
        self.dialling = plan

    def current(self, plan: ConnectPlan) -> bool:
        return plan.generation == self.policy.generation

    @precondition(lambda self: self.dialling is not None)
    @rule(lasts=st.sampled_from([0.3, 100.0, MAX_SESSION_AGE_S]))
    def is_ready(self, lasts: float) -> None:
        self.connected, self.dialling = self.dialling, None
        self.ready_at, self.renewed_at, self.edited = self.now, -math.inf, not self.current(self.connected)
        self.last_told = "LinkUp"
        self.policy.ready(self.now, lasts)
        if self.current(self.connected):
            self.refused_until[self.connected.service] = self.busy_until[self.connected.service] = -math.inf

    @precondition(lambda self: (self.dialling or self.connected) and not self.renewal)
    @rule(refused=st.booleans(), wait=WAITS_S, mute=st.booleans())
    def is_lost(self, refused: bool, wait: float, mute: bool) -> None:
        plan = self.dialling or self.connected
        error = LinkRefused("no") if refused else LinkLost("lost", retry_after=wait)
        if self.current(plan):
            if refused:
                self.refused_until[plan.service] = self.now + REFUSED_S
            elif wait:
                self.busy_until[plan.service] = self.now + wait
        self.dialling = self.connected = None
        makes = self.allowed and (self.always or self.need >= Need.NOTICED)
        event = self.policy.lost(error, self.now, mute=mute).event
        if not makes and not isinstance(event, Refused):
            self.need = Need.NOTHING
        self.tell(event)

    @precondition(lambda self: (self.dialling or self.connected) and not self.renewal)
    @rule()
    def ends(self) -> None:
        if not self.policy.wanted:
            self.dialling = self.connected = None
            self.tell(self.policy.ended(self.now))

    # Renewing

    @precondition(lambda self: self.connected and not self.renewal)
    @rule()
    def is_quiet(self) -> None:
        plan = self.policy.renew(self.now)
        if plan is None:
            return
        assert self.need < Need.NOTICED
        assert self.now >= self.busy_until[plan.service]
        if self.current(self.connected):  # otherwise an edit wants it
            assert self.now >= self.ready_at + MIN_SESSION_AGE_S
        if not self.edited:
            assert self.now >= self.renewed_at + RENEW_AFTER_TURN_S
        self.renewal, self.renewed_at, self.edited = plan, self.now, False

    @precondition(lambda self: self.renewal)
    @rule(wait=WAITS_S, refused=st.booleans())
    def does_not_renew(self, wait: float, refused: bool) -> None:
        if wait and not refused and self.current(self.renewal) and self.need < Need.NOTICED:
            self.busy_until[self.renewal.service] = self.now + wait
        self.renewal = None
        self.policy.not_renewed(LinkRefused("no") if refused else LinkLost("lost", retry_after=wait), self.now)

    @precondition(lambda self: self.renewal)
    @rule(lasts=st.sampled_from([0.3, 100.0, MAX_SESSION_AGE_S]))
    def renews(self, lasts: float) -> None:
        if self.policy.renewed(self.now, lasts):
            assert self.need < Need.NOTICED
            self.connected, self.renewal = self.renewal, None
            self.ready_at, self.renewed_at, self.edited = self.now, -math.inf, not self.current(self.connected)
            if self.current(self.connected):
                self.refused_until[self.connected.service] = self.busy_until[self.connected.service] = -math.inf
        else:
            assert self.need >= Need.NOTICED
            self.renewal = None
            self.policy.not_renewed(LinkLost("a turn"), self.now)

    # What is always so

    @invariant()
    def knows_the_need(self) -> None:
        assert self.policy.awaited == (self.need >= Need.NOTICED)
        assert self.policy.wanted == (self.allowed and (self.always or self.need > Need.NOTHING))
        assert self.policy.renewing == (self.renewal is not None)

    @invariant()
    def nothing_waits_longer_than_it_must(self) -> None:
        if self.dialling or self.connected:
            return
        decision = self.policy.decide(self.now)
        if isinstance(decision, ConnectPlan):
            self.dials(decision)
            return
        if isinstance(decision, Prepare):
            return
        if not (self.allowed and (self.always or self.need >= Need.NOTICED)):
            assert decision.until <= self.now + PREPARE_AFTER_S or decision.until == math.inf
            assert not isinstance(self.last_told, LinkDown), "it is at rest, and the light says offline"
            return
        possible = max(self.now, min(map(self.closed_until, range(len(self.patience)))))
        longest = {Need.ASKED: MAX_REQUESTED_PAUSE_S, Need.NOTICED: BACKOFF_LIMIT_S}.get(self.need, BACKOFF_LIMIT_S)
        assert decision.until <= possible + longest + BACKOFF_FIRST_S
        assert self.need < Need.NOTICED or possible <= self.now + TURN_CONNECT_TIMEOUT_S, "it waits in vain"


class TestAnyOrder(AnyOrder.TestCase):
    settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.slow
class TestAnyOrderAtLength(AnyOrder.TestCase):
    settings = settings(max_examples=3000, stateful_step_count=60, deadline=None)
