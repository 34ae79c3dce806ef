"""What a close frame means: is it time that helps, another service, or a new key?

The close code alone does not say. 1008 (policy) is sent for a key that is refused, but also where all slots are taken
(Hugging Face speech-to-speech), by servers that end idle sessions, and by proxies that relay what the service behind
them said (LiteLLM). So it is judged together with the error event right before it, and with whether the session had
worked: a service that had taken our key and settings a moment ago has no lasting reason to refuse them.
"""

from __future__ import annotations

from ..core.errors import LinkClosed, LinkLost, LinkRefused
from ..net.http_errors import BUSY_RETRY_S, NO_QUOTA_PHRASES, asked_wait
from .error_events import FATAL

JUST_BEFORE_S = 5.0
"""An error event that is no older belongs to the close frame."""
REFUSING = {1008, 3000, 3003, 4000}
"""Close codes that refuse a session which has never worked: policy, unauthorized and forbidden (registered with IANA),
and OpenAI's refusal of the beta protocol."""
TRY_AGAIN_LATER = 1013
"""The close code of a service that is overloaded (registered with IANA)."""
FOR_GOOD = (*FATAL, *NO_QUOTA_PHRASES)
"""What the error event or the reason holds when no other try helps, whatever the code is."""
NO_KEY = ("unauthorized", "unauthenticated", "authentication", "forbidden", "invalid api key", "incorrect api key")
"""The same, as long as the session has never worked: after that a token may have run out, and the next one is fresh."""
FOR_NOW = (
    "session_limit",
    "slots",
    "rate_limit",
    "rate limit",
    "too many",
    "concurren",
    "capacity",
    "overload",
    "busy",
)
"""What they hold when there is room later."""


def judge(closed: LinkClosed, code: str = "", message: str = "", *, ready: bool) -> LinkLost | LinkRefused:
    """Return the error that *closed* is.

    *code* and *message* are of the error event that came no more than JUST_BEFORE_S before the close frame, "" where
    there was none; *ready* says whether the session had worked. A LinkClosed is one that would refuse us otherwise: it
    does, where that happens again at once (``LinkPolicy.lost``).
    """
    complaint = f"{code}: {message}" if code and code not in message else message
    text = f"{closed} ({complaint})" if complaint else str(closed)
    said = f"{code} {message} {closed.reason}".lower()
    if _holds(said, FOR_GOOD) or (not ready and _holds(said, NO_KEY)):
        return LinkRefused(text)
    wait = busy_for(said) or (BUSY_RETRY_S if closed.code == TRY_AGAIN_LATER else 0.0)
    if wait:
        return LinkLost(text, retry_after=wait)
    if closed.code in REFUSING:
        return LinkClosed(text, code=closed.code, reason=closed.reason) if ready else LinkRefused(text)
    return LinkLost(text)


def busy_for(said: str) -> float:
    """Return how many seconds a service that says *said* (lower case) asks us to stay away, 0 where it is not busy."""
    return asked_wait(said) or (BUSY_RETRY_S if _holds(said, FOR_NOW) else 0.0)


def _holds(said: str, words: tuple[str, ...]) -> bool:
    return any(each in said for each in words)
