"""Conversations that outlive their connection. Pure but for one lock."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from .items import Items

KEPT_S = 30 * 60.0
"""How long a conversation is kept after its connection ended, as documented by xAI."""
MAX_KEPT = 50
"""How many conversations are kept; the oldest are forgotten."""


@dataclass
class Conversation:
    """One conversation. *left*: when its connection ended."""

    id: str
    items: Items
    left: float = math.inf


class ConversationStore:
    """What one service remembers of its conversations. Any thread may call anything here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Conversation] = {}

    def keep(self, conversation: Conversation) -> None:
        """Remember *conversation*, which may still go on."""
        with self._lock:
            self._kept.pop(conversation.id, None)
            self._kept[conversation.id] = conversation
            while len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]

    def recall(self, name: str, now: float) -> Conversation | None:
        """Return the conversation called *name*, if it is known and not too old."""
        with self._lock:
            found = self._kept.get(name)
            return found if found and now < found.left + KEPT_S else None
