"""Contract of a tool: ``Tool``, ``ToolFailed``."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from ..core.errors import AgentError
from ..services.base import Function


class ToolFailed(AgentError, RuntimeError):
    """A tool call failed. The assistant is told the text."""


class Tool(Protocol):
    """Something that the assistant can do."""

    @property
    def function(self) -> Function:
        """What the assistant is told."""

    @property
    def quiet(self) -> bool:
        """Whether the assistant should say nothing about the result."""

    def run(self, arguments: dict[str, Any], stopping: threading.Event) -> str:
        """Do it; return the result as JSON. Runs in a thread of its own, and ends soon when *stopping* is set. Raises
        ToolFailed."""
