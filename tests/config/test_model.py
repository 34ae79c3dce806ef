"""What config.yaml may say, and what one is told about what it may not."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from device_agent.config import model, yaml_schema
from device_agent.config.load import load
from device_agent.config.model import ABILITIES, Config
from device_agent.core import redaction
from device_agent.core.errors import ConfigError
from device_agent.core.printable import UNPRINTABLE, printable
from device_agent.runtime import paths
from device_agent.services.registry import SERVICES
from device_agent.services.xai import Xai
from device_agent.state.alarms import Alarms
from device_agent.state.store import StateStore
from device_agent.tools.builtin import builtin_tools
from tests.support.paths import ROOT

NAMES = yaml_schema.one_of(*SERVICES).wish
CUES = "listening, done, waiting, failed, offline, refused, trouble, cap, muted, unmuted or volume"
SHIPPED = ROOT / "config.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.fixture
def loaded(file: Path):
    """Return what a text means as a configuration."""

    def load_text(text: str | bytes) -> Config:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(file)

    return load_text


@pytest.fixture
def complaints(loaded, file: Path):
    """Return what a text is told, without the name of the file."""

    def complain(text: str | bytes) -> list[str]:
        with pytest.raises(ConfigError) as refusal:
            loaded(text)
        return [line.removeprefix(f"{file}:") for line in str(refusal.value).splitlines()]

    return complain


# What is right --------------------------------------------------------------------------------------------------------


def test_the_shipped_file_equals_the_defaults():
    assert load(SHIPPED) == Config()


def test_the_shipped_file_shows_every_key_with_a_comment():
    shown = yaml.safe_load(SHIPPED.read_text())

    sections = {section.name: getattr(Config(), section.name) for section in dataclasses.fields(Config)}
    assert {name: list(section) for name, section in shown.items()} == {
        name: list(section) if isinstance(section, tuple) else [key.name for key in dataclasses.fields(section)]
        for name, section in sections.items()
    }
    lines = SHIPPED.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"  \w+:", line)]
    assert [lines[number] for number in keys if not lines[number - 1].startswith("  #")] == []


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# nothing\n", "---\n", "null\n", "talk:\n", "talk: {}\nlight:\n", "\ufeff"]
)
def test_what_is_not_said_has_its_default(loaded, text):
    assert loaded(text) == Config()


def test_every_key_can_be_set(loaded):
    said = loaded("""
service:
  name: xai
  url: wss://proxy.example/v1
  model: m
  voice: v
  instructions: |
    Sing.
    Dance.
  api_key_file: /run/key
  token_url: https://tokens.example/new
  token_key_file: /run/token
  tools: [web_search, {type: file_search, vector_store_ids: [a], max_num_results: 3}]
  language: pt-BR
  reasoning: none
  speed: 1.2
  patience_s: 90
  audio: pcmu
  rate: 16000
fallback: [{name: litellm, model: other, dialect: openai}, {voice: w}]
talk: {start: voice, end: service, vad: 3, silence_ms: 100, preroll_ms: 0, follow_up_s: 2.5, interrupt: voice}
connection: {mode: always, idle_s: 5, daily_minutes: 90, price_per_minute: 0.05}
microphone: {device: "wav:question.wav", channel: 3}
speaker: {device: USB, volume: 100, wake_ms: 500}
button: {pin: 27, inverted: true}
light: {pin: 0, rgb: [1, 2, 3], inverted: true}
controls:
  {volume_up: 5, volume_down: 6, volume_inverted: true, encoder: [23, 24],
   mute: 22, mute_is: switch, mute_inverted: true}
echo: {mode: cancel}
cues: {volume: 0, play: [listening, muted]}
alarms: {volume: 10}
metrics: {port: 9101}
mqtt:
  host: broker.lan
  port: 8883
  tls: true
  user: kitchen
  password_file: /run/password
  name: Kitchen
  discovery: home/assistant
log: {transcript: debug}
abilities: [time, alarms]
tools:
  - name: lamp
    description: Switches the lamp.
    command: [sh, -c, "true"]
    parameters:
      type: object
      properties: {on: {type: boolean, default: true}, level: {enum: [1, 2.5, "3"]}}
      required: [on]
    timeout_s: 3
""")
    schema_of_lamp = {
        "type": "object",
        "properties": {"on": {"type": "boolean", "default": True}, "level": {"enum": [1, 2.5, "3"]}},
        "required": ["on"],
    }
    search = {"type": "file_search", "vector_store_ids": ["a"], "max_num_results": 3}

    assert said == Config(
        model.ServiceConfig(
            name="xai",
            url="wss://proxy.example/v1",
            model="m",
            voice="v",
            instructions="Sing.\nDance.",
            api_key_file="/run/key",
            token_url="https://tokens.example/new",  # noqa: S106  no password
            token_key_file="/run/token",  # noqa: S106  nor this
            tools=("web_search", search),
            language="pt-BR",
            reasoning="none",
            speed=1.2,
            patience_s=90,
            audio="pcmu",
            rate=16000,
        ),
        (model.ServiceConfig("litellm", model="other", dialect="openai"), model.ServiceConfig(voice="w")),
        model.TalkConfig("voice", "service", 3, 100, 0, 2.5, "voice"),
        model.ConnectionConfig("always", 5, 90, 0.05),
        model.MicrophoneConfig("wav:question.wav", 3),
        model.SpeakerConfig("USB", 100, 500),
        model.ButtonConfig(27, True),
        model.LightConfig(0, (1, 2, 3), True),
        model.ControlsConfig(5, 6, True, (23, 24), 22, "switch", True),
        model.EchoConfig("cancel"),
        model.CuesConfig(0, ("listening", "muted")),
        model.AlarmsConfig(10),
        model.MetricsConfig(9101),
        model.MqttConfig("broker.lan", 8883, True, None, "kitchen", "/run/password", "Kitchen", "home/assistant"),
        model.LogConfig("debug"),
        ("time", "alarms"),
        (model.ToolConfig("lamp", "Switches the lamp.", ("sh", "-c", "true"), schema_of_lamp, 3),),
    )
    default = dict(_leaves(Config()))
    forgotten = {key for key, value in _leaves(said) if value == default[key]}
    # Another name, or dialect, has other keys, which is unknown to and a CA file; it has to be one, see test_trust.py.
    assert forgotten == {"service.name", "service.dialect", "service.ca_file", "mqtt.ca_file"}


def _leaves(made: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield name and value of every key outside of lists."""
    for key in dataclasses.fields(made):
        value, name = getattr(made, key.name), f"{path}{key.name}"
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


@pytest.mark.parametrize("empty", ["", "~", "null", '""', "''", '"  "'])
def test_an_empty_value_means_none_where_none_is_possible(loaded, empty):
    said = loaded(f"service:\n  voice: {empty}\n  instructions: {empty}\n  tools: {empty}\nbutton:\n  pin: {empty}\n")

    assert (said.service.voice, said.service.instructions, said.service.tools, said.button.pin) == (
        None,
        None,
        (),
        None,
    )


def test_a_list_is_a_tuple_and_so_the_configuration_is_a_constant(loaded):
    assert hash(loaded("service: {tools: [x_search]}")) == hash(loaded("service: {tools: [x_search]}"))


@pytest.mark.parametrize(("written", "meant"), [("7", 7), ("08", 8), ("010", 10), ("+9", 9)])
def test_a_number_is_decimal_whatever_it_begins_with(loaded, written, meant):
    assert loaded(f"button: {{pin: {written}}}").button.pin == meant


def test_text_may_be_written_in_any_language_and_with_windows_line_ends(loaded):
    assert loaded("service:\r\n  instructions: Sprich Schwäbisch, g'sell 🥨\r\n").service.instructions == (
        "Sprich Schwäbisch, g'sell 🥨"
    )


@pytest.mark.parametrize("written", ["off", '"off"', "'off'"])
def test_off_is_a_word_although_yaml_has_another_idea_of_it(loaded, written):
    assert yaml.safe_load("off") is False
    said = loaded(f"echo: {{mode: {written}}}\nlog: {{transcript: {written}}}")

    assert (said.echo.mode, said.log.transcript) == ("off", "off")


@pytest.mark.parametrize(("written", "meant"), [("true", True), ("false", False), ("True", True), ("FALSE", False)])
def test_true_and_false_are_written_as_one_likes(loaded, written, meant):
    assert loaded(f"light: {{inverted: {written}}}").light.inverted is meant


@pytest.mark.parametrize("section", ["cues: {play: []}", "cues: {play: }"])
def test_a_list_may_be_empty(loaded, section):
    assert loaded(section).cues.play == ()
    assert loaded("abilities: []").abilities == ()


def test_an_anchor_may_be_used(loaded):
    assert loaded("talk: {start: &how voice, interrupt: *how}").talk.interrupt == "voice"


# What is wrong --------------------------------------------------------------------------------------------------------


def test_five_mistakes_are_told_at_once(complaints):
    text = """\
service:
  name: xia
talk:
  silnce_ms: 500
  vad: loud
connection: on-demand
speaker: {volume: 101}
"""
    assert complaints(text) == [
        f'2:9: service.name should be {NAMES}, not "xia"; did you mean "xai"?',
        '4:3: talk.silnce_ms is unknown; did you mean "silence_ms"?',
        '5:8: talk.vad should be a whole number from 0 to 3, not "loud"',
        '6:13: connection should be a section with keys, not "on-demand"',
        "7:19: speaker.volume should be a whole number from 0 to 100, not 101",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("talk: {vad: true}", "1:13: talk.vad should be a whole number from 0 to 3, not true"),
        ("talk: {vad: 2.0}", "1:13: talk.vad should be a whole number from 0 to 3, not 2.0"),
        ('talk: {vad: "2"}', '1:13: talk.vad should be a whole number from 0 to 3, not "2"'),
        ("talk: {vad: -1}", "1:13: talk.vad should be a whole number from 0 to 3, not -1"),
        ("talk: {vad: [2]}", "1:13: talk.vad should be a whole number from 0 to 3, not a list"),
        ("talk: {vad: {a: 2}}", "1:13: talk.vad should be a whole number from 0 to 3, not a section"),
        ("talk:\n  vad:\n", "2:7: talk.vad is empty; it should be a whole number from 0 to 3"),
        ("talk: {vad: !!int two}", "1:13: talk.vad should be a whole number from 0 to 3, not two"),
        ("talk: {follow_up_s: .inf}", "1:21: talk.follow_up_s should be a number from 0 to 60, not .inf"),
        ("talk: {follow_up_s: .nan}", "1:21: talk.follow_up_s should be a number from 0 to 60, not .nan"),
        ("connection: {idle_s: 1:30}", "1:22: connection.idle_s should be a number from 5 to 3600, not 1:30"),
        ("talk: {start: on}", "1:15: talk.start should be button or voice, not on"),
        ("talk: {start: }", "1:14: talk.start is empty; it should be button or voice"),
        ("talk: {start: buton}", '1:15: talk.start should be button or voice, not "buton"; did you mean "button"?'),
        ("service: {voice: no}", "1:18: service.voice should be text, not no; put it in quotes"),
        ("service: {voice: 5}", "1:18: service.voice should be text, not 5; put it in quotes"),
        ("service: {tools: web}", '1:18: service.tools should be a list like [one, two], not "web"'),
        (
            "service: {tools: [a, 5]}",
            "1:22: service.tools[1] should be the name of a tool, or its settings with a type",
        ),
        ('service: {voice: "a\\e[31m"}', '1:18: service.voice should be text, not "a\\u001b[31m"'),
        (
            "microphone: {device: 'wav:'}",
            '1:22: microphone.device should be default, a part of a device\'s name or wav:FILE, not "wav:"',
        ),
        (
            "microphone: {device: }",
            "1:21: microphone.device is empty; it should be default, a part of a device's name or wav:FILE",
        ),
        ("light: {pin: 40}", "1:14: light.pin should be a whole number from 0 to 27, not 40"),
        ("light: {inverted: yes}", "1:19: light.inverted should be true or false, not yes"),
        ("light: {inverted: off}", "1:19: light.inverted should be true or false, not off"),
        ("light: {inverted: 1}", "1:19: light.inverted should be true or false, not 1"),
        ('light: {inverted: "true"}', '1:19: light.inverted should be true or false, not "true"'),
        ("light: {inverted: }", "1:18: light.inverted is empty; it should be true or false"),
        ("light: {rgb: [5, 6]}", "1:14: light.rgb should have three pins, red, green and blue, not 2"),
        ("light: {rgb: [5, 6, 13, 19]}", "1:14: light.rgb should have three pins, red, green and blue, not 4"),
        ("light: {rgb: [5, 6, 28]}", "1:21: light.rgb[2] should be a whole number from 0 to 27, not 28"),
        ("light: {rgb: 5}", "1:14: light.rgb should be a list like [one, two], not 5"),
        ("controls: {encoder: [5, 6, 13]}", "1:21: controls.encoder should have two pins, A and B, not 3"),
        ("controls: {encoder: [5]}", "1:21: controls.encoder should have two pins, A and B, not 1"),
        (
            "controls: {mute_is: swich}",
            '1:21: controls.mute_is should be button or switch, not "swich"; did you mean "switch"?',
        ),
        ("echo: {mode: on}", '1:14: echo.mode should be off or cancel, not on; did you mean "cancel"?'),
        ("echo: {mode: no}", '1:14: echo.mode should be off or cancel, not no; did you mean "off"?'),
        ("alarms: {volume: 0}", "1:18: alarms.volume should be a whole number from 10 to 100, not 0"),
        (
            "log: {transcript: inof}",
            '1:19: log.transcript should be off, debug or info, not "inof"; did you mean "info"?',
        ),
        (
            "cues: {play: [done, lisening]}",
            f'1:21: cues.play[1] should be {CUES}, not "lisening"; did you mean "listening"?',
        ),
        ("cues: {play: [alarm]}", f'1:15: cues.play[0] should be {CUES}, not "alarm"'),
        ("cues: {play: off}", "1:14: cues.play should be a list like [one, two], not off"),
        (
            "abilities: [volume, alarm]",
            '1:21: abilities[1] should be volume, mute, stop, alarms or time, not "alarm"; did you mean "alarms"?',
        ),
        ("- talk", "1:1: the file should be a section with keys, not a list"),
        ("talk", '1:1: the file should be a section with keys, not "talk"'),
        ("tlak: {}", '1:1: tlak is unknown; did you mean "talk"?'),
        ("mic: {}", '1:1: mic is unknown; did you mean "microphone"?'),
        ("Loudspeaker: {}", '1:1: Loudspeaker is unknown; did you mean "speaker"?'),
        ("service: {name: Grok}", f'1:17: service.name should be {NAMES}, not "Grok"; did you mean "xai"?'),
        ("service: {provider: xai}", '1:11: service.provider is unknown; did you mean "name"?'),
        ("provider: xai", '1:1: provider is unknown; did you mean "service"?'),
        (
            "talk: {start: push-to-talk}",
            '1:15: talk.start should be button or voice, not "push-to-talk"; did you mean "button"?',
        ),
        ("speaker: {vol: 5}", '1:11: speaker.vol is unknown; did you mean "volume"?'),
        (
            "talk: {5: 6}",
            "1:8: talk.5 is unknown; talk has start, end, vad, silence_ms, preroll_ms, follow_up_s, interrupt",
        ),
        ("light: {[a]: 6}", "1:9: light.a list is unknown; light has pin, rgb, inverted"),
        ("light: {<<: {pin: 5}}", "1:9: light has <<; merge keys are not supported: write the values themselves"),
        ("talk: {vad: 1,\n vad: 2}", "2:2: talk.vad is in line 1 already; remove one of them"),
        ("light: {pin: 5}\ntalk:\nlight: {pin: 6}", "3:1: light is in line 1 already; remove one of them"),
    ],
)
def test_a_mistake_is_told_with_its_place(complaints, text, complaint):
    assert complaints(text) == [complaint]


def test_every_suggestion_is_a_key_or_a_choice():
    sections = [getattr(Config(), each.name) for each in dataclasses.fields(Config)]
    keys = {
        each.name for part in (Config, *filter(dataclasses.is_dataclass, sections)) for each in dataclasses.fields(part)
    }
    choices = {*SERVICES, "off", "cancel", "button", "voice", "always"}
    assert {meant for words in model.SYNONYMS.values() for meant in words} <= keys | choices


def test_more_mistakes_than_one_can_read_are_counted(complaints):
    lines = complaints("".join(f"unknown{number}: 1\n" for number in range(60)))

    assert len(lines) == yaml_schema.MAX_MISTAKES + 1
    assert lines[-1] == " and 10 more mistakes"


def test_a_list_has_an_end(complaints):
    assert complaints(f"service: {{tools: [{'a, ' * 33}]}}") == [
        "1:18: service.tools should have 32 entries at most, not 33"
    ]


# Addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "wss://api.x.ai/v1/realtime",
        "WSS://api.x.ai/v1/realtime?model=a",
        "wss://8.8.8.8/",
        "ws://localhost:8080/v1",
        "ws://127.0.0.1:1",
        "ws://192.168.1.7/x",
        "ws://10.0.0.1",
        "ws://100.64.0.1",
        "ws://169.254.1.1",
        "ws://[::1]:80/",
        "ws://[fd00::1]/",
        "ws://[fe80::1]/",
        "ws://[::ffff:192.168.1.1]/",
        "ws://proxy.example:4000",
    ],
)
def test_an_address_that_is_private_encrypted_or_a_name_is_taken(loaded, url):
    assert loaded(f"service: {{url: '{url}'}}").service.url == url


@pytest.mark.parametrize(
    ("url", "wish"),
    [
        ("https://api.x.ai", "should begin with wss:// for xai"),
        ("api.x.ai/v1", "that begins with wss://"),
        ("wss://", "that begins with wss://"),
        ("wss://host:port/", "that begins with wss://"),
        ("wss://host:0/", "that begins with wss://"),
        ("wss://[::1", "that begins with wss://"),
        ("wss://host/a b", "that begins with wss://"),
        ("ws://8.8.8.8/", "plain ws:// to a public address can be overheard"),
        ("ws://[2001:4860:4860::8888]/", "plain ws:// to a public address can be overheard"),
        ("ws://[::ffff:8.8.8.8]/", "plain ws:// to a public address can be overheard"),
        ("wss://me:hunter2@host/", "without password"),
        ("wss://host/?api_key=hunter2", "without password"),
        ("http://me:hunter2@host/", "without password"),
    ],
)
def test_an_address_is_refused_with_the_reason(complaints, url, wish):
    [complaint] = complaints(f"service: {{url: '{url}'}}")

    assert complaint.startswith("1:16: service.url should be")
    assert wish in complaint
    assert "hunter2" not in complaint


# Text -----------------------------------------------------------------------------------------------------------------

WRITING = {
    "Persian": "\u0641\u0627\u0631\u0633\u06cc \u0645\u06cc\u200c\u062f\u0627\u0646\u06cc",
    "Japanese": "\u53f0\u6240\u306e\u58f0\u3067\u3059\u3002\u3000\u77ed\u304f",
    "French": "R\u00e9ponds bri\u00e8vement\u00a0: deux phrases",
    "German": "Antworte kurz, z.\u202fB. so; Silben\u00adtrennung",
    "Hebrew": "\u05e2\u05e0\u05d4 \u05d1\u05e7\u05e6\u05e8\u05d4\u200f, \u2067so\u2069",
    "emoji": "Greet the \U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "lines and tabs": "One.\n\tTwo.",
    "newer than this Python": "\U0001fae8 \U00011f00 \ue000",
}


def quoted(text: str) -> str:
    """Return *text* as YAML that people with an ASCII keyboard write."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=False, width=1000).strip()


@pytest.mark.parametrize("text", WRITING.values(), ids=WRITING)
def test_every_script_is_text(loaded, text):
    config_ = loaded(f"service: {{instructions: {quoted(text)}}}")
    assert config_.service.instructions == text
    shown = yaml_schema.to_yaml(text)
    assert "\n" not in shown
    assert loaded(f"service:\n  instructions: {shown}\n") == config_


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])).map(str.strip).filter(bool))
@example("\u202egnp.exe")
@example("a\u2028b")
@example("\U0001f468\u200d")
@example("'\"{}[]#: ,&*!|>%@`")
def test_what_is_no_control_is_text_and_is_written_as_it_is_read(tmp_path_factory, text):
    assume(not redaction.SECRET.match(text))
    file = tmp_path_factory.getbasetemp() / "text.yaml"
    for form in (quoted(text), yaml_schema.to_yaml(text)):
        file.write_text(f"service:\n  instructions: {form}\n")
        assert load(file).service.instructions == text
    assert not UNPRINTABLE.search(yaml_schema.to_yaml(text))


@pytest.mark.parametrize("code", [*range(9), *range(11, 32), *range(127, 160), 0xD800, 0xDFFF], ids=hex)
def test_a_control_or_half_a_character_is_no_text(complaints, code):
    (said,) = complaints(f'service: {{voice: "a\\u{code:04x}b"}}')
    assert said.startswith("1:18: service.voice should be text, not ")
    assert printable(said) == said


# Keys -----------------------------------------------------------------------------------------------------------------

KEY = "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6"
KEYS = [
    f"xai-{'Ab1Cd2Ef' * 10}",
    f"ek_{'Ab1Cd2' * 6}",
    f"sk-{'Ab1Cd2' * 8}",
    f"sk-{'Ab1Cd2-_' * 3}",
    "Bearer Ab1Cd2Ef3Gh4",
]
HARMLESS = [
    "PK-910H", "pk-910h", "PK-910H Wireless Conference Microphone 2", "sk-Lukas1", "sk-SK-LukasNeural",
    "sk-SK-ViktoriaNeural", "ek-2", "Bearer of good news, be cheerful.", "bearer of 2 rings", "xai-live-voice-2",
    "sk-learn is a library, and pk-4 a device",
]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        *(f"service: {{voice: {key}}}" for key in KEYS),
        f"service: {{api_key: {KEY}}}",
        f"service: {{key: {KEY}}}",
        f"service: {{token: [{KEY}]}}",
        f"service: {{apiKey: {KEY}}}",
        f"XAI_API_KEY: {KEY}",
        f"service: {{api_key_file: {KEY}}}",
        f"service: {{voice: ' {KEY}'}}",
        f"service: {{voice: Bearer {KEY}}}",
        f"service: {{tools: [{KEY}]}}",
        f"service: {{{KEY}: }}",
        f"service: {KEY}",
        f"{KEY}",
        f"[{KEY}]",
        f"talk: {{vad: {KEY}}}",
        f"talk: {{vad: {'x' * 41}}} # {KEY}",
        f"service: {{api_key: *{KEY}}}",
        f"service: {{api_key: &{KEY} &{KEY} a}}",
        f"service: {{api_key: '{KEY}",
        f"service:\n api_key: {KEY}\n  model: a: b",
        f"service: !{KEY}!x {{}}",
    ],
)
def test_a_key_in_the_file_is_refused_and_never_shown(complaints, text):
    said = "\n".join(complaints(text))

    assert KEY not in said
    assert "Ab1Cd2" not in said


@pytest.mark.parametrize("text", HARMLESS)
def test_a_name_that_begins_like_a_key_is_a_name(loaded, text):
    assert loaded(f"microphone: {{device: '{text}'}}").microphone.device == text
    assert loaded(f"service: {{instructions: '{text}'}}").service.instructions == text


def test_a_key_in_the_file_is_refused_with_the_place_where_it_belongs(complaints):
    [complaint] = complaints(f"service:\n  api_key: {KEY}\n")

    assert complaint == (
        "2:3: service.api_key is not allowed; keys and tokens do not belong here: "
        "put it into a file of its own, and name that file in service.api_key_file"
    )


# Rules between sections -----------------------------------------------------------------------------------------------


def test_button_and_light_need_a_pin_each(complaints, loaded):
    assert complaints("light: {pin: 17}") == ["1:14: light.pin and button.pin are both 17; give each a pin of its own"]
    assert complaints("button: {pin: 25}") == ["1:15: light.pin and button.pin are both 25; give each a pin of its own"]
    assert loaded("button: {pin: }\nlight: {pin: }").light.pin is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "button: {pin: 5}\ncontrols: {mute: 5}",
            "2:18: controls.mute and button.pin are both 5; give each a pin of its own",
        ),
        (
            "controls: {volume_up: 5, volume_down: 5}",
            "1:39: controls.volume_down and controls.volume_up are both 5; give each a pin of its own",
        ),
        (
            "controls: {encoder: [25, 24]}",  # the light's, by default
            "1:21: controls.encoder and light.pin are both 25; give each a pin of its own",
        ),
        (
            "controls: {volume_up: 6}\nlight: {rgb: [5, 6, 13]}",
            "1:23: controls.volume_up and light.rgb are both 6; give each a pin of its own",
        ),
        ("light: {rgb: [5, 17, 13]}", "1:14: light.rgb and button.pin are both 17; give each a pin of its own"),
        ("light: {rgb: [5, 6, 5]}", "1:14: light.rgb has 5 twice; give each a pin of its own"),
        ("controls: {encoder: [5, 5]}", "1:21: controls.encoder has 5 twice; give each a pin of its own"),
    ],
)
def test_two_keys_with_one_pin_are_told_by_name(complaints, text, complaint):
    assert complaints(text) == [complaint]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("button: {pin: 2, inverted: true}", "1:15: button.pin is 2, which the board itself holds high"),
        ("controls: {mute: 3, mute_inverted: true}", "1:18: controls.mute is 3, which the board itself holds high"),
        (
            "controls: {volume_down: 3, volume_inverted: true}",
            "1:25: controls.volume_down is 3, which the board itself holds high",
        ),
    ],
)
def test_a_pin_that_is_always_high_can_not_wait_to_become_high(complaints, loaded, text, complaint):
    (told,) = complaints(text)
    assert told.startswith(complaint)
    loaded(text.replace("true", "false"))


def test_colours_take_the_place_of_the_one_light(loaded):
    said = loaded("light: {rgb: [25, 5, 6]}").light  # 25 is light.pin by default
    assert (said.pin, said.rgb) == (25, (25, 5, 6))
    assert loaded("light: {rgb: [5, 6, 13]}\ncontrols: {mute: 25}").controls.mute == 25


def test_the_recording_does_not_overwrite_the_question(complaints, loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaints(f"microphone: {{device: 'wav:a.wav'}}\nspeaker: {{device: 'wav:{tmp_path}/a.wav'}}") == [
        "2:19: speaker.device is the file that the microphone plays, and would be overwritten; name another one"
    ]
    assert loaded("microphone: {device: 'wav:a.wav'}\nspeaker: {device: 'wav:b.wav'}")


def test_rules_do_not_complain_about_values_that_were_not_understood(complaints):
    assert len(complaints("button: {pin: seventeen}\nlight: {pin: 17}")) == 1


# Files that are no configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("talk:\n\tvad: 2\n", "2:1:", "is not YAML: found character '\\t' that cannot start any token"),
        ("talk: {vad: 2\n", "2:1:", "is not YAML: expected ',' or '}', but got '<stream end>'"),
        ("talk:\n  vad: 2\n start: voice\n", "3:2:", "is not YAML"),
        ("talk: 'vad\n", "2:1:", "is not YAML: found unexpected end of stream"),
        ("talk: *nobody\n", "1:7:", "is not YAML: found undefined alias"),
        ("talk:\n---\ntalk:\n", "2:1:", "is not YAML: but found another document"),
        ("talk:\n  vad: \x07\n", "2:8:", "is not YAML: invisible character #x0007"),
        (b"talk:\n  vad: \xff\n", "2:8:", "is not UTF-8"),
        ("talk".encode("utf-16"), "1:1:", "is not UTF-8"),
        ('talk: "\\UFFFFFFFF"\n', "", "is not YAML"),
        ("[" * 30_000, "1:65", " is not YAML: nested more than 64 levels deep"),
        ("- " * 30_000, "1:129", " is not YAML: nested more than 64 levels deep"),
        (b"#" * (64 * 1024 + 1), "", " is larger than 64 KiB"),
    ],
)
def test_what_is_no_yaml_is_told_in_the_same_form(complaints, text, place, problem):
    [complaint] = complaints(text)

    assert complaint.startswith(place)
    assert problem in complaint


def test_a_bomb_of_aliases_does_not_go_off(complaints):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 50)}]\n" for n in range(1, 40))

    assert len(complaints(bomb + "service: {tools: *a39}\nconnection: &c {mode: *c}\n")) == 40 + 2


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read: No such file"):
        load(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be read: .*embedded null"):
        load("a\0b")


TOKENS = (
    "service talk vad name url tools light pin : - { } [ ] , ' \" &a *a !!int !x << ? | > # %YAML --- ... 0 ~ wss://["
)
WORDS = st.sampled_from([*TOKENS.split(), "\n", "\n  ", "\t", " ", "9" * 5000, "\\U0011FFFF", "\\x"])
ANY_BYTES = st.binary(max_size=300) | st.lists(WORDS, max_size=30).map(lambda words: "".join(words).encode())


@given(ANY_BYTES)
@example(b"%YAML " + b"9" * 5000 + b".1\n--- a\n")
@example(b'"\\ud800": 1')
@example(b'service: {voice: "\\ud800"}')
@example(b"&a {*a : 1}")
@example(b"service: {url: 'wss://[::1]a'}")
@example(b"service: {url: 'wss://\xe2\x84\x80/'}")
def test_any_bytes_are_a_configuration_or_a_complaint(tmp_path_factory, raw):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(raw)
    try:
        assert isinstance(load(file), Config)
    except ConfigError as refusal:
        said = str(refusal)
        assert all(line.startswith(f"{file}:") for line in said.splitlines())
        assert printable(said, keep="\n") == said


def test_the_file_of_the_speaker_that_is_installed_goes_before_the_one_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path("/etc/device-agent/config.yaml") == paths.INSTALLED_CONFIG
    monkeypatch.setattr(paths, "INSTALLED_CONFIG", tmp_path / "etc.yaml")
    assert paths.config_path() == tmp_path / "etc.yaml"
    Path("config.yaml").touch()
    assert paths.config_path() == Path("config.yaml")
    (tmp_path / "etc.yaml").touch()
    assert paths.config_path() == tmp_path / "etc.yaml"


TOOL = "name: lamp, description: d, command: [sh]"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tools: [{name: lamp, command: [sh]}]", "1:9: tools[0] has no description"),
        ("tools: [{name: la mp, description: d, command: [sh]}]", "1:16: tools[0].name should be 1 to 64 letters"),
        (f"tools: [{{{TOOL}, parameters: {{type: array}}}}]", "tools[0].parameters should be a JSON schema"),
        (f"tools: [{{{TOOL}, parameters: {{type: object, required: [a]}}}}]", "tools[0].parameters should be a JSON"),
        (f"tools: [{{{TOOL}, timeout_s: 99}}]", "tools[0].timeout_s should be a number from 1 to 60, not 99"),
        ("tools: [{name: a, description: d, command: [/no/such]}]", "tools[0].command begins with /no/such, which"),
        ("tools: [{name: a, description: d, command: []}]", "tools[0].command is empty; it should begin"),
        (f"tools: [{{{TOOL}}}, {{{TOOL}}}]", "tools[1].name is lamp again"),
        ("tools: lamp", "tools should be a list"),
        ("tools: [lamp]", "tools[0] should be a section with keys, not"),
        ("fallback: [{name: opnai}]", "fallback[0].name should be"),
        ("service: {tools: [{max: 3}]}", "service.tools[0] should be the name of a tool, or its settings with a type"),
        ("service: {language: german}", "service.language should be a language tag such as de or pt-BR"),
        ("service: {language: de_DE}", "service.language should be a language tag such as de or pt-BR"),
        ("service: {language: yes}", "service.language should be a language tag such as de or pt-BR, not yes"),
        ("service: {reasoning: hihg}", 'xhigh, not "hihg"; did you mean "high"?'),
        ("service: {speed: 2}", "service.speed should be a number from 0.25 to 1.5, not 2"),
        ("service: {speed: fast}", 'service.speed should be a number from 0.25 to 1.5, not "fast"'),
        ("service: {patience_s: 5}", "service.patience_s should be a number from 20 to 600, not 5"),
        ("service: {patience_s: }", "service.patience_s is empty; it should be a number from 20 to 600"),
        ("service: {token_key_file: /run/key}", "service.token_key_file has no effect without token_url; remove it"),
        ("mqtt: {password_file: /run/key}", "mqtt.password_file has no effect without mqtt.user"),
        ("mqtt: {ca_file: /run/ca.pem}", "mqtt.ca_file has no effect without mqtt.tls: true"),
        ("mqtt: {host: 'http://broker'}", "mqtt.host should be a name or an address, without port"),
        *(
            (f"mqtt: {{host: '{name}'}}", "mqtt.host should be a name or an address")
            for name in ("a..b", ".a", "a" * 70, "..", "\u3002", "\u0130" * 60)
        ),
        ("mqtt: {discovery: 'a/#'}", "mqtt.discovery should be a topic without # and +"),
        ("service: {token_url: 'ws://x/'}", "service.token_url should be an address that begins with https://"),
        ("service: {tools: [{type: mcp, authorization: Bearer abcdef}]}", "looks like a key"),
        ("a: &a {b: 1}\nservice: {tools: [{type: mcp, <<: *a}]}", "service.tools[0] has <<; merge keys are not"),
        ('service: {tools: [{type: mcp, a: "\\e[2J"}]}', "service.tools[0] holds a control character"),
        ('service: {tools: [{type: mcp, "\\e": a}]}', "service.tools[0] has a name that is not a text"),
        ("service: {tools: [{type: mcp, ? [a] : a}]}", "service.tools[0] has a name that is not a text"),
        ("fallback: [{<<: *a}]", "found undefined alias"),
        ("x: &a {name: xai}\nfallback: [{<<: *a, voice: v}]", "fallback[0] has <<; merge keys are not supported"),
        ("<<: {talk: {vad: 1}}", "the file has <<; merge keys are not supported"),
    ],
)
def test_a_mistake_in_a_list_of_sections_is_told_with_its_place(complaints, text, sentence):
    assert any(sentence in said for said in complaints(text)), complaints(text)


@pytest.mark.parametrize(
    "bomb",
    [
        *("[", "{", "[\n", "- ", "? ", "[a: ", "{a: ", "? [", "tools: [{x: [", "!a [", "&a [", '"a": ['),
        "".join(f"{' ' * level}a:\n" for level in range(340)),
    ],
    ids=repr,
)
def test_the_deepest_nesting_costs_no_more_than_a_large_file(file, bomb):
    def cpu(text: str) -> float:
        file.write_text(text)
        began = time.thread_time()
        with pytest.raises(ConfigError):
            load(file)
        return time.thread_time() - began

    flat = "".join(f"a{number}: {{b: [c, d]}}\n" for number in range(2000))
    assert cpu((bomb * 65536)[:65000]) < 2 * cpu(flat)


def test_aliases_do_not_multiply_without_end(complaints):
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    (said, *_) = [line for line in complaints(f"{bomb}service: {{tools: [{{type: x, y: *a29}}]}}\n") if "tools" in line]
    assert said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "{name: xai, tools: [web_serch]}",
            "service.tools has web_serch, which is unknown to xai; it has web_search, x_search",
        ),
        ("{name: xai, tools: [{type: mcp, server_url: 'https://x'}]}", "service.tools has mcp without server_label"),
        ("{name: ultravox, audio: pcmu}", "service.audio has no effect with ultravox"),
        ("{name: ultravox, reasoning: none}", "service.reasoning has no effect with ultravox"),
        ("{name: xai-live, speed: 1.2}", "service.speed has no effect with xai-live"),
        ("{reasoning: low}", "service.reasoning should be none or high for xai, not low"),
        ("{reasoning: high, model: grok-voice-fast-1.0}", "is refused by the model grok-voice-fast-1.0; remove it"),
        ("{name: openai, reasoning: low, model: gpt-realtime}", "is refused by the model gpt-realtime; remove it"),
        ("{name: litellm, model: m, reasoning: low}", "should be none or high for litellm with dialect xai, not low"),
        ("{speed: 0.5}", "service.speed should be a number from 0.7 to 1.5 for xai, not 0.5"),
        (
            "{name: litellm, model: m, dialect: openai, tools: [web_search]}",
            "unknown to litellm with dialect openai; it has mcp",
        ),
        ("{name: xai, dialect: openai}", "service.dialect has no effect with xai"),
        ("{name: litellm, model: m, dialect: openai, rate: 16000}", "service.rate should be 24000 with dialect openai"),
        ("{name: litellm}", "service.model is empty; it should be an alias"),
        ("{name: ultravox, url: 'wss://x/'}", "service.url should begin with https:// for ultravox"),
    ],
)
def test_what_does_not_fit_the_service_is_told(complaints, text, sentence):
    assert any(sentence in said for said in complaints(f"service: {text}")), complaints(f"service: {text}")


@pytest.mark.parametrize("tag", ["de", "pt-BR", "zh-Hant-TW", "yue", "no", "es-419", "sl-IT-nedis", "en-a-bbb-c"])
def test_a_language_tag_is_one_that_people_speak(loaded, tag):
    assert loaded(f"service: {{language: {tag}}}").service.language == tag


# Tools of this device, for the sake of a service ----------------------------------------------------------------------


NAMED = "{name: %s, description: d, command: [sh], timeout_s: %s}"


@pytest.mark.parametrize("server_tool", Xai.reserved)
@pytest.mark.parametrize("service", ["tools: [%s]", "name: litellm, model: m, tools: [%s]"])
def test_a_name_that_xai_needs_itself_is_refused_where_it_stands(complaints, loaded, service, server_tool):
    kind = "{type: file_search, vector_store_ids: [a]}" if server_tool == "file_search" else server_tool
    with_tool, without = (f"service: {{{service % each}}}\ntools:" for each in (kind, ""))
    for name in Xai.reserved[server_tool]:
        tool = f"\n  - {NAMED % (name, 5)}"
        said = complaints(with_tool + tool)
        assert [line.partition(" ")[0] for line in said] == ["3:12:"]
        assert f"tools[0].name is {name}, which" in said[0]
        assert f"needs for its own {server_tool}; rename it" in said[0]
        assert loaded(without + tool).tools[0].name == name
    assert loaded(f"{with_tool}\n  - {NAMED % ('lamp', 5)}")


def test_what_another_service_needs_is_nothing_to_openai(loaded):
    tool = NAMED % ("web_search", 5)
    assert loaded(f"service: {{name: openai}}\ntools: [{tool}]")
    assert loaded(f"service: {{name: litellm, model: m, dialect: openai}}\ntools: [{tool}]")


def test_a_fallback_has_its_needs_too(complaints):
    tool = NAMED % ("browse_page", 5)
    text = f"service: {{name: openai}}\nfallback: [{{name: xai, tools: [web_search]}}]\ntools: [{tool}]"
    assert complaints(text) == ["3:16: tools[0].name is browse_page, which xai needs for its own web_search; rename it"]


def test_no_name_of_ours_is_reserved():
    ours = builtin_tools(ABILITIES, tell=lambda _: None, volume=lambda: 50, alarms=Alarms(StateStore(None)))
    taken = {name for names in Xai.reserved.values() for name in names}
    assert taken.isdisjoint(tool.function.name for tool in ours)


def test_a_tool_that_takes_longer_than_ultravox_waits_is_refused_where_it_stands(complaints, loaded):
    tool = f"tools: [{NAMED % ('lamp', 41)}]"
    assert complaints(f"service: {{name: ultravox}}\n{tool}") == [
        "2:64: tools[0].timeout_s is 41, and ultravox waits at most 40 s for a tool"
    ]
    assert loaded(tool)
