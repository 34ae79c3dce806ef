"""Truncation: how much of each item of a reply was heard, so that the service forgets the rest.

A service knows what it sent and not what was heard: after an interruption the item that was being heard is truncated,
and the items and replies behind it are deleted, or the assistant would refer to words that were not heard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

MAX_REPLY_ITEMS = 32
MAX_TRACKED_REPLIES = 8  # one may still sound when the next has arrived


class TruncationTracker:
    """The sound of the latest replies of one connection, by item. Belongs to the link's thread."""

    def __init__(self) -> None:
        self._replies: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def note(self, reply: str, item: str, seconds: float = 0.0) -> None:
        """Add *seconds* of sound to *item*; 0 if it was announced. An item without an id cannot be truncated."""
        if not item:
            return
        items = self._replies.setdefault(reply, OrderedDict())
        if len(items) >= MAX_REPLY_ITEMS and item not in items:
            return
        items[item] = items.get(item, 0.0) + seconds
        while len(self._replies) > MAX_TRACKED_REPLIES:
            self._replies.popitem(last=False)

    def cut(self, reply: str, heard_ms: int) -> Iterator[tuple[str, int]]:
        """Yield each item of *reply* and of the replies behind it that was not heard whole, once, with the ms to keep:
        0 if nothing was heard, and never more than was received, which a service takes for an error."""
        names = list(self._replies)
        if reply not in names:
            return
        left = heard_ms
        for name in names[names.index(reply) :]:
            items = self._replies.pop(name)
            for number, (item, seconds) in enumerate(items.items(), 1):
                received = int(1000 * seconds)
                under_way = number == len(items) and received  # more of it may be at the service
                if left < received or under_way:
                    yield item, min(left, received)
                elif left <= 0:
                    yield item, 0
                left = max(0, left - received)
            left = 0
