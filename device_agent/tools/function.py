"""Built-in tool, and the JSON schema of its function."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..services.base import Function
from .arguments import Arguments


@dataclass(frozen=True)
class BuiltinTool:
    """Calls *work*, which takes no time and returns the result, or raises ToolFailed."""

    function: Function
    work: Callable[[Arguments], dict[str, Any]]
    quiet: bool = False

    def run(self, arguments: Arguments, stopping: threading.Event) -> str:
        return json.dumps(self.work(arguments), ensure_ascii=False)


def function(
    name: str, description: str, /, *, required: tuple[str, ...] = (), **properties: dict[str, Any]
) -> Function:
    """Return what the assistant is told of a tool.

    Of JSON schema only type, description, enum and items are used, which every service accepts: limits are given in the
    description, because a service may refuse a key that it does not know.
    """
    needed = {"required": list(required)} if required else {}
    return Function(name, description, {"type": "object", "properties": properties, **needed})
