"""Truncation: what of a reply was heard, by item of the conversation, so that the service forgets the rest.

A service knows what it sent and not what was heard: after a cut, the item that was being heard is shortened, and the
items and replies behind it are deleted, or the assistant would refer to words that were not heard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

MAX_REPLY_ITEMS = 32
"""So many items of one reply."""
MAX_TRACKED_REPLIES = 8
"""So many replies: one may still sound when the next has arrived."""


class TruncationTracker:
    """The sound of the latest replies of one connection, by item. Belongs to the link's thread."""

    def __init__(self) -> None:
        self._replies: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def note(self, reply: str, item: str, seconds: float = 0.0) -> None:
        """So many *seconds* of *item* came; 0 where it was announced. What has no name cannot be shortened."""
        if not item:
            return
        items = self._replies.setdefault(reply, OrderedDict())
        if len(items) >= MAX_REPLY_ITEMS and item not in items:
            return
        items[item] = items.get(item, 0.0) + seconds
        while len(self._replies) > MAX_TRACKED_REPLIES:
            self._replies.popitem(last=False)

    def cut(self, reply: str, heard_ms: int) -> Iterator[tuple[str, int]]:
        """Yield each item that *reply* and the replies behind it hold and that was not heard whole, once, with the ms
        that are to be left of it: 0 where nothing of it was heard.

        Never more than came: a service takes that for an error.
        """
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
