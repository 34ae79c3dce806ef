"""What the assistant may do on this device. It is told of each tool as a ``Function`` and asks by ``ToolCall``.

A tool runs off the main thread, several at once. Whatever becomes of it, the assistant gets an answer: a tool that
fails, hangs or talks too much is a ``ToolResult`` that says so.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from ..core.actions import ToolResult
from ..core.errors import AgentError
from ..core.events import ToolCall
from ..services import Function
from ..services.tool_calls import LONGEST_ARGUMENTS
from .base import Tool as Tool
from .base import ToolFailed as ToolFailed
from .toolbox import AT_ONCE as AT_ONCE
from .toolbox import WAITING as WAITING
from .toolbox import Toolbox as Toolbox
from .toolbox import _failure as _failure
from .toolbox import log as log
