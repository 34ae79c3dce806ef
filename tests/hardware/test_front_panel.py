"""Button, light and knobs together, and how one is exchanged for another. Fakes with hands, no thread."""

from __future__ import annotations

import time

import pytest

from device_agent.core.errors import AgentError, DeviceFailed
from device_agent.core.events import MuteAsked, Pressed, Released, VolumeAsked
from device_agent.hardware import front_panel as panel_module
from device_agent.hardware.front_panel import FrontPanel, Opener, wire_button


class Board:
    """Pins, each of which is one thing's at a time."""

    def __init__(self) -> None:
        self.taken: dict[int, object] = {}
        self.broken: set[int] = set()

    def button(self, pin: int):
        return Opener(pin, lambda: Thing(self, pin))

    light = button

    def controls(self, pin: int | None, *, muted: bool | None = None):
        return Opener(pin, lambda: None if pin is None else Thing(self, pin, muted))

    def panel(self, button: int = 1, light: int = 2, controls: int | None = None) -> FrontPanel:
        return FrontPanel(
            {"button": self.button(button), "light": self.light(light), "controls": self.controls(controls)}
        )


class Thing:
    """A button, a light or knobs on one pin."""

    when_pressed = when_released = when_turned = when_muted = None

    def __init__(self, board: Board, pin: int, muted: bool | None = None) -> None:
        if pin in board.taken or pin in board.broken:
            raise DeviceFailed(f"GPIO{pin} is in use")
        self._board, self._pin, self.muted = board, pin, muted
        self.moods: list[str] = []
        board.taken[pin] = self

    def show(self, mood: str) -> None:
        self.moods.append(mood)

    def close(self) -> None:
        del self._board.taken[self._pin]


@pytest.fixture
def board() -> Board:
    return Board()


def test_all_open_or_none(board):
    board.broken = {2}
    with pytest.raises(DeviceFailed, match="GPIO2"):
        board.panel()
    assert board.taken == {}


def test_what_is_pressed_and_turned_is_told(board):
    told = []
    panel = board.panel(controls=3)
    panel.listen(told.append)
    board.taken[1].when_pressed()
    board.taken[1].when_released()
    board.taken[3].when_turned(-2)
    board.taken[3].when_muted(None)
    assert told == [Pressed(), Released(tapped=True), VolumeAsked(by=-10), MuteAsked(None)]
    panel.close()
    panel.close()
    assert board.taken == {}


def test_another_button_tells_and_another_light_shows_what_the_last_one_did(board):
    told = []
    panel = board.panel()
    panel.listen(told.append)
    panel.show("thinking")
    panel.exchange({"button": board.button(5), "light": board.light(6)})
    board.taken[5].when_pressed()
    assert told == [Pressed()]
    assert board.taken[6].moods == ["thinking"]
    assert set(board.taken) == {5, 6}


def test_two_may_swap_their_pins(board):
    panel = board.panel(1, 2)
    panel.exchange({"button": board.button(2), "light": board.light(1)})
    assert set(board.taken) == {1, 2}


def test_knobs_come_and_go_and_a_switch_tells_where_it_is(board):
    told = []
    panel = board.panel()
    panel.listen(told.append)
    assert panel.muted is None
    panel.exchange({"controls": board.controls(9, muted=True)})
    assert (panel.muted, told) == (True, [MuteAsked(True)])
    panel.exchange({"controls": board.controls(None)})
    assert panel.muted is None
    assert set(board.taken) == {1, 2}


def test_where_the_new_one_does_not_open_all_are_as_before(board):
    told = []
    panel = board.panel(1, 2)
    panel.listen(told.append)
    panel.show("ready")
    board.broken = {8}
    with pytest.raises(DeviceFailed, match="GPIO8"):
        panel.exchange({"button": board.button(7), "light": board.light(8)})
    assert set(board.taken) == {1, 2}
    board.taken[1].when_pressed()
    assert told == [Pressed()]
    assert board.taken[2].moods == ["ready"]
    board.broken = set()
    panel.exchange({"button": board.button(8)})
    assert set(board.taken) == {8, 2}


def test_where_not_even_the_old_one_opens_the_agent_does_not_go_on(board):
    panel = board.panel(1, 2)
    board.broken = {1, 8}
    with pytest.raises(AgentError, match="GPIO1 is in use") as caught:
        panel.exchange({"button": board.button(8)})
    assert not isinstance(caught.value, DeviceFailed)
    panel.close()
    assert board.taken == {}


def test_a_button_is_timed_where_it_is_seen(board, monkeypatch):
    told, now = [], [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    button = Thing(board, 7)
    wire_button(button, told.append)
    for held in (panel_module.MAX_TAP_S - 0.01, panel_module.MAX_TAP_S + 0.01):
        button.when_pressed()
        now[0] += held
        button.when_released()
    assert told == [Pressed(), Released(tapped=True), Pressed(), Released(tapped=False)]
