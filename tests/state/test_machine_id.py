"""What tells two speakers of one name apart."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.state.machine_id import MACHINE_KEY, machine_id
from device_agent.state.store import StateStore


@pytest.fixture
def board(tmp_path):
    """Return what makes this machine a board with a serial number."""
    serial = tmp_path / "serial-number"

    def become(number: str):
        serial.write_bytes(number.encode() + b"\0")
        return serial

    return become


def test_it_is_made_once_and_kept(tmp_path, board):
    memory = StateStore(tmp_path / "memory.json")
    first = machine_id(memory, board("10000000abcdef01"))
    assert re.fullmatch("[0-9a-f]{8}", first)
    memory.flush()
    assert machine_id(StateStore(tmp_path / "memory.json"), board("10000000abcdef01")) == first


def test_two_speakers_of_one_machine_have_two(tmp_path):
    assert machine_id(StateStore(None)) != machine_id(StateStore(None))


def test_the_copy_of_a_card_is_another_speaker_on_another_board(tmp_path, board):
    memory = StateStore(tmp_path / "memory.json")
    first = machine_id(memory, board("10000000abcdef01"))
    copied = machine_id(memory, board("10000000abcdef02"))
    assert copied != first
    assert machine_id(memory, board("10000000abcdef02")) == copied


def test_the_number_of_the_board_is_not_kept(tmp_path, board):
    memory = StateStore(tmp_path / "memory.json")
    machine_id(memory, board("10000000abcdef01"))
    memory.flush()
    assert "abcdef01" not in (tmp_path / "memory.json").read_text()


@pytest.mark.parametrize("number", ["", "0000000000000000", "\n"])
def test_a_board_without_a_number_is_any_board(tmp_path, board, number):
    memory = StateStore(None)
    first = machine_id(memory, board(number))
    assert machine_id(memory, tmp_path / "nothing") == first
    assert machine_id(memory, board("10000000abcdef01")) == first
    assert machine_id(memory, tmp_path / "nothing") == first
    assert machine_id(memory, board("10000000abcdef02")) != first


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from(["id", "board"]), inner)
    )
)
def test_nonsense_is_made_anew(kept):
    memory = StateStore(None)
    memory.put(MACHINE_KEY, kept)
    name = machine_id(memory)
    assert re.fullmatch("[0-9a-f]{8}", name)
    assert machine_id(memory) == name
