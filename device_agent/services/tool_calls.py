"""Tool calls of one session: the definitions of the tools, the calls, and the results that are pending."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.events import ToolCall
from .base import MAX_ARGUMENTS_CHARS, Function, ServerTool
from .json_fields import Fields, name, text

MAX_OPEN_CALLS = 32  # a service that makes more calls at a time is broken, and waits in vain for the rest


class ToolCalls:
    """Each call is reported once and answered once; after the last result the assistant wants to speak, unless all are
    quiet. The calls of a cancelled reply stay open, because the assistant waits for every result; but its reply to them
    is unwanted."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by call and by item, of the reply under way
        self._told: set[str] = set()  # calls of the reply under way
        self._open: dict[str, bool] = {}  # calls without a result; whether the reply to it is wanted
        self._owed = False  # the reply with the calls is over, and the reply to the results is wanted
        self._worth = False  # one of the results so far is not quiet

    def begin(self) -> None:
        """Begin another reply: the calls of the one before are forgotten."""
        self._names.clear()
        self._told.clear()
        self._worth = self._worth and self._owed  # results without a reply to follow are of the past

    def announce(self, item: Fields) -> None:
        """Note the name of a call; older servers do not repeat it with the arguments."""
        if text(item, "type") == "function_call" and len(self._names) < 2 * MAX_OPEN_CALLS:
            self._names |= {name(item, key): name(item, "name") for key in ("call_id", "id") if name(item, key)}

    def ask(self, fields: Fields) -> ToolCall | None:
        """Return the call in an event or an item, None if it was reported before or is invalid."""
        call = name(fields, "call_id")
        wanted = name(fields, "name") or self._names.get(call) or self._names.get(name(fields, "item_id"))
        if not call or not wanted or call in self._told or max(len(self._open), len(self._told)) >= MAX_OPEN_CALLS:
            return None
        self._told.add(call)
        self._open[call] = True
        return ToolCall(call, wanted, cut(text(fields, "arguments")) or "{}")

    @property
    def asked(self) -> bool:
        """Whether the latest reply called a tool."""
        return bool(self._told)

    def knows(self, call: str) -> bool:
        """Return whether *call* is of this connection and has no result yet."""
        return call in self._open

    @property
    def open(self) -> bool:
        """Whether a result, or the reply to the results, is pending."""
        return bool(self._open) or self._owed

    def reply_over(self) -> bool:
        """End the reply with the calls; return whether another follows: not without calls, and not if all of them have
        quiet results by now."""
        self._owed = bool(self._told) and (self._worth or any(map(self._open.get, self._told)))
        return self._owed

    def answer(self, call: str, *, quiet: bool = False) -> bool:
        """Note the result of *call*, which needs no reply if *quiet*; return whether this connection knows the call."""
        wanted = self._open.pop(call, None)
        self._worth |= bool(wanted) and not quiet
        return wanted is not None

    def complete(self) -> bool:
        """Return, once, that every result is given and a reply to them is wanted."""
        if not self._owed or any(self._open.values()):
            return False
        self._owed = False
        return self._worth

    def forget(self) -> None:
        """The reply to the results is not wanted any more."""
        self._owed = False
        self._open = dict.fromkeys(self._open, False)


def cut(arguments: str) -> str:
    """Return *arguments*, cut where the toolbox refuses them: a service may send 16 MiB, and calls are queued."""
    return arguments[: MAX_ARGUMENTS_CHARS + 1]


def function_tools(functions: Iterable[Function]) -> list[dict[str, Any]]:
    """Return the tools of this device for ``session.update``: flat, although the echo of xAI is nested."""
    return [
        {"type": "function", "name": each.name, "description": each.description, "parameters": each.parameters}
        for each in functions
    ]


def server_tools(tools: Iterable[ServerTool]) -> list[dict[str, Any]]:
    """Return the tools that run at the service, for ``session.update``."""
    return [{"type": each} if isinstance(each, str) else dict(each) for each in tools]
