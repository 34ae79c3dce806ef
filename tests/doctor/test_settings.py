"""What the doctor says of settings that are right and lead somewhere all the same."""

from __future__ import annotations

from datetime import date

import pytest

from device_agent.config.model import ServiceConfig
from device_agent.doctor.settings import notes
from device_agent.services.endings import MODEL_ENDS, ending
from tests.support.doctor import KEY, services, told, write_config

LAST_DAY = date(2027, 1, 20)
AFTER = date(2027, 1, 21)
HOME = {"type": "mcp", "server_label": "home", "server_url": "https://home.example"}


def said(service: ServiceConfig, today: date = LAST_DAY) -> list[tuple[str, str]]:
    return [(each.text, each.advice) for each in notes(service, today)]


def openai(**settings: object) -> ServiceConfig:
    return ServiceConfig("openai", **settings)


@pytest.mark.parametrize(
    "service",
    [
        ServiceConfig(),
        openai(),
        ServiceConfig("ultravox"),
        ServiceConfig("litellm", model="gpt", dialect="openai"),
        openai(model="gpt-realtime", url="wss://voice.home.example/v1/realtime"),
        openai(tools=({**HOME, "require_approval": "never"},)),
        openai(tools=({**HOME, "require_approval": {"never": {"read_only": True}}},)),
        ServiceConfig(tools=(HOME,)),
        ServiceConfig("litellm", model="grok", tools=(HOME,)),
    ],
    ids=repr,
)
def test_nothing_is_said_where_nothing_needs_to_be_done(service):
    assert said(service) == []


@pytest.mark.parametrize(
    ("model", "successor"), [("gpt-realtime", "gpt-realtime-2.1"), ("gpt-realtime-mini", "gpt-realtime-2.1-mini")]
)
@pytest.mark.parametrize("url", [None, "wss://api.openai.com/v1/realtime"])
def test_a_model_that_ends_is_told_with_the_day_and_what_to_write(model, successor, url):
    service = openai(model=model, url=url)
    advice = f"write into config.yaml, under service, model: {successor}"
    assert said(service, LAST_DAY) == [(f"{model} ends on 2027-01-20", advice)]
    assert said(service, AFTER) == [(f"{model} ended on 2027-01-20", advice)]


def test_an_alias_with_the_name_of_such_a_model_may_stand_for_it():
    service = ServiceConfig("litellm", model="gpt-realtime", dialect="openai", url="ws://192.168.1.10:4000")
    assert said(service) == [
        (
            "if the alias gpt-realtime stands for the model: gpt-realtime ends on 2027-01-20",
            "let the proxy lead it to gpt-realtime-2.1",
        )
    ]


@pytest.mark.parametrize("tool", [HOME, {**HOME, "require_approval": "always"}, {**HOME, "require_approval": None}])
@pytest.mark.parametrize("service", [openai(), ServiceConfig("litellm", model="gpt", dialect="openai")])
def test_a_tool_that_waits_for_an_approval_is_told_with_the_line_to_write(service, tool):
    (found,) = notes(ServiceConfig(**{**vars(service), "tools": (tool, {**HOME, "require_approval": "never"})}), AFTER)
    assert found.text == "the tools of the MCP server home wait for an approval, which a speaker cannot give"
    assert found.advice == "write require_approval: never beside its server_label, in service.tools"


@pytest.mark.parametrize("model", MODEL_ENDS)
def test_every_day_is_told_with_what_takes_its_place(model):
    day, successor = MODEL_ENDS[model]
    text, advised = ending(model, day)
    assert text == f"{model} ends on {day.isoformat()}"
    assert advised == successor
    assert ending("another", day) == ("", "")


def test_it_is_a_note_that_does_not_keep_a_turn_from_working(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = write_config(tmp_path, "ws://127.0.0.1:1", "")
    path.write_text(path.read_text().replace("{url: 'ws://127.0.0.1:1'}", "{name: openai, model: gpt-realtime}", 1))
    status, document = told(path, offline=True)
    (found,) = services(document)
    assert list(found) == ["key", "model"]
    assert found["model"]["mark"] == "note"
    assert found["model"]["successor"] == "gpt-realtime-2.1"
    assert status == 0, document
