"""Settings of an OpenAI session and schema of its events. Pure.

As at the live service, an event with one unknown key, or one of the wrong type, is refused as a whole.
Partial updates change what they name; null clears what may be cleared. Model and, after the first sound, voice are
fixed. Names, defaults and the shape of the echo are as recorded in July 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..engine.session_settings import DEFAULT_RATE, Settings, TurnDetection, format_of, function_name, vad_of
from ..engine.validation import (
    Check,
    anything,
    by_type,
    either,
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
USUAL_DETECTION = vad_of(SERVER_VAD, TurnDetection())
SEMANTIC_VAD = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
SEMANTIC_SILENCE_MS = {"low": 2000, "medium": 1000, "auto": 1000, "high": 500}
"""The simulator cannot tell whether a sentence is complete: a longer or shorter silence has to do."""

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
"""The defaults of a session, without its audio."""
USUAL_SIDES: dict[str, dict[str, Any]] = {
    "input": {"format": PCM, "transcription": None, "noise_reduction": None, "turn_detection": SERVER_VAD},
    "output": {"format": PCM, "voice": "alloy", "speed": 1.0},
}


@dataclass(frozen=True)
class OpenaiSettings(Settings):
    """The settings of one session."""

    turn_detection: TurnDetection | None = USUAL_DETECTION

    @property
    def voice(self) -> str:
        voice = self.side("output")["voice"]
        return str(voice["id"] if isinstance(voice, dict) else voice)

    def side(self, side: str) -> dict[str, Any]:
        """Return the settings of one direction of sound, "input" or "output"."""
        return {**USUAL_SIDES[side], **self.asked.get("audio", {}).get(side, {})}

    def updated(self, session: Any) -> Self:
        """As in the base class; *session* has passed ``SESSION`` as a part of its event."""
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
        """Return what was asked of one direction of sound, before and now, filled up with what is usual."""
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
    """Return checked and complete turn detection *value* as server VAD; None is manual mode."""
    if value is None:
        return None
    if value["type"] == "semantic_vad":
        value = {**SERVER_VAD, **value, "silence_duration_ms": SEMANTIC_SILENCE_MS[value["eagerness"]]}
    return vad_of(value, USUAL_DETECTION)


def functions(tools: list[Any], choice: Any) -> tuple[str, ...]:
    """Return the functions that may be called, the one that must be called alone."""
    names = tuple(function_name(tool) for tool in tools if tool["type"] == "function")
    if choice == "none":
        return ()
    forced = choice.get("name") if isinstance(choice, dict) else None
    return tuple(name for name in names if forced in (None, name))


# The schema -----------------------------------------------------------------------------------------------------------

FORMAT = by_type(
    {
        "audio/pcm": only(type=anything, rate=one_of(DEFAULT_RATE)),
        "audio/pcmu": only(type=anything),
        "audio/pcma": only(type=anything),
    }
)
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
            type=anything, eagerness=one_of(*SEMANTIC_SILENCE_MS), create_response=flag, interrupt_response=flag
        ),
    }
)
TEXTS = or_null(list_of(text, 100))
TRANSCRIPTION = only(
    model=text, language=or_null(text), languages=TEXTS, keywords=TEXTS, prompt=or_null(text), delay=or_null(text)
)
INPUT = only(
    format=FORMAT,
    transcription=or_null(TRANSCRIPTION),
    noise_reduction=or_null(only("type", type=one_of("near_field", "far_field"))),
    turn_detection=or_null(DETECTION),
)
OUTPUT = only(format=FORMAT, voice=either(only("id", id=text), one_of(*VOICES)), speed=number(0.25, 1.5))
FUNCTION = only("name", type=anything, name=matching(".{,64}"), description=text, parameters=fields())
TOOLS = list_of(by_type({"function": FUNCTION, "mcp": fields("server_label", server_label=text)}), 128)


def _modalities(value: Any, where: str) -> None:
    """Check for one of the two, not both."""
    list_of(one_of("text", "audio"), 2)(value, where)
    one_of("text", "audio")(value[0] if len(value) == 1 else "both or none", where)


COMMON: dict[str, Check] = {
    "instructions": text,
    "output_modalities": _modalities,
    "tools": TOOLS,
    "tool_choice": either(one_of("none", "auto", "required"), only("type", "name", type=one_of("function"), name=text)),
    "max_output_tokens": either(one_of("inf"), number(1, 32_000, whole=True)),
    "prompt": anything,
    "reasoning": only(effort=one_of("none", "minimal", "low", "medium", "high", "xhigh")),
    "parallel_tool_calls": flag,
}
SESSION = only(
    "type",
    type=one_of("realtime"),
    model=text,
    audio=only(input=INPUT, output=OUTPUT),
    tracing=anything,
    truncation=anything,
    include=anything,
    **COMMON,
)
RESPONSE = only(
    conversation=one_of("auto"),  # replies beside the conversation ("none") are not imitated
    audio=only(output=OUTPUT),
    metadata=or_null(fields()),
    **COMMON,
)
ITEM = only(
    "type",
    id=or_null(matching(".{,32}")),
    type=text,
    **dict.fromkeys(("object", "status", "role", "content", "call_id", "name", "arguments", "output"), anything),
)
"""What the fields hold is checked when the item is made."""


def _response(value: Any, where: str) -> None:
    """Check the options of one reply; those that are null count as absent."""
    RESPONSE({name: option for name, option in mapping(value, where).items() if option is not None}, where)


def _event(*needs: str, **checks: Check) -> Check:
    return only(*needs, type=anything, event_id=or_null(matching(".{,512}")), **checks)


EVENTS: dict[str, Check] = {
    "session.update": _event("session", session=SESSION),
    "input_audio_buffer.append": _event("audio", audio=anything),
    "input_audio_buffer.commit": _event(),
    "input_audio_buffer.clear": _event(),
    "conversation.item.create": _event("item", previous_item_id=or_null(text), item=ITEM),
    "conversation.item.retrieve": _event("item_id", item_id=text),
    "conversation.item.truncate": _event(
        *("item_id", "content_index", "audio_end_ms"), item_id=text, content_index=one_of(0), audio_end_ms=anything
    ),
    "response.create": _event(response=or_null(_response)),
    "response.cancel": _event(response_id=text),
}
"""The fields of each event."""
TOKEN = only(
    expires_after=only(anchor=one_of("created_at"), seconds=number(10, 7200, whole=True)),
    session=SESSION,
)
"""The body of a request for a short-lived token."""
