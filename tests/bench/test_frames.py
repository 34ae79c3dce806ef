"""The frames that are counted do what they say, and the comparison can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench import frames as bench_frames
from tests.bench.frame_kinds import KINDS, UNAVAILABLE
from tests.bench.frames import FRAMES, YARDSTICK, Count, compared, judged, keep, report, surroundings


def counts(**kinds: float) -> dict[str, Count]:
    return {kind: Count(instructions, 0.0) for kind, instructions in kinds.items()}


@pytest.fixture
def nothing_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_frames, "KEPT", tmp_path / "frames.json")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_does_what_it_says(kind):
    done = subprocess.run(
        [sys.executable, str(FRAMES), kind, "60"],
        env=surroundings(bench_frames.PROJECT),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, UNAVAILABLE), done.stderr


def test_a_kind_that_has_grown_is_a_mistake(nothing_kept, capsys):
    keep("3.11", counts(yardstick=50, idle=100, talking=100))
    assert report(counts(yardstick=50, idle=126, talking=79), {}, "3.11", keep_them=False) == 1
    said = capsys.readouterr().out
    assert "GROWN: idle takes 1.26 times" in said
    assert "better: talking takes 0.79" in said


def test_noise_is_no_mistake(nothing_kept, capsys):
    keep("3.11", counts(yardstick=50, idle=100))
    assert report(counts(yardstick=50, idle=120), {}, "3.11", keep_them=False) == 0
    assert "GROWN" not in capsys.readouterr().out


def test_a_python_that_was_built_in_another_way_is_no_mistake():
    kept = {YARDSTICK: 50, "idle": 100}
    assert compared(counts(yardstick=75, idle=150), kept) == {"idle": 1.0}
    assert compared(counts(yardstick=25, idle=100), kept) == {"idle": 2.0}
    assert judged({"idle": 1.0}) == []


def test_what_was_not_kept_is_not_compared(nothing_kept, capsys):
    keep("3.11", counts(yardstick=50, idle=100))
    assert report(counts(yardstick=50, idle=900), {}, "3.12", keep_them=False) == 0
    assert "nothing is kept for Python 3.12" in capsys.readouterr().out
    assert compared(counts(yardstick=50, cancel=900), {YARDSTICK: 50, "idle": 100}) == {}
