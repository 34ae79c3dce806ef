"""What an HTTP answer that is no success means, and for how long a service asks us to stay away."""

from __future__ import annotations

import json

import pytest

from device_agent.core.errors import LinkLost, LinkRefused
from device_agent.net.http_errors import BUSY_RETRY_S, MAX_RETRY_AFTER_S, asked_wait, rejection

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20


def wait(status: int, header: str = "", message: str = "", wall: float = NOW) -> float:
    headers = {"retry-after": header} if header else {}
    error = rejection("it", status, headers, json.dumps({"error": {"message": message}}).encode(), wall=wall)
    assert isinstance(error, LinkLost)
    return error.retry_after


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        (" 20 ", 20.0),
        ("999999", MAX_RETRY_AFTER_S),
        ("Tue, 14 Nov 2023 22:14:00 GMT", 40.0),
        ("Fri, 14 Nov 2098 22:14:00 GMT", MAX_RETRY_AFTER_S),
    ],
)
@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_retry_after_is_seconds_or_a_date(status, header, seconds):
    assert wait(status, header) == seconds


@pytest.mark.parametrize(
    "header", ["", "soon", "-5", "1e9", "Tue, 14 Nov 2023", "Mon, 13 Nov 2023 00:00:00 GMT", "9" * 99]
)
def test_nonsense_and_the_past_ask_for_nothing(header):
    assert wait(503, header) == 0.0
    assert wait(429, header) == BUSY_RETRY_S


def test_a_clock_that_is_unknown_reads_no_date():
    assert wait(503, "Tue, 14 Nov 2023 22:14:00 GMT", wall=0.0) == 0.0


def test_too_many_requests_is_a_second_at_least():
    assert wait(429, "0.1") == 1.0
    assert wait(503, "0.1") == 0.1


def test_a_header_goes_before_words_and_words_before_nothing():
    assert wait(503, "7", "try again in 20s") == 7.0
    assert wait(503, "", "try again in 20s") == 20.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached for m in organization o on requests per min. Please try again in 20s. Visit us.", 20.0),
        ("Please try again in 6m0s.", 360.0),
        ("try again in 166ms", 0.166),
        ("Try again in 1.5 s", 1.5),
        ("retry after 30 seconds", 30.0),
        ("Please retry after: 12 sec", 12.0),
        ("wait 2 minutes", 120.0),
        ("try again in 500 milliseconds", 0.5),
        ("try again in 1h2m3s", MAX_RETRY_AFTER_S),
        ("try again later", 0.0),
        ("it took 30 s", 0.0),
        ("wait. 3 s were enough", 0.0),
        ("try again in 20 sessions", 0.0),
        ("", 0.0),
    ],
)
def test_a_time_in_words_is_understood(text, seconds):
    assert asked_wait(text) == pytest.approx(seconds)


def test_a_text_without_end_is_not_read_to_its_end():
    assert asked_wait("x" * 100_000 + " try again in 5s") == 0.0
    assert asked_wait("try again in " + "9 " * 50_000) == 0.0


@pytest.mark.parametrize(
    "body", [b'{"error": {"code": "insufficient_quota"}}', b'{"error": "You exceeded your current quota, check it"}']
)
def test_an_empty_account_is_no_matter_of_time(body):
    assert isinstance(rejection("it", 429, {"retry-after": "7"}, body), LinkRefused)
