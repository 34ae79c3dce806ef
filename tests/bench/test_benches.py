"""What the benches judge by: a judge that cannot say no proves nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from device_agent.simulator import ConnectionLog, Turn
from tests.bench import supervisor
from tests.bench.faults import doubled, lost_ms
from tests.bench.mutants import LEAST, Result, excused, told
from tests.bench.recovery import culprit, trouble
from tests.bench.supervisor import Line, Unit
from tests.bench.tables import markdown
from tests.support.room import RATE, speech

SAID = speech()
HALF = SAID[: RATE * 2 * 6 // 10]
TIMES = {"RestartSec": 0.1, "WatchdogSec": 0.5, "TimeoutStartSec": 30.0, "TimeoutStopSec": 5.0}
FED_ONCE = "import sys; from device_agent.runtime.systemd import notify; notify(READY=1); sys.stdin.read()"
PATIENCE_S = 20.0


def heard(*turns: bytes, goes_on: bool = False) -> ConnectionLog:
    return ConnectionLog(turns=[Turn(0.0, pcm=pcm) for pcm in turns], goes_on=goes_on)


def test_a_turn_sent_again_to_a_conversation_that_knows_nothing_of_it_is_not_doubled():
    assert doubled(SAID, [heard(SAID), heard(SAID)]) == 0


def test_a_turn_sent_again_to_a_conversation_that_goes_on_is_doubled():
    assert doubled(SAID, [heard(SAID), heard(SAID, goes_on=True)]) == 1
    assert doubled(SAID, [heard(SAID), heard(), heard(SAID, goes_on=True)]) == 1


def test_half_a_sentence_before_the_whole_is_doubled():
    assert doubled(SAID, [heard(HALF + SAID)]) == 1
    assert doubled(SAID, [heard(HALF), heard(SAID, goes_on=True)]) == 1


def test_what_is_missing_of_a_sentence_is_lost():
    assert lost_ms(SAID, bytes(4800) + SAID) == 0
    assert lost_ms(SAID, HALF) > 300
    assert lost_ms(SAID, b"") >= 1000


def test_a_table_has_titles_between_its_rows_and_keeps_its_columns():
    assert markdown(["a", "b"], [["The title"], ["x|y", ""]]) == (
        "| a | b |\n| --- | --- |\n| **The title** |  |\n| x\\|y |  |\n"
    )


EXCUSED = """
# A reason.
gate Gate.feed
- one
- line
+ another
- one
+ pass
echo
- A = 1
+ A = 2
"""
CHANGES = [("gate Gate.feed", ("one", "line"), ("another",)), ("gate Gate.feed", ("one",), ("pass",)),
           ("echo", ("A = 1",), ("A = 2",))]  # fmt: skip


def test_an_excused_change_is_known_by_its_place_and_by_its_lines_as_they_are_printed():
    assert list(excused(EXCUSED)) == CHANGES
    assert list(excused("\n".join(line for change in CHANGES for line in told(change)))) == CHANGES


def test_a_module_fails_when_too_little_was_noticed_or_an_excuse_is_none_any_more():
    def result(unnoticed: int, **more: object) -> Result:
        return Result("gate", tried=100, unnoticed=[None] * unnoticed, **more)

    most = round(100 * (1 - LEAST))
    assert not result(most).fails
    assert result(most + 1).fails
    assert result(0, stale=CHANGES[:1]).fails
    assert result(0, wrong="its tests fail").fails
    assert not Result("gate").fails, "nothing was tried, for all of it is excused"


def test_a_process_that_does_not_feed_the_watchdog_is_ended_and_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "seconds", TIMES.get)
    with Unit([sys.executable, "-c", FED_ONCE], {}, tmp_path) as unit:
        wait_until(lambda: unit.starts == 2 and unit.heard("READY=1", unit.lines(0)[-1].at))
        journal = [line.text for line in unit.lines(0) if not line.by_agent]
    assert journal == ["watchdog timeout (limit 0.5 s)", "main process exited, code=killed, status=SIGABRT"]
    assert [line for line in unit.lines(0) if "Fatal Python error: Aborted" in line.text]  # and where it was


def test_the_culprit_is_the_last_error_that_names_one():
    unit = Told(
        "08:00:00.000 INFO    MainThread: ready -> listening on Pressed",
        "08:00:00.000 WARNING MainThread: gaps so far: 1 in the microphone, 0 in the loudspeaker",
        "08:00:01.000 ERROR   microphone: microphone crashed",
        "08:00:01.000 ERROR   MainThread: microphone: it has stood still for 5 s",
        "08:00:02.000 ERROR   MainThread: microphone did not stop",
        "08:00:02.000 WARNING MainThread: what happened before is in /var/lib/device-agent/postmortem-1.txt",
    )
    assert len(trouble(unit, 0)) == 3
    assert culprit(unit, 0) == "microphone: it has stood still for 5 s"


class Told:
    """A unit that has said something already."""

    def __init__(self, *texts: str) -> None:
        self._journal = [Line(float(at), text) for at, text in enumerate(texts)]

    def lines(self, since: float) -> list[Line]:
        return [line for line in self._journal if line.at >= since]


def wait_until(true: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends
        threading.Event().wait(0.02)
