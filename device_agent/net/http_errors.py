"""HTTP status of a rejection: an error that says whether to retry, and when."""

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
"""Another try changes nothing: the address, key, model or plan is wrong."""
STATUS_HINTS = {
    401: " (is the key right?)",
    403: " (are the key and the address right?)",
    404: " (are service.url and service.model right?)",
}
CAPTIVE_PORTAL_STATUS = 511
"""Network Authentication Required (RFC 6585)."""
NO_QUOTA_PHRASES = ("insufficient_quota", "exceeded your current quota")
"""What a 429 holds that time does not change: the account is empty (seen at OpenAI)."""
BUSY_RETRY_S = 4.0
"""Seconds to stay away from a service that is busy and does not say for how long. A turn waits 15 s for an answer, so
two more tries fit; a connection that no turn waits for pauses longer by itself."""
MAX_RETRY_AFTER_S = 3600.0
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LENGTH = r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)(?![a-z])"
_ASKED = re.compile(rf"(?:try again|retry|wait)(?: in| after| for)?:? ?((?:{_LENGTH} ?)+)", re.IGNORECASE)
MAX_SEARCHED_CHARS = 2000


def rejection(
    name: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
    hide: Iterable[str] = (),
    wall: float = 0.0,
) -> LinkLost | LinkRefused:
    """Return the error for an answer of *name* with *status*. The keys of *headers* are in lower case.

    *hide* lists secrets that the text must not repeat. *wall* is the Unix time, for a Retry-After with a date; 0: such
    a date is ignored.
    """
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
    """Return the seconds that *text* asks to wait ("try again in 6m0s", "in 166ms"), 0 for none; bounded."""
    asked = _ASKED.search(text[:MAX_SEARCHED_CHARS])
    if asked is None:
        return 0.0
    parts = re.findall(_LENGTH, asked[1], re.IGNORECASE)
    return min(sum(float(number) * _seconds(unit.lower()) for number, unit in parts), MAX_RETRY_AFTER_S)


def _seconds(unit: str) -> float:
    """Return how many seconds *unit* ("ms", "minutes") is."""
    return UNIT_SECONDS["ms" if unit.startswith(("ms", "mil")) else unit[0]]


def _retry_after(headers: Mapping[str, str], wall: float) -> float:
    """Return the seconds of a Retry-After (RFC 9110, 10.2.3: seconds or a date), 0 where there is none."""
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
    """Return the host of an untrusted *url*, "" where it is malformed."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _reason(body: bytes | None) -> str:
    """Return the message of a JSON *body*: {"error": "..."}, {"error": {"message": "..."}} or {"detail": "..."}."""
    try:
        answer: Any = json.loads(body or b"")
        error = answer.get("error", answer.get("detail"))
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
