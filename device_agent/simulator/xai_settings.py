"""The settings of a Grok voice session: what may be in a ``session.update``, and how the service repeats it.

``Settings.updated`` returns new settings or raises ``Refusal``, so a wrong update leaves the old ones standing, as the
live service's documentation promises. Fields nobody knows are ignored, as the live service ignores them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
DEFAULT_RATE = 24000
FORMATS = ("audio/pcm", "audio/pcmu", "audio/pcma", "audio/opus")
TRANSPORTS = ("json", "binary")
SERVER_TOOLS = ("web_search", "x_search", "file_search", "mcp")


class Refusal(Exception):
    """The client's message makes no sense here; it is answered with an ``error`` event."""

    def __init__(self, message: str, *, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True)
class TurnDetection:
    """When the service decides itself that the user speaks and has finished."""

    threshold: float = 0.85
    silence_ms: int = 500  # the live service's default is not documented; this is what its relatives use
    prefix_ms: int = 333
    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True)
class Format:
    """How sound travels in one direction."""

    rate: int = DEFAULT_RATE
    binary: bool = False


@dataclass(frozen=True)
class Settings:
    """The settings of one session. *asked* holds what the client asked for, checked, to be repeated to it."""

    turn_detection: TurnDetection | None = None  # manual until asked otherwise, as recorded
    input: Format = Format()
    output: Format = Format()
    transcribes: bool = False
    functions: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)

    def updated(self, session: Any) -> Settings:
        """Return these settings with the changes of *session*; raise Refusal where one is wrong."""
        session = _object(session, "session")
        asked = {name: session[name] for name in _CHECKS if name in session}
        for name, value in asked.items():
            _CHECKS[name](value, f"session.{name}")
        audio = {side: self._side(asked, side) for side in ("input", "output")}
        tools = asked.get("tools", self.asked.get("tools", []))
        detection = turn_detection(asked["turn_detection"]) if "turn_detection" in asked else self.turn_detection
        return replace(
            self,
            turn_detection=detection,
            input=_format(audio["input"]),
            output=_format(audio["output"]),
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
    """Return checked turn detection *value* as this program understands it; None is manual mode."""
    if value is None or value.get("type") is None:
        return None
    usual = TurnDetection()
    return TurnDetection(
        threshold=value.get("threshold", usual.threshold),
        silence_ms=value.get("silence_duration_ms", usual.silence_ms),
        prefix_ms=value.get("prefix_padding_ms", usual.prefix_ms),
        create_response=value.get("create_response", usual.create_response),
        interrupt_response=value.get("interrupt_response", usual.interrupt_response),
    )


def function_name(tool: Mapping[str, Any]) -> str:
    """Return the name in a function tool, flat (as documented) or nested (as repeated)."""
    name = tool.get("name", (tool.get("function") or {}).get("name"))
    return name if isinstance(name, str) else ""


def _nested(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as the service repeats it: functions nested, the rest as it came."""
    if tool["type"] != "function" or "function" in tool:
        return dict(tool)
    inner = {name: tool[name] for name in ("name", "description", "parameters") if name in tool}
    return {"type": "function", "function": inner}


def _format(side: Mapping[str, Any]) -> Format:
    rate = (side.get("format") or {}).get("rate", DEFAULT_RATE)
    return Format(rate=int(rate), binary=side.get("transport") == "binary")


def _echo(side: Mapping[str, Any]) -> dict[str, Any]:
    speed = {"speed": side["speed"]} if "speed" in side else {}
    form = {"type": "audio/pcm", "rate": _format(side).rate}
    return {"format": form, "transport": side.get("transport", "json"), **speed}


# What a field may hold ------------------------------------------------------------------------------------------------


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(f"{where} must be an object", code="invalid_type", param=where)
    return value


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise Refusal(f"{where} must be a string", code="invalid_type", param=where)


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise Refusal(f"{where} must be true or false", code="invalid_type", param=where)


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[Any, str], None]:
    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise Refusal(f"{where} must be a {'whole ' if whole else ''}number", code="invalid_type", param=where)
        if not low <= value <= high:
            raise Refusal(f"{where} must be between {low} and {high}, not {str(value)[:20]}", param=where)

    return check


def _one_of(*allowed: object) -> Callable[[Any, str], None]:
    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or value not in allowed:
            raise Refusal(f"{where} must be one of {', '.join(map(str, allowed))}, not {str(value)[:60]}", param=where)

    return check


def _or_null(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    return lambda value, where: None if value is None else check(value, where)


def _list_of(check: Callable[[Any, str], None], most: int) -> Callable[[Any, str], None]:
    def check_list(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise Refusal(f"{where} must be a list", code="invalid_type", param=where)
        if len(value) > most:
            raise Refusal(f"{where} may have {most} entries, not {len(value)}", param=where)
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]")

    return check_list


def _fields(**checks: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    """An object in which these fields, where they are present, hold what they may; other fields are ignored."""

    def check(value: Any, where: str) -> None:
        for name, inner in _object(value, where).items():
            if name in checks:
                checks[name](inner, f"{where}.{name}")

    return check


def _anything(_value: Any, _where: str) -> None:
    """The live service repeats it and does nothing with it."""


def _short_text(most: int) -> Callable[[Any, str], None]:
    def check(value: Any, where: str) -> None:
        _text(value, where)
        if len(value) > most:
            raise Refusal(f"{where} may have {most} characters, not {len(value)}", param=where)

    return check


def _audio_format(value: Any, where: str) -> None:
    _fields(type=_one_of(*FORMATS), rate=_one_of(*RATES))(value, where)
    if value.get("type", "audio/pcm") != "audio/pcm":
        # The live service takes them. To say so is better than to answer with noise.
        raise Refusal(f"this simulator knows audio/pcm alone, not {value['type']}", param=f"{where}.type")


def _tool(value: Any, where: str) -> None:
    kind = _object(value, where).get("type")
    _one_of("function", *SERVER_TOOLS)(kind, f"{where}.type")
    needs = {"file_search": ("vector_store_ids",), "mcp": ("server_url", "server_label")}
    for name in needs.get(str(kind), ()):
        if name not in value:
            raise Refusal(f"{where} needs {name}", code="missing_required_parameter", param=f"{where}.{name}")
    if kind == "function":
        _fields(function=_fields(name=_text))(value, where)
        _text(value.get("name", ""), f"{where}.name")
        if not function_name(value):
            raise Refusal(f"{where} needs a name", code="missing_required_parameter", param=f"{where}.name")
    if {"allowed_domains", "excluded_domains"} <= value.keys() or {
        "allowed_x_handles",
        "excluded_x_handles",
    } <= value.keys():
        raise Refusal(f"{where} may allow or exclude, not both", param=where)


_TRANSCRIPTION = _fields(
    model=_or_null(_text), language_hint=_or_null(_text), keyterms=_or_null(_list_of(_short_text(50), 100))
)
_DETECTION = _fields(
    type=_one_of("server_vad", None),
    threshold=_number(0.1, 0.9),
    silence_duration_ms=_number(0, 10_000, whole=True),
    prefix_padding_ms=_number(0, 10_000, whole=True),
    idle_timeout_ms=_or_null(_number(0, 3_600_000, whole=True)),
    create_response=_flag,
    interrupt_response=_flag,
)
_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "instructions": _text,
    "voice": _text,
    "turn_detection": _or_null(_DETECTION),
    "audio": _fields(
        input=_fields(format=_audio_format, transport=_one_of(*TRANSPORTS), transcription=_or_null(_TRANSCRIPTION)),
        output=_fields(format=_audio_format, transport=_one_of(*TRANSPORTS), speed=_number(0.7, 1.5)),
    ),
    "tools": _list_of(_tool, 128),
    "reasoning": _fields(effort=_one_of("high", "none")),
    "resumption": _fields(enabled=_flag),
    "replace": _fields(),
    "modalities": _list_of(_text, 10),
    "tool_choice": _anything,
    "temperature": _anything,
    "max_response_output_tokens": _anything,
}
