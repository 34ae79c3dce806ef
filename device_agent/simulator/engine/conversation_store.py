"""Conversations that outlive their connection. Any thread may call anything here."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from .items import Items

KEPT_S = 30 * 60.0
"""How long a conversation is kept after its connection ended, as documented by xAI."""
MAX_CONVERSATIONS = 50
"""Conversations that are kept; the oldest are dropped."""


@dataclass
class Conversation:
    """One conversation. *left*: when its connection ended."""

    id: str
    items: Items
    left: float = math.inf


class ConversationStore:
    """The conversations of one service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Conversation] = {}

    def keep(self, conversation: Conversation) -> None:
        """Store *conversation*, which may still go on."""
        with self._lock:
            self._kept.pop(conversation.id, None)
            self._kept[conversation.id] = conversation
            while len(self._kept) > MAX_CONVERSATIONS:
                del self._kept[next(iter(self._kept))]

    def recall(self, name: str, now: float) -> Conversation | None:
        """Return the conversation called *name*, if it is known and not too old."""
        with self._lock:
            found = self._kept.get(name)
            return found if found and now < found.left + KEPT_S else None
