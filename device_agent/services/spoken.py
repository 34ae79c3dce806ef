"""Which item of the conversation the sound of a reply belongs to, and how much of it there was.

A service knows what it sent and not what was heard: a reply that was cut is shortened to the part that somebody heard,
or the assistant would refer to words that nobody knows.
"""

from __future__ import annotations

from collections import OrderedDict

MOST_ITEMS = 32
"""So many items of one reply."""
REMEMBERED = 8
"""So many replies: one may still sound when the next has arrived."""


class Spoken:
    """The sound of the latest replies of one connection, by item."""

    def __init__(self) -> None:
        self._replies: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def note(self, reply: str, item: str, seconds: float) -> None:
        """So many *seconds* of *item* came. Servers that name no items cannot shorten them either."""
        if not item:
            return
        items = self._replies.setdefault(reply, OrderedDict())
        if len(items) >= MOST_ITEMS and item not in items:
            return
        items[item] = items.get(item, 0.0) + seconds
        while len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)

    def shorten(self, reply: str, heard_ms: int) -> tuple[str, int] | None:
        """Return the item to shorten and the ms that are to be left of it; None where nothing was heard of the reply.

        Never more than came: a service takes that for an error.
        """
        left = heard_ms
        for item, seconds in self._replies.get(reply, {}).items():
            received = int(1000 * seconds)
            if 0 < left <= received or (left > 0 and item == next(reversed(self._replies[reply]))):
                return item, min(left, received)
            left -= received
        return None
