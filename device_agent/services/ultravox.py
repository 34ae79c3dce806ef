"""Ultravox: a call is made by REST, and its address is the credential of a WebSocket that carries bare PCM.

The service listens all the time and decides alone when the user has finished, so it needs a steady stream, 20 ms of
sound every 20 ms: zeros while there is no speech. It drops what arrives faster. Speech that was delayed (by the
connection, or in front of the gate) is therefore sent in real time, and the end of the turn is late by as long as its
beginning had to wait; the sound from before the gate opened doubles as a reserve against hiccups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import LinkLost
from ..net.models import Endpoint, Request
from .auth import MAX_CREDENTIAL_CHARS, with_query
from .base import Capabilities, Function, HistoryEntry, ServerTool, Service, Session
from .json_fields import text
from .ultravox_session import UltravoxSession

MAX_TOOL_S = 40.0
"""Longest timeout of a tool, and 2.5 s where its definition has none (docs.ultravox.ai, quoted by aplisay/llm-agent
#176): a later result is discarded, and the tool is called again."""
TOOL_ROUND_TRIP_S = 2.0  # time for a call and its result besides the tool itself


@dataclass(frozen=True)
class Ultravox(Service):
    """Calls made at *url*, which may begin with wss://, too. Without a *model* the service takes its newest."""

    url: str = "https://api.ultravox.ai/api/calls"
    voice: str = "Mark"

    can = Capabilities(
        push_to_talk="by silence",
        cancel="yes",
        typed="yes",
        clips="no faster than they play",
        tools="yes",
        server_tools="those of the account",
        resume="as a new call",
        recall="yes",
        text_only="yes",
        language="yes",
        announcements="asked for",
    )
    rates = (24000, 16000, 8000, 48000)
    longest_tool_s = MAX_TOOL_S
    takes_halves = True  # the service listens all the time, and decides alone what a turn was

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request:
        """A call that continues another one keeps its history, and may not be given another one."""
        parts = urlsplit(self.url)
        url = parts._replace(scheme={"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)).geturl()
        headers = {"X-API-Key": self.key.reveal()} if self.key else {}
        before = {"initialMessages": [_message(each) for each in said]} if said and not resume else {}
        return Request(with_query(url, {"priorCallId": resume}), {**self._call(), **before}, headers)

    def endpoint(self, answer: Any, resume: str) -> Endpoint:
        url = text(answer, "joinUrl") if isinstance(answer, dict) else ""
        if not _is_address(url):
            raise LinkLost("the answer of ultravox holds no address to join the call at")
        if urlsplit(self.url).scheme in {"https", "wss"} and not url.startswith("wss:"):
            raise LinkLost("ultravox offers a call without encryption, which could be overheard; not joined")
        return Endpoint(f"ultravox at {urlsplit(self.url).hostname}", url)

    def session(self) -> Session:
        return UltravoxSession(rate=self.rate, text_only=self.text_only, patience_s=self.patience_s)

    def _call(self) -> dict[str, Any]:
        """Return the call. By default the agent speaks first, and a buffer of 60 ms needs a perfect network."""
        named = {"model": self.model, "languageHint": self.language}
        return {
            "systemPrompt": self.prompt,
            **{name: value for name, value in named.items() if value},
            "voice": self.voice,
            "medium": {
                "serverWebSocket": {
                    "inputSampleRate": self.rate,
                    "outputSampleRate": self.rate,
                    "clientBufferSizeMs": 30000,
                    "mediaIdleTimeout": "60s",
                }
            },
            "firstSpeakerSettings": {"user": {}},
            "initialOutputMedium": "MESSAGE_MEDIUM_TEXT" if self.text_only else "MESSAGE_MEDIUM_VOICE",
            "vadSettings": {"turnEndpointDelay": f"{self.silence_ms / 1000:g}s"},
            "selectedTools": [*map(_server_tool, self.tools), *map(_client_tool, self.functions)],
        }


def _is_address(url: str) -> bool:
    """Return whether *url*, which comes from outside and may be anything, is the address of a WebSocket."""
    try:
        named = bool(urlsplit(url).hostname)
    except ValueError:
        return False
    return named and url.startswith(("ws://", "wss://")) and url.isprintable() and len(url) <= MAX_CREDENTIAL_CHARS


def _message(said: HistoryEntry) -> dict[str, str]:
    return {"role": "MESSAGE_ROLE_USER" if said.by_user else "MESSAGE_ROLE_AGENT", "text": said.text}


def _server_tool(tool: ServerTool) -> dict[str, Any]:
    return {"toolName": tool} if isinstance(tool, str) else dict(tool)


def _client_tool(function: Function) -> dict[str, Any]:
    """A JSON schema becomes one parameter for each of its properties; the timeout is in whole seconds, such as 12s."""
    required = function.parameters.get("required", ())
    parameters = [
        {"name": name, "location": "PARAMETER_LOCATION_BODY", "schema": schema, "required": name in required}
        for name, schema in function.parameters.get("properties", {}).items()
    ]
    tool = {"modelToolName": function.name, "description": function.description, "dynamicParameters": parameters}
    timeout = math.ceil(min(function.timeout_s + TOOL_ROUND_TRIP_S, MAX_TOOL_S))
    return {"temporaryTool": {**tool, "timeout": f"{timeout}s", "client": {}}}
