"""How the status of an agent looks."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len

from device_agent.status import page
from device_agent.status.page import StatusPage, about, ago, duration, milliseconds, some
from device_agent.telemetry.statistics import latency
from device_agent.telemetry.turn_timing import TurnTimes
from tests.support.status import QUIET


def turn(ago_s: float, outcome: str = "answered", **segments: float) -> dict[str, Any]:
    parts = [list(each) for each in segments.items()]
    return {"ago_s": ago_s, "segments": parts, "outcome": outcome, "wait_ms": 953.0 if "speaking" in segments else None}


BUSY: dict[str, Any] = {
    **QUIET,
    "uptime_s": 86400 * 400.0,
    "mood": "trouble",
    "ringing": True,
    "service": "litellm at a-proxy-with-a-long-name.home.example.org:4000",
    "muted": True,
    "prefill_ms": 400,
    "config": {
        "file": "/home/somebody/with/a/long/name/and/many/directories/below/it/config.yaml",
        "state": "wrong edit",
        "mistakes": ["/etc/device-agent/config.yaml:12:3: talk.silense_ms is unknown; did you mean silence_ms?"] * 9,
    },
    "connected": {
        "now": True,
        "for_s": 754.0,
        "today_s": 3599.0,
        "total_s": 86400 * 90.0,
        "cap_s": 3600.0,
        "spent": True,
        "price_per_minute": 0.05,
        "cost_today": 3.0,
        "cost_total": 6480.0,
    },
    "counts": dict.fromkeys(QUIET["counts"], 123456),
    "latency": latency([TurnTimes(0.0, 5.0, 0.7, 5.1, 5.0 + n / 50, 5.1 + n / 50) for n in range(100)]),
    "lost": [{"device": "microphone", "for_s": 75.0}, {"device": "speaker", "for_s": 7.0}],
    "last_error": {"kind": "link", "text": "the connection broke " * 9, "age_s": 200.0},
    "turns": [
        turn(900.0, listening=60.0, silence=0.7, service=22.0, loudspeaker=0.1, speaking=600.0),
        *[turn(80.0 - n, "interrupted", listening=2.0, silence=0.7, service=0.5, speaking=1.0) for n in range(17)],
        turn(9.0, "nothing said", listening=5.0),
        turn(1.0, "open", listening=1.0),
    ],
    "levels": {"microphone": -20.0, "speaker": -96.0},
}

ODD = [QUIET, BUSY, {**BUSY, "turns": BUSY["turns"][-1:]}, {**QUIET, "turns": [turn(0.0, "open", listening=0.0)]}]


def drawn(snapshot: dict[str, Any], width: int, height: int = 0, encoding: str = "utf-8") -> list[str]:
    """Return the lines of a page, or of a view where a *height* is given."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    made = StatusPage(out)
    made._console.width = width
    if height:
        made._console.height = height
        made._console.print(made.view(snapshot, min(120, max(40, width)), height))
    else:
        made.print(snapshot)
    out.seek(0)
    return out.read().splitlines()


@pytest.mark.parametrize("snapshot", ODD)
@pytest.mark.parametrize("width", [200, 80, 60])
def test_a_page_is_eighty_columns_at_most(snapshot, width):
    assert max(cell_len(line) for line in drawn(snapshot, width)) <= min(width, 80)


@pytest.mark.parametrize("snapshot", ODD)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (300, 100), (80, 12), (60, 20)])
def test_a_view_fits_on_its_terminal(snapshot, width, height):
    lines = drawn(snapshot, width, height)
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 5), (39, 7)])
def test_a_tiny_terminal_breaks_nothing(width, height):
    for snapshot in ODD:
        assert drawn(snapshot, width, height)


def test_what_matters_is_on_the_page():
    text = "\n".join(drawn(BUSY, 80))
    for words in (
        "trouble",
        "an alarm rings",
        "59 min of 1 h connected, for 3.00; in all 90 d, for 6480.00",
        "microphone muted, answers begin 400 ms later",
        "the microphone has been gone for 1 min 15 s",
        "3 min ago: the connection broke",
        "wrong edit",
        "talk.silense_ms is unknown",
        "cut short",
        "nothing said",
    ):
        assert words in text, words


def test_a_quiet_page_is_short_and_knows_no_price():
    lines = drawn(QUIET, 80)
    assert [line.split() for line in lines if "troubles" in line] == [["troubles", "none"]]
    assert "for 0.00" not in "\n".join(lines)
    assert "later" not in "\n".join(lines)
    assert "none is needed" in lines[1]
    assert len(lines) < 10


def test_waits_are_split_into_device_and_service():
    rows = {tuple(line.split()[:3]): line for line in drawn(BUSY, 80)}
    assert "700 ms" in rows["device", "silence", "that"]
    assert "880 ms" in rows["service", "first", "sound"]
    assert "800 ms" in rows["device", "in", "all"]
    assert "980 ms" in rows["service", "in", "all"]
    assert "1.78 s" in rows["you", "wait", "1.78"]


def test_turns_are_drawn_to_one_scale_the_latest_first():
    turns = [turn(20.0, listening=4.0, silence=1.0, service=2.0, speaking=3.0), turn(5.0, listening=5.0)]
    lines = drawn({**QUIET, "turns": turns}, 80)
    at = next(n for n, line in enumerate(lines) if "last turns" in line)
    later, earlier = (line.count("▄") for line in lines[at + 1 : at + 3])
    assert abs(earlier - 2 * later) <= 1
    assert lines[at + 1].strip().startswith("5 s")
    assert "╵5 s" in lines[at + 3]
    assert lines[at + 3].index("╵5 s") == pytest.approx(lines[at + 1].rindex("▄") + 1, abs=1)


def test_a_level_falls_slowly_and_rises_at_once():
    made = StatusPage(io.StringIO())
    lengths = []
    for level in (-96.0, -6.0, -96.0, -96.0):
        snapshot = {**QUIET, "levels": {"microphone": level, "speaker": -96.0}}
        lengths.append(sum(segment.text.count("━") for line in made.view(snapshot, 80, 24).lines for segment in line))
    assert lengths[0] == 0
    assert lengths[1] > lengths[2] > lengths[3] > lengths[1] / 2


def test_a_terminal_that_knows_only_ascii_gets_ascii():
    for lines in (drawn(BUSY, 80, encoding="ascii"), drawn(BUSY, 120, 40, encoding="ascii")):
        assert "\n".join(lines).isascii()


def _light(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["#ffffff", "#fdf6e3", "#000000", "#1e1e1e", "#002b36", "#282c34"])
def test_each_colour_is_legible_on_dark_and_on_light(ground):
    """The contrast of the Web Content Accessibility Guidelines for large text and graphics is 3 to 1."""
    for colour in (*page.MOOD_COLOURS.values(), *page.PART_COLOURS.values(), page.GREY):
        brighter, darker = sorted((_light(colour), _light(ground)), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 3, (colour, ground)


def test_figures_are_words():
    assert [duration(s) for s in (0.4, 59.9, 60, 185, 7500, 90000)] == [
        "0 s",
        "59 s",
        "1 min",
        "3 min 5 s",
        "2 h 5 min",
        "1 d 1 h",
    ]
    assert [about(s) for s in (42.0, 185.0, 7500.0)] == ["42 s", "3 min", "2 h 5 min"]
    assert [ago(s) for s in (42.0, 185.0, 90000.0)] == ["42 s", "3 min", "1 d"]
    assert [milliseconds(v) for v in (None, 0.44, 44.4, 1350.0)] == ["", "0.4 ms", "44 ms", "1.35 s"]
    assert [some(1, "turn"), some(2, "turn"), some(2, "press", "presses")] == ["1 turn", "2 turns", "2 presses"]
