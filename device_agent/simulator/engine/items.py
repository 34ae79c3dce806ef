"""Items of one conversation, in order. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_ITEMS = 500
"""Items of a conversation; the oldest are dropped."""


@dataclass
class Item:
    """One entry of the conversation. *sound* is kept only while it can still be answered."""

    id: str
    type: str
    role: str
    text: str = ""
    sound: bytes = field(default=b"", repr=False)
    rate: int = 24000
    spoken_s: float = 0.0  # how much sound of a reply was sent
    call: dict[str, str] = field(default_factory=dict)  # the fields of a function call, or of its output
    typed: bool = False  # whether the user wrote it
    shown: dict[str, Any] = field(default_factory=dict, repr=False)  # as the client saw it last


class Items(dict[str, Item]):
    """The items of one conversation by id."""

    def find(self, name: object) -> Item | None:
        """Return the item called *name*, which is any JSON value."""
        return self.get(name) if isinstance(name, str) else None

    @property
    def last(self) -> str | None:
        """The id of the newest item."""
        return next(reversed(self), None)

    def before(self, name: str) -> str | None:
        """Return the id of the item in front of the one called *name*."""
        names = list(self)
        place = names.index(name) if name in self else 0
        return names[place - 1] if place else None

    def add(self, item: Item, behind: str | None = None) -> None:
        """Put *item* at the end, or behind another item, or, behind "root", at the front."""
        names = list(self) if behind else []
        place = 0 if behind == "root" or not behind else names.index(behind) + 1
        later = {name: self.pop(name) for name in names[place:]}
        self[item.id] = item
        self.update(later)
        while len(self) > MAX_ITEMS:
            del self[next(iter(self))]

    def keep_sound(self, name: str, pcm: bytes, rate: int, text: str) -> None:
        """Give the item called *name* its sound; older sound is dropped, because only the newest can be answered."""
        for item in self.values():
            item.sound = b""
        if name in self:
            item = self[name]
            item.sound, item.rate, item.text = pcm, rate, text

    def to_answer(self) -> Item | None:
        """Return the newest item that the service did not make."""
        theirs = (item for item in reversed(self.values()) if item.role != "assistant")
        return next((item for item in theirs if item.type != "function_call"), None)
