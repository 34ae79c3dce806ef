"""Settings of a Grok voice session, and how the service repeats them. Pure.

A wrong update leaves the old settings standing, as the live service's documentation promises. Unknown fields are
ignored, as the live service ignores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..engine.parsing import Refusal
from ..engine.session_settings import Settings, TurnDetection, format_of, function_name, vad_of
from ..engine.validation import (
    Check,
    anything,
    by_type,
    fields,
    flag,
    list_of,
    matching,
    number,
    one_of,
    or_null,
    text,
)

RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class XaiSettings(Settings):
    """The settings of one session. Manual turns until asked otherwise, as recorded."""

    def updated(self, session: Any) -> Self:
        fields(strict=False, **FIELDS)(session, "session")
        asked = {name: value for name, value in session.items() if name in FIELDS}
        audio = {side: self._side(asked, side) for side in ("input", "output")}
        tools = asked.get("tools", self.asked.get("tools", []))
        nested = (asked.get("audio") or {}).get("input") or {}
        if "turn_detection" in nested:  # tolerated by the live service, as the proxies of others send it there
            asked.setdefault("turn_detection", nested["turn_detection"])
        detection = turn_detection(asked["turn_detection"]) if "turn_detection" in asked else self.turn_detection
        return replace(
            self,
            turn_detection=detection,
            input=format_of(audio["input"].get("format")),
            output=format_of(audio["output"].get("format")),
            transcribes=bool((audio["input"].get("transcription") or {}).get("model")),
            functions=tuple(function_name(tool) for tool in tools if tool["type"] == "function"),
            asked={**self.asked, **asked, "audio": audio},
        )

    def _side(self, asked: Mapping[str, Any], side: str) -> dict[str, Any]:
        """Return what was asked of one direction of sound, before and now."""
        before: dict[str, Any] = dict(self.asked.get("audio", {}).get(side, {}))
        return before | dict((asked.get("audio") or {}).get(side) or {})

    def echo(self, model: str) -> dict[str, Any]:
        """Return the session as ``session.updated`` shows it: shape and constants as recorded from the live service."""
        asked = self.asked
        sides = asked.get("audio", {})
        transcription = sides.get("input", {}).get("transcription")
        heard = {"transcription": transcription} if transcription else {}
        return {
            "instructions": asked.get("instructions", ""),
            **({"voice": asked["voice"]} if "voice" in asked else {}),
            "enable_noise_suppression": True,
            "turn_detection": asked.get("turn_detection") or {"type": None},
            "model": model,
            **({"tools": [_nested(tool) for tool in asked["tools"]]} if asked.get("tools") else {}),
            "keep_context": False,
            "enable_phonetic_spelling": False,
            **({"input_audio_transcription": transcription} if transcription else {}),
            "modalities": asked.get("modalities", ["audio"]),
            "input_audio_format": "not specified",
            "output_audio_format": "not specified",
            "tool_choice": asked.get("tool_choice", "auto"),
            "temperature": asked.get("temperature", -1.0),
            "max_response_output_tokens": asked.get("max_response_output_tokens", "inf"),
            **{name: asked[name] for name in ("reasoning", "resumption", "replace") if name in asked},
            "audio": {"input": {**_echo(sides.get("input", {})), **heard}, "output": _echo(sides.get("output", {}))},
        }


def turn_detection(value: Any) -> TurnDetection | None:
    """Return checked turn detection *value*; None is manual mode.

    ``create_response`` is repeated to the client and has no effect: the service always answers.
    """
    if value is None or value.get("type") is None:
        return None
    return replace(vad_of(value, TurnDetection()), create_response=True)


def _nested(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool as the service repeats it: functions nested, the rest as it came."""
    if tool["type"] != "function" or "function" in tool:
        return dict(tool)
    inner = {name: tool[name] for name in ("name", "description", "parameters") if name in tool}
    return {"type": "function", "function": inner}


def _echo(side: Mapping[str, Any]) -> dict[str, Any]:
    speed = {"speed": side["speed"]} if "speed" in side else {}
    form = format_of(side.get("format"))
    shown = {"type": f"audio/{form.codec}", "rate": form.rate}
    return {"format": shown, "transport": "json", **speed}


# The schema -----------------------------------------------------------------------------------------------------------


def _function(value: Any, where: str) -> None:
    fields(function=fields(name=text), name=text)(value, where)
    if not function_name(value):
        raise Refusal(f"{where} needs a name", code="missing_required_parameter", param=f"{where}.name")


_FORMAT = fields(type=one_of("audio/pcm", "audio/pcmu", "audio/pcma"), rate=one_of(*RATES))  # not audio/opus
_TRANSCRIPTION = fields(
    model=or_null(text), language_hint=or_null(text), keyterms=or_null(list_of(matching(".{,50}"), 100))
)
DETECTION = fields(
    type=one_of("server_vad", None),
    threshold=number(0.1, 0.9),
    silence_duration_ms=number(0, 10_000, whole=True),
    prefix_padding_ms=number(0, 10_000, whole=True),
    idle_timeout_ms=or_null(number(0, 3_600_000, whole=True)),
    create_response=flag,
    interrupt_response=flag,
)
_TOOL = by_type(
    {
        "function": _function,
        "web_search": fields(),
        "x_search": fields(),
        "file_search": fields("vector_store_ids"),
        "mcp": fields("server_url", "server_label"),
    }
)
FIELDS: dict[str, Check] = {
    "instructions": text,
    "voice": text,
    "turn_detection": or_null(DETECTION),
    "audio": fields(
        input=fields(
            format=_FORMAT,
            transport=one_of("json"),
            transcription=or_null(_TRANSCRIPTION),
            turn_detection=or_null(DETECTION),
        ),
        output=fields(format=_FORMAT, transport=one_of("json"), speed=number(0.7, 1.5)),
    ),
    "tools": list_of(_TOOL, 128),
    "reasoning": fields(effort=one_of("high", "none")),
    "resumption": fields(enabled=flag),
    "replace": fields(),
    "modalities": list_of(text, 10),
    "tool_choice": anything,
    "temperature": anything,
    "max_response_output_tokens": anything,
}
