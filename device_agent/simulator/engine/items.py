"""What a conversation remembers: its items, in order, so many at most. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_ITEMS = 500
"""How many items a conversation remembers; the oldest are forgotten."""


@dataclass
class Item:
    """One entry of the conversation. *sound* is kept only while it can still be answered."""

    id: str
    type: str
    role: str
    text: str = ""
    sound: bytes = field(default=b"", repr=False)
    rate: int = 24000
    spoken_s: float = 0.0
    """How much sound of it went out, when it is ours."""
    call: dict[str, str] = field(default_factory=dict)
    """The fields of a function call, or of what came of it."""
    typed: bool = False
    """Whether the user wrote it."""
    shown: dict[str, Any] = field(default_factory=dict, repr=False)
    """How it was shown to the client last."""


class Items:
    """The items of one conversation."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def __getitem__(self, name: str) -> Item:
        return self._items[name]

    def __delitem__(self, name: str) -> None:
        del self._items[name]

    def get(self, name: object) -> Item | None:
        """Return the item called *name*, if there is one."""
        return self._items.get(name) if isinstance(name, str) else None

    @property
    def last(self) -> str | None:
        """The id of the newest item."""
        return next(reversed(self._items), None)

    def before(self, name: str) -> str | None:
        """Return the id of the item in front of the one called *name*."""
        names = list(self._items)
        place = names.index(name) if name in self._items else 0
        return names[place - 1] if place else None

    def add(self, item: Item, behind: str | None = None) -> None:
        """Put *item* at the end, or behind another item, or, behind "root", at the front."""
        later: list[Item] = []
        if behind is not None:
            names = list(self._items)
            place = 0 if behind == "root" else names.index(behind) + 1
            later = [self._items.pop(name) for name in names[place:]]
        self._items[item.id] = item
        self._items.update((each.id, each) for each in later)
        while len(self._items) > MAX_ITEMS:
            del self._items[next(iter(self._items))]

    def keep_sound(self, name: str, pcm: bytes, rate: int, text: str) -> None:
        """Let the item called *name* hold this sound: only the newest sound can be answered, older sound goes."""
        for item in self._items.values():
            item.sound = b""
        if name in self._items:
            item = self._items[name]
            item.sound, item.rate, item.text = pcm, rate, text

    def to_answer(self) -> Item | None:
        """Return the newest item that is not ours."""
        theirs = (item for item in reversed(self._items.values()) if item.role != "assistant")
        return next((item for item in theirs if item.type != "function_call"), None)
