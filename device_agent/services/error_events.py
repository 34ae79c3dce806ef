"""Error events: what they mean, and whether time or a new key helps."""

from __future__ import annotations

import re

from ..core.errors import LinkLost, LinkRefused
from .json_fields import MAX_ERROR_CHARS, Fields, name, part, text

FATAL_CODES = {  # after which no retry helps
    "invalid_api_key": "the key is not valid",
    "insufficient_quota": "the account has no credit left",
    "model_not_found": "there is no such model",
    "beta_api_shape_disabled": "the server does not speak the beta protocol any more",
}
EMPTY_COMMIT_CODE = "input_audio_buffer_commit_empty"  # the error code of a commit with less than 100 ms of sound
SESSION_OVER_CODES = {"session_expired", "max_duration", "timeout"}  # error codes that end the session regularly
ACTIVE_RESPONSE_PHRASES = ("conversation_already_has_active_response", "already has an active response")
"""A reply was requested while another one runs: as a code, and in the message of servers without codes."""
TOO_LATE_PHRASES = ("response_cancel_not_active", "no active response", "truncat", "item_delete", "item not found")
"""Parts of codes and messages of errors about a request that came a moment too late."""
TRANSIENT_PHRASES = ("rate_limit", "server_error", "internal_error", "overloaded", "temporarily", "inference_error")
"""Parts of codes and types of failures that a retry may not meet (producer-pal#885, livekit#4617)."""
RETRY_AFTER_PATTERN = re.compile(r"try again in (\d+(?:\.\d+)?) ?(ms|s)\b", re.IGNORECASE)
"""How OpenAI names the time after which a request may be repeated."""
REPLY_RETRY_S, MAX_REPLY_RETRY_S = 0.25, 5.0
"""Seconds until a failed reply is requested once more: if the service names no time, and at most."""


def read(event: Fields) -> tuple[str, str]:
    """Return code and message: in an object, flat in the event (vLLM), or in place of it (seen in the field)."""
    error = event.get("error")
    detail = part(event, "error") or {key: value for key, value in event.items() if key != "type"}
    code = name(detail, "code") or name(detail, "type")
    message = text(detail, "message") or (error if isinstance(error, str) else "")
    return code, message[:MAX_ERROR_CHARS] or code or "no reason given"


def parameter(event: Fields) -> str:
    """Return the path of the setting that an ``error`` event is about, such as ``session.audio.output.speed``."""
    return name(part(event, "error"), "param") or name(event, "param")


def is_busy(code: str, message: str) -> bool:
    """Return whether a request for a reply was one too many."""
    return _holds(code, message, ACTIVE_RESPONSE_PHRASES)


def judge(code: str, message: str) -> str:
    """Return the text to report for an error, "" for none. Raises LinkRefused or LinkLost if it ends the session."""
    if code in FATAL_CODES:
        raise LinkRefused(f"{FATAL_CODES[code]} ({code}: {message})")
    if code in SESSION_OVER_CODES:
        raise LinkLost(f"the session is over ({code}: {message})")
    if _holds(code, message, TOO_LATE_PHRASES):
        return ""
    return f"{code}: {message}" if code and code != message else message


def _holds(code: str, message: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in f"{code} {message.lower()}" for phrase in phrases)


def of_reply(response: Fields) -> str:
    """Return why a reply is not whole, "" if it is. xAI's status_details may be a string without meaning. Raises
    LinkRefused if no other request will be answered: no credit, for example."""
    status = text(response, "status") or "completed"
    if status == "completed":
        return ""
    details = part(response, "status_details")
    error = part(details, "error")
    code, message = name(error, "code") or name(error, "type"), text(error, "message")
    if code in FATAL_CODES:
        raise LinkRefused(f"{FATAL_CODES[code]} ({code}: {message[:MAX_ERROR_CHARS]})")
    said = message or code or text(details, "reason") or status
    return said[:MAX_ERROR_CHARS]


def momentary(response: Fields) -> bool:
    """Return whether a reply failed temporarily."""
    error = part(part(response, "status_details"), "error")
    return text(response, "status") == "failed" and is_momentary(f"{name(error, 'code')} {name(error, 'type')}")


def is_momentary(code: str) -> bool:
    """Return whether an error with this *code* passes with time."""
    return any(phrase in code for phrase in TRANSIENT_PHRASES)


def again_after(message: str) -> float:
    """Return in how many seconds to repeat a request that failed temporarily with *message*."""
    found = RETRY_AFTER_PATTERN.search(message)
    if not found:
        return REPLY_RETRY_S
    seconds = float(found[1]) / (1000 if found[2].lower() == "ms" else 1)
    return min(max(seconds, REPLY_RETRY_S), MAX_REPLY_RETRY_S)
