"""What an HTTP answer that is no success means: is it time that helps, or a new key?"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import LinkLost, LinkRefused
from ..core.redaction import quoted

REFUSING_STATUSES = {400, 401, 402, 403, 404, 405, 410, 422}
"""Answers that another try will not change: wrong address, key, model or plan."""
STATUS_HINTS = {
    401: " (is the key right?)",
    403: " (are the key and the address right?)",
    404: " (are service.url and service.model right?)",
}
"""What to do, where a status alone does not say it."""
CAPTIVE_PORTAL_STATUS = 511
"""Network Authentication Required: what an honest login page answers."""
NO_QUOTA_PHRASES = ("insufficient_quota", "exceeded your current quota")
"""What an answer of 429 holds that no time will change: the account is empty (seen at OpenAI)."""
BUSY_RETRY_S = 4.0
"""Seconds to stay away from a service that says it is busy and not for how long: who waits for an answer, 15 s at most,
is worth another two tries; a connection that nobody waits for pauses longer by itself."""
MAX_RETRY_AFTER_S = 3600.0
"""Seconds. No service keeps us away for longer, whatever it asks for."""
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LENGTH = r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)(?![a-z])"
_ASKED = re.compile(rf"(?:try again|retry|wait)(?: in| after| for)?:? ?((?:{_LENGTH} ?)+)", re.IGNORECASE)
MAX_SEARCHED_CHARS = 2000
"""Characters of it that are searched for a time to stay away."""


def rejection(
    name: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
    hide: Iterable[str] = (),
    wall: float = 0.0,
) -> LinkLost | LinkRefused:
    """Return the error that an answer with *status* is. The keys of *headers* are in lower case; *hide* is what may
    never be repeated; *wall* is Unix time, for a Retry-After that is a date, and 0 where that cannot be one."""
    said = _reason(body)
    reason = quoted(said, hide)
    text = f"{name} answered {status}" + (f": {reason}" if reason else "")
    if status in REFUSING_STATUSES:
        return LinkRefused(text + STATUS_HINTS.get(status, ""))
    if status == 429 and any(words in (body or b"").decode(errors="replace").lower() for words in NO_QUOTA_PHRASES):
        return LinkRefused(text)
    if 300 <= status < 400 or status in {200, CAPTIVE_PORTAL_STATUS}:
        there = quoted(_host(headers.get("location", "")), hide)
        to = f" and redirected to {there}, which is not followed" if there else ""
        return LinkLost(f"{text}{to}: not the expected answer; is there a login page in between?")
    wait = _retry_after(headers, wall) or asked_wait(said)
    if status == 429:
        wait = max(1.0, wait or BUSY_RETRY_S)
    return LinkLost(text, retry_after=wait)


def asked_wait(text: str) -> float:
    """Return how many seconds a service asks us to stay away in words ("try again in 6m0s", "in 166ms"), 0 where it
    does not; at most LONGEST_S."""
    asked = _ASKED.search(text[:MAX_SEARCHED_CHARS])
    if asked is None:
        return 0.0
    parts = re.findall(_LENGTH, asked[1], re.IGNORECASE)
    return min(sum(float(number) * _seconds(unit.lower()) for number, unit in parts), MAX_RETRY_AFTER_S)


def _seconds(unit: str) -> float:
    """Return how many seconds *unit* ("ms", "minutes") is."""
    return UNIT_SECONDS["ms" if unit.startswith(("ms", "mil")) else unit[0]]


def _retry_after(headers: Mapping[str, str], wall: float) -> float:
    """Return the seconds that a Retry-After asks for (RFC 9110, 10.2.3: seconds or a date), 0 where there is none."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        date = time.strptime(value, "%a, %d %b %Y %H:%M:%S GMT")
    except ValueError:
        return 0.0
    import calendar

    return max(0.0, min(calendar.timegm(date) - wall, MAX_RETRY_AFTER_S)) if wall else 0.0


def _host(url: str) -> str:
    """Return the host of an address that a stranger wrote, "" where it is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _reason(body: bytes | None) -> str:
    """Return what a service says in the body of a rejection: {"error": "..."} or {"error": {"message": "..."}}."""
    try:
        answer: Any = json.loads(body or b"")
        error = answer.get("error", answer.get("detail"))
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
