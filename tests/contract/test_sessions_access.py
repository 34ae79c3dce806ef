"""Keys and tokens: which server is shown them, and in which shapes they come."""

from __future__ import annotations

import pytest

from device_agent.core.errors import LinkLost
from device_agent.core.redaction import Secret
from device_agent.services.openai import OpenAI
from device_agent.services.xai import Xai
from tests.support.peers import KEY

OWN = "https://api.x.ai/v1/realtime/client_secrets"
OPENAI = "https://api.openai.com/v1/realtime/client_secrets"


def test_without_a_token_server_nothing_is_asked_for_and_the_key_is_shown():
    service = Xai(Secret(KEY))
    assert service.invitation("") is None
    assert service.endpoint(None, "").headers == {"Authorization": f"Bearer {KEY}"}


def test_the_service_itself_is_shown_the_key_and_nothing_else_about_the_session():
    request = Xai(Secret(KEY), token_url=OWN).invitation("")
    assert request.body == {"expires_after": {"seconds": 300}}
    assert request.headers == {"Authorization": f"Bearer {KEY}"}


def test_openai_is_told_what_the_token_is_for():
    request = OpenAI(Secret(KEY), token_url=OPENAI).invitation("")
    assert request.body == {
        "expires_after": {"anchor": "created_at", "seconds": 600},
        "session": {"type": "realtime", "model": "gpt-realtime-2.1"},
    }
    assert request.headers == {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "stranger",
    ["https://tokens.example/", "https://api.x.ai.example/", "http://api.x.ai/", "https://api.x.ai:8443/"],
)
def test_a_stranger_never_sees_the_key(stranger):
    assert Xai(Secret(KEY), token_url=stranger).invitation("").headers == {}


@pytest.mark.parametrize("url", [OWN, "https://tokens.example/kitchen"])
def test_a_token_server_is_shown_what_it_knows_us_by_and_not_the_key(url):
    request = Xai(Secret(KEY), token_url=url, token_key=Secret("known-by")).invitation("")
    assert request.headers == {"Authorization": "Bearer known-by"}
    assert "known-by" not in repr(request)


@pytest.mark.parametrize(
    "answer",
    [
        {"value": "token-1", "expires_at": 1790000000},
        {"client_secret": {"value": "token-1", "expires_at": 1790000000}},
        {"client_secret": "token-1"},
        {"value": "xai-client-secret.token-1"},
        {"value": "xai-client-secret.xai-client-secret.token-1\n"},
    ],
)
def test_a_token_is_found_in_every_shape_and_takes_the_place_of_the_key(answer):
    for service in (Xai(Secret(KEY), token_url=OWN), Xai(token_url=OWN), OpenAI(token_url=OWN)):
        endpoint = service.endpoint(answer, "")
        assert endpoint.headers == {"Authorization": "Bearer token-1"}
        assert "token-1" not in repr(endpoint)


@pytest.mark.parametrize(
    "answer",
    [None, [], "token-1", {}, {"value": 7}, {"value": ""}, {"client_secret": {}}, {"client_secret": None},
     {"value": "two words"}, {"value": "a\r\nX-Evil: b"}, {"value": "x" * 9000}],
)  # fmt: skip
def test_an_answer_without_a_token_is_no_way_in(answer):
    with pytest.raises(LinkLost, match="holds no token") as raised:
        Xai(Secret(KEY), token_url=OWN).endpoint(answer, "")
    assert "words" not in str(raised.value)


def test_a_server_of_ones_own_may_want_no_key():
    assert OpenAI(url="ws://localhost:1/v1/realtime").endpoint(None, "").headers == {}
