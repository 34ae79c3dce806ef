"""Where keys come from, and that they stay secret."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.app.factories import open_services
from device_agent.config import credentials
from device_agent.config.credentials import find_password
from device_agent.config.model import Config, ServiceConfig
from device_agent.core.errors import ConfigError
from device_agent.core.redaction import Secret

KEY = "xai-Ab1Cd2Ef3Gh4"


def find_key(*where: str, unnamed: bool = True) -> Secret:
    """Return the key alone."""
    return credentials.find_key(*where, unnamed=unnamed)[0]


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch, tmp_path):
    monkeypatch.setattr(credentials, "CREDENTIAL_STORE", tmp_path / "credstore")
    for name in [name for name in os.environ if name.endswith("_API_KEY") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def credential(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder / "api_key"


# The secret -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_by_reveal_alone(caplog):
    secret = Secret(KEY)
    logging.getLogger().warning("key %s %r", secret, [secret])

    assert secret.reveal() == KEY
    assert KEY not in f"{secret}{secret!r}{secret!s}{secret:>40}%s{caplog.text}" % secret
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("store", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_a_secret_cannot_be_stored(store):
    with pytest.raises(TypeError) as refusal:
        store(Secret(KEY))

    assert KEY not in str(refusal.value)


def test_secrets_can_be_compared():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


# The places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("xai", "XAI_API_KEY"),
        ("xai-live", "XAI_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("litellm", "LITELLM_API_KEY"),
        ("ultravox", "ULTRAVOX_API_KEY"),
    ],
)
def test_each_company_has_its_variable(monkeypatch, service, variable):
    monkeypatch.setenv(variable, f" {KEY}\n")

    assert find_key(service) == Secret(KEY)


def test_the_file_goes_before_the_credential_and_that_before_the_environment(monkeypatch, key_file, credential):
    monkeypatch.setenv("XAI_API_KEY", "from-environment")
    assert find_key("xai") == Secret("from-environment")

    credential.write_text("from-systemd\n")
    assert find_key("xai") == Secret("from-systemd")
    assert find_key("xai", "") == Secret("from-systemd")

    assert find_key("xai", str(key_file)) == Secret(KEY)


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("xai", "xai_api_key"),
        ("xai-live", "xai_api_key"),
        ("openai", "openai_api_key"),
        ("litellm", "litellm_api_key"),
        ("ultravox", "ultravox_api_key"),
    ],
)
def test_the_credential_of_a_company_goes_before_the_one_for_all(credential, service, name):
    credential.with_name(name).write_text(KEY)
    assert find_key(service) == Secret(KEY)

    credential.write_text("of-somebody-else")
    assert find_key(service) == Secret(KEY)

    credential.with_name(name).unlink()
    assert find_key(service) == Secret("of-somebody-else")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "credstore"
    folder.mkdir(mode=0o700)
    file = folder / "device-agent.api_key"
    file.touch(mode=0o600)
    file.write_text(f"{KEY}\n")
    return file


def test_outside_of_the_unit_its_own_file_is_read_by_a_user_with_access(monkeypatch, stored):
    assert find_key("xai") == Secret(KEY)
    stored.with_name("device-agent.xai_api_key").touch(mode=0o600)
    stored.with_name("device-agent.xai_api_key").write_text("of-xai")
    assert find_key("xai") == Secret("of-xai")
    assert find_key("openai") == Secret(KEY)
    with pytest.raises(ConfigError, match="no key for openai"):
        find_key("openai", unnamed=False)
    monkeypatch.setenv("XAI_API_KEY", "from-environment")
    assert find_key("xai") == Secret("from-environment")  # of this very process


def test_inside_of_the_unit_its_file_is_no_business_of_ours(stored, credential):
    with pytest.raises(ConfigError, match="no key for xai"):
        find_key("xai")


def test_a_stored_key_that_others_can_read_is_refused(stored):
    stored.chmod(0o644)
    with pytest.raises(ConfigError, match=f"chmod 600 {stored}"):
        find_key("xai")


def test_a_user_without_access_to_the_store_is_told_to_use_sudo(monkeypatch, stored):
    monkeypatch.setattr(os, "access", lambda path, _how: not str(path).startswith(str(stored.parent)))  # root may all
    with pytest.raises(ConfigError, match=r"^you are not root, .*no key for xai .*; repeat with sudo"):
        find_key("xai")


def test_the_place_of_a_key_is_told_without_the_key(monkeypatch, stored, key_file, credential):
    credential.write_text(KEY)
    assert credentials.find_key("xai", str(key_file))[1] == f"service.api_key_file: {key_file}"
    assert credentials.find_key("xai")[1] == f"systemd credential {credential}"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert credentials.find_key("xai")[1] == f"file {stored}"
    monkeypatch.setenv("XAI_API_KEY", KEY)
    assert credentials.find_key("xai")[1] == "environment variable XAI_API_KEY"
    with pytest.raises(ConfigError, match="no key"):
        credentials.find_key("openai", unnamed=False)


def test_the_credential_of_another_company_is_not_taken(credential):
    credential.with_name("openai_api_key").write_text(KEY)

    with pytest.raises(ConfigError, match="there is no key for xai"):
        find_key("xai")


def test_a_key_without_a_name_is_that_of_the_first_service_and_of_no_other_company(credential, tmp_path):
    credential.write_text("unnamed")
    others = ServiceConfig("xai-live"), ServiceConfig("openai", api_key_file=str(tmp_path / "openai.key"))
    (tmp_path / "openai.key").touch(mode=0o600)
    (tmp_path / "openai.key").write_text("another")
    keys = [service.key.reveal() for service in open_services(Config(fallback=others))]
    assert keys == ["unnamed", "unnamed", "another"]
    with pytest.raises(ConfigError, match="no key for openai"):
        open_services(Config(fallback=(ServiceConfig("openai"),)))


def test_an_empty_credential_of_a_company_is_not_replaced_by_another(credential):
    credential.with_name("xai_api_key").touch()
    credential.write_text(KEY)

    with pytest.raises(ConfigError, match=r"systemd credential .*/xai_api_key is empty"):
        find_key("xai")


def test_the_rights_of_a_credential_are_left_to_systemd(credential):
    credential.write_text(KEY)
    credential.chmod(0o440)

    assert find_key("xai") == Secret(KEY)


def test_a_file_may_be_in_the_home_folder(monkeypatch, key_file):
    monkeypatch.setenv("HOME", str(key_file.parent))

    assert find_key("xai", "~/key") == Secret(KEY)


@pytest.mark.parametrize(("unnamed", "command"), [(True, "key"), (False, "key openai")])
def test_a_missing_key_is_told_with_the_command_and_the_other_places(unnamed, command):
    with pytest.raises(ConfigError) as refusal:
        find_key("openai", unnamed=unnamed)

    assert str(refusal.value) == (
        f"there is no key for openai yet; store one: sudo device-agent {command} (where no speaker is installed: "
        "set the environment variable OPENAI_API_KEY, or name a file in service.api_key_file)"
    )


def test_the_unit_is_not_told_to_use_sudo(monkeypatch, stored, credential):
    monkeypatch.setattr(os, "access", lambda path, _how: not str(path).startswith(str(stored.parent)))
    with pytest.raises(ConfigError, match="^there is no key for xai yet; store one: sudo device-agent key "):
        find_key("xai")


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o777])
def test_a_file_that_others_can_use_is_refused(key_file, mode):
    key_file.chmod(mode)

    with pytest.raises(ConfigError, match=f"chmod 600 {key_file}$"):
        find_key("xai", str(key_file))


def test_a_file_that_was_named_and_is_not_there_is_not_replaced_by_another_place(monkeypatch, tmp_path):
    monkeypatch.setenv("XAI_API_KEY", KEY)

    with pytest.raises(ConfigError, match="nothing cannot be read: No such file"):
        find_key("xai", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"cannot be read: .*embedded null"):
        find_key("xai", "a\0b")


def test_a_file_that_only_root_may_read_names_sudo_and_not_inside_of_the_unit(monkeypatch, key_file, credential):
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may all
    with pytest.raises(ConfigError, match="cannot be read: Permission denied$"):
        find_key("xai", str(key_file))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigError, match="cannot be read: Permission denied; repeat with sudo$"):
        find_key("xai", str(key_file))


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)

    for name in ("pipe", "."):
        with pytest.raises(ConfigError, match="is not a file"):
            find_key("xai", str(tmp_path / name))


@pytest.mark.parametrize("content", [b"", b" \n", b"\n\n"])
def test_an_empty_place_is_refused(key_file, credential, monkeypatch, content):
    key_file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"service.api_key_file: .* is empty"):
        find_key("xai", str(key_file))

    credential.write_bytes(content)
    with pytest.raises(ConfigError, match=r"systemd credential .* is empty"):
        find_key("xai")

    credential.unlink()
    monkeypatch.setenv("XAI_API_KEY", content.decode())
    with pytest.raises(ConfigError, match="environment variable XAI_API_KEY is empty"):
        find_key("xai")


@pytest.mark.parametrize(
    "content",
    [
        f"XAI_API_KEY {KEY}",
        f"XAI_API_KEY={KEY}",
        f'"{KEY}"',
        f"{KEY}\n{KEY}\n",
        f"{KEY}\r\nX-Evil: 1",
        f"{KEY}\0",
        f"{KEY}\x1b[0m",
        f"{KEY}\xe9",
        KEY * 300,
    ],
)
def test_more_than_a_key_is_refused_and_never_shown(key_file, content):
    key_file.write_bytes(content.encode("latin-1"))

    with pytest.raises(ConfigError, match=r"keep only the key") as refusal:
        find_key("xai", str(key_file))

    assert KEY not in "".join(traceback.format_exception(refusal.value))


def test_an_environment_that_is_no_text_is_refused(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", os.fsdecode(b"\xff\xfe"))

    with pytest.raises(ConfigError, match="holds more than a key"):
        find_key("xai")


def test_a_key_that_is_refused_by_a_service_is_in_no_traceback(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", KEY)
    secret = find_key("xai")

    with pytest.raises(TypeError) as failed:
        "Bearer " + secret  # type: ignore[operator]

    shown = traceback.TracebackException.from_exception(failed.value, capture_locals=True)
    assert KEY not in "".join(shown.format())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_key_for_a_header_or_refused(tmp_path_factory, raw):
    file = tmp_path_factory.getbasetemp() / "any-key"
    file.touch(0o600)
    file.write_bytes(raw)
    try:
        key = find_key("xai", str(file)).reveal()
    except ConfigError:
        return
    assert key.isascii()
    assert key.isprintable()
    assert key.encode() in raw
    assert key.split() == [key]


def test_the_key_of_another_company_is_refused_at_the_own_address_of_a_service(key_file):
    with pytest.raises(ConfigError, match=f"{key_file} is a key of xAI, but openai needs a key of OpenAI") as refusal:
        credentials.find_key("openai", str(key_file), direct=True)
    assert KEY not in str(refusal.value)
    assert find_key("openai", str(key_file)) == Secret(KEY)  # at a proxy
    with pytest.raises(ConfigError, match="is a key of xAI"):
        open_services(Config(service=ServiceConfig("openai", api_key_file=str(key_file))))
    behind = ServiceConfig("openai", api_key_file=str(key_file), url="ws://127.0.0.1:4000")
    assert [service.key for service in open_services(Config(service=behind))] == [Secret(KEY)]


# Passwords ------------------------------------------------------------------------------------------------------------


def test_a_password_is_in_its_file_or_in_its_credential_inside_and_outside_of_the_unit(
    monkeypatch, stored, key_file, credential
):
    assert find_password(None, "token_key") is None
    credential.with_name("token_key").write_text("from-systemd\n")
    assert find_password(None, "token_key") == Secret("from-systemd")
    assert find_password(str(key_file), "token_key") == Secret(KEY)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert find_password(None, "token_key") is None
    assert find_password(None, "api_key") == find_key("xai")
    other = stored.with_name("device-agent.token_key")
    other.write_text("from-the-store")
    other.chmod(0o600)
    assert find_password(None, "token_key") == Secret("from-the-store")
    other.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by other users"):
        find_password(None, "token_key")


def test_a_password_may_have_quotes_and_signs(key_file):
    key_file.write_text("'key=\"it\n")
    assert find_password(str(key_file), "mqtt_password") == Secret("'key=\"it")
    for wrong, words in (("", "is empty; write the password there"), ("a b", "holds more than a password")):
        key_file.write_text(wrong)
        with pytest.raises(ConfigError, match=words):
            find_password(str(key_file), "mqtt_password")
