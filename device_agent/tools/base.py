"""The contract of a tool."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from ..core.errors import AgentError
from ..services.base import Function


class ToolFailed(AgentError, RuntimeError):
    """A tool did not do what it was asked to do. The assistant is told the text."""


class Tool(Protocol):
    """Something that can be done."""

    @property
    def function(self) -> Function:
        """What the assistant is told."""

    @property
    def quiet(self) -> bool:
        """Whether the assistant had better say nothing about the outcome."""

    def run(self, arguments: dict[str, Any], stopping: threading.Event) -> str:
        """Do it; return the outcome as JSON. Runs in a thread of its own, and ends soon when *stopping* is set.

        Raises ToolFailed.
        """
