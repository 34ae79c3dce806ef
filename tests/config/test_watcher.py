"""Edits of config.yaml: noticed, judged, told once; and the last good one, kept. Real files, no thread, no clock."""

from __future__ import annotations

import logging
import os
import ssl
import stat
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.app.factories import open_echo, open_services
from device_agent.app.reconfigure import needs_rebuild
from device_agent.config.credentials import key_variable
from device_agent.config.diff import differences, leaves, located
from device_agent.config.load import LoadedConfig
from device_agent.config.model import Config, EchoConfig, ServiceConfig, TalkConfig
from device_agent.config.trial import MAX_CRASHES, Trial
from device_agent.config.watcher import (
    LAST_GOOD_NAME,
    PARTIAL_FILE_TIMEOUT_S,
    PROVEN_S,
    RECHECK_S,
    TRIAL_NAME,
    ConfigWatcher,
    InternalError,
)
from device_agent.core.errors import ConfigError, DeviceFailed, LinkRefused
from device_agent.net.dialer import Dialer
from device_agent.services.registry import SERVICES


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", "k")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class Desk:
    """A file that a test edits, and its watcher."""

    def __init__(self, folder: Path, text: str = "talk: {vad: 1}\n") -> None:
        self.path, self.kept, self.now = folder / "config.yaml", folder / "state" / LAST_GOOD_NAME, 0.0
        self.path.write_text(text)
        self.edits = ConfigWatcher(self.path, self.kept)

    def began(self) -> Desk:
        self.edits.start()
        assert self.look() is None
        return self

    def look(self) -> LoadedConfig | ConfigError | None:
        """Look a second later."""
        self.now += 1
        return self.edits.poll(self.now)

    def works(self, seconds: float = 0.0) -> None:
        """The device works for so long with what is in use."""
        self.edits.confirm(self.now, well=True)
        self.now += seconds
        self.edits.confirm(self.now, well=True)

    def save(self, text: str) -> None:
        self.path.write_text(text)

    def looks(self) -> LoadedConfig | ConfigError | None:
        """Look twice, as often as it takes to believe."""
        assert self.look() is None, "believed at once"
        return self.look()

    def sees(self, seconds: float) -> LoadedConfig | ConfigError | None:
        """Look every second for so long, until there is something."""
        return next((found for _ in range(round(seconds)) if (found := self.look()) is not None), None)


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path).began()


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    new = path.with_name(".config.yaml.swp")
    new.write_text(text)
    new.replace(path)


def same_size_and_time(path: Path, text: str) -> None:
    """What a tool does that puts the old time back."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_link(path: Path, text: str) -> None:
    target = path.with_name("version-2.yaml")
    target.write_text(text)
    link = path.with_name("link")
    link.symlink_to(target)
    link.replace(path)


@pytest.mark.parametrize("save", [in_place, by_rename, same_size_and_time, another_link])
def test_a_save_is_noticed_however_it_is_done(desk, save):
    save(desk.path, "talk: {vad: 3}\n")
    found = desk.looks()
    assert isinstance(found, LoadedConfig)
    assert found.config.talk.vad == 3
    assert desk.look() is None, "told twice"


def test_what_a_link_in_the_way_leads_to_is_watched(tmp_path):
    for name, vad in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"talk: {{vad: {vad}}}\n")
    (tmp_path / "now").symlink_to("one")
    edits = ConfigWatcher(tmp_path / "now" / "config.yaml", tmp_path / LAST_GOOD_NAME)
    edits.start()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "now")
    assert edits.poll(1.0) is None
    assert edits.poll(2.0).config.talk.vad == 2


def test_a_file_that_is_being_written_is_not_read_half(desk):
    for text in ("talk: {va", "talk: {vad: ", "talk: {vad: 3, sil", "talk: {vad: 3, silence_ms: 900}\n"):
        desk.save(text)
        assert desk.look() is None
    assert desk.look().config.talk == TalkConfig(vad=3, silence_ms=900)


def test_a_half_file_that_stays_is_a_mistake_until_it_is_whole(desk):
    desk.save("talk: {vad: ")
    assert desk.sees(PARTIAL_FILE_TIMEOUT_S) is None
    found = desk.sees(3)
    assert str(found).startswith(f"{desk.path}:1:13: is not YAML")
    desk.save("talk: {vad: 2}\n")
    assert desk.looks().config.talk.vad == 2


def test_a_change_while_it_is_read_is_noticed(desk, monkeypatch):
    from device_agent.config import watcher as module

    def read(path: Path) -> str:
        text = path.read_text()
        desk.save("talk: {vad: 0}\n")
        return text

    desk.save("talk: {vad: 3}\n")
    assert desk.look() is None
    with monkeypatch.context() as patched:
        patched.setattr(module, "read_file", read)
        assert desk.look().config.talk.vad == 3
    assert desk.looks().config.talk.vad == 0


def test_nothing_is_read_while_nothing_changes(desk, monkeypatch):
    monkeypatch.setattr("device_agent.config.watcher.read_file", lambda _path: pytest.fail("read"))
    assert [desk.look() for _ in range(5)] == [None] * 5


def test_a_signal_reads_it_again_changed_or_not(desk):
    desk.edits.request_reload()
    assert desk.look().config == desk.edits.config
    assert desk.look() is None


def test_a_file_that_vanished_is_told_once_and_noticed_when_it_is_back(desk, caplog):
    desk.path.unlink()
    desk.edits.reject(desk.looks())
    assert desk.edits.mistakes == [f"{desk.path}: cannot be read: No such file or directory"]
    assert [desk.look() for _ in range(3)] == [None] * 3
    assert desk.edits.config.talk.vad == 1
    desk.save("talk: {vad: 3}\n")
    assert desk.looks().config.talk.vad == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("talk: {vad: 1}\nservice:\n  api_key_file: {folder}/none\n", ":3:17: the key file"),
        ("service: {name: openai}\n", ":1:17: there is no key for openai"),
        ("fallback:\n  - voice: x\n    name: openai\n", ":3:11: there is no key for openai"),
        ("service: {voice: x}\nfallback: [{api_key_file: {folder}/open}]\n", ":2:27: the key file "),
    ],
)
def test_a_key_that_is_not_there_is_a_mistake_in_its_line(desk, tmp_path, text, said):
    (tmp_path / "open").write_text("k")
    (tmp_path / "open").chmod(0o644)
    desk.save(text.replace("{folder}", str(tmp_path)))
    found = desk.looks()
    assert isinstance(found, ConfigError)
    assert str(found).startswith(f"{desk.path}{said}"), found


EXTRAS = [
    ("echo: {mode: cancel}", "livekit", "echo.mode"),
    ("metrics: {port: 9100}", "prometheus_client", "metrics.port"),
    ("mqtt: {host: broker}", "paho", "mqtt.host"),
]


@pytest.mark.parametrize(("text", "module", "key"), EXTRAS)
def test_a_library_that_is_not_installed_is_a_mistake_in_its_line(desk, monkeypatch, text, module, key):
    monkeypatch.setitem(sys.modules, module, None)
    desk.save(f"talk: {{vad: 1}}\n{text}\n")
    refused = desk.looks()
    assert isinstance(refused, ConfigError)
    assert str(refused).startswith(f"{desk.path}:2:")
    assert f"{key} needs a library: sudo make install EXTRAS=" in str(refused)


@pytest.mark.parametrize(("text", "module", "key"), EXTRAS)
def test_a_speaker_whose_library_is_gone_starts_without_it_and_says_so(tmp_path, monkeypatch, text, module, key):
    desk = Desk(tmp_path, text + "\n").began()
    desk.works(PROVEN_S)
    monkeypatch.setitem(sys.modules, module, None)  # an update left it out
    monkeypatch.setitem(sys.modules, "livekit.rtc", None)
    again = ConfigWatcher(desk.path, desk.kept)
    again.start()
    assert key in again.mistakes[0]
    assert not again.on_trial()
    open_echo(again.config, 24000, proven=True)


def test_a_canceller_that_never_worked_here_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "livekit.rtc", None)
    with pytest.raises(ConfigError, match="canceller"):
        open_echo(Config(echo=EchoConfig(mode="cancel")), 24000)


def test_a_key_file_that_is_put_right_is_noticed(desk, tmp_path):
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    desk.save(f"service: {{api_key_file: {key}}}\n")
    assert isinstance(desk.looks(), ConfigError)
    key.chmod(0o600)
    assert isinstance(desk.looks(), LoadedConfig)
    key.write_text("another")
    assert isinstance(desk.looks(), LoadedConfig), "a new key is an edit, too"


def test_every_mistake_is_in_the_log_once_for_each_version(desk, caplog):
    desk.save("talk: {vad: 9, silenc_ms: 1}\n")
    found = desk.looks()
    with caplog.at_level(logging.INFO):
        desk.edits.reject(found)
        desk.edits.reject(found)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0].startswith(f"{desk.path}:1:13: talk.vad should be")
    assert 'did you mean "silence_ms"?' in said[1]
    assert said[2] == f"{desk.path}: the previous settings stay in use"
    assert (desk.edits.state, desk.edits.mistakes) == ("wrong edit", said[:2])


def test_what_was_taken_is_told_by_its_keys_alone(desk, caplog):
    desk.save("talk: {vad: 2}\nservice: {instructions: A secret of mine.}\n")
    with caplog.at_level(logging.INFO):
        desk.edits.accept(desk.looks())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{desk.path}: in use now: service.instructions, talk.vad"
    assert desk.edits.state == "in use"


def test_on_change_is_called_for_accepted_and_rejected_edits(desk):
    seen = []
    desk.edits.on_change = lambda: seen.append((desk.edits.config.talk.vad, desk.edits.state))
    desk.save("talk: {vad: 2}\n")
    desk.edits.accept(desk.looks())
    desk.save("talk: {vad: 9}\n")
    desk.edits.reject(desk.looks())
    assert seen == [(2, "in use"), (2, "wrong edit")]


# The last good one ----------------------------------------------------------------------------------------------------


def test_the_last_good_configuration_is_stored_once_and_only_its_owner_can_read_it(desk, monkeypatch):
    desk.works()
    assert stat.S_IMODE(desk.kept.stat().st_mode) == 0o600
    assert desk.kept.read_text().endswith("\ntalk: {vad: 1}\n")
    monkeypatch.setattr("device_agent.config.watcher.replace_whole", lambda *_: pytest.fail("written again"))
    desk.works()
    Desk.began(Desk(desk.path.parent)).works(2 * PROVEN_S)


def test_what_is_in_use_is_kept_also_when_the_file_is_wrong_by_now(desk):
    desk.save("talk: {vad: 2}\n")
    desk.edits.accept(desk.looks())
    desk.save("talk: {vad: 9}\n")
    desk.edits.reject(desk.looks())
    desk.works()
    assert "vad: 2" in desk.kept.read_text()


def test_a_start_with_a_wrong_file_uses_the_last_good_one(desk, tmp_path, caplog):
    desk.works()
    again = Desk(tmp_path, "talk: {vad: 9}\n").began()
    assert again.edits.config.talk.vad == 1
    assert again.edits.state == "last good"
    assert again.edits.mistakes == [f"{again.path}:1:13: talk.vad should be a whole number from 0 to 3, not 9"]
    assert str(again.kept) in caplog.text
    again.works()
    again.save("talk: {vad: 3}\n")
    again.edits.accept(again.looks())
    assert (again.edits.config.talk.vad, again.edits.state) == (3, "in use")


@pytest.mark.parametrize("kept", [None, "", "talk: {vad: 1}\n", "# /etc/other.yaml, as it was when it was right last."])
def test_without_a_last_good_one_of_this_file_a_wrong_start_is_an_error(tmp_path, kept):
    desk = Desk(tmp_path, "talk: {vad: 9}\n")
    if kept is not None:
        desk.kept.parent.mkdir()
        desk.kept.write_text(kept)
    with pytest.raises(ConfigError, match="not 9"):
        desk.edits.start()


def test_a_last_good_one_that_is_wrong_by_now_is_of_no_use(desk, tmp_path):
    desk.works()
    desk.kept.write_text(desk.kept.read_text().replace("vad: 1", "vad: 8"))
    with pytest.raises(ConfigError, match="not 9"):
        Desk(tmp_path, "talk: {vad: 9}\n").edits.start()


def test_what_cannot_be_used_is_gone_back_from(desk):
    desk.works()
    desk.save("talk: {vad: 2}\nspeaker: {device: hall}\n")
    desk.edits.accept(desk.looks(), tried=False)
    assert desk.edits.on_trial("speaker.device")
    assert not desk.edits.on_trial("microphone.device"), "an edit is not to blame for what it did not touch"
    desk.edits.roll_back(DeviceFailed("there is no hall"), "speaker.device")
    assert desk.edits.config.talk.vad == 1
    assert desk.edits.mistakes == [f"{desk.path}:2:19: there is no hall"]
    assert not desk.edits.on_trial()
    with pytest.raises(DeviceFailed):
        desk.edits.roll_back(DeviceFailed("there is nothing"))  # and nothing to go back to


def test_several_edits_that_fail_go_back_to_what_has_worked(desk):
    desk.works()
    for text in ("speaker: {device: hall}\n", "speaker: {device: attic}\n"):
        desk.save(text)
        desk.edits.accept(desk.looks(), tried=False)
    desk.edits.roll_back(DeviceFailed("there is no attic"), "speaker.device")
    assert desk.edits.config.talk.vad == 1


def test_an_edit_is_good_when_it_has_worked_for_a_minute_without_a_break(desk):
    desk.works()
    desk.save("speaker: {device: hall}\n")
    desk.edits.accept(desk.looks(), tried=False)
    desk.works(PROVEN_S - 1)
    desk.edits.confirm(desk.now, well=False)
    desk.works(PROVEN_S - 1)
    assert desk.edits.on_trial("speaker.device")
    assert "vad: 1" in desk.kept.read_text()
    desk.works(2)
    assert not desk.edits.on_trial()
    assert "hall" in desk.kept.read_text()


def test_an_edit_that_is_taken_back_is_on_trial_no_more(desk):
    desk.works()
    for text in ("talk: {vad: 3}\n", "talk: {vad: 1}\n"):
        desk.save(text)
        desk.edits.accept(desk.looks())
    assert not desk.edits.on_trial()


@pytest.mark.parametrize(
    ("error", "key"),
    [(ConfigError("echo.mode: cancel needs a library"), ""), (DeviceFailed("there is no hall"), "speaker.device")],
)
def test_what_was_refused_while_it_ran_is_refused_at_the_next_start(desk, tmp_path, error, key):
    desk.works()
    again = Desk(tmp_path, "echo: {mode: cancel}\nspeaker: {device: hall}\ntalk: {vad: 1}\n").began()
    assert again.edits.on_trial(key)
    again.edits.roll_back(error, key)
    assert again.edits.config == desk.edits.config
    assert again.edits.state == "last good"
    assert again.edits.mistakes[0].endswith(f": {error}")
    with pytest.raises(ConfigError, match="again"):
        again.edits.roll_back(ConfigError("again"))


def test_what_ends_the_process_again_and_again_in_its_first_minute_is_tried_no_more(desk, tmp_path):
    desk.works()
    killed = []
    for _ in range(MAX_CRASHES + 1):  # a driver crashes, or the watchdog bites
        killed.append(Desk(tmp_path, "microphone: {device: bad}\ntalk: {vad: 1}\n"))
        killed[-1].edits.start()
    assert [each.edits.config.microphone.device for each in killed] == ["bad"] * MAX_CRASHES + ["default"]
    last = killed[-1]
    assert last.edits.mistakes == [
        f"{last.path}: crashed or hung the program {MAX_CRASHES} times. To try it again, save it again"
    ]
    last.works(2 * PROVEN_S)
    assert last.look() is None
    last.save("microphone: {device: good}\ntalk: {vad: 1}\n")
    last.edits.accept(last.looks(), tried=False)
    assert last.edits.mistakes == []


@pytest.mark.parametrize("ending", ["asked to", "proven", "taken back"])
def test_an_end_that_is_no_fault_of_the_edit_does_not_count(desk, tmp_path, ending):
    desk.works()
    for _ in range(2 * MAX_CRASHES):
        again = Desk(tmp_path, "microphone: {device: good}\ntalk: {vad: 1}\n").began()
        assert again.edits.config.microphone.device == "good"
        match ending:
            case "asked to":
                again.edits.end_trial()
            case "proven":
                again.works(PROVEN_S)
            case "taken back":
                again.edits.roll_back(DeviceFailed("there is no good"))
                again.works()


@pytest.mark.parametrize("noted", [b"", b"x", b"x y", b"\xff\xfe 3", b"1" * 9000])
def test_a_note_that_makes_no_sense_counts_nothing(tmp_path, noted):
    (tmp_path / TRIAL_NAME).write_bytes(noted)
    assert Trial(tmp_path / TRIAL_NAME).begin("a") == 0
    assert Trial(tmp_path / TRIAL_NAME).begin("a") == 1
    assert Trial(tmp_path / TRIAL_NAME).begin("b") == 0


def test_where_nothing_can_be_noted_nothing_is_counted(tmp_path):
    (tmp_path / "in the way").touch()
    trial = Trial(tmp_path / "in the way" / TRIAL_NAME)
    assert [trial.begin("a"), trial.begin("a")] == [0, 0]
    trial.over()


def test_a_pipe_in_place_of_the_file_holds_nothing_up(desk):
    desk.path.unlink()
    os.mkfifo(desk.path)
    assert "nothing was written into this pipe" in str(desk.looks())


# A file that is not whole ---------------------------------------------------------------------------------------------

WHOLE = "service: {name: xai}\nconnection: {daily_minutes: 30}\ntalk: {vad: 1}\n"
LOST = ["", "\n\n", "# nothing\n", "connection: {daily_minutes: 30}\n", "talk: {vad: 3}\nlog: {transcript: info}\n"]


@pytest.fixture
def served(tmp_path) -> Desk:
    desk = Desk(tmp_path, WHOLE).began()
    desk.works()
    return desk


@pytest.mark.parametrize("left", LOST)
def test_a_file_that_has_lost_its_services_is_no_edit(served, left):
    served.save(left)
    assert served.sees(PARTIAL_FILE_TIMEOUT_S) is None, "it may come to itself"
    found = served.sees(3)
    assert isinstance(found, ConfigError)
    assert "has lost its section service" in str(found)
    served.edits.reject(found)
    assert served.sees(100) is None, "told twice"
    served.save(WHOLE.replace("30", "40"))
    assert served.looks().config.connection.daily_minutes == 40


@pytest.mark.parametrize("left", LOST)
def test_nor_is_it_at_a_start(served, tmp_path, left):
    again = Desk(tmp_path, left)
    again.edits.start()
    assert again.edits.config == served.edits.config
    assert isinstance(again.sees(PARTIAL_FILE_TIMEOUT_S + 3), ConfigError)
    assert again.kept.read_text().endswith(WHOLE)


@given(cut=st.integers(0, len(WHOLE) - 1), back=st.integers(1, 20))
def test_a_file_that_is_cut_off_anywhere_is_waited_for(cut, back):
    with TemporaryDirectory() as folder:
        desk = Desk(Path(folder), WHOLE).began()
        desk.works(2 * PROVEN_S)
        desk.save(WHOLE[:cut])
        found = desk.sees(back)
        assert found is None or back >= PARTIAL_FILE_TIMEOUT_S
        if isinstance(found, LoadedConfig):
            assert "service" in found.places
            desk.edits.accept(found)
            desk.works(PROVEN_S - 1)
        desk.save(WHOLE)
        found = desk.looks()
        assert found is None or found.config == desk.edits._last_good.config
        assert desk.kept.read_text().endswith(WHOLE)


def test_the_last_section_may_be_taken_out(served):
    served.save(WHOLE.replace("talk: {vad: 1}\n", ""))
    assert served.sees(PARTIAL_FILE_TIMEOUT_S) is None
    assert served.sees(3).config.talk == TalkConfig()


def test_a_requested_reload_reads_the_file_at_once(served):
    served.save(WHOLE.removesuffix("\n"))
    served.edits.request_reload()
    assert served.look().config == served.edits.config


# What a file names, and the machine does not have ---------------------------------------------------------------------


CERTIFICATES = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"


class Named:
    """A configuration that names a file, and the file."""

    def __init__(self, folder: Path, text: str, *, mode: int = 0o600, content: bytes = b"k") -> None:
        self.file = folder / "named"
        self._mode, self._content = mode, content
        self.text = text.replace("FILE", str(self.file))
        self.mend()

    def mend(self) -> None:
        self.remove()
        self.file.write_bytes(self._content)
        self.file.chmod(self._mode)

    def remove(self) -> None:
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        self.file.unlink(missing_ok=True)

    def damage(self, how: str) -> None:
        self.remove()
        match how:
            case "folder":
                self.file.mkdir()
            case "pipe without a writer":
                os.mkfifo(self.file, 0o600)
            case "loop":
                self.file.symlink_to(self.file)
            case "disk error":  # EIO, from a file that may be opened
                self.file.symlink_to("/proc/self/mem")
            case "empty" | "noise" | "huge":
                self.file.write_bytes({"empty": b"", "noise": bytes(range(256)), "huge": b"k" * 3_000_000}[how])
                self.file.chmod(0o600)


DAMAGES = ["gone", "folder", "pipe without a writer", "loop", "disk error", "empty", "noise", "huge"]
KEY: dict[str, Any] = {}
AUTHORITY = {"content": Path(CERTIFICATES).read_bytes()}
PROGRAM = {"content": b"#!/bin/sh\n", "mode": 0o755}
KINDS = {
    "key": ("service:\n  api_key_file: FILE\n", "2:17", KEY),
    "key of a fallback": ("service: {}\nfallback:\n  - {name: openai, api_key_file: FILE}\n", "3:34", KEY),
    "token key": ("service:\n  token_url: https://127.0.0.1/\n  token_key_file: FILE\n", "3:19", KEY),
    "authority": ("service: {ca_file: FILE}\n", "1:20", AUTHORITY),
    "authority of the broker": ("service: {}\nmqtt: {host: h, tls: true, ca_file: FILE}\n", "2:37", AUTHORITY),
    "password": ("service: {}\nmqtt: {host: h, user: u, password_file: FILE}\n", "2:41", KEY),
    "program": ("service: {}\ntools:\n  - {name: lamp, description: Lamp., command: [FILE]}\n", "3:47", PROGRAM),
}


@pytest.fixture(params=[(kind, how) for kind in KINDS for how in DAMAGES], ids=" ".join)
def damaged(request, tmp_path, monkeypatch):
    """A desk with a configuration that works, the place where it names a file, that file, and what befalls it."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    kind, how = request.param
    text, place, more = KINDS[kind]
    named = Named(tmp_path, text, **more)
    desk = Desk(tmp_path, named.text).began()
    desk.works()
    return desk, place, named, how


def test_whatever_becomes_of_a_file_while_it_runs_the_settings_stay(damaged):
    desk, place, named, how = damaged
    before = desk.edits.config
    named.damage(how)
    found = desk.sees(2 * RECHECK_S)
    if "command" in named.text:
        assert found is None, "a program may change as it likes"
        return
    assert isinstance(found, ConfigError), found
    assert str(found).startswith(f"{desk.path}:{place}: "), found
    desk.edits.reject(found)
    assert desk.sees(3 * RECHECK_S) is None, "told twice"
    named.mend()
    assert desk.sees(2 * RECHECK_S).config == before


def test_whatever_became_of_a_file_before_it_starts_it_starts(damaged, tmp_path):
    desk, place, named, how = damaged
    named.damage(how)
    again = Desk(tmp_path, named.text)
    again.edits.start()
    assert again.edits.config == desk.edits.config
    assert [line.startswith(f"{again.path}:{place}: ") for line in again.edits.mistakes] in ([True], [])
    for service in open_services(again.edits.config, patient=True):
        with suppress(LinkRefused):
            service.invitation("")
    named.mend()
    if again.edits.mistakes:
        again.edits.accept(again.sees(2 * RECHECK_S))
    assert again.edits.mistakes == []


def test_no_text_whatsoever_ends_in_anything_but_a_sentence(tmp_path, monkeypatch):
    """Every key that takes a text, with what people never write; services, too, as far as no socket is needed."""
    for service in SERVICES:
        monkeypatch.setenv(key_variable(service), "k")

    @settings(max_examples=300)
    @given(config=st.fixed_dictionaries({}, optional=ODD))
    def odd(config: dict[str, dict[str, str]]) -> None:
        config["service"] = {"model": "m"} | config.get("service", {})
        desk = Desk(tmp_path, yaml.safe_dump(config, allow_unicode=True))
        try:
            desk.edits.start()
        except InternalError as error:
            pytest.fail(str(error.__cause__))
        except ConfigError:
            return
        needs_rebuild(Config(), desk.edits.config)
        for service in open_services(desk.edits.config):
            service.session()
            if service.invitation("") is None:
                service.endpoint(None, "x")
            Dialer("x", ca_file=service.ca_file).close()

    odd()


ADDRESSES = st.sampled_from(
    ["wss://[", "wss://[::1", "wss://a:99999/", "wss://a..b/", f"wss://{'a' * 70}.com/", "wss://\u0130.com/", "wss://.a/",
     "ws://[::ffff:10.0.0.1]/", "wss://[fe80::1%25eth0]/", "https://[v1.a]/", "wss://\uff0e/", "wss://a:\u0661/", "http://a",
     "https://a/", "wss://%00/", "wss://a\\b/", "wss://a?x=[", "wss://1.2.3.4.5/", "ws://0x7f.1/", "wss://\u2100/"]
)  # fmt: skip
FILES = st.sampled_from(
    ["~", "~/x", "~root/x", "~nosuchuser/x", "~\u00e9/x", "/", "/dev/null", ".", "a" * 300, "/proc/self/mem",
     "/etc/shadow", "\u00e9", "/dev/zero", "/dev/stdin", "~" + "a" * 5000]
)  # fmt: skip
TEXTS = st.text(max_size=20) | st.sampled_from(["\u202e", "\ud800", "\x1b[2J", "\u200c", "&x=1#", "x" * 5000])
ODD = {
    "service": st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(list(SERVICES)), "url": ADDRESSES, "token_url": ADDRESSES, "api_key_file": FILES,
            "ca_file": FILES, "token_key_file": FILES, "model": TEXTS, "voice": TEXTS, "instructions": TEXTS,
        },
    ),
    "mqtt": st.fixed_dictionaries(
        {"host": st.sampled_from(["h", "a" * 70, "..", "-", "\u0130", "::::", "_", ".a", "a.", "1.2.3.4.5"])},
        optional={"name": TEXTS, "discovery": TEXTS, "user": TEXTS, "password_file": FILES, "ca_file": FILES,
                  "tls": st.booleans()},
    ),
    "microphone": st.fixed_dictionaries({"device": TEXTS | FILES.map("wav:{}".format)}),
    "speaker": st.fixed_dictionaries({"device": TEXTS | FILES.map("wav:{}".format)}),
}  # fmt: skip


def test_a_disk_that_takes_nothing_is_told_once(desk, caplog):
    desk.kept.parent.write_text("in the way")
    desk.works()
    desk.works()
    assert caplog.text.count("cannot be written") == 1


# Words ----------------------------------------------------------------------------------------------------------------


def test_a_mistake_that_names_a_key_or_its_file_is_put_in_its_place(tmp_path):
    places = {"service": (1, 1), "service.ca_file": (2, 5), "button.pin": (7, 9)}
    loaded = LoadedConfig(Config(service=ServiceConfig(ca_file="/etc/ca.pem")), "", places)
    for text, place in [
        ("button on GPIO4: in use; choose another button.pin", "7:9: "),
        ("/etc/ca.pem holds no certificate", "2:5: "),
        ("nothing is known", " "),
    ]:
        assert str(located(DeviceFailed(text), Path("c"), loaded)) == f"c:{place}{text}"


def test_differences_are_told_by_key_also_within_lists():
    one = Config(fallback=(ServiceConfig(),))
    assert differences(one, one) == []
    assert differences(one, Config(fallback=(ServiceConfig(voice="x"),))) == ["fallback[0].voice"]
    assert "fallback[0].name" in differences(one, Config())
    assert differences(Config(), Config(talk=TalkConfig(vad=0, end="service"))) == ["talk.end", "talk.vad"]


def test_leaves_are_every_key():
    names = [key for key, _ in leaves(Config())]
    assert len(names) == len(set(names))
    assert {"service.voice", "tools", "fallback", "talk.vad", "cues.play"} <= set(names)
