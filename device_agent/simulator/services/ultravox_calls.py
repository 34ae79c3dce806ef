"""The calls of the simulated Ultravox: what may be asked for, and what is remembered of each. Pure but for one lock.

Field names and bounds are those of the service's published OpenAPI description. A request with an unknown field, or
one that would give a call that cannot be held over a plain WebSocket, is refused.
"""

from __future__ import annotations

import math
import random
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..engine.parsing import Refusal
from ..engine.validation import (
    Check,
    anything,
    fields,
    flag,
    list_of,
    mapping,
    matching,
    number,
    one_of,
    only,
    or_null,
    text,
)

MAX_CALLS = 100
"""How many calls are remembered; the oldest are forgotten."""
DURATION = r"\d{1,6}(\.\d{1,9})?s"
"""How a duration is written: seconds, and the letter s."""
USUAL_BUFFER_MS = 60

CLIENT_TOOL_S = 2.5
"""How long a client may think about a tool, unless the tool says otherwise."""


def seconds_of(duration: str) -> float:
    """Return the seconds in a checked duration."""
    return float(duration.removesuffix("s"))


def duration(low: float = 0.0) -> Check:
    """A duration of so many seconds at least."""

    def check(value: Any, where: str) -> None:
        matching(DURATION)(value, where)
        if seconds_of(value) < low:
            raise Refusal(f"{where} must be {low:g}s at least, not {value}", param=where)

    return check


def _exactly_one(**checks: Check) -> Check:
    """An object with one of these fields, and no other."""

    def check(value: Any, where: str) -> None:
        only(**checks)(value, where)
        if len(value) != 1:
            raise Refusal(f"{where} must have exactly one of {', '.join(checks)}", param=where)

    return check


RATE = number(8000, 48_000, whole=True)
FLAGS = (
    *("pong", "state", "transcript", "clientToolInvocation", "dataConnectionToolInvocation", "playbackClearBuffer"),
    *("callStarted", "debug", "callEvent", "toolUsed", "invokingTool", "userStartedSpeaking", "userStoppedSpeaking"),
)
OFF = {"debug", "callEvent", "toolUsed", "invokingTool", "userStartedSpeaking", "userStoppedSpeaking"}
"""Messages that come only if they are asked for."""

SOCKET = only(
    ("inputSampleRate",),
    inputSampleRate=RATE,
    outputSampleRate=or_null(RATE),
    clientBufferSizeMs=or_null(number(0, 600_000, whole=True)),
    mediaIdleTimeout=or_null(duration(10)),
    dataMessages=or_null(only(**dict.fromkeys(FLAGS, flag))),
)
FALLBACK = only(delay=duration(), text=text, prompt=text)
SPEAKER = _exactly_one(
    user=only(fallback=or_null(FALLBACK)),
    agent=only(uninterruptible=flag, text=text, prompt=text, delay=duration()),
)
PARAMETER = only(
    ("name", "location", "schema"),
    name=text,
    location=one_of(*(f"PARAMETER_LOCATION_{where}" for where in ("QUERY", "PATH", "HEADER", "BODY"))),
    schema=fields(),
    required=flag,
)
TOOL = only(
    ("modelToolName",),
    modelToolName=matching(r"[A-Za-z0-9_-]{1,64}"),
    description=text,
    dynamicParameters=list_of(PARAMETER, 100),
    staticParameters=list_of(fields(), 100),
    automaticParameters=list_of(fields(), 100),
    requirements=fields(),
    timeout=duration(),
    precomputable=flag,
    defaultReaction=one_of(
        *(f"AGENT_REACTION_{how}" for how in ("UNSPECIFIED", "SPEAKS", "LISTENS", "SPEAKS_ONCE")),
    ),
    staticResponse=fields(),
    client=only(),
    http=fields(),
    dataConnection=only(),
)


def _selected_tool(value: Any, where: str) -> None:
    rest = dict.fromkeys(("nameOverride", "descriptionOverride"), text)
    more = dict.fromkeys(("authTokens", "parameterOverrides", "transitionId"), anything)
    only(temporaryTool=TOOL, toolName=text, toolId=text, **rest, **more)(value, where)
    if sum(name in value for name in ("temporaryTool", "toolName", "toolId")) != 1:
        raise Refusal(f"{where} must have exactly one of temporaryTool, toolName, toolId", param=where)
    tool = value.get("temporaryTool")
    if tool is not None and sum(name in tool for name in ("client", "http", "dataConnection")) != 1:
        path = f"{where}.temporaryTool"
        raise Refusal(f"{path} must have exactly one of client, http, dataConnection", param=path)


END_BEHAVIOR = one_of(*(f"END_BEHAVIOR_{how}" for how in ("UNSPECIFIED", "HANG_UP_SOFT", "HANG_UP_STRICT")))
CALL: Check = only(
    systemPrompt=or_null(text),
    temperature=number(0, 1),
    model=or_null(text),
    voice=or_null(text),
    externalVoice=or_null(fields()),
    voiceOverrides=or_null(fields()),
    languageHint=or_null(text),
    initialMessages=list_of(only(role=text, text=text, medium=text), 1000),
    initialOutputMedium=one_of(*(f"MESSAGE_MEDIUM_{how}" for how in ("UNSPECIFIED", "VOICE", "TEXT"))),
    joinTimeout=duration(),
    maxDuration=duration(),
    timeExceededMessage=or_null(text),
    inactivityMessages=list_of(
        only(("duration", "message"), duration=duration(), message=text, endBehavior=END_BEHAVIOR), 10
    ),
    selectedTools=list_of(_selected_tool, 100),
    medium=or_null(
        only(serverWebSocket=SOCKET, webRtc=fields(), twilio=fields(), telnyx=fields(), plivo=fields(), sip=fields())
    ),
    recordingEnabled=flag,
    firstSpeaker=text,
    firstSpeakerSettings=or_null(SPEAKER),
    transcriptOptional=flag,
    vadSettings=or_null(
        only(
            turnEndpointDelay=duration(),
            minimumTurnDuration=duration(),
            minimumInterruptionDuration=duration(),
            frameActivationThreshold=number(0.1, 1),
        )
    ),
    metadata=fields(),
    experimentalSettings=anything,
    initialState=fields(),
    dataConnection=or_null(fields()),
    callbacks=or_null(fields()),
)
"""What a request for a call may hold."""


@dataclass
class Call:
    """One call. Times are those of the voices' clock. Its address is a secret: whoever knows it may join, once."""

    id: str
    secret: str = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    created: float
    prior: str = ""
    joined: float = math.inf
    ended: float = math.inf
    end_reason: str | None = None

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
        """How much of a reply the client can hold."""
        given = self.socket.get("clientBufferSizeMs")
        return (USUAL_BUFFER_MS if given is None else given) / 1000

    @property
    def idle_s(self) -> float:
        """How long the client may send no sound."""
        timeout = self.socket.get("mediaIdleTimeout")
        return seconds_of(timeout) if timeout else math.inf

    def wants(self, message: str) -> bool:
        """Whether the client wants messages of this kind, by the name of their flag."""
        flags = self.socket.get("dataMessages") or {}
        return bool(flags.get(message, message not in OFF))

    def lasts(self, name: str, usual: str) -> float:
        """Return the duration in the field *name*."""
        return seconds_of(self.settings.get(name, usual))

    @property
    def client_tools(self) -> dict[str, float]:
        """The tools that the client runs, and how long it may take."""
        found: dict[str, float] = {}
        for selected in self.settings.get("selectedTools", []):
            tool = selected.get("temporaryTool") or {}
            if "client" in tool:
                timeout = tool.get("timeout")
                found[tool["modelToolName"]] = seconds_of(timeout) if timeout else CLIENT_TOOL_S
        return found

    def end(self, now: float, reason: str) -> None:
        """The call is over; the first reason counts."""
        if self.end_reason is None:
            self.ended, self.end_reason = now, reason

    def shown(self, wall: float, origin: str) -> dict[str, Any]:
        """Return the call as it is shown. *wall* is Unix time at 0 of the clock."""
        settings = self.settings
        return {
            "callId": self.id,
            "clientVersion": None,
            "created": _time(wall + self.created),
            "joined": _time(wall + self.joined),
            "ended": _time(wall + self.ended),
            "endReason": self.end_reason,
            "firstSpeakerSettings": settings.get("firstSpeakerSettings") or {"agent": {}},
            "joinTimeout": settings.get("joinTimeout", "30s"),
            "joinUrl": f"{origin}/join/{self.secret}",
            "maxDuration": settings.get("maxDuration", "3600s"),
            "medium": settings["medium"],
            "model": settings.get("model") or "ultravox-v0.7",
            "voice": settings.get("voice"),
            "systemPrompt": settings.get("systemPrompt"),
            "temperature": settings.get("temperature", 0),
            "initialOutputMedium": settings.get("initialOutputMedium", "MESSAGE_MEDIUM_VOICE"),
            "metadata": settings.get("metadata", {}),
        }


def _time(unix: float) -> str | None:
    """Return a time as it is shown, None where it has not come yet."""
    return None if unix == math.inf else datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")


class Calls:
    """All calls that are remembered. Any thread may call anything here."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed}/calls")
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}

    def create(self, asked: dict[str, Any], prior: str | None, now: float) -> Call:
        """Return a new call; raise Refusal where what is *asked* for makes no sense.

        *prior* is the id of the call that it goes on with: what is not asked for is as it was there.
        """
        CALL(asked, "")
        with self._lock:
            before = self._prior(asked, prior)
            settings = {**before, **{name: value for name, value in asked.items() if value is not None}}
            _check_medium(settings)
            call = Call(self._id(), f"{self._chance.getrandbits(128):032x}", settings, now, prior or "")
            self._calls[call.id] = call
            while len(self._calls) > MAX_CALLS:
                del self._calls[next(iter(self._calls))]
        return call

    def _id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def _prior(self, asked: Mapping[str, Any], prior: str | None) -> Mapping[str, Any]:
        if prior is None:
            return {}
        if prior not in self._calls:
            raise Refusal("There is no such call.", code="not_found", param="priorCallId")
        if asked.get("initialMessages"):
            raise Refusal("A call that goes on brings its messages along.", param="initialMessages")
        return self._calls[prior].settings

    def join(self, secret: str, now: float) -> Call | None:
        """Return the call with this address, and let nobody else join it; None: nobody may join it (any more)."""
        with self._lock:
            call = next((call for call in self._calls.values() if call.secret == secret), None)
            if call is None or call.joined < math.inf or call.end_reason:
                return None
            if now > call.created + call.lasts("joinTimeout", "30s"):
                call.end(call.created + call.lasts("joinTimeout", "30s"), "unjoined")
                return None
            call.joined = now
            return call


def _check_medium(settings: Mapping[str, Any]) -> None:
    medium = mapping(settings.get("medium") or {}, "medium")
    if "serverWebSocket" not in medium:
        # The live service would make a WebRTC call of it, at whose address no plain WebSocket finds sound.
        raise Refusal("medium.serverWebSocket is needed: this simulator knows no WebRTC", param="medium")
