"""``device-agent key``: what is typed is judged, stored for root alone, and never shown."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.commands import key
from device_agent.config import credentials, key_form
from device_agent.config.key_form import COMPANIES, key_flaw, too_short, wrong_company
from device_agent.core.errors import AgentError
from device_agent.services.registry import SERVICES
from tests.support.paths import ROOT

GOOD = "xai-" + "Ab1Cd2Ef" * 10
OPENAI = "sk-proj-" + "Ab1Cd2Ef" * 10
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root stores a key")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(credentials, "CREDENTIAL_STORE", tmp_path / "credstore")
    return tmp_path / "credstore"


@pytest.fixture
def settings(tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("service: {name: xai}\n")
    return path


def file_with(folder: Path, text: str) -> str:
    (folder / "key.txt").write_text(text)
    return str(folder / "key.txt")


# What a key looks like ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (f'"{GOOD}"', "has quotes"),
        (f"'{GOOD}", "has quotes"),
        (f"\u201c{GOOD}\u201d", "has quotes"),
        (f'"{GOOD} "', "has quotes"),
        (f"XAI_API_KEY={GOOD}", "has a name in front"),
        (f'export XAI_API_KEY="{GOOD}"', "has a name in front"),
        (f"api_key: {GOOD}", "has a name in front"),
        (f"Bearer {GOOD}", "Bearer"),
        (f"{GOOD} {GOOD}", "more than a key"),
        (f"{GOOD}\n{GOOD}", "more than a key"),
        (f"{GOOD}\u00e9", "more than a key"),
    ],
)
def test_what_is_no_key_is_said_without_showing_it(text, wrong):
    said = key_flaw(text.encode())
    assert wrong in said
    assert GOOD not in said


@pytest.mark.parametrize("text", [GOOD, f" {GOOD}\n", OPENAI, "sk-1234", "aBcD1234.0123456789abcdef", "mykey==", "k"])
def test_a_key_behind_a_proxy_may_be_any_word(text):
    assert key_flaw(text.encode()) == ""


@pytest.mark.parametrize(
    ("text", "service", "wrong"),
    [
        (OPENAI, "xai", "is a key of OpenAI, but xai needs a key of xAI"),
        (OPENAI, "xai-live", "is a key of OpenAI, but xai-live needs a key of xAI"),
        (GOOD, "openai", "is a key of xAI, but openai needs a key of OpenAI"),
        ("sk-ant-api03-abc", "openai", "is a key of Anthropic, but openai needs a key of OpenAI"),
        ("AIzaSyD", "ultravox", "is a key of Google, but ultravox needs a key of Ultravox"),
        (GOOD, "xai", ""),
        (OPENAI, "openai", ""),
        ("unknown-form", "xai", ""),
        (GOOD, "litellm", ""),
    ],
)
def test_the_key_of_another_company_is_known_by_its_beginning(text, service, wrong):
    assert wrong_company(text, service) == wrong


def test_a_key_of_which_half_was_copied_is_too_short():
    assert "all of it" in too_short("xai-Ab1C", "xai")
    assert too_short(GOOD, "xai") == too_short("sk-1234", "litellm") == ""


def test_every_company_that_gives_out_keys_has_a_service():
    assert set(COMPANIES) == {name.partition("-")[0] for name in SERVICES} - {"litellm"}


@given(st.binary(max_size=60))
def test_no_sentence_shows_what_it_is_about(raw):
    said = key_flaw(raw)
    text = key_form.text_of(raw)
    assert said in {"", *map(key_flaw, (b"", b"a_key=b", b'"a', b"bearer", b"a b"))}
    assert said or text.isascii()


# Storing it -----------------------------------------------------------------------------------------------------------


@as_root
def test_a_key_from_a_file_is_stored_for_root_alone_and_only_once(tmp_path, store, settings, capsys):
    file = file_with(tmp_path, f"  {GOOD}\n\n")
    assert key.put_key(file=file, settings=settings) == 0
    stored = store / "device-agent.api_key"
    assert (stored.read_text(), stored.stat().st_mode & 0o777) == (f"{GOOD}\n", 0o600)
    assert store.stat().st_mode & 0o777 == 0o700
    said = capsys.readouterr().out
    assert f"Stored the key for xai in {stored}" in said
    assert "from the next start on" in said
    before = stored.stat()
    assert key.put_key(file=file, settings=settings) == 0
    assert stored.stat() == before
    assert "nothing to do" in (again := capsys.readouterr().out)
    assert GOOD not in said + again
    assert os.listdir(store) == [stored.name]


@as_root
@pytest.mark.parametrize("text", [f'"{GOOD}"', f"XAI_API_KEY={GOOD}", OPENAI, "xai-Ab1C", ""])
def test_a_file_without_a_key_leaves_the_stored_one(tmp_path, store, settings, text):
    key.put_key(file=file_with(tmp_path, GOOD), settings=settings)
    with pytest.raises(AgentError, match="The key was not stored") as refused:
        key.put_key(file=file_with(tmp_path, text), settings=settings)
    assert GOOD not in str(refused.value)
    assert (store / "device-agent.api_key").read_text() == f"{GOOD}\n"


@as_root
def test_each_service_has_its_file_and_the_first_the_one_that_is_read(tmp_path, store, settings):
    settings.write_text(
        "service: {name: xai}\nfallback: [{name: openai}, {name: litellm, url: 'ws://10.0.0.1:4000'}]\n"
    )
    key.put_key("openai", file_with(tmp_path, OPENAI), settings=settings)
    key.put_key("litellm", file_with(tmp_path, "k"), settings=settings)
    assert (store / "device-agent.openai_api_key").read_text() == f"{OPENAI}\n"
    assert (store / "device-agent.litellm_api_key").read_text() == "k\n"
    key.put_key("xai", file_with(tmp_path, GOOD), settings=settings)
    key.put_key(file=file_with(tmp_path, f"{GOOD}2"), settings=settings)
    assert (store / "device-agent.xai_api_key").read_text() == f"{GOOD}2\n"  # it goes before device-agent.api_key


@as_root
def test_the_installer_starts_the_speaker_itself(tmp_path, store, settings, capsys):
    assert key.put_key(file=file_with(tmp_path, GOOD), restart=False, settings=settings) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1  # and no word about a start


@as_root
def test_before_there_are_settings_any_company_may_be_meant(tmp_path, store, capsys):
    assert key.put_key(file=file_with(tmp_path, OPENAI), settings=tmp_path / "none.yaml") == 0
    assert "It looks like a key of OpenAI" in capsys.readouterr().out
    assert (store / "device-agent.api_key").read_text() == f"{OPENAI}\n"


@as_root
def test_where_config_yaml_names_another_place_that_is_said(tmp_path, store, settings, capsys):
    settings.write_text("service: {name: xai, api_key_file: /root/xai.key}\n")
    key.put_key(file=file_with(tmp_path, GOOD), settings=settings)
    assert "used instead of it" in capsys.readouterr().out
    assert key.put_key(if_none=True, file="/no/such", settings=settings) == 0


@as_root
def test_it_asks_only_where_there_is_no_usable_key(tmp_path, store, settings, capsys):
    file = file_with(tmp_path, GOOD)
    store.mkdir()
    for unusable in ("", f'"{GOOD}"', OPENAI):
        (store / "device-agent.api_key").write_text(unusable)
        key.put_key(file=file, if_none=True, settings=settings)
        assert (store / "device-agent.api_key").read_text() == f"{GOOD}\n"
        assert "The stored key cannot be used: " in capsys.readouterr().out
    assert key.put_key(file="/no/such", if_none=True, settings=settings) == 0


# On a terminal --------------------------------------------------------------------------------------------------------

TYPED = """
import sys
from pathlib import Path
from device_agent.commands import key
from device_agent.config import credentials
credentials.CREDENTIAL_STORE = Path(sys.argv[1])
sys.exit(key.put_key(settings=Path(sys.argv[2])))
"""


def typed(store: Path, settings: Path, *lines: str) -> tuple[str, int]:
    """Type *lines*, each when the key is asked for; return what the terminal showed, and the exit status."""
    shown, left = b"", list(lines)
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-c", TYPED, store, settings], {**os.environ, "PYTHONPATH": ROOT})  # noqa: S606
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the terminal is closed
            break
        if left and shown.count(b"if you have none yet): ") == len(lines) - len(left) + 1:
            os.write(terminal, left.pop(0).encode() + b"\n")
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@as_root
def test_on_a_terminal_it_is_asked_for_until_it_is_one_and_not_shown(store, settings):
    shown, status = typed(store, settings, f'"{GOOD}"', f"XAI_API_KEY={GOOD}", OPENAI, f"{GOOD} x", GOOD)
    assert status == 0, shown
    for words in ("quotes", "name in front", "a key of OpenAI", "more than a key", "Stored the key for xai"):
        assert words in shown
    assert GOOD not in shown
    assert OPENAI not in shown
    assert (store / "device-agent.api_key").read_text() == f"{GOOD}\n"


@as_root
def test_the_return_key_alone_means_that_there_is_no_key_yet(store, settings):
    shown, status = typed(store, settings, "")
    assert (status, store.exists()) == (0, False)
    assert key.NONE_YET in shown


def test_a_user_other_than_root_is_told_to_use_sudo():
    as_user = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    reading = "import sys; from device_agent.cli import main; sys.exit(main(['key', '--file', '-']))"
    if as_user and subprocess.run([*as_user, "test", "-r", ROOT / "setup.cfg"]).returncode:
        pytest.skip("others cannot read this folder")
    done = subprocess.run(
        [*as_user, sys.executable, "-c", reading],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=GOOD,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "You are not root. Repeat with sudo: sudo device-agent key\n"
