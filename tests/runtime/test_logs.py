"""What is written into the log, and what is only counted."""

from __future__ import annotations

import io
import itertools
import logging
import sys

import pytest

from device_agent.runtime.logs import (
    MAX_ALIKE_LINES,
    MAX_LINE_KINDS,
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_CHARS,
    REPEAT_WINDOW_S,
    RepeatLimit,
    start_log,
)


def record(
    pattern: str, *values: object, level: int = logging.WARNING, name: str = "device_agent.x"
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "x.py", 1, pattern, values, None)


def texts(lines: list[logging.LogRecord]) -> list[str]:
    return [line.getMessage() for line in lines]


def flood(repeats: RepeatLimit, count: int, now: float, level: int = logging.WARNING) -> list[str]:
    return texts([line for n in range(count) for line in repeats.take(record("nonsense %d", n, level=level), now)])


def test_a_flood_is_told_of_counted_and_summed_up_when_its_minute_is_over():
    repeats = RepeatLimit()
    written = flood(repeats, 100_000, now=5.0)
    assert written[:-1] == [f"nonsense {n}" for n in range(MAX_ALIKE_LINES)]
    assert "only counted" in written[-1]
    summary, other = texts(repeats.take(record("all is well"), 5.0 + REPEAT_WINDOW_S))
    assert summary == f"{100_000 - MAX_ALIKE_LINES} lines were held back, the last: nonsense 99999"
    assert other == "all is well"


def test_the_next_minute_begins_anew():
    repeats = RepeatLimit()
    flood(repeats, MAX_ALIKE_LINES + 1, now=0.0)
    assert flood(repeats, 1, now=REPEAT_WINDOW_S)[-1] == "nonsense 0"
    assert repeats.end() == []


def test_what_is_held_back_when_the_process_ends_is_told():
    repeats = RepeatLimit()
    flood(repeats, MAX_ALIKE_LINES + 3, now=0.0)
    assert texts(repeats.end()) == [f"3 lines were held back, the last: nonsense {MAX_ALIKE_LINES + 2}"]


def test_a_flood_holds_nothing_else_back():
    repeats = RepeatLimit()
    flood(repeats, 1000, now=0.0)
    assert texts(repeats.take(record("another matter"), 0.0)) == ["another matter"]
    assert texts(repeats.take(record("nonsense %d", 1, name="device_agent.y"), 0.0)) == ["nonsense 1"]


def test_errors_that_say_something_else_are_not_lost():
    repeats = RepeatLimit()
    assert len(flood(repeats, MAX_LINE_KINDS, now=0.0, level=logging.ERROR)) == MAX_LINE_KINDS
    same = [line for _ in range(1000) for line in repeats.take(record("broken", level=logging.ERROR), 0.0)]
    assert len(same) == MAX_ALIKE_LINES + 1


def test_what_it_remembers_is_bounded_whatever_is_said():
    repeats, most = RepeatLimit(), 0
    for n in range(20_000):  # texts that are formatted already, errors with another number each
        repeats.take(record(f"painted {n}"), n / 1e6)
        repeats.take(record("error %d", n, level=logging.ERROR), n / 1e6)
        most = max(most, len(repeats._kinds))
    assert most <= 2 * MAX_LINE_KINDS
    assert sum(len(line.getMessage()) for line in repeats.end()) < 2 * MAX_LINE_KINDS * MAX_MESSAGE_CHARS


def test_a_flood_of_different_errors_is_bounded_too():
    assert len(flood(RepeatLimit(), 100_000, now=0.0, level=logging.ERROR)) <= MAX_LINE_KINDS + MAX_ALIKE_LINES + 1


def test_a_pattern_that_does_not_fit_its_values_is_no_reason_to_fall():
    repeats = RepeatLimit()
    for _ in range(MAX_ALIKE_LINES + 2):
        repeats.take(record("%d apples", "no", level=logging.ERROR), 0.0)
    assert "%d apples" in texts(repeats.end())[0]


# On standard error ----------------------------------------------------------------------------------------------------


class Log:
    """A logger that writes as the program does, and what it wrote."""

    def __init__(self, patch: pytest.MonkeyPatch, *, journal: bool) -> None:
        self._stream = io.StringIO()
        patch.setattr(sys, "stderr", self._stream)
        patch.delenv("JOURNAL_STREAM", raising=False)
        if journal:
            patch.setenv("JOURNAL_STREAM", "8:1")
        start_log("info")
        self.handler = logging.getLogger().handlers[0]
        self.said = logging.getLogger("device_agent.test")

    def lines(self) -> list[str]:
        """Return what was written since the last time."""
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return text.splitlines()


@pytest.fixture(params=["person", "journal"])
def log(request):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with pytest.MonkeyPatch.context() as patch:
        made = Log(patch, journal=request.param == "journal")
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)


def test_what_a_stranger_says_is_one_line_that_can_be_printed(log):
    log.said.warning("the service complains: %s", "\x1b[2J\rMainThread: ready\udcff\x00 Grüße")
    (line,) = log.lines()
    assert line.isprintable()
    assert line.endswith("Grüße")


def test_the_second_line_of_a_message_cannot_pass_for_another_one(log):
    log.said.warning("the file is wrong\nMainThread: all is well")
    first, second = log.lines()
    assert first.endswith("the file is wrong")
    assert second.removeprefix("<4>") == "    MainThread: all is well"


def test_a_message_of_a_megabyte_is_cut_and_says_so(log):
    log.said.warning("the service complains: %s", "x" * 1_000_000)
    (line,) = log.lines()
    assert len(line) < MAX_MESSAGE_CHARS + 100
    assert line.endswith("[... 1000023 characters]")


def test_a_traceback_is_whole_unless_what_it_quotes_is_huge(log):
    try:
        raise ValueError("\x1b" + "x" * 100_000)
    except ValueError:
        log.said.exception("crashed")
    lines = log.lines()
    assert "crashed" in lines[0]
    assert sum(map(len, lines)) < MAX_TRACEBACK_CHARS + 1000
    assert lines[-1].endswith("xxx")
    try:
        raise ValueError("\x1b in a short one")
    except ValueError:
        log.said.exception("crashed")
    lines = log.lines()
    assert any("Traceback" in line for line in lines)
    assert lines[-1].removeprefix("<3>") == r"ValueError: \x1b in a short one"


def test_the_handler_holds_back_and_tells_at_the_end(log):
    for n in itertools.repeat(1, MAX_ALIKE_LINES + 10):
        log.said.warning("again %d", n)
    log.handler.close()
    *written, notice, summary = log.lines()
    assert len(written) == MAX_ALIKE_LINES
    assert "only counted" in notice
    assert "10 lines were held back" in summary
