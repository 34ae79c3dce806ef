"""The settings of config.yaml on the wire of each service, compared with the definitions of the fields: OpenAI's own
types, and the field lists of xAI and Ultravox."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.app.factories import open_service
from device_agent.config.model import Config, ServiceConfig, TalkConfig, ToolConfig
from device_agent.config.rules import contradictions
from device_agent.core.redaction import Secret
from device_agent.services.base import Function, Service
from device_agent.services.endings import MODEL_ENDS
from device_agent.services.openai import TRANSCRIPTION_MODEL, OpenAI
from device_agent.services.registry import SERVICES, load, options, reasons, rules
from device_agent.services.ultravox import Ultravox
from device_agent.services.xai import Xai
from device_agent.simulator.engine.parsing import Refusal
from device_agent.simulator.services.ultravox_calls import CALL
from device_agent.simulator.services.xai_settings import XaiSettings
from tests.support.judge import judge
from tests.support.peers import KEY, TIMER

CASES = {
    "xai": ServiceConfig(),
    "xai-live": ServiceConfig("xai-live"),
    "openai": ServiceConfig("openai"),
    "litellm-xai": ServiceConfig("litellm", model="grok"),
    "litellm-openai": ServiceConfig("litellm", model="gpt", dialect="openai"),
    "ultravox": ServiceConfig("ultravox"),
}
XAI_LIKE, OPENAI_LIKE = ("xai", "litellm-xai"), ("openai", "litellm-openai")
GERMAN = "Speak the language de"


def told(config: ServiceConfig, talk: TalkConfig | None = None, **given: Any) -> dict[str, Any]:
    """Return what a service is told of its settings, as JSON: the body of the call, or of session.update."""
    service = open_service(config, talk or TalkConfig(), {"key": Secret(KEY)}, **{"functions": (TIMER,), **given})
    if isinstance(service, Ultravox):
        return json.loads(json.dumps(service.invitation("").body))
    session = service.session()
    session.tick(0.0)
    session.greet()
    (update,) = [event for event in map(json.loads, session.outgoing()) if event["type"] == "session.update"]
    return update["session"]


# The known fields -----------------------------------------------------------------------------------------------------

_FORMAT = dict.fromkeys(["type", "rate"])
_DETECTION = dict.fromkeys(
    ["type", "threshold", "prefix_padding_ms", "silence_duration_ms", "create_response", "interrupt_response"]
)
_HEARD = {"format": _FORMAT, "transcription": dict.fromkeys(["model", "language_hint"])}
XAI_FIELDS: dict[str, Any] = {
    **dict.fromkeys(["instructions", "voice", "tools"]),
    "turn_detection": _DETECTION,
    "audio": {"input": _HEARD, "output": {"format": _FORMAT, "speed": None}},
    "reasoning": dict.fromkeys(["effort"]),
    "resumption": dict.fromkeys(["enabled"]),
}
"""What docs.x.ai has; pipecat has the same in services/xai/realtime/events.py. The simulator judges the values."""
XAI_LIVE_FIELDS: dict[str, Any] = {
    **dict.fromkeys(["model", "voice", "instructions", "tools"]),
    "turn_detection": dict.fromkeys(["type", "threshold", "silence_duration_ms"]),
}


def unknown(settings: Any, known: dict[str, Any], path: str = "session") -> list[str]:
    """Return the fields of *settings* that are not *known*."""
    if not isinstance(settings, dict):
        return []
    strange = [f"{path}.{name}" for name in settings if name not in known]
    return strange + [
        each for name in settings if known.get(name) for each in unknown(settings[name], known[name], f"{path}.{name}")
    ]


def verdict(case: str, settings: dict[str, Any]) -> list[str]:
    """Return what the service *case* would not understand."""
    if case in OPENAI_LIKE:
        return judge({"type": "session.update", "session": settings}, "client")
    if case == "xai-live":
        return unknown(settings, XAI_LIVE_FIELDS)
    try:
        if case == "ultravox":
            CALL(settings, "")
        else:
            XaiSettings().updated(settings)
    except Refusal as refusal:
        return [str(refusal)]
    return unknown(settings, XAI_FIELDS) if case in XAI_LIKE else []


def mistakes(config: ServiceConfig) -> list[str]:
    return [f"{keys[0]} {said}" for keys, said in contradictions(Config(service=config))]


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "language": st.sampled_from(["de", "pt-BR", "yue", "zh-Hant-TW", "no"]),
        "reasoning": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        "speed": st.floats(0.25, 1.5, allow_nan=False),
        "audio": st.sampled_from(["pcm", "pcmu", "pcma"]),
        "rate": st.sampled_from([16000, 24000]),
        "patience_s": st.floats(20, 600),
        "instructions": st.sampled_from([None, "Be kind."]),
        "voice": st.sampled_from([None, "leo"]),
        "model": st.sampled_from(["grok-voice-latest", "grok-voice-fast-1.0", "gpt-realtime", "gpt-realtime-2.1"]),
    },
)
TALKS = st.builds(TalkConfig, end=st.sampled_from(["device", "service"]), silence_ms=st.integers(100, 5000))


@given(st.sampled_from(sorted(CASES)), SETTINGS, TALKS)
def test_whatever_config_yaml_may_say_each_service_understands_all_that_it_is_told(case, settings, talk):
    config = dataclasses.replace(CASES[case], **settings)
    if not mistakes(config):
        assert verdict(case, told(config, talk)) == []


def test_the_judges_are_strict():
    for case, config in CASES.items():
        assert verdict(case, told(config)) == []
        assert verdict(case, {**told(config), "sped": 1}) != []
    assert verdict("xai", {**told(CASES["xai"]), "reasoning": {"effort": "low"}}) != []
    assert verdict("openai", {**told(CASES["openai"]), "reasoning": {"effort": "none"}}) != []


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_empty_is_not_told(case):
    said = json.dumps(told(CASES[case]))
    for word in ("language", "reasoning", "effort", "speed", "patience"):
        assert f'"{word}' not in said


# Language -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("instructions", [None, "Be kind."])
def test_every_model_is_told_which_language_to_speak(case, instructions):
    said = told(dataclasses.replace(CASES[case], language="de", instructions=instructions))
    prompt = said.get("instructions", said.get("systemPrompt"))
    assert GERMAN in prompt
    assert prompt.startswith(instructions or GERMAN)


@pytest.mark.parametrize(
    ("case", "tag", "hint"),
    [
        ("xai", "pt-BR", "pt-BR"), ("litellm-xai", "de", "de"), ("openai", "pt-BR", ["pt"]), ("openai", "DE", ["de"]),
        ("litellm-openai", "de", ["de"]), ("openai", "yue", None), ("ultravox", "pt-BR", "pt-BR"),
    ],
)  # fmt: skip
def test_the_transcription_is_told_the_language_as_it_writes_it(case, tag, hint):
    said = told(dataclasses.replace(CASES[case], language=tag))
    heard = said if case == "ultravox" else said["audio"]["input"]["transcription"]
    hints = {"languageHint", "language_hint", "languages", "language"}
    assert [heard[name] for name in hints & set(heard)] == ([hint] if hint else [])


# Reasoning and speed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "asked", "sent"),
    [
        ("xai", "none", "none"), ("xai", "high", "high"), ("litellm-xai", "none", "none"),
        ("openai", "none", "minimal"), ("openai", "minimal", "minimal"), ("openai", "low", "low"),
        ("openai", "xhigh", "xhigh"), ("litellm-openai", "none", "minimal"),
    ],
)  # fmt: skip
def test_how_hard_it_thinks_is_told_in_the_words_of_the_service(case, asked, sent):
    assert told(dataclasses.replace(CASES[case], reasoning=asked))["reasoning"] == {"effort": sent}


@pytest.mark.parametrize(
    ("cls", "model", "takes"),
    [
        (OpenAI, "gpt-realtime", False),
        (OpenAI, "gpt-realtime-2025-08-28", False),
        (OpenAI, "gpt-realtime-1.5", False),
        (OpenAI, "gpt-realtime-mini", False),
        (OpenAI, "gpt-realtime-mini-2025-12-15", False),
        (OpenAI, "gpt-4o-realtime-preview-2025-06-03", False),
        (OpenAI, "gpt-4o-mini-realtime-preview", False),
        (OpenAI, "gpt-realtime-2", True),
        (OpenAI, "gpt-realtime-2.1", True),
        (OpenAI, "gpt-realtime-2.1-mini", True),
        (OpenAI, "a-model-of-my-own", True),
        (Xai, "grok-voice-fast-1.0", False),
        (Xai, "grok-voice-latest", True),
        (Xai, "grok-voice-think-fast-2.0", True),
        (Ultravox, "ultravox-v0.7", False),
    ],
)
def test_which_models_take_it_is_known(cls, model, takes):
    assert reasons(cls, model) is takes


@pytest.mark.parametrize("case", [*XAI_LIKE, *OPENAI_LIKE])
def test_it_is_never_sent_to_a_model_that_refuses_it(case):
    """The configuration is refused; a service that was made without one leaves the field out."""
    model = "grok-voice-fast-1.0" if case in XAI_LIKE else "gpt-realtime"
    config = dataclasses.replace(CASES[case], model=model, reasoning="high")
    assert any("is refused by the model" in said for said in mistakes(config))
    assert "reasoning" not in told(config)


@pytest.mark.parametrize("case", [*XAI_LIKE, *OPENAI_LIKE])
def test_the_speed_is_told_and_has_its_bounds(case):
    config = dataclasses.replace(CASES[case], speed=1.25)
    assert told(config)["audio"]["output"]["speed"] == 1.25
    assert mistakes(config) == []
    slow = mistakes(dataclasses.replace(CASES[case], speed=0.5))
    assert bool(slow) == (case in XAI_LIKE)
    assert all("service.speed should be a number from 0.7 to 1.5 for" in said for said in slow)


# What it says of itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_the_table_of_the_documents_is_true(name):
    can, dialects = load(name).can, [rules(name, dialect) for dialect in ("xai", "openai")]
    assert bool(can.thin) == ("audio" in options(name))
    assert bool(can.reasoning) == ("reasoning" in options(name)) == any(cls.efforts for cls in dialects)
    assert bool(can.speed) == ("speed" in options(name)) == any(cls.speeds != (1.0, 1.0) for cls in dialects)
    assert can.language
    assert can.announcements
    if name != "litellm" and can.speed:
        assert can.speed == "{:g} to {:g}".format(*load(name).speeds)
        first, *_, last = load(name).efforts
        assert can.reasoning.startswith(f"{first} ")
        assert can.reasoning.endswith(f" {last}")


def test_the_rules_behind_a_proxy_are_those_of_the_dialect():
    assert [rules("litellm", dialect) for dialect in ("xai", "openai")] == [Xai, OpenAI]
    assert [rules("openai", dialect) for dialect in ("xai", "openai")] == [OpenAI, OpenAI]


def test_no_default_is_a_model_that_ends():
    assert {TRANSCRIPTION_MODEL, *(load(name).model for name in SERVICES)}.isdisjoint(MODEL_ENDS)
    assert {successor for _, successor in MODEL_ENDS.values()}.isdisjoint(MODEL_ENDS)


def test_every_service_has_the_patience_of_the_configuration():
    for config in CASES.values():
        assert open_service(config, TalkConfig(), {"key": Secret(KEY)}).patience_s == 30
        patient = dataclasses.replace(config, patience_s=90.0)
        assert open_service(patient, TalkConfig(), {"key": Secret(KEY)}).patience_s == 90


# Addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "path"),
    [
        ("litellm", "ws://192.168.1.10:4000", "/v1/realtime"),
        ("xai", "wss://eu-west-1.api.x.ai/", "/v1/realtime"),
        ("openai", "wss://voice.home.example", "/v1/realtime"),
        ("xai-live", "ws://[::1]:80", "/v1/live"),
        ("ultravox", "https://proxy.example", "/api/calls"),
        ("ultravox", "wss://proxy.example/", "/api/calls"),
        ("litellm", "ws://proxy.example/realtime", "/realtime"),
        ("xai", "wss://proxy.example/a/", "/a/"),
    ],
)
def test_an_address_without_a_path_has_the_usual_one(name, given, path):
    service = load(name)(key=Secret(KEY), url=given)
    assert service.url == given.rstrip("/").removesuffix(path.rstrip("/")) + path
    if name != "ultravox":
        assert service.endpoint(None, "").url.partition("?")[0] == service.url


def test_what_stands_behind_the_address_stays_there():
    assert Xai(url="wss://proxy.example?region=eu").url == "wss://proxy.example/v1/realtime?region=eu"
    assert Service().url == ""


# Tools ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "told_"), [(1, "3s"), (10, "12s"), (0.4, "3s"), (38, "40s"), (40, "40s")])
def test_ultravox_is_told_how_long_each_tool_may_take(seconds, told_):
    """Without a word it takes 2.5 s for too long, throws the answer away, and asks again."""
    body = told(CASES["ultravox"], functions=(Function("f", "d", {"type": "object"}, seconds),))
    assert [each["temporaryTool"]["timeout"] for each in body["selectedTools"]] == [told_]


@given(st.floats(1, 60))
def test_what_ultravox_waits_is_never_less_than_the_tool_may_take_nor_more_than_it_allows(seconds):
    tool = ToolConfig("f", "d", ("sh",), timeout_s=seconds)
    config = Config(service=CASES["ultravox"], tools=(tool,))
    if any(keys[0] == "tools[0].timeout_s" for keys, _ in contradictions(config)):
        assert seconds > 40
        return
    body = told(CASES["ultravox"], functions=(Function("f", "d", {"type": "object"}, tool.timeout_s),))
    waits = float(body["selectedTools"][0]["temporaryTool"]["timeout"].removesuffix("s"))
    assert seconds <= waits <= 40
