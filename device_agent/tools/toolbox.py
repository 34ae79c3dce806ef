"""Toolbox: runs tool calls in a bounded pool of threads."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ..core.actions import ToolResult
from ..core.events import ToolCall
from ..services.base import MAX_ARGUMENTS_CHARS
from .base import Tool, ToolFailed

log = logging.getLogger(__name__)

MAX_RUNNING_CALLS, MAX_PENDING_CALLS = 4, 16  # at the same time; in all


class Toolbox:
    """The tools of this device. ``run``, ``use`` and ``close`` belong to the main thread."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.use(tools)
        self._stopping = threading.Event()
        self._room = threading.BoundedSemaphore(MAX_PENDING_CALLS)
        self._threads = ThreadPoolExecutor(MAX_RUNNING_CALLS, thread_name_prefix="tool")

    def use(self, tools: Iterable[Tool]) -> None:
        """Set the tools for the next calls."""
        self._tools = {tool.function.name: tool for tool in tools}

    def run(self, call: ToolCall, answer: Callable[[ToolResult], None]) -> None:
        """Do what *call* asks for as soon as there is room; *answer* is called with the result, in any thread."""
        if not self._room.acquire(blocking=False):
            answer(_failure(call, f"{MAX_PENDING_CALLS} tools are under way already; try again later"))
            return
        self._threads.submit(self._work, call, answer)

    def close(self) -> None:
        """End everything that runs, without an answer."""
        self._stopping.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _work(self, call: ToolCall, answer: Callable[[ToolResult], None]) -> None:
        try:
            result = self._answer(call)
        finally:
            self._room.release()
        if not self._stopping.is_set():
            answer(result)

    def _answer(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        try:
            output = self._do(call, tool)
        except ToolFailed as error:
            log.warning("tool %s failed: %s", call.name, error)
            return _failure(call, str(error))
        except Exception:
            log.exception("tool %s crashed", call.name)
            return _failure(call, "the tool is broken")
        log.info("tool %s answered with %d characters", call.name, len(output))
        quiet = tool is not None and tool.quiet
        return ToolResult(call.call, output, quiet=quiet, name=call.name, arguments=call.arguments)

    def _do(self, call: ToolCall, tool: Tool | None) -> str:
        if tool is None:
            raise ToolFailed(f"there is no tool {call.name!r}")
        if len(call.arguments) > MAX_ARGUMENTS_CHARS:
            raise ToolFailed(f"the arguments are longer than {MAX_ARGUMENTS_CHARS} characters; call it again with less")
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            raise ToolFailed("the arguments are not JSON") from None
        if not isinstance(arguments, dict):
            raise ToolFailed("the arguments are not a JSON object")
        return tool.run(arguments, self._stopping)


def _failure(call: ToolCall, text: str) -> ToolResult:
    output = json.dumps({"error": text})
    return ToolResult(call.call, output, failed=True, name=call.name, arguments=call.arguments)
