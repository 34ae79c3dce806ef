"""The words of ``events``: each is what that file says words are, whether it is decorated or a word by its base."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from device_agent.core import actions, events
from device_agent.core.actions import Action
from device_agent.core.events import Event, Released

WORDS = [
    each
    for module in (events, actions)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Event | Action)
]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_a_word_holds_what_it_says_and_nothing_else(word):
    """And what the word says that it is one of."""
    said = [name for each in reversed(word.__mro__) for name in inspect.get_annotations(each)]
    assert [field.name for field in fields(word)] == said
    assert not hasattr(object.__new__(word), "__dict__")


def test_words_that_say_no_more_than_their_name_differ_by_it():
    bare = [word for word in WORDS if not fields(word)]
    assert len(bare) > 20
    for word in bare:
        assert [other for other in bare if other() == word()] == [word]
        assert repr(word()) == f"{word.__name__}()"


def test_a_word_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Released().tapped = True
