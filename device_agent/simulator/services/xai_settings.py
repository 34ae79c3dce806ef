"""The settings of a Grok voice session: what may be in a ``session.update``, and how the service repeats it.

``XaiSettings.updated`` returns new settings or raises ``Refusal``, so a wrong update leaves the old ones standing, as
the live service's documentation promises. Fields nobody knows are ignored, as the live service ignores them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..engine.parsing import Refusal
from ..engine.session_settings import G711_RATE, Settings, TurnDetection, format_of, function_name
from ..engine.validation import (
    Check,
    anything,
    fields,
    flag,
    list_of,
    mapping,
    number,
    one_of,
    or_null,
    short_text,
    text,
)

RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
FORMATS = ("audio/pcm", "audio/pcmu", "audio/pcma", "audio/opus")
SERVER_TOOLS = ("web_search", "x_search", "file_search", "mcp")
RESERVED = {
    "web_search": {"web_search", "browse_page"},
    "x_search": {"x_keyword_search", "x_semantic_search", "x_user_search", "x_thread_fetch"},
    "file_search": {"file_search", "collections_search"},
}
"""A tool of the service -> what no function may be called beside it."""


@dataclass(frozen=True)
class XaiSettings(Settings):
    """The settings of one session. Manual turns until asked otherwise, as recorded."""

    @property
    def voice(self) -> str:
        return str(self.asked.get("voice", "ara"))

    @property
    def resumes(self) -> bool:
        """Whether the conversation is to outlive its connection."""
        return bool((self.asked.get("resumption") or {}).get("enabled"))

    @property
    def clashes(self) -> bool:
        taken = {name for tool in self.asked.get("tools", ()) for name in RESERVED.get(tool["type"], ())}
        return not taken.isdisjoint(self.functions)

    def updated(self, session: Any) -> Self:
        session = mapping(session, "session")
        asked = {name: session[name] for name in _CHECKS if name in session}
        for name, value in asked.items():
            _CHECKS[name](value, f"session.{name}")
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
        """What was asked of one direction of sound, before and now."""
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
    """Return checked turn detection *value* as this program understands it; None is manual mode.

    ``create_response`` is repeated to the client and has no effect: the service always answers.
    """
    if value is None or value.get("type") is None:
        return None
    usual = TurnDetection()
    return TurnDetection(
        threshold=value.get("threshold", usual.threshold),
        silence_ms=value.get("silence_duration_ms", usual.silence_ms),
        prefix_ms=value.get("prefix_padding_ms", usual.prefix_ms),
        interrupt_response=value.get("interrupt_response", usual.interrupt_response),
    )


def _nested(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as the service repeats it: functions nested, the rest as it came."""
    if tool["type"] != "function" or "function" in tool:
        return dict(tool)
    inner = {name: tool[name] for name in ("name", "description", "parameters") if name in tool}
    return {"type": "function", "function": inner}


def _echo(side: Mapping[str, Any]) -> dict[str, Any]:
    speed = {"speed": side["speed"]} if "speed" in side else {}
    form = format_of(side.get("format"))
    shown = {"type": f"audio/{form.codec}", "rate": form.rate}
    return {"format": shown, "transport": "json", **speed}


# What a field may hold ------------------------------------------------------------------------------------------------


def _audio_format(value: Any, where: str) -> None:
    fields(type=one_of(*FORMATS), rate=one_of(*RATES))(value, where)
    kind = value.get("type", "audio/pcm")
    if kind == "audio/opus":
        # The live service takes it. To say so is better than to answer with noise.
        raise Refusal("this simulator knows no audio/opus", param=f"{where}.type")
    if kind != "audio/pcm" and value.get("rate", G711_RATE) != G711_RATE:
        raise Refusal(f"{kind} has {G711_RATE} samples per second", param=f"{where}.rate")


def _tool(value: Any, where: str) -> None:
    kind = mapping(value, where).get("type")
    one_of("function", *SERVER_TOOLS)(kind, f"{where}.type")
    needs = {"file_search": ("vector_store_ids",), "mcp": ("server_url", "server_label")}
    for name in needs.get(str(kind), ()):
        if name not in value:
            raise Refusal(f"{where} needs {name}", code="missing_required_parameter", param=f"{where}.{name}")
    if kind == "function":
        fields(function=fields(name=text))(value, where)
        text(value.get("name", ""), f"{where}.name")
        if not function_name(value):
            raise Refusal(f"{where} needs a name", code="missing_required_parameter", param=f"{where}.name")
    if {"allowed_domains", "excluded_domains"} <= value.keys() or {
        "allowed_x_handles",
        "excluded_x_handles",
    } <= value.keys():
        raise Refusal(f"{where} may allow or exclude, not both", param=where)


_TRANSCRIPTION = fields(
    model=or_null(text), language_hint=or_null(text), keyterms=or_null(list_of(short_text(50), 100))
)
_DETECTION = fields(
    type=one_of("server_vad", None),
    threshold=number(0.1, 0.9),
    silence_duration_ms=number(0, 10_000, whole=True),
    prefix_padding_ms=number(0, 10_000, whole=True),
    idle_timeout_ms=or_null(number(0, 3_600_000, whole=True)),
    create_response=flag,
    interrupt_response=flag,
)
_CHECKS: dict[str, Check] = {
    "instructions": text,
    "voice": text,
    "turn_detection": or_null(_DETECTION),
    "audio": fields(
        input=fields(
            format=_audio_format,
            transport=one_of("json"),
            transcription=or_null(_TRANSCRIPTION),
            turn_detection=or_null(_DETECTION),
        ),
        output=fields(format=_audio_format, transport=one_of("json"), speed=number(0.7, 1.5)),
    ),
    "tools": list_of(_tool, 128),
    "reasoning": fields(effort=one_of("high", "none")),
    "resumption": fields(enabled=flag),
    "replace": fields(),
    "modalities": list_of(text, 10),
    "tool_choice": anything,
    "temperature": anything,
    "max_response_output_tokens": anything,
}
