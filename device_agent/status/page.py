"""How the status of an agent looks. The only file that knows rich.

Colours are of middle brightness, so that they are legible on a dark and on a light terminal; no background is ever set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

GREEN, GREY, VIOLET, AMBER, BLUE, RED = "#26994d", "#808080", "#9b5de5", "#b87708", "#3a86d0", "#d64550"
MAX_COLUMNS, MIN_COLUMNS = 120, 40
PAGE_COLUMNS = 80
"""Columns."""

MOOD_COLOURS = {
    "listening": GREEN,
    "thinking": VIOLET,
    "speaking": BLUE,
    "follow-up": GREEN,
    "starting": AMBER,
    "muted": AMBER,
    "mistake": AMBER,
    "offline": RED,
    "refused": RED,
    "trouble": RED,
}
PART_COLOURS = {"listening": GREEN, "silence": GREY, "service": VIOLET, "loudspeaker": AMBER, "speaking": BLUE}
PART_LABELS = {
    "listening": "you",
    "silence": "silence",
    "service": "service",
    "loudspeaker": "buffer",
    "speaking": "answer",
}
OUTCOME_LABELS = {"open": "now", "interrupted": "cut short", "given up": "no answer"}
OUTCOME_COLOURS = {"open": GREEN, "given up": RED, "interrupted": VIOLET}
STEP_LABELS = {
    "end_of_turn": ("silence that ends a turn", "silence"),
    "acknowledged": ("turn acknowledged", "service"),
    "first_sound": ("first sound arrives", "service"),
    "loudspeaker": ("sound at the loudspeaker", "loudspeaker"),
}
"""What each is called, and the part of a turn that has its colour."""
AXIS_TICKS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds between two marks of the axis."""
MIN_AXIS_S = 4.0
"""The axis is at least so long."""
LOUDEST_DB, FLOOR_DB = 0.0, -60.0
LOUDNESS = ((-12.0, GREEN), (-3.0, AMBER), (LOUDEST_DB, RED))
"""Up to so many dBFS, this colour: speech, loud speech, what will clip."""
FALL_DB_PER_SNAPSHOT = 4.0
"""How much a level falls from one snapshot to the next, so that an eye can follow."""
NOTICEABLE_PREFILL_MS = 80
"""A wait for the beginning of an answer that is worth a word: people notice it, and a bad radio link causes it."""
WAITS_LINES = 34
"""Lines of a terminal that has room for the table of waits."""
AROUND, FEW = 2, 3
"""Lines around the turns, legend and axis; and how few turns are too few to have anything below them."""
SHAPES = {True: {"dot": "●", "bar": "▄", "line": "━", "rest": "─", "mark": "╵"}}
SHAPES[False] = {"dot": "*", "bar": "=", "line": "=", "rest": "-", "mark": "|"}
"""What things are drawn with, on a terminal that knows more than ASCII, and on one that does not."""

Snapshot = dict[str, Any]


class StatusPage:
    """Draws on *out*. Belongs to one thread."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False)
        self._shapes = SHAPES[self._console.encoding.lower().startswith("utf")]
        self._live: Live | None = None
        self._levels: dict[str, float] = {}

    def print(self, snapshot: Snapshot) -> None:
        """Print one page, at most PAGE columns wide."""
        self._console.width = min(PAGE_COLUMNS, self._console.width)
        self._console.print(_crop(self.page(snapshot, self._console.width)))

    @contextmanager
    def live(self) -> Iterator[None]:
        """Take the whole terminal, and give it back as it was."""
        with Live(console=self._console, screen=True, auto_refresh=False) as self._live:
            yield
        self._live = None

    def show(self, snapshot: Snapshot) -> None:
        """Show *snapshot* on the whole terminal."""
        self._update(self.view(snapshot, *self._size()))

    def wait(self, why: str) -> None:
        """Show that there is nothing to see, and *why*."""
        self._levels.clear()
        first, *more = why.split("\n")
        lines = [Text.assemble((self._shapes["dot"], RED), " ", (first, "bold"))]
        lines += [Text(f"  {line}") for line in more]
        lines += [Text(), Text("  It is shown as soon as it is there. q quits.", GREY)]
        self._update(lines)

    def _size(self) -> tuple[int, int]:
        return min(MAX_COLUMNS, max(MIN_COLUMNS, self._console.width)), self._console.height

    def _update(self, lines: list[Text]) -> None:
        if self._live is not None:
            self._live.update(_crop(lines), refresh=True)

    # What is on it ----------------------------------------------------------------------------------------------------

    def page(self, snapshot: Snapshot, width: int) -> list[Text]:
        """Return everything, as tall as it takes."""
        parts = [*self._title(snapshot, width), Text(), *self._facts(snapshot, width)]
        if snapshot["latency"]["turns"]:
            parts += [Text(), *_waits(snapshot["latency"], width, self._shapes["bar"])]
        if snapshot["turns"]:
            parts += [Text(), *self._turns(snapshot["turns"][-6:], width)]
        return parts

    def view(self, snapshot: Snapshot, width: int, height: int) -> list[Text]:
        """Return what fits on a terminal of this size, and changes while one looks."""
        above = [*self._title(snapshot, width), Text(), *self._meters(snapshot, width), Text()]
        below = [Text(), *self._facts(snapshot, width)]
        if height >= WAITS_LINES and snapshot["latency"]["turns"]:
            below = [Text(), *_waits(snapshot["latency"], width, self._shapes["bar"]), *below]
        below.append(_both("", "q quits", width, GREY))
        room = height - len(above) - len(below) - AROUND
        if room < FEW:
            room, below = height - len(above) - AROUND, []
        shown = snapshot["turns"][-room:] if room > 0 else []
        turns = self._turns(shown, width) if shown else [Text("  no turn yet" if room > 0 else "", GREY)]
        fill = [Text() for _ in range(room + AROUND - len(turns))]  # what is below stays where it is
        return [*above, *turns, *fill, *below]

    def _title(self, snapshot: Snapshot, width: int) -> list[Text]:
        mood = snapshot["mood"]
        left = Text.assemble((self._shapes["dot"], MOOD_COLOURS.get(mood, GREEN)), " ", (mood, "bold"))
        left.append(f" for {duration(snapshot['mood_s'])}", GREY)
        if snapshot["ringing"]:
            left.append("  an alarm rings", f"bold {AMBER}")
        right = Text(f"device-agent {snapshot['version']}, up {duration(snapshot['uptime_s'])}", GREY)
        service = Text("  " + _connection(snapshot), GREY)
        return [_line(left, right, width), service]

    def _meters(self, snapshot: Snapshot, width: int) -> Iterator[Text]:
        levels = snapshot["levels"] or {}
        for name, label in (("microphone", "microphone"), ("speaker", "loudspeaker")):
            level = levels.get(name, FLOOR_DB)
            self._levels[name] = level = max(level, self._levels.get(name, FLOOR_DB) - FALL_DB_PER_SNAPSHOT, FLOOR_DB)
            yield self._meter(label, level, _note(snapshot, name, level), width)

    def _meter(self, label: str, level: float, note: str, width: int) -> Text:
        room = width - 14 - 12
        filled = round(room * (level - FLOOR_DB) / (LOUDEST_DB - FLOOR_DB))
        line = Text.assemble((f"  {label:12}", GREY))
        before = 0
        for loud, colour in LOUDNESS:
            until = min(filled, round(room * (loud - FLOOR_DB) / (LOUDEST_DB - FLOOR_DB)))
            line.append(self._shapes["line"] * (until - before), colour)
            before = max(before, until)
        line.append(self._shapes["rest"] * (room - filled), GREY)
        line.append(f"{note:>12}", GREY)
        return line

    def _facts(self, snapshot: Snapshot, width: int) -> Iterator[Text]:
        """Return what there is to tell in words."""
        for label, text in _words(snapshot):
            for number, line in enumerate(text.wrap(self._console, width - 16)):
                yield Text.assemble((f"  {label if number == 0 else '':14}", GREY), line)

    def _turns(self, turns: list[Snapshot], width: int) -> list[Text]:
        """Return a legend, a line for each turn, the latest first, and an axis: all to one scale."""
        room = width - 12 - 25
        longest = max(sum(length for _, length in turn["segments"]) for turn in turns)
        tick = next((tick for tick in AXIS_TICKS_S if max(longest, MIN_AXIS_S) / tick <= room / 9), AXIS_TICKS_S[-1])
        scale = room / max(longest, MIN_AXIS_S)
        legend = Text.assemble(("  last turns  ", GREY))
        for part, colour in PART_COLOURS.items():
            legend.append(self._shapes["bar"], colour).append(f" {PART_LABELS[part]}  ", GREY)
        rows = [legend, *(self._turn(turn, room, scale) for turn in reversed(turns))]
        return [*rows, self._axis(room, scale, tick)]

    def _turn(self, turn: Snapshot, room: int, scale: float) -> Text:
        line = Text.assemble((f"{ago(turn['ago_s']):>10}  ", GREY))
        at = 0.0
        for part, length in turn["segments"]:
            columns = min(room, round((at + length) * scale)) - min(room, round(at * scale))
            line.append(self._shapes["bar"] * columns, PART_COLOURS.get(part, GREY))
            at += length
        line.append(" " * (room - min(room, round(at * scale))))
        line.append(f"{milliseconds(turn['wait_ms']):>10}", "bold")
        outcome = turn["outcome"]
        return line.append(f"  {OUTCOME_LABELS.get(outcome, outcome)}", OUTCOME_COLOURS.get(outcome, GREY))

    def _axis(self, room: int, scale: float, tick: float) -> Text:
        line = ""
        for number in range(int(room / scale / tick) + 1):
            mark = f"{self._shapes['mark']}{number * tick:g} s"
            at = round(number * tick * scale)
            if at + len(mark) < room:
                line = line.ljust(at) + mark
        return Text(f"{'':12}{line:{room}}you waited", GREY)


def _note(snapshot: Snapshot, device: str, level: float) -> str:
    if any(lost["device"] == device for lost in snapshot["lost"]):
        return "lost"
    if device == "microphone" and snapshot["muted"]:
        return "muted"
    return f"{level:.0f} dB" if level > FLOOR_DB else "silent"


def _connection(snapshot: Snapshot) -> str:
    if snapshot["connected"]["now"]:
        return f"connected to {snapshot['service']} for {duration(snapshot['connected']['for_s'])}"
    if snapshot["mood"] in {"listening", "thinking"}:
        return "connecting"
    return "no connection" + (
        ", none is needed" if snapshot["mood"] in {"ready", "follow-up", "muted", "mistake"} else ""
    )


def _crop(lines: Iterable[Text]) -> Group:
    """Return what is printed: each line is one, however wide."""
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines)


def _words(snapshot: Snapshot) -> list[tuple[str, Text]]:
    return [
        ("today", _today(snapshot["connected"])),
        ("since start", _counted(snapshot["counts"])),
        ("sound", _sound(snapshot)),
        ("troubles", _troubles(snapshot)),
        ("settings", _configuration(snapshot["config"])),
    ]


def _today(connected: Snapshot) -> Text:
    text = Text(about(connected["today_s"]))
    if connected["cap_s"]:
        text.append(f" of {about(connected['cap_s'])}", RED if connected["spent"] else "")
    price = connected["price_per_minute"]
    text.append(" connected" + (f", for {connected['cost_today']:.2f}" if price else ""))
    text.append(f"; in all {about(connected['total_s'])}", GREY)
    return text.append(f", for {connected['cost_total']:.2f}" if price else "", GREY)


def _counted(counts: Snapshot) -> Text:
    words = [
        some(counts["turns"], "turn"),
        some(counts["replies"], "answer"),
        f"{counts['interruptions']} cut short" if counts["interruptions"] else "",
        some(counts["tool_calls"], "tool call") if counts["tool_calls"] else "",
        some(counts["nothing_said"], "press", "presses") + " without a word" if counts["nothing_said"] else "",
    ]
    return Text(", ".join(filter(None, words)))


def _sound(snapshot: Snapshot) -> Text:
    text = Text(f"volume {snapshot['volume']}, ")
    if snapshot["muted"]:
        text.append("microphone muted", AMBER)
    else:
        lost = any(lost["device"] == "microphone" for lost in snapshot["lost"])
        text.append("no microphone" if lost else "microphone open", RED if lost else "")
    if snapshot["prefill_ms"] >= NOTICEABLE_PREFILL_MS:
        text.append(f", answers begin {snapshot['prefill_ms']} ms later, or they would stop in the middle", AMBER)
    return text


TROUBLES = {
    "given_up": ("turn without an answer", "turns without an answer"),
    "reconnects": ("broken connection", "broken connections"),
    "refusals": ("refusal", "refusals"),
    "service_errors": ("complaint of the service", "complaints of the service"),
    "device_losses": ("lost sound device", "lost sound devices"),
    "overflows": ("gap in the microphone", "gaps in the microphone"),
    "underruns": ("gap in the loudspeaker", "gaps in the loudspeaker"),
    "starved": ("gap in the replies", "gaps in the replies"),
}


def _troubles(snapshot: Snapshot) -> Text:
    text = Text()
    for lost in snapshot["lost"]:
        text.append(f"the {lost['device']} has been gone for {duration(lost['for_s'])}; ", f"bold {RED}")
    counts = snapshot["counts"]
    words = (some(counts[name], *called) for name, called in TROUBLES.items() if counts[name])
    text.append(", ".join(words) or "none")
    if error := snapshot["last_error"]:
        text.append(f"\n{ago(error['age_s'])} ago: ", GREY).append(error["text"])
    return text


def _configuration(config: Snapshot) -> Text:
    text = Text(config["file"])
    if config["state"] != "in use":
        text.append(f", {config['state']}", f"bold {AMBER}")
        for mistake in config["mistakes"][:3]:
            text.append(f"\n{mistake}")
    return text


def _waits(latency: Snapshot, width: int, bar: str) -> list[Text]:
    """Return how long an answer takes, split into what the device does and what the service does."""
    steps = {step["name"]: step for step in latency["steps"]}
    rows = [
        Text.assemble(
            ("  the wait      ", GREY),
            f"{'of the last ' + some(latency['turns'], 'answer'):29}",
            (f"{'median':>8}  {'99 %':>8}", GREY),
        )
    ]
    scale = max(0, min(width, MAX_COLUMNS) - 68) / (steps["whole"]["median_ms"] or 1.0)
    at = 0.0
    for name, (called, part) in STEP_LABELS.items():
        length = steps[name]["median_ms"] or 0.0
        begin = round(at * scale)
        end = max(begin + bool(length), round((at + length) * scale))
        at += length
        rows.append(_step(steps[name], called).append(" " * begin).append(bar * (end - begin), PART_COLOURS[part]))
    rows += [_step(steps[name], "in all") for name in ("device", "service")]
    rows.append(_step({**steps["whole"], "where": "you wait"}, "", "bold"))
    return rows


def _step(step: Snapshot, called: str, style: str = "") -> Text:
    figures = (f"{milliseconds(step[which]):>8}  " for which in ("median_ms", "p99_ms"))
    return Text.assemble((f"  {step['where']:12}  ", GREY), f"{called:29}", ("".join(figures), style), " ")


def _line(left: Text, right: Text, width: int) -> Text:
    """Return both on one line, *right* at its end if there is room for it."""
    room = width - left.cell_len - right.cell_len
    return Text.assemble(left, " " * room, right) if room > 0 else left


def _both(left: str, right: str, width: int, style: str) -> Text:
    return _line(Text(left, style), Text(right, style), width)


def some(count: int, one: str, many: str = "") -> str:
    """Return "1 turn", "2 turns"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return "42 s", "3 min 5 s", "2 h 5 min", "3 d 4 h"."""
    whole = int(seconds)
    for unit, name, below, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def about(seconds: float) -> str:
    """Return ``duration`` without seconds, unless it is that short."""
    return duration(seconds - seconds % 60 if seconds >= 60 else seconds)


def ago(seconds: float) -> str:
    """Return the larger unit of ``duration`` alone."""
    return " ".join(duration(seconds).split()[:2])


def milliseconds(value: float | None) -> str:
    """Return "950 ms", "1.35 s", or "" where there is nothing."""
    if value is None:
        return ""
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
