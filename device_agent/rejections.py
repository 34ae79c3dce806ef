"""What an HTTP answer that is no success means: is it time that helps, or a new key?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from .errors import LinkLost, LinkRefused
from .printable import printable

REFUSING = {400, 401, 402, 403, 404, 405, 410, 422}
"""Answers that another try will not change: wrong address, key, model or plan."""
HINTS = {401: " (is the key right?)", 403: " (is the key right?)", 404: " (are service.url and service.model right?)"}
"""What to do, where a status alone does not say it."""
LOGIN = 511
"""Network Authentication Required: what an honest login page answers."""
BUSY_S = 4.0
"""Seconds to stay away from a service that says it is busy and not for how long: who waits for an answer, 15 s at most,
is worth another two tries; a connection that nobody waits for pauses longer by itself."""
LONGEST_S = 3600.0
MOST_QUOTED = 200
"""Characters of what a stranger says that are repeated."""
SHORTEST_SECRET, LONGEST_WORD = 4, 16
"""Characters: what is shorter in a header is no key, and what is shorter in a URL no credential but a path."""


def rejection(
    name: str, status: int, headers: Mapping[str, str], body: bytes | None, hide: Iterable[str] = ()
) -> LinkLost | LinkRefused:
    """Return the error that an answer with *status* is. The keys of *headers* are in lower case; *hide* is what may
    never be repeated."""
    reason = quoted(_reason(body), hide)
    text = f"{name} answered {status}" + (f": {reason}" if reason else "")
    if status in REFUSING:
        return LinkRefused(text + HINTS.get(status, ""))
    if 300 <= status < 400 or status in {200, LOGIN}:
        there = quoted(_host(headers.get("location", "")), hide)
        to = f" and sent us to {there}, where we do not go" if there else ""
        return LinkLost(f"{text}{to}: not what was asked for; is there a login page in between?")
    if status == 429:
        wait = headers.get("retry-after", "")
        return LinkLost(text, retry_after=max(1.0, min(float(wait), LONGEST_S)) if wait.isdecimal() else BUSY_S)
    return LinkLost(text)


def _host(url: str) -> str:
    """Return the host of an address that a stranger wrote, "" where it is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def secrets(url: str, headers: Mapping[str, str]) -> list[str]:
    """Return what is said to a service and may never be repeated: the words of headers, and what is long in a URL."""
    parts = urlsplit(url)
    words = [word for value in headers.values() for word in value.split() if word != "Bearer"]
    return sorted(
        [
            *(word for word in words if len(word) >= SHORTEST_SECRET),
            *(part for part in (parts.path, parts.query, *parts.path.split("/")) if len(part) > LONGEST_WORD),
        ],
        key=len,
        reverse=True,
    )


def quoted(text: str, hide: Iterable[str] = ()) -> str:
    """Return what a stranger said: in one line, not too long, and without what must not be repeated."""
    for secret in hide:
        text = text.replace(secret, "***")
    return printable(" ".join(text[: 4 * MOST_QUOTED].split()))[:MOST_QUOTED]


def _reason(body: bytes | None) -> str:
    """Return what a service says in the body of a rejection: {"error": "..."} or {"error": {"message": "..."}}."""
    try:
        answer: Any = json.loads(body or b"")
        error = answer.get("error", answer.get("detail"))
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
