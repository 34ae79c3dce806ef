"""Variants of healthy servers of the same protocols: one table, by name. Pure.

Each was reported of a real server in 2026, by programs that talk to it. A variant only changes fields of ``Behaviour``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FAMILY = ("xai", "openai", "litellm")
"""The services whose events have ids, and names that changed."""
JSON = (*FAMILY, "xai-live")
"""The services whose sound is in JSON."""
BY_XAI = ("xai", "litellm", "xai-live")
BY_OPENAI = ("openai", "litellm")
"""The services with the protocol of one company, behind a proxy, too."""


@dataclass(frozen=True)
class Variant:
    """One way to behave. *says* is shown to users."""

    says: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of ``Behaviour``
    services: tuple[str, ...] = ()  # the services with which it makes sense; none: all


def _rewritten(says: str, name: str, services: tuple[str, ...] = FAMILY) -> Variant:
    return Variant(says, {"rewriters": (name,)}, services)


VARIANTS: dict[str, Variant] = {
    # What begins a reply
    "answers-commits": Variant(
        "answers speech as soon as it is committed; a request that comes with it is answered first, without the speech",
        {"commits": "answered"},
        BY_XAI,
    ),
    "drops-requests": Variant(
        "answers speech at once when it is committed, and drops a request that comes with the commit",
        {"commits": "answered", "commit_s": 0.0},
        BY_XAI,
    ),
    "asks": Variant("answers nothing before response.create", {"commits": "asked"}, BY_XAI),
    "takes-back": Variant(
        "cancels the end of a turn when the user goes on speaking, and drops the reply that has begun, without notice",
        {"takes_back": True},
        ("xai", "litellm"),
    ),
    "automatic": Variant(
        "detects turns and interrupts by itself although turn_detection is null", {"automatic": True}, BY_OPENAI
    ),
    "created-first": _rewritten("reports the end of a turn only after response.created", "created-first"),
    "created-twice": _rewritten("sends response.created twice", "created-twice"),
    "replaced": _rewritten("announces a reply that never comes, and then the one that does", "replaced"),
    "busy-first": _rewritten("reports that a reply is under way just before it announces the reply", "busy-first"),
    "busy-idle": Variant(
        "refuses every second request for a reply because of another reply, although none is under way",
        {"busy_idle": True},
        FAMILY,
    ),
    # The events of a reply
    "late-sound": _rewritten("sends the last pieces of sound after response.output_audio.done", "late-sound"),
    "later-sound": _rewritten("sends the last pieces of sound after response.done", "later-sound"),
    "never-done": _rewritten("ends replies without response.done", "never-done"),
    "two-items": Variant("speaks each reply as two items, a commentary and an answer", {"items": 2}, BY_OPENAI),
    "words-at-end": _rewritten("sends the words of a reply only when all of them are spoken", "words-at-end"),
    "calls-in-items": _rewritten("reports a tool call only in response.output_item.done", "calls-in-items"),
    "other-ids": _rewritten("gives the pieces of a reply another response_id than response.created", "other-ids"),
    "random-ids": _rewritten("gives each piece of a reply another response_id", "random-ids"),
    "null-ids": _rewritten("gives the pieces of a reply no response_id: it is null", "null-ids"),
    "no-ids": _rewritten("leaves ids and indices out of the pieces of a reply", "no-ids"),
    "beta-names": _rewritten("calls the pieces of a reply by their old names", "beta-names"),
    "flat-errors": _rewritten("sends an error as a text where other servers send an object", "flat-errors", BY_OPENAI),
    "other-rate": Variant(
        "speaks at 16 kHz whatever rate was requested, and says so in session.updated",
        {"output_rate": 16000},
        BY_OPENAI,
    ),
    # Sessions and tools
    "no-greeting": Variant("sends nothing before the first session.update", {"greeting": "none"}, FAMILY),
    "early-greeting": Variant("greets with conversation.created only", {"greeting": "conversation"}, FAMILY),
    "one-session": Variant(
        "accepts one session only, and closes others with 1008 until 3 s after its end", {"sessions": 1}, ("openai",)
    ),
    "uses-tools": Variant(
        "calls the first tool that is offered in every spoken turn", {"tool": "*"}, (*FAMILY, "ultravox")
    ),
    "slow-tools": Variant(
        "runs tools of its own for 40 s, and reports that they are running (mcp)",
        {"tool": "*", "tool_s": 40.0},
        BY_OPENAI,
    ),
    # The proxy
    "json-in-binary": Variant(
        "imitates LiteLLM 1.81.9: JSON in binary frames, silence when the service ends",
        {"binary_json": True},
        ("litellm",),
    ),
    "asks-too": Variant(
        "imitates LiteLLM up to 1.106.2: requests a reply of its own after each transcript",
        {"injects": True},
        ("litellm",),
    ),
}
"""Name for the command line -> variant. By default, xai answers commits and xai-live does not."""
