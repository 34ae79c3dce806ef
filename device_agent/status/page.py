"""Status page: a snapshot as text for a terminal. The only file that imports rich.

Colours are of middle brightness, legible on a dark and on a light terminal; no background is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.segment import Segment, SegmentLines
from rich.table import Table
from rich.text import Text

from ..core.status_snapshot import (
    ConfigStatus,
    ConnectionStatus,
    Counts,
    Latency,
    LatencyStep,
    StatusSnapshot,
    TurnSummary,
)

PAGE_GREEN, GREY, VIOLET, AMBER, PAGE_BLUE, PAGE_RED = "#26994d", "#808080", "#9b5de5", "#b87708", "#3a86d0", "#d64550"
PAGE_MAX_COLUMNS, MIN_COLUMNS, PAGE_COLUMNS = 120, 40, 80

MOOD_COLOURS = {
    "thinking": VIOLET,
    "speaking": PAGE_BLUE,
    "starting": AMBER,
    "muted": AMBER,
    "mistake": AMBER,
    "offline": PAGE_RED,
    "refused": PAGE_RED,
    "trouble": PAGE_RED,
}
"""Colours of the moods that are not green."""
PART_COLOURS = {
    "listening": PAGE_GREEN,
    "silence": GREY,
    "service": VIOLET,
    "loudspeaker": AMBER,
    "speaking": PAGE_BLUE,
}
PART_LABELS = dict(zip(PART_COLOURS, ("you", "silence", "service", "buffer", "answer"), strict=True))
OUTCOME_LABELS = {"open": "now", "interrupted": "cut short", "given up": "no answer"}
OUTCOME_COLOURS = {"open": PAGE_GREEN, "given up": PAGE_RED, "interrupted": VIOLET}
STEP_LABELS = {
    "end_of_turn": ("silence that ends a turn", "silence"),
    "acknowledged": ("turn acknowledged", "service"),
    "first_sound": ("first sound arrives", "service"),
    "loudspeaker": ("sound at the loudspeaker", "loudspeaker"),
}
"""Label of each step, and the part of a turn that has its colour."""
AXIS_TICKS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
MIN_AXIS_S = 4.0
LOUDEST_DB, FLOOR_DB = 0.0, -60.0
LOUDNESS = ((-12.0, PAGE_GREEN), (-3.0, AMBER), (LOUDEST_DB, PAGE_RED))
"""Up to this level in dBFS, this colour: speech, loud speech, clipping."""
FALL_DB_PER_SNAPSHOT = 4.0
"""Decay of a meter, slow enough for an eye to follow."""
NOTICEABLE_PREFILL_MS = 80
"""A delay of the answer from which it is mentioned; a bad radio link causes it."""
WAITS_LINES = 34
"""Lines of a terminal that has room for the table of waits."""
AROUND_TURNS, MIN_TURNS = 2, 3
"""Lines around the turns, legend and axis; with fewer turns than this, nothing is shown below them."""
UNICODE_SHAPES = {"dot": "●", "bar": "▄", "line": "━", "rest": "─", "mark": "╵"}
ASCII_SHAPES = {"dot": "*", "bar": "=", "line": "=", "rest": "-", "mark": "|"}

Lines = list[list[Segment]]


class StatusPage:
    """Draws snapshots on *out*. Belongs to one thread."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False)
        self._shapes = UNICODE_SHAPES if self._console.encoding.lower().startswith("utf") else ASCII_SHAPES
        self._live: Live | None = None
        self._levels = {"microphone": FLOOR_DB, "speaker": FLOOR_DB}

    def print(self, snapshot: StatusSnapshot) -> None:
        """Print one page, at most PAGE_COLUMNS wide."""
        self._console.print(self.page(snapshot, min(PAGE_COLUMNS, self._console.width)))

    @contextmanager
    def live(self) -> Iterator[None]:
        """Take the whole terminal, and restore it afterwards."""
        with Live(console=self._console, screen=True, auto_refresh=False) as self._live:
            yield
        self._live = None

    def show(self, snapshot: StatusSnapshot) -> None:
        """Show *snapshot* on the whole terminal."""
        width = min(PAGE_MAX_COLUMNS, max(MIN_COLUMNS, self._console.width))
        self._update(self.view(snapshot, width, self._console.height))

    def wait(self, why: str) -> None:
        """Show that there is no status, and *why*."""
        self._levels = dict.fromkeys(self._levels, FLOOR_DB)
        first, *more = why.split("\n")
        lines = [Text.assemble((self._shapes["dot"], PAGE_RED), " ", (first, "bold"))]
        lines += [Text(f"  {line}") for line in more]
        lines += [Text(), Text("  It is shown as soon as it is there. q quits.", GREY)]
        self._update(SegmentLines(self._lines(self._console.width, *lines), new_lines=True))

    def _update(self, lines: SegmentLines) -> None:
        if self._live is not None:
            self._live.update(lines, refresh=True)

    def _lines(self, width: int, *blocks: RenderableType) -> Lines:
        """Return *blocks* as lines; text that is too wide is cropped, except in columns that wrap."""
        options = self._console.options.update(width=width, no_wrap=True, overflow="crop", height=None)
        return self._console.render_lines(Group(*blocks), options, pad=False)

    # Content ----------------------------------------------------------------------------------------------------------

    def page(self, snapshot: StatusSnapshot, width: int) -> SegmentLines:
        """Return everything, as tall as it is."""
        blocks: list[RenderableType] = [*self._title(snapshot, width), Text(), _facts(snapshot)]
        if snapshot["latency"]["turns"]:
            blocks += [Text(), self._waits(snapshot["latency"], width)]
        if snapshot["turns"]:
            blocks += [Text(), *self._turns(snapshot["turns"][-6:], width)]
        return SegmentLines(self._lines(width, *blocks), new_lines=True)

    def view(self, snapshot: StatusSnapshot, width: int, height: int) -> SegmentLines:
        """Return the part that fits on a terminal of this size, with the levels."""
        above = self._lines(width, *self._title(snapshot, width), Text(), self._meters(snapshot, width), Text())
        blocks: list[RenderableType] = [Text(), _facts(snapshot), Text("q quits", GREY, justify="right")]
        if height >= WAITS_LINES and snapshot["latency"]["turns"]:
            blocks = [Text(), self._waits(snapshot["latency"], width), *blocks]
        below = self._lines(width, *blocks)
        room = height - len(above) - len(below) - AROUND_TURNS
        if room < MIN_TURNS:
            room, below = height - len(above) - AROUND_TURNS, []
        shown = snapshot["turns"][-room:] if room > 0 else []
        blocks = self._turns(shown, width) if shown else [Text("  no turn yet" if room > 0 else "", GREY)]
        turns = self._lines(width, *blocks)
        fill: Lines = [[] for _ in range(room + AROUND_TURNS - len(turns))]  # what is below keeps its place
        return SegmentLines([*above, *turns, *fill, *below], new_lines=True)

    def _title(self, snapshot: StatusSnapshot, width: int) -> list[Text]:
        mood = snapshot["mood"]
        left = Text.assemble((self._shapes["dot"], MOOD_COLOURS.get(mood, PAGE_GREEN)), " ", (mood, "bold"))
        left.append(f" for {duration(snapshot['mood_s'])}", GREY)
        if snapshot["ringing"]:
            left.append("  an alarm rings", f"bold {AMBER}")
        right = Text(f"device-agent {snapshot['version']}, up {duration(snapshot['uptime_s'])}", GREY)
        room = width - left.cell_len - right.cell_len
        title = Text.assemble(left, " " * room, right) if room > 0 else left
        return [title, Text("  " + _connection(snapshot), GREY)]

    def _meters(self, snapshot: StatusSnapshot, width: int) -> Table:
        table = _table((14, "left"), (None, "left"), (12, "right"))
        levels = snapshot["levels"] or {"microphone": FLOOR_DB, "speaker": FLOOR_DB}
        for name, label, new in (
            ("microphone", "microphone", levels["microphone"]),
            ("speaker", "loudspeaker", levels["speaker"]),
        ):
            self._levels[name] = level = max(new, self._levels[name] - FALL_DB_PER_SNAPSHOT, FLOOR_DB)
            note = Text(_meter_note(snapshot, name, level), GREY)
            table.add_row(Text(f"  {label}", GREY), self._meter(level, width - 14 - 12), note)
        return table

    def _meter(self, level: float, room: int) -> Text:
        filled, line = _columns(level, room), Text()
        for loud, colour in LOUDNESS:
            line.append(self._shapes["line"] * (min(filled, _columns(loud, room)) - len(line)), colour)
        return line.append(self._shapes["rest"] * (room - filled), GREY)

    def _waits(self, latency: Latency, width: int) -> Table:
        """Return the wait for an answer, split into the steps of the device and of the service."""
        steps = {step["name"]: step for step in latency["steps"]}
        table = _table((16, "left"), (29, "left"), (8, "right"), (10, "right"), (None, "left"))
        of = f"of the last {some(latency['turns'], 'answer')}"
        table.add_row(Text("  the wait", GREY), of, Text("median", GREY), Text("99 %", GREY))
        scale = max(0, min(width, PAGE_MAX_COLUMNS) - 68) / (steps["whole"]["median_ms"] or 1.0)
        rows: list[tuple[LatencyStep, str, str, Text]] = []
        at = 0.0
        for name, (label, part) in STEP_LABELS.items():
            length = steps[name]["median_ms"] or 0.0
            begin = round(at * scale)
            end = max(begin + bool(length), round((at + length) * scale))
            at += length
            bar = Text(" " * (3 + begin)).append(self._shapes["bar"] * (end - begin), PART_COLOURS[part])
            rows.append((steps[name], steps[name]["where"], label, bar))
        rows += [(steps[name], name, "in all", Text()) for name in ("device", "service")]
        rows.append((steps["whole"], "you wait", "", Text()))
        for step, where, label, bar in rows:
            style = "" if label else "bold"
            figures = (Text(milliseconds(value), style) for value in (step["median_ms"], step["p99_ms"]))
            table.add_row(Text(f"  {where}", GREY), label, *figures, bar)
        return table

    def _turns(self, turns: Sequence[TurnSummary], width: int) -> list[RenderableType]:
        """Return a legend, a line for each turn, the latest first, and an axis, all to one scale."""
        room = width - 12 - 25
        longest = max(sum(length for _, length in turn["segments"]) for turn in turns)
        tick = next((tick for tick in AXIS_TICKS_S if max(longest, MIN_AXIS_S) / tick <= room / 9), AXIS_TICKS_S[-1])
        scale = room / max(longest, MIN_AXIS_S)
        legend = Text("  last turns  ", GREY)
        for part, colour in PART_COLOURS.items():
            legend.append(self._shapes["bar"], colour).append(f" {PART_LABELS[part]}  ", GREY)
        table = _table((10, "right"), (None, "left"), (10, "right"), (15, "left"))
        for turn in reversed(turns):
            outcome = turn["outcome"]
            table.add_row(
                Text(ago(turn["ago_s"]), GREY),
                self._segments(turn, room, scale),
                Text(milliseconds(turn["wait_ms"]), "bold"),
                Text(f"  {OUTCOME_LABELS.get(outcome, outcome)}", OUTCOME_COLOURS.get(outcome, GREY)),
            )
        table.add_row("", Text(self._axis(room, scale, tick), GREY), Text("you waited", GREY))
        return [legend, table]

    def _segments(self, turn: TurnSummary, room: int, scale: float) -> Text:
        line, at = Text("  "), 0.0
        for part, length in turn["segments"]:
            columns = min(room, round((at + length) * scale)) - min(room, round(at * scale))
            line.append(self._shapes["bar"] * columns, PART_COLOURS.get(part, GREY))
            at += length
        return line

    def _axis(self, room: int, scale: float, tick: float) -> str:
        line = ""
        for number in range(int(room / scale / tick) + 1):
            mark = f"{self._shapes['mark']}{number * tick:g} s"
            at = round(number * tick * scale)
            if at + len(mark) < room:
                line = line.ljust(at) + mark
        return f"  {line}"


def _table(*columns: tuple[int | None, JustifyMethod]) -> Table:
    """Return an empty table. The column whose width is None takes the rest of the line."""
    table = Table.grid(expand=True)
    for width, justify in columns:
        table.add_column(width=width, ratio=None if width else 1, justify=justify, no_wrap=True, overflow="crop")
    return table


def _columns(level: float, room: int) -> int:
    return round(room * (level - FLOOR_DB) / (LOUDEST_DB - FLOOR_DB))


def _meter_note(snapshot: StatusSnapshot, device: str, level: float) -> str:
    if any(lost["device"] == device for lost in snapshot["lost"]):
        return "lost"
    if device == "microphone" and snapshot["muted"]:
        return "muted"
    return f"{level:.0f} dB" if level > FLOOR_DB else "silent"


def _connection(snapshot: StatusSnapshot) -> str:
    if snapshot["connected"]["now"]:
        return f"connected to {snapshot['service']} for {duration(snapshot['connected']['for_s'])}"
    if snapshot["mood"] in {"listening", "thinking"}:
        return "connecting"
    unneeded = snapshot["mood"] in {"ready", "follow-up", "muted", "mistake"}
    return "no connection, none is needed" if unneeded else "no connection"


def _facts(snapshot: StatusSnapshot) -> Table:
    """Return what is told in words, wrapped."""
    table = Table.grid(expand=True)
    table.add_column(width=16)
    table.add_column(ratio=1, overflow="fold")
    for label, text in (
        ("today", _today(snapshot["connected"])),
        ("since start", _counted(snapshot["counts"])),
        ("sound", _sound(snapshot)),
        ("troubles", _troubles(snapshot)),
        ("settings", _configuration(snapshot["config"])),
    ):
        table.add_row(Text(f"  {label}", GREY), text)
    return table


def _today(connected: ConnectionStatus) -> Text:
    text = Text(about(connected["today_s"]))
    if connected["cap_s"]:
        text.append(f" of {about(connected['cap_s'])}", PAGE_RED if connected["spent"] else "")
    price = connected["price_per_minute"]
    text.append(" connected" + (f", for {connected['cost_today']:.2f}" if price else ""))
    text.append(f"; in all {about(connected['total_s'])}", GREY)
    return text.append(f", for {connected['cost_total']:.2f}" if price else "", GREY)


def _counted(counts: Counts) -> Text:
    words = [
        some(counts["turns"], "turn"),
        some(counts["replies"], "answer"),
        f"{counts['interruptions']} cut short" if counts["interruptions"] else "",
        some(counts["tool_calls"], "tool call") if counts["tool_calls"] else "",
        some(counts["nothing_said"], "press", "presses") + " without a word" if counts["nothing_said"] else "",
    ]
    return Text(", ".join(filter(None, words)))


def _sound(snapshot: StatusSnapshot) -> Text:
    text = Text(f"volume {snapshot['volume']}, ")
    if snapshot["muted"]:
        text.append("microphone muted", AMBER)
    else:
        lost = any(lost["device"] == "microphone" for lost in snapshot["lost"])
        text.append("no microphone" if lost else "microphone open", PAGE_RED if lost else "")
    if snapshot["prefill_ms"] >= NOTICEABLE_PREFILL_MS:
        text.append(f", answers begin {snapshot['prefill_ms']} ms later, or they would stop in the middle", AMBER)
    return text


def _troubles(snapshot: StatusSnapshot) -> Text:
    text = Text()
    for lost in snapshot["lost"]:
        text.append(f"the {lost['device']} has been gone for {duration(lost['for_s'])}; ", f"bold {PAGE_RED}")
    counts = snapshot["counts"]
    troubles = (
        (counts["given_up"], "turn without an answer", "turns without an answer"),
        (counts["reconnects"], "broken connection", ""),
        (counts["refusals"], "refusal", ""),
        (counts["service_errors"], "complaint of the service", "complaints of the service"),
        (counts["device_losses"], "lost sound device", ""),
        (counts["overflows"], "gap in the microphone", "gaps in the microphone"),
        (counts["underruns"], "gap in the loudspeaker", "gaps in the loudspeaker"),
        (counts["starved"], "gap in the replies", "gaps in the replies"),
    )
    text.append(", ".join(some(*each) for each in troubles if each[0]) or "none")
    if error := snapshot["last_error"]:
        text.append(f"\n{ago(error['age_s'])} ago: ", GREY).append(error["text"])
    return text


def _configuration(config: ConfigStatus) -> Text:
    text = Text(config["file"])
    if config["state"] != "in use":
        text.append(f", {config['state']}", f"bold {AMBER}")
        for mistake in config["mistakes"][:3]:
            text.append(f"\n{mistake}")
    return text


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
    """Return ``duration`` without seconds, unless it is less than a minute."""
    return duration(seconds - seconds % 60 if seconds >= 60 else seconds)


def ago(seconds: float) -> str:
    """Return the larger unit of ``duration`` alone."""
    return " ".join(duration(seconds).split()[:2])


def milliseconds(value: float | None) -> str:
    """Return "950 ms", "1.35 s", or "" for None."""
    if value is None:
        return ""
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
