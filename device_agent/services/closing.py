"""Close codes: whether time helps, another service, or a new key.

The close code alone is ambiguous. 1008 (policy) is sent for a key that is refused, but also where all slots are taken
(Hugging Face speech-to-speech), by servers that end idle sessions, and by proxies that relay what the service behind
them said (LiteLLM). So it is judged together with the error event right before it, and with whether the session had
worked: a service that had accepted key and settings a moment ago has no lasting reason to refuse them.
"""

from __future__ import annotations

import re

from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..net.http_errors import BUSY_RETRY_S, NO_QUOTA_PHRASES, asked_wait
from .error_events import FATAL_CODES

ERROR_BEFORE_CLOSE_S = 5.0  # seconds. An error event that is no older belongs to the close frame
REFUSING_CLOSE_CODES = {1008, 3000, 3003, 4000}
"""Close codes that refuse a session which has never worked: policy, unauthorized and forbidden (registered with IANA),
and OpenAI's refusal of the beta protocol."""
TRY_AGAIN_LATER_CODE = 1013  # the close code of a service that is overloaded (registered with IANA)
FATAL_PHRASES = (*FATAL_CODES, *NO_QUOTA_PHRASES)
"""Parts of an error event or a close reason after which no retry helps, whatever the code is."""
KEY_PHRASES = ("unauthorized", "unauthenticated", "authentication", "forbidden", "invalid api key", "incorrect api key")
"""The same while the session has never worked; later a token may have expired, and the next one is fresh."""
BUSY_PATTERN = re.compile(r"session_limit|slots|rate[_ ]limit|too many|concurren|capacity|overload|busy")
"""What announces room later."""


def judge(closed: LinkClosed, code: str = "", message: str = "", *, ready: bool) -> LinkLost | LinkRefused:
    """Return the error that *closed* stands for. *code* and *message* are of the error event up to ERROR_BEFORE_CLOSE_S
    before it, "" if there was none; *ready*: the session had worked. A LinkClosed is returned where an unused session
    would be refused: it is a refusal if it happens again at once (``LinkPolicy.lost``)."""
    complaint = f"{code}: {message}" if code and code not in message else message
    text = f"{closed} ({complaint})" if complaint else str(closed)
    said = f"{code} {message} {closed.reason}".lower()
    if _holds(said, FATAL_PHRASES) or (not ready and _holds(said, KEY_PHRASES)):
        return LinkRefused(text)
    if wait := busy_for(said) or (BUSY_RETRY_S if closed.code == TRY_AGAIN_LATER_CODE else 0.0):
        return LinkLost(text, retry_after=wait)
    if closed.code in REFUSING_CLOSE_CODES:
        return LinkClosed(text, code=closed.code, reason=closed.reason) if ready else LinkRefused(text)
    return LinkLost(text)


def busy_for(said: str) -> float:
    """Return how many seconds to stay away from a service that says *said* (lower case), 0 if it is not busy."""
    return asked_wait(said) or (BUSY_RETRY_S if BUSY_PATTERN.search(said) else 0.0)


def _holds(said: str, phrases: tuple[str, ...]) -> bool:
    return any(each in said for each in phrases)
