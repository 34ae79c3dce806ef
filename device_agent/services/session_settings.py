"""What to do when a service refuses ``session.update``: go on without the part that it does not take, if that part only
makes the conversation nicer.

OpenAI voids a whole update because of one field (seen in the field), and models of transcription are shut down: a
speaker that lost its transcript still talks. Pure.
"""

from __future__ import annotations

import copy
from typing import Any

from .json_fields import Fields, text

OPTIONAL_SETTINGS: dict[str, tuple[str, ...]] = {
    "transcription": ("audio", "input", "transcription"),
    "noise_reduction": ("audio", "input", "noise_reduction"),
    "speed": ("audio", "output", "speed"),
    "reasoning": ("reasoning",),
    "resumption": ("resumption",),
}
"""Settings that a conversation can do without -> where they stand in the session."""


def without_refused(settings: Fields, parameter: str, message: str) -> tuple[str, Fields] | None:
    """Return the name of the optional setting that was refused and *settings* without it; None where the refusal is
    about something else.

    *parameter* is the path that the error names, "" where it names none; then the words of *message* tell.
    """
    for name, path in OPTIONAL_SETTINGS.items():
        found = _at(settings, path)
        if found is None:
            continue
        dotted = ".".join(path)
        about = dotted in parameter or parameter.endswith(f".{name}")
        named = name in message.lower() or (isinstance(found, dict) and _model_in(found, message))
        if about or (not parameter and named) or (named and name in parameter):
            return name, _without(settings, path)
    return None


def _model_in(setting: Fields, message: str) -> bool:
    model = text(setting, "model")
    return bool(model) and model in message


def _at(settings: Fields, path: tuple[str, ...]) -> Any:
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None  # type: ignore[assignment]
    return settings


def _without(settings: Fields, path: tuple[str, ...]) -> Fields:
    left = copy.deepcopy(settings)
    holder = left
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return left
