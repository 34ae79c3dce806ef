"""Edits of config.yaml: noticed, judged, told once; and the last good one, kept. Real files, no thread, no clock."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from device_agent.config import Config, ServiceConfig, TalkConfig
from device_agent.edits import KEPT, Edits, Reading, differences, leaves, located
from device_agent.errors import ConfigError, DeviceFailed


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", "k")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class Desk:
    """A file that somebody edits, and who watches it."""

    def __init__(self, folder: Path, text: str = "talk: {vad: 1}\n") -> None:
        self.path, self.kept = folder / "config.yaml", folder / "state" / KEPT
        self.path.write_text(text)
        self.edits = Edits(self.path, self.kept)

    def began(self) -> Desk:
        self.edits.begin()
        assert self.edits.look() is None
        return self

    def save(self, text: str) -> None:
        self.path.write_text(text)

    def looks(self) -> Reading | ConfigError | None:
        """Look twice, as often as it takes to believe."""
        assert self.edits.look() is None, "believed at once"
        return self.edits.look()


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
    assert isinstance(found, Reading)
    assert found.config.talk.vad == 3
    assert desk.edits.look() is None, "told twice"


def test_what_a_link_in_the_way_leads_to_is_watched(tmp_path):
    for name, vad in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"talk: {{vad: {vad}}}\n")
    (tmp_path / "now").symlink_to("one")
    edits = Edits(tmp_path / "now" / "config.yaml", tmp_path / KEPT)
    edits.begin()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "now")
    assert edits.look() is None
    assert edits.look().config.talk.vad == 2


def test_a_file_that_is_being_written_is_not_read_half(desk):
    for text in ("talk: {va", "talk: {vad: ", "talk: {vad: 3, sil", "talk: {vad: 3, silence_ms: 900}\n"):
        desk.save(text)
        assert desk.edits.look() is None
    assert desk.edits.look().config.talk == TalkConfig(vad=3, silence_ms=900)


def test_a_half_file_that_stays_is_a_mistake_until_it_is_whole(desk):
    desk.save("talk: {vad: ")
    found = desk.looks()
    assert str(found).startswith(f"{desk.path}:1:13: is not YAML")
    desk.save("talk: {vad: 2}\n")
    assert desk.looks().config.talk.vad == 2


def test_a_change_while_it_is_read_is_noticed(desk, monkeypatch):
    from device_agent import edits as module

    def read(path: Path) -> str:
        text = path.read_text()
        desk.save("talk: {vad: 0}\n")
        return text

    desk.save("talk: {vad: 3}\n")
    assert desk.edits.look() is None
    with monkeypatch.context() as patched:
        patched.setattr(module, "read", read)
        assert desk.edits.look().config.talk.vad == 3
    assert desk.looks().config.talk.vad == 0


def test_nothing_is_read_while_nothing_changes(desk, monkeypatch):
    monkeypatch.setattr("device_agent.edits.read", lambda _path: pytest.fail("read"))
    assert [desk.edits.look() for _ in range(5)] == [None] * 5


def test_a_signal_reads_it_again_changed_or_not(desk):
    desk.edits.ask()
    assert desk.edits.look().config == desk.edits.config
    assert desk.edits.look() is None


def test_a_file_that_vanished_is_told_once_and_noticed_when_it_is_back(desk, caplog):
    desk.path.unlink()
    desk.edits.refuse(desk.looks())
    assert desk.edits.mistakes == [f"{desk.path}: cannot be read: No such file or directory"]
    assert [desk.edits.look() for _ in range(3)] == [None] * 3
    assert desk.edits.config.talk.vad == 1
    desk.save("talk: {vad: 3}\n")
    assert desk.looks().config.talk.vad == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("talk: {vad: 1}\nservice:\n  api_key_file: {folder}/none\n", ":3:17: the key file"),
        ("service: {name: openai}\n", ":1:17: there is no key for openai"),
        ("fallback:\n  - voice: x\n    name: openai\n", ":3:11: there is no key for openai"),
        ("service: {voice: x}\nfallback: [{api_key_file: {folder}/open}]\n", ":2:27: others than its owner can use"),
    ],
)
def test_a_key_that_is_not_there_is_a_mistake_in_its_line(desk, tmp_path, text, said):
    (tmp_path / "open").write_text("k")
    (tmp_path / "open").chmod(0o644)
    desk.save(text.replace("{folder}", str(tmp_path)))
    found = desk.looks()
    assert isinstance(found, ConfigError)
    assert str(found).startswith(f"{desk.path}{said}"), found


def test_a_key_file_that_is_put_right_is_noticed(desk, tmp_path):
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    desk.save(f"service: {{api_key_file: {key}}}\n")
    assert isinstance(desk.looks(), ConfigError)
    key.chmod(0o600)
    assert isinstance(desk.looks(), Reading)
    key.write_text("another")
    assert isinstance(desk.looks(), Reading), "a new key is an edit, too"


def test_every_mistake_is_in_the_log_once_for_each_version(desk, caplog):
    desk.save("talk: {vad: 9, silenc_ms: 1}\n")
    found = desk.looks()
    with caplog.at_level(logging.INFO):
        desk.edits.refuse(found)
        desk.edits.refuse(found)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0].startswith(f"{desk.path}:1:13: talk.vad should be")
    assert 'did you mean "silence_ms"?' in said[1]
    assert said[2] == f"{desk.path}: the settings from before stay in use"
    assert (desk.edits.state, desk.edits.mistakes) == ("wrong edit", said[:2])


def test_what_was_taken_is_told_by_its_keys_alone(desk, caplog):
    desk.save("talk: {vad: 2}\nservice: {instructions: A secret of mine.}\n")
    with caplog.at_level(logging.INFO):
        desk.edits.take(desk.looks())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{desk.path}: taken: service.instructions, talk.vad"
    assert desk.edits.state == "in use"


def test_who_wants_to_know_is_told_of_right_and_wrong(desk):
    seen = []
    desk.edits.changed = lambda: seen.append((desk.edits.config.talk.vad, desk.edits.state))
    desk.save("talk: {vad: 2}\n")
    desk.edits.take(desk.looks())
    desk.save("talk: {vad: 9}\n")
    desk.edits.refuse(desk.looks())
    assert seen == [(2, "in use"), (2, "wrong edit")]


# The last good one ----------------------------------------------------------------------------------------------------


def test_what_the_device_runs_well_with_is_kept_for_nobody_else_to_read(desk, monkeypatch):
    desk.edits.keep()
    assert stat.S_IMODE(desk.kept.stat().st_mode) == 0o600
    assert desk.kept.read_text().endswith("\ntalk: {vad: 1}\n")
    monkeypatch.setattr("device_agent.edits.replace_whole", lambda *_: pytest.fail("written again"))
    desk.edits.keep()
    Desk.began(Desk(desk.path.parent)).edits.keep()


def test_what_is_in_use_is_kept_also_when_the_file_is_wrong_by_now(desk):
    desk.save("talk: {vad: 2}\n")
    desk.edits.take(desk.looks())
    desk.save("talk: {vad: 9}\n")
    desk.edits.refuse(desk.looks())
    desk.edits.keep()
    assert "vad: 2" in desk.kept.read_text()


def test_a_start_with_a_wrong_file_uses_the_last_good_one(desk, tmp_path, caplog):
    desk.edits.keep()
    again = Desk(tmp_path, "talk: {vad: 9}\n").began()
    assert again.edits.config.talk.vad == 1
    assert again.edits.state == "last good"
    assert again.edits.mistakes == [f"{again.path}:1:13: talk.vad should be a whole number from 0 to 3, not 9"]
    assert str(again.kept) in caplog.text
    again.edits.keep()
    again.save("talk: {vad: 3}\n")
    again.edits.take(again.looks())
    assert (again.edits.config.talk.vad, again.edits.state) == (3, "in use")


@pytest.mark.parametrize("kept", [None, "", "talk: {vad: 1}\n", "# /etc/other.yaml, as it was when it was right last."])
def test_without_a_last_good_one_of_this_file_a_wrong_start_is_an_error(tmp_path, kept):
    desk = Desk(tmp_path, "talk: {vad: 9}\n")
    if kept is not None:
        desk.kept.parent.mkdir()
        desk.kept.write_text(kept)
    with pytest.raises(ConfigError, match="not 9"):
        desk.edits.begin()


def test_a_last_good_one_that_is_wrong_by_now_is_of_no_use(desk, tmp_path):
    desk.edits.keep()
    desk.kept.write_text(desk.kept.read_text().replace("vad: 1", "vad: 8"))
    with pytest.raises(ConfigError, match="not 9"):
        Desk(tmp_path, "talk: {vad: 9}\n").edits.begin()


def test_what_cannot_be_used_is_gone_back_from(desk):
    desk.edits.keep()
    desk.save("talk: {vad: 2}\nspeaker: {device: hall}\n")
    desk.edits.take(desk.looks(), tried=False)
    assert desk.edits.on_trial("speaker.device")
    assert not desk.edits.on_trial("microphone.device"), "an edit is not to blame for what it did not touch"
    desk.edits.go_back(DeviceFailed("there is no hall"), "speaker.device")
    assert desk.edits.config.talk.vad == 1
    assert desk.edits.mistakes == [f"{desk.path}:2:19: there is no hall"]
    with pytest.raises(DeviceFailed):
        desk.edits.go_back(DeviceFailed("there is nothing"))  # and nothing to go back to


def test_what_has_proved_itself_is_not_gone_back_from(desk):
    desk.save("speaker: {device: hall}\n")
    desk.edits.take(desk.looks(), tried=False)
    desk.edits.keep()
    assert not desk.edits.on_trial("speaker.device")
    assert "hall" in desk.kept.read_text()


def test_a_configuration_that_cannot_be_assembled_at_the_start_gives_way_to_the_last_good_one(desk, tmp_path):
    desk.edits.keep()
    again = Desk(tmp_path, "echo: {mode: cancel}\n").began()
    again.edits.go_back(ConfigError("echo.mode: cancel needs a library"))
    assert again.edits.config == desk.edits.config
    assert again.edits.mistakes == [f"{again.path}:1:14: echo.mode: cancel needs a library"]
    with pytest.raises(ConfigError, match="again"):
        again.edits.go_back(ConfigError("again"))


def test_a_disk_that_takes_nothing_is_told_once(desk, caplog):
    desk.kept.parent.write_text("in the way")
    desk.edits.keep()
    desk.edits.keep()
    assert caplog.text.count("cannot be written") == 1


# Words ----------------------------------------------------------------------------------------------------------------


def test_a_mistake_that_names_a_key_or_its_file_is_put_in_its_place(tmp_path):
    places = {"service": (1, 1), "service.ca_file": (2, 5), "button.pin": (7, 9)}
    reading = Reading(Config(service=ServiceConfig(ca_file="/etc/ca.pem")), "", places)
    for text, place in [
        ("button on GPIO4: in use; choose another button.pin", "7:9: "),
        ("/etc/ca.pem holds no certificate", "2:5: "),
        ("nothing is known", " "),
    ]:
        assert str(located(DeviceFailed(text), Path("c"), reading)) == f"c:{place}{text}"


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
