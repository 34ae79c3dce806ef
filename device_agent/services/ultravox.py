"""Ultravox: a call is made by REST, and its address is the credential of a socket that carries bare PCM.

The service listens all the time and decides alone when the user has finished, so it wants a steady stream, 20 ms of
sound every 20 ms: zeros while there is no speech. It drops what comes faster. Speech that waited (for the connection,
or in front of the gate) is therefore sent at the speed of sound, and the end of the turn is late by as long as its
beginning had to wait; the sound from before the gate opened doubles as a reserve against hiccups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.errors import LinkLost
from ..net.models import Endpoint, Request
from .auth import MAX_CREDENTIAL_CHARS, with_query
from .base import Capabilities, Function, HistoryEntry, ServerTool, Session, Settings
from .json_fields import text
from .ultravox_session import UltravoxSession

MAX_TOOL_S = 40.0
"""A tool may take so long at most, and 2.5 s where its definition does not say (docs.ultravox.ai, quoted by
aplisay/llm-agent #176): a later answer is thrown away, and the tool is called again."""
TOOL_ROUND_TRIP_S = 2.0
"""What a call and its answer may take besides the tool itself."""


@dataclass(frozen=True)
class Ultravox(Settings):
    """Calls made at *url*, which may begin with wss:// like the addresses of the other services. Where no *model* is
    named, the service takes its newest."""

    url: str = "https://api.ultravox.ai/api/calls"
    voice: str = "Mark"

    can: ClassVar[Capabilities] = Capabilities(
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
    rates: ClassVar[tuple[int, ...]] = (24000, 16000, 8000, 48000)
    server_tools: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    longest_tool_s: ClassVar[float] = MAX_TOOL_S

    @property
    def takes_halves(self) -> bool:
        """It listens all the time, and decides alone what a turn was."""
        return True

    def invitation(self, resume: str, said: Sequence[HistoryEntry] = ()) -> Request:
        """A call that goes on with another one keeps its history, and may not be told another one."""
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
        """The default is that the agent speaks first, and a buffer of 60 ms, which wants a perfect network."""
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
    """Whether one can connect to *url*; who answers the invitation may write anything there."""
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
    """A JSON schema becomes one parameter for each of its properties."""
    required = function.parameters.get("required", ())
    parameters = [
        {"name": name, "location": "PARAMETER_LOCATION_BODY", "schema": schema, "required": name in required}
        for name, schema in function.parameters.get("properties", {}).items()
    ]
    tool = {"modelToolName": function.name, "description": function.description, "dynamicParameters": parameters}
    return {"temporaryTool": {**tool, "timeout": _timeout(function), "client": {}}}


def _timeout(function: Function) -> str:
    """Return how long the service is to wait for *function*, in whole seconds as it writes them: 12s."""
    return f"{math.ceil(min(function.timeout_s + TOOL_ROUND_TRIP_S, MAX_TOOL_S))}s"
