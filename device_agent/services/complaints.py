"""What the errors of the family mean: who can help, or that nobody needs to."""

from __future__ import annotations

from ..errors import LinkLost, LinkRefused
from .fields import LONGEST_COMPLAINT, Fields, name, part, text

FATAL = {
    "invalid_api_key": "the key is not valid",
    "insufficient_quota": "the account has no credit left",
    "model_not_found": "there is no such model",
    "beta_api_shape_disabled": "the server does not speak the beta protocol any more",
}
"""Error codes after which no other try helps."""
OVER = {"session_expired", "max_duration", "timeout"}
"""Error codes that end the session in the ordinary course of things."""
BUSY = ("conversation_already_has_active_response", "already has an active response")
"""Our request for a reply came while another one runs: as a code, and in the message of servers without codes."""
LATE = ("response_cancel_not_active", "no active response", "truncat")
"""Parts of codes and messages of errors that only say that we were a moment late."""


def read(event: Fields) -> tuple[str, str]:
    """Return code and message of an ``error`` event. What it holds is an object or, as seen in the field, a string."""
    error = event.get("error")
    detail = part(event, "error")
    code = name(detail, "code") or name(detail, "type")
    message = text(detail, "message") or (error if isinstance(error, str) else "")
    return code, message[:LONGEST_COMPLAINT] or code or "no reason given"


def is_busy(code: str, message: str) -> bool:
    """Whether the service answers one request at a time, and ours was one too many."""
    return any(words in f"{code} {message.lower()}" for words in BUSY)


def judge(code: str, message: str) -> str:
    """Return what to tell about an error, "" if nothing. Raises LinkRefused or LinkLost where it ends the session."""
    if code in FATAL:
        raise LinkRefused(f"{FATAL[code]} ({code}: {message})")
    if code in OVER:
        raise LinkLost(f"the session is over ({code}: {message})")
    if any(words in f"{code} {message.lower()}" for words in LATE):
        return ""
    return f"{code}: {message}" if code and code != message else message


def of_reply(response: Fields) -> str:
    """Return why a reply is not whole, "" where it is. xAI's status_details may be a string that means nothing."""
    status = text(response, "status") or "completed"
    if status == "completed":
        return ""
    details = part(response, "status_details")
    error = part(details, "error")
    said = text(error, "message") or text(error, "code") or text(details, "reason") or status
    return said[:LONGEST_COMPLAINT]
