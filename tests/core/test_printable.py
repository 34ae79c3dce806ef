"""What comes from elsewhere is shown by a terminal, and not obeyed: the function, and everything that prints."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from device_agent.cli import main
from device_agent.commands.ask import Answer
from device_agent.commands.demo import DemoOutput
from device_agent.core.conversation import READY
from device_agent.core.events import LinkDown, Refused, ReplyEnded, ReplyText, ServiceError, UserText
from device_agent.core.printable import UNPRINTABLE, printable
from device_agent.core.transition import Transition
from device_agent.doctor.findings import Finding, Mark, Now
from device_agent.doctor.report import TextReport

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\rhello\u202e\x7f\ud800"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\rhello\u202e\x7f\ud800"


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
@example("a\u2028b\u2029c\u0085d\x1ce")
def test_nothing_is_left_that_a_terminal_obeys(text):
    shown = printable(text)
    assert not UNPRINTABLE.search(shown)
    assert len(f"{shown}.".splitlines()) == 1
    shown.encode()
    assert printable(shown) == shown
    assert UNPRINTABLE.sub("", text) == text or shown != text


def test_what_is_obeyed_is_shown_as_python_writes_it():
    assert printable(EVIL) == SHOWN
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@pytest.mark.parametrize(
    "text", ["z.\u202fB.", "\u0645\u06cc\u200c\u062f", "\u3000", "\u200f", "\U0001f468\u200d", "\xad"]
)
def test_all_that_is_writing_stays_as_it_is(text):
    assert printable(text) == text


# Whatever prints ------------------------------------------------------------------------------------------------------


def told_by_ask(word: object, capsys) -> str:
    out = io.StringIO()
    answer = Answer(out)
    answer(Transition(word, (), READY, READY, 0.0))
    answer.end()
    return out.getvalue() + capsys.readouterr().err


@pytest.mark.parametrize(
    "word",
    [ReplyText("r", EVIL), ReplyEnded("r", EVIL), LinkDown(EVIL, 1.0), Refused(EVIL, 0.0), ServiceError(EVIL)],
    ids=lambda word: type(word).__name__,
)
def test_ask_shows_what_the_service_says(word, capsys):
    assert SHOWN in told_by_ask(word, capsys)


def test_the_lines_of_an_answer_stay_lines(capsys):
    assert told_by_ask(ReplyText("r", "one\n\ttwo"), capsys).startswith("one\n\ttwo\n")


@pytest.mark.parametrize(
    "word",
    [UserText("u", EVIL, True), ReplyText("r", EVIL), LinkDown(EVIL, 1.0), Refused(EVIL, 0.0), ServiceError(EVIL)],
    ids=lambda word: type(word).__name__,
)
def test_so_does_the_demo(word):
    out = io.StringIO()
    DemoOutput(out)(Transition(word, (), READY, READY, 0.0))
    assert SHOWN in out.getvalue()


def test_so_does_the_doctor():
    out = io.StringIO()
    sheet = TextReport(out, width=200)
    sheet.group(EVIL)
    sheet.show(Finding(EVIL, f"{EVIL}\n{EVIL}", Mark.NOTE, EVIL))
    sheet.end(EVIL, ok=True)
    assert out.getvalue().count(SHOWN) == 6
    assert not UNPRINTABLE.search(out.getvalue().replace("\n", ""))


def test_the_doctor_on_a_terminal_writes_no_orders_but_its_own():
    out = io.StringIO()
    TextReport(out, width=200, live=True).now(Now("card", EVIL))
    assert out.getvalue().removeprefix("\r").removesuffix("\x1b[K").endswith(SHOWN)


@pytest.mark.parametrize("command", ["config", "ask", "check", "token", "run"])
def test_a_file_with_orders_in_its_name_or_in_its_text_gives_none(tmp_path, capsys, command):
    file = tmp_path / "\x1b[2J.yaml"
    file.write_text('service: {"\\e[2J": 1, url: "\\e[2J", voice: "\\e[2J"}\nmicrophone: {device: "\\u202e"}\n')
    words = ["a"] if command == "ask" else ["--offline", "--quiet"] if command == "check" else []
    assert main([command, "--config", str(file), *words]) == 78
    told = "".join(capsys.readouterr())
    assert r"\x1b[2J.yaml" in told
    assert not UNPRINTABLE.search(told.replace("\n", ""))
