"""What an HTTP answer that is no success means: is it time that helps, or a new key?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import LinkLost, LinkRefused

REFUSING = {400, 401, 402, 403, 404, 405, 410, 422}
"""Answers that another try will not change: wrong address, key, model or plan."""
HINTS = {401: " (is the key right?)", 403: " (is the key right?)", 404: " (are service.url and service.model right?)"}
"""What to do, where a status alone does not say it."""
BUSY_S = 30.0
"""Seconds to stay away from a service that says it is busy and not for how long."""
LONGEST_S = 3600.0


def rejection(name: str, status: int, headers: Mapping[str, str], body: bytes | None) -> LinkLost | LinkRefused:
    """Return the error that an answer with *status* is. The keys of *headers* are in lower case."""
    text = f"{name} answered {status}{_reason(body)}"
    if status in REFUSING:
        return LinkRefused(text + HINTS.get(status, ""))
    if 300 <= status < 400 or status == 200:
        return LinkLost(f"{text}, not what was asked for; is there a login page in between?")
    if status == 429:
        wait = headers.get("retry-after", "")
        return LinkLost(text, retry_after=max(1.0, min(float(wait), LONGEST_S)) if wait.isdigit() else BUSY_S)
    return LinkLost(text)


def _reason(body: bytes | None) -> str:
    """Return what a service says in the body of a rejection: {"error": "..."} or {"error": {"message": "..."}}."""
    try:
        answer: Any = json.loads(body or b"")
        error = answer.get("error", answer.get("detail"))
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    return f": {' '.join(text.split())[:200]}" if isinstance(text, str) else ""
