"""The settings of an OpenAI realtime session in the shape of general availability, as strict as the live service: one
key too many, or of the wrong type, and the whole update is refused. Pure.

Partial updates change what they name; null clears what may be cleared. Model and, once the service has spoken, voice
are fixed. Names, defaults and the shape of the echo are as recorded in July 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..engine.session_settings import DEFAULT_RATE, Settings, TurnDetection, format_of, function_name
from ..engine.validation import (
    Check,
    anything,
    by_type,
    either,
    fields,
    flag,
    list_of,
    number,
    one_of,
    only,
    or_null,
    short_text,
    text,
)

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
PCM = {"type": "audio/pcm", "rate": DEFAULT_RATE}
SERVER_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,  # as recorded; the documentation says 500
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
USUAL_DETECTION = TurnDetection(threshold=0.5, prefix_ms=300, silence_ms=200)
SEMANTIC_VAD = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
SEMANTIC_SILENCE_MS = {"low": 2000, "medium": 1000, "auto": 1000, "high": 500}
"""We cannot tell whether a sentence is complete: a longer or shorter silence has to do."""

USUAL: dict[str, Any] = {
    "output_modalities": ["audio"],
    "instructions": "You are a simulator.",
    "tools": [],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "include": None,
}
"""What a session is until it is told otherwise, without its audio."""

USUAL_INPUT: dict[str, Any] = {
    "format": PCM,
    "transcription": None,
    "noise_reduction": None,
    "turn_detection": SERVER_VAD,
}
USUAL_OUTPUT: dict[str, Any] = {"format": PCM, "voice": "alloy", "speed": 1.0}


@dataclass(frozen=True)
class OpenaiSettings(Settings):
    """The settings of one session."""

    turn_detection: TurnDetection | None = USUAL_DETECTION

    @property
    def voice(self) -> str:
        voice = self.side("output")["voice"]
        return str(voice["id"] if isinstance(voice, dict) else voice)

    @property
    def speaks(self) -> bool:
        return self.modalities == ["audio"]

    @property
    def modalities(self) -> list[str]:
        """What a reply is, unless it is asked for otherwise."""
        return list(self.asked.get("output_modalities", USUAL["output_modalities"]))

    def side(self, side: str) -> dict[str, Any]:
        """Return the settings of one direction of sound, "input" or "output"."""
        usual = USUAL_INPUT if side == "input" else USUAL_OUTPUT
        return {**usual, **self.asked.get("audio", {}).get(side, {})}

    def updated(self, session: Any) -> Self:
        """As in the base class; *session* has passed ``SESSION`` as a part of what brought it."""
        asked = {**self.asked, **{name: value for name, value in session.items() if name != "type"}}
        if not asked.get("instructions"):
            asked.pop("instructions", None)  # empty ones bring back the usual, as recorded
        asked["audio"] = {side: self._changed(session, side) for side in ("input", "output")}
        new = replace(self, asked=asked)
        heard, said = new.side("input"), new.side("output")
        return replace(
            new,
            turn_detection=turn_detection(heard["turn_detection"]),
            input=format_of(heard["format"]),
            output=format_of(said["format"]),
            transcribes=heard["transcription"] is not None,
            functions=functions(asked.get("tools", []), asked.get("tool_choice", "auto")),
        )

    def _changed(self, session: Mapping[str, Any], side: str) -> dict[str, Any]:
        """What was asked of one direction of sound, before and now, filled up with what is usual."""
        before: dict[str, Any] = self.asked.get("audio", {}).get(side, {})
        now = dict((session.get("audio") or {}).get(side) or {})
        if detection := now.get("turn_detection"):
            usual = SERVER_VAD if detection["type"] == "server_vad" else SEMANTIC_VAD
            last = before.get("turn_detection") or {}
            same = last if last.get("type") == detection["type"] else {}
            now["turn_detection"] = {**usual, **same, **detection}
        if transcription := now.get("transcription"):
            now["transcription"] = {"language": None, "prompt": None, **transcription}
        if form := now.get("format"):
            now["format"] = {**PCM, **form} if form["type"] == "audio/pcm" else form
        return {**before, **now}

    def echo(self, model: str) -> dict[str, Any]:
        shown = {name: self.asked.get(name, value) for name, value in USUAL.items()}
        more = {name: self.asked[name] for name in ("reasoning", "parallel_tool_calls") if name in self.asked}
        audio = {"input": self.side("input"), "output": self.side("output")}
        return {"type": "realtime", "object": "realtime.session", "model": model, **shown, **more, "audio": audio}


def turn_detection(value: Mapping[str, Any] | None) -> TurnDetection | None:
    """Return checked and complete turn detection *value* as this program understands it; None is manual mode."""
    if value is None:
        return None
    create, interrupt = value["create_response"], value["interrupt_response"]
    if value["type"] == "semantic_vad":
        return TurnDetection(0.5, SEMANTIC_SILENCE_MS[value["eagerness"]], 300, create, interrupt)
    return TurnDetection(
        value["threshold"], value["silence_duration_ms"], value["prefix_padding_ms"], create, interrupt
    )


def functions(tools: list[Any], choice: Any) -> tuple[str, ...]:
    """Return the functions that may be called, the one that must be called alone."""
    names = tuple(function_name(tool) for tool in tools if tool["type"] == "function")
    if choice == "none":
        return ()
    forced = choice.get("name") if isinstance(choice, dict) else None
    return tuple(name for name in names if forced in (None, name))


# What a field may hold ------------------------------------------------------------------------------------------------


def _pcm(value: Any, where: str) -> None:
    only(type=anything, rate=number(DEFAULT_RATE, DEFAULT_RATE, whole=True))(value, where)


FORMAT = by_type({"audio/pcm": _pcm, "audio/pcmu": only(type=anything), "audio/pcma": only(type=anything)})
MILLISECONDS = number(0, 10_000, whole=True)
DETECTION = by_type(
    {
        "server_vad": only(
            type=anything,
            threshold=number(0, 1),
            prefix_padding_ms=MILLISECONDS,
            silence_duration_ms=MILLISECONDS,
            idle_timeout_ms=or_null(number(5000, 30_000, whole=True)),
            create_response=flag,
            interrupt_response=flag,
        ),
        "semantic_vad": only(
            type=anything,
            eagerness=one_of("low", "medium", "high", "auto"),
            create_response=flag,
            interrupt_response=flag,
        ),
    }
)
TRANSCRIPTION = only(
    model=text,
    language=or_null(text),
    languages=or_null(list_of(text, 100)),
    keywords=or_null(list_of(text, 100)),
    prompt=or_null(text),
    delay=or_null(text),
)
NOISE_REDUCTION = only(("type",), type=one_of("near_field", "far_field"), strength=number(0, 1))
VOICE = either(only(("id",), id=text), one_of(*VOICES))
INPUT = only(
    format=FORMAT,
    transcription=or_null(TRANSCRIPTION),
    noise_reduction=or_null(NOISE_REDUCTION),
    turn_detection=or_null(DETECTION),
)
OUTPUT = only(format=FORMAT, voice=VOICE, speed=number(0.25, 1.5))
FUNCTION = only(("name",), type=anything, name=short_text(64), description=text, parameters=fields())
MCP = only(
    ("server_label",),
    type=anything,
    server_label=text,
    server_url=text,
    connector_id=text,
    tunnel_id=text,
    allowed_callers=anything,
    authorization=text,
    headers=or_null(fields()),
    allowed_tools=anything,
    require_approval=anything,
    server_description=text,
    defer_loading=flag,
)
TOOLS = list_of(by_type({"function": FUNCTION, "mcp": MCP}), 128)
TOOL_CHOICE = either(
    one_of("none", "auto", "required"),
    by_type(
        {
            "function": only(("name",), type=anything, name=text),
            "mcp": only(("server_label",), type=anything, server_label=text, name=or_null(text)),
        }
    ),
)
MAX_TOKENS = either(one_of("inf"), number(1, 32_000, whole=True))
PROMPT = only(("id",), id=text, version=or_null(text), variables=or_null(fields()))
TRACING = either(one_of("auto"), only(workflow_name=text, group_id=text, metadata=fields()))
TRUNCATION = either(
    one_of("auto", "disabled"),
    only(
        ("type", "retention_ratio"),
        type=one_of("retention_ratio"),
        retention_ratio=number(0, 1),
        token_limits=only(post_instructions=number(0, 1 << 20, whole=True)),
    ),
)
REASONING = only(effort=one_of("none", "minimal", "low", "medium", "high", "xhigh"))


def _modalities(value: Any, where: str) -> None:
    """One of the two, not both."""
    list_of(one_of("text", "audio"), 2)(value, where)
    one_of("text", "audio")(value[0] if len(value) == 1 else "both or none", where)


SESSION: Check = only(
    ("type",),
    type=one_of("realtime"),
    model=text,
    output_modalities=_modalities,
    instructions=text,
    audio=only(input=INPUT, output=OUTPUT),
    tools=TOOLS,
    tool_choice=TOOL_CHOICE,
    max_output_tokens=MAX_TOKENS,
    tracing=or_null(TRACING),
    truncation=TRUNCATION,
    prompt=or_null(PROMPT),
    include=or_null(list_of(one_of("item.input_audio_transcription.logprobs"), 1)),
    reasoning=REASONING,
    parallel_tool_calls=flag,
)

METADATA = fields()
RESPONSE: Check = only(
    conversation=one_of("auto"),  # replies beside the conversation ("none") are not imitated
    instructions=text,
    audio=only(output=OUTPUT),
    output_modalities=_modalities,
    tools=TOOLS,
    tool_choice=TOOL_CHOICE,
    max_output_tokens=MAX_TOKENS,
    metadata=or_null(METADATA),
    prompt=or_null(PROMPT),
    reasoning=REASONING,
    parallel_tool_calls=flag,
)
"""The wishes for one reply. ``input`` is not imitated: the reply answers the conversation."""

# Items of the conversation. ``object`` and ``status`` are taken and change nothing.
_COMMON: dict[str, Check] = {
    "id": or_null(short_text(32)),
    "object": one_of("realtime.item"),
    "type": anything,
    "status": one_of("completed", "incomplete", "in_progress"),
}
_INPUT_TEXT = only(("text",), type=anything, text=text)
_PARTS: dict[str, Check] = {
    "user": by_type(
        {
            "input_text": _INPUT_TEXT,
            "input_audio": only(("audio",), type=anything, audio=text, transcript=or_null(text)),
            "input_image": only(("image_url",), type=anything, image_url=text, detail=one_of("auto", "low", "high")),
        }
    ),
    "system": by_type({"input_text": _INPUT_TEXT}),
    "assistant": by_type(
        {
            "output_text": _INPUT_TEXT,
            "output_audio": only(type=anything, audio=or_null(text), transcript=or_null(text)),
        }
    ),
}
_MESSAGES: dict[str, Check] = {
    role: only(("content",), **_COMMON, role=anything, content=list_of(parts, 100)) for role, parts in _PARTS.items()
}
ITEM: Check = by_type(
    {
        "message": by_type(_MESSAGES, "role"),
        "function_call": only(("name", "arguments"), **_COMMON, call_id=text, name=text, arguments=text),
        "function_call_output": only(("call_id", "output"), **_COMMON, call_id=text, output=text),
        "mcp_approval_response": only(
            ("approval_request_id", "approve"),
            **_COMMON,
            approval_request_id=text,
            approve=flag,
            reason=or_null(text),
        ),
    }
)


def without_nulls(event: dict[str, Any]) -> dict[str, Any]:
    """Return a ``response.create`` without the wishes that are null; any other event as it is."""
    response = event.get("response")
    if event.get("type") != "response.create" or not isinstance(response, dict):
        return event
    return {**event, "response": {name: value for name, value in response.items() if value is not None}}


EVENT_ID = or_null(short_text(512))
EVENTS: dict[str, Check] = {
    "session.update": only(("session",), type=anything, event_id=EVENT_ID, session=SESSION),
    "input_audio_buffer.append": only(("audio",), type=anything, event_id=EVENT_ID, audio=anything),
    "input_audio_buffer.commit": only(type=anything, event_id=EVENT_ID),
    "input_audio_buffer.clear": only(type=anything, event_id=EVENT_ID),
    "conversation.item.create": only(
        ("item",), type=anything, event_id=EVENT_ID, previous_item_id=or_null(text), item=ITEM
    ),
    "conversation.item.delete": only(("item_id",), type=anything, event_id=EVENT_ID, item_id=text),
    "conversation.item.retrieve": only(("item_id",), type=anything, event_id=EVENT_ID, item_id=text),
    "conversation.item.truncate": only(
        ("item_id", "content_index", "audio_end_ms"),
        type=anything,
        event_id=EVENT_ID,
        item_id=text,
        content_index=one_of(0),
        audio_end_ms=number(0, 1 << 31, whole=True),
    ),
    "response.create": only(type=anything, event_id=EVENT_ID, response=or_null(RESPONSE)),
    "response.cancel": only(type=anything, event_id=EVENT_ID, response_id=text),
}
"""What each message may hold."""

TOKEN: Check = only(
    expires_after=only(anchor=one_of("created_at"), seconds=number(10, 7200, whole=True)),
    session=SESSION,
)
"""What a request for a short-lived token may hold."""
