"""Calls of the simulated Ultravox: the schema of a request, and what is kept of each call. Pure.

Field names and bounds are those of the service's published OpenAPI description. Of the fields of a call those that a
client of plain WebSockets needs are known; another one is refused, as the live service refuses unknown ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..engine.parsing import Refusal
from ..engine.validation import Check, fields, flag, list_of, matching, number, one_of, only, or_null, text

DEFAULT_MODEL = "ultravox-v0.7"
USUAL_BUFFER_MS = 60
CLIENT_TOOL_S = 2.5
"""How long a client may take for a tool, unless the tool says otherwise."""


def seconds_of(duration: str) -> float:
    """Return the seconds in a checked duration."""
    return float(duration.removesuffix("s"))


def _duration(low: float = 0.0) -> Check:
    """Return a check for a duration of so many seconds at least, written as seconds and the letter s."""

    def check(value: Any, where: str) -> None:
        matching(r"\d{1,6}(\.\d{1,9})?s")(value, where)
        if seconds_of(value) < low:
            raise Refusal(f"{where} must be {low:g}s at least, not {value}", param=where)

    return check


def _exactly_one(value: Mapping[str, Any], where: str, *names: str) -> None:
    if sum(name in value for name in names) != 1:
        raise Refusal(f"{where} must have exactly one of {', '.join(names)}", param=where)


def _tool(value: Any, where: str) -> None:
    fields(temporaryTool=TOOL, toolName=text, toolId=text)(value, where)
    _exactly_one(value, where, "temporaryTool", "toolName", "toolId")
    if "temporaryTool" in value:
        _exactly_one(value["temporaryTool"], f"{where}.temporaryTool", "client", "http", "dataConnection")


RATE = number(8000, 48_000, whole=True)
SOCKET = only(
    "inputSampleRate",
    inputSampleRate=RATE,
    outputSampleRate=or_null(RATE),
    clientBufferSizeMs=number(0, 600_000, whole=True),
    mediaIdleTimeout=or_null(_duration(10)),
)
PARAMETER = only(
    *("name", "location", "schema"),
    name=text,
    location=one_of(*(f"PARAMETER_LOCATION_{where}" for where in ("QUERY", "PATH", "HEADER", "BODY"))),
    schema=fields(),
    required=flag,
)
TOOL = fields(
    "modelToolName",
    modelToolName=matching(r"[A-Za-z0-9_-]{1,64}"),
    description=text,
    dynamicParameters=list_of(PARAMETER, 100),
    timeout=_duration(),
    client=only(),
)
CALL = only(
    systemPrompt=text,
    model=text,
    voice=text,
    languageHint=text,
    initialMessages=list_of(only(role=text, text=text), 1000),
    initialOutputMedium=one_of("MESSAGE_MEDIUM_VOICE", "MESSAGE_MEDIUM_TEXT"),
    selectedTools=list_of(_tool, 100),
    medium=only("serverWebSocket", serverWebSocket=SOCKET),
    firstSpeakerSettings=only(user=only(), agent=fields()),
    vadSettings=only(turnEndpointDelay=_duration()),
)
"""A request for a call."""


@dataclass
class Call:
    """One call. *created* is a time of the sessions' clock. With its *secret* it can be joined, once."""

    id: str
    secret: str = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    created: float
    prior: str = ""
    joined: bool = False

    @property
    def socket(self) -> Mapping[str, Any]:
        """What was asked of the connection."""
        socket: Mapping[str, Any] = self.settings["medium"]["serverWebSocket"]
        return socket

    @property
    def input_rate(self) -> int:
        """Samples per second from the client."""
        return int(self.socket["inputSampleRate"])

    @property
    def output_rate(self) -> int:
        """Samples per second to the client."""
        return int(self.socket.get("outputSampleRate") or self.input_rate)

    @property
    def ahead_s(self) -> float:
        """How much of a reply the client can buffer."""
        return float(self.socket.get("clientBufferSizeMs", USUAL_BUFFER_MS)) / 1000

    @property
    def idle_s(self) -> float:
        """How long the client may send no sound."""
        timeout = self.socket.get("mediaIdleTimeout")
        return seconds_of(timeout) if timeout else math.inf

    @property
    def client_tools(self) -> dict[str, float]:
        """The tools that the client runs, and how long each may take."""
        tools = [selected.get("temporaryTool") or {} for selected in self.settings.get("selectedTools", [])]
        usual = f"{CLIENT_TOOL_S}s"
        return {tool["modelToolName"]: seconds_of(tool.get("timeout", usual)) for tool in tools if "client" in tool}

    def shown(self, wall: float, origin: str) -> dict[str, Any]:
        """Return the call as it is shown. *wall* is Unix time at 0 of the clock."""
        created = datetime.fromtimestamp(wall + self.created, UTC).isoformat().replace("+00:00", "Z")
        return {
            "callId": self.id,
            "created": created,
            "joinUrl": f"{origin}/join/{self.secret}",
            "model": DEFAULT_MODEL,
            **self.settings,
        }
