"""The tools of the assistant: how it is told of them, what it asked for, and what is still owed to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.events import ToolCall
from .base import MAX_ARGUMENTS_CHARS, Function, ServerTool
from .json_fields import Fields, name, text

MAX_OPEN_CALLS = 32
"""Calls that may be open at a time. A service that asks for more is broken, and waits in vain for the rest."""


class ToolCalls:
    """Each call is told once and answered once; after the last answer the assistant wants to speak, unless all of the
    answers are quiet.

    The calls of a reply that was cancelled stay open, because the assistant waits for every answer; but nobody waits
    for what it says to them.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by call and by item, of the reply under way
        self._told: set[str] = set()  # calls of the reply under way
        self._open: dict[str, bool] = {}  # calls without an answer; whether somebody wants to hear about it
        self._owed = False  # the reply with the calls is over, and what follows from them is wanted
        self._worth = False  # one of the answers so far is worth a word

    def begin(self) -> None:
        """Another reply begins."""
        self._names.clear()
        self._told.clear()
        self._worth = self._worth and self._owed  # what is not owed (any more) is of the past

    def announce(self, item: Fields) -> None:
        """The service names what it will ask for; older servers do not repeat the name with the arguments."""
        if text(item, "type") == "function_call" and len(self._names) < 2 * MAX_OPEN_CALLS:
            self._names |= {name(item, key): name(item, "name") for key in ("call_id", "id") if name(item, key)}

    def ask(self, fields: Fields) -> ToolCall | None:
        """Return the call in an event or an item, None if it was told before or makes no sense."""
        call = name(fields, "call_id")
        wanted = name(fields, "name") or self._names.get(call) or self._names.get(name(fields, "item_id"))
        if not call or not wanted or call in self._told or max(len(self._open), len(self._told)) >= MAX_OPEN_CALLS:
            return None
        self._told.add(call)
        self._open[call] = True
        return ToolCall(call, wanted, cut(text(fields, "arguments")) or "{}")

    @property
    def asked(self) -> bool:
        """Whether the latest reply asked for a tool."""
        return bool(self._told)

    def knows(self, call: str) -> bool:
        """Whether *call* is of this connection, and has no answer yet."""
        return call in self._open

    @property
    def open(self) -> bool:
        """Whether an answer, or what follows from one, is still to come."""
        return bool(self._open) or self._owed

    def reply_over(self) -> bool:
        """The reply with the calls is complete; return whether more will come: not without calls, and not if all of
        them are answered quietly by now."""
        self._owed = bool(self._told) and (self._worth or any(map(self._open.get, self._told)))
        return self._owed

    def answer(self, call: str, *, quiet: bool = False) -> bool:
        """Note that *call* is answered, and if *quiet*, that nothing need be said about it; return whether this
        connection knows it."""
        wanted = self._open.pop(call, None)
        self._worth |= bool(wanted) and not quiet
        return wanted is not None

    def complete(self) -> bool:
        """Return, once, that every answer is given and somebody wants to hear what follows from them."""
        if not self._owed or any(self._open.values()):
            return False
        self._owed = False
        return self._worth

    def forget(self) -> None:
        """Nobody wants to hear any more what the answers lead to."""
        self._owed = False
        self._open = dict.fromkeys(self._open, False)


def cut(arguments: str) -> str:
    """Return *arguments*; of what is longer than LONGEST_ARGUMENTS only so much that the toolbox sees that, and refuses
    the call: a service may send 16 MiB, and calls wait for each other."""
    return arguments[: MAX_ARGUMENTS_CHARS + 1]


def function_tools(functions: Iterable[Function]) -> list[dict[str, Any]]:
    """Return the tools of this device as the family is told of them: flat, also where the echo of xAI is nested."""
    return [
        {"type": "function", "name": each.name, "description": each.description, "parameters": each.parameters}
        for each in functions
    ]


def server_tools(tools: Iterable[ServerTool]) -> list[dict[str, Any]]:
    """Return the tools that run at the service as it is told of them."""
    return [{"type": each} if isinstance(each, str) else dict(each) for each in tools]
