"""What a close frame means, by its code, the error event before it, and whether the session had worked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.errors import LinkClosed, LinkLost, LinkRefused
from device_agent.net.http_errors import BUSY_RETRY_S
from device_agent.services.closing import ERROR_BEFORE_CLOSE_S, judge
from device_agent.services.error_events import FATAL_CODES
from tests.support.peers import PEERS

SLOTS = "All 1 session slots are in use. Disconnect an existing client first."


def closed(code: int, reason: str = "") -> LinkClosed:
    return LinkClosed(f"it closed the connection with {code}", code=code, reason=reason)


@pytest.mark.parametrize(
    ("code", "reason", "error", "ready", "verdict"),
    [
        # Nothing says more than the code.
        (1000, "", ("", ""), False, LinkLost),
        (1000, "", ("", ""), True, LinkLost),
        (1001, "", ("", ""), True, LinkLost),
        (1008, "", ("", ""), False, LinkRefused),
        (1008, "", ("", ""), True, LinkClosed),
        (1008, "idle", ("", ""), True, LinkClosed),
        (1011, "", ("", ""), False, LinkLost),
        (3000, "", ("", ""), False, LinkRefused),
        (3003, "", ("", ""), True, LinkClosed),
        (4000, "invalid_request_error.beta_api_shape_disabled", ("", ""), False, LinkRefused),
        (4000, "", ("", ""), False, LinkRefused),
        (4999, "", ("", ""), False, LinkLost),
        # The error event before it, or the reason, does.
        (1008, "policy", ("session_limit_reached", SLOTS), False, BUSY_RETRY_S),
        (1008, SLOTS, ("", ""), False, BUSY_RETRY_S),
        (1008, "", ("rate_limit_exceeded", "Please try again in 20s."), False, 20.0),
        (1011, "too many requests, retry after 2 seconds", ("", ""), True, 2.0),
        (1013, "", ("", ""), False, BUSY_RETRY_S),
        (1013, "busy", ("", ""), True, BUSY_RETRY_S),
        (1011, "", ("server_error", "upstream closed with code 1011"), True, LinkLost),
        (1008, "", ("server_error", "upstream closed with code 1008"), True, LinkClosed),
        (1011, "", ("insufficient_quota", "You exceeded your current quota"), True, LinkRefused),
        (1008, "insufficient_quota", ("", ""), True, LinkRefused),
        (1000, "", ("", "Incorrect API key provided"), False, LinkRefused),
        (4001, "Unauthorized", ("", ""), False, LinkRefused),
        (4001, "Unauthorized: token expired", ("", ""), True, LinkLost),
    ],
)
def test_what_a_close_frame_means(code, reason, error, ready, verdict):
    judged = judge(closed(code, reason), *error, ready=ready)
    if isinstance(verdict, float):
        assert isinstance(judged, LinkLost)
        assert judged.retry_after == verdict
    else:
        assert type(judged) is verdict
        assert getattr(judged, "retry_after", 0.0) == 0.0


@pytest.mark.parametrize("code", sorted(FATAL_CODES))
@pytest.mark.parametrize("ready", [True, False])
def test_what_is_fatal_in_an_error_event_is_fatal_in_a_reason(code, ready):
    assert isinstance(judge(closed(1011, f"error: {code}"), ready=ready), LinkRefused)


def test_the_owner_reads_both():
    judged = judge(closed(1011), "server_error", "no such voice", ready=False)
    assert str(judged) == "it closed the connection with 1011 (server_error: no such voice)"
    assert str(judge(closed(1011), "odd", "something odd", ready=True)) == (
        "it closed the connection with 1011 (something odd)"
    )


@given(st.integers(0, 65535), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.booleans())
def test_any_close_frame_has_a_meaning(code, reason, error, message, ready):
    judged = judge(closed(code, reason), error, message, ready=ready)
    assert str(code) in str(judged)
    assert isinstance(judged, LinkRefused) or judged.retry_after >= 0


# What the sessions make of it -----------------------------------------------------------------------------------------

FAMILY = [name for name in PEERS if name not in {"xai-live", "ultravox"}]


def error_event(code: str, message: str) -> dict:
    return {"type": "error", "error": {"type": code, "code": None, "message": message}}


@pytest.mark.parametrize("name", [name for name in PEERS if name != "xai-live"])  # it is ready without a word
def test_a_session_that_had_worked_is_not_refused_by_a_close_code(name):
    peer = PEERS[name]()
    peer.ready()
    judged = peer.session.lost(closed(1008, "idle"))
    assert isinstance(judged, LinkLost)
    assert not judged.retry_after


@pytest.mark.parametrize("name", [name for name in PEERS if name != "xai-live"])
def test_a_session_that_never_worked_is(name):
    assert isinstance(PEERS[name]().session.lost(closed(1008)), LinkRefused)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("ready", [True, False])
def test_what_says_busy_is_busy(name, ready):
    peer = PEERS[name]()
    if ready:
        peer.ready()
    judged = peer.session.lost(closed(1013))
    assert isinstance(judged, LinkLost)
    assert judged.retry_after == BUSY_RETRY_S


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("ready", [True, False])
def test_the_error_event_right_before_a_close_frame_says_what_it_means(name, ready):
    peer = PEERS[name]()
    if ready:
        peer.ready()
    peer.say(error_event("session_limit_reached", SLOTS))
    judged = peer.session.lost(closed(1008))
    assert isinstance(judged, LinkLost)
    assert judged.retry_after == BUSY_RETRY_S
    assert SLOTS in str(judged)


@pytest.mark.parametrize("name", FAMILY)
def test_an_error_of_long_ago_says_nothing_of_a_close_frame(name):
    peer = PEERS[name]()
    peer.ready()
    peer.say(error_event("session_limit_reached", SLOTS))
    peer.wait(ERROR_BEFORE_CLOSE_S + 1)
    judged = peer.session.lost(closed(1008))
    assert isinstance(judged, LinkLost)
    assert not judged.retry_after
    assert SLOTS not in str(judged)


@pytest.mark.parametrize("name", FAMILY)
def test_what_breaks_is_no_close_frame(name):
    peer = PEERS[name]()
    peer.ready()
    peer.say(error_event("session_limit_reached", SLOTS))
    error = LinkLost("reset")
    assert peer.session.lost(error) is error
