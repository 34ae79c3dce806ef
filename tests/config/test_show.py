"""What ``device-agent config`` prints: what was understood, where it comes from, and never a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_agent.cli import main
from device_agent.config.diff import leaves
from device_agent.config.load import load
from device_agent.config.model import Config
from device_agent.config.show import as_json, as_yaml

TEXT = """\
service:
  voice: v
  instructions: |
    Sing: a song.
    Dance.
  tools: [web_search, {type: mcp, server_label: x, server_url: 'https://x', authorization: hidden-word}]
fallback: [{name: openai, api_key_file: KEY}, {voice: "1:30"}]
talk: {start: voice}
echo: {mode: off}
tools:
  - name: lamp
    description: "# no remark"
    command: [sh, -c, "true"]
"""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XAI_API_KEY", "a-key-that-is-secret")
    key = tmp_path / "openai.key"
    key.write_text("another-secret")
    key.chmod(0o600)
    path = tmp_path / "config.yaml"
    path.write_text(TEXT.replace("KEY", str(key)))
    return path


def test_what_is_printed_is_a_configuration_that_says_the_same(file, tmp_path):
    file.write_text(file.read_text().replace("hidden-word", "'***'"))
    again = tmp_path / "again.yaml"
    again.write_text(as_yaml(file))
    assert load(again) == load(file)


def test_the_shipped_file_is_nothing_but_defaults(tmp_path):
    empty = tmp_path / "config.yaml"
    empty.write_text("")
    lines = as_yaml(empty).splitlines()[1:]
    values = [line for line in lines if not line.strip().startswith("# its key") and not line.endswith(":")]
    assert len(values) == len(list(leaves(Config())))
    assert all(line.endswith("# default") for line in values)
    again = tmp_path / "again.yaml"
    again.write_text("\n".join(lines))
    assert load(again) == Config()


def test_behind_each_value_stands_its_line(file):
    said = {line.split(":")[0].strip(): line.rpartition("# ")[2] for line in as_yaml(file).splitlines()}
    assert said["start"] == "config.yaml:8"
    assert said["instructions"] == "default", "the last of them is that of a fallback"
    assert said["description"] == "config.yaml:12"
    assert said["vad"] == "default"


@pytest.mark.parametrize("show", [as_yaml, as_json])
def test_no_key_is_shown_but_where_it_comes_from(file, show):
    text = show(file)
    for secret in ("a-key-that-is-secret", "another-secret", "hidden-word"):
        assert secret not in text
    assert "*** from environment variable XAI_API_KEY" in text
    assert f"*** from service.api_key_file: {file.parent / 'openai.key'}" in text


def test_without_a_key_it_says_so(file, monkeypatch):
    monkeypatch.delenv("XAI_API_KEY")
    assert "# its key: there is no key for xai yet; store one: sudo device-agent key " in as_yaml(file)


def test_a_token_server_is_asked_without_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("XAI_API_KEY", raising=False)
    path = tmp_path / "config.yaml"
    path.write_text("service: {token_url: https://tokens.example}\n")
    assert "# its key: token server of service.token_url" in as_yaml(path)


def test_machines_read_values_and_origins(file):
    found = json.loads(as_json(file))
    assert found["file"] == str(file)
    assert found["values"]["talk"]["start"] == "voice"
    assert found["values"]["fallback"][1]["voice"] == "1:30"
    assert found["origins"]["talk.start"] == f"{file}:8"
    assert found["origins"]["fallback[0].name"] == f"{file}:7"
    assert found["origins"]["talk.end"] == "default"
    assert set(found["keys"]) == {"service", "fallback[0]", "fallback[1]"}


def test_the_command(file, capsys):
    assert main(["config", "--config", str(file)]) == 0
    assert capsys.readouterr().out == as_yaml(file)
    assert main(["config", "--json", "--config", str(file)]) == 0
    assert capsys.readouterr().out == as_json(file)
    file.write_text("talk: {vad: 9}\n")
    assert main(["config", "--config", str(file)]) == 78
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{file}:1:13: talk.vad should be a whole number from 0 to 3, not 9\n")
