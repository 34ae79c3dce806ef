"""Which of several services is tried next, and when."""

from __future__ import annotations

import math

import pytest

from device_agent.link.failover import FAILED_SERVICE_AWAY_S, Failover

ALWAYS = -math.inf


def test_services_are_tried_in_the_order_of_the_configuration_each_once_in_a_round():
    failover = Failover(3)
    for _ in range(2):  # all of them failed lately: none is tried twice before the others
        tried = []
        while failover.more(0.0):
            tried.append(failover.next(ALWAYS, 0.0)[1])
            failover.failed(tried[-1], 0.0)
        assert tried == [0, 1, 2]
        assert failover.next(ALWAYS, 0.0) == (0.0, 0)
        failover.begin_round()


def test_a_service_that_failed_has_its_place_again_after_a_while():
    failover = Failover(3)
    failover.failed(0, 1000.0)
    failover.worked(2)
    assert failover.next(ALWAYS, 1000.0 + FAILED_SERVICE_AWAY_S - 1)[1] == 1
    assert failover.next(ALWAYS, 1000.0 + FAILED_SERVICE_AWAY_S)[1] == 0


def test_a_service_that_works_is_not_away():
    failover = Failover(2)
    failover.failed(0, 0.0)
    failover.failed(1, 0.0)
    failover.worked(1)
    assert failover.next(ALWAYS, 1.0)[1] == 1


@pytest.mark.parametrize("closed", [Failover.busy, Failover.refused])
def test_a_service_that_is_closed_is_dialled_when_it_opens_and_the_others_before(closed):
    failover = Failover(2)
    closed(failover, 0, 50.0)
    assert failover.closed_until(0) == 50.0
    assert failover.next(ALWAYS, 0.0) == (0.0, 1)
    assert failover.alternative(1, 49.0) is False
    assert failover.alternative(1, 50.0) is True
    closed(failover, 1, 60.0)
    assert failover.next(ALWAYS, 0.0) == (50.0, 0)
    assert failover.possible_at(0.0) == 50.0
    assert failover.possible_at(55.0) == 55.0
    assert failover.more(49.0) is False
    assert failover.more(50.0) is True


def test_one_service_that_is_open_is_an_alternative_whatever_the_others_are():
    failover = Failover(3)
    failover.busy(1, 50.0)
    assert failover.alternative(0, 0.0) is True
    assert failover.alternative(2, 0.0) is True
    failover.busy(2, 50.0)
    assert failover.alternative(0, 0.0) is False


def test_what_is_forgiven_is_a_refusal_and_not_the_time_that_a_service_asks_for():
    failover = Failover(2)
    failover.refused(0, 50.0)
    failover.busy(1, 60.0)
    failover.forgive()
    assert [failover.closed_until(number) for number in range(2)] == [ALWAYS, 60.0]


def test_a_pause_is_for_all():
    assert Failover(2).next(7.0, 1.0) == (7.0, 0)
    assert Failover(2).next(7.0, 8.0) == (8.0, 0)
