"""A tool that is a part of the device itself."""

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
    """Does *work*, which is done at once: it returns the outcome, or raises ToolFailed."""

    function: Function
    work: Callable[[Arguments], dict[str, Any]]
    quiet: bool = False

    def run(self, arguments: Arguments, stopping: threading.Event) -> str:
        """Return the outcome as JSON. Raises ToolFailed."""
        return json.dumps(self.work(arguments), ensure_ascii=False)


def function(
    name: str, description: str, /, *, required: tuple[str, ...] = (), **properties: dict[str, Any]
) -> Function:
    """Return what the assistant is told.

    Of JSON schema only type, description, enum and items are used, which every service takes: limits stand in the
    description, because a service may refuse a key that it does not know. What is required and missing all the same is
    asked for in words.
    """
    needed = {"required": list(required)} if required else {}
    return Function(name, description, {"type": "object", "properties": properties, **needed})
