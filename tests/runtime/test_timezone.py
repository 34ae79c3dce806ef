"""The time zone is set, and gets other rules, while the process runs. Real zone files, and the C library."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.runtime import timezone
from device_agent.runtime.timezone import follow_timezone
from device_agent.state.alarms import Alarms
from device_agent.state.store import StateStore

ZONES = Path(timezone.ZONES)
NAMES = ["Europe/London", "America/New_York", "Asia/Tokyo", "Asia/Kolkata", "Pacific/Auckland"]
NOON = 1782216000.0  # 2026-06-23 12:00 UTC

pytestmark = pytest.mark.skipif(not (ZONES / NAMES[0]).exists(), reason="this machine knows no time zones")


@pytest.fixture
def move(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Return what puts another zone in the place of the one of this machine, as timedatectl does."""
    link = tmp_path / "localtime"

    def set_zone(name: str) -> None:
        new = tmp_path / "new"
        new.symlink_to(ZONES / name)
        new.replace(link)

    set_zone("Etc/UTC")
    with monkeypatch.context() as patched:
        patched.setenv("TZ", f":{link}")
        follow_timezone()
        yield set_zone
    follow_timezone()


def shown(wall: float) -> str:
    return time.strftime("%a %H:%M", time.localtime(wall))


def test_the_clock_is_that_of_the_zone_as_it_is_now(move):
    assert shown(NOON) == "Tue 12:00"
    assert not follow_timezone()
    for name, local in [("America/New_York", "Tue 08:00"), ("Asia/Tokyo", "Tue 21:00"), ("Asia/Kolkata", "Tue 17:30")]:
        move(name)
        assert follow_timezone()
        assert shown(NOON) == local
        assert not follow_timezone()


def test_new_rules_of_the_same_zone_count(move, tmp_path):
    """What an upgrade of tzdata does: another file of the same name."""
    zone = tmp_path / "zone"
    shutil.copy(ZONES / "Europe/London", zone)
    os.environ["TZ"] = str(zone)
    follow_timezone()
    shutil.copy(ZONES / "Asia/Tokyo", tmp_path / "upgraded")
    (tmp_path / "upgraded").replace(zone)
    assert follow_timezone()
    assert shown(NOON) == "Tue 21:00"


def test_a_zone_by_name_and_one_that_is_spelled_out(move):
    for name, local in [("Asia/Tokyo", "Tue 21:00"), ("CET-1CEST,M3.5.0,M10.5.0/3", "Tue 14:00"), ("", "Tue 12:00")]:
        os.environ["TZ"] = name
        assert follow_timezone()
        assert shown(NOON) == local


def test_an_alarm_rings_at_its_time_in_the_zone_as_it_is_then(move):
    alarms = Alarms(StateStore(None))
    alarms.set_alarm(7, 0, range(7), wall=NOON, steady=0.0)
    for name in (name for two in itertools.permutations(NAMES, 2) for name in two):
        move(name)
        alarms.due(NOON, 0.0)
        (waiting,) = alarms.all(NOON, 0.0)
        assert shown(waiting.at).endswith("07:00")
        assert 0 < waiting.left <= 24 * 3600


def test_names_of_the_same_zone():
    for name in ("Europe/London", ":Europe/London", "/etc/localtime", ":/etc/localtime"):
        other = timezone._spelled_anew(name)
        assert other != name.lstrip(":")
        assert timezone._spelled_anew(other) == name.lstrip(":")
